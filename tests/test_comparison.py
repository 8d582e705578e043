"""Contrasts: simulated experiments through the functions that make the table, SciPy, statsmodels and plain loops."""

from __future__ import annotations

import functools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from hpsed_lib.comparison import MEASURES, arms, contrasts, recording_weights, resampled_scores, seeds_needed
from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.params import load_experiment
from hpsed_lib.paths import ROOT
from hpsed_lib.tables import load_metrics, scores

N_SETS, N_SEEDS = 2000, 16
ARMS = ("single", "appendix")
BOUNDS = ((-2, "greater"), (2, "less"))


def table_of(values: dict[tuple[str, str], np.ndarray]) -> pd.DataFrame:
    """Scores of arms by seed; all measures are alike."""
    rows = [
        {"pooling": pooling, "structure": structure, "seed": seed, **dict.fromkeys(MEASURES, value)}
        for (pooling, structure), by_seed in values.items()
        for seed, value in enumerate(by_seed)
    ]
    return pd.DataFrame(rows)


@functools.cache
def simulated(effect: int) -> pd.DataFrame:
    """Contrasts of many experiments at once: seeds' sd 4, correlation 0.5, `effect` points between the arms."""
    rng = np.random.default_rng(10 * effect)
    both = rng.multivariate_normal([50, 50 + effect], [[16, 8], [8, 16]], size=(N_SETS, N_SEEDS))
    names = [f"set {index}" for index in range(N_SETS)]
    values = {(name, structure): both[i, :, j] for i, name in enumerate(names) for j, structure in enumerate(ARMS)}
    return contrasts(table_of(values), {}, family=names, equivalence=2.0).query("measure == 'f_measure'")


class TestSimulatedExperiments:
    def test_false_positives_are_five_percent_and_after_holm_none(self) -> None:
        null = simulated(0)
        assert 0.03 < (null.p_value < 0.05).mean() < 0.07
        assert stats.kstest(null.p_value, "uniform").pvalue > 0.001
        assert (null.verdict == "different").sum() <= 1

    def test_power_is_that_of_the_t_test(self) -> None:
        expected = TTestPower().power(2 / 4, nobs=N_SEEDS, alpha=0.05)  # sd of a difference: sqrt(16 + 16 - 2 * 8)
        assert (simulated(2).p_value < 0.05).mean() == pytest.approx(expected, abs=0.03)

    def test_arms_at_the_bound_are_seldom_called_equivalent(self) -> None:
        assert (simulated(2).p_equivalence < 0.05).mean() < 0.07

    @pytest.mark.parametrize("effect", [0, 2])
    def test_intervals_cover_the_difference(self, effect: int) -> None:
        assert 0.93 < ((simulated(effect).low <= effect) & (effect <= simulated(effect).high)).mean() < 0.97

    def test_the_interval_of_an_arm_covers_its_mean(self) -> None:
        values = np.random.default_rng(5).normal(50, 4, size=(N_SETS, 6))
        table = arms(table_of({(str(index), "single"): row for index, row in enumerate(values)}), {})
        table = table[table.measure == "error_rate"]
        assert 0.93 < ((table.low < 50) & (table.high > 50)).mean() < 0.97


def one_contrast(compared: np.ndarray, reference: np.ndarray) -> pd.Series:
    values = {("linear", "single"): reference, ("linear", "appendix"): compared}
    return contrasts(table_of(values), {}, family=["linear"], equivalence=2.0).iloc[0]


class TestVerdicts:
    @pytest.mark.parametrize(
        ("compared", "verdict"),
        [
            ([60, 61.5, 60.2, 61], "different"),
            ([50.1, 51.1, 50.2, 51], "equivalent within 2 points"),
            ([50, 60, 40, 51], "inconclusive"),
            ([52, 53, 52, 53], "inconclusive"),  # all differences are 2: no spread, no test
        ],
    )
    def test_one_word_each(self, compared: list[float], verdict: str) -> None:
        row = one_contrast(compared, [50, 51, 50, 51])
        assert row.verdict == verdict
        assert row.p_holm == row.p_value or math.isnan(row.p_value)

    def test_numbers_are_scipys(self) -> None:
        one, other = np.array([60.0, 58, 61, 63]), np.array([57.0, 58, 59, 58])
        row, theirs = one_contrast(one, other), stats.ttest_rel(one, other)
        assert row.p_value == pytest.approx(theirs.pvalue)
        assert (row.low, row.high) == pytest.approx(tuple(theirs.confidence_interval()))
        ends = [stats.ttest_1samp(one - other, bound, alternative=side).pvalue for bound, side in BOUNDS]
        assert row.p_equivalence == pytest.approx(max(ends))
        assert (row["mean"], row.sd) == pytest.approx((one.mean(), stats.tstd(one)))

    def test_one_seed_says_nothing(self) -> None:
        row = one_contrast([60], [50])
        assert row.verdict == row.role == "not tested, one seed"
        assert row[["p_value", "p_holm", "p_equivalence", "low", "sd"]].isna().all()

    def test_rulers_come_first_and_twins_once(self) -> None:
        rng = np.random.default_rng(1)
        single, twin = rng.normal(50, 3, 4), rng.normal(50, 3, 4)
        values = {("linear", name): rng.normal(50, 3, 4) for name in ("single", "hierarchical", "appendix", "mixed")}
        values |= {("average", "single"): single, ("average", "hierarchical"): twin, ("average", "appendix"): twin}
        values |= {("max", name): single for name in ("single", "hierarchical", "appendix")}
        table = contrasts(table_of(values), {}, family=["linear"], equivalence=2.0).query("measure == 'f_measure'")
        assert table[["pooling", "structure", "role"]].to_numpy().tolist() == [
            ["linear", "hierarchical", "same method"],
            ["average", "hierarchical = appendix", "same method"],
            ["linear", "appendix", "tested"],
            ["linear", "mixed", "not tested"],
            ["max", "hierarchical = appendix", "identical"],
        ]
        assert table.p_value.notna().sum() == 1

    def test_holm_is_over_the_family(self) -> None:
        """Three tests of one p-value each: the smallest times three, the largest at least that."""
        rng = np.random.default_rng(2)
        values = {(pooling, name): rng.normal(50, 3, 5) for pooling in "abc" for name in ARMS}
        table = contrasts(table_of(values), {}, family="abc", equivalence=2.0)
        tested = table[table.p_value.notna()].sort_values("p_value")
        stepped = np.maximum.accumulate(tested.p_value.to_numpy() * [3, 2, 1]).clip(max=1)
        assert tested.p_holm.to_numpy() == pytest.approx(stepped)
        assert contrasts(table_of(values), {}, family="a", equivalence=2.0).p_value.notna().sum() == 1

    def test_other_seeds_are_refused_and_no_single_is_nothing(self) -> None:
        values = table_of({("linear", "single"): np.arange(3.0), ("linear", "appendix"): np.arange(4.0)})
        with pytest.raises(DataError, match="not the seeds of single"):
            contrasts(values, {}, family=[], equivalence=2.0)
        assert contrasts(values[values.structure == "appendix"], {}, family=[], equivalence=2.0).empty


@pytest.mark.parametrize("name", sorted(folder.parent.name for folder in ROOT.glob("results/*/metrics")))
def test_the_committed_runs_are_judged_as_a_t_test_judges_them(name: str) -> None:
    experiment = load_experiment(name)
    runs = scores(load_metrics(experiment, published=True))
    family = experiment.comparison.family
    table = contrasts(runs, {}, family=family, equivalence=2.0).set_index(["pooling", "structure", "measure"])
    by_arm = runs.set_index(["pooling", "structure", "seed"]).f_measure.sort_index()
    for pooling in family:
        row = table.loc[(pooling, "appendix", "f_measure")]
        expected = stats.ttest_rel(by_arm[pooling, "appendix"], by_arm[pooling, "single"]).pvalue
        assert row.p_value == pytest.approx(expected, nan_ok=True)
        assert row.verdict in ("inconclusive", "not tested, one seed") or row.p_holm < 0.05 or row.p_equivalence < 0.05
    assert table.p_value.notna().sum() == (len(family) if runs.seed.nunique() > 1 else 0)


class TestSeedsNeeded:
    @pytest.mark.parametrize(("sd", "n_tests"), [(4.0, 1), (4.0, 3), (0.7, 3)])
    def test_it_is_the_smallest_number_with_the_power(self, sd: float, n_tests: int) -> None:
        n = seeds_needed(sd, difference=2.0, n_tests=n_tests)
        power = [TTestPower().power(2 / sd, nobs=nobs, alpha=0.05 / n_tests) for nobs in (n - 1, n)]
        assert power[0] < 0.8 <= power[1]

    def test_two_are_the_least_and_nonsense_is_refused(self) -> None:
        assert seeds_needed(1e-3, difference=2.0, n_tests=1) == 2
        with pytest.raises(ParameterError, match="above 0"):
            seeds_needed(0.0, difference=2.0, n_tests=1)


COUNTS = ("Nref", "Nsys", "Ntp", "S", "D", "I")


def run(structure: str, seed: int, counts: np.ndarray) -> dict:
    """Metrics of a run from counts (clips, 6)."""
    test = {"clip_counts": dict(zip(COUNTS, counts.T.tolist(), strict=True))}
    return {"run": structure, "pooling": "linear", "structure": structure, "seed": seed, "test": test}


class TestRecordings:
    def test_a_clip_counts_as_often_as_its_recordings_were_drawn(self) -> None:
        sources = ["a", "a\tb", "", "b", "c"]
        weights = recording_weights(sources, n_resamples=50, random_seed=3)
        names = ["a", "b", "c", "clip 2"]
        drawn = np.random.default_rng(3).multinomial(4, [0.25] * 4, size=50)
        for resample, row in zip(drawn, weights, strict=True):
            times = dict(zip(names, resample, strict=True))
            expected = [times["a"], times["a"] * times["b"], times["clip 2"], times["b"], times["c"]]
            assert row.tolist() == expected

    def test_scores_of_a_resample_are_those_of_its_clips(self) -> None:
        rng = np.random.default_rng(4)
        n_ref, n_sys = rng.integers(1, 9, 12), rng.integers(1, 9, 12)
        metrics, both = [], np.minimum(n_ref, n_sys)
        for seed in range(2):
            n_tp = rng.integers(0, both + 1)
            counts = np.stack([n_ref, n_sys, n_tp, both - n_tp, n_ref - both, n_sys - both], axis=1)
            metrics.append(run("single", seed, counts))
        weights = recording_weights([f"{index % 5}" for index in range(12)], n_resamples=20)
        drawn = resampled_scores(metrics, weights)["linear", "single"]
        for index, row in enumerate(weights):
            clips = np.repeat(np.arange(12), row)
            f_measures, error_rates = [], []
            for one in metrics:
                total = {name: np.take(values, clips).sum() for name, values in one["test"]["clip_counts"].items()}
                f_measures.append(200 * total["Ntp"] / (total["Nref"] + total["Nsys"]))
                error_rates.append(100 * (total["S"] + total["D"] + total["I"]) / total["Nref"])
            assert drawn["f_measure"][index] == pytest.approx(np.mean(f_measures))
            assert drawn["error_rate"][index] == pytest.approx(np.mean(error_rates))

    def test_clips_of_one_recording_widen_the_interval(self) -> None:
        """200 clips, 20 recordings, all clips of a recording alike: the sd is sqrt(10) times that of lone clips."""
        n_tp = np.repeat(np.random.default_rng(6).integers(0, 11, 20), 10)
        counts = np.stack([np.full(200, 10), np.full(200, 10), n_tp, 10 - n_tp, 0 * n_tp, 0 * n_tp], axis=1)
        metrics, recordings = [run("single", 0, counts)], [f"{index // 10}" for index in range(200)]
        spread = [
            resampled_scores(metrics, recording_weights(sources))["linear", "single"]["f_measure"].std()
            for sources in (recordings, [""] * 200)
        ]
        assert spread[0] / spread[1] == pytest.approx(math.sqrt(10), rel=0.1)

    def test_other_clips_are_refused(self) -> None:
        counts = np.ones((3, 6), dtype=int)
        with pytest.raises(DataError, match="the same for all runs"):
            resampled_scores([run("single", 0, counts), run("appendix", 0, 2 * counts)], np.ones((5, 3), dtype=int))
        with pytest.raises(DataError, match="counts of 4 clips"):
            resampled_scores([run("single", 0, counts)], np.ones((5, 4), dtype=int))
