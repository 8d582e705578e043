"""The paper's gradients derived again, with SymPy, from Eqs. 1 and 3-5 and Table 1 alone (Secs. 2.4 and A).

Conventions
-----------
- Everything is derived for a concrete clip (6 frames in 2 segments of 3, or 8 frames in 4 segments of 2, then 2 of 2),
  for each of its frames, and then written in the paper's symbols: the coefficients are found at rational points and
  proved by ``cancel(...) == 0`` for each frame.
- Two derivatives are taken of the same y. ``true``: of Eqs. 3-5 as they stand. ``stop-gradient``: the weights inside
  Eq. 3 are held constant, those of Eqs. 4 and 5 are not.
- A verdict is "equal" or "differs by E", where E is the derived minus the printed expression.
- ``x̂_j`` is the prediction of the first-stage segment that holds frame i, ``x̃_k`` that of the longest segment (three
  stages only), ``w'_i`` is dw_i/dx_i, ``Σw`` the sum over the whole clip, ``Σ_j w`` over segment j.
- Max pooling is derived where one frame is the largest, for each choice of it; Eq. 3's 0/0 in the other segments takes
  its limit, the segment's largest frame (here its last).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache

import numpy as np
import pandas as pd
import sympy as sp
import torch

from hpsed_lib import gradients
from hpsed_lib.errors import ParameterError
from hpsed_lib.pooling import POOLINGS, STRUCTURES, check_segment_lengths, pool

# the paper's symbols
X, W, SLOPE, Y = sp.symbols("x_i w_i w'_i y")
XHAT, XTILDE, WHAT = sp.symbols("x̂_j x̃_k ŵ_j")
TOTAL, SEGMENT_TOTAL = sp.Symbol("Σw"), sp.Symbol("Σ_j w")
N_FRAMES, SEGMENT_LENGTH = sp.symbols("N M")
IS_LARGEST = sp.Symbol("[i=argmax]")

TABLE_1: dict[str, dict[sp.Expr, sp.Expr]] = {
    "any": {},
    "max": {W: IS_LARGEST, SLOPE: sp.S.Zero, TOTAL: sp.S.One},
    "average": {W: 1 / N_FRAMES, SLOPE: sp.S.Zero, TOTAL: sp.S.One},
    "linear": {W: X, SLOPE: sp.S.One, TOTAL: sp.Symbol("Σx"), SEGMENT_TOTAL: sp.Symbol("Σ_j x")},
    "exponential": {W: sp.exp(X), SLOPE: sp.exp(X), TOTAL: sp.Symbol("Σexp(x)")},
    "attention": {SLOPE: sp.S.Zero},
}
"""How each pooling function writes the weight, its slope and the sums; "any" is a weight f(x_i) left open."""

TWO_STAGES = (6, (3,))
THREE_STAGES = (8, (2, 2))
"""(frames, segment lengths) of the derivations."""


@dataclass(frozen=True)
class Verdict:
    """One printed expression beside what the definitions give."""

    equation: str
    pooling: str
    quantity: str
    printed: str
    true_derivative: str
    true_verdict: str
    stop_gradient: str
    stop_gradient_verdict: str


# ---------------------------------------------------------------------------------------------------------------------
# definitions: Table 1 and Eqs. 1, 3, 4, 5


@dataclass(frozen=True)
class SymbolicClip:
    """One clip in symbols; `stages` has the values and weights of the frames first, of the longest segments last."""

    x: tuple[sp.Symbol, ...]
    weight: tuple[sp.Expr, ...]
    stages: tuple[tuple[tuple[sp.Expr, ...], tuple[sp.Expr, ...]], ...]
    held: dict[sp.Expr, sp.Expr]
    y: sp.Expr
    opaque: dict[sp.Expr, sp.Expr]
    largest: int

    def derivative(self, expression: sp.Expr, variable: sp.Expr) -> sp.Expr:
        """Differentiate, then give the held weights their values and the transcendental parts a name."""
        return sp.diff(expression, variable).xreplace(self.held).xreplace(self.opaque)

    def value(self, expression: sp.Expr) -> sp.Expr:
        """Expression itself, without held weights and with the transcendental parts named."""
        return expression.xreplace(self.held).xreplace(self.opaque)


def symbolic_weights(x: Sequence[sp.Symbol], pooling: str, largest: int = 0) -> tuple[sp.Expr, ...]:
    """Weights of Table 1 (frame `largest` is the largest, for max pooling), or an open f(x_i) for "any"."""
    n = len(x)
    weights: dict[str, Callable[[int], sp.Expr]] = {
        "max": lambda i: sp.S.One if i == largest else sp.S.Zero,
        "average": lambda i: sp.Rational(1, n),
        "linear": lambda i: x[i],
        "exponential": lambda i: sp.exp(x[i]),
        "attention": lambda i: sp.Symbol(f"w_{i + 1}", positive=True),
        "any": lambda i: sp.Function("f")(x[i]),
    }
    if pooling not in weights:
        raise ParameterError(f"unknown pooling {pooling!r}; known: {', '.join(weights)}")
    return tuple(weights[pooling](i) for i in range(n))


def weighted_mean(x: Sequence[sp.Expr], weight: Sequence[sp.Expr]) -> sp.Expr:
    """Eq. 1, 3 or 5; the last x where every weight is zero (max pooling's limit under the assumed order)."""
    total = sum(weight, start=sp.S.Zero)
    return x[-1] if total == 0 else sum((w * v for w, v in zip(weight, x, strict=True)), start=sp.S.Zero) / total


def symbolic_clip(
    n_frames: int, segment_lengths: Sequence[int], pooling: str, *, stop_gradient: bool = False, largest: int = 0
) -> SymbolicClip:
    """Pool a clip of symbols by Eqs. 3-5 (Eq. 1 where there are no segments).

    Parameters
    ----------
    n_frames : int
        Frames in the clip.
    segment_lengths : sequence of int
        Frames per segment of each stage before the last; empty for single pooling.
    pooling : str
        A row of Table 1, or "any".
    stop_gradient : bool
        Whether the weights inside Eq. 3 are held constant when differentiating.
    largest : int
        Index of the largest frame; used by max pooling only.

    Returns
    -------
    SymbolicClip
        The symbols, the value of each stage and y.
    """
    check_segment_lengths(n_frames, segment_lengths)
    x = tuple(sp.Symbol(f"x_{i + 1}", positive=True) for i in range(n_frames))
    weight = symbolic_weights(x, pooling, largest)
    held: dict[sp.Expr, sp.Expr] = {}

    def hold(expression: sp.Expr) -> sp.Expr:
        if not stop_gradient or expression.is_Number:
            return expression
        constant = sp.Dummy(positive=True)
        held[constant] = expression
        return constant

    stages: list[tuple[tuple[sp.Expr, ...], tuple[sp.Expr, ...]]] = [(x, weight)]
    for length in segment_lengths:
        values, weights = stages[-1]
        inner = tuple(hold(w) for w in weights)
        cuts = [slice(start, start + length) for start in range(0, len(values), length)]
        stages.append(
            (
                tuple(weighted_mean(values[cut], inner[cut]) for cut in cuts),  # Eq. 3
                tuple(sum(weights[cut], start=sp.S.Zero) / length for cut in cuts),  # Eq. 4
            )
        )
    opaque: dict[sp.Expr, sp.Expr] = {}
    for i, symbol in enumerate(x):
        opaque[sp.exp(symbol)] = sp.Symbol(f"e_{i + 1}", positive=True)
        opaque[sp.Function("f")(symbol)] = sp.Symbol(f"w_{i + 1}", positive=True)
        opaque[sp.Derivative(sp.Function("f")(symbol), symbol)] = sp.Symbol(f"w'_{i + 1}")
    return SymbolicClip(x, weight, tuple(stages), held, weighted_mean(*stages[-1]), opaque, largest)  # Eq. 1 or 5


# ---------------------------------------------------------------------------------------------------------------------
# derivatives, frame by frame


def _segment(clip: SymbolicClip, stage: int, frame: int) -> int:
    return frame * len(clip.stages[stage][0]) // len(clip.x)


def _dy_dx(clip: SymbolicClip, i: int) -> sp.Expr:
    return clip.derivative(clip.y, clip.x[i])


def _dy_dw(clip: SymbolicClip, i: int) -> sp.Expr:
    return clip.derivative(clip.y, clip.weight[i])


def _partial(clip: SymbolicClip, i: int, *, by_weight: bool) -> sp.Expr:
    """Partial derivative of Eq. 5 by the segment's prediction or by its weight, the other kept."""
    values, weights = clip.stages[-1]
    j = _segment(clip, -1, i)
    value_symbols = sp.symbols(f"v:{len(values)}", positive=True)
    weight_symbols = sp.symbols(f"u:{len(values)}", positive=True)
    partial = sp.diff(weighted_mean(value_symbols, weight_symbols), (weight_symbols if by_weight else value_symbols)[j])
    meaning = dict(zip((*value_symbols, *weight_symbols), (*values, *weights), strict=True))
    return clip.value(partial.xreplace(meaning))


def _dxhat_dx(clip: SymbolicClip, i: int) -> sp.Expr:
    return clip.derivative(clip.stages[-1][0][_segment(clip, -1, i)], clip.x[i])


def _first_item(clip: SymbolicClip, i: int) -> sp.Expr:
    return _partial(clip, i, by_weight=False) * _dxhat_dx(clip, i)


def _first_item_by_weight(clip: SymbolicClip, i: int) -> sp.Expr:
    prediction = clip.stages[-1][0][_segment(clip, -1, i)]
    return _partial(clip, i, by_weight=False) * clip.derivative(prediction, clip.weight[i])


def _second_item(clip: SymbolicClip, i: int) -> sp.Expr:
    weight = clip.stages[-1][1][_segment(clip, -1, i)]
    return _partial(clip, i, by_weight=True) * clip.derivative(weight, clip.x[i])


def _second_item_by_weight(clip: SymbolicClip, i: int) -> sp.Expr:
    weight = clip.stages[-1][1][_segment(clip, -1, i)]
    return _partial(clip, i, by_weight=True) * clip.derivative(weight, clip.weight[i])


def _sum_of_slopes(clip: SymbolicClip, i: int) -> sp.Expr:
    return sum((clip.derivative(weight, clip.x[i]) for weight in clip.weight), start=sp.S.Zero)


def _segment_weight(clip: SymbolicClip, i: int) -> sp.Expr:
    return clip.value(clip.stages[-1][1][_segment(clip, -1, i)])


QUANTITIES: dict[str, Callable[[SymbolicClip, int], sp.Expr]] = {
    "dy/dx_i": _dy_dx,
    "dy/dw_i": _dy_dw,
    "dx̂_j/dx_i": _dxhat_dx,
    "(∂y/∂x̂_j)(dx̂_j/dx_i)": _first_item,
    "(∂y/∂ŵ_j)(dŵ_j/dx_i)": _second_item,
    "(∂y/∂x̂_j)(∂x̂_j/∂w_i)": _first_item_by_weight,
    "(∂y/∂ŵ_j)(∂ŵ_j/∂w_i)": _second_item_by_weight,
    "Σ_n dw_n/dx_i": _sum_of_slopes,
    "ŵ_j": _segment_weight,
}
"""What the paper's equations state, each as a function of a clip and a frame."""


# ---------------------------------------------------------------------------------------------------------------------
# back to the paper's symbols


def _meanings(clip: SymbolicClip, i: int) -> dict[sp.Expr, sp.Expr]:
    """What each of the paper's symbols stands for at frame i of this clip."""
    n, j = len(clip.x), _segment(clip, min(1, len(clip.stages) - 1), i)
    weights = [clip.value(w) for w in clip.weight]
    total = sum(weights, start=sp.S.Zero)
    segment_total = sum((w for k, w in enumerate(weights) if _segment(clip, -1, k) == _segment(clip, -1, i)), sp.S.Zero)
    meanings = {
        X: clip.x[i],
        W: weights[i],
        SLOPE: clip.derivative(clip.weight[i], clip.x[i]),
        Y: clip.value(clip.y),
        XHAT: clip.value(clip.stages[min(1, len(clip.stages) - 1)][0][j]),
        XTILDE: clip.value(clip.stages[-1][0][_segment(clip, -1, i)]),
        WHAT: clip.value(clip.stages[-1][1][_segment(clip, -1, i)]),
        N_FRAMES: sp.Integer(n),
        SEGMENT_LENGTH: sp.Integer(n // len(clip.stages[-1][0])),
        IS_LARGEST: sp.Integer(i == clip.largest),
        sp.exp(X): clip.value(sp.exp(clip.x[i])),
    }
    for names in TABLE_1.values():
        meanings[names.get(TOTAL, TOTAL)] = total
        meanings[names.get(SEGMENT_TOTAL, SEGMENT_TOTAL)] = segment_total
    meanings.pop(sp.S.One, None)
    return meanings


def _basis(quantity: str, pooling: str, n_stages: int) -> list[sp.Expr]:
    """Terms that may appear in the result, in the paper's symbols and without duplicates."""
    predictions = [*(X, XHAT, XTILDE)[: min(n_stages, 2) + 1], Y]
    by_weight = quantity.endswith("w_i)") or quantity == "dy/dw_i"
    numerators = predictions if by_weight else [W, *(SLOPE * p for p in predictions)]
    if quantity == "Σ_n dw_n/dx_i":
        return [slope for slope in [SLOPE.xreplace(TABLE_1[pooling])] if slope != 0]
    if quantity == "ŵ_j":
        return [(SEGMENT_TOTAL / SEGMENT_LENGTH).xreplace(TABLE_1[pooling])]
    total = SEGMENT_TOTAL if quantity == "dx̂_j/dx_i" else TOTAL
    terms = [(numerator / total).xreplace(TABLE_1[pooling]) for numerator in numerators]
    return list(dict.fromkeys(term for term in terms if term != 0))


@cache
def derive(
    quantity: str, pooling: str, n_frames: int, segment_lengths: tuple[int, ...], stop_gradient: bool = False
) -> sp.Expr:
    """Derive one quantity from the definitions and write it in the paper's symbols.

    Parameters
    ----------
    quantity : str
        A key of `QUANTITIES`.
    pooling : str
        A key of `TABLE_1`.
    n_frames, segment_lengths : int, tuple of int
        The clip; no segment length means single pooling.
    stop_gradient : bool
        Whether the weights inside Eq. 3 are held constant.

    Returns
    -------
    sympy.Expr
        The result, proved equal to the derivative at every frame (and, for max pooling, for every largest frame).

    Raises
    ------
    ParameterError
        Where no combination of the paper's symbols is equal to the derivative.

    Examples
    --------
    >>> derive("dy/dx_i", "linear", 4, ())
    (2*x_i - y)/Σx
    """
    largests = range(n_frames) if pooling == "max" else range(1)
    clips = [
        symbolic_clip(n_frames, segment_lengths, pooling, stop_gradient=stop_gradient, largest=k) for k in largests
    ]
    basis = _basis(quantity, pooling, len(segment_lengths))
    cases = [
        (QUANTITIES[quantity](clip, i), [term.xreplace(_meanings(clip, i)) for term in basis])
        for clip in clips
        for i in range(n_frames)
    ]
    coefficients = _coefficients(*cases[0])
    for derivative, terms in cases:
        combination = sum((c * term for c, term in zip(coefficients, terms, strict=True)), start=sp.S.Zero)
        if sp.cancel(derivative - combination) != 0:
            raise ParameterError(f"{quantity} of {pooling} pooling is not a combination of {basis}")
    result = sum((c * term for c, term in zip(coefficients, basis, strict=True)), start=sp.S.Zero)
    return tidy(result)


def _coefficients(expression: sp.Expr, terms: Sequence[sp.Expr]) -> list[sp.Expr]:
    """Rational coefficients that write the expression in the terms, found at rational points (proved by the caller)."""
    symbols = sorted(expression.free_symbols.union(*(term.free_symbols for term in terms)), key=str)
    draw = random.Random(0)
    rows = []
    for _ in range(len(terms) + 2):
        point = {symbol: sp.Rational(draw.randint(1, 99), draw.randint(1, 99)) for symbol in symbols}
        rows.append([sp.sympify(term).xreplace(point) for term in (*terms, expression)])
    unknowns = sp.symbols(f"c:{len(terms)}")
    solution = next(iter(sp.linsolve(sp.Matrix(rows), *unknowns)), None)
    if solution is None:
        raise ParameterError(f"no rational combination of {list(terms)} gives {expression}")
    if any(value.free_symbols for value in solution):
        raise ParameterError(f"the terms {list(terms)} depend on each other: no verdict could be trusted")
    return list(solution)


def tidy(expression: sp.Expr) -> sp.Expr:
    """One fraction, its numerator collected by the weight's slope."""
    numerator, denominator = sp.fraction(sp.together(expression))
    return sp.collect(sp.expand(numerator), (SLOPE, sp.exp(X))) / denominator


def verdict(printed: sp.Expr, derived: sp.Expr) -> str:
    """Say whether two expressions in the paper's symbols are equal, and by what the derived one differs if not."""
    difference = tidy(derived - printed)
    return "equal" if difference == 0 else f"differs by {difference}"


# ---------------------------------------------------------------------------------------------------------------------
# what the paper prints

HIERARCHICAL_TOTAL = (W + (XHAT - Y) * SLOPE) / TOTAL  # A-11, with sum_n dw_n/dx_i = w'_i by Eq. 2
SUM_X, SUM_EXP = TABLE_1["linear"][TOTAL], TABLE_1["exponential"][TOTAL]

PRINTED_EQUATIONS: tuple[tuple[str, str, str, sp.Expr], ...] = (
    ("6", "linear", "dy/dx_i", (2 * X - Y) / SUM_X),
    ("7", "linear", "ŵ_j", TABLE_1["linear"][SEGMENT_TOTAL] / SEGMENT_LENGTH),
    ("8", "linear", "dy/dx_i", (X + XHAT - Y) / SUM_X),
    ("A-8, 1st line", "any", "dx̂_j/dx_i", W / SEGMENT_TOTAL),
    ("A-8", "any", "(∂y/∂x̂_j)(dx̂_j/dx_i)", W / TOTAL),
    ("A-9", "any", "(∂y/∂ŵ_j)(dŵ_j/dx_i)", (XHAT - Y) / TOTAL * SLOPE),
    ("A-10", "attention", "(∂y/∂ŵ_j)(∂ŵ_j/∂w_i)", (XHAT - Y) / TOTAL),
    ("A-11", "any", "dy/dx_i", HIERARCHICAL_TOTAL),
    ("A-12", "average", "Σ_n dw_n/dx_i", sp.S.Zero),
    ("A-13", "average", "dy/dx_i", 1 / N_FRAMES),
    ("A-15", "max", "Σ_n dw_n/dx_i", sp.S.Zero),
    ("A-16", "max", "dy/dx_i", IS_LARGEST),
    ("A-17", "linear", "Σ_n dw_n/dx_i", sp.S.One),
    ("A-18", "linear", "dy/dx_i", (X + XHAT - Y) / SUM_X),
    ("A-19", "exponential", "Σ_n dw_n/dx_i", sp.exp(X)),
    ("A-20", "exponential", "dy/dx_i", (1 + XHAT - Y) * sp.exp(X) / SUM_EXP),
    ("A-21", "attention", "Σ_n dw_n/dx_i", sp.S.Zero),
    ("A-22", "attention", "dy/dx_i", W / TOTAL),
    ("A-23, item left out", "attention", "(∂y/∂x̂_j)(∂x̂_j/∂w_i)", sp.S.Zero),
    ("A-23", "attention", "dy/dw_i", (XHAT - Y) / TOTAL),
)
"""(equation, pooling, quantity, printed expression), in the paper's order; A-3 and A-7 have their own functions."""

PRINTED_TABLE_A1: tuple[tuple[str, str, sp.Expr, sp.Expr], ...] = (
    ("max", "dy/dx_i", IS_LARGEST, IS_LARGEST),
    ("average", "dy/dx_i", 1 / N_FRAMES, 1 / N_FRAMES),
    ("linear", "dy/dx_i", (2 * X - Y) / SUM_X, (X + XHAT - Y) / SUM_X),
    ("exponential", "dy/dx_i", (1 + X - Y) * sp.exp(X) / SUM_EXP, (1 + XHAT - Y) * sp.exp(X) / SUM_EXP),
    ("attention", "dy/dx_i", W / TOTAL, W / TOTAL),
    ("attention", "dy/dw_i", (X - Y) / TOTAL, (XHAT - Y) / TOTAL),
)
"""(pooling, quantity, left column, right column) of Table A-1."""


def _compare(
    equation: str, pooling: str, quantity: str, printed: sp.Expr, n_frames: int, segment_lengths: tuple[int, ...]
) -> Verdict:
    true = derive(quantity, pooling, n_frames, segment_lengths)
    stopped = derive(quantity, pooling, n_frames, segment_lengths, stop_gradient=True)
    shown, *derived = (str(expression) for expression in (printed, true, stopped))
    return Verdict(
        equation, pooling, quantity, shown, derived[0], verdict(printed, true), derived[1], verdict(printed, stopped)
    )


def _frame(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    return pd.DataFrame([asdict(row) for row in verdicts])


def symbolic_loss() -> pd.DataFrame:
    """Check Eq. A-3, both lines, against the derivative of Eq. A-1.

    Returns
    -------
    DataFrame
        One row per printed expression: equation, printed, derived, verdict.
    """
    y, t = sp.symbols("y t", positive=True)
    derived = sp.diff(-t * sp.log(y) - (1 - t) * sp.log(1 - y), y)
    printed = {
        "A-3, 1st line": (-t / y + (1 - t) / (1 - y), derived),
        "A-3, t = 0": (1 / (1 - y), derived.subs(t, 0)),
        "A-3, t = 1": (-1 / y, derived.subs(t, 1)),
    }
    rows = []
    for equation, (shown, truth) in printed.items():
        difference = sp.simplify(truth - shown)
        outcome = "equal" if difference == 0 else f"differs by {difference}"
        rows.append({"equation": equation, "printed": str(shown), "derived": str(truth), "verdict": outcome})
    return pd.DataFrame(rows)


def symbolic_equations() -> pd.DataFrame:
    """Check each printed equation of Sec. 2.4 and the appendix, in two stages (6 frames, segments of 3).

    Returns
    -------
    DataFrame
        One row per equation, with the fields of `Verdict`.
    """
    rows = [_compare(*equation, *TWO_STAGES) for equation in PRINTED_EQUATIONS]
    position = next(k for k, row in enumerate(rows) if row.equation.startswith("A-8"))
    return _frame([*rows[:position], _chain_rule(), *rows[position:]])


def _chain_rule() -> Verdict:
    """Eq. A-7: whether its two items, each derived, add up to the derivative, derived at once."""
    items = ("(∂y/∂x̂_j)(dx̂_j/dx_i)", "(∂y/∂ŵ_j)(dŵ_j/dx_i)")
    outcomes = []
    for stopped in (False, True):
        chain = sum((derive(item, "any", *TWO_STAGES, stopped) for item in items), start=sp.S.Zero)
        derived = derive("dy/dx_i", "any", *TWO_STAGES, stopped)
        outcomes += [str(derived), verdict(chain, derived)]
    return Verdict("A-7", "any", "dy/dx_i", " + ".join(items), *outcomes)


def symbolic_table() -> pd.DataFrame:
    """Check the twelve cells of Table A-1 against both derivatives of the hierarchical y, in two stages.

    Returns
    -------
    DataFrame
        Two rows per row of the table, left column first, with the fields of `Verdict`.
    """
    return _frame(
        [
            _compare(f"Table A-1, {column}", pooling, quantity, printed, *TWO_STAGES)
            for pooling, quantity, *cells in PRINTED_TABLE_A1
            for column, printed in zip(("single", "hierarchical"), cells, strict=True)
        ]
    )


def symbolic_three_stages() -> pd.DataFrame:
    """Check Table A-1's right column where there are three stages (8 frames, 4 segments of 2, 2 of 2).

    Returns
    -------
    DataFrame
        One row per cell, with the fields of `Verdict`.
    """
    return _frame(
        [
            _compare("Table A-1, hierarchical", pooling, quantity, printed, *THREE_STAGES)
            for pooling, quantity, _, printed in PRINTED_TABLE_A1
        ]
    )


def symbolic_identities() -> pd.DataFrame:
    """Compare Eqs. 3-5 with Eq. 1, value and true gradient, in two and in three stages.

    Returns
    -------
    DataFrame
        One row per pooling function and clip: pooling, n_frames, segment_lengths, then the verdicts on y and dy/dx_i,
        and on dy/dw_i where the weights do not depend on the frames.
    """
    rows = []
    for n_frames, segment_lengths in (TWO_STAGES, THREE_STAGES):
        for pooling in TABLE_1:
            difference = symbolic_clip(n_frames, segment_lengths, pooling).y - symbolic_clip(n_frames, (), pooling).y
            difference = sp.cancel(difference)
            row = {"pooling": pooling, "n_frames": n_frames, "segment_lengths": segment_lengths}
            row["y"] = "equal" if difference == 0 else f"differs by {difference}"
            for quantity in ("dy/dx_i", "dy/dw_i")[: 2 if pooling == "attention" else 1]:
                single = derive(quantity, pooling, n_frames, ())
                row[quantity] = verdict(single, derive(quantity, pooling, n_frames, segment_lengths))
            rows.append(row)
    return pd.DataFrame(rows).fillna("")


# ---------------------------------------------------------------------------------------------------------------------
# symbolic -> lambdify -> autograd


def symbolic_gradient(
    quantity: str, *, pooling: str, structure: str, n_frames: int, segment_lengths: tuple[int, ...], largest: int = 0
) -> Callable[..., list[float]]:
    """Turn the derivative at every frame into a numerical function of x_1, ..., x_N, w_1, ..., w_N.

    Parameters
    ----------
    quantity : {"dy/dx_i", "dy/dw_i"}
        Which derivative.
    pooling, structure : str
        A row of Table 1 and one of `STRUCTURES`.
    n_frames, segment_lengths : int, tuple of int
        The clip.
    largest : int
        Index of the largest frame; used by max pooling only.

    Returns
    -------
    callable
        Function of 2 N numbers that returns N numbers.
    """
    lengths = () if structure == "single" else segment_lengths
    clip = symbolic_clip(n_frames, lengths, pooling, stop_gradient=structure == "appendix", largest=largest)
    names = {name: expression for expression, name in clip.opaque.items() if pooling == "exponential"}
    derivatives = [QUANTITIES[quantity](clip, i).xreplace(names) for i in range(n_frames)]
    arguments = [*clip.x, *symbolic_weights(clip.x, "attention")]
    return sp.lambdify(arguments, derivatives, modules="numpy", cse=True)


def three_ways(
    n_frames: int = 8, segment_lengths: tuple[int, ...] = (2, 2), *, n_draws: int = 20, seed: int = 0
) -> pd.DataFrame:
    """Compare three gradients at random clips: SymPy's, automatic differentiation's and the closed form.

    Parameters
    ----------
    n_frames, segment_lengths : int, tuple of int
        The clips.
    n_draws : int
        How many random clips.
    seed : int
        Seed of the draws.

    Returns
    -------
    DataFrame
        One row per pooling function, structure and derivative: the largest absolute gradient, and the largest absolute
        difference of automatic differentiation (float64) from the other two.
    """
    draw = np.random.default_rng(seed)
    clips = [(draw.uniform(0.02, 0.98, n_frames), draw.uniform(0.02, 1.0, n_frames)) for _ in range(n_draws)]
    rows = []
    for pooling in POOLINGS:
        for structure in STRUCTURES:
            for quantity in ("dy/dx_i", "dy/dw_i")[: 2 if pooling == "attention" else 1]:
                symbolic = lru_cache(maxsize=None)(
                    lambda k, q=quantity, p=pooling, s=structure: symbolic_gradient(
                        q, pooling=p, structure=s, n_frames=n_frames, segment_lengths=segment_lengths, largest=k
                    )
                )
                size, from_symbolic, from_closed = 0.0, 0.0, 0.0
                for x, w in clips:
                    automatic = _autograd(quantity, x, w, pooling, structure, segment_lengths)
                    largest = int(x.argmax()) if pooling == "max" else 0
                    differentiated = np.array(symbolic(largest)(*x, *w), dtype=np.float64)
                    closed = _closed_form(quantity, x, w, pooling, structure, segment_lengths)
                    size = max(size, float(np.abs(automatic).max()))
                    from_symbolic = max(from_symbolic, float(np.abs(automatic - differentiated).max()))
                    from_closed = max(from_closed, float(np.abs(automatic - closed).max()))
                rows.append(
                    {
                        "pooling": pooling,
                        "structure": structure,
                        "quantity": quantity,
                        "largest_gradient": size,
                        "autograd_minus_symbolic": from_symbolic,
                        "autograd_minus_closed_form": from_closed,
                    }
                )
    return pd.DataFrame(rows)


def _autograd(
    quantity: str, x: np.ndarray, w: np.ndarray, pooling: str, structure: str, segment_lengths: Sequence[int]
) -> np.ndarray:
    frame_prob, attention = (torch.tensor(v).reshape(1, -1, 1).requires_grad_() for v in (x, w))
    y = pool(frame_prob, attention, pooling=pooling, structure=structure, segment_lengths=segment_lengths)
    (gradient,) = torch.autograd.grad(y.sum(), frame_prob if quantity == "dy/dx_i" else attention)
    return gradient.flatten().numpy()


def _closed_form(
    quantity: str, x: np.ndarray, w: np.ndarray, pooling: str, structure: str, segment_lengths: Sequence[int]
) -> np.ndarray:
    if quantity == "dy/dw_i":
        return gradients.dy_dw(x, w, structure=structure, segment_lengths=segment_lengths)
    return gradients.dy_dx(x, pooling=pooling, structure=structure, segment_lengths=segment_lengths, attention=w)
