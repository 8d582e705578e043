"""The label audit against plain loops, sed_eval and the published label files of DCASE 2017 Task 4."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sed_eval
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpsed_lib.data.label_audit import REMOVALS, STRONG, WEAK, label_defects, label_report, without_defect
from hpsed_lib.data.labels import read_labels
from hpsed_lib.scoring import event_activity

FILES, CLASSES = ["1.wav", "2.wav", "3.wav"], ["a", "b"]
CLIPS: dict[str, Any] = {"filenames": FILES, "clip_duration": 10.0}
GRID: dict[str, Any] = CLIPS | {"classes": CLASSES, "time_resolution": 1.0}

half_seconds = st.integers(0, 24).map(lambda n: n / 2)
row = st.tuples(st.sampled_from(FILES), half_seconds, half_seconds, st.sampled_from(CLASSES))
rows = st.lists(row, max_size=8)
pairs = st.lists(st.tuples(st.sampled_from(FILES), st.sampled_from(CLASSES)), max_size=4, unique=True)


def strong_labels(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=STRONG).astype({"onset": float, "offset": float})


def weak_labels(pairs: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=WEAK)


def counts_by_loops(rows: list[tuple], pairs: list[tuple]) -> dict[str, int]:
    events = [one for one in rows if one[2] > one[1]]
    seen: list[tuple] = []
    overlapping = 0
    for name, onset, offset, label in sorted(set(events), key=lambda one: (one[1], one[2])):
        overlapping += any(o[0] == name and o[3] == label and onset < o[2] for o in seen)
        seen.append((name, onset, offset, label))
    return {
        "zero_duration": sum(onset == offset for _, onset, offset, _ in rows),
        "reversed": sum(onset > offset for _, onset, offset, _ in rows),
        "duplicate": len(rows) - len(set(rows)),
        "overlap": overlapping,
        "past_end": sum(offset > 10 for _, _, offset, _ in rows),
        "strong_without_weak": sum((one[0], one[3]) not in pairs for one in events),
        "weak_without_strong": sum(not any((o[0], o[3]) == one for o in events) for one in pairs),
        "weak_without_row": sum(not any((o[0], o[3]) == one for o in rows) for one in pairs),
        "clip_without_event": sum(not any(o[0] == name for o in events) for name in FILES),
    }


@settings(max_examples=200, deadline=None)
@given(rows, pairs, st.sampled_from(REMOVALS), st.sampled_from([0.5, 1.0, 0.4]))
def test_counts_are_those_of_plain_loops_and_a_removed_defect_is_gone(
    rows: list[tuple], pairs: list[tuple], defect: str, time_resolution: float
) -> None:
    strong, weak = strong_labels(rows), weak_labels(pairs)
    counts = {name: len(found) for name, found in label_defects(strong, weak, **CLIPS).items()}
    assert counts == counts_by_loops(rows, pairs)
    left = without_defect(strong, weak, defect=defect, clip_duration=10.0)
    assert label_defects(left, weak, **CLIPS)[defect].empty
    again = without_defect(left, weak, defect=defect, clip_duration=10.0)
    order = {"by": STRONG, "ignore_index": True}
    pd.testing.assert_frame_equal(again.sort_values(**order), left.sort_values(**order))
    if defect in ("overlap", "past_end", "duplicate"):  # these never move a segment
        before, after = (event_activity(each, **GRID | {"time_resolution": time_resolution}) for each in (strong, left))
        np.testing.assert_array_equal(before, after)


def edited(rows: list[tuple], pairs: list[tuple]) -> dict[str, tuple[list[tuple], list[str]]]:
    """Labels and clips without each defect, by plain loops; those that move no segment stay."""
    events = [one for one in rows if one[2] > one[1]]
    audible = [name for name in FILES if any(one[0] == name for one in events)]
    return dict.fromkeys(("as they are", "duplicate", "overlap", "past_end"), (rows, FILES)) | {
        "zero_duration": ([one for one in rows if one[1] != one[2]], FILES),
        "reversed": ([one for one in rows if one[1] <= one[2]], FILES),
        "strong_without_weak": ([one for one in rows if one not in events or (one[0], one[3]) in pairs], FILES),
        "clip_without_event": ([one for one in rows if one[0] in audible], audible),
        "all of them": ([one for one in events if (one[0], one[3]) in pairs], audible),
    }


def segments(rows: list[tuple]) -> set[tuple]:
    """Active segments of 1 s."""
    spans = [(name, label, math.floor(onset), min(math.ceil(offset), 10)) for name, onset, offset, label in rows]
    return {(name, label, segment) for name, label, first, last in spans for segment in range(first, last)}


def by_sed_eval(rows: list[tuple], estimated: list[tuple], files: list[str]) -> tuple[float, float]:
    """Error rate and F1; sed_eval has no number for F1 where there is nothing."""
    metrics = sed_eval.sound_event.SegmentBasedMetrics(CLASSES, time_resolution=1.0)
    for name in files:
        lists = ([dict(zip(STRONG, one, strict=True)) for one in each if one[0] == name] for each in (rows, estimated))
        metrics.evaluate(*lists, evaluated_length_seconds=10.0)
    overall = metrics.results_overall_metrics()
    return overall["error_rate"]["error_rate"], np.nan_to_num(overall["f_measure"]["f_measure"])


STRANGE = [
    ("1.wav", 1.0, 3.0, "a"),
    ("1.wav", 1.0, 3.0, "a"),  # again
    ("1.wav", 2.5, 4.5, "a"),  # overlaps
    ("1.wav", 6.0, 6.0, "b"),  # no duration, on a border: no segment
    ("1.wav", 7.5, 7.5, "b"),  # no duration, inside a segment: one segment
    ("2.wav", 9.0, 12.0, "b"),  # past the end
    ("2.wav", 5.0, 3.0, "b"),  # reversed
]
NAMED = [("1.wav", "a"), ("1.wav", "b"), ("3.wav", "a")]
ORDERED = [("1.wav", 1.0, 2.0, "a"), ("1.wav", 2.0, 3.0, "a"), ("2.wav", 1.0, 2.0, "a"), ("3.wav", 1.0, 2.0, "a")]
ESTIMATED = [("1.wav", 0.0, 5.0, "a"), ("1.wav", 7.0, 8.0, "b"), ("3.wav", 0.0, 2.0, "b")]


@settings(max_examples=10, deadline=None)
@given(rows, pairs, st.lists(row.filter(lambda one: one[1] < one[2]), max_size=4))
@example(STRANGE, NAMED, ESTIMATED)
@example(ORDERED, [(name, "a") for name in FILES], ESTIMATED)  # touching is no overlap
@example([], [], ESTIMATED)
def test_the_report_is_sed_evals_of_labels_edited_by_loops(
    rows: list[tuple], pairs: list[tuple], estimated: list[tuple]
) -> None:
    report = label_report(strong_labels(rows), weak_labels(pairs), estimated=strong_labels(estimated), **GRID)
    assert report.n.dropna().to_dict() == counts_by_loops(rows, pairs)
    for name, (labels, files) in edited(rows, pairs).items():
        found, active = report.loc[name], segments(labels)
        assert (found.Nref, found.changed) == (len(active), len(active ^ segments(rows)))
        error_rate, f_measure = by_sed_eval(labels, estimated, files)
        assert found.f_measure == pytest.approx(f_measure)
        assert found.error_rate == pytest.approx(error_rate) if active else pd.isna(found.error_rate)
        guesses = [[(file, 0.0, 10.0, label) for file in files for label in chosen] for chosen in ("a", "b", "ab")]
        assert found.best_constant_guess == pytest.approx(max(by_sed_eval(labels, one, files)[1] for one in guesses))
    for value in ("best_constant_guess", "error_rate", "f_measure"):
        change = report[value] - report.loc["as they are", value]
        np.testing.assert_array_equal(report[f"{value}_change"].to_numpy(float), change.to_numpy(float))
    assert report.loc["weak_without_strong"].drop("n").isna().all()


PUBLISHED = {  # rows, listed clips, clips with an event, rows of no duration, duplicates
    "testing": (688, 488, 477, 36, 0),
    "evaluation": (1706, 1103, 1009, 150, 1),
}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_the_published_labels_have_the_known_defects(dcase2017_folder: Path, name: str) -> None:
    paths = [dcase2017_folder / f"groundtruth_{kind}_label_{name}_set.csv" for kind in ("strong", "weak")]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"HPSED_DCASE2017 has no labels of the {name} set")
    strong, weak = (read_labels(path, columns=columns) for path, columns in zip(paths, (STRONG, WEAK), strict=True))
    grid = {"filenames": sorted({*strong.filename, *weak.filename}), "clip_duration": 10.0}
    listed = label_defects(strong, weak, **grid)
    n_clips = len(grid["filenames"])
    counts = [len(listed[defect]) for defect in ("clip_without_event", "zero_duration", "duplicate")]
    assert (len(strong), n_clips, n_clips - counts[0], *counts[1:]) == PUBLISHED[name]
    grid |= {"classes": sorted(set(strong.event_label)), "time_resolution": 1.0}
    report = label_report(strong, weak, estimated=strong[strong.offset > strong.onset], **grid)
    inside = listed["zero_duration"].onset % 1 > 0  # on a border it is active in no segment
    assert report.changed["zero_duration"] <= inside.sum()
    assert report.best_constant_guess_change["clip_without_event"] > 0  # fewer segments to be wrong in
