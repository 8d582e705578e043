"""What is odd in a data set's labels, and how far each oddity moves a segment-based score.

Conventions: strong labels have the columns `STRONG`, times in seconds from the clip's start; weak labels have the
columns `WEAK`. An *event* is a strong row with ``offset > onset``. Labels are never changed, only compared with what
they would be without one kind of defect (`DEFECTS`). Segment activity is sed_eval's (`hpsed_lib.scoring`): a row of no
duration is active in one segment if it lies inside one, in none if it lies on a border.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hpsed_lib.scoring import best_constant_guess, event_activity, sed_eval_scores

STRONG = ["filename", "onset", "offset", "event_label"]
WEAK = ["filename", "event_label"]

DEFECTS = {
    "zero_duration": "rows with onset = offset",
    "reversed": "rows with onset > offset",
    "duplicate": "rows equal to an earlier one",
    "overlap": "events that begin before an earlier event of their class in their clip has ended, duplicates apart",
    "past_end": "rows that end after their clip",
    "strong_without_weak": "events whose class the weak labels do not name for the clip",
    "weak_without_strong": "weak labels without an event",
    "weak_without_row": "weak labels without any strong row",
    "clip_without_event": "clips without an event",
}
REMOVALS = tuple(DEFECTS)[:6]  # what strong labels can be made free of


def weak_labels(weak_target: np.ndarray, *, filenames: Sequence[str], classes: Sequence[str]) -> pd.DataFrame:
    """Weak labels as rows, from an array (clips, classes) that is not 0 where a label is given."""
    clip, column = np.nonzero(weak_target)
    return pd.DataFrame({"filename": np.array(filenames)[clip], "event_label": np.array(classes)[column]})


def label_defects(
    strong: pd.DataFrame, weak: pd.DataFrame, *, filenames: Sequence[str], clip_duration: float
) -> dict[str, pd.DataFrame]:
    """By the names in `DEFECTS`, the rows of `strong` or `weak` that have the defect, or of all clips those."""
    strong, weak = strong.reset_index(drop=True), weak.reset_index(drop=True)
    events = strong[strong.offset > strong.onset]
    clips = pd.DataFrame({"filename": filenames}, dtype=object)
    return {
        "zero_duration": strong[strong.onset == strong.offset],
        "reversed": strong[strong.onset > strong.offset],
        "duplicate": strong[strong.duplicated(STRONG)],
        "overlap": events.loc[_overlapping(events.drop_duplicates(STRONG))],
        "past_end": strong[strong.offset > clip_duration],
        "strong_without_weak": events[~_among(events, weak)],
        "weak_without_strong": weak[~_among(weak, events)],
        "weak_without_row": weak[~_among(weak, strong)],
        "clip_without_event": clips[~clips.filename.isin(events.filename)],
    }


def without_defect(strong: pd.DataFrame, weak: pd.DataFrame, *, defect: str, clip_duration: float) -> pd.DataFrame:
    """Strong labels without one of `REMOVALS`: overlapping events joined, late ends cut, other odd rows left out."""
    strong = strong[STRONG]
    is_event = strong.offset > strong.onset
    match defect:
        case "zero_duration":
            return strong[strong.onset != strong.offset]
        case "reversed":
            return strong[strong.onset <= strong.offset]
        case "duplicate":
            return strong.drop_duplicates()
        case "overlap":
            return pd.concat([_joined(strong[is_event]), strong[~is_event]], ignore_index=True)
        case "past_end":
            inside = strong[(strong.onset < clip_duration) | (strong.offset <= clip_duration)]
            return inside.assign(offset=inside.offset.clip(upper=clip_duration))
        case _:
            return strong[~is_event | _among(strong, weak)]


def label_report(
    strong: pd.DataFrame,
    weak: pd.DataFrame,
    *,
    filenames: Sequence[str],
    classes: Sequence[str],
    clip_duration: float,
    time_resolution: float,
    estimated: pd.DataFrame,
) -> pd.DataFrame:
    """Count every defect, and say what the reference and the score of `estimated` events would be without it.

    Returns
    -------
    DataFrame indexed by defect
        First the labels ``as they are``, then one row per defect, then ``all of them``. Columns: ``n`` (rows, labels or
        clips, as in `DEFECTS`); Nref, the active segments of the reference, and ``changed``, how many come or go;
        best_constant_guess, error_rate and f_measure (sed_eval, micro-averaged; no error rate without reference
        activity). ``_change`` is the difference from the first row. Weak labels without an event move no score:
        nothing but ``n`` stands there.
    """
    grid: dict[str, Any] = {
        "classes": classes,
        "clip_duration": clip_duration,
        "time_resolution": time_resolution,  # s, of a segment
    }
    listed = label_defects(strong, weak, filenames=filenames, clip_duration=clip_duration)
    silent = np.isin(filenames, listed["clip_without_event"].filename)
    audible = np.array(filenames)[~silent].tolist()
    versions = {"as they are": (strong, filenames), "clip_without_event": (strong, audible)}
    everything = strong
    for defect in REMOVALS:
        versions[defect] = (without_defect(strong, weak, defect=defect, clip_duration=clip_duration), filenames)
        everything = without_defect(everything, weak, defect=defect, clip_duration=clip_duration)
    versions["all of them"] = (everything, audible)

    before = event_activity(strong, filenames=filenames, **grid)
    rows: dict[str, dict[str, float]] = {}
    for name, (labels, kept) in versions.items():
        if name in listed and listed[name].empty:
            rows[name] = rows["as they are"]
            continue
        labels = labels[labels.filename.isin(kept)]
        after = event_activity(labels, filenames=filenames, **grid)
        overall = sed_eval_scores(labels, estimated[estimated.filename.isin(kept)], filenames=kept, **grid)["overall"]
        rows[name] = {
            "Nref": after.sum(),
            "changed": (before != after).sum(),
            "best_constant_guess": best_constant_guess(after[np.isin(filenames, kept)]) if kept else 0.0,
        } | {measure: overall[measure] for measure in ("error_rate", "f_measure")}
    order = ["as they are", *DEFECTS, "all of them"]
    report = pd.DataFrame.from_dict(rows, orient="index", dtype=float).reindex(order)
    report.insert(0, "n", [len(listed[name]) if name in listed else np.nan for name in order])
    for value in ("best_constant_guess", "error_rate", "f_measure"):
        report[f"{value}_change"] = report[value] - report.loc["as they are", value]
    return report.astype(dict.fromkeys(["n", "Nref", "changed"], "Int64")).rename_axis("defect")


def _among(labels: pd.DataFrame, others: pd.DataFrame) -> np.ndarray:
    """Which rows name a (filename, event_label) that `others` name."""
    return pd.MultiIndex.from_frame(labels[WEAK]).isin(pd.MultiIndex.from_frame(others[WEAK]))


def _overlapping(events: pd.DataFrame) -> pd.Index:
    """Index of the events that begin before the end of an earlier one of their clip and class."""
    ordered = events.sort_values(["onset", "offset"], kind="stable")
    ends = ordered.groupby(WEAK).offset.cummax().groupby([ordered.filename, ordered.event_label]).shift()
    return ordered.index[ordered.onset < ends].sort_values()


def _joined(events: pd.DataFrame) -> pd.DataFrame:
    """Overlapping events of one clip and class as one."""
    ordered = events.sort_values(["onset", "offset"], kind="stable")
    begins = ~ordered.index.isin(_overlapping(events))
    number = pd.Series(begins, ordered.index).groupby([ordered.filename, ordered.event_label]).cumsum()
    joined = ordered.groupby([*WEAK, number.rename("number")]).agg({"onset": "min", "offset": "max"})
    return joined.reset_index()[STRONG]
