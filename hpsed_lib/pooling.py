"""Pooling functions and structures: from ``frame_prob`` to ``clip_prob`` (Secs. 2.2 and 2.3, and others' functions).

Conventions
-----------
- ``frame_prob`` is (batch, frames, classes), probabilities in [0, 1]; ``clip_prob`` is (batch, classes).
- A pooling *function* gives each frame a weight (Table 1, Eq. 2); a pooling *structure* says how the weighted frames
  are averaged: at once (``single``, Eq. 1) or through segments (the others).
- A function here whose name ends in ``_weight`` returns weights, (batch, frames, classes); one whose name ends in
  ``_prob`` returns ``clip_prob`` itself and has no structure but ``single``. What they need of the network they name as
  arguments: ``frame_prob``; ``attention``, non-negative weights, (batch, frames, classes), softmax over classes;
  ``attention_logit``, the same before the softmax; ``sharpness``, (classes,), a number that is trained, from 1.
- ``hierarchical`` is Eqs. 3-5 to the letter, left to automatic differentiation. ``appendix`` has the same value and
  stops the gradient through the weights *inside* Eq. 3, which is the algorithm whose gradients Table A-1 prints.
- ``mixed`` is not the paper's: of each segment only the largest frame is left, with its weight, and the pooling
  function goes across segments, so that its value is not that of Eq. 1.
- Sums are taken in float32 at least, whatever autocast says: a bfloat16 probability cannot tell 0.998 from 1.
- 0/0: a segment, or a clip, whose weights are all zero (sum to less than the smallest normal number) takes the mean of
  its frames. A clip's value does not depend on what such a segment takes: its weight in the next stage is zero.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hpsed_lib.errors import ParameterError


def max_weight(frame_prob: Tensor) -> Tensor:
    """Weights of max pooling: 1 at the first largest frame of each class, else 0 (Table 1, Eq. A-14)."""
    first_largest = frame_prob.argmax(dim=1, keepdim=True)
    return torch.zeros_like(frame_prob).scatter_(1, first_largest, 1.0)


def average_weight(frame_prob: Tensor) -> Tensor:
    """Weights of average pooling: ``1 / N`` for each of the N frames (Table 1)."""
    return torch.full_like(frame_prob, 1.0 / frame_prob.shape[1])


def linear_weight(frame_prob: Tensor) -> Tensor:
    """Weights of the linear softmax: ``w_i = x_i`` (Table 1)."""
    return frame_prob


def exponential_weight(frame_prob: Tensor) -> Tensor:
    """Weights of the exponential softmax: ``w_i = exp(x_i)`` (Table 1)."""
    return frame_prob.exp()


def attention_weight(attention: Tensor) -> Tensor:
    """Weights of attention pooling: ``w_i = h(u)``, a softmax over classes (Table 1, Eq. 2; the paper's reference [4]).

    The paper says "dense layer with softmax activation"; over time it would be `decision_weight`.
    """
    return attention


def sigmoid_weight(attention_logit: Tensor) -> Tensor:
    """Weights of attention pooling with a sigmoid: ``w_i = 1 / (1 + exp(-a_i))``, so that no class takes from another.

    Iqbal, Xu, Kong, Wang: Capsule routing for sound event detection, arXiv:1806.04699 (2018).
    """
    return attention_logit.sigmoid()


def power_weight(frame_prob: Tensor, sharpness: Tensor) -> Tensor:
    """Weights of power pooling: ``w_i = x_i ** n``, with a trained n for each class.

    An exponent below 0 counts as 0. Frames are taken relative to the clip's largest, a common factor of the weights,
    so that no exponent underflows; the smallest normal number is added to x, so that its slope at 0 is finite.

    Liu, Chen, Wang, Zhang: Power pooling, arXiv:2010.09985 (2020). n = 0 is average pooling, n = 1 linear softmax.
    """
    above_zero = frame_prob + torch.finfo(frame_prob.dtype).tiny
    return (above_zero / above_zero.amax(dim=1, keepdim=True).detach()) ** sharpness.clamp_min(0)


def auto_weight(frame_prob: Tensor, sharpness: Tensor) -> Tensor:
    """Weights of autopool: ``w_i = exp(alpha x_i)``, with a trained alpha for each class.

    McFee, Salamon, Bello: Adaptive pooling operators, arXiv:1804.10070 (2018). 0 is average pooling, 1 exponential
    softmax; alpha may become negative.
    """
    scaled = sharpness * frame_prob
    return (scaled - scaled.amax(dim=1, keepdim=True).detach()).exp()  # a common factor: no alpha overflows


def decision_weight(attention_logit: Tensor) -> Tensor:
    """Weights of decision-level attention: ``w_i = exp(a_i)``, which adds up to a softmax over time.

    Kong, Xu, Wang, Plumbley: Audio Set classification with attention model, arXiv:1711.00927 (2017).
    """
    return (attention_logit - attention_logit.amax(dim=1, keepdim=True).detach()).exp()  # a common factor


def topk_weight(frame_prob: Tensor, *, k: int = 10) -> Tensor:
    """Weights of the mean of the k largest frames, 0.8 s of the paper's 10 s, or of all if there are fewer: 1, else 0.

    Li, Vasconcelos: Multiple instance learning for soft bags via top instances, CVPR 2015. One frame: max pooling.
    """
    largest = frame_prob.argsort(dim=1, descending=True, stable=True)[:, :k]  # torch.topk breaks ties as it likes
    return torch.zeros_like(frame_prob).scatter_(1, largest, 1.0)


def gwrp_weight(frame_prob: Tensor, *, r: float = 0.9) -> Tensor:
    """Weights of global weighted rank pooling: ``r ** j`` for the frame that j others surpass.

    Kolesnikov, Lampert: Seed, expand and constrain, arXiv:1603.06098 (2016); for sound arXiv:1804.04715. r = 0 is max
    pooling, r = 1 average pooling; with 0.9 ten frames hold 65 % of all weight.
    """
    order = frame_prob.argsort(dim=1, descending=True, stable=True)
    by_rank = r ** torch.arange(order.shape[1], device=order.device, dtype=frame_prob.dtype)
    return torch.zeros_like(frame_prob).scatter_(1, order, by_rank[:, None].expand(order.shape))


def lse_prob(frame_prob: Tensor, *, r: float = 5.0) -> Tensor:
    """Log-sum-exp: ``1/r log(1/N sum exp(r x_i))``.

    Pinheiro, Collobert: From image-level to pixel-level labeling, arXiv:1411.6228 (2015). Large r: max pooling.
    """
    return ((r * frame_prob).logsumexp(1) - math.log(frame_prob.shape[1])) / r


def noisy_or_prob(frame_prob: Tensor) -> Tensor:
    """Noisy-or: ``1 - prod(1 - x_i)``, that an event is in any frame, were frames independent.

    Zhang, Platt, Viola: Multiple instance boosting for object detection, NIPS 2005; for sound arXiv:1804.01146, where
    it does not localise. Of 125 frames near 0.5, as an untrained network gives them, it is 1, and has no gradient.
    """
    return 1 - (1 - frame_prob).prod(1)


def feature_prob(frame_prob: Tensor, attention_logit: Tensor) -> Tensor:
    """Feature-level attention with one weight for each class: pool what the last layer takes, then classify.

    The last layer is linear and the weights, a softmax over time, add up to 1, so that pooling its input is pooling its
    output: the sigmoid of the mean of the frames' logits.

    Kong et al.: Weakly labelled AudioSet tagging with attention neural networks, arXiv:1903.00765 (2019), which has a
    weight for each feature.
    """
    return (attention_logit.softmax(1) * frame_prob.logit(eps=2**-20)).sum(1).sigmoid()


KINDS = ("_weight", "_prob")
Function = Callable[..., Tensor]
POOLINGS: dict[str, Function] = {
    name.rsplit("_", 1)[0]: function for name, function in globals().items() if name.endswith(KINDS)
}
"""Every pooling function of this file by name, the paper's five (Table 1) first."""

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
            lengths = f"stage {stage} of segment_lengths {list(segment_lengths)}"
            raise ParameterError(f"{lengths} cannot cut {n_left} frames into segments of {length}")
        n_left //= length


def pool(
    frame_prob: Tensor,
    attention: Tensor | None = None,
    sharpness: Tensor | None = None,
    attention_logit: Tensor | None = None,
    *,
    pooling: str | Function,
    structure: str = "single",
    segment_lengths: Sequence[int] = (5, 5),
) -> Tensor:
    """Aggregate frame-level into clip-level probabilities: ``clip_prob``, (batch, classes), in float32 or wider.

    Parameters
    ----------
    attention, sharpness, attention_logit : Tensor, optional
        Of the network, for the functions that name them.
    pooling : str or function
        A key of `POOLINGS`, or a function like those.
    segment_lengths : sequence of int
        Frames per segment of each stage before the last; (5, 5) is Figure 4's 125 -> 25 -> 5 -> 1. Not used by
        ``single``.

    References
    ----------
    Eq. 1 (``single``), Eqs. 3-5 (``hierarchical``), Eqs. A-8 to A-23 (``appendix``: the gradients they print);
    ``mixed``: ``sum_p w_p x_p / sum_p w_p`` over the largest frame p of each of the longest segments.

    Examples
    --------
    >>> frame_prob = torch.tensor([0.2, 0.4, 0.6, 0.8]).reshape(1, 4, 1)
    >>> pool(frame_prob, pooling="linear").item()  # (.04 + .16 + .36 + .64) / 2
    0.6000000238418579
    """
    if isinstance(pooling, str) and pooling not in POOLINGS:
        raise ParameterError(f"unknown pooling {pooling!r}; known: {', '.join(POOLINGS)}")
    if structure not in STRUCTURES:
        raise ParameterError(f"unknown structure {structure!r}; known: {', '.join(STRUCTURES)}")
    shape = tuple(frame_prob.shape)
    if len(shape) != 3 or shape[1] == 0:
        raise ParameterError(f"frame_prob must be (batch, frames, classes) with a frame at least; got {shape}")
    beside = {"attention": attention, "attention_logit": attention_logit, "sharpness": sharpness}
    for name, value in beside.items():
        expected = shape[2:] if name == "sharpness" else shape
        if value is not None and value.shape != expected:
            raise ParameterError(f"{name} must be {expected}, as frame_prob is {shape}; got {tuple(value.shape)}")

    with torch.autocast(frame_prob.device.type, enabled=False):
        x = frame_prob if frame_prob.dtype == torch.float64 else frame_prob.float()
        given = {name: value.to(x.dtype) for name, value in beside.items() if value is not None}
        weight = _call(pooling, {"frame_prob": x, **given})
        if weight.ndim == 2:
            if structure != "single":
                raise ParameterError(f"{_name(pooling)} pooling gives no weights: it has no structure but single")
            return weight
        if structure != "single":
            check_segment_lengths(x.shape[1], segment_lengths)
            for length in segment_lengths:
                x = x.unflatten(1, (-1, length))  # (batch, segments, length, classes)
                weight = weight.unflatten(1, (-1, length))
                if structure == "mixed":
                    largest = x.argmax(dim=2, keepdim=True)  # the first of equal ones
                    x, weight = (each.gather(2, largest).squeeze(2) for each in (x, weight))
                else:
                    inner_weight = weight.detach() if structure == "appendix" else weight
                    x = weighted_mean(x, inner_weight, dim=2)  # Eq. 3
                    weight = weight.mean(2)  # Eq. 4
        return weighted_mean(x, weight, dim=1)  # Eq. 1 or 5


def _name(pooling: str | Function) -> str:
    return pooling if isinstance(pooling, str) else pooling.__name__


def has_weights(pooling: str | Function) -> bool:
    """Whether a pooling function gives weights, so that it has every structure; else it has ``single`` alone."""
    return _of_an_example(pooling).ndim == 3


def has_constant_weights(pooling: str | Function) -> bool:
    """Whether no gradient goes through a pooling function's weights, so that its ``appendix`` is its ``single``."""
    return has_weights(pooling) and not _of_an_example(pooling).requires_grad


def _of_an_example(pooling: str | Function) -> Tensor:
    x = torch.rand(1, 2, 1, requires_grad=True)
    return _call(pooling, {"frame_prob": x, "attention": x, "attention_logit": x, "sharpness": x[0, 0]})


@functools.cache
def arguments(function: Function) -> tuple[str, ...]:
    """What a pooling function takes of a network: its arguments without a default."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(each.name for each in parameters if each.default is each.empty)


def _call(pooling: str | Function, given: dict[str, Tensor]) -> Tensor:
    """A pooling function's result, from what it names of what is given."""
    function = POOLINGS[pooling] if isinstance(pooling, str) else pooling
    missing = [name for name in arguments(function) if name not in given]
    if missing:
        raise ParameterError(f"{_name(pooling)} pooling needs the network's {missing[0]}, and got none")
    return function(**{name: given[name] for name in arguments(function)})
