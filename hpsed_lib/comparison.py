"""Is one variant better than another? Arms, and contrasts of arms that share their seeds.

Conventions: an arm is (pooling, structure); its score is the mean over seeds. Every score is in percent, the error rate
too, so that differences are points. A difference is the compared arm minus the reference. Two things are random, and
each has an interval of its own, 95 % both:

- **seeds**: would another training agree, on this test set? Student's t over seeds, which are paired (same initial
  weights, same order of the data). One seed says nothing about that.
- **recordings**: would another test set agree, for these trained networks? A bootstrap of recordings, not of clips,
  for clips cut from one recording are not independent [3]_.

Tested is one family only, named in the experiment's file before anything is trained: ``appendix`` against ``single`` by
tuned F1. Arms are called different where Holm's p-value [1]_ is below 5 %, equivalent where two one-sided tests [2]_
both reject a difference as large as the bounds; else the answer is open. Contrasts of a method with itself stand beside
them, as a ruler: so far apart do trainings of one method end.

References
----------
.. [1] S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2),
   1979.
.. [2] D. J. Schuirmann, "A comparison of the two one-sided tests procedure and the power approach for assessing the
   equivalence of average bioavailability", J. Pharmacokinetics and Biopharmaceutics 15(6), 1987.
.. [3] A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.pooling import POOLINGS, has_constant_weights

ALPHA = 0.05
MEASURES = ("f_measure", "f_measure_fixed", "error_rate", "segment_ap")
"""Tuned F1, F1 at the threshold 0.5, tuned error rate, micro average precision of segments. The first is tested."""
ROLES = ("same method", "tested", "not tested, one seed", "not tested", "identical")
"""Of a contrast, in the order of the tables."""
Resampled = Mapping[tuple[str, str], pd.DataFrame]
"""By arm: (resamples, measures)."""


def recording_weights(sources: Sequence[str], *, n_resamples: int = 2000, random_seed: int = 0) -> np.ndarray:
    """How often each clip counts in test sets of recordings drawn with replacement, (n_resamples, clips) of int.

    `sources` holds the recordings of each clip, separated by tabs; a clip without any is its own. A clip counts as
    often as the product, over its recordings, of how often each was drawn [3]_.
    """
    of_clip = [set(text.split("\t")) if text else {f"clip {index}"} for index, text in enumerate(sources)]
    names = {name: index for index, name in enumerate(sorted(set[str]().union(*of_clip)))}
    shares = np.full(len(names), 1 / len(names))
    drawn = np.random.default_rng(random_seed).multinomial(len(names), shares, size=n_resamples)
    return np.stack([drawn[:, [names[name] for name in own]].prod(axis=1) for own in of_clip], axis=1)


def resampled_scores(metrics: Sequence[Mapping], weights: np.ndarray) -> Resampled:
    """Scores of every arm on resampled test sets: F1 and error rate in percent, means over seeds.

    Of `metrics` it takes ``test.clip_counts``; `weights` are of `recording_weights`.

    Raises
    ------
    DataError
        A run was scored on other clips, or there is no reference activity.
    """
    by_arm: dict[tuple[str, str], list[pd.DataFrame]] = {}
    first = metrics[0]["test"]["clip_counts"]["Nref"]
    for run in metrics:
        counts = pd.DataFrame(run["test"]["clip_counts"])
        if not any(first) or counts.Nref.to_list() != first or len(first) != weights.shape[1]:
            raise DataError(f"{run['run']}: expected counts of {weights.shape[1]} clips, the same for all runs, not 0")
        total = pd.DataFrame(weights @ counts.to_numpy(), columns=counts.columns)
        f_measure, errors = 2 * total.Ntp / (total.Nref + total.Nsys), total.S + total.D + total.I
        score = 100 * pd.DataFrame({"f_measure": f_measure, "error_rate": errors / total.Nref})
        by_arm.setdefault((run["pooling"], run["structure"]), []).append(score)
    return {arm: sum(seeds[1:], seeds[0]) / len(seeds) for arm, seeds in by_arm.items()}


def arms(scores: pd.DataFrame, resampled: Resampled) -> pd.DataFrame:
    """Every arm and measure: n_seeds, mean, sd, low, high (over seeds), low_recordings, high_recordings.

    `scores` has one row per run: pooling, structure, seed and `MEASURES`.
    """
    rows = []
    for (pooling, structure), runs in scores.groupby(["pooling", "structure"], sort=False):
        drawn = resampled.get((pooling, structure), {})
        for measure in MEASURES:
            row = {"pooling": pooling, "structure": structure, "measure": measure, "n_seeds": len(runs)}
            rows.append(row | _mean(runs[measure].to_numpy()) | _percentiles(drawn.get(measure)))
    return pd.DataFrame(rows)


def contrasts(scores: pd.DataFrame, resampled: Resampled, *, family: Sequence[str], equivalence: float) -> pd.DataFrame:
    """Every arm against ``single`` of its pooling function: rulers first, then what is tested.

    Tested is ``appendix`` of the pooling functions in `family`; two arms are equivalent within `equivalence` points.

    Returns
    -------
    DataFrame, one row per contrast and measure
        ``structure`` names all structures that came out alike to the last bit (``hierarchical = appendix``). ``role``:
        see `ROLES`. ``n_seeds`` counts pairs. ``mean`` and ``sd`` are over seeds, as are those of the ``reference``.
        ``difference`` has its ``sd``, ``low`` to ``high`` over seeds and ``low_recordings`` to ``high_recordings``. For
        tuned F1 in the family: ``p_value`` (paired t test), ``p_holm``, ``p_equivalence``, all missing without spread
        between seeds, and as ``verdict`` ``different``, ``equivalent within 2 points`` or ``inconclusive``. Elsewhere
        the verdict is the role.

    Raises
    ------
    DataError
        An arm was not trained with the seeds of its ``single``.
    """
    rows = []
    for pooling, runs in scores.groupby("pooling", sort=False):
        distinct = _distinct(runs)
        reference = next((own for names, own in distinct.items() if "single" in names), None)
        for names, compared in distinct.items():
            others = [name for name in names if name != "single"]
            if reference is None or not others:
                continue
            structure = " = ".join(others)
            if list(compared.index) != list(reference.index):
                raise DataError(f"{pooling} {structure}: not the seeds of single, which are {list(reference.index)}")
            drawn, base = (resampled.get((pooling, name), {}) for name in (others[0], "single"))
            role = _role(pooling, names, family, n_seeds=len(reference))
            for measure in MEASURES:
                key = {"pooling": pooling, "structure": structure, "role": role, "measure": measure}
                within = equivalence if role == "tested" and measure == MEASURES[0] else None
                difference = drawn[measure] - base[measure] if measure in drawn else None
                rows.append(key | _contrast(compared[measure], reference[measure], within) | _percentiles(difference))
    return _judged(pd.DataFrame(rows), equivalence) if rows else pd.DataFrame()


def _distinct(runs: pd.DataFrame) -> dict[tuple[str, ...], pd.DataFrame]:
    """Scores by seed of one pooling function's structures; those that are alike to the last bit together."""
    distinct: dict[tuple[str, ...], pd.DataFrame] = {}
    for structure, rows in runs.groupby("structure", sort=False):
        own = rows.set_index("seed")[list(MEASURES)].sort_index()
        twins = next((names for names, other in distinct.items() if own.equals(other)), ())
        distinct.pop(twins, None)
        distinct[(*twins, structure)] = own
    return distinct


def _role(pooling: str, names: Sequence[str], family: Sequence[str], *, n_seeds: int) -> str:
    if "single" in names:
        return "identical"
    if "hierarchical" in names or ("appendix" in names and pooling in POOLINGS and has_constant_weights(pooling)):
        return "same method"
    if "appendix" in names and pooling in family:
        return "tested" if n_seeds > 1 else "not tested, one seed"
    return "not tested"


def _mean(values: np.ndarray) -> dict[str, float]:
    """Mean over seeds, standard deviation, and Student's interval."""
    n, mean, sd = len(values), np.mean(values), np.std(values, ddof=1) if len(values) > 1 else math.nan
    half = stats.t.ppf(1 - ALPHA / 2, n - 1) * sd / math.sqrt(n)  # NaN of one seed
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half}


def _percentiles(values: pd.Series | None) -> dict[str, float]:
    """95 % interval of resampled values."""
    low, high = (math.nan, math.nan) if values is None else np.nanquantile(values, [ALPHA / 2, 1 - ALPHA / 2])
    return {"low_recordings": low, "high_recordings": high}


def _contrast(compared: pd.Series, reference: pd.Series, equivalence: float | None) -> dict[str, float]:
    """Both arms, their difference with its interval, and, with bounds of equivalence, the tests."""
    one, other = compared.to_numpy(), reference.to_numpy()
    arm, base, both = _mean(one), _mean(other), _mean(one - other)
    row = {"n_seeds": len(one), "mean": arm["mean"], "sd": arm["sd"], "reference_mean": base["mean"]}
    row |= {"reference_sd": base["sd"], "difference": both["mean"], "difference_sd": both["sd"]}
    row |= {"low": both["low"], "high": both["high"]}
    row |= {"tested": equivalence is not None, "p_value": math.nan, "p_equivalence": math.nan}
    if equivalence is not None and np.ptp(one - other) > 0:
        row["p_value"] = stats.ttest_rel(one, other).pvalue
        row["p_equivalence"] = ttost_paired(one, other, -equivalence, equivalence)[0]
    return row


def _judged(table: pd.DataFrame, equivalence: float) -> pd.DataFrame:
    """The contrasts in order, with Holm's p-values and the verdicts."""
    table = table.sort_values("role", key=lambda role: role.map(ROLES.index), kind="stable", ignore_index=True)
    tested = table.pop("tested")
    p_values = table.p_value[tested].fillna(1)  # one that could not be computed counts in the family
    holm = multipletests(p_values, method="holm")[1] if len(p_values) else []
    table["p_holm"] = pd.Series(holm, index=p_values.index).where(table.p_value.notna())
    within = np.where(table.p_equivalence < ALPHA, f"equivalent within {equivalence:g} points", "inconclusive")
    table["verdict"] = np.where(tested, np.where(table.p_holm < ALPHA, "different", within), table.role)
    return table


def seeds_needed(sd: float, *, difference: float, n_tests: int) -> int:
    """Pairs of seeds with which a paired t test finds a true difference with 80 % power.

    `sd` is the standard deviation of the differences between paired seeds; of `n_tests` the level is Holm's first.
    """
    if not (sd > 0 and difference > 0 and n_tests > 0):
        raise ParameterError(f"expected numbers above 0, got sd {sd}, difference {difference}, n_tests {n_tests}")
    level, most = ALPHA / n_tests, 10**6
    return bisect_left(range(most), 0.8, lo=2, key=lambda n: TTestPower().power(difference / sd, n, level))
