"""One gradient by four roads: SymPy, automatic differentiation, finite differences and the closed forms.

Conventions: float64. The clips are random ones and those of `END_CLIPS`: frames at 0 and 1, silent segments, ties.
Where a derivative does not exist (max pooling and ``mixed`` at ties), finite differences are left out. Frames at 0 are
given to SymPy's functions as 1e-60, since Eq. 3 reads 0/0 in a silent segment. A finite difference of ``appendix`` is
that of Eqs. 3-5 with the weights inside Eq. 3 kept at their values.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import sympy as sp
import torch

from hpsed_lib.pooling import POOLINGS, STRUCTURES, pool
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
_BESIDE_DX = {"attention": ("dy/dw_i",), "power": ("dy/ds",), "auto": ("dy/ds",)}


@dataclass(frozen=True)
class Case:
    """One derivative of one clip: by the frames, by the attention weights or by the sharpness."""

    quantity: str
    x: np.ndarray
    attention: np.ndarray
    sharpness: float
    pooling: str
    structure: str
    lengths: tuple[int, ...]

    @property
    def options(self) -> dict[str, Any]:
        return {"pooling": self.pooling, "structure": self.structure, "segment_lengths": self.lengths}

    @property
    def variable(self) -> int:
        """Place of the variable among x, attention and sharpness."""
        return _QUANTITIES.index(self.quantity)


def three_ways() -> pd.DataFrame:
    """Compare the gradients of every pooling function, structure and stage list, on random clips and `END_CLIPS`.

    One row for each and derivative (``dy/dx_i``; ``dy/dw_i`` for attention, ``dy/ds`` for power pooling and autopool):
    how many clips, the largest gradient, and the largest absolute difference of automatic differentiation from SymPy,
    from finite differences and from the closed form.
    """
    rows = []
    for pooling, structure, (n_frames, lengths) in itertools.product(POOLINGS, STRUCTURES, STAGES):
        for quantity in ("dy/dx_i", *_BESIDE_DX.get(pooling, ())):
            clips = _clips(n_frames)
            compared = [compare(Case(quantity, *clip, pooling, structure, lengths)) for clip in clips]
            largest = np.nanmax(np.array(compared), axis=0).tolist()
            rows.append((pooling, structure, n_frames, lengths, quantity, len(clips), *largest))
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
    function = _lambdified(case.variable, len(case.x), case.pooling, case.structure, case.lengths, largest, kept)
    return np.array(function(*np.maximum(case.x, 1e-60), *case.attention, case.sharpness), dtype=np.float64)


@cache
def _lambdified(
    variable: int,
    n_frames: int,
    pooling: str,
    structure: str,
    lengths: tuple[int, ...],
    largest: int,
    kept: tuple[int, ...],
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
    for position in range(1 if case.quantity == "dy/ds" else len(case.x)):
        at = case.x[position] if case.quantity == "dy/dx_i" else 0.5
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
