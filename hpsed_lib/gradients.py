"""The paper's gradients in closed form: dy/dx and dy/dw of every pooling function and structure (Secs. 2.4 and A).

Conventions
-----------
- One clip, one class: ``frame_prob`` and ``attention`` are (frames,), the gradients too. NumPy, float64.
- ``single`` and ``hierarchical`` share one closed form, since Eqs. 3-5 give the y of Eq. 1. ``appendix`` has the closed
  form of Table A-1's right column, with the prediction of the *longest* segment that holds the frame: in two stages
  that is the paper's x_hat_j, in the three of Figure 4 its x_tilde_k.
- 0/0 as in `hpsed_lib.pooling`: without any weight, y is the mean of the frames, dy/dx is 1/N and dy/dw is taken as 0.
- Where some segments, not all, have no weight, y is still smooth in the weights, and `dy_dw` gives its derivative.
  Automatic differentiation of Eqs. 3-5 does not: Eq. 3 reads 0/0 there, and it gives the value of ``appendix``.
- At ties of max pooling the first of the largest frames has the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from hpsed_lib.errors import ParameterError
from hpsed_lib.pooling import STRUCTURES, check_segment_lengths

Array = npt.NDArray[np.float64]


def _first_largest(x: Array) -> Array:
    return np.where(np.arange(len(x)) == np.argmax(x), 1.0, 0.0)


WEIGHTS: dict[str, Callable[[Array], Array]] = {
    "max": _first_largest,
    "average": lambda x: np.full_like(x, 1 / len(x)),
    "linear": lambda x: x,
    "exponential": np.exp,
}
"""Weights w_i of the pooling functions that need no network (Table 1)."""

WEIGHT_SLOPES: dict[str, Callable[[Array], Array]] = {
    "max": np.zeros_like,
    "average": np.zeros_like,
    "linear": np.ones_like,
    "exponential": np.exp,
    "attention": np.zeros_like,
}
"""Derivatives dw_i/dx_i (Eqs. A-12, A-15, A-17, A-19 and A-21); dw_n/dx_i is zero for every other n."""


def _weighted_mean(x: Array, weight: Array, limit: Callable[[Array], float]) -> float:
    total = weight.sum()
    return limit(x) if total < np.finfo(np.float64).tiny else float(weight @ x / total)


def _clip(
    frame_prob: npt.ArrayLike, attention: npt.ArrayLike | None, pooling: str, structure: str, lengths: Sequence[int]
) -> tuple[Array, Array]:
    """Check the input and give it as float64: the frames and their weights."""
    if pooling not in WEIGHT_SLOPES:
        raise ParameterError(f"unknown pooling {pooling!r}; known: {', '.join(WEIGHT_SLOPES)}")
    if structure not in STRUCTURES:
        raise ParameterError(f"unknown structure {structure!r}; known: {', '.join(STRUCTURES)}")
    x = np.asarray(frame_prob, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise ParameterError(f"frame_prob must be (frames,) with a frame at least; got {x.shape}")
    if structure != "single":
        check_segment_lengths(len(x), lengths)
    if pooling != "attention":
        return x, WEIGHTS[pooling](x)
    if attention is None:
        raise ParameterError("attention pooling needs the network's attention weights, and got none")
    weight = np.asarray(attention, dtype=np.float64)
    if weight.shape != x.shape:
        raise ParameterError(f"attention {weight.shape} and frame_prob {x.shape} differ in shape")
    return x, weight


def _backward_value(x: Array, weight: Array, structure: str, segment_lengths: Sequence[int], pooling: str) -> Array:
    """What stands beside -y in the gradient: the frame itself or, in ``appendix``, its longest segment's prediction."""
    if structure != "appendix" or not segment_lengths:
        return x
    limit: Callable[[Array], float] = np.max if pooling == "max" else np.mean
    value = x
    for length in segment_lengths:
        rows = zip(value.reshape(-1, length), weight.reshape(-1, length), strict=True)
        value = np.array([_weighted_mean(segment, its_weight, limit) for segment, its_weight in rows])  # Eq. 3
        weight = weight.reshape(-1, length).mean(axis=1)  # Eq. 4
    return np.repeat(value, len(x) // len(value))


def dy_dx(
    frame_prob: npt.ArrayLike,
    *,
    pooling: str,
    structure: str,
    segment_lengths: Sequence[int] = (5, 5),
    attention: npt.ArrayLike | None = None,
) -> Array:
    """Derivative of the clip's probability with respect to each frame's, the weights' own dependence included.

    Parameters
    ----------
    frame_prob : array-like, shape (frames,)
        Probability of one class in each frame, in [0, 1].
    pooling : {"max", "average", "linear", "exponential", "attention"}
        Pooling function (Table 1).
    structure : {"single", "hierarchical", "appendix"}
        Pooling structure; the first two have the same gradient.
    segment_lengths : sequence of int
        Frames per segment of each stage before the last. Not used by ``single``.
    attention : array-like, shape (frames,), optional
        Non-negative weights; used by attention pooling only.

    Returns
    -------
    ndarray, shape (frames,)
        ``(w_i + (v_i - y) w'_i) / sum(w)``, where ``w'_i = dw_i/dx_i`` and ``v_i`` is ``x_i`` or, in ``appendix``, the
        prediction of the longest segment that holds frame i.

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
    """
    x, weight = _clip(frame_prob, attention, pooling, structure, segment_lengths)
    total = weight.sum()
    if total < np.finfo(np.float64).tiny:
        return np.full_like(x, 1 / len(x))
    y = weight @ x / total
    value = _backward_value(x, weight, structure, segment_lengths, pooling)
    return (weight + (value - y) * WEIGHT_SLOPES[pooling](x)) / total


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
    structure : {"single", "hierarchical", "appendix"}
        Pooling structure; the first two have the same gradient.
    segment_lengths : sequence of int
        Frames per segment of each stage before the last. Not used by ``single``.

    Returns
    -------
    ndarray, shape (frames,)
        ``(v_i - y) / sum(w)``, with ``v_i`` as in `dy_dx`.

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
    x, weight = _clip(frame_prob, attention, "attention", structure, segment_lengths)
    total = weight.sum()
    if total < np.finfo(np.float64).tiny:
        return np.zeros_like(x)
    y = weight @ x / total
    return (_backward_value(x, weight, structure, segment_lengths, "attention") - y) / total


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
