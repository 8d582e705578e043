"""Do the numbers of the paper's Tables 2 and 3 fit together?

A row of Table 2 has four rates (Sub., Del., Ins., ER) and three percentages (Pre., Rec., F1), all from the same counts
of segment activities. Per segment, sed_eval defines S = min(Nref, Nsys) - Ntp, D = max(0, Nref - Nsys) and
I = max(0, Nsys - Nref); summed over segments and divided by the summed Nref they obey, exactly,

    S + D = 1 - R,    S + I = R (1/P - 1),    D - I = 1 - R/P,    ER = S + D + I,    F1 = 2 P R / (P + R) .

Conventions: a row maps the columns of ``results/paper/table2.csv`` to printed text. A printed number stands for a
closed interval of exact fractions, ``rounded`` or ``cut`` to its decimals; one that is cut cannot reach the upper end,
so there "fails" is certain and "holds" the benefit of the doubt. A residual, left side minus right side, is an interval
too; an equation holds if it contains 0. In units of what rounding allows (centre over half-width) that is between -1
and 1.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

import numpy as np
import pandas as pd
from scipy.optimize import linprog

from hpsed_lib.errors import DataError
from hpsed_lib.paths import published_folder, read_json, replacing, results_folder
from hpsed_lib.tables import HEADINGS, PERCENTAGES, RATES

Interval = tuple[Fraction, Fraction]
Row = Mapping[str, str]
KEYS = ["dataset", "pooling", "structure"]
CONVENTIONS = ("rounded", "cut")
JOINT = "all at once"
_S, _D, _I, _ER, _P, _R, _F1 = RATES + PERCENTAGES
_RESULT = ["residual_low", "residual_high", "units", "holds"]

IDENTITIES: dict[str, tuple[list[str], Callable[..., Fraction]]] = {
    "ER = S + D + I": ([_ER, _S, _D, _I], lambda er, s, d, i: er - s - d - i),
    "S + D = 1 - R": ([_S, _D, _R], lambda s, d, r: s + d - 1 + r),
    "S + I = R (1/P - 1)": ([_S, _I, _P, _R], lambda s, i, p, r: s + i - r * (1 / p - 1)),
    "D - I = 1 - R/P": ([_D, _I, _P, _R], lambda d, i, p, r: d - i - 1 + r / p),
    "F1 = 2PR/(P + R)": ([_F1, _P, _R], lambda f, p, r: f - 2 / (1 / p + 1 / r)),
}
"""Equations within one row: columns, and the residual as a function of them, monotone in each."""

CHANGES = {"ER change": _ER, "F1 change": _F1}
TABLE3 = {"ER of Table 3": _ER, "F1 of Table 3": _F1}
COLUMNS = [*IDENTITIES, JOINT, *CHANGES, *TABLE3]  # every check, in the order of the figure


def read_printed(name: str) -> pd.DataFrame:
    """The paper's ``table2`` or ``table3`` as text, with the decimals as printed; empty where nothing is printed."""
    return pd.read_csv(published_folder("paper") / f"{name}.csv", dtype=str, keep_default_na=False)


def printed_interval(text: str, *, convention: str = "rounded", percent: bool = False) -> Interval:
    """What a printed number, in `percent` or not, may stand for, as fractions.

    With the unit ``u`` of its last decimal ``[v - u/2, v + u/2]`` or, if it was cut, ``[v, v + u]`` away from zero.

    Examples
    --------
    >>> [float(end) for end in printed_interval("0.25")]
    [0.245, 0.255]
    >>> [float(end) for end in printed_interval("-3.8", convention="cut", percent=True)]
    [-0.039, -0.038]
    """
    if not re.fullmatch(r"-?\d+(\.\d+)?", text):
        raise DataError(f"expected a decimal number as printed, got {text!r}")
    scale = 100 if percent else 1
    value = Fraction(text) / scale
    unit = Fraction(1, 10 ** len(text.partition(".")[2])) / scale
    if convention == "rounded":
        return value - unit / 2, value + unit / 2
    return (value - unit, value) if text.startswith("-") else (value, value + unit)


def row_intervals(row: Row, *, convention: str = "rounded") -> dict[str, Interval]:
    """Intervals of the seven columns of one row, as fractions; precision and recall may not be 0."""
    found = {name: _interval(row[name], name, convention) for name in RATES + PERCENTAGES}
    for name in (_P, _R):
        if found[name][0] <= 0:
            raise DataError(f"{name} {row[name]} may be 0: the identities need a positive one")
    return found


def identity_residuals(row: Row, *, convention: str = "rounded") -> dict[str, Interval]:
    """Exact interval of the residual of each of the `IDENTITIES` in one row, as a fraction."""
    intervals = row_intervals(row, convention=convention)
    return {
        name: _range(residual, *(intervals[c] for c in columns)) for name, (columns, residual) in IDENTITIES.items()
    }


def is_feasible(row: Row, *, convention: str = "rounded", widening: float = 1.0, without: str | None = None) -> bool:
    """Is there one set of counts' ratios behind a whole row?

    A column p/q lies between a and b if ``a q <= p <= b q``, which is linear in (S, R, t) with t = R/P = Nsys/Nref. A
    linear programme (HiGHS, feasible to 1e-9) says whether a solution with S, D, I >= 0 exists. `widening` is a factor
    on the width of every interval, about its centre; `without`, a column not to be looked at.
    """
    one, s, r, t = np.eye(4)
    rates = {_S: s, _D: one - r - s, _I: t - r - s, _ER: one - 2 * r + t - s, _R: r}
    ratios = {name: (rate, one) for name, rate in rates.items()} | {_P: (r, t), _F1: (2 * r, one + t)}
    below_zero = [-rates[name] for name in (_S, _D, _I)]
    for name, (low, high) in row_intervals(row, convention=convention).items():
        if name != without:
            p, q = ratios[name]
            centre, half = float((low + high) / 2), float((high - low) / 2) * widening
            below_zero += [(centre - half) * q - p, p - (centre + half) * q]
    matrix = np.array(below_zero)
    options = {"primal_feasibility_tolerance": 1e-9}
    return bool(linprog([0, 0, 0], A_ub=matrix[:, 1:], b_ub=-matrix[:, 0], options=options).status == 0)


def smallest_widening(row: Row, *, convention: str = "rounded") -> float:
    """By what factor every interval must be widened until the row is feasible; at most 1 if the row is consistent.

    The factor is never too small, and accurate to 1e-4, absolute or relative.
    """
    low, high = 0.0, 1.0
    while not is_feasible(row, convention=convention, widening=high):
        low, high = high, 2 * high
    while high - low > 1e-4 * max(1.0, high):
        middle = (low + high) / 2
        if is_feasible(row, convention=convention, widening=middle):
            high = middle
        else:
            low = middle
    return high


def suspects(row: Row) -> list[str]:
    """Columns without whose number, each by itself, the rest of the row is feasible; all seven in a consistent row."""
    return [name for name in RATES + PERCENTAGES if is_feasible(row, without=name)]


_MOVABLE = [_S, _D, _I, _P, _R]
ARRANGEMENTS: list[dict[str, str]] = sorted(
    (
        {column: origin for column, origin in zip(_MOVABLE, (*errors, *scores), strict=True) if column != origin}
        for errors in itertools.permutations(_MOVABLE[:3])
        for scores in itertools.permutations(_MOVABLE[3:])
    ),
    key=len,
)
"""Every way to exchange Sub., Del. and Ins. among themselves, and Pre. with Rec., fewest moved columns first: of each
moved column, the one under whose heading its number is taken to be printed. ER and F1 are symmetric in what moves."""


def consistent_arrangements(row: Row) -> list[dict[str, str]]:
    """Those of `ARRANGEMENTS` that make a row feasible, fewest moved columns first."""
    return [one for one in ARRANGEMENTS if is_feasible({**row, **{name: row[origin] for name, origin in one.items()}})]


def describe_arrangement(arrangement: Mapping[str, str]) -> str:
    """An arrangement in words, with the paper's headings."""
    parts = []
    for group in (_MOVABLE[:3], _MOVABLE[3:]):
        names = {HEADINGS[column]: HEADINGS[arrangement[column]] for column in group if column in arrangement}
        if len(names) == 2:
            parts.append(" and ".join(names) + " exchanged")
        elif names:
            parts.append(f"{', '.join(names)} printed under {', '.join(names.values())}")
    return "; ".join(parts) or "as printed"


def explain(row: Row) -> str:
    """The arrangements with the fewest moved columns that make a row consistent, in words; "none found" otherwise."""
    fitting = consistent_arrangements(row)
    return " or ".join(describe_arrangement(one) for one in fitting if len(one) == len(fitting[0])) or "none found"


def block_pairings(table: pd.DataFrame) -> pd.DataFrame:
    """The ER columns of every row of Table 2 beside the F1 columns of every row: which pairs are consistent?

    By row numbers, whether a pair is feasible as it is and in any of `ARRANGEMENTS`. Off the diagonal nothing has to
    fit: the share of pairs that do is how often a fit comes by chance.
    """
    found = []
    for first, second in itertools.product(range(len(table)), repeat=2):
        fitting = consistent_arrangements({**table[RATES].iloc[first], **table[PERCENTAGES].iloc[second]})
        found.append((first, second, {} in fitting, bool(fitting)))
    return pd.DataFrame(found, columns=["error_row", "f_measure_row", "as_printed", "rearranged"])


def operating_points(table: pd.DataFrame) -> pd.DataFrame:
    """Could the ER columns and the F1 columns of a row of Table 2 come from two thresholds of one system?

    Then only ER = S + D + I and F1 = 2PR/(P + R) have to hold, and the ER columns imply scores of their own:
    R' = 1 - S - D, t' = 1 - D + I = Nsys/Nref and F1' = 2R' / (1 + t'). Three assumptions more can each be tested:

    - one threshold for all classes: lowering it adds activity, so that R' - R and t' - R/P cannot differ in sign;
    - the F1 columns belong to the threshold of the best F1: F1' is not larger than F1;
    - the ER columns belong to the threshold of the best ER: ER is not larger than what P and R allow, 1 + R (1/P - 2).

    By `KEYS`: R' and F1' as fractions, and whether the row is consistent with ``two_points`` and with each further
    assumption. False is certain, True is not.
    """
    found = []
    for row in table.to_dict("records"):
        residuals = identity_residuals(row)
        s, d, i, er, p, r, f1 = row_intervals(row).values()
        recall = _range(lambda s, d: 1 - s - d, s, d)
        f_measure = _range(lambda s, d, i: 2 * (1 - s - d) / (2 - d + i), s, d, i)
        largest = _range(lambda p, r: 1 + r * (1 / p - 2), p, r)
        own = residuals["ER = S + D + I"], residuals["F1 = 2PR/(P + R)"]
        fitting = all(low <= 0 <= high for low, high in own) and recall[1] >= 0 and recall[0] <= 1
        hits, active = residuals["S + D = 1 - R"], residuals["D - I = 1 - R/P"]  # R - R' and R/P - t'
        opposed = (hits[0] > 0 > active[1]) or (active[0] > 0 > hits[1])
        further = (not opposed, f_measure[0] <= f1[1], er[0] <= largest[1])
        found.append((*map(float, recall + f_measure), fitting, *(fitting and holds for holds in further)))
    columns = ["recall_low", "recall_high", "f_measure_low", "f_measure_high"]
    columns += ["two_points", "one_threshold", "best_f_measure", "best_error_rate"]
    return table[KEYS].join(pd.DataFrame(found, index=table.index, columns=columns))


def printed_changes(table: pd.DataFrame) -> pd.DataFrame:
    """Table 2's relative changes, in percent, beside those of the printed scores, taken as exact.

    ``rounded`` and ``cut``: whether the recomputed one, so treated, is the printed one.
    """
    found = []
    for row, single in _beside_single(table):
        for name, column in CHANGES.items() if row["error_rate_change"] else ():
            recomputed = Fraction(row[column]) / Fraction(single[column]) - 1
            text = row[f"{column}_change"]
            intervals = [printed_interval(text, convention=convention, percent=True) for convention in CONVENTIONS]
            fits = [low <= recomputed <= high for low, high in intervals]
            found.append((*map(row.get, KEYS), name, float(text), float(100 * recomputed), *fits))
    return pd.DataFrame(found, columns=[*KEYS, "change", "printed", "recomputed", *CONVENTIONS])


def audit(table2: pd.DataFrame, table3: pd.DataFrame) -> pd.DataFrame:
    """Every check (`COLUMNS`) of every row of Table 2.

    ``printed``, the numbers that enter; ``residual_low`` and ``residual_high``, the interval of the residual, as a
    fraction (none for "all at once"); ``units``, the residual in units of what rounding allows (`smallest_widening` for
    "all at once"); ``holds``; these four again with ``_cut``, for numbers cut instead of rounded; ``explanation`` of
    the whole row (`explain`).
    """
    [proposed] = table3[table3.system == "Proposed"].to_dict("records")
    found = []
    for row, single in _beside_single(table2):
        key, explanation = [row[name] for name in KEYS], explain(row)
        rounded, cut = (_checks(row, single, proposed, convention) for convention in CONVENTIONS)
        found += [(*key, name, *rounded[name], *cut[name][1:], explanation) for name in COLUMNS if name in rounded]
    columns = [*KEYS, "identity", "printed", *_RESULT, *(f"{part}_cut" for part in _RESULT), "explanation"]
    return pd.DataFrame(found, columns=columns)


def write_audit() -> pd.DataFrame:
    """`audit` of the paper's tables, kept as ``audit.csv``; returned."""
    table = audit(read_printed("table2"), read_printed("table3"))
    with replacing(results_folder("paper") / "audit.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    return table


def as_printed(overall: Mapping[str, float]) -> dict[str, str]:
    """sed_eval's overall scores with the decimals of Table 2: rates as fractions, the rest in percent."""
    return {name: f"{(100 if name in PERCENTAGES else 1) * overall[name]:.2f}" for name in RATES + PERCENTAGES}


def scored_runs(experiment: str) -> pd.DataFrame:
    """The same checks on scores that sed_eval computed: the runs of one experiment, made here or else published.

    Counts; ``deletions_apart``, S + D - (Nref - Ntp), and ``insertions_apart``, S + I - (Nsys - Ntp); ``units``, the
    `smallest_widening` of the scores with Table 2's decimals. No rows where no run is there.
    """
    counts = ["Nref", "Nsys", "Ntp", "S", "D", "I"]
    here, published = (
        sorted((folder(experiment) / "metrics").glob("[!.]*.json")) for folder in (results_folder, published_folder)
    )
    found = []
    for path in here or published:
        overall = read_json(path)["test"]["overall"]
        n_ref, n_sys, n_tp, s, d, i = values = [overall[name] for name in counts]
        apart = s + d - (n_ref - n_tp), s + i - (n_sys - n_tp)
        found.append((path.stem, *values, *apart, smallest_widening(as_printed(overall))))
    return pd.DataFrame(found, columns=["run", *counts, "deletions_apart", "insertions_apart", "units"])


def row_name(row: Row) -> str:
    """Name of a row of Table 2 in text and figures."""
    return " ".join(row[key] for key in KEYS)


def _beside_single(table: pd.DataFrame) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Every row of Table 2 with the row of ``single`` of its data set and pooling function."""
    rows = table.to_dict("records")
    single = {(row["dataset"], row["pooling"]): row for row in rows if row["structure"] == "single"}
    return [(row, single[row["dataset"], row["pooling"]]) for row in rows]


def _interval(text: str, column: str, convention: str) -> Interval:
    return printed_interval(text, convention=convention, percent=column in PERCENTAGES)


def _range(function: Callable[..., Fraction], *intervals: Interval) -> Interval:
    """Smallest and largest value of a function that is monotone in each argument."""
    values = [function(*corner) for corner in itertools.product(*intervals)]
    return min(values), max(values)


def _printed(row: Row, columns: Iterable[str]) -> str:
    return ", ".join(f"{HEADINGS[column]} {row[column]}" for column in columns)


def _checks(row: Row, single: Row, proposed: Row, convention: str) -> dict[str, tuple]:
    """Every check of one row: printed numbers, then the values of `_RESULT`."""
    identities = identity_residuals(row, convention=convention)
    residuals = {name: (_printed(row, IDENTITIES[name][0]), residual) for name, residual in identities.items()}
    for name, column in CHANGES.items() if row["error_rate_change"] else ():
        change = row[f"{column}_change"]
        numbers = [printed_interval(change, convention=convention, percent=True)]
        numbers += [_interval(text, column, convention) for text in (row[column], single[column])]
        text = f"{HEADINGS[column]} {single[column]} to {row[column]}, {change} %"
        residuals[name] = text, _range(lambda c, h, s: c - h / s + 1, *numbers)
    for name, column in TABLE3.items() if (row["pooling"], row["structure"]) == ("linear", "hierarchical") else ():
        texts = proposed[f"{row['dataset']}_{column}"], row[column]
        numbers = [_interval(text, column, convention) for text in texts]
        residuals[name] = f"{HEADINGS[column]} {' and '.join(texts)}", _range(lambda a, b: a - b, *numbers)
    found: dict[str, tuple] = {
        name: (text, float(low), float(high), float((low + high) / (high - low)), low <= 0 <= high)
        for name, (text, (low, high)) in residuals.items()
    }
    units = smallest_widening(row, convention=convention)
    return found | {JOINT: (_printed(row, RATES + PERCENTAGES), np.nan, np.nan, units, units <= 1)}
