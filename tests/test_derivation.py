"""The verdicts on the printed equations, and the machinery that could get them wrong."""

import pandas as pd
import pytest
import sympy as sp

from hpsed_lib.theory import derivation
from hpsed_lib.theory.derivation import SLOPE, TOTAL, XTILDE, W, X, Y, derive, in_words_of, verdict
from hpsed_lib.theory.gradients import WEIGHTS


def test_printed_hierarchical_gradients_are_those_of_the_stop_gradient_algorithm_and_which_are_true():
    verdicts = derivation.gradient_verdicts().set_index("equation")
    assert len(verdicts) == 33
    assert verdicts.stop_gradient_verdict["6"] == "differs by (-x_i + x̂_j)/Σx"
    assert set(verdicts.stop_gradient_verdict.drop("6")) == {"equal"}
    first_item = "differs by w'_i*(x_i - x̂_j)/Σw"
    assert verdicts.true_verdict[verdicts.true_verdict != "equal"].to_dict() == {
        "8, line 2": "differs by (x_i - x̂_j)/Σx",
        **{f"A-8, line {k}": first_item for k in (1, 2, 3, 4)},
        **{f"A-11, line {k}": first_item for k in (1, 2)},
        **{f"A-18, line {k}": "differs by (x_i - x̂_j)/Σx" for k in (1, 2)},
        **{f"A-20, line {k}": "differs by (x_i - x̂_j)*exp(x_i)/Σexp(x)" for k in (1, 2)},
        **{f"A-23, line {k}": "differs by (x_i - x̂_j)/Σw" for k in (1, 2, 3)},
    }


def test_definitions_hold_but_for_the_range_of_a_4():
    verdicts = derivation.definition_verdicts().set_index("equation").true_verdict
    others = {"3": "definition", "A-4, range of j": "differs by -M**2 + N"}
    assert verdicts[verdicts != "equal"].to_dict() == others


@pytest.mark.parametrize("n_stages", [2, 3])
def test_table_a1_has_the_true_gradient_on_the_left_and_the_stop_gradient_on_the_right(n_stages):
    """In three stages the longest segment stands where the right column has the first."""
    table = derivation.table_a1_verdicts(n_stages=n_stages)
    left, right = (table[table["equation"] == f"Table A-1, {c}"] for c in ("single", "hierarchical"))
    assert left["true_verdict"].tolist() == ["equal"] * 6
    gap = "differs by (-x̂_j + x̃_k)"
    of_three = ["equal", "equal", f"{gap}/Σx", f"{gap}*exp(x_i)/Σexp(x)", "equal", f"{gap}/Σw"]
    assert right["stop_gradient_verdict"].tolist() == (of_three if n_stages == 3 else ["equal"] * 6)
    differ = [text != "equal" for text in of_three]  # not max, average, and attention's dy/dx
    for verdicts in (right["true_verdict"], left["stop_gradient_verdict"]):
        assert [text != "equal" for text in verdicts] == differ
    value = XTILDE if n_stages == 3 else derivation.XHAT
    stopped = derive("dy/dx_i", n_stages=n_stages, stop_gradient=True)
    assert sp.expand(stopped - (W + (value - Y) * SLOPE) / TOTAL) == 0


def test_the_verdict_table_has_every_numbered_equation_and_every_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(derivation, "VERDICTS", tmp_path / "verdicts.csv")
    table = derivation.write_verdicts()
    numbers = table["equation"].str.split(",").str[0]
    numbered = [*(str(k) for k in range(1, 9)), *(f"A-{k}" for k in range(1, 24))]
    assert list(dict.fromkeys(numbers)) == [*numbered, "after A-23", "Table A-1"]  # all, in the paper's order
    cells = table[numbers == "Table A-1"]
    assert len(cells) == 12
    assert set(cells["pooling"]) == {"max", "average", "linear", "exponential", "attention"}
    assert table["true_verdict"].str.match(r"equal$|differs by |definition$").all()
    written = pd.read_csv(tmp_path / "verdicts.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(written, table.astype(str), check_dtype=False)


def test_whole_clips_frame_by_frame_agree_with_one_frame_against_the_rest():
    clips = ((1, (1,)), (4, (1,)), (4, (2,)), (3, (3,)))
    table = derivation.check_concrete(clips)
    assert table["compared"].tolist() == table["equal"].tolist() == [52, 232, 232, 168]


def test_whole_clips_would_show_a_wrong_derivation(monkeypatch):
    monkeypatch.setattr(derivation, "derive", lambda *_, **__: X / TOTAL)
    table = derivation.check_concrete(((2, (2,)),))
    assert table["equal"].item() < table["compared"].item() / 4


@pytest.mark.parametrize("n_stages", [1, 2, 3])
def test_the_value_is_that_of_eq_1_in_any_number_of_stages(n_stages):
    assert derive("y", n_stages=n_stages) == Y  # of the clip as a whole, by the meaning of the pseudo-frames
    true = derive("dy/dx_i", n_stages=n_stages)
    assert sp.expand(true - (W + (X - Y) * SLOPE) / TOTAL) == 0


def test_the_later_functions_have_the_general_form():
    n, alpha = derivation.EXPONENT, derivation.ALPHA
    power, auto = (derive("dy/dx_i", name) * in_words_of(name, TOTAL) for name in ("power", "auto"))
    assert sp.simplify(power - X ** (n - 1) * ((n + 1) * X - n * Y)) == 0
    assert sp.simplify(auto - sp.exp(alpha * X) * (1 + alpha * (X - Y))) == 0
    assert derivation.gradients_beyond()["pooling"].tolist() == ["power", "auto"]


# --- the machinery ---


def test_every_pooling_function_is_written_in_the_papers_symbols():
    assert set(derivation.TABLE_1) == {"any", *WEIGHTS}


def test_what_is_wrong_is_called_wrong():
    derived = derive("dy/dx_i", "linear", n_stages=1)
    assert verdict((2 * X + Y) / derivation.SUM_X, derived) == "differs by -2*y/Σx"  # a sign
    assert verdict(derived, derived) == "equal"
    row = derivation._row("A-13", "average", "dy/dx_i", 2 / derivation.N_FRAMES)
    assert row["true_verdict"] == row["stop_gradient_verdict"] == "differs by -1/N"


def test_definitions_are_the_papers():
    clip = derivation.concrete_clip(4, (2,), "attention", frame=3)
    x, w = derivation.frame_symbols(4), derivation.symbolic_weights(4, "attention")
    (x_1, x_2), (w_1, w_2) = clip.stages[1]
    assert x_2 == (w[2] * x[2] + w[3] * x[3]) / (w[2] + w[3])  # Eq. 3
    assert w_2 == (w[2] + w[3]) / 2  # Eq. 4
    assert sp.cancel(clip.y - (w_1 * x_1 + w_2 * x_2) / (w_1 + w_2)) == 0  # Eq. 5
    assert clip.at(-1) == (x_2, w_2)
    assert sp.cancel(clip.y - sum(a * b for a, b in zip(w, x, strict=True)) / sum(w)) == 0  # Eq. 1


@pytest.mark.parametrize("pooling", ["linear", "exponential", "attention", "power", "auto"])
def test_the_stop_gradient_changes_no_value(pooling):
    plain, stopped = (derivation.concrete_clip(4, (2,), pooling, stop_gradient=stop) for stop in (False, True))
    assert derivation._vanishes(plain.y - stopped.y.xreplace(stopped.held))
    assert stopped.held
    assert not plain.held
