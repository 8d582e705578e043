"""Is one variant better than another? Intervals, tests and the number of seeds they need.

Conventions: a run is (pooling, structure, seed), a variant (pooling, structure). The score of a variant is the mean of
its runs' scores. ``f_measure`` is in percent, so that its differences are points, as in the paper; ``error_rate`` is a
fraction. A difference is the compared variant minus the reference.

Two things are random, and they answer two questions:

- **clips**: would another test set of the same kind agree, for *these* trained networks? Clips are resampled, or, in a
  permutation test, exchanged between two variants.
- **seeds**: would another training agree? Seeds are resampled, or, in a paired t test, their differences are compared
  with their spread. With one seed there is no answer, and every table says so.

The unit is the clip: clips are drawn independently, the segments of one clip are not, so that resampling segments would
give intervals that are too narrow. All runs share each resample of the clips, for they were scored on the same ones.

References
----------
.. [1] T. C. Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69(4), 2015.
.. [2] B. Phipson and G. K. Smyth, "Permutation p-values should never be zero", Statistical Applications in Genetics and
   Molecular Biology 9(1), 2010.
.. [3] S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2),
   1979.
.. [4] R. L. Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24(4), 1982.
.. [5] L. V. Hedges, "Distribution theory for Glass's estimator of effect size", Journal of Educational Statistics 6(2),
   1981.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import special, stats

from hpsed_lib.errors import DataError, ParameterError

Variant = tuple[str, str]
"""Pooling and structure."""

Counts = Mapping[tuple[str, str, int], Mapping[str, np.ndarray]]
"""Segment counts of each run, (pooling, structure, seed) to name to int array (clips,); the names are sed_eval's."""

MEASURES = ("f_measure", "error_rate")
_NAMES = ("Nref", "Nsys", "Ntp", "S", "D", "I")
_CHUNK = 4_000_000  # numbers drawn at a time: 32 MB
_TIE = 1e-9  # statistics closer than this are equal but for rounding


def counts_from_metrics(metrics: Iterable[Mapping]) -> dict[tuple[str, str, int], dict[str, np.ndarray]]:
    """Segment counts per test clip from the runs' metrics.

    Parameters
    ----------
    metrics : iterable of dict
        Each with ``pooling``, ``structure``, ``seed`` and ``test.clip_counts``, lists of int by name.

    Returns
    -------
    dict
        What the functions of this module take as ``counts``.

    Raises
    ------
    DataError
        A run has no counts per clip, or comes twice.
    """
    counts: dict[tuple[str, str, int], dict[str, np.ndarray]] = {}
    for run in metrics:
        key = (run["pooling"], run["structure"], run["seed"])
        if "clip_counts" not in run["test"]:
            raise DataError(f"metrics of {' '.join(map(str, key))}: expected test.clip_counts, found none; score again")
        if key in counts:
            raise DataError(f"metrics of {' '.join(map(str, key))}: expected once, found twice")
        counts[key] = {name: np.asarray(values) for name, values in run["test"]["clip_counts"].items()}
    return counts


def structure_pairs(counts: Counts, *, baseline: str = "single") -> list[tuple[Variant, Variant]]:
    """Every variant against that of the same pooling function with the baseline structure, in order.

    Parameters
    ----------
    counts : dict
        See `Counts`.
    baseline : str
        The structure to compare with.

    Returns
    -------
    list of (reference, compared)
    """
    variants = list(_seeds(counts))
    return [
        ((pooling, baseline), (pooling, structure))
        for pooling, structure in variants
        if structure != baseline and (pooling, baseline) in variants
    ]


def score_intervals(
    counts: Counts, *, confidence: float = 0.95, n_resamples: int = 5000, random_seed: int = 0
) -> pd.DataFrame:
    """Bootstrap confidence intervals of F1 and error rate, of each run and of each variant.

    A run's interval is over clips: clips are drawn with replacement, their counts summed, the score computed anew. A
    variant's is over seeds and clips: all seeds see the same resampled clips, and to the mean of their scores comes the
    deviation of seeds drawn with replacement from the mean of all seeds.

    The interval lies between percentiles of the resampled scores. BCa, the usual alternative, corrects for bias and
    skewness, of which ratios of sums over many clips have little, and is not defined where seeds and clips are drawn
    together; percentiles give runs, variants and differences one rule. Percentiles over k seeds, though, are too
    narrow by about sqrt((k - 1) / k) * z / t(k - 1), 37 % of what is needed for three seeds: the deviation due to seeds
    is therefore widened by the inverse of that factor [1]_. An interval ends where scores do: at 0, and F1 at 100 %.

    Parameters
    ----------
    counts : dict
        See `Counts`.
    confidence : float
        Probability that the interval covers the true score.
    n_resamples : int
    random_seed : int

    Returns
    -------
    DataFrame with columns pooling, structure, seed, measure, value, low, high, over, n_seeds, n_clips
        ``seed`` is missing in the rows of variants. ``over`` is ``clips`` (of runs, and of variants with one seed) or
        ``clips and seeds``.

    Raises
    ------
    DataError, ParameterError
    """
    runs, parts = _parts(counts)
    _check_fractions(confidence=confidence)
    observed = _scores(parts.sum(axis=0))  # (runs, measures)
    resampled = _resampled_scores(parts, n_resamples=n_resamples, random_seed=random_seed)

    rows = []
    for index, (pooling, structure, seed) in enumerate(runs):
        interval = _within_bounds(_percentiles(resampled[:, index], confidence))
        rows += _rows((pooling, structure, seed), observed[index], interval, n_seeds=1, n_clips=len(parts))
    for (pooling, structure), seeds in _seeds(counts).items():
        members = [runs.index((pooling, structure, seed)) for seed in seeds]
        of_seeds = _average_over_seeds(
            resampled[:, members], observed[members], confidence=confidence, random_seed=random_seed
        )
        interval, value = _within_bounds(_percentiles(of_seeds, confidence)), observed[members].mean(axis=0)
        rows += _rows((pooling, structure, pd.NA), value, interval, n_seeds=len(seeds), n_clips=len(parts))
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def seed_differences(counts: Counts, pairs: Sequence[tuple[Variant, Variant]]) -> pd.DataFrame:
    """What each seed says: the compared run minus the reference run of the same seed.

    Parameters
    ----------
    counts : dict
        See `Counts`.
    pairs : sequence of (reference, compared)
        Variants.

    Returns
    -------
    DataFrame with columns reference_pooling, reference_structure, pooling, structure, measure, seed, difference
        ``difference`` in points of F1 or of the error rate.
    """
    runs, parts = _parts(counts)
    observed = _scores(parts.sum(axis=0))
    rows = []
    for reference, compared in pairs:
        seeds = _common_seeds(counts, reference, compared)
        for column, measure in enumerate(MEASURES):
            for seed in seeds:
                one, other = runs.index((*reference, seed)), runs.index((*compared, seed))
                difference = float(observed[other, column] - observed[one, column])
                rows.append({**_names(reference, compared), "measure": measure, "seed": seed, "difference": difference})
    names = ["reference_pooling", "reference_structure", "pooling", "structure"]
    return pd.DataFrame(rows, columns=[*names, "measure", "seed", "difference"])


def paired_comparisons(
    counts: Counts,
    pairs: Sequence[tuple[Variant, Variant]],
    *,
    alpha: float = 0.05,
    n_resamples: int = 5000,
    n_permutations: int = 10_000,
    random_seed: int = 0,
) -> pd.DataFrame:
    """Compare variants pair by pair: difference, interval, tests, effect size, verdict.

    Runs are paired by seed (same initial network, same order of the data) and clips by clip. The interval of the
    difference is that of `score_intervals`, with the same resample of clips, and of seeds, on both sides.

    ``p_clips``: permutation test. Hypothesis: in each clip, the counts of the two variants could as well have been
    exchanged. The exchangeable unit is the clip with all its segments, classes and seeds: clips are drawn
    independently, whereas what happens within a clip, or to several networks that hear the same clip, is not
    independent. Two-sided; all 2^n exchanges if they are no more than ``n_permutations`` (clips in which the variants
    do not differ need no exchange), otherwise random ones, with p = (k + 1) / (n + 1) [2]_. It is a statement about
    these trained networks: two trainings of one and the same method may well differ by it.

    ``p_seeds``: two-sided paired t test of the seeds' differences, which are taken as normal. A sign test of k seeds
    could not reach a p-value below 2^(1 - k).

    ``p_value`` is the larger of the two: a difference is claimed only where both tests find one, and the larger p-value
    is valid for that claim [4]_. ``p_adjusted`` is Holm's [3]_, over the pairs of this call, for each measure.

    Parameters
    ----------
    counts : dict
        See `Counts`.
    pairs : sequence of (reference, compared)
        Variants; a family for Holm's adjustment. `structure_pairs` makes the usual one.
    alpha : float
        Level of the tests; the interval's confidence is 1 - alpha.
    n_resamples, n_permutations : int
    random_seed : int

    Returns
    -------
    DataFrame with columns reference_pooling, reference_structure, pooling, structure, measure, difference, low, high, \
over, n_clips, n_seeds, p_clips, exact, p_seeds, p_value, p_adjusted, cohens_d, verdict
        ``cohens_d`` is the mean of the seeds' differences over their standard deviation, times Hedges' correction for
        small samples [5]_; missing below three seeds. ``verdict``: ``better`` or ``worse`` (than the reference) where
        ``p_adjusted < alpha`` and the interval excludes 0, otherwise ``not distinguishable``. With one seed it is about
        the trained networks only, and never about which variant is better: ``these networks differ, variants not
        tested`` or ``these networks not distinguishable, variants not tested``.

    Raises
    ------
    DataError
        A variant is not there, or the two variants of a pair were not trained with the same seeds.
    ParameterError
    """
    runs, parts = _parts(counts)
    _check_fractions(alpha=alpha)
    if n_permutations < 1:
        raise ParameterError(f"n_permutations: expected 1 or more, got {n_permutations}")
    paired_seeds = [_common_seeds(counts, reference, compared) for reference, compared in pairs]
    observed = _scores(parts.sum(axis=0))
    resampled = _resampled_scores(parts, n_resamples=n_resamples, random_seed=random_seed)

    rows: list[dict] = []
    for (reference, compared), seeds in zip(pairs, paired_seeds, strict=True):
        one = [runs.index((*reference, seed)) for seed in seeds]
        other = [runs.index((*compared, seed)) for seed in seeds]
        differences = observed[other] - observed[one]  # (seeds, measures)
        of_seeds = _average_over_seeds(
            resampled[:, other] - resampled[:, one], differences, confidence=1 - alpha, random_seed=random_seed
        )
        low, high = _percentiles(of_seeds, 1 - alpha)
        p_clips, exact = _permutation_test(
            parts[:, one], parts[:, other], n_permutations=n_permutations, random_seed=random_seed
        )
        for column, measure in enumerate(MEASURES):
            p_seeds = _paired_t_test(differences[:, column])
            rows.append(
                {
                    **_names(reference, compared),
                    "measure": measure,
                    "difference": differences[:, column].mean(),
                    "low": low[column],
                    "high": high[column],
                    "over": _over(len(seeds)),
                    "n_clips": len(parts),
                    "n_seeds": len(seeds),
                    "p_clips": p_clips[column],
                    "exact": exact,
                    "p_seeds": p_seeds,
                    "p_value": np.fmax(p_clips[column], p_seeds),
                    "cohens_d": _cohens_d(differences[:, column]),
                }
            )
    table = pd.DataFrame(rows)
    if table.empty:
        raise ParameterError("pairs: expected at least one pair of variants, got none")
    adjusted = table.groupby("measure").p_value.transform(lambda p_values: holm(p_values.to_numpy()))
    table.insert(table.columns.get_loc("cohens_d"), "p_adjusted", adjusted)
    return table.assign(verdict=[_verdict(row, alpha) for row in table.to_dict("records")])


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values, which keep the probability of any false claim in the family below the level.

    Parameters
    ----------
    p_values : array_like, shape (n,)

    Returns
    -------
    np.ndarray, shape (n,)
        ``max_{j <= i} min(1, (n - j) p_(j))``, with p_(0) <= p_(1) <= ...

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted


def paired_t_power(n_seeds: np.ndarray, *, gain: float, sd: float, alpha: float = 0.05) -> np.ndarray:
    """Power of the two-sided paired t test of ``n_seeds`` differences.

    Parameters
    ----------
    n_seeds : array_like of int
        2 or more.
    gain : float
        True mean of the differences.
    sd : float
        Their true standard deviation, more than 0.
    alpha : float
        Level of the test.

    Returns
    -------
    np.ndarray
        ``P(|T| > t(1 - alpha / 2, n - 1))``, T noncentral t with n - 1 degrees of freedom and noncentrality
        ``sqrt(n) gain / sd``.
    """
    n_seeds = np.asarray(n_seeds)
    _check_fractions(alpha=alpha)
    if not sd > 0 or (n_seeds < 2).any():
        raise ParameterError(f"expected sd > 0 and two seeds or more, got sd {sd}, n_seeds {n_seeds}")
    degrees, noncentrality = n_seeds - 1, np.sqrt(n_seeds) * abs(gain) / sd
    critical = stats.t.ppf(1 - alpha / 2, degrees)
    # The left tail by symmetry: the cdf of a far tail is NaN in scipy.
    return stats.nct.sf(critical, degrees, noncentrality) + stats.nct.sf(critical, degrees, -noncentrality)


def seeds_needed(
    differences: np.ndarray, *, gain: float, power: float = 0.8, alpha: float = 0.05, confidence: float = 0.95
) -> pd.DataFrame:
    """How many seeds a paired t test needs to see a gain, given how much the seeds' differences vary.

    A standard deviation from a few seeds is itself uncertain: the answer is also given for both ends of its confidence
    interval, sqrt(df s^2 / chi2), which takes the differences as normal.

    Parameters
    ----------
    differences : array_like, shape (seeds,)
        Paired differences between two variants, one for each seed, two or more.
    gain : float
        The mean difference to be seen, in the same unit.
    power : float
        Probability of seeing it.
    alpha : float
        Level of the two-sided test.
    confidence : float
        Of the interval of the standard deviation.

    Returns
    -------
    DataFrame with columns bound, sd, n_seeds
        ``bound`` is low, estimate, high. ``n_seeds``, 2 or more, is missing where the standard deviation is 0: equal
        differences say nothing about how much they vary.
    """
    _check_fractions(power=power, alpha=alpha)
    if gain == 0 or not np.isfinite(gain):
        raise ParameterError(f"gain: expected a number other than 0, got {gain}")
    spread = _sd_interval(differences, confidence=confidence)
    needed = [_smallest_n(gain=gain, sd=sd, power=power, alpha=alpha) if sd > 0 else pd.NA for sd in spread.sd]
    return spread.assign(n_seeds=pd.array(needed, dtype="Int64"))


def power_curve(
    differences: np.ndarray,
    *,
    gain: float,
    n_seeds: Sequence[int] = range(2, 31),
    alpha: float = 0.05,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Power of the paired t test by number of seeds, for the standard deviation and both ends of its interval.

    Parameters
    ----------
    differences, gain, alpha, confidence
        As in `seeds_needed`.
    n_seeds : sequence of int
        2 or more.

    Returns
    -------
    DataFrame with columns bound, sd, n_seeds, power
        Without rows where the standard deviation is 0.
    """
    numbers = np.asarray(n_seeds)
    curves = [
        pd.DataFrame(
            {
                "bound": bound,
                "sd": sd,
                "n_seeds": numbers,
                "power": paired_t_power(numbers, gain=gain, sd=sd, alpha=alpha),
            }
        )
        for bound, sd in _sd_interval(differences, confidence=confidence).itertuples(index=False)
        if sd > 0
    ]
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=["bound", "sd", "n_seeds", "power"])


def _parts(counts: Counts) -> tuple[list[tuple[str, str, int]], np.ndarray]:
    """Runs, and the two numerators and two denominators of their scores in each clip, (clips, runs, 4), checked."""
    runs = list(counts)
    if not runs:
        raise DataError("expected the counts of one run or more, got none")
    first: np.ndarray | None = None
    parts = []
    for run in runs:
        where = " ".join(map(str, run))
        missing = [name for name in _NAMES if name not in counts[run]]
        if missing:
            raise DataError(f"counts of {where}: expected {', '.join(_NAMES)}, found no {', '.join(missing)}")
        n_ref, n_sys, n_tp, subs, dels, ins = (np.asarray(counts[run][name]) for name in _NAMES)
        if len({values.shape for values in (n_ref, n_sys, n_tp, subs, dels, ins)}) > 1 or n_ref.ndim != 1:
            raise DataError(f"counts of {where}: expected arrays of one length, (clips,)")
        if (subs + dels != n_ref - n_tp).any() or (subs + ins != n_sys - n_tp).any() or min(n_tp.min(), subs.min()) < 0:
            raise DataError(f"counts of {where}: expected S + D = Nref - Ntp and S + I = Nsys - Ntp in every clip")
        first = n_ref if first is None else first
        if not np.array_equal(n_ref, first):
            raise DataError(f"counts of {where}: Nref differs from that of {' '.join(map(str, runs[0]))}; other clips?")
        parts.append(np.stack([200 * n_tp, n_ref + n_sys, subs + dels + ins, n_ref], axis=1))
    if first is None or not first.any():
        raise DataError("expected reference activity in some clip, found none: there is nothing to compare")
    return runs, np.stack(parts, axis=1).astype(float)


def _scores(sums: np.ndarray) -> np.ndarray:
    """F1 in percent and error rate, (..., 2), from summed parts (..., 4); NaN where there is no reference activity."""
    ratios = np.full((*sums.shape[:-1], 2), np.nan)
    np.divide(sums[..., 0::2], sums[..., 1::2], out=ratios, where=sums[..., 1::2] > 0)
    ratios[..., 0] = np.where(sums[..., 1] > 0, ratios[..., 0], 0)  # as in hpsed_lib.scoring
    return ratios


def _resampled_scores(parts: np.ndarray, *, n_resamples: int, random_seed: int) -> np.ndarray:
    """Scores (resamples, runs, 2) on clips drawn with replacement, the same for all runs."""
    if n_resamples < 1:
        raise ParameterError(f"n_resamples: expected 1 or more, got {n_resamples}")
    generator = np.random.default_rng([random_seed, 0])
    n_clips, n_runs, n_parts = parts.shape
    flat, shares = parts.reshape(n_clips, -1), np.full(n_clips, 1 / n_clips)
    sums = np.concatenate(
        [generator.multinomial(n_clips, shares, size=size) @ flat for size in _chunks(n_resamples, n_clips)]
    )
    return _scores(sums.reshape(n_resamples, n_runs, n_parts))


def _average_over_seeds(
    resampled: np.ndarray, observed: np.ndarray, *, confidence: float, random_seed: int
) -> np.ndarray:
    """Mean over seeds drawn with replacement, (resamples, 2), from (resamples, seeds, 2); see `score_intervals`.

    The seeds' deviations from their mean are those observed, (seeds, 2): widening resampled ones would widen what is
    due to clips as well.
    """
    n_resamples, n_seeds, _ = resampled.shape
    mean = resampled.mean(axis=1)
    if n_seeds == 1:
        return mean
    tail = (1 + confidence) / 2
    widening = np.sqrt(n_seeds / (n_seeds - 1)) * stats.t.ppf(tail, n_seeds - 1) / stats.norm.ppf(tail)
    generator = np.random.default_rng([random_seed, 1])
    shares = generator.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_resamples) / n_seeds
    return mean + widening * shares @ (observed - observed.mean(axis=0))


def _within_bounds(ends: np.ndarray) -> np.ndarray:
    """Ends of an interval where a score can be: F1 from 0 to 100 %, an error rate from 0 up."""
    return np.clip(ends, 0, [100, np.inf])


def _percentiles(resampled: np.ndarray, confidence: float) -> np.ndarray:
    """Ends of the interval, (2, measures); resamples without reference activity have no error rate and do not count."""
    return np.nanquantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)


def _permutation_test(
    one: np.ndarray, other: np.ndarray, *, n_permutations: int, random_seed: int
) -> tuple[np.ndarray, bool]:
    """p-values (2,) of the mean difference over seeds, from parts (clips, seeds, 4), and whether they are exact."""

    def difference(sums_one: np.ndarray, sums_other: np.ndarray) -> np.ndarray:
        return (_scores(sums_other) - _scores(sums_one)).mean(axis=-2)  # (..., seeds, 4) -> (..., 2)

    change = other - one
    differing = change[change.any(axis=(1, 2))]
    n_clips, n_seeds, n_parts = differing.shape
    sums_one, sums_other = one.sum(axis=0), other.sum(axis=0)
    threshold = np.abs(difference(sums_one, sums_other)) - _TIE
    exact = n_clips < 63 and 2**n_clips <= n_permutations
    n_exchanges = 2**n_clips if exact else n_permutations
    generator = np.random.default_rng([random_seed, 2])

    extreme, done = np.zeros(2), 0
    for size in _chunks(n_exchanges, max(n_clips, n_seeds * n_parts)):
        if exact:
            exchanged = (np.arange(done, done + size)[:, None] >> np.arange(n_clips)) & 1  # (exchanges, clips)
        else:
            exchanged = generator.integers(0, 2, size=(size, n_clips), dtype=np.int8)
        moved = (exchanged.astype(float) @ differing.reshape(n_clips, n_seeds * n_parts)).reshape(
            size, n_seeds, n_parts
        )
        extreme += (np.abs(difference(sums_one + moved, sums_other - moved)) >= threshold).sum(axis=0)
        done += size
    return (extreme / n_exchanges if exact else (extreme + 1) / (n_exchanges + 1)), exact


def _paired_t_test(differences: np.ndarray) -> float:
    """Two-sided p-value that the mean difference is 0; NaN with one seed, 1 where all differences are 0."""
    if len(differences) < 2:
        return float("nan")
    if np.ptp(differences) < _TIE:  # no spread: scipy would divide by zero, or by rounding
        return 1.0 if abs(differences[0]) < _TIE else 0.0
    return float(stats.ttest_1samp(differences, 0).pvalue)


def _cohens_d(differences: np.ndarray) -> float:
    """Standardised mean difference with Hedges' correction Gamma(m/2) / (sqrt(m/2) Gamma((m-1)/2)), m = n - 1."""
    if len(differences) < 3 or np.ptp(differences) < _TIE:
        return float("nan")
    degrees = len(differences) - 1
    correction = np.exp(special.gammaln(degrees / 2) - special.gammaln((degrees - 1) / 2)) / np.sqrt(degrees / 2)
    return float(correction * differences.mean() / differences.std(ddof=1))


def _sd_interval(differences: np.ndarray, *, confidence: float) -> pd.DataFrame:
    """Standard deviation and its chi-square interval: columns bound, sd."""
    differences = np.asarray(differences, dtype=float)
    _check_fractions(confidence=confidence)
    if differences.ndim != 1 or len(differences) < 2 or not np.isfinite(differences).all():
        raise DataError(f"expected the finite differences of two seeds or more, got {differences}")
    degrees = len(differences) - 1
    sd = differences.std(ddof=1) if np.ptp(differences) > _TIE else 0.0
    quantiles = stats.chi2.ppf([(1 + confidence) / 2, (1 - confidence) / 2], degrees)
    low, high = sd * np.sqrt(degrees / quantiles)
    return pd.DataFrame({"bound": ["low", "estimate", "high"], "sd": [low, sd, high]})


def _smallest_n(*, gain: float, sd: float, power: float, alpha: float) -> int:
    """Fewest seeds with the power, by bisection: it rises with their number."""
    normal = ((stats.norm.ppf(power) + stats.norm.ppf(1 - alpha / 2)) * sd / gain) ** 2  # known sd: a little too few
    low, high = 1, 2 * int(np.ceil(normal)) + 16
    while high - low > 1:
        middle = (low + high) // 2
        enough = paired_t_power(np.array(middle), gain=gain, sd=sd, alpha=alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def _verdict(row: dict, alpha: float) -> str:
    differ = row["p_adjusted"] < alpha and (row["low"] > 0 or row["high"] < 0)
    if row["n_seeds"] == 1:
        return f"these networks {'differ' if differ else 'not distinguishable'}, variants not tested"
    if not differ:
        return "not distinguishable"
    higher_is_better = row["measure"] == "f_measure"
    return "better" if (row["difference"] > 0) == higher_is_better else "worse"


def _seeds(counts: Counts) -> dict[Variant, list[int]]:
    """Seeds of each variant, in order of appearance."""
    seeds: dict[Variant, list[int]] = {}
    for pooling, structure, seed in counts:
        seeds.setdefault((pooling, structure), []).append(seed)
    return seeds


def _common_seeds(counts: Counts, reference: Variant, compared: Variant) -> list[int]:
    seeds = _seeds(counts)
    for variant in (reference, compared):
        if variant not in seeds:
            raise DataError(f"expected counts of {' '.join(variant)}, found {[' '.join(name) for name in seeds]}")
    if set(seeds[reference]) != set(seeds[compared]):
        raise DataError(
            f"{' '.join(reference)} and {' '.join(compared)}: expected the same seeds, "
            f"got {seeds[reference]} and {seeds[compared]}"
        )
    return seeds[reference]


def _names(reference: Variant, compared: Variant) -> dict[str, str]:
    return {
        "reference_pooling": reference[0],
        "reference_structure": reference[1],
        "pooling": compared[0],
        "structure": compared[1],
    }


def _rows(run: tuple, value: np.ndarray, interval: np.ndarray, *, n_seeds: int, n_clips: int) -> list[dict]:
    return [
        {
            **dict(zip(("pooling", "structure", "seed"), run, strict=True)),
            "measure": measure,
            "value": value[column],
            "low": interval[0, column],
            "high": interval[1, column],
            "over": _over(n_seeds),
            "n_seeds": n_seeds,
            "n_clips": n_clips,
        }
        for column, measure in enumerate(MEASURES)
    ]


def _over(n_seeds: int) -> str:
    return "clips" if n_seeds == 1 else "clips and seeds"


def _chunks(n_rows: int, n_columns: int) -> Iterator[int]:
    """Sizes that add up to n_rows, such that size x n_columns stays bounded."""
    size = max(1, _CHUNK // max(1, n_columns))
    for start in range(0, n_rows, size):
        yield min(size, n_rows - start)


def _check_fractions(**fractions: float) -> None:
    for name, value in fractions.items():
        if not 0 < value < 1:
            raise ParameterError(f"{name}: expected a number between 0 and 1, got {value}")
