"""The verdicts on the printed equations, and the machinery that could get them wrong."""

from __future__ import annotations

import pytest
import sympy as sp

from hpsed_lib import derivation
from hpsed_lib.errors import ParameterError
from hpsed_lib.pooling import POOLINGS, STRUCTURES


def by_equation(frame, column):
    return dict(zip(frame["equation"], frame[column], strict=True))


def test_the_loss_gradient_is_printed_right():
    assert set(derivation.symbolic_loss()["verdict"]) == {"equal"}


def test_hierarchical_pooling_is_single_pooling_in_value_and_gradient():
    identities = derivation.symbolic_identities()
    assert set(identities["pooling"]) == {"any", *POOLINGS}
    assert set(identities["segment_lengths"]) == {(3,), (2, 2)}
    assert set(identities["y"]) == {"equal"}
    assert set(identities["dy/dx_i"]) == {"equal"}
    assert identities.loc[identities.pooling == "attention", "dy/dw_i"].tolist() == ["equal", "equal"]


def test_which_printed_equations_are_true_derivatives():
    verdicts = by_equation(derivation.symbolic_equations(), "true_verdict")
    assert {equation: text for equation, text in verdicts.items() if text != "equal"} == {
        "8": "differs by (x_i - x̂_j)/Σx",
        "A-8, 1st line": "differs by w'_i*(x_i - x̂_j)/Σ_j w",
        "A-8": "differs by w'_i*(x_i - x̂_j)/Σw",
        "A-11": "differs by w'_i*(x_i - x̂_j)/Σw",
        "A-18": "differs by (x_i - x̂_j)/Σx",
        "A-20": "differs by (x_i - x̂_j)*exp(x_i)/Σexp(x)",
        "A-23, item left out": "differs by (x_i - x̂_j)/Σw",
        "A-23": "differs by (x_i - x̂_j)/Σw",
    }
    assert len(verdicts) == 21


def test_every_printed_hierarchical_equation_belongs_to_the_stop_gradient_algorithm():
    verdicts = by_equation(derivation.symbolic_equations(), "stop_gradient_verdict")
    assert verdicts.pop("6") == "differs by (-x_i + x̂_j)/Σx"
    assert set(verdicts.values()) == {"equal"}


def test_table_a1_left_column_is_the_true_gradient_and_right_column_the_stop_gradient():
    table = derivation.symbolic_table()
    left, right = (table[table["equation"] == f"Table A-1, {c}"] for c in ("single", "hierarchical"))
    assert len(left) == len(right) == 6
    assert set(left["true_verdict"]) == set(right["stop_gradient_verdict"]) == {"equal"}
    same = ["equal"] * 2
    differ = [text != "equal" for text in right["true_verdict"]]
    assert right["true_verdict"].tolist()[:2] == same
    assert differ == [False, False, True, True, False, True]  # max, average, linear, exp., att. dy/dx, att. dy/dw
    assert [text != "equal" for text in left["stop_gradient_verdict"]] == differ


def test_in_three_stages_the_longest_segment_stands_where_the_table_has_the_first():
    table = derivation.symbolic_three_stages()
    assert table["stop_gradient_verdict"].tolist() == [
        "equal",
        "equal",
        "differs by (-x̂_j + x̃_k)/Σx",
        "differs by (-x̂_j + x̃_k)*exp(x_i)/Σexp(x)",
        "equal",
        "differs by (-x̂_j + x̃_k)/Σw",
    ]
    general = derivation.derive("dy/dx_i", "any", 8, (2, 2), stop_gradient=True)
    d = derivation
    assert sp.expand(general - (d.W + (d.XTILDE - d.Y) * d.SLOPE) / d.TOTAL) == 0


def test_symbols_autograd_and_closed_forms_agree():
    table = derivation.three_ways(n_draws=5)
    arms = {(pooling, structure) for pooling in POOLINGS for structure in STRUCTURES}
    assert set(zip(table["pooling"], table["structure"], strict=True)) == arms
    assert len(table) == 18  # attention has two derivatives
    assert table["largest_gradient"].min() > 0.01
    assert table["autograd_minus_symbolic"].max() < 1e-14
    assert table["autograd_minus_closed_form"].max() < 1e-14


# --- the machinery ---


def test_a_wrong_expression_is_called_wrong():
    derived = derivation.derive("dy/dx_i", "linear", 4, ())
    wrong = (2 * derivation.X + derivation.Y) / derivation.SUM_X  # a sign
    assert derivation.verdict(wrong, derived) == "differs by -2*y/Σx"
    assert derivation.verdict(derived, derived) == "equal"


def test_derivatives_outside_the_papers_terms_are_refused(monkeypatch):
    monkeypatch.setitem(derivation.QUANTITIES, "y squared", lambda clip, i: clip.value(clip.y) ** 2)
    with pytest.raises(ParameterError, match="no rational combination"):
        derivation.derive("y squared", "attention", 4, (2,))


def test_a_form_that_holds_at_one_frame_only_is_refused(monkeypatch):
    def wrong_after_the_first(clip, i):
        return clip.derivative(clip.y, clip.weight[i]) * (1 if i == 0 else 2)

    monkeypatch.setitem(derivation.QUANTITIES, "dy/dw_i twice)", wrong_after_the_first)
    monkeypatch.setattr(
        derivation, "_basis", lambda *_: [derivation.X / derivation.TOTAL, derivation.Y / derivation.TOTAL]
    )
    with pytest.raises(ParameterError, match="is not a combination"):
        derivation.derive("dy/dw_i twice)", "attention", 4, ())


def test_terms_that_depend_on_each_other_are_refused():
    x = derivation.X
    with pytest.raises(ParameterError, match="depend on each other"):
        derivation._coefficients(x, [x, 2 * x])


def test_definitions_are_the_papers():
    clip = derivation.symbolic_clip(4, (2,), "attention")
    x, w = clip.x, clip.weight
    segments, segment_weights = clip.stages[1]
    assert segments[1] == (w[2] * x[2] + w[3] * x[3]) / (w[2] + w[3])  # Eq. 3
    assert segment_weights[1] == (w[2] + w[3]) / 2  # Eq. 4
    y = (segment_weights[0] * segments[0] + segment_weights[1] * segments[1]) / sum(segment_weights)
    assert sp.cancel(clip.y - y) == 0  # Eq. 5


def test_unknown_weights_are_refused():
    with pytest.raises(ParameterError, match="unknown pooling 'median'"):
        derivation.symbolic_clip(4, (2,), "median")
