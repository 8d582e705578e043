"""Do the numbers of the paper's Tables 2 and 3 fit together?

A row of Table 2 has four rates (Sub., Del., Ins., ER) and three percentages (Pre., Rec., F1), all from the same counts
of segment activities. Per segment, sed_eval defines S = min(Nref, Nsys) - Ntp, D = max(0, Nref - Nsys) and
I = max(0, Nsys - Nref); summed over segments and divided by the summed Nref they obey, exactly,

    S + D = 1 - R,    S + I = R (1/P - 1),    D - I = 1 - R/P,    ER = S + D + I,    F1 = 2 P R / (P + R) .

Conventions: a printed number stands for an interval (`printed_interval`), ``rounded`` or ``cut`` to its decimals. All
quantities are fractions; numbers printed in percent are divided by 100. Intervals are pairs of exact fractions and
closed; a number that is cut cannot reach the upper end of its interval, so there a verdict "fails" is certain and a
verdict "holds" the benefit of the doubt. A residual is left side minus right side; an identity holds if the residual's
interval contains 0. Residuals are also given in units of what rounding allows: centre over half-width, so that an
identity holds if and only if this is between -1 and 1.

`row` is one row of Table 2: a mapping from column names, as in ``results/paper/table2.csv``, to printed text.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import linprog

from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.paths import replacing, results_folder
from hpsed_lib.tables import HEADINGS, PERCENTAGES, RATES

Interval = tuple[Fraction, Fraction]
KEYS = ["dataset", "pooling", "structure"]
ERRORS = RATES[:3]
CONVENTIONS = ("rounded", "cut")
JOINT = "all at once"
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_LARGEST_WIDENING = 1e6


class Identity(NamedTuple):
    """An equation between columns of one row: `columns`, and the residual as a function of them."""

    columns: tuple[str, ...]
    residual: Callable[..., Fraction]


IDENTITIES = {
    "ER = S + D + I": Identity(("error_rate", *ERRORS), lambda er, s, d, i: er - s - d - i),
    "S + D = 1 - R": Identity(("substitution_rate", "deletion_rate", "recall"), lambda s, d, r: s + d - 1 + r),
    "S + I = R (1/P - 1)": Identity(
        ("substitution_rate", "insertion_rate", "precision", "recall"), lambda s, i, p, r: s + i - r * (1 / p - 1)
    ),
    "D - I = 1 - R/P": Identity(
        ("deletion_rate", "insertion_rate", "precision", "recall"), lambda d, i, p, r: d - i - 1 + r / p
    ),
    "F1 = 2PR/(P + R)": Identity(("f_measure", "precision", "recall"), lambda f, p, r: f - 2 / (1 / p + 1 / r)),
}
"""Equations within one row. Each residual is monotone in each of its arguments."""

CHANGES = {"ER change": "error_rate", "F1 change": "f_measure"}
TABLE3 = {"ER of Table 3": "error_rate", "F1 of Table 3": "f_measure"}
COLUMNS = [*IDENTITIES, JOINT, *CHANGES, *TABLE3]
"""Every check, in the order of the figure."""


def read_printed(name: str) -> pd.DataFrame:
    """The paper's ``table2`` or ``table3`` as text, with the decimals as printed; empty where nothing is printed."""
    return pd.read_csv(results_folder("paper") / f"{name}.csv", dtype=str, keep_default_na=False)


def printed_interval(text: str, *, convention: str = "rounded", percent: bool = False) -> Interval:
    """What a printed number may stand for.

    Parameters
    ----------
    text : str
        The number as printed; its decimals decide the unit ``u``.
    convention : {"rounded", "cut"}
        How the last decimal came about: ``[v - u/2, v + u/2]``, or ``[v, v + u]`` away from zero.
    percent : bool
        The number is in percent; the interval is a fraction.

    Returns
    -------
    tuple of Fraction
        Lower and upper end.

    Raises
    ------
    ParameterError
        Unknown convention.
    DataError
        `text` is not a decimal number.

    Examples
    --------
    >>> [float(end) for end in printed_interval("0.25")]
    [0.245, 0.255]
    >>> [float(end) for end in printed_interval("-3.8", convention="cut", percent=True)]
    [-0.039, -0.038]
    """
    if convention not in CONVENTIONS:
        raise ParameterError(f"convention: expected one of {', '.join(CONVENTIONS)}, got {convention!r}")
    if not _NUMBER.fullmatch(text):
        raise DataError(f"expected a decimal number as printed, got {text!r}")
    scale = 100 if percent else 1
    value = Fraction(text) / scale
    unit = Fraction(1, 10 ** len(text.partition(".")[2])) / scale
    if convention == "rounded":
        return value - unit / 2, value + unit / 2
    return (value - unit, value) if text.startswith("-") else (value, value + unit)


def row_intervals(row: Mapping[str, str], *, convention: str = "rounded") -> dict[str, Interval]:
    """Intervals of the seven columns of one row, as fractions.

    Raises
    ------
    DataError
        A column is missing or no number, or precision or recall may be 0, where R/P or F1 has no value.
    """
    missing = [name for name in RATES + PERCENTAGES if name not in row]
    if missing:
        raise DataError(f"expected a row of Table 2, it lacks {', '.join(missing)}")
    found = {
        name: printed_interval(row[name], convention=convention, percent=name in PERCENTAGES)
        for name in RATES + PERCENTAGES
    }
    for name in ("precision", "recall"):
        if found[name][0] <= 0:
            raise DataError(f"{name} {row[name]} may be 0: the identities need a positive one")
    return found


def identity_residuals(row: Mapping[str, str], *, convention: str = "rounded") -> dict[str, Interval]:
    """Interval of every identity's residual in one row.

    Parameters
    ----------
    row : mapping of str to str
        Printed numbers.
    convention : {"rounded", "cut"}
        See `printed_interval`.

    Returns
    -------
    dict of tuple of Fraction
        By the names in `IDENTITIES`. The ends are exact: each residual is monotone in every column, and takes its
        extremes where each column is at an end.
    """
    intervals = row_intervals(row, convention=convention)
    return {
        name: _range(identity.residual, *(intervals[column] for column in identity.columns))
        for name, identity in IDENTITIES.items()
    }


def change_residuals(
    single: Mapping[str, str], hierarchical: Mapping[str, str], *, convention: str = "rounded"
) -> dict[str, Interval]:
    """Printed relative change minus the one recomputed from the two scores.

    Parameters
    ----------
    single, hierarchical : mapping of str to str
        Two rows of Table 2; the second has the printed changes.
    convention : {"rounded", "cut"}
        See `printed_interval`.

    Returns
    -------
    dict of tuple of Fraction
        By the names in `CHANGES`: ``change - (hierarchical / single - 1)``, with all three numbers anywhere in their
        intervals.
    """
    residuals = {}
    for name, column in CHANGES.items():
        change = printed_interval(hierarchical[f"{column}_change"], convention=convention, percent=True)
        scores = (printed_interval(row[column], convention=convention) for row in (hierarchical, single))
        residuals[name] = _range(lambda c, h, s: c - h / s + 1, change, *scores)
    return residuals


def printed_changes(table: pd.DataFrame) -> pd.DataFrame:
    """The printed relative changes beside those of the printed scores, taken as exact.

    Parameters
    ----------
    table : DataFrame
        Table 2 as printed.

    Returns
    -------
    DataFrame with the keys of Table 2's rows and columns change, printed, recomputed, rounded, cut
        Changes in percent; whether the recomputed one, rounded or cut to the printed decimals, is the printed one.
    """
    rows = _records(table)
    found: list[dict[str, Any]] = []
    for row in rows:
        for name, column in CHANGES.items() if row["error_rate_change"] else ():
            recomputed = Fraction(row[column]) / Fraction(_single(row, rows)[column]) - 1
            text = row[f"{column}_change"]
            fits = {}
            for convention in CONVENTIONS:
                low, high = printed_interval(text, convention=convention, percent=True)
                fits[convention] = low <= recomputed <= high
            found.append(
                {key: row[key] for key in KEYS}
                | {"change": name, "printed": float(text), "recomputed": float(100 * recomputed), **fits}
            )
    return pd.DataFrame(found)


def table3_residuals(
    proposed: Mapping[str, str], row: Mapping[str, str], *, convention: str = "rounded"
) -> dict[str, Interval]:
    """Table 3's "Proposed" scores minus those of a row of Table 2.

    Parameters
    ----------
    proposed : mapping of str to str
        The row of Table 3.
    row : mapping of str to str
        The row of Table 2, with its ``dataset``.
    convention : {"rounded", "cut"}
        See `printed_interval`.

    Returns
    -------
    dict of tuple of Fraction
        By the names in `TABLE3`.
    """
    residuals = {}
    for name, column in TABLE3.items():
        texts = (proposed[f"{row['dataset']}_{column}"], row[column])
        pair = (printed_interval(text, convention=convention, percent=column in PERCENTAGES) for text in texts)
        residuals[name] = _range(lambda a, b: a - b, *pair)
    return residuals


def is_feasible(
    row: Mapping[str, str], *, convention: str = "rounded", widening: float = 1.0, without: Sequence[str] = ()
) -> bool:
    """Is there one set of counts' ratios behind a whole row?

    With t = R/P = Nsys/Nref in place of P everything is linear in (S, R, t): D = 1 - R - S, I = t - R - S,
    ER = S + D + I, and P and F1 = 2R/(1 + t) lie in their intervals if t P_low <= R <= t P_high and
    F_low (1 + t) <= 2R <= F_high (1 + t). A linear programme (HiGHS, feasible to 1e-9) says whether a solution with
    S, D, I >= 0 exists.

    Parameters
    ----------
    row : mapping of str to str
        Printed numbers.
    convention : {"rounded", "cut"}
        See `printed_interval`.
    widening : float
        Factor on the width of every interval; about its centre.
    without : sequence of str
        Columns not to be looked at.

    Returns
    -------
    bool
    """
    rows: list[list[float]] = [[-1, 0, 0], [1, 1, 0], [1, 1, -1]]  # S >= 0, D >= 0, I >= 0
    limits: list[float] = [0, 1, 0]
    affine = {  # column -> coefficients of S, R, t and the constant
        "substitution_rate": (1, 0, 0, 0),
        "deletion_rate": (-1, -1, 0, 1),
        "insertion_rate": (-1, -1, 1, 0),
        "error_rate": (-1, -2, 1, 1),
        "recall": (0, 1, 0, 0),
    }
    for name, (low, high) in row_intervals(row, convention=convention).items():
        if name in without:
            continue
        centre, half = float((low + high) / 2), float((high - low) / 2) * widening
        bounds = centre - half, centre + half
        for sign, bound in zip((-1, 1), bounds, strict=True):  # sign * quantity <= sign * bound
            if name == "precision":
                rows.append([0, sign, -sign * bound])
                limits.append(0)
            elif name == "f_measure":
                rows.append([0, 2 * sign, -sign * bound])
                limits.append(sign * bound)
            else:
                *coefficients, constant = affine[name]
                rows.append([sign * coefficient for coefficient in coefficients])
                limits.append(sign * (bound - constant))
    options = {"primal_feasibility_tolerance": 1e-9}
    solution = linprog([0, 0, 0], A_ub=rows, b_ub=limits, bounds=(0, None), method="highs", options=options)
    return bool(solution.status == 0)


def smallest_widening(row: Mapping[str, str], *, convention: str = "rounded", tolerance: float = 1e-4) -> float:
    """By what factor every interval must be widened until the row is feasible; at most 1 if the row is consistent.

    Parameters
    ----------
    row : mapping of str to str
        Printed numbers.
    convention : {"rounded", "cut"}
        See `printed_interval`.
    tolerance : float
        Relative and absolute accuracy of the factor, which is never too small.

    Returns
    -------
    float
    """
    low, high = 0.0, 1.0
    while not is_feasible(row, convention=convention, widening=high):
        low, high = high, 2 * high
        if high > _LARGEST_WIDENING:
            raise DataError(f"no widening makes this row feasible: {dict(row)}")
    while high - low > tolerance * max(1.0, high):
        middle = (low + high) / 2
        if is_feasible(row, convention=convention, widening=middle):
            high = middle
        else:
            low = middle
    return high


def arrangements() -> list[dict[str, str]]:
    """Every way to exchange Sub., Del. and Ins. among themselves, and Pre. with Rec.: fewest moved columns first.

    Returns
    -------
    list of dict of str
        Column -> column under whose heading its number is taken to be printed. ER and F1 are symmetric in what moves.
    """
    found = [
        dict(zip([*ERRORS, "precision", "recall"], [*errors, *scores], strict=True))
        for errors in itertools.permutations(ERRORS)
        for scores in itertools.permutations(("precision", "recall"))
    ]
    return sorted(found, key=n_moved)


def n_moved(arrangement: Mapping[str, str]) -> int:
    """Number of columns that an arrangement moves."""
    return sum(column != origin for column, origin in arrangement.items())


def rearranged(row: Mapping[str, str], arrangement: Mapping[str, str]) -> dict[str, str]:
    """The row with every number under the heading that the arrangement gives it."""
    return {**row, **{column: row[origin] for column, origin in arrangement.items()}}


def consistent_arrangements(row: Mapping[str, str], *, convention: str = "rounded") -> list[dict[str, str]]:
    """Those of `arrangements` that make a row feasible, fewest moved columns first."""
    return [
        arrangement
        for arrangement in arrangements()
        if _holds_everywhere(rearranged(row, arrangement), convention)
        and is_feasible(rearranged(row, arrangement), convention=convention)
    ]


def describe_arrangement(arrangement: Mapping[str, str]) -> str:
    """An arrangement in words, with the paper's headings."""
    parts = []
    for group in (ERRORS, ["precision", "recall"]):
        moved = [column for column in group if arrangement[column] != column]
        names = [HEADINGS[column] for column in moved]
        if len(moved) == 2:
            parts.append(f"{names[0]} and {names[1]} exchanged")
        elif moved:
            parts.append(f"{', '.join(names)} printed under {', '.join(HEADINGS[arrangement[c]] for c in moved)}")
    return "; ".join(parts) or "as printed"


def suspects(row: Mapping[str, str], *, convention: str = "rounded") -> list[str]:
    """Columns without whose number, each by itself, the rest of the row is feasible; all seven in a consistent row."""
    return [name for name in RATES + PERCENTAGES if is_feasible(row, convention=convention, without=[name])]


def block_pairings(table: pd.DataFrame, *, convention: str = "rounded") -> pd.DataFrame:
    """The ER columns of every row beside the F1 columns of every row: which pairs are consistent?

    Off the diagonal nothing has to fit: the share of pairs that do says how often a fit comes by chance.

    Parameters
    ----------
    table : DataFrame
        Table 2 as printed.
    convention : {"rounded", "cut"}
        See `printed_interval`.

    Returns
    -------
    DataFrame with columns error_row, f_measure_row, as_printed, rearranged
        Row numbers, and whether the pair is feasible as it is and in any of `arrangements`.
    """
    rows = _records(table)
    found = []
    for first, second in itertools.product(range(len(rows)), repeat=2):
        pair = {**{name: rows[first][name] for name in RATES}, **{name: rows[second][name] for name in PERCENTAGES}}
        fitting = consistent_arrangements(pair, convention=convention)
        found.append(
            {
                "error_row": first,
                "f_measure_row": second,
                "as_printed": any(n_moved(arrangement) == 0 for arrangement in fitting),
                "rearranged": bool(fitting),
            }
        )
    return pd.DataFrame(found)


def operating_points(table: pd.DataFrame, *, convention: str = "rounded") -> pd.DataFrame:
    """Could the ER columns and the F1 columns of a row come from two thresholds of one system?

    Then only ER = S + D + I and F1 = 2PR/(P + R) have to hold, and the ER columns imply scores of their own:
    R' = 1 - S - D, t' = 1 - D + I = Nsys/Nref and F1' = 2R' / (1 + t'). Three assumptions more can each be tested:

    - one threshold for all classes: lowering it adds activity, so that R' - R and t' - R/P cannot differ in sign;
    - the F1 columns belong to the threshold of the best F1: F1' is not larger than F1;
    - the ER columns belong to the threshold of the best ER: ER is not larger than what P and R allow, 1 + R (1/P - 2).

    Parameters
    ----------
    table : DataFrame
        Table 2 as printed.
    convention : {"rounded", "cut"}
        See `printed_interval`.

    Returns
    -------
    DataFrame with the keys of Table 2's rows and columns recall_low, recall_high, f_measure_low, f_measure_high,
    two_points, one_threshold, best_f_measure, best_error_rate
        R' and F1' as fractions; whether the row is consistent with two thresholds, and with each further assumption.
        False is certain, True is not.
    """
    found = []
    for row in _records(table):
        intervals = row_intervals(row, convention=convention)
        s, d, i = (intervals[name] for name in ERRORS)
        residuals = identity_residuals(row, convention=convention)
        recall = _range(lambda s, d: 1 - s - d, s, d)
        f_measure = _range(lambda s, d, i: 2 * (1 - s - d) / (2 - d + i), s, d, i)
        largest = _range(lambda p, r: 1 + r * (1 / p - 2), intervals["precision"], intervals["recall"])
        own = _holds(residuals["ER = S + D + I"]) and _holds(residuals["F1 = 2PR/(P + R)"])
        two_points = own and recall[1] >= 0 and recall[0] <= 1
        fewer_hits, fewer_found = residuals["S + D = 1 - R"], residuals["D - I = 1 - R/P"]  # R - R' and R/P - t'
        opposed = (fewer_hits[0] > 0 > fewer_found[1]) or (fewer_found[0] > 0 > fewer_hits[1])
        found.append(
            {key: row[key] for key in KEYS}
            | {"recall_low": float(recall[0]), "recall_high": float(recall[1])}
            | {"f_measure_low": float(f_measure[0]), "f_measure_high": float(f_measure[1])}
            | {
                "two_points": two_points,
                "one_threshold": two_points and not opposed,
                "best_f_measure": two_points and f_measure[0] <= intervals["f_measure"][1],
                "best_error_rate": two_points and intervals["error_rate"][0] <= largest[1],
            }
        )
    return pd.DataFrame(found)


def audit(table2: pd.DataFrame, table3: pd.DataFrame) -> pd.DataFrame:
    """Every check of every row of Table 2.

    Parameters
    ----------
    table2, table3 : DataFrame
        The tables as printed, from `read_printed`.

    Returns
    -------
    DataFrame
        One row per row of Table 2 and check (the names in `COLUMNS`), with

        - ``printed``: the numbers that enter;
        - ``residual_low``, ``residual_high``: interval of the residual, as a fraction; none for "all at once";
        - ``units``: the residual in units of what rounding allows; for "all at once", which has no sign, the factor by
          which every interval must be widened until one solution exists;
        - ``holds``; and the last four again with ``_cut``, for numbers cut instead of rounded;
        - ``explanation``: of the whole row, the arrangements that make it consistent with the fewest columns moved.
    """
    [proposed] = [row for row in _records(table3) if row["system"] == "Proposed"]
    rows = _records(table2)
    found: list[dict[str, Any]] = []
    for row in rows:
        checks = {convention: _checks(row, rows, proposed, convention) for convention in CONVENTIONS}
        explanation = explain(row)
        for name, (printed, *rounded) in checks["rounded"].items():
            result = ["residual_low", "residual_high", "units", "holds"]
            found.append(
                {key: row[key] for key in KEYS}
                | {"identity": name, "printed": printed}
                | dict(zip(result, rounded, strict=True))
                | dict(zip([f"{part}_cut" for part in result], checks["cut"][name][1:], strict=True))
                | {"explanation": explanation}
            )
    return pd.DataFrame(found)


def explain(row: Mapping[str, str], *, convention: str = "rounded") -> str:
    """The arrangements with the fewest moved columns that make a row consistent, in words; "none found" otherwise."""
    fitting = consistent_arrangements(row, convention=convention)
    fewest = [one for one in fitting if n_moved(one) == n_moved(fitting[0])]
    return " or ".join(describe_arrangement(arrangement) for arrangement in fewest) or "none found"


def write_audit() -> pd.DataFrame:
    """`audit` of the paper's tables, kept as ``results/paper/audit.csv``; returned."""
    table = audit(read_printed("table2"), read_printed("table3"))
    with replacing(results_folder("paper") / "audit.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    return table


def as_printed(overall: Mapping[str, float]) -> dict[str, str]:
    """sed_eval's overall scores with the decimals of Table 2: rates as fractions, the rest in percent."""
    return {name: f"{(100 if name in PERCENTAGES else 1) * overall[name]:.2f}" for name in RATES + PERCENTAGES}


def scored_runs(experiment: str) -> pd.DataFrame:
    """The same checks on scores that sed_eval computed here: the runs of one experiment.

    Parameters
    ----------
    experiment : str
        Name of the experiment, whose metrics files are read.

    Returns
    -------
    DataFrame with columns run, Nref, Nsys, Ntp, S, D, I, deletions_apart, insertions_apart, units
        The counts; S + D - (Nref - Ntp) and S + I - (Nsys - Ntp); and `smallest_widening` of the scores with Table 2's
        decimals. No rows where no run is there.
    """
    counts = ["Nref", "Nsys", "Ntp", "S", "D", "I"]
    found = []
    for path in sorted((results_folder(experiment) / "metrics").glob("[!.]*.json")):
        overall = json.loads(path.read_text(encoding="utf-8"))["test"]["overall"]
        found.append(
            {"run": path.stem}
            | {name: overall[name] for name in counts}
            | {
                "deletions_apart": overall["S"] + overall["D"] - (overall["Nref"] - overall["Ntp"]),
                "insertions_apart": overall["S"] + overall["I"] - (overall["Nsys"] - overall["Ntp"]),
                "units": smallest_widening(as_printed(overall)),
            }
        )
    return pd.DataFrame(found, columns=["run", *counts, "deletions_apart", "insertions_apart", "units"])


def row_name(row: Mapping[str, str]) -> str:
    """Name of a row of Table 2 in text and figures."""
    return " ".join(row[key] for key in KEYS)


def _records(table: pd.DataFrame) -> list[dict[str, str]]:
    return [dict(zip(table.columns, values, strict=True)) for values in table.itertuples(index=False, name=None)]


def _single(row: Mapping[str, str], rows: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    """The row of ``single`` with the data set and pooling function of `row`."""
    [single] = [one for one in rows if [one[key] for key in KEYS] == [row["dataset"], row["pooling"], "single"]]
    return single


def _range(function: Callable[..., Fraction], *intervals: Interval) -> Interval:
    """Smallest and largest value of a function that is monotone in each argument."""
    values = [function(*corner) for corner in itertools.product(*intervals)]
    return min(values), max(values)


def _holds(residual: Interval) -> bool:
    return residual[0] <= 0 <= residual[1]


def _holds_everywhere(row: Mapping[str, str], convention: str) -> bool:
    """Whether each identity holds by itself: exact, fast, and needed for all at once."""
    return all(_holds(residual) for residual in identity_residuals(row, convention=convention).values())


def _units(residual: Interval) -> float:
    return float((residual[0] + residual[1]) / (residual[1] - residual[0]))


def _printed(row: Mapping[str, str], columns: Iterable[str]) -> str:
    return ", ".join(f"{HEADINGS[column]} {row[column]}" for column in columns)


def _checks(
    row: Mapping[str, str], rows: Sequence[Mapping[str, str]], proposed: Mapping[str, str], convention: str
) -> dict[str, tuple]:
    """Every check of one row: printed numbers, ends of the residual, units, holds."""

    def result(residual: Interval) -> tuple:
        return float(residual[0]), float(residual[1]), _units(residual), _holds(residual)

    found: dict[str, tuple] = {
        name: (_printed(row, IDENTITIES[name].columns), *result(residual))
        for name, residual in identity_residuals(row, convention=convention).items()
    }
    units = smallest_widening(row, convention=convention)
    feasible = is_feasible(row, convention=convention)
    found[JOINT] = (_printed(row, RATES + PERCENTAGES), np.nan, np.nan, units, feasible)
    if row["error_rate_change"]:
        single = _single(row, rows)
        for name, residual in change_residuals(single, row, convention=convention).items():
            column = CHANGES[name]
            text = f"{HEADINGS[column]} {single[column]} to {row[column]}, {row[f'{column}_change']} %"
            found[name] = (text, *result(residual))
    if (row["pooling"], row["structure"]) == ("linear", "hierarchical"):
        for name, residual in table3_residuals(proposed, row, convention=convention).items():
            column = TABLE3[name]
            text = f"{HEADINGS[column]} {proposed[row['dataset'] + '_' + column]} and {row[column]}"
            found[name] = (text, *result(residual))
    return found
