"""One gradient by four roads: SymPy, automatic differentiation, finite differences and the closed forms.

Conventions: float64. The clips are random ones and those of `END_CLIPS`: frames at 0 and 1, silent segments, ties.
Where a derivative does not exist (max pooling and ``mixed`` at ties), finite differences are left out. Frames at 0 are
given to SymPy's functions as 1e-60, since Eq. 3 reads 0/0 in a silent segment. A finite difference of ``appendix`` is
that of Eqs. 3-5 with the weights inside Eq. 3 kept at their values.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import sympy as sp
import torch

from hpsed_lib.pooling import STRUCTURES, pool
from hpsed_lib.theory import gradients
from hpsed_lib.theory.derivation import ALPHA, EXPONENT, concrete_clip, frame_symbols, symbolic_weights, weighted_mean

STAGES: tuple[tuple[int, tuple[int, ...]], ...] = ((1, (1,)), (8, ()), (8, (8,)), (8, (1,)), (8, (4,)), (8, (2, 2)))
"""(frames, segment lengths): one frame, no segment, one segment, segments of one frame, two stages, three stages."""

END_CLIPS = {
    "zeros": [0.0, 0.0, 0.3, 0.0, 0.0, 0.8, 0.0, 0.1],
    "silent segments": [0.0, 0.0, 0.0, 0.0, 0.2, 0.9, 0.0, 0.0],
    "ones": [1.0, 0.2, 0.7, 0.4, 0.1, 0.3, 0.6, 0.5],
    "all ones": [1.0] * 8,
    "ties": [0.2, 0.9, 0.4, 0.9, 0.9, 0.1, 0.1, 0.4],
    "constant": [0.3] * 8,
}
"""Clips at the ends of the range of x and at ties; for a clip of one frame, their last."""

N_DRAWS = 3
_STEP = 1e-5
_QUANTITIES = ("dy/dx_i", "dy/dw_i", "dy/ds")
_VARIABLES = {"attention": (0, 1), "power": (0, 2), "auto": (0, 2)}  # of the others the frames alone


class Case(NamedTuple):
    """One derivative of one clip."""

    variable: int  # 0: by the frames, 1: by the attention weights, 2: by the sharpness
    x: np.ndarray
    attention: np.ndarray
    sharpness: float
    pooling: str
    structure: str
    lengths: tuple[int, ...]

    @property
    def options(self) -> dict[str, Any]:
        return {"pooling": self.pooling, "structure": self.structure, "segment_lengths": self.lengths}


def three_ways() -> pd.DataFrame:
    """Compare the gradients of every pooling function, structure and stage list, on random clips and `END_CLIPS`.

    In a row: how many clips, the largest gradient, and the largest absolute difference of automatic differentiation
    from SymPy, from finite differences and from the closed form.
    """
    rows = []
    for pooling, structure, (n_frames, lengths) in itertools.product(gradients.WEIGHTS, STRUCTURES, STAGES):
        clips = _clips(n_frames)
        for variable in _VARIABLES.get(pooling, (0,)):
            compared = [compare(Case(variable, *clip, pooling, structure, lengths)) for clip in clips]
            largest = np.nanmax(compared, axis=0)
            rows.append((pooling, structure, n_frames, lengths, _QUANTITIES[variable], len(clips), *largest))
    columns = ["pooling", "structure", "n_frames", "segment_lengths", "quantity", "clips", "largest_gradient"]
    columns += ["from_sympy", "from_finite_difference", "from_closed_form"]
    return pd.DataFrame(rows, columns=columns)


def _clips(n_frames: int) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Frames, attention and sharpness; at 0, one-sided differences need the second derivative that a power of 2 has."""
    rng = np.random.default_rng(0)
    clips = [(rng.uniform(0.02, 0.98, n_frames), rng.uniform(0.02, 1.0, n_frames), 1.7) for _ in range(N_DRAWS)]
    attention = rng.uniform(0.02, 1.0, n_frames)
    ends = [np.array(clip[-n_frames:]) for clip in END_CLIPS.values()]
    return [*clips, *((clip, attention, 2.0) for clip in ends if clip.any())]


def compare(case: Case) -> list[float]:
    """Size of the gradient, and how far SymPy, finite differences and the closed form are from autograd's."""
    automatic = _autograd(case)
    differences = [float(np.abs(automatic - other(case)).max()) for other in (_sympy, finite_difference, _closed_form)]
    if len(set(case.x)) < len(case.x) and (case.pooling == "max" or case.structure == "mixed"):
        differences[1] = np.nan
    return [float(np.abs(automatic).max()), *differences]


def _autograd(case: Case) -> np.ndarray:
    tensors = [torch.tensor(value, dtype=torch.float64).reshape(1, -1, 1) for value in (case.x, case.attention)]
    tensors.append(torch.tensor([case.sharpness], dtype=torch.float64))
    variable = tensors[case.variable].requires_grad_()
    (gradient,) = torch.autograd.grad(pool(*tensors, **case.options).sum(), variable)
    return gradient.flatten().numpy()


def _closed_form(case: Case) -> np.ndarray:
    found = gradients.differentiate(case.x, attention=case.attention, sharpness=case.sharpness, **case.options)
    return np.atleast_1d(found[1 + case.variable])


def _sympy(case: Case) -> np.ndarray:
    largest = int(case.x.argmax()) if case.pooling == "max" else 0
    kept: tuple[int, ...] = ()
    if case.structure == "mixed":  # the first largest frame of each of the longest segments
        segments = np.arange(len(case.x)).reshape(-1, int(np.prod(case.lengths, dtype=int)))
        kept = tuple(int(frames[np.argmax(case.x[frames])]) for frames in segments)
    function = _lambdified(len(case.x), largest, kept, case.variable, case.pooling, case.structure, case.lengths)
    return np.array(function(*np.maximum(case.x, 1e-60), *case.attention, case.sharpness), dtype=np.float64)


@cache
def _lambdified(
    n_frames: int, largest: int, kept: tuple[int, ...], variable: int, pooling: str, structure: str, lengths: tuple
) -> Callable[..., list[float]]:
    """SymPy's derivatives of y, as a function of x_1, ..., x_N, w_1, ..., w_N and the sharpness."""
    x, attention = frame_symbols(n_frames), symbolic_weights(n_frames, "attention")
    sharpness = EXPONENT if pooling == "power" else ALPHA
    held = {}
    if structure == "mixed":
        weight = symbolic_weights(n_frames, pooling, largest)
        y = weighted_mean([x[i] for i in kept], [weight[i] for i in kept])
    else:
        stages = () if structure == "single" else lengths
        clip = concrete_clip(n_frames, stages, pooling, stop_gradient=structure == "appendix", largest=largest)
        y, held = clip.y, clip.held
    derivatives = [sp.diff(y, each).xreplace(held) for each in (x, attention, (sharpness,))[variable]]
    return sp.lambdify([*x, *attention, sharpness], derivatives, modules="numpy", cse=True)


def finite_difference(case: Case) -> np.ndarray:
    """Central differences of a value computed with loops; one-sided ones, of second order, at the ends of [0, 1]."""
    weights = gradients.WEIGHTS[case.pooling]
    inner = weights(case.x, case.attention, case.sharpness) if case.structure == "appendix" else None

    def value(change: float, position: int) -> float:
        x, attention, sharpness = moved = case.x.copy(), case.attention.copy(), np.array([case.sharpness])
        moved[case.variable][position] += change
        weight = weights(x, attention, sharpness.item())
        return _loops(x, weight, weight if inner is None else inner, case)

    slopes = []
    for position in range(1 if case.variable == 2 else len(case.x)):
        at = case.x[position] if case.variable == 0 else 0.5
        if at < _STEP or at > 1 - _STEP:
            step = _STEP if at < _STEP else -_STEP
            here, near, far = (value(k * step, position) for k in range(3))
            slopes.append((-3 * here + 4 * near - far) / (2 * step))
        else:
            slopes.append((value(_STEP, position) - value(-_STEP, position)) / (2 * _STEP))
    return np.array(slopes)


def _loops(x: np.ndarray, weight: np.ndarray, inner: np.ndarray, case: Case) -> float:
    """Eqs. 3-5 (or 1), segment by segment; `inner` are the weights inside Eq. 3, `weight` those of Eqs. 4 and 5."""

    def mean(values: np.ndarray, weights: np.ndarray) -> float:
        if weights.sum() == 0:
            return float(values.max() if case.pooling == "max" else values.mean())
        return float((weights * values).sum() / weights.sum())

    for length in () if case.structure == "single" else case.lengths:
        cuts = [slice(start, start + length) for start in range(0, len(x), length)]
        if case.structure == "mixed":
            kept = [cut.start + int(np.argmax(x[cut])) for cut in cuts]
            x, weight = x[kept], weight[kept]
        else:
            x = np.array([mean(x[cut], inner[cut]) for cut in cuts])
            weight, inner = (np.array([w[cut].mean() for cut in cuts]) for w in (weight, inner))
    return mean(x, weight)
