"""The table of notebook 02: SymPy, automatic differentiation, finite differences and closed forms."""

import numpy as np
import pytest

from hpsed_lib.pooling import STRUCTURES
from hpsed_lib.theory import three_ways as roads
from hpsed_lib.theory.gradients import WEIGHTS


@pytest.fixture(scope="module")
def table():
    return roads.three_ways()


def test_there_is_a_row_for_every_pooling_structure_and_stage_list(table):
    rows = set(zip(table["pooling"], table["structure"], table["n_frames"], table["segment_lengths"], strict=True))
    assert rows == {(p, s, *stages) for p in WEIGHTS for s in STRUCTURES for stages in roads.STAGES}
    assert len(table) == (len(WEIGHTS) + 3) * len(STRUCTURES) * len(roads.STAGES)  # three functions have two gradients
    assert set(table.loc[table["n_frames"] == 8, "clips"]) == {roads.N_DRAWS + len(roads.END_CLIPS)}


def test_the_four_roads_agree(table):
    assert table["from_sympy"].max() < 1e-14
    assert table["from_closed_form"].max() < 1e-14
    assert table["from_finite_difference"].max() < 1e-8
    assert not table.isna().any().any()


def test_there_was_a_gradient_to_agree_on(table):
    assert table.groupby(["pooling", "structure", "quantity"])["largest_gradient"].max().min() > 0.01
    one_segment = table[table["segment_lengths"].map(lambda lengths: lengths == (8,))]
    stopped = one_segment.query("structure == 'appendix' and quantity == 'dy/dw_i'")
    assert len(stopped) == 1
    assert stopped["largest_gradient"].max() < 1e-15  # one segment: x_hat is y, and A-23 leaves nothing


def test_a_wrong_closed_form_is_seen(monkeypatch):
    right = roads.gradients.WEIGHT_SLOPES["linear"]
    monkeypatch.setitem(roads.gradients.WEIGHT_SLOPES, "linear", lambda x, s: -right(x, s))
    x, attention = np.random.default_rng(0).uniform(0.1, 0.9, size=(2, 8))
    size, sympy, finite, closed = roads.compare(roads.Case(0, x, attention, 1.0, "linear", "single", ()))
    assert closed > 0.01 * size
    assert sympy < 1e-14
    assert finite < 1e-8
