"""Pooling functions and structures: from ``frame_prob`` to ``clip_prob`` (Secs. 2.2 and 2.3, and two of later years).

Conventions
-----------
- ``frame_prob`` is (batch, frames, classes), probabilities in [0, 1]; ``clip_prob`` is (batch, classes).
- A pooling *function* gives each frame a weight (Table 1, Eq. 2); a pooling *structure* says how the weighted frames
  are averaged: at once (``single``, Eq. 1) or through segments (the others).
- ``hierarchical`` is Eqs. 3-5 to the letter, left to automatic differentiation. ``appendix`` has the same value and
  stops the gradient through the weights *inside* Eq. 3, which is the algorithm whose gradients Table A-1 prints.
- ``mixed`` is not the paper's: of each segment only the largest frame is left, with its weight, and the pooling
  function goes across segments, so that its value is not that of Eq. 1.
- ``sharpness``, one number per class, is trained with the network for the functions of later years; it leads from
  average pooling (0) towards max pooling.
- Sums are taken in float32 at least, whatever autocast says: a bfloat16 probability cannot tell 0.998 from 1.
- 0/0: a segment, or a clip, whose weights are all zero (sum to less than the smallest normal number) takes the mean of
  its frames. A clip's value does not depend on what such a segment takes: its weight in the next stage is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hpsed_lib.errors import ParameterError

Weight = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]


def max_weight(frame_prob: Tensor, attention: Tensor | None = None, sharpness: Tensor | None = None) -> Tensor:
    """Weights of max pooling: 1 at the first largest frame of each class, else 0 (Table 1, Eq. A-14)."""
    first_largest = frame_prob.argmax(dim=1, keepdim=True)
    return torch.zeros_like(frame_prob).scatter_(1, first_largest, 1.0)


def average_weight(frame_prob: Tensor, attention: Tensor | None = None, sharpness: Tensor | None = None) -> Tensor:
    """Weights of average pooling: ``1 / N`` for each of the N frames (Table 1)."""
    return torch.full_like(frame_prob, 1.0 / frame_prob.shape[1])


def linear_weight(frame_prob: Tensor, attention: Tensor | None = None, sharpness: Tensor | None = None) -> Tensor:
    """Weights of the linear softmax: ``w_i = x_i`` (Table 1)."""
    return frame_prob


def exponential_weight(frame_prob: Tensor, attention: Tensor | None = None, sharpness: Tensor | None = None) -> Tensor:
    """Weights of the exponential softmax: ``w_i = exp(x_i)`` (Table 1)."""
    return frame_prob.exp()


def attention_weight(frame_prob: Tensor, attention: Tensor | None = None, sharpness: Tensor | None = None) -> Tensor:
    """Weights of attention pooling: ``w_i = h(u)``, computed by the network (Table 1, Eq. 2)."""
    if attention is None:
        raise ParameterError("attention pooling needs the network's attention weights, and got none")
    return attention


def power_weight(frame_prob: Tensor, attention: Tensor | None = None, sharpness: Tensor | None = None) -> Tensor:
    """Weights of power pooling: ``w_i = x_i ** n``, with a trained n for each class.

    An exponent below 0 counts as 0. Frames are taken relative to the clip's largest, a common factor of the weights,
    so that no exponent underflows; the smallest normal number is added to x, so that its slope at 0 is finite.

    References
    ----------
    Liu, Chen, Wang, Zhang: Power pooling, arXiv:2010.09985 (2020). n = 0 is average pooling, n = 1 linear softmax.
    """
    if sharpness is None:
        raise ParameterError("power pooling needs the network's sharpness, one number per class, and got none")
    above_zero = frame_prob + torch.finfo(frame_prob.dtype).tiny
    return (above_zero / above_zero.amax(dim=1, keepdim=True).detach()) ** sharpness.clamp_min(0)


def auto_weight(frame_prob: Tensor, attention: Tensor | None = None, sharpness: Tensor | None = None) -> Tensor:
    """Weights of autopool: ``w_i = exp(alpha x_i)``, with a trained alpha for each class.

    References
    ----------
    McFee, Salamon, Bello: Adaptive pooling operators, arXiv:1804.10070 (2018). alpha = 0 is average pooling, alpha = 1
    exponential softmax; alpha may become negative.
    """
    if sharpness is None:
        raise ParameterError("auto pooling needs the network's sharpness, one number per class, and got none")
    scaled = sharpness * frame_prob
    return (scaled - scaled.amax(dim=1, keepdim=True).detach()).exp()  # a common factor: no alpha overflows


POOLINGS: dict[str, Weight] = {
    "max": max_weight,
    "average": average_weight,
    "linear": linear_weight,
    "exponential": exponential_weight,
    "attention": attention_weight,
    "power": power_weight,
    "auto": auto_weight,
}
"""Pooling functions by name, the paper's five (Table 1) first: (frame_prob, attention, sharpness) to weights."""

STRUCTURES = ("single", "hierarchical", "appendix", "mixed")
"""The structures, in the order of every table; ``mixed`` is not the paper's."""


def weighted_mean(x: Tensor, weight: Tensor, *, dim: int) -> Tensor:
    """``sum(w x) / sum(w)`` over one axis (Eqs. 1, 3, 5); the plain mean, which is the limit, where every w is zero."""
    total = weight.sum(dim)
    weightless = total < torch.finfo(total.dtype).tiny
    share = weight / total.masked_fill(weightless, 1.0).unsqueeze(dim)  # dividing first: sum(w x) could underflow
    mean = (share * x).sum(dim)
    return torch.where(weightless, x.mean(dim), mean)


def check_segment_lengths(n_frames: int, segment_lengths: Sequence[int]) -> None:
    """Refuse segment lengths that do not cut ``n_frames`` frames into whole segments, stage after stage."""
    n_left = n_frames
    for stage, length in enumerate(segment_lengths, start=1):
        if length < 1 or n_left % length:
            raise ParameterError(
                f"stage {stage} of segment_lengths {list(segment_lengths)} cannot cut {n_left} frames into segments "
                f"of {length}; {n_frames} frames need lengths that divide what the stages before leave"
            )
        n_left //= length


def pool(
    frame_prob: Tensor,
    attention: Tensor | None = None,
    sharpness: Tensor | None = None,
    *,
    pooling: str,
    structure: str = "single",
    segment_lengths: Sequence[int] = (5, 5),
) -> Tensor:
    """Aggregate frame-level into clip-level probabilities.

    Parameters
    ----------
    frame_prob : Tensor, shape (batch, frames, classes)
        Probability of each class in each frame, in [0, 1].
    attention : Tensor, shape (batch, frames, classes), optional
        Non-negative weights from the network; used by attention pooling only.
    sharpness : Tensor, shape (classes,), optional
        Trained exponents; used by power pooling and autopool only.
    pooling : str
        A key of `POOLINGS`.
    structure : {"single", "hierarchical", "appendix", "mixed"}
        One of `STRUCTURES`.
    segment_lengths : sequence of int
        Frames per segment of each stage before the last; (5, 5) is Figure 4's 125 -> 25 -> 5 -> 1. Not used by
        ``single``.

    Returns
    -------
    Tensor, shape (batch, classes)
        ``clip_prob``, in float32 or wider.

    References
    ----------
    Eq. 1 (``single``), Eqs. 3-5 (``hierarchical``), Eqs. A-8 to A-23 (``appendix``: the gradients they print);
    ``mixed``: ``sum_p w_p x_p / sum_p w_p`` over the largest frame p of each of the longest segments.

    Examples
    --------
    >>> frame_prob = torch.tensor([0.2, 0.4, 0.6, 0.8]).reshape(1, 4, 1)
    >>> pool(frame_prob, pooling="linear").item()  # (.04 + .16 + .36 + .64) / 2
    0.6000000238418579
    >>> pool(frame_prob, pooling="linear", structure="hierarchical", segment_lengths=[2]).item()
    0.6000000238418579
    """
    if pooling not in POOLINGS:
        raise ParameterError(f"unknown pooling {pooling!r}; known: {', '.join(POOLINGS)}")
    if structure not in STRUCTURES:
        raise ParameterError(f"unknown structure {structure!r}; known: {', '.join(STRUCTURES)}")
    if frame_prob.ndim != 3 or frame_prob.shape[1] == 0:
        raise ParameterError(
            f"frame_prob must be (batch, frames, classes) with a frame at least; got {tuple(frame_prob.shape)}"
        )
    if attention is not None and attention.shape != frame_prob.shape:
        raise ParameterError(
            f"attention {tuple(attention.shape)} and frame_prob {tuple(frame_prob.shape)} differ in shape"
        )
    if sharpness is not None and sharpness.shape != frame_prob.shape[2:]:
        raise ParameterError(
            f"sharpness must be one number for each of {frame_prob.shape[2]} classes; got {tuple(sharpness.shape)}"
        )

    with torch.autocast(frame_prob.device.type, enabled=False):
        x = frame_prob if frame_prob.dtype == torch.float64 else frame_prob.float()
        attention, sharpness = (None if value is None else value.to(x.dtype) for value in (attention, sharpness))
        weight = POOLINGS[pooling](x, attention, sharpness)
        if structure != "single":
            check_segment_lengths(x.shape[1], segment_lengths)
            for length in segment_lengths:
                x = x.unflatten(1, (-1, length))  # (batch, segments, length, classes)
                weight = weight.unflatten(1, (-1, length))
                if structure == "mixed":
                    x, weight = _largest_frame(x, weight)
                else:
                    inner_weight = weight.detach() if structure == "appendix" else weight
                    x = weighted_mean(x, inner_weight, dim=2)  # Eq. 3
                    weight = weight.mean(2)  # Eq. 4
        return weighted_mean(x, weight, dim=1)  # Eq. 1 or 5


def _largest_frame(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Of each segment the first largest frame and its weight; segments are axis 1, their frames axis 2."""
    largest = x.argmax(dim=2, keepdim=True)
    return x.gather(2, largest).squeeze(2), weight.gather(2, largest).squeeze(2)
