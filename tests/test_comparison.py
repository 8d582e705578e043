"""Intervals, tests and numbers of seeds against scipy, plain loops, closed forms and data with a known truth."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hpsed_lib import comparison
from hpsed_lib.comparison import (
    counts_from_metrics,
    holm,
    paired_comparisons,
    paired_t_power,
    power_curve,
    score_intervals,
    seed_differences,
    seeds_needed,
    structure_pairs,
)
from hpsed_lib.errors import DataError, ParameterError

PAIR = (("linear", "single"), ("linear", "appendix"))


def run_counts(rng: np.random.Generator, n_ref: np.ndarray, recall: float, false: float = 0.6) -> dict:
    """Counts of one run: each reference activity found with probability ``recall``, false ones as they come."""
    n_tp = rng.binomial(n_ref, recall)
    n_fp, n_fn = rng.poisson(false, len(n_ref)), n_ref - n_tp
    subs = rng.binomial(np.minimum(n_fp, n_fn), 0.5)
    return {
        "Nref": n_ref,
        "Nsys": n_tp + n_fp,
        "Ntp": n_tp,
        "Nfp": n_fp,
        "Nfn": n_fn,
        "S": subs,
        "D": n_fn - subs,
        "I": n_fp - subs,
    }


def two_variants(rng: np.random.Generator, n_clips: int, recalls: list[tuple[float, float]]) -> dict:
    """Runs of `PAIR`, one seed for each pair of recalls."""
    n_ref = rng.poisson(3, n_clips)
    return {
        (*variant, seed): run_counts(rng, n_ref, recall)
        for seed, pair in enumerate(recalls)
        for variant, recall in zip(PAIR, pair, strict=True)
    }


def f1(counts: dict, chosen: np.ndarray | slice = slice(None)) -> float:
    return 200 * counts["Ntp"][chosen].sum() / (counts["Nref"][chosen] + counts["Nsys"][chosen]).sum()


def error_rate(counts: dict) -> float:
    return (counts["S"] + counts["D"] + counts["I"]).sum() / counts["Nref"].sum()


def test_the_interval_of_a_run_is_scipys() -> None:
    counts = two_variants(np.random.default_rng(0), 60, [(0.5, 0.5)])
    run = counts[*PAIR[0], 0]
    theirs = stats.bootstrap(
        (run["Ntp"], run["Nref"] + run["Nsys"]),
        lambda found, both, axis: 200 * found.sum(axis) / both.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    table = score_intervals(counts, n_resamples=20_000)
    row = table[(table.structure == "single") & (table.seed == 0) & (table.measure == "f_measure")].iloc[0]
    width = theirs.high - theirs.low
    assert row.value == pytest.approx(f1(run))
    assert row.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert row.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_the_interval_of_a_difference_is_scipys() -> None:
    counts = two_variants(np.random.default_rng(2), 60, [(0.5, 0.6)])
    one, other = counts[*PAIR[0], 0], counts[*PAIR[1], 0]

    def errors(run: dict) -> np.ndarray:
        return run["S"] + run["D"] + run["I"]

    theirs = stats.bootstrap(
        (errors(one), errors(other), one["Nref"]),
        lambda a, b, n_ref, axis: (b.sum(axis) - a.sum(axis)) / n_ref.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(3),
    ).confidence_interval
    row = paired_comparisons(counts, [PAIR], n_resamples=20_000).set_index("measure").loc["error_rate"]
    width = theirs.high - theirs.low
    assert row.difference == pytest.approx(error_rate(other) - error_rate(one))
    assert row.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert row.high == pytest.approx(theirs.high, abs=0.03 * width)


@pytest.mark.parametrize("recalls", [[(0.5, 0.6)], [(0.5, 0.7), (0.4, 0.6)]], ids=["one seed", "two seeds"])
def test_the_permutation_test_is_that_of_plain_loops_and_of_scipy(recalls: list) -> None:
    counts = two_variants(np.random.default_rng(4), 9, recalls)
    seeds = range(len(recalls))

    def mean_difference(exchanged: tuple[bool, ...]) -> float:
        swap = np.array(exchanged)
        values = []
        for seed in seeds:
            one, other = counts[*PAIR[0], seed], counts[*PAIR[1], seed]
            first = {name: np.where(swap, other[name], one[name]) for name in one}
            second = {name: np.where(swap, one[name], other[name]) for name in one}
            values.append(f1(second) - f1(first))
        return float(np.mean(values))

    observed = abs(mean_difference((False,) * 9))
    every = [abs(mean_difference(exchanged)) for exchanged in itertools.product([False, True], repeat=9)]
    expected = np.mean(np.array(every) >= observed - 1e-9)
    row = paired_comparisons(counts, [PAIR], n_resamples=10).set_index("measure").loc["f_measure"]
    assert row.exact
    assert row.p_clips == pytest.approx(expected)
    assert 0.002 < expected < 0.9  # a value that something else would not give by chance
    drawn = paired_comparisons(counts, [PAIR], n_resamples=10, n_permutations=200).set_index("measure")
    assert not drawn.exact.any()
    assert drawn.p_clips.f_measure == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 200))
    if len(recalls) == 1:
        one, other = counts[*PAIR[0], 0], counts[*PAIR[1], 0]
        theirs = stats.permutation_test(
            (np.arange(9), np.arange(9, 18)),
            lambda a, b: f1_of(np.concatenate([one["Ntp"], other["Ntp"]]), one, other, a, b),
            permutation_type="samples",
            vectorized=False,
            n_resamples=10_000,
        )
        assert row.p_clips == pytest.approx(theirs.pvalue)


def f1_of(found: np.ndarray, one: dict, other: dict, a: np.ndarray, b: np.ndarray) -> float:
    """Difference in F1 between two choices of (system, clip)."""
    both = np.concatenate([one["Nref"] + one["Nsys"], other["Nref"] + other["Nsys"]])
    return 200 * (found[b].sum() / both[b].sum() - found[a].sum() / both[a].sum())


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = two_variants(np.random.default_rng(5), 11, [(0.5, 0.6), (0.5, 0.5)])
    whole = paired_comparisons(counts, [PAIR], n_resamples=500)
    monkeypatch.setattr(comparison, "_CHUNK", 50)
    pd.testing.assert_frame_equal(paired_comparisons(counts, [PAIR], n_resamples=500), whole)


def test_equal_runs_are_equal() -> None:
    rng = np.random.default_rng(6)
    run = run_counts(rng, rng.poisson(3, 30), 0.5)
    counts = {(*variant, seed): run for variant in PAIR for seed in range(3)}
    table = paired_comparisons(counts, [PAIR])
    assert (table[["difference", "low", "high"]] == 0).all(axis=None)
    assert (table[["p_clips", "p_seeds", "p_value", "p_adjusted"]] == 1).all(axis=None)
    assert (table.verdict == "not distinguishable").all()
    assert table.cohens_d.isna().all()
    spread = seeds_needed(seed_differences(counts, [PAIR]).query("measure == 'f_measure'").difference, gain=3.9)
    assert spread.n_seeds.isna().all()
    assert power_curve([0.0, 0.0], gain=1.0).empty


def test_a_large_difference_is_found_and_has_the_right_sign() -> None:
    recalls = [(0.3, 0.72), (0.32, 0.7), (0.28, 0.71)]
    counts = two_variants(np.random.default_rng(7), 100, recalls)
    forth = paired_comparisons(counts, [PAIR]).set_index("measure")
    back = paired_comparisons(counts, [PAIR[::-1]]).set_index("measure")
    assert forth.verdict.to_dict() == {"f_measure": "better", "error_rate": "better"}
    assert back.verdict.to_dict() == {"f_measure": "worse", "error_rate": "worse"}
    assert forth.difference.f_measure > 0 > forth.difference.error_rate
    np.testing.assert_allclose(back.difference, -forth.difference)
    np.testing.assert_allclose(back[["low", "high"]], -forth[["high", "low"]])
    np.testing.assert_allclose(back.p_clips, forth.p_clips)
    one_seed = {run: counts[run] for run in counts if run[2] == 0}
    alone = paired_comparisons(one_seed, [PAIR]).set_index("measure")
    assert alone.verdict.f_measure == "these networks differ, variants not tested"
    assert alone.over.f_measure == "clips"
    assert np.isnan(alone.p_seeds.f_measure)
    assert alone.p_value.f_measure == alone.p_clips.f_measure
    same = paired_comparisons(dict.fromkeys(one_seed, counts[*PAIR[0], 0]), [PAIR])
    assert (same.verdict == "these networks not distinguishable, variants not tested").all()


def test_seeds_that_disagree_are_not_distinguishable_however_many_the_clips() -> None:
    counts = two_variants(np.random.default_rng(8), 2000, [(0.5, 0.7), (0.7, 0.6), (0.5, 0.65)])
    row = paired_comparisons(counts, [PAIR], n_permutations=1000).set_index("measure").loc["f_measure"]
    assert row.p_clips < 0.01
    assert row.low < 0 < row.high
    assert row.verdict == "not distinguishable"


def test_seed_tests_are_scipys() -> None:
    counts = two_variants(np.random.default_rng(9), 50, [(0.5, 0.6), (0.5, 0.7), (0.6, 0.55), (0.4, 0.5)])
    one = [f1(counts[*PAIR[0], seed]) for seed in range(4)]
    other = [f1(counts[*PAIR[1], seed]) for seed in range(4)]
    table = paired_comparisons(counts, [PAIR]).set_index("measure")
    row, differences = table.loc["f_measure"], np.subtract(other, one)
    assert row.p_seeds == pytest.approx(stats.ttest_rel(other, one).pvalue)
    assert row.p_value == max(row.p_seeds, row.p_clips)
    # Hedges' correction for 3 degrees of freedom: Gamma(1.5) / (sqrt(1.5) Gamma(1)) = sqrt(pi / 6)
    assert row.cohens_d == pytest.approx(np.sqrt(np.pi / 6) * differences.mean() / differences.std(ddof=1))
    tidy = seed_differences(counts, [PAIR])
    np.testing.assert_allclose(tidy[tidy.measure == "f_measure"].difference, differences)


def test_intervals_over_clips_cover_the_truth() -> None:
    rng = np.random.default_rng(10)
    found, false, n_data_sets = 0.5, 0.6, 400
    truth = {"f_measure": 200 * 3 * found / (3 + 3 * found + false)}  # E[Nref] = 3
    hits = 0
    for index in range(n_data_sets):
        counts = {(*PAIR[0], 0): run_counts(rng, rng.poisson(3, 80), found, false)}
        row = score_intervals(counts, n_resamples=400, random_seed=index).iloc[0]
        hits += row.low <= truth[row.measure] <= row.high
    assert 0.92 <= hits / n_data_sets <= 0.98  # 0.95 give or take 2.8 standard errors


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_intervals_over_seeds_and_clips_cover_the_truth(n_seeds: int) -> None:
    """Training matters more than the clips here: percentiles alone, of two seeds, would cover about half the time."""
    rng = np.random.default_rng(11)
    n_data_sets, mean, spread = 200, 0.5, 0.1
    nodes = np.random.default_rng(0).normal(mean, spread, 100_000)
    truth = np.mean(200 * 3 * nodes / (3 + 3 * nodes + 0.6))
    hits = 0
    for index in range(n_data_sets):
        n_ref = rng.poisson(3, 400)
        counts = {(*PAIR[0], seed): run_counts(rng, n_ref, rng.normal(mean, spread)) for seed in range(n_seeds)}
        table = score_intervals(counts, n_resamples=300, random_seed=index)
        row = table[table.seed.isna() & (table.measure == "f_measure")].iloc[0]
        assert row.over == "clips and seeds"
        hits += row.low <= truth <= row.high
    assert 0.90 <= hits / n_data_sets <= 0.99


def test_p_values_are_uniform_when_there_is_no_difference() -> None:
    rng = np.random.default_rng(12)
    p_clips, p_seeds, claims = [], [], 0
    for index in range(200):
        recalls = [tuple(rng.normal(0.5, 0.03, 2)) for _ in range(3)]  # no run's recall is its variant's doing
        table = paired_comparisons(
            two_variants(rng, 40, [(0.5, 0.5)] * 2), [PAIR], n_resamples=10, n_permutations=400, random_seed=index
        )
        p_clips.append(table.p_clips[0])
        table = paired_comparisons(
            two_variants(rng, 40, recalls), [PAIR], n_resamples=200, n_permutations=200, random_seed=index
        )
        p_seeds.append(table.p_seeds[0])
        claims += table.verdict[0] != "not distinguishable"
    assert stats.kstest(p_clips, "uniform").pvalue > 0.01
    assert stats.kstest(p_seeds, "uniform").pvalue > 0.01
    assert claims / 200 < 0.05


def test_a_monte_carlo_p_value_is_never_zero() -> None:
    counts = two_variants(np.random.default_rng(13), 100, [(0.1, 0.9)])
    table = paired_comparisons(counts, [PAIR], n_resamples=10, n_permutations=99)
    assert table.p_clips.tolist() == [0.01, 0.01]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_holm_is_the_step_down_procedure(p_values: list[float]) -> None:
    """p_adjusted <= alpha exactly where the procedure, run at level alpha, rejects."""
    adjusted = holm(np.array(p_values))
    for alpha in (0.01, 0.05, 0.3, *adjusted[adjusted < 1]):
        rejected = set()
        for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if p_values[index] * (len(p_values) - step) > alpha:
                break
            rejected.add(index)
        assert set(np.flatnonzero(adjusted <= alpha)) == rejected


def test_the_family_of_holm_is_the_pairs_of_one_measure() -> None:
    rng = np.random.default_rng(14)
    n_ref = rng.poisson(3, 60)
    recalls = {"single": 0.5, "hierarchical": 0.52, "appendix": 0.6}
    counts = {("linear", name, 0): run_counts(rng, n_ref, recall) for name, recall in recalls.items()}
    pairs = structure_pairs(counts)
    assert pairs == [(("linear", "single"), ("linear", name)) for name in ("hierarchical", "appendix")]
    table = paired_comparisons(counts, pairs)
    for _, family in table.groupby("measure"):
        np.testing.assert_allclose(family.p_adjusted, holm(family.p_value))
        assert (family.p_adjusted > family.p_value).any()


def test_power_is_that_of_simulated_experiments() -> None:
    rng = np.random.default_rng(15)
    for n_seeds, gain, sd in ((3, 3.9, 2.0), (8, 1.0, 1.0), (5, -2.0, 1.5)):
        samples = rng.normal(gain, sd, (20_000, n_seeds))
        simulated = (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean()
        assert paired_t_power(n_seeds, gain=gain, sd=sd) == pytest.approx(simulated, abs=0.012)
    assert paired_t_power(5, gain=0.0, sd=1.0) == pytest.approx(0.05)  # without a gain: the level


def test_the_number_of_seeds_is_the_smallest_that_suffices() -> None:
    rng = np.random.default_rng(16)
    for gain in (0.5, 3.9, 20.0, 1000.0):
        differences = rng.normal(1, 2, 4)
        for row in seeds_needed(differences, gain=gain).itertuples():
            assert row.n_seeds == 2 or paired_t_power(row.n_seeds - 1, gain=gain, sd=row.sd) < 0.8
            assert paired_t_power(row.n_seeds, gain=gain, sd=row.sd) >= 0.8
    # Cohen's tables: standardised differences of 0.2, 0.5 and 0.8 need 199, 34 and 15 pairs
    for effect, expected in ((0.2, 199), (0.5, 34), (0.8, 15)):
        assert seeds_needed([-np.sqrt(0.5), np.sqrt(0.5)], gain=effect).n_seeds[1] == expected


def test_the_interval_of_the_standard_deviation_covers_it() -> None:
    rng = np.random.default_rng(17)
    hits = 0
    for _ in range(300):
        spread = seeds_needed(rng.normal(2, 3, 3), gain=1e3).set_index("bound").sd
        hits += spread.low <= 3 <= spread.high
    assert 0.92 < hits / 300 < 0.98
    curve = power_curve([1.0, 3.0, 2.0], gain=3.9, n_seeds=range(2, 9))
    assert set(curve.bound) == {"low", "estimate", "high"}
    powers = curve.pivot(index="n_seeds", columns="bound", values="power")
    assert (powers.diff().dropna() > -1e-9).all(axis=None)  # more seeds, more power
    assert (powers.low >= powers.estimate).all()
    assert (powers.estimate > powers.high).all()


def test_counts_come_from_metrics() -> None:
    run = run_counts(np.random.default_rng(18), np.array([1, 2, 3]), 0.5)
    clip_counts = {name: values.tolist() for name, values in run.items()}
    metrics = {"pooling": "linear", "structure": "single", "seed": 0, "test": {"clip_counts": clip_counts}}
    counts = counts_from_metrics([metrics])
    np.testing.assert_array_equal(counts["linear", "single", 0]["Nsys"], run["Nsys"])
    assert len(score_intervals(counts, n_resamples=50)) == 4  # a run and a variant, two measures
    with pytest.raises(DataError, match="found twice"):
        counts_from_metrics([metrics, metrics])
    with pytest.raises(DataError, match="found none; score again"):
        counts_from_metrics([{**metrics, "test": {}}])


def test_wrong_input_is_named() -> None:
    rng = np.random.default_rng(19)
    counts = two_variants(rng, 10, [(0.5, 0.5), (0.5, 0.5)])
    key = (*PAIR[1], 1)
    without = {run: counts[run] for run in counts if run != key}
    with pytest.raises(DataError, match="expected the same seeds"):
        paired_comparisons(without, [PAIR])
    with pytest.raises(DataError, match="expected counts of max single"):
        paired_comparisons(counts, [(PAIR[0], ("max", "single"))])
    with pytest.raises(DataError, match="Nref differs"):
        score_intervals({**counts, key: run_counts(rng, counts[key]["Nref"] + 1, 0.5)})
    with pytest.raises(DataError, match=r"S \+ D = Nref - Ntp"):
        score_intervals({**counts, key: {**counts[key], "S": counts[key]["S"] + 1}})
    with pytest.raises(DataError, match="found no Nsys"):
        score_intervals({key: {name: values for name, values in counts[key].items() if name != "Nsys"}})
    with pytest.raises(DataError, match="one length"):
        score_intervals({key: {**counts[key], "S": np.zeros(3)}})
    with pytest.raises(DataError, match="nothing to compare"):
        score_intervals({key: run_counts(rng, np.zeros(5, int), 0.5)})
    with pytest.raises(DataError, match="got none"):
        score_intervals({})
    for wrong in ({"alpha": 1.0}, {"n_permutations": 0}, {"n_resamples": 0}):
        with pytest.raises(ParameterError, match="expected"):
            paired_comparisons(counts, [PAIR], **wrong)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="at least one pair"):
        paired_comparisons(counts, [])
    with pytest.raises(DataError, match="two seeds or more"):
        seeds_needed([1.0], gain=1.0)
    with pytest.raises(ParameterError, match="gain"):
        seeds_needed([1.0, 2.0], gain=0.0)


def test_intervals_end_where_scores_do():
    """Seeds that differ as much as scores can: the widened interval would pass both ends."""

    def counts(n_tp):
        n = np.full(20, 10)
        return {"Nref": n, "Nsys": n, "Ntp": 0 * n + n_tp, "S": n - n_tp, "D": 0 * n, "I": 0 * n}

    table = comparison.score_intervals({("linear", "single", seed): counts(tp) for seed, tp in enumerate((0, 10, 5))})
    of_variant = table[table.seed.isna()].set_index("measure")
    assert of_variant.low.tolist() == [0, 0]
    assert of_variant.high["f_measure"] == 100
