"""Gradients in closed form: dy/dx, dy/dw and dy/dsharpness of every pooling function and structure (Secs. 2.4 and A).

Conventions
-----------
- One clip, one class: ``frame_prob`` and ``attention`` are (frames,), the gradients too. NumPy, float64.
- ``single`` and ``hierarchical`` share one closed form, since Eqs. 3-5 give the y of Eq. 1. ``appendix`` has that of
  Table A-1's right column, with the prediction of the *longest* segment that holds the frame: in two stages the paper's
  x_hat_j, in the three of Figure 4 its x_tilde_k. ``mixed`` has that of ``single`` over the frames it keeps, the first
  largest of each of the longest segments; the others have no gradient. So with max pooling and ties.
- 0/0 as in `hpsed_lib.pooling`: without any weight, y is the mean of the frames (of those kept), dy/dx is one over
  their number and the other derivatives are taken as 0.
- Where some segments, not all, have no weight, dy/dw is the derivative of y, which is smooth there. Automatic
  differentiation of Eqs. 3-5 gives the value of ``appendix`` instead: Eq. 3 reads 0/0.
- Power pooling with an exponent below 1 has no finite slope at x = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hpsed_lib.errors import ParameterError
from hpsed_lib.pooling import STRUCTURES, check_segment_lengths

Array = npt.NDArray[np.float64]


def _first_largest(x: Array) -> Array:
    return 1.0 * (np.arange(len(x)) == np.argmax(x))


WEIGHTS: dict[str, Callable[[Array, Array, float], Array]] = {
    "max": lambda x, attention, sharpness: _first_largest(x),
    "average": lambda x, attention, sharpness: np.full_like(x, 1 / len(x)),
    "linear": lambda x, attention, sharpness: x,
    "exponential": lambda x, attention, sharpness: np.exp(x),
    "attention": lambda x, attention, sharpness: attention,
    "power": lambda x, attention, sharpness: x**sharpness,
    "auto": lambda x, attention, sharpness: np.exp(sharpness * x),
}
"""Weights w_i by x_i, attention and sharpness (Table 1; power pooling and autopool)."""

WEIGHT_SLOPES: dict[str, Callable[[Array, float], Array]] = {
    "linear": lambda x, sharpness: np.ones_like(x),
    "exponential": lambda x, sharpness: np.exp(x),
    "power": lambda x, sharpness: sharpness * x ** (sharpness - 1) if sharpness else np.zeros_like(x),
    "auto": lambda x, sharpness: sharpness * np.exp(sharpness * x),
}
"""Derivatives dw_i/dx_i (Eqs. A-17 and A-19) where they are not zero (Eqs. A-12, A-15 and A-21)."""

WEIGHT_SLOPES_BY_SHARPNESS: dict[str, Callable[[Array, float], Array]] = {
    "power": lambda x, sharpness: np.where(x > 0, x**sharpness * np.log(np.where(x > 0, x, 1)), 0),
    "auto": lambda x, sharpness: x * np.exp(sharpness * x),
}
"""Derivatives of w_i by the sharpness, for the pooling functions that have one."""


class Derivatives(NamedTuple):
    """A clip's probability and its derivatives; 0 by what the pooling function does not use."""

    y: float
    dy_dx: Array
    dy_dw: Array
    dy_ds: float


def differentiate(
    frame_prob: npt.ArrayLike,
    *,
    pooling: str,
    structure: str,
    segment_lengths: Sequence[int] = (5, 5),
    attention: npt.ArrayLike | None = None,
    sharpness: float | None = None,
) -> Derivatives:
    """A clip's probability y and its derivatives by each frame, each attention weight and the sharpness.

    As in `hpsed_lib.pooling.pool`, for the functions in `WEIGHTS` and an exponent of power pooling of 0 or more.

    Returns
    -------
    Derivatives
        ``y = sum(w_i x_i) / sum(w_i)``; with ``v_i`` for ``x_i`` or, in ``appendix``, for the prediction of the longest
        segment that holds frame i,

        - ``dy_dx``, shape (frames,): ``(w_i + (v_i - y) dw_i/dx_i) / sum(w)``;
        - ``dy_dw``, shape (frames,): ``(v_i - y) / sum(w)``, of attention;
        - ``dy_ds``: ``sum_i (v_i - y) dw_i/ds / sum(w)``, of power pooling and autopool.

        In ``mixed`` sums run over the frames kept, and the others have 0.

    References
    ----------
    Eqs. 6, A-13, A-16 and Table A-1's left column (``single``); Eqs. 8, A-11, A-18, A-20, A-22, A-23 (``appendix``).

    Examples
    --------
    >>> differentiate([0.25, 0.75], pooling="linear", structure="single")  # (2 x_i - y) / sum(x)
    Derivatives(y=0.625, dy_dx=array([-0.125,  0.875]), dy_dw=array([0., 0.]), dy_ds=0.0)
    """
    if pooling not in WEIGHTS:
        raise ParameterError(f"unknown pooling {pooling!r}; known: {', '.join(WEIGHTS)}")
    if structure not in STRUCTURES:
        raise ParameterError(f"unknown structure {structure!r}; known: {', '.join(STRUCTURES)}")
    x = np.asarray(frame_prob, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise ParameterError(f"frame_prob must be (frames,) with a frame at least; got {x.shape}")
    lengths = () if structure == "single" else tuple(segment_lengths)
    check_segment_lengths(len(x), lengths)
    if pooling in WEIGHT_SLOPES_BY_SHARPNESS and sharpness is None:
        raise ParameterError(f"{pooling} pooling needs the network's sharpness, and got none")
    if pooling == "attention" and attention is None:
        raise ParameterError("attention pooling needs the network's attention weights, and got none")
    weight = WEIGHTS[pooling](x, np.asarray(attention, dtype=np.float64), sharpness or 0.0)
    if weight.shape != x.shape:
        raise ParameterError(f"attention {weight.shape} and frame_prob {x.shape} differ in shape")
    longest = int(np.prod(lengths, dtype=int))
    kept, value = np.ones(len(x), dtype=bool), x
    if structure == "mixed":
        kept = np.concatenate([_first_largest(segment) > 0 for segment in x.reshape(-1, longest)])
    if structure == "appendix":
        segments = x.reshape(-1, longest), weight.reshape(-1, longest)
        value = np.repeat([_weighted_mean(*segment) for segment in zip(*segments, strict=True)], longest)
    y, total, nothing = _weighted_mean(x[kept], weight[kept]), float(weight[kept].sum()), np.zeros_like(x)
    if total < np.finfo(np.float64).tiny:
        return Derivatives(y, kept / kept.sum(), nothing, 0.0)
    pull = np.where(kept, value - y, 0.0)
    slope, slope_by_sharpness = (
        table[pooling](x, sharpness or 0.0) if pooling in table else nothing
        for table in (WEIGHT_SLOPES, WEIGHT_SLOPES_BY_SHARPNESS)
    )
    dy_dx = (np.where(kept, weight, 0.0) + pull * slope) / total
    dy_dw = pull / total if pooling == "attention" else nothing
    return Derivatives(y, dy_dx, dy_dw, float((pull * slope_by_sharpness)[kept].sum() / total))


def _weighted_mean(x: Array, weight: Array) -> float:
    total = weight.sum()
    return float(x.mean()) if total < np.finfo(np.float64).tiny else float(weight @ x / total)


def dloss_dy(clip_prob: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """Derivative of the binary cross-entropy with respect to the clip's probability (Eqs. A-1 and A-3).

    ``1 / (1 - y)`` where the target is 0 and ``-1 / y`` where it is 1; infinite where the loss is.

    Examples
    --------
    >>> dloss_dy([0.5, 0.25], [0, 1])
    array([ 2., -4.])
    """
    y, t = np.asarray(clip_prob, dtype=np.float64), np.asarray(target)
    if not np.isin(t, (0, 1)).all():
        raise ParameterError(f"target must be 0 or 1 (Eq. A-1); got {np.unique(t).tolist()}")
    with np.errstate(divide="ignore"):
        return np.where(t == 0, np.divide(1, 1 - y), np.divide(-1, y))
