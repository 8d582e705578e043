"""The label audit against plain loops, sed_eval and the published label files of DCASE 2017 Task 4."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sed_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsed_lib.data.label_audit import DEFECTS, STRONG, WEAK, label_defects, label_report, without_defect
from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.scoring import event_activity

FILES = ("1.wav", "2.wav", "3.wav")
CLASSES = ("a", "b")
CLIPS = {"filenames": FILES, "clip_duration": 10.0}
GRID = {**CLIPS, "classes": CLASSES, "time_resolution": 1.0}

row = st.tuples(
    st.sampled_from(FILES), st.integers(0, 24).map(lambda n: n / 2), st.integers(0, 24), st.sampled_from(CLASSES)
).map(lambda r: (r[0], r[1], r[2] / 2, r[3]))
pair = st.tuples(st.sampled_from(FILES), st.sampled_from(CLASSES))


def strong_labels(rows: list[tuple]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=STRONG)
    return frame.astype({"onset": float, "offset": float})


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
@given(st.lists(row, max_size=8), st.lists(pair, max_size=4, unique=True))
def test_counts_are_those_of_plain_loops(rows: list[tuple], pairs: list[tuple]) -> None:
    listed = label_defects(strong_labels(rows), weak_labels(pairs), **CLIPS)  # type: ignore[arg-type]
    assert {name: len(found) for name, found in listed.items()} == counts_by_loops(rows, pairs)
    assert list(listed) == list(DEFECTS)


@settings(max_examples=100, deadline=None)
@given(st.lists(row, max_size=8), st.lists(pair, max_size=4, unique=True), st.sampled_from(list(DEFECTS)[:6]))
def test_a_removed_defect_is_gone(rows: list[tuple], pairs: list[tuple], defect: str) -> None:
    strong, weak = strong_labels(rows), weak_labels(pairs)
    left = without_defect(strong, weak, defect=defect, clip_duration=10.0)
    assert label_defects(left, weak, **CLIPS)[defect].empty  # type: ignore[arg-type]
    again = without_defect(left, weak, defect=defect, clip_duration=10.0)
    order = {"by": STRONG, "ignore_index": True}
    pd.testing.assert_frame_equal(again.sort_values(**order), left.sort_values(**order))


@settings(max_examples=100, deadline=None)
@given(st.lists(row, max_size=8), st.lists(pair, max_size=4, unique=True), st.sampled_from([0.5, 1.0, 0.4]))
def test_joining_cutting_and_duplicates_never_move_a_segment(
    rows: list[tuple], pairs: list[tuple], time_resolution: float
) -> None:
    strong, weak = strong_labels(rows), weak_labels(pairs)
    grid = {**GRID, "time_resolution": time_resolution}
    before = event_activity(strong, **grid)  # type: ignore[arg-type]
    for defect in ("overlap", "past_end", "duplicate"):
        after = event_activity(without_defect(strong, weak, defect=defect, clip_duration=10.0), **grid)  # type: ignore[arg-type]
        np.testing.assert_array_equal(before, after)


def sed_eval_overall(strong: pd.DataFrame, estimated: pd.DataFrame, files: tuple[str, ...]) -> tuple[int, float, float]:
    metrics = sed_eval.sound_event.SegmentBasedMetrics(list(CLASSES), time_resolution=1.0)
    for name in files:
        lists = (events[events.filename == name].to_dict("records") for events in (strong, estimated))
        metrics.evaluate(*lists, evaluated_length_seconds=10.0)
    overall = metrics.results_overall_metrics()
    return int(metrics.overall["Nref"]), overall["error_rate"]["error_rate"], overall["f_measure"]["f_measure"]


STRANGE = strong_labels(
    [
        ("1.wav", 1.0, 3.0, "a"),
        ("1.wav", 1.0, 3.0, "a"),  # again
        ("1.wav", 2.5, 4.5, "a"),  # overlaps
        ("1.wav", 6.0, 6.0, "b"),  # no duration, on a border: no segment
        ("1.wav", 7.5, 7.5, "b"),  # no duration, inside a segment: one segment
        ("2.wav", 9.0, 12.0, "b"),  # past the end
        ("2.wav", 5.0, 3.0, "b"),  # reversed
    ]
)
NAMED = weak_labels([("1.wav", "a"), ("1.wav", "b"), ("3.wav", "a")])
ESTIMATED = strong_labels([("1.wav", 0.0, 5.0, "a"), ("1.wav", 7.0, 8.0, "b"), ("3.wav", 0.0, 2.0, "b")])


def test_the_report_has_sed_evals_scores_of_labels_edited_by_hand() -> None:
    report = label_report(STRANGE, NAMED, estimated=ESTIMATED, **GRID)  # type: ignore[arg-type]
    edited = {
        "as they are": (STRANGE, FILES),
        "zero_duration": (STRANGE.drop([3, 4]), FILES),
        "reversed": (STRANGE.drop(6), FILES),
        "duplicate": (STRANGE.drop(1), FILES),
        "strong_without_weak": (STRANGE.drop(5), FILES),
        "clip_without_event": (STRANGE, FILES[:2]),
        "all of them": (strong_labels([("1.wav", 1.0, 4.5, "a")]), FILES[:2]),
    }
    for name, (labels, files) in edited.items():
        found = tuple(report.loc[name, ["Nref", "error_rate", "f_measure"]])
        assert found == pytest.approx(sed_eval_overall(labels, ESTIMATED, files)), name
    assert report.n.dropna().to_dict() == {
        "zero_duration": 2,
        "reversed": 1,
        "duplicate": 1,
        "overlap": 1,
        "past_end": 1,
        "strong_without_weak": 1,
        "weak_without_strong": 2,
        "weak_without_row": 1,
        "clip_without_event": 1,
    }
    assert report.changed.dropna().to_dict() == {
        "as they are": 0,
        "zero_duration": 1,
        "reversed": 0,
        "duplicate": 0,
        "overlap": 0,
        "past_end": 0,
        "strong_without_weak": 1,
        "clip_without_event": 0,
        "all of them": 2,
    }
    row = report.loc["zero_duration"]
    assert row.error_rate_change == pytest.approx(row.error_rate - report.error_rate["as they are"])
    assert report.loc["weak_without_strong"].drop("n").isna().all()


def test_the_best_constant_guess_is_the_best_of_all_by_sed_eval() -> None:
    report = label_report(STRANGE, NAMED, **GRID)  # type: ignore[arg-type]
    for name, files in (("as they are", FILES), ("clip_without_event", FILES[:2])):
        guesses = [chosen for n in (1, 2) for chosen in itertools.combinations(CLASSES, n)]
        best = 0.0
        for chosen in guesses:
            guess = strong_labels([(file, 0.0, 10.0, label) for file in files for label in chosen])
            best = max(best, sed_eval_overall(STRANGE, guess, files)[2])
        assert report.best_constant_guess[name] == pytest.approx(best)
    assert "error_rate" not in report


def test_labels_in_order_move_nothing() -> None:
    strong = strong_labels(
        [(name, 1.0, 2.0, "a") for name in FILES] + [("1.wav", 2.0, 3.0, "a")]
    )  # touching is no overlap
    report = label_report(strong, weak_labels([(name, "a") for name in FILES]), estimated=ESTIMATED, **GRID)  # type: ignore[arg-type]
    assert (report.n.dropna() == 0).all()
    assert (report.filter(like="change").dropna() == 0).all(axis=None)


def test_no_labels_at_all() -> None:
    report = label_report(STRANGE.iloc[:0], NAMED.iloc[:0], estimated=ESTIMATED, **GRID)  # type: ignore[arg-type]
    assert report.n["clip_without_event"] == len(FILES)
    assert report.Nref["as they are"] == 0
    assert pd.isna(report.error_rate["as they are"])
    assert report.f_measure["as they are"] == 0


@pytest.mark.parametrize(
    ("strong", "weak", "message"),
    [
        (STRANGE.drop(columns="onset"), NAMED, "strong labels: expected columns .*onset not there"),
        (STRANGE, NAMED.drop(columns="event_label"), "weak labels: expected columns"),
        (
            STRANGE.assign(filename="9.wav"),
            NAMED,
            r"strong labels: 1 clip\(s\) not among the filenames, the first '9.wav'",
        ),
        (STRANGE.assign(onset=-1.0), NAMED, "expected times from 0 s on"),
        (STRANGE.assign(offset=np.nan), NAMED, "expected times from 0 s on"),
    ],
    ids=["column", "weak column", "clip", "negative", "no number"],
)
def test_labels_that_cannot_be_audited_are_named(strong: pd.DataFrame, weak: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        label_defects(strong, weak, **CLIPS)  # type: ignore[arg-type]


def test_unknown_defect_and_class() -> None:
    with pytest.raises(ParameterError, match=r"expected one of zero_duration, .*, got 'weak_without_strong'"):
        without_defect(STRANGE, NAMED, defect="weak_without_strong", clip_duration=10.0)
    with pytest.raises(DataError, match="unknown file, label or time"):
        label_report(STRANGE, NAMED, **{**GRID, "classes": ("a",)})  # type: ignore[arg-type]


PUBLISHED = {  # rows, listed clips, clips with an event, rows of no duration, duplicates
    "testing": (688, 488, 477, 36, 0),
    "evaluation": (1706, 1103, 1009, 150, 1),
}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_the_published_labels_have_the_known_defects(dcase2017_folder: Path, name: str) -> None:
    """Counted here line by line, without pandas' parser."""
    paths = {kind: dcase2017_folder / f"groundtruth_{kind}_label_{name}_set.csv" for kind in ("strong", "weak")}
    if not all(path.is_file() for path in paths.values()):
        pytest.skip(f"HPSED_DCASE2017 has no labels of the {name} set")
    fields = {kind: [line.split("\t") for line in path.read_text().splitlines()] for kind, path in paths.items()}
    rows = [(file, float(onset), float(offset), label) for file, onset, offset, label in fields["strong"]]
    pairs = [(one[0], one[-1]) for one in fields["weak"]]
    files = sorted({one[0] for one in rows} | {one[0] for one in pairs})
    strong, weak = strong_labels(rows), weak_labels(pairs)
    listed = label_defects(strong, weak, filenames=files, clip_duration=10.0)
    n_rows, n_clips, n_with_event, n_zero, n_duplicates = PUBLISHED[name]
    assert (len(rows), len(files)) == (n_rows, n_clips)
    assert len(files) - len(listed["clip_without_event"]) == n_with_event
    assert (len(listed["zero_duration"]), len(listed["duplicate"])) == (n_zero, n_duplicates)
    classes = sorted({one[3] for one in rows})
    assert len(classes) == 17
    report = label_report(strong, weak, filenames=files, classes=classes, clip_duration=10.0, time_resolution=1.0)
    assert report.n["zero_duration"] == n_zero
    inside = listed["zero_duration"].onset % 1 > 0  # on a border it is active in no segment
    assert report.changed["zero_duration"] <= inside.sum()
    assert report.best_constant_guess_change["clip_without_event"] > 0  # fewer segments to be wrong in
