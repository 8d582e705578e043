"""When a hierarchy is single pooling: SymPy's rows, and the same statements on numbers."""

import itertools

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsed_lib.pooling import pool
from hpsed_lib.theory import collapse
from hpsed_lib.theory.collapse import A1, A2, B1, B2, W1, W2


def test_every_step_of_the_induction_is_proved():
    table = collapse.induction()
    assert table["verdict"].tolist() == ["equal"] * 10
    assert table["statement"].str.contains("stop-gradient").sum() == 5
    assert collapse._row("wrong", W1, W2)["verdict"] == "differs by W_1 - W_2"


def test_the_difference_from_eq_1_vanishes_exactly_under_the_condition():
    difference = collapse.difference_from_single()
    condition, predictions_differ = W1 * B2 - W2 * B1, A1 * B2 - A2 * B1
    assert sp.cancel(difference / (condition * predictions_differ)).is_positive
    assert difference.subs(W1, W2 * B1 / B2) == 0


def test_which_hierarchies_collapse():
    table = collapse.hierarchies()
    assert table["verdict"].tolist() == [*["collapses"] * 3, *["does not collapse"] * 4, "collapses"]
    assert ((table["condition"] == "0") == (table["verdict"] == "collapses")).all()


def hierarchy(x, w, borders, segment_weight):
    """Loops: weighted means of segments of any lengths, weighted by `segment_weight(weights, prediction)`."""
    cuts = [slice(*pair) for pair in itertools.pairwise(borders)]
    predictions = [np.average(x[cut], weights=w[cut]) for cut in cuts]
    weights = [segment_weight(w[cut], prediction) for cut, prediction in zip(cuts, predictions, strict=True)]
    return np.average(predictions, weights=weights)


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=5), seed=st.integers(0, 10**6))
def test_sums_of_weights_collapse_for_any_unequal_segments(lengths, seed):
    borders = np.concatenate([[0], np.cumsum(lengths)])
    x, w = np.random.default_rng(seed).uniform(0.01, 1, size=(2, borders[-1]))
    single = np.average(x, weights=w)
    for divisor in (1, 3.0):
        assert hierarchy(x, w, borders, lambda weights, _, d=divisor: weights.sum() / d) == pytest.approx(single)


def test_own_lengths_and_predictions_do_not_collapse():
    x, w = np.random.default_rng(0).uniform(0.01, 1, size=(2, 7))
    single = np.average(x, weights=w)
    for segment_weight in (lambda weights, _: weights.mean(), lambda _, prediction: prediction, lambda *_: 1.0):
        assert abs(hierarchy(x, w, [0, 2, 7], segment_weight) - single) > 1e-3
    average = hierarchy(x[:6], np.ones(6), [0, 3, 6], lambda *_: 1.0)
    assert average == pytest.approx(x[:6].mean())  # average pooling does, with equal lengths


@pytest.mark.parametrize("pooling", ["average", "linear", "exponential"])
def test_maxima_of_segments_add_to_eq_1_what_sympy_says(pooling):
    x = [0.2, 0.5, 0.3, 0.9]  # the second of each segment is the larger
    difference = collapse.maxima_of_segments(pooling)
    expected = float(difference.subs(dict(zip(sp.symbols("x_1:5", positive=True), x, strict=True))))
    frames = torch.tensor(x, dtype=torch.float64).reshape(1, -1, 1)
    options = {"pooling": pooling, "segment_lengths": [2]}
    mixed, single = (pool(frames, structure=structure, **options).item() for structure in ("mixed", "single"))
    assert mixed - single == pytest.approx(expected, rel=1e-12)
    assert abs(expected) > 0.01
