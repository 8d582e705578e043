"""Segment scores against sed_eval, scikit-learn and counting one threshold at a time."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sed_eval
import sklearn.metrics

from hpsed_lib.errors import DataError, HpsedError, ParameterError
from hpsed_lib.scoring import (
    best_constant_guess,
    class_counts,
    clip_counts,
    error_rate,
    event_activity,
    f_score,
    sed_eval_scores,
    segment_activity,
    segment_counts,
    threshold_curve,
)

CLASSES = ("a", "b", "c")
FILES = ("1.wav", "2.wav", "3.wav")
SHAPE = {"filenames": FILES, "classes": CLASSES, "clip_duration": 10.0, "time_resolution": 1.0}
COLUMNS = ["filename", "onset", "offset", "event_label"]
GRIDS = [(3.0, 1.0), (2.5, 1.0), (1.7, 0.5), (0.9, 0.3), (0.7, 0.1), (6.0, 2.0), (1.0, 0.08)]  # clip, segment; s


def awkward_times(rng: np.random.Generator, n_times: int, clip: float, segment: float) -> np.ndarray:
    """Times of every awkward kind: on borders and a rounding beside them, sums of 0.1, past the end."""
    border = rng.integers(0, int(clip / segment) + 3, n_times) * segment
    kinds = [
        border,
        np.abs(np.nextafter(border, rng.choice([-np.inf, np.inf], n_times))),
        rng.integers(0, 40, n_times) * 0.1,
        rng.integers(0, 5, n_times).astype(float),
        rng.uniform(0, clip, n_times),
        rng.uniform(clip, 3 * clip, n_times),
    ]
    return np.array(kinds)[rng.integers(0, len(kinds), n_times), np.arange(n_times)]


def awkward_events(rng: np.random.Generator, clip: float, segment: float) -> pd.DataFrame:
    """Events with such times: without duration, ending before they begin, overlapping, of one class or of all."""
    n_events = int(rng.choice([0, 1, 2, 3, 6, 12]))
    onset, offset = awkward_times(rng, n_events, clip, segment), awkward_times(rng, n_events, clip, segment)
    if rng.random() < 0.9:  # else some end before they begin, which sed_eval accepts
        onset, offset = np.minimum(onset, offset), np.maximum(onset, offset)
    offset = np.where(rng.random(n_events) < 0.25, onset, offset)
    return pd.DataFrame(
        {
            "filename": rng.choice(FILES[: rng.integers(1, 4)], n_events),  # some files without events
            "onset": onset,
            "offset": offset,
            "event_label": rng.choice(CLASSES[: rng.integers(1, 4)], n_events),  # some classes never seen
        },
        columns=COLUMNS,
    )


def kinds_of(events: pd.DataFrame, clip: float, segment: float) -> set[str]:
    """Which awkward kinds a list holds, by plain loops."""
    kinds = set() if len(events) else {"empty"}
    for event in events.itertuples():
        on_border = event.onset / segment == round(event.onset / segment)
        if event.onset == event.offset:
            kinds.add("no duration on a border" if on_border else "no duration off a border")
        if event.offset < event.onset:
            kinds.add("ends before it begins")
        if event.onset < clip < event.offset:
            kinds.add("past the end")
        if event.onset > clip:
            kinds.add("after the end")
        same = events[(events.filename == event.filename) & (events.event_label == event.event_label)]
        if ((same.onset < event.offset) & (same.offset > event.onset)).sum() > 1:
            kinds.add("overlap of one class")
    return kinds


def by_sed_eval(
    reference: pd.DataFrame, estimated: pd.DataFrame, filenames: tuple[str, ...], classes: tuple[str, ...], **lengths
) -> sed_eval.sound_event.SegmentBasedMetrics:
    metrics = sed_eval.sound_event.SegmentBasedMetrics(list(classes), time_resolution=lengths["time_resolution"])
    events = [
        {name: group.to_dict("records") for name, group in one.groupby("filename")} for one in (reference, estimated)
    ]
    for name in filenames:
        metrics.evaluate(
            events[0].get(name, []), events[1].get(name, []), evaluated_length_seconds=lengths["clip_duration"]
        )
    return metrics


def check_counts(reference: pd.DataFrame, estimated: pd.DataFrame, **shape) -> dict[str, int]:
    """Every count is sed_eval's as an integer, overall and class by class; and the clips add up to it."""
    metrics = by_sed_eval(reference, estimated, **shape)
    active = event_activity(reference, **shape), event_activity(estimated, **shape)
    counts = segment_counts(*active)
    assert counts == {name: metrics.overall[name] for name in counts}
    of_classes = class_counts(*active)
    for index, label in enumerate(shape["classes"]):
        theirs = metrics.class_wise[label]
        assert {name: count[index] for name, count in of_classes.items()} == {name: theirs[name] for name in of_classes}
    of_clips = clip_counts(*active)
    assert counts == {name: sum(count.tolist()) for name, count in of_clips.items()}
    for index in range(0, len(active[0]), 50):
        one_clip = active[0][index : index + 1], active[1][index : index + 1]
        assert segment_counts(*one_clip) == {name: count[index] for name, count in of_clips.items()}
    return counts


@pytest.mark.parametrize(("clip", "segment"), GRIDS)
def test_counts_are_sed_evals_on_awkward_event_lists(clip: float, segment: float) -> None:
    """5,040 pairs of lists in all."""
    rng = np.random.default_rng(round(1000 * clip))
    shape = {"filenames": FILES, "classes": CLASSES, "clip_duration": clip, "time_resolution": segment}
    seen, kinds = set(), Counter()
    for number in range(720):
        reference, estimated = awkward_events(rng, clip, segment), awkward_events(rng, clip, segment)
        seen.add(tuple(check_counts(reference, estimated, **shape).values()))
        if number < 200:
            kinds.update(kinds_of(reference, clip, segment))
    assert len(seen) > 150  # the lists were not all alike
    assert len(kinds) == 7, kinds
    assert min(kinds.values()) >= 3, kinds


def read_strong_labels(path: Path) -> pd.DataFrame:
    with open(path, newline="") as file:
        rows = [row for row in csv.reader(file, delimiter="\t") if row]
    events = pd.DataFrame(rows, columns=COLUMNS)
    return events.astype({"onset": float, "offset": float})


def test_counts_are_sed_evals_on_the_labels_of_dcase_2017(dcase2017_folder: Path) -> None:
    paths = sorted(dcase2017_folder.glob("groundtruth_strong_label_*.csv"))
    assert paths
    rng = np.random.default_rng(0)
    for path in paths:
        reference = read_strong_labels(path)
        assert (reference.onset == reference.offset).sum() > 30
        classes = tuple(sorted(set(reference.event_label)))
        assert len(classes) == 17
        shape = {
            "filenames": (*sorted(set(reference.filename)), "one without events.wav"),
            "classes": classes,
            "clip_duration": 10.0,
            "time_resolution": 1.0,
        }
        moved = reference.assign(onset=reference.onset + 0.7, offset=reference.offset + 0.7)
        rough = reference.assign(onset=reference.onset.round(), offset=reference.offset.round())
        shifts = rng.normal(0, 1, (len(reference), 2))
        jittered = reference.assign(
            onset=np.maximum(reference.onset + shifts[:, 0], 0), offset=np.maximum(reference.offset + shifts[:, 1], 0)
        )
        confused = reference.assign(event_label=rng.permutation(reference.event_label)).sample(frac=0.6, random_state=0)
        for estimated in (reference, moved, rough, jittered, confused, pd.concat([confused, moved])):
            counts = check_counts(reference, estimated, **shape)
            assert counts["Ntp"] > 0
        assert sed_eval_scores(reference, estimated, **shape)["overall"]["Ntp"] == counts["Ntp"]


def test_scores_are_sed_evals_and_nan_is_zero() -> None:
    reference = pd.DataFrame([("1.wav", 0.0, 2.0, "a"), ("2.wav", 1.0, 3.0, "b")], columns=COLUMNS)
    estimated = pd.DataFrame([("1.wav", 0.5, 1.0, "a"), ("2.wav", 1.0, 2.0, "a")], columns=COLUMNS)
    scores = sed_eval_scores(reference, estimated, **SHAPE)  # type: ignore[arg-type]
    overall = scores["overall"]
    assert overall["Ntp"] == 1  # segment 0 of 1.wav
    assert overall["error_rate"] == pytest.approx((1 + 2 + 0) / 4)  # S in 2.wav's segment 1; D in two segments
    assert overall["f_measure"] == pytest.approx(2 * 1 / (4 + 2))
    assert scores["class_wise"]["c"] == {
        "error_rate": None,
        "f_measure": 0,
        "precision": 0,
        "recall": 0,
        "Nref": 0,
        "Nsys": 0,
    }
    nothing = sed_eval_scores(reference, estimated.iloc[:0], **SHAPE)["overall"]  # type: ignore[arg-type]
    assert (nothing["f_measure"], nothing["precision"], nothing["error_rate"]) == (0, 0, 1)
    silent = sed_eval_scores(reference.iloc[:0], estimated.iloc[:0], **SHAPE)["overall"]  # type: ignore[arg-type]
    assert silent["f_measure"] == 0
    assert silent["error_rate"] is None
    false_alarms = sed_eval_scores(reference.iloc[:0], estimated, **SHAPE)  # type: ignore[arg-type]
    assert false_alarms["overall"]["insertion_rate"] is None
    assert false_alarms["class_wise"]["a"]["error_rate"] is None
    assert false_alarms["class_wise"]["a"]["Nsys"] == 2


def test_a_difference_from_sed_eval_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = pd.DataFrame([("1.wav", 0.0, 2.0, "a")], columns=COLUMNS)
    wrong = {"Nref": 2, "Nsys": 0, "Ntp": 1, "Nfp": 0, "Nfn": 2, "S": 0, "D": 2, "I": 0}
    monkeypatch.setattr("hpsed_lib.scoring.segment_counts", lambda *_: wrong)
    with pytest.raises(HpsedError, match="differ from sed_eval's"):
        sed_eval_scores(reference, reference.iloc[:0], **SHAPE)  # type: ignore[arg-type]


def test_a_difference_in_one_class_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = pd.DataFrame([("1.wav", 0.0, 2.0, "a")], columns=COLUMNS)
    right = class_counts(event_activity(reference, **SHAPE), event_activity(reference, **SHAPE))  # type: ignore[arg-type]
    wrong = {**right, "Ntp": np.roll(right["Ntp"], 1)}
    monkeypatch.setattr("hpsed_lib.scoring.class_counts", lambda *_: wrong)
    with pytest.raises(HpsedError, match="differ from sed_eval's"):
        sed_eval_scores(reference, reference, **SHAPE)  # type: ignore[arg-type]


@pytest.mark.parametrize("event", [("1.wav", -0.5, 1.0, "a"), ("1.wav", 0.0, -0.5, "a")], ids=["onset", "offset"])
def test_times_before_the_clip_are_refused_where_sed_eval_counts_from_the_end(event: tuple) -> None:
    negative = pd.DataFrame([("1.wav", 3.0, 5.0, "b"), event], columns=COLUMNS)
    with pytest.raises(DataError, match="before the clip's start"):
        event_activity(negative, **SHAPE)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="before the clip's start"):
        sed_eval_scores(negative.iloc[:1], negative, **SHAPE)  # type: ignore[arg-type]


def test_sed_eval_loses_an_event_that_begins_before_the_clip() -> None:
    """Why it is refused: one second of sound is heard, and none is counted."""
    early = pd.DataFrame([("1.wav", -0.5, 1.0, "a"), ("1.wav", 3.0, 5.0, "b")], columns=COLUMNS)
    assert by_sed_eval(early, early, **SHAPE).class_wise["a"]["Nref"] == 0  # type: ignore[arg-type]


def test_a_name_given_twice_is_refused() -> None:
    events = pd.DataFrame([], columns=COLUMNS)
    for twice in ({"filenames": ("1.wav", "1.wav")}, {"classes": ("a", "a")}):
        with pytest.raises(ParameterError, match="once"):
            event_activity(events, **{**SHAPE, **twice})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "event",
    [("9.wav", 0.0, 1.0, "a"), ("1.wav", 0.0, 1.0, "z"), ("1.wav", np.nan, 1.0, "a")],
    ids=["file", "class", "time"],
)
def test_an_unknown_file_class_or_time_is_named(event: tuple) -> None:
    with pytest.raises(DataError, match="unknown file, label or time"):
        event_activity(pd.DataFrame([event], columns=COLUMNS), **SHAPE)  # type: ignore[arg-type]


def test_graded_activity_commutes_with_thresholding() -> None:
    graded = np.random.default_rng(5).random((3, 125, 3), dtype=np.float32)
    lengths = {"frame_duration": 0.08, "n_segments": 10, "time_resolution": 1.0}
    for threshold in (0.0, 0.5, 0.9, 0.99):
        np.testing.assert_array_equal(
            segment_activity(graded, **lengths) > threshold, segment_activity(graded > threshold, **lengths)
        )


def test_ratios_of_counts_are_scikit_learns_and_the_definitions() -> None:
    rng = np.random.default_rng(6)
    for share in (0.0, 0.1, 0.5, 1.0):
        reference, estimated = rng.random((5, 4, 3)) < share, rng.random((5, 4, 3)) < 0.4
        counts = segment_counts(reference, estimated)
        theirs = sklearn.metrics.f1_score(
            reference.reshape(-1, 3), estimated.reshape(-1, 3), average="micro", zero_division=0
        )
        assert f_score(counts) == pytest.approx(theirs)
        per_clip = clip_counts(reference, estimated)
        for index in range(5):
            one = {name: int(count[index]) for name, count in per_clip.items()}
            assert f_score(per_clip)[index] == f_score(one)
            expected = (one["S"] + one["D"] + one["I"]) / one["Nref"] if one["Nref"] else np.nan
            np.testing.assert_equal(error_rate(per_clip)[index], expected)
    assert f_score(segment_counts(reference & False, estimated & False)) == 0


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_all_thresholds_at_once_are_one_at_a_time(kind: type) -> None:
    rng = np.random.default_rng(7)
    for n_classes, n_levels in itertools.product((1, 2, 5), (3, 20, 10**6)):
        score = (rng.integers(0, n_levels, (6, 5, n_classes)) / n_levels).astype(kind)  # many ties, few, none
        reference = rng.random(score.shape) < rng.random()
        thresholds = np.unique(np.concatenate([score.ravel()[:20], [0.0, 0.5, 1.0]]))
        curve = threshold_curve(score, reference, thresholds=thresholds)
        for index, threshold in enumerate(thresholds):
            counts = segment_counts(reference, score > kind(threshold))
            assert {name: curve[name][index] for name in counts} == counts
            assert curve.f_measure[index] == f_score(counts)
            np.testing.assert_equal(curve.error_rate[index], error_rate(counts))


def test_thresholds_out_of_order_are_refused() -> None:
    with pytest.raises(ParameterError, match="ascending"):
        threshold_curve(np.zeros((1, 1, 1)), np.zeros((1, 1, 1), bool), thresholds=np.array([0.5, 0.2]))


def test_the_best_constant_guess_is_the_best_of_all_sets_of_classes() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        reference = rng.random((4, 10, 4)) < rng.random(4) ** 2
        every = []
        for chosen in itertools.product([False, True], repeat=4):
            guess = np.broadcast_to(np.array(chosen), reference.shape)
            every.append(f_score(segment_counts(reference, guess)))
        assert best_constant_guess(reference) == pytest.approx(max(every))
