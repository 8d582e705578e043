"""When a hierarchy of weighted means is one weighted mean: the identity of Eqs. 3-5 with Eq. 1, and its condition.

Conventions: of segment j, ``A_j`` is the sum of weight times value over its frames, ``B_j`` the sum of weights, ``M_j``
their number and ``W_j`` the weight that the hierarchy gives it.
"""

from __future__ import annotations

import pandas as pd
import sympy as sp

from hpsed_lib.theory.derivation import SLOPE, W, X, symbolic_weights, verdict, weighted_mean

_A, _B = sp.IndexedBase("A"), sp.IndexedBase("B")
_J, _LENGTH = sp.symbols("j M", integer=True, positive=True)
_DIVISOR = sp.Symbol("D", positive=True)  # product of the lengths so far
A1, A2, B1, B2, M1, M2, W1, W2 = sp.symbols("A_1 A_2 B_1 B_2 M_1 M_2 W_1 W_2", positive=True)


def _row(statement: str, derived: sp.Expr, claimed: sp.Expr) -> dict[str, str]:
    outcome = verdict(claimed, derived, simplify=sp.simplify)
    return {"statement": statement, "derived": str(sp.simplify(derived)), "claimed": str(claimed), "verdict": outcome}


def induction() -> pd.DataFrame:
    """Prove by induction over the stages what Eqs. 3-5 give for any weights, any M and any number of stages.

    The claim for one stage: each segment has the prediction ``A / B`` and the weight ``B / D``, where D, the product of
    the lengths so far, is the same for all segments. Of a frame A is ``w x`` and B is ``w``. For the stop-gradient
    algorithm: ``dx_hat / dx_i`` is ``w_i / B``, and a segment's weight has the derivative ``w'_i / D``.
    """
    weight, value = _B[_J] / _DIVISOR, _A[_J] / _B[_J]
    terms = (sp.cancel(weight * value), weight, _A[_J], _B[_J])  # M segments of the stage before make one of the next
    sum_wx, sum_w, sum_a, sum_b = (sp.Sum(term, (_J, 1, _LENGTH)) for term in terms)
    rows = [
        _row("a frame's prediction", W * X / W, X),
        _row("a frame's weight, D = 1", W / _DIVISOR.subs(_DIVISOR, 1), W),
        _row("next stage: prediction (Eq. 3)", sum_wx / sum_w, sum_a / sum_b),
        _row("next stage: weight (Eq. 4)", sum_w / _LENGTH, sum_b / (_DIVISOR * _LENGTH)),
        _row("last stage: y (Eq. 5)", sum_wx / sum_w, sum_a / sum_b),
    ]
    # The same for the derivatives of the stop-gradient algorithm: v and b are the prediction and the sum of weights of
    # the segment that holds frame i, r and s those of the others.
    v, b, r, s = sp.symbols("v b r s", positive=True)
    y, whole = weighted_mean([v, r], [b / _DIVISOR, s / _DIVISOR]), b + s
    by_value = sp.diff(y, v)
    own_weight = sp.Symbol("u", positive=True)
    by_path = sp.diff((own_weight + s / _DIVISOR) / _LENGTH, own_weight)
    by_weight = sp.diff(weighted_mean([v, r], [own_weight, s / _DIVISOR]), own_weight).subs(own_weight, b / _DIVISOR)
    of_frame = by_value * W / b + by_weight * SLOPE / _DIVISOR
    rows += [
        _row("stop-gradient, a frame: dx/dx_i", W / W, sp.S.One),
        _row("stop-gradient, next stage: dx̂/dx_i (Eq. 3)", by_value * W / b, W / whole),
        _row("stop-gradient, next stage: dŵ/dx_i (Eq. 4)", by_path * SLOPE / _DIVISOR, SLOPE / (_DIVISOR * _LENGTH)),
        _row("stop-gradient, last stage: dy/dx_i (Eq. 5)", of_frame, (W + (v - y) * SLOPE) / whole),
        _row("stop-gradient, last stage: dy/dw_i (Eq. 5)", by_weight / _DIVISOR, (v - y) / whole),
    ]
    return pd.DataFrame(rows)


def difference_from_single() -> sp.Expr:
    """What a hierarchy of two segments adds to Eq. 1, factored; one segment may stand for several.

    ``sum_j W_j (A_j / B_j) / sum_j W_j - sum_j A_j / sum_j B_j``.
    """
    return sp.factor(weighted_mean([A1 / B1, A2 / B2], [W1, W2]) - (A1 + A2) / (B1 + B2))


def hierarchies() -> pd.DataFrame:
    """Which ways of weighting segments collapse to Eq. 1: where the condition, ``W_1 B_2 - W_2 B_1``, vanishes."""
    f, same = sp.Function("f"), (sp.S.One, sp.S.One)
    cases = {
        "Eq. 4: mean of the segment's weights, equal lengths": (B1 / _LENGTH, B2 / _LENGTH),
        "sum of the segment's weights, any lengths": (B1, B2),
        "sum over a common M, unequal lengths": (B1 / _LENGTH, B2 / _LENGTH),
        "mean over the segment's own length, unequal lengths": (B1 / M1, B2 / M2),
        "every segment the same weight": same,
        "the weight of the segment's prediction, f(x̂_j)": (f(A1 / B1), f(A2 / B2)),
        "linear softmax of the predictions, f(x̂_j) = x̂_j": (A1 / B1, A2 / B2),
        "average pooling of the predictions, equal lengths": same,
    }
    rows = []
    for name, (w1, w2) in cases.items():
        other = B1 if name.startswith("average") else B2  # there B_j is M / N for every j
        condition = sp.factor(w1 * other - w2 * B1)
        rows.append((name, w1, w2, condition, "collapses" if condition == 0 else "does not collapse"))
    return pd.DataFrame(rows, columns=["hierarchy", "W_1", "W_2", "condition", "verdict"]).map(str)


def maxima_of_segments(pooling: str) -> sp.Expr:
    """y of ``mixed`` minus y of ``single``, factored, for two segments of two frames of which the second is the larger.

    `pooling` is a function whose weights are those of its own frame; the difference is not identically zero.

    Examples
    --------
    >>> maxima_of_segments("average")
    -(x_1 - x_2 + x_3 - x_4)/4
    """
    x = sp.symbols("x_1:5", positive=True)
    weight = symbolic_weights(4, pooling, largest=3)
    return sp.factor(weighted_mean(x[1::2], weight[1::2]) - weighted_mean(x, weight))
