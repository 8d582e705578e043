"""Gradients in closed form: dy/dx, dy/dw and dy/dsharpness of every pooling function and structure (Secs. 2.4 and A).

Conventions
-----------
- One clip, one class: ``frame_prob`` and ``attention`` are (frames,), the gradients too. NumPy, float64.
- ``single`` and ``hierarchical`` share one closed form, since Eqs. 3-5 give the y of Eq. 1. ``appendix`` has the closed
  form of Table A-1's right column, with the prediction of the *longest* segment that holds the frame: in two stages
  that is the paper's x_hat_j, in the three of Figure 4 its x_tilde_k. ``mixed`` has the form of ``single`` over the
  frames it keeps, the first largest of each of the longest segments; the others have no gradient.
- 0/0 as in `hpsed_lib.pooling`: without any weight, y is the mean of the frames (of those kept), dy/dx is one over
  their number and the other derivatives are taken as 0.
- Where some segments, not all, have no weight, y is still smooth in the weights, and `dy_dw` gives its derivative.
  Automatic differentiation of Eqs. 3-5 does not: Eq. 3 reads 0/0 there, and it gives the value of ``appendix``.
- At ties of max pooling the first of the largest frames has the gradient.
- Power pooling with an exponent below 1 has no finite slope at x = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpsed_lib.errors import ParameterError
from hpsed_lib.pooling import STRUCTURES, check_segment_lengths

Array = npt.NDArray[np.float64]
Weighting = Callable[[Array, float], Array]


def _first_largest(x: Array) -> Array:
    return np.where(np.arange(len(x)) == np.argmax(x), 1.0, 0.0)


def _nothing(x: Array, sharpness: float) -> Array:
    return np.zeros_like(x)


WEIGHTS: dict[str, Weighting] = {
    "max": lambda x, sharpness: _first_largest(x),
    "average": lambda x, sharpness: np.full_like(x, 1 / len(x)),
    "linear": lambda x, sharpness: x,
    "exponential": lambda x, sharpness: np.exp(x),
    "power": lambda x, sharpness: x**sharpness,
    "auto": lambda x, sharpness: np.exp(sharpness * x),
}
"""Weights w_i by x_i and sharpness (Table 1; power pooling and autopool); those of attention come from the network."""

WEIGHT_SLOPES: dict[str, Weighting] = {
    "max": _nothing,
    "average": _nothing,
    "linear": lambda x, sharpness: np.ones_like(x),
    "exponential": lambda x, sharpness: np.exp(x),
    "attention": _nothing,
    "power": lambda x, sharpness: sharpness * x ** (sharpness - 1) if sharpness else np.zeros_like(x),
    "auto": lambda x, sharpness: sharpness * np.exp(sharpness * x),
}
"""Derivatives dw_i/dx_i (Eqs. A-12, A-15, A-17, A-19 and A-21); dw_n/dx_i is zero for every other n."""

WEIGHT_SLOPES_BY_SHARPNESS: dict[str, Weighting] = {
    "power": lambda x, sharpness: np.where(x > 0, x**sharpness * np.log(np.where(x > 0, x, 1)), 0),
    "auto": lambda x, sharpness: x * np.exp(sharpness * x),
}
"""Derivatives of w_i by the sharpness, for the pooling functions that have one."""


@dataclass(frozen=True)
class _Clip:
    """A clip pooled: `kept` are the frames that enter y, `value` is what stands beside -y in the gradient."""

    x: Array
    weight: Array
    kept: npt.NDArray[np.bool_]
    value: Array
    y: float
    total: float

    @property
    def is_weightless(self) -> bool:
        return bool(self.total < np.finfo(np.float64).tiny)


def _weighted_mean(x: Array, weight: Array, limit: Callable[[Array], float] = np.mean) -> float:
    total = weight.sum()
    return float(limit(x)) if total < np.finfo(np.float64).tiny else float(weight @ x / total)


def _pooled(
    frame_prob: npt.ArrayLike,
    attention: npt.ArrayLike | None,
    sharpness: float | None,
    *,
    pooling: str,
    structure: str,
    segment_lengths: Sequence[int],
) -> _Clip:
    """Check the input and pool it."""
    if pooling not in WEIGHT_SLOPES:
        raise ParameterError(f"unknown pooling {pooling!r}; known: {', '.join(WEIGHT_SLOPES)}")
    if structure not in STRUCTURES:
        raise ParameterError(f"unknown structure {structure!r}; known: {', '.join(STRUCTURES)}")
    x = np.asarray(frame_prob, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise ParameterError(f"frame_prob must be (frames,) with a frame at least; got {x.shape}")
    lengths = () if structure == "single" else tuple(segment_lengths)
    check_segment_lengths(len(x), lengths)
    if pooling in WEIGHT_SLOPES_BY_SHARPNESS and sharpness is None:
        raise ParameterError(f"{pooling} pooling needs the network's sharpness, and got none")
    if pooling == "attention":
        if attention is None:
            raise ParameterError("attention pooling needs the network's attention weights, and got none")
        weight = np.asarray(attention, dtype=np.float64)
        if weight.shape != x.shape:
            raise ParameterError(f"attention {weight.shape} and frame_prob {x.shape} differ in shape")
    else:
        weight = WEIGHTS[pooling](x, 0.0 if sharpness is None else sharpness)

    longest = int(np.prod(lengths, dtype=int))
    kept, value = np.ones(len(x), dtype=bool), x
    if structure == "mixed":
        kept = np.concatenate([_first_largest(segment) > 0 for segment in x.reshape(-1, longest)])
    if structure == "appendix":
        limit: Callable[[Array], float] = np.max if pooling == "max" else np.mean
        rows = zip(x.reshape(-1, longest), weight.reshape(-1, longest), strict=True)
        value = np.repeat([_weighted_mean(segment, its_weight, limit) for segment, its_weight in rows], longest)
    return _Clip(x, weight, kept, value, _weighted_mean(x[kept], weight[kept]), float(weight[kept].sum()))


def clip_prob(
    frame_prob: npt.ArrayLike,
    *,
    pooling: str,
    structure: str,
    segment_lengths: Sequence[int] = (5, 5),
    attention: npt.ArrayLike | None = None,
    sharpness: float | None = None,
) -> float:
    """The clip's probability; see `dy_dx` for the parameters.

    Returns
    -------
    float
        ``sum(w_i x_i) / sum(w_i)`` over all frames or, in ``mixed``, over those kept.

    References
    ----------
    Eq. 1, and Eqs. 3-5, which give the same.

    Examples
    --------
    >>> clip_prob([0.25, 0.75], pooling="linear", structure="single")
    0.625
    """
    return _pooled(
        frame_prob, attention, sharpness, pooling=pooling, structure=structure, segment_lengths=segment_lengths
    ).y


def dy_dx(
    frame_prob: npt.ArrayLike,
    *,
    pooling: str,
    structure: str,
    segment_lengths: Sequence[int] = (5, 5),
    attention: npt.ArrayLike | None = None,
    sharpness: float | None = None,
) -> Array:
    """Derivative of the clip's probability with respect to each frame's, the weights' own dependence included.

    Parameters
    ----------
    frame_prob : array-like, shape (frames,)
        Probability of one class in each frame, in [0, 1].
    pooling : str
        Pooling function, a key of `hpsed_lib.pooling.POOLINGS`.
    structure : {"single", "hierarchical", "appendix", "mixed"}
        Pooling structure; the first two have the same gradient.
    segment_lengths : sequence of int
        Frames per segment of each stage before the last. Not used by ``single``.
    attention : array-like, shape (frames,), optional
        Non-negative weights; used by attention pooling only.
    sharpness : float, optional
        Exponent of power pooling (0 or more) or autopool; used by these only.

    Returns
    -------
    ndarray, shape (frames,)
        ``(w_i + (v_i - y) w'_i) / sum(w)``, where ``w'_i = dw_i/dx_i`` and ``v_i`` is ``x_i`` or, in ``appendix``, the
        prediction of the longest segment that holds frame i. In ``mixed``, the sum is over the frames kept, and the
        others have 0.

    References
    ----------
    Eqs. 6, A-13 and A-16 and Table A-1's left column (``single``, ``hierarchical``); Eqs. 8, A-11, A-18, A-20 and A-22
    and Table A-1's right column (``appendix``).

    Examples
    --------
    >>> dy_dx([0.25, 0.75], pooling="linear", structure="single")  # (2 x_i - y) / sum(x), y = .625
    array([-0.125,  0.875])
    >>> dy_dx([0.25, 0.75], pooling="linear", structure="appendix", segment_lengths=[2])
    array([0.25, 0.75])
    >>> dy_dx([0.25, 0.75], pooling="linear", structure="mixed", segment_lengths=[2])
    array([0., 1.])
    """
    clip = _pooled(
        frame_prob, attention, sharpness, pooling=pooling, structure=structure, segment_lengths=segment_lengths
    )
    if clip.is_weightless:
        return clip.kept / clip.kept.sum()
    slope = WEIGHT_SLOPES[pooling](clip.x, 0.0 if sharpness is None else sharpness)
    return np.where(clip.kept, (clip.weight + (clip.value - clip.y) * slope) / clip.total, 0.0)


def dy_dw(
    frame_prob: npt.ArrayLike,
    attention: npt.ArrayLike,
    *,
    structure: str,
    segment_lengths: Sequence[int] = (5, 5),
) -> Array:
    """Derivative of the clip's probability with respect to each attention weight.

    Parameters
    ----------
    frame_prob, attention : array-like, shape (frames,)
        Probability of one class in each frame, and the network's non-negative weights.
    structure : {"single", "hierarchical", "appendix", "mixed"}
        Pooling structure; the first two have the same gradient.
    segment_lengths : sequence of int
        Frames per segment of each stage before the last. Not used by ``single``.

    Returns
    -------
    ndarray, shape (frames,)
        ``(v_i - y) / sum(w)``, with ``v_i`` as in `dy_dx`; in ``mixed``, 0 for the frames not kept.

    References
    ----------
    Eq. A-23 and the last row of Table A-1: left (``single``, ``hierarchical``) and right (``appendix``).

    Examples
    --------
    >>> dy_dw([0.25, 0.75], [1.0, 1.0], structure="hierarchical", segment_lengths=[2])
    array([-0.125,  0.125])
    >>> dy_dw([0.25, 0.75], [1.0, 1.0], structure="appendix", segment_lengths=[2])
    array([0., 0.])
    """
    clip = _pooled(
        frame_prob, attention, None, pooling="attention", structure=structure, segment_lengths=segment_lengths
    )
    if clip.is_weightless:
        return np.zeros_like(clip.x)
    return np.where(clip.kept, (clip.value - clip.y) / clip.total, 0.0)


def dy_dsharpness(
    frame_prob: npt.ArrayLike,
    sharpness: float,
    *,
    pooling: str,
    structure: str,
    segment_lengths: Sequence[int] = (5, 5),
) -> float:
    """Derivative of the clip's probability with respect to the trained exponent of power pooling or autopool.

    Parameters
    ----------
    frame_prob : array-like, shape (frames,)
        Probability of one class in each frame, in [0, 1].
    sharpness : float
        The exponent; of power pooling, more than 0.
    pooling : {"power", "auto"}
        Pooling function.
    structure : {"single", "hierarchical", "appendix", "mixed"}
        Pooling structure; the first two have the same gradient.
    segment_lengths : sequence of int
        Frames per segment of each stage before the last. Not used by ``single``.

    Returns
    -------
    float
        ``sum_i (v_i - y) dw_i/ds / sum(w)``, with ``v_i`` as in `dy_dx`, over the frames kept. For autopool in
        ``single`` that is the weighted variance of the frames.

    Examples
    --------
    >>> dy_dsharpness([0.25, 0.75], 0.0, pooling="auto", structure="single")  # the variance
    0.0625
    """
    clip = _pooled(frame_prob, None, sharpness, pooling=pooling, structure=structure, segment_lengths=segment_lengths)
    if pooling not in WEIGHT_SLOPES_BY_SHARPNESS:
        raise ParameterError(f"{pooling} pooling has no sharpness; {', '.join(WEIGHT_SLOPES_BY_SHARPNESS)} have")
    if clip.is_weightless:
        return 0.0
    slope = WEIGHT_SLOPES_BY_SHARPNESS[pooling](clip.x, sharpness)
    return float(((clip.value - clip.y) * slope)[clip.kept].sum() / clip.total)


def dloss_dy(clip_prob: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """Derivative of the binary cross-entropy with respect to the clip's probability.

    Parameters
    ----------
    clip_prob : array-like
        Probability y, in [0, 1].
    target : array-like, same shape
        Ground truth t, 0 or 1.

    Returns
    -------
    ndarray
        ``1 / (1 - y)`` where t is 0 and ``-1 / y`` where t is 1; infinite where the loss is.

    References
    ----------
    Eqs. A-1 and A-3.

    Examples
    --------
    >>> dloss_dy([0.5, 0.25], [0, 1])
    array([ 2., -4.])
    """
    y, t = np.asarray(clip_prob, dtype=np.float64), np.asarray(target)
    if y.shape != t.shape:
        raise ParameterError(f"clip_prob {y.shape} and target {t.shape} differ in shape")
    if not np.isin(t, (0, 1)).all():
        raise ParameterError(f"target must be 0 or 1 (Eq. A-1); got {np.unique(t).tolist()}")
    with np.errstate(divide="ignore"):
        return np.where(t == 0, np.divide(1, 1 - y), np.divide(-1, y))
