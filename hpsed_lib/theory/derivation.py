"""The paper's equations derived again, with SymPy, from Eqs. 1 and 3-5 and Table 1 alone (Secs. 2.2 to 2.4 and A).

Conventions
-----------
- **One frame against the rest.** The other frames enter Eqs. 3-5 only through the sum of their weights and the sum of
  weight times value. So a clip of any N, M and number of stages is a tracked frame i with one pseudo-frame for the rest
  of its segment, one for the rest of the longer segment, and so on: what is derived of this `Clip` holds for all.
- Two derivatives are taken of the same y. ``true``: of Eqs. 3-5 as they stand. ``stop-gradient``: the weights inside
  Eq. 3 are held constant, those of Eqs. 4 and 5 are not.
- ``x̂_j`` is the prediction of the first-stage segment that holds frame i, ``x̃_k`` that of the longest segment (three
  stages only), ``w'_i`` is dw_i/dx_i, ``Σw`` the sum over the whole clip, ``Σ_j w`` over segment j.
- Max pooling is derived where one frame is the largest. Eq. 3 reads 0/0 in the other segments; it takes its limit, the
  segment's largest frame.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd
import sympy as sp

from hpsed_lib.paths import replacing, results_folder

VERDICTS = results_folder("derivation") / "verdicts.csv"

# --- the paper's symbols ---

X, W, SLOPE, Y = sp.symbols("x_i w_i w'_i y")
XHAT, XTILDE, WHAT = sp.symbols("x̂_j x̃_k ŵ_j")
TOTAL, SEGMENT_TOTAL, LONGEST_TOTAL, WHAT_TOTAL = sp.symbols("Σw Σ_j_w Σ_k_w Σŵ")
N_FRAMES, SEGMENT_LENGTH = sp.symbols("N M", positive=True)
IS_LARGEST = sp.Symbol("[i=argmax]")
EXPONENT, ALPHA = sp.symbols("n alpha", positive=True)

TABLE_1: dict[str, dict[sp.Expr, sp.Expr]] = {
    "any": {},
    "max": {W: IS_LARGEST, TOTAL: sp.S.One},
    "average": {W: 1 / N_FRAMES, TOTAL: sp.S.One, SEGMENT_TOTAL: SEGMENT_LENGTH / N_FRAMES},
    "linear": {W: X, TOTAL: sp.Symbol("Σx"), SEGMENT_TOTAL: sp.Symbol("Σ_j_x")},
    "exponential": {W: sp.exp(X), TOTAL: sp.Symbol("Σexp(x)")},
    "attention": {W: W},
    "power": {W: X**EXPONENT, TOTAL: sp.Symbol("Σx^n")},
    "auto": {W: sp.exp(ALPHA * X), TOTAL: sp.Symbol("Σexp(alpha*x)")},
}
"""How each pooling function writes the weight, its slope and the sums; "any" is a weight f(x_i) left open."""

for _words in TABLE_1.values():
    if W in _words:
        _words[SLOPE] = sp.powsimp(sp.diff(_words[W], X))


# --- definitions: Eqs. 1 and 3-5 ---


def weighted_mean(x: Sequence[sp.Expr], weight: Sequence[sp.Expr]) -> sp.Expr:
    """Eq. 1, 3 or 5; the last x where every weight is zero (max pooling's limit, if the last is the largest)."""
    total = sp.Add(*weight)
    return x[-1] if total == 0 else sp.Add(*(w * v for w, v in zip(weight, x, strict=True))) / total


@dataclass(frozen=True)
class Clip:
    """A clip in symbols, seen from one frame."""

    stages: tuple[tuple[tuple[sp.Expr, ...], tuple[sp.Expr, ...]], ...]  # values and weights: frames first, segments
    index: tuple[int, ...]  # where the frame, or the segment that holds it, stands in each stage
    held: dict[sp.Expr, sp.Expr]  # constants for the weights inside Eq. 3, and their values; with the stop-gradient
    meaning: dict[sp.Expr, sp.Expr]  # what each of the paper's symbols stands for

    @property
    def y(self) -> sp.Expr:
        """Eq. 1 or 5."""
        return weighted_mean(*self.stages[-1])

    def at(self, stage: int) -> tuple[sp.Expr, sp.Expr]:
        """Value and weight of the frame (0), or of the longest segment that holds it (-1)."""
        values, weights = self.stages[stage]
        return values[self.index[stage]], weights[self.index[stage]]

    def derivative(self, expression: sp.Expr, variable: sp.Expr) -> sp.Expr:
        """Differentiate, then give the held weights their values."""
        return sp.diff(expression, variable).xreplace(self.held)


def _hold(held: dict[sp.Expr, sp.Expr], weight: sp.Expr, stop_gradient: bool) -> sp.Expr:
    if not stop_gradient or weight.is_number:
        return weight
    constant = sp.Dummy(positive=True)
    held[constant] = weight
    return constant


@cache
def general_clip(n_stages: int, *, by_weight: bool = False, stop_gradient: bool = False) -> Clip:
    """One frame against the rest: any N, any M, any weights.

    One stage is single pooling; two have segments, three segments of segments (Figure 4). The weight is f(x_i) or,
    `by_weight`, a variable of its own (attention); `stop_gradient` holds the weights inside Eq. 3 constant. ``meaning``
    reads backwards: what the pseudo-frames are, in the paper's symbols.
    """
    f = sp.Function("f")(X)
    held: dict[sp.Expr, sp.Expr] = {}
    meaning: dict[sp.Expr, sp.Expr] = {}
    stages = []
    value, whole = X, W if by_weight else f  # of the frame, then of the segment that holds it
    inside, sum_inside = X, W  # the same in the paper's symbols: weighted mean so far, and sum of weights so far
    divided_by = sp.S.One  # Eq. 4 divides the weights by M in every stage
    names = [*[(XHAT, SEGMENT_TOTAL), (XTILDE, LONGEST_TOTAL)][: n_stages - 1], (Y, TOTAL)]
    for stage, (mean, total) in enumerate(names, start=1):
        rest, rest_weight = sp.symbols(f"r_{stage} b_{stage}", positive=True)
        meaning[rest_weight] = total - sum_inside
        meaning[rest] = (mean * total - inside * sum_inside) / (total - sum_inside)
        inside, sum_inside = mean, total
        values, weights = (value, rest), (whole, rest_weight / divided_by)
        stages.append((values, weights))
        if stage < n_stages:
            length = SEGMENT_LENGTH if stage == 1 else sp.Symbol(f"M_{stage}", positive=True)
            value = weighted_mean(values, [_hold(held, w, stop_gradient) for w in weights])  # Eq. 3
            whole = sp.Add(*weights) / length  # Eq. 4
            divided_by *= length
    return Clip(tuple(stages), (0,) * n_stages, held, meaning | {sp.Derivative(f, X): SLOPE, f: W})


def concrete_clip(
    n_frames: int,
    segment_lengths: Sequence[int],
    pooling: str,
    *,
    frame: int = 0,
    stop_gradient: bool = False,
    largest: int = 0,
) -> Clip:
    """A whole clip in symbols x_1, ..., x_N, pooled by Eqs. 3-5 (Eq. 1 where there are no segments), seen from a frame.

    `stop_gradient` as in `general_clip`. Of max pooling `largest` is the largest frame; of the others, the later ones
    are larger.
    """
    x, weight = frame_symbols(n_frames), symbolic_weights(n_frames, pooling, largest)
    held: dict[sp.Expr, sp.Expr] = {}
    stages, index = [(x, weight)], [frame]
    for length in segment_lengths:
        values, weights = stages[-1]
        inner = tuple(_hold(held, w, stop_gradient) for w in weights)
        cuts = [slice(start, start + length) for start in range(0, len(values), length)]
        means = tuple(weighted_mean(values[cut], inner[cut]) for cut in cuts)  # Eq. 3
        stages.append((means, tuple(sp.Add(*weights[cut]) / length for cut in cuts)))  # Eq. 4
        index.append(index[-1] // length)
    clip = Clip(tuple(stages), tuple(index), held, {})
    first = min(1, len(segment_lengths))
    lengths = [n_frames // len(values) for values, _ in stages]
    sums = [sp.Add(*weight[place * length :][:length]) for place, length in zip(index, lengths, strict=True)]
    meaning = {
        X: x[frame],
        W: weight[frame],
        SLOPE: sp.diff(weight[frame], x[frame]),
        Y: clip.y.xreplace(held),
        XHAT: clip.at(first)[0].xreplace(held),
        XTILDE: clip.at(-1)[0].xreplace(held),
        TOTAL: sp.Add(*weight),
        SEGMENT_TOTAL: sums[first],
        LONGEST_TOTAL: sums[-1],
        N_FRAMES: sp.Integer(n_frames),
        SEGMENT_LENGTH: sp.Integer(lengths[first]),
        IS_LARGEST: sp.Integer(frame == largest),
    }
    meaning |= {TABLE_1[pooling].get(total, total): meaning[total] for total in (TOTAL, SEGMENT_TOTAL)}
    clip.meaning.update({symbol: value for symbol, value in meaning.items() if symbol.is_Symbol})
    return clip


def frame_symbols(n_frames: int) -> tuple[sp.Symbol, ...]:
    """x_1, ..., x_N."""
    return sp.symbols(f"x_1:{n_frames + 1}", positive=True)


def symbolic_weights(n_frames: int, pooling: str, largest: int = 0) -> tuple[sp.Expr, ...]:
    """Weights of x_1, ..., x_N by Table 1 (frame `largest` is the largest, for max pooling)."""
    symbols = zip(frame_symbols(n_frames), sp.symbols(f"w_1:{n_frames + 1}", positive=True), strict=True)
    n = sp.Integer(n_frames)
    return tuple(_weight(pooling, x, w, n, sp.Integer(i == largest)) for i, (x, w) in enumerate(symbols))


def _weight(pooling: str, *symbols: sp.Expr) -> sp.Expr:
    return TABLE_1[pooling][W].xreplace(dict(zip((X, W, N_FRAMES, IS_LARGEST), symbols, strict=True)))


# --- what the paper's equations state, each as a function of a clip ---


def _partial(clip: Clip, k: int) -> sp.Expr:
    """Partial derivative of Eq. 5 by the segment's prediction (k = 0) or by its weight (1), the other kept."""
    values, weights = clip.stages[-1]
    symbols = [sp.symbols(f"{name}:{len(values)}", positive=True) for name in "vu"]
    partial = sp.diff(weighted_mean(*symbols), symbols[k][clip.index[-1]])
    return partial.xreplace(dict(zip((*symbols[0], *symbols[1]), (*values, *weights), strict=True))).xreplace(clip.held)


def _path(clip: Clip, k: int, variable: sp.Expr) -> sp.Expr:
    """What `variable` does to y through the segment's prediction (k = 0) or through its weight (1)."""
    return _partial(clip, k) * clip.derivative(clip.at(-1)[k], variable)


FIRST, SECOND = "(∂y/∂x̂_j)(dx̂_j/dx_i)", "(∂y/∂ŵ_j)(dŵ_j/dx_i)"
W_PATH, SLOPES = "(∂y/∂ŵ_j)(∂ŵ_j/∂w_i)", "Σ_n dw_n/dx_i"

QUANTITIES: dict[str, Callable[[Clip], sp.Expr]] = {
    "y": lambda clip: clip.y.xreplace(clip.held),
    "ŵ_j": lambda clip: clip.at(-1)[1],
    "dy/dx_i": lambda clip: clip.derivative(clip.y, clip.at(0)[0]),
    "dy/dw_i": lambda clip: clip.derivative(clip.y, clip.at(0)[1]),
    "dx̂_j/dx_i": lambda clip: clip.derivative(clip.at(-1)[0], clip.at(0)[0]),
    "∂y/∂ŵ_j": lambda clip: _partial(clip, 1),
    FIRST: lambda clip: _path(clip, 0, clip.at(0)[0]),
    SECOND: lambda clip: _path(clip, 1, clip.at(0)[0]),
    W_PATH: lambda clip: _path(clip, 1, clip.at(0)[1]),
    SLOPES: lambda clip: clip.derivative(sp.Add(*clip.stages[0][1]), clip.at(0)[0]),
}
"""What the printed equations are about."""


@cache
def derive(quantity: str, pooling: str = "any", *, n_stages: int = 2, stop_gradient: bool = False) -> sp.Expr:
    """Derive one quantity (a key of `QUANTITIES`) from the definitions, for any N and M, in the paper's symbols.

    Options as in `general_clip`; `pooling` is a key of `TABLE_1`.

    Examples
    --------
    >>> derive("dy/dx_i", "linear", n_stages=1)
    (2*x_i - y)/Σx
    >>> derive("dy/dx_i", "linear", stop_gradient=True)
    (x_i + x̂_j - y)/Σx
    """
    clip = general_clip(n_stages, by_weight=quantity in ("dy/dw_i", W_PATH), stop_gradient=stop_gradient)
    derived = QUANTITIES[quantity](clip).doit().subs(clip.meaning)
    return in_words_of(pooling, sp.cancel(sp.together(derived)))


def in_words_of(pooling: str, expression: sp.Expr) -> sp.Expr:
    """The expression with one pooling function's weight, slope and sums put in, as one tidy fraction."""
    words = {WHAT_TOTAL: TOTAL / SEGMENT_LENGTH, WHAT: SEGMENT_TOTAL / SEGMENT_LENGTH}
    return tidy(expression.xreplace(words).xreplace(TABLE_1[pooling]))


def tidy(expression: sp.Expr) -> sp.Expr:
    """One fraction, its numerator collected by the weight's slope."""
    numerator, denominator = sp.fraction(sp.cancel(sp.together(sp.powsimp(sp.expand(expression)))))
    powers = (SLOPE, sp.exp(X), sp.exp(ALPHA * X), X**EXPONENT)
    return sp.collect(sp.powsimp(sp.expand(numerator)), powers) / denominator


def verdict(printed: sp.Expr, derived: sp.Expr, *, simplify: Callable[[sp.Expr], sp.Expr] = tidy) -> str:
    """Whether two expressions are equal: "equal", or "differs by" the derived minus the printed one."""
    difference = simplify(derived - printed)
    return "equal" if difference == 0 else f"differs by {difference}"


# --- what the paper prints: gradients ---


GENERAL = (W + (XHAT - Y) * SLOPE) / TOTAL  # A-11, with Σ_n dw_n/dx_i = w'_i by Eq. 2
SUM_X, SUM_EXP = TABLE_1["linear"][TOTAL], TABLE_1["exponential"][TOTAL]
_PARTS = _FIRST, _SECOND, _W_PATH, _BY_WHAT = [sp.Symbol(name) for name in (FIRST, SECOND, W_PATH, "∂y/∂ŵ_j")]
_QUOTIENT = (XHAT * WHAT_TOTAL - Y * WHAT_TOTAL) / WHAT_TOTAL**2 / SEGMENT_LENGTH
_MEAN_WEIGHT = SEGMENT_TOTAL / SEGMENT_LENGTH
PRINTED_GRADIENTS: list[tuple[Any, ...]] = [
    ("6", "linear", "dy/dx_i", (2 * X - Y) / SUM_X),
    ("7, line 1", "linear", "ŵ_j", _MEAN_WEIGHT),
    ("7, line 2", "linear", "ŵ_j", TABLE_1["linear"][SEGMENT_TOTAL] / SEGMENT_LENGTH),
    ("8, line 1", "linear", "dy/dx_i", _FIRST + _SECOND, f"Σ_l {FIRST} + {SECOND}"),
    ("8, line 2", "linear", "dy/dx_i", (X + XHAT - Y) / SUM_X),
    ("A-7, line 1", "any", "dy/dx_i", _FIRST + _SECOND, f"Σ_l {FIRST} + {SECOND}"),
    ("A-7, line 2", "any", "dy/dx_i", _FIRST + _SECOND, f"{FIRST} + {SECOND}"),
    ("A-8, line 1", "any", FIRST, WHAT / WHAT_TOTAL * W / SEGMENT_TOTAL),
    ("A-8, line 2", "any", FIRST, _MEAN_WEIGHT / WHAT_TOTAL * W / SEGMENT_TOTAL, "(Σ_j_w/M)/Σŵ*w_i/Σ_j_w"),
    ("A-8, line 3", "any", FIRST, W / (SEGMENT_LENGTH * WHAT_TOTAL)),
    ("A-8, line 4", "any", FIRST, W / TOTAL),
    ("A-9, line 1", "any", SECOND, _BY_WHAT * SLOPE / SEGMENT_LENGTH, "∂y/∂ŵ_j Σ_n (∂ŵ_j/∂w_n)(∂w_n/∂x_i)"),
    ("A-9, line 2", "any", SECOND, _BY_WHAT * SLOPE / SEGMENT_LENGTH, "Σ_n (∂y/∂ŵ_j)(∂ŵ_j/∂w_n)(∂w_n/∂x_i)"),
    ("A-10, line 1", "attention", W_PATH, _QUOTIENT, "(x̂_j Σŵ - Σŵx̂)/((Σŵ)**2 M)"),
    ("A-10, line 2", "attention", W_PATH, (XHAT - Y) / WHAT_TOTAL / SEGMENT_LENGTH),
    ("A-10, line 3", "attention", W_PATH, (XHAT - Y) / TOTAL),
    ("A-11, line 1", "any", "dy/dx_i", W / TOTAL + (XHAT - Y) / TOTAL * SLOPE),
    ("A-11, line 2", "any", "dy/dx_i", GENERAL),
    ("A-12", "average", SLOPES, sp.S.Zero),
    ("A-13", "average", "dy/dx_i", 1 / N_FRAMES),
    ("A-15", "max", SLOPES, sp.S.Zero),
    ("A-16", "max", "dy/dx_i", IS_LARGEST),
    ("A-17", "linear", SLOPES, sp.S.One),
    ("A-18, line 1", "linear", "dy/dx_i", W / TOTAL + (XHAT - Y) / TOTAL),
    ("A-18, line 2", "linear", "dy/dx_i", (X + XHAT - Y) / SUM_X),
    ("A-19", "exponential", SLOPES, sp.exp(X)),
    ("A-20, line 1", "exponential", "dy/dx_i", W / TOTAL + (XHAT - Y) / TOTAL * sp.exp(X)),
    ("A-20, line 2", "exponential", "dy/dx_i", (1 + XHAT - Y) * sp.exp(X) / SUM_EXP),
    ("A-21", "attention", SLOPES, sp.S.Zero),
    ("A-22", "attention", "dy/dx_i", W / TOTAL),
    ("A-23, line 1", "attention", "dy/dw_i", _W_PATH, f"Σ_l {W_PATH}"),
    ("A-23, line 2", "attention", "dy/dw_i", _W_PATH),
    ("A-23, line 3", "attention", "dy/dw_i", (XHAT - Y) / TOTAL),
]
"""Every line of Sec. 2.4 and of Eqs. A-7 to A-23 that states a gradient or a factor of one, in the paper's order.

Equation, pooling, quantity, expression and, of chain rules, text: their parts stand for derivatives, true or stopped.
"""

PRINTED_TABLE_A1 = (
    ("max", "dy/dx_i", IS_LARGEST, IS_LARGEST),
    ("average", "dy/dx_i", 1 / N_FRAMES, 1 / N_FRAMES),
    ("linear", "dy/dx_i", (2 * X - Y) / SUM_X, (X + XHAT - Y) / SUM_X),
    ("exponential", "dy/dx_i", (1 + X - Y) * sp.exp(X) / SUM_EXP, (1 + XHAT - Y) * sp.exp(X) / SUM_EXP),
    ("attention", "dy/dx_i", W / TOTAL, W / TOTAL),
    ("attention", "dy/dw_i", (X - Y) / TOTAL, (XHAT - Y) / TOTAL),
)
"""(pooling, quantity, left column, right column) of Table A-1."""


def _row(
    equation: str, pooling: str, quantity: str, expression: sp.Expr, text: str = "", *, n_stages: int = 2
) -> dict[str, str]:
    """A printed line beside the true derivative and beside that of the stop-gradient algorithm."""
    row = {"equation": equation, "pooling": pooling, "quantity": quantity, "printed": text or str(expression)}
    for name, stop in (("true", False), ("stop_gradient", True)):
        derived = derive(quantity, pooling, n_stages=n_stages, stop_gradient=stop)
        parts = {part: derive(part.name, stop_gradient=stop) for part in _PARTS}
        printed = in_words_of(pooling, expression.xreplace(parts))
        row |= {name: str(derived), f"{name}_verdict": verdict(printed, derived)}
    return row


def gradient_verdicts() -> pd.DataFrame:
    """Check each of the `PRINTED_GRADIENTS`, for any N and M."""
    return pd.DataFrame([_row(*line) for line in PRINTED_GRADIENTS])


def table_a1_verdicts(*, n_stages: int = 2) -> pd.DataFrame:
    """Check the cells of Table A-1, for any N and M, in two stages as in the appendix, or three as in Figure 4."""
    return pd.DataFrame(
        _row(f"Table A-1, {column}", pooling, quantity, cell, n_stages=n_stages)
        for pooling, quantity, *pair in PRINTED_TABLE_A1
        for column, cell in zip(("single", "hierarchical"), pair, strict=True)
    )


def gradients_beyond() -> pd.DataFrame:
    """Table A-1 continued: what power pooling and autopool have in the place of its two columns."""
    rows = [_row("", name, "dy/dx_i", sp.S.Zero) for name in ("power", "auto")]
    return pd.DataFrame(rows)[["pooling", "quantity", "true", "stop_gradient"]]


# --- what the paper prints: definitions, loss, chain rule ---

_I, _J, _K, _LENGTH = sp.symbols("i j k M", integer=True, positive=True)
_COUNT = sp.Symbol("N", integer=True, positive=True)
_XS, _WS = sp.IndexedBase("x"), sp.IndexedBase("w")
_SEGMENT = (_I, 1 + (_J - 1) * _LENGTH, _J * _LENGTH)


def definition_verdicts() -> pd.DataFrame:
    """Check what the definitions state, and where the appendix repeats them: Eqs. 1-5, A-1 to A-6 and A-14, Table 1.

    ``true`` is what the comparison was with: a consequence of the other definitions, or the equation repeated.
    """
    rows = [*_pooling_definitions(), *_structure_definitions(), *_loss_and_chain_rule()]
    columns = ["equation", "pooling", "quantity", "printed", "true", "true_verdict"]
    return pd.DataFrame(rows, columns=columns).map(str)


def _compare(equation: str, quantity: str, printed: sp.Expr, derived: sp.Expr, pooling: str = "all") -> tuple:
    return equation, pooling, quantity, printed, derived, verdict(printed, derived, simplify=sp.simplify)


def _pooling_definitions() -> Iterator[tuple]:
    """Eq. 1 with each weight of Table 1 against Table 1's own y; Eq. 2; Eq. A-14."""
    x, w, total = _XS[_I], _WS[_I], lambda term: sp.Sum(term, (_I, 1, _COUNT))
    printed = {
        "max": _XS[_K],  # k = argmax
        "average": total(x) / _COUNT,
        "linear": total(x**2) / total(x),
        "exponential": total(x * sp.exp(x)) / total(sp.exp(x)),
        "attention": total(w * x) / total(w),
    }
    for pooling, expression in printed.items():
        weight = _weight(pooling, x, w, _COUNT, sp.KroneckerDelta(_I, _K))
        y = sp.simplify(total(weight * x).doit() / total(weight).doit())  # Eq. 1
        yield _compare("1, with Table 1", "y", expression, sp.refine(y, (_COUNT >= _K) & (_K >= 1)), pooling)
        other = sp.diff(symbolic_weights(3, pooling, largest=2)[1], frame_symbols(3)[0])
        yield _compare("2", "dw_n/dx_i, n ≠ i", sp.S.Zero, other, pooling)
    a_14 = sp.Piecewise((1, sp.Eq(_I, _K)), (0, True))
    yield _compare("A-14", "w_i", a_14, sp.KroneckerDelta(_I, _K).rewrite(sp.Piecewise), "max")


def _structure_definitions() -> Iterator[tuple]:
    """Eqs. 3-5 and their repetition, Eqs. A-4 to A-6: the sums, and the frames that the segments cover."""
    w_sum, wx_sum = sp.Sum(_WS[_I], _SEGMENT), sp.Sum(_WS[_I] * _XS[_I], _SEGMENT)
    yield "3", "all", "x̂_j", wx_sum / w_sum, "definition", "definition"
    yield _compare("3, range of j", "last frame", _SEGMENT[2].subs(_J, _COUNT / _LENGTH), _COUNT)
    yield _compare("4", "number of weights averaged", _LENGTH, sp.simplify(sp.Sum(1, _SEGMENT).doit()))
    sums, weights = sp.symbols("Σ_1wx Σ_2wx"), sp.symbols("Σ_1w Σ_2w")  # of one segment and of all the others
    xhat = [wx / w for wx, w in zip(sums, weights, strict=True)]  # Eq. 3
    what = [w / _LENGTH for w in weights]  # Eq. 4
    eq_5, eq_1 = weighted_mean(xhat, what), sp.Add(*sums) / sp.Add(*weights)
    yield _compare("5, with Eqs. 3 and 4", "y", eq_5, eq_1)
    yield _compare("A-4", "x̂_j", sp.Sum(_XS[_I] * _WS[_I], _SEGMENT) / sp.Sum(_WS[_I], _SEGMENT), wx_sum / w_sum)
    yield _compare("A-4, range of j", "last frame", _SEGMENT[2].subs(_J, _LENGTH), _COUNT)
    yield _compare("A-5", "ŵ_j", sp.Sum(_WS[_I], _SEGMENT) / _LENGTH, sp.Sum(_WS[_I] / _LENGTH, _SEGMENT))
    a_6 = (what[0] * xhat[0] + what[1] * xhat[1]) / (what[0] + what[1])
    yield _compare("A-6", "y", a_6, eq_5)
    alone = derive("dy/dx_i", stop_gradient=True).subs({XHAT: X, SEGMENT_TOTAL: W, SEGMENT_LENGTH: 1})
    yield _compare("after A-23", "dy/dx_i where M = 1", alone, derive("dy/dx_i"))


def _loss_and_chain_rule() -> Iterator[tuple]:
    """Eqs. A-1 to A-3."""
    y, t = sp.symbols("y t", positive=True)
    loss = -t * sp.log(y) - (1 - t) * sp.log(1 - y)
    likelihood = y**t * (1 - y) ** (1 - t)
    outcomes = {_compare("A-1", "L", loss.subs(t, end), -sp.log(likelihood.subs(t, end)))[-1] for end in (0, 1)}
    yield "A-1", "all", "L, t = 0 and 1", loss, f"-log({likelihood})", " / ".join(sorted(outcomes))
    for variable in sp.symbols("x_i w_i"):
        inner = sp.Function("y")(variable)
        chain = sp.diff(sp.Function("L")(y), y).subs(y, inner) * sp.diff(inner, variable)
        whole = sp.diff(sp.Function("L")(inner), variable).doit()
        yield _compare(f"A-2, {variable}", f"dL/d{variable}", chain, whole)
    derived = sp.diff(loss, y)
    yield _compare("A-3, line 1", "∂L/∂y", -t / y + (1 - t) / (1 - y), derived)
    yield _compare("A-3, line 2, t = 0", "∂L/∂y", 1 / (1 - y), derived.subs(t, 0))
    yield _compare("A-3, line 2, t = 1", "∂L/∂y", -1 / y, derived.subs(t, 1))


def write_verdicts() -> pd.DataFrame:
    """Judge every numbered equation, line by line, and every cell of Table A-1; write `VERDICTS`, and return it."""
    table = pd.concat([definition_verdicts(), gradient_verdicts(), table_a1_verdicts()]).fillna("")
    table = table.sort_values("equation", key=lambda names: names.map(_place), kind="stable", ignore_index=True)
    with replacing(VERDICTS) as temporary:
        table.to_csv(temporary, index=False)
    return table


def _place(equation: str) -> tuple[int, int]:
    """Where an equation stands in the paper: Eqs. 1-8, then A-1 to A-23, then Table A-1."""
    part = max(k for k, start in enumerate(("", "A-", "after", "Table")) if equation.startswith(start))
    return part, int(re.findall(r"\d+", equation)[0])


# --- whole clips, frame by frame ---

CONCRETE = ((1, (1,)), (2, (1,)), (2, (2,)), (3, (3,)), (4, (1,)), (4, (2,)), (6, (3,)), (8, (2, 2)))


def check_concrete(clips: Sequence[tuple[int, tuple[int, ...]]] = CONCRETE) -> pd.DataFrame:
    """Derive every quantity again for whole clips, (frames, segment lengths), at each frame; compare with `derive`.

    In a row: how many derivatives were compared (pooling function x quantity x frame x true or stop-gradient; of max
    pooling, x largest frame), and how many were equal.
    """
    quantities = ("dy/dx_i", "dx̂_j/dx_i", FIRST, SECOND, "dy/dw_i")
    shared = {pooling: quantities[:4] for pooling in TABLE_1 if pooling != "any"}
    chosen = shared | {"max": quantities[:1], "attention": quantities}  # of max pooling, Eq. 3 may read 0/0
    rows = []
    for n_frames, lengths in clips:
        outcomes = [
            _vanishes(QUANTITIES[quantity](clip) - derived.subs(clip.meaning, simultaneous=True))
            for pooling, its_quantities in chosen.items()
            for quantity, stopped in itertools.product(its_quantities, (False, True))
            for derived in [derive(quantity, pooling, n_stages=len(lengths) + 1, stop_gradient=stopped)]
            for largest in range(n_frames if pooling == "max" else 1)
            for frame in range(n_frames)
            for clip in [concrete_clip(n_frames, lengths, pooling, frame=frame, stop_gradient=stopped, largest=largest)]
        ]
        rows.append((n_frames, lengths, len(outcomes), sum(outcomes)))
    return pd.DataFrame(rows, columns=["n_frames", "segment_lengths", "compared", "equal"])


def _vanishes(expression: sp.Expr) -> bool:
    """Whether an expression is zero for all values of its symbols; powers and exponentials count as symbols."""
    names: dict[sp.Expr, sp.Symbol] = {}

    def name(part: sp.Expr) -> sp.Expr:
        if isinstance(part, sp.exp):
            return names.setdefault(part, sp.Dummy())
        base, exponent = part.as_base_exp()  # x**(n - 1) is x**n / x
        shift = exponent.as_coefficients_dict()[sp.S.One]
        return names.setdefault(base**EXPONENT, sp.Dummy()) * base**shift

    named = expression.replace(lambda part: isinstance(part, sp.exp) or (part.is_Pow and part.exp.has(EXPONENT)), name)
    return sp.expand(sp.fraction(sp.together(named))[0]) == 0
