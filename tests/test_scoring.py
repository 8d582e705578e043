"""Decoding and scoring against sed_eval and plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.signal
import sed_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsed_lib.decoding import THRESHOLDS, choose_threshold, decode, smooth, to_events
from hpsed_lib.errors import DataError, HpsedError
from hpsed_lib.params import Decoding
from hpsed_lib.scoring import (
    best_constant_guess,
    event_activity,
    f_score,
    sed_eval_scores,
    segment_activity,
    segment_counts,
)

CLASSES = ("a", "b", "c")
FILES = ("1.wav", "2.wav", "3.wav")
SHAPE = {"filenames": FILES, "classes": CLASSES, "clip_duration": 10.0, "time_resolution": 1.0}
COLUMNS = ["filename", "onset", "offset", "event_label"]


def event_lists(rng: np.random.Generator, n_events: int) -> pd.DataFrame:
    """Events of every awkward kind: overlaps, no length, on borders, past the end, odd binary fractions."""
    onset = rng.choice(
        [rng.uniform(0, 10, n_events), rng.integers(0, 101, n_events) * 0.1, rng.integers(0, 11, n_events)]
    )
    length = rng.choice([0.0, 0.1, 1.0, 3.0, 0.3 * 7], n_events)
    return pd.DataFrame(
        {
            "filename": rng.choice(FILES[:2], n_events),  # the third file never has an event
            "onset": onset,
            "offset": onset + length,
            "event_label": rng.choice(CLASSES[: rng.integers(1, 4)], n_events),
        },
        columns=COLUMNS,
    )


def test_counts_are_sed_evals_on_random_event_lists() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(400):
        reference, estimated = event_lists(rng, rng.integers(0, 12)), event_lists(rng, rng.integers(0, 12))
        metrics = sed_eval.sound_event.SegmentBasedMetrics(list(CLASSES), time_resolution=1.0)
        for name in FILES:
            metrics.evaluate(
                reference[reference.filename == name].to_dict("records"),
                estimated[estimated.filename == name].to_dict("records"),
                evaluated_length_seconds=10.0,
            )
        counts = segment_counts(event_activity(reference, **SHAPE), event_activity(estimated, **SHAPE))
        assert counts == {name: int(metrics.overall[name]) for name in counts}
        seen.add(tuple(counts.values()))
    assert len(seen) > 200  # the lists were not all alike


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


@pytest.mark.parametrize(
    "event",
    [("9.wav", 0.0, 1.0, "a"), ("1.wav", 0.0, 1.0, "z"), ("1.wav", np.nan, 1.0, "a")],
    ids=["file", "class", "time"],
)
def test_an_unknown_file_class_or_time_is_named(event: tuple) -> None:
    with pytest.raises(DataError, match="unknown file, label or time"):
        event_activity(pd.DataFrame([event], columns=COLUMNS), **SHAPE)  # type: ignore[arg-type]


def test_activity_of_frames_and_of_their_events_is_one_thing() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        active = rng.random((3, 125, 3)) < rng.choice([0.01, 0.2, 0.9])
        events = to_events(active, filenames=FILES, classes=CLASSES, frame_duration=0.08)
        direct = segment_activity(active, frame_duration=0.08, n_segments=10, time_resolution=1.0)
        np.testing.assert_array_equal(direct, event_activity(events, **SHAPE))  # type: ignore[arg-type]


def smooth_by_loops(row: np.ndarray, median: int, gap: float, shortest: float, frame: float) -> list[bool]:
    half = median // 2
    padded = [row[0]] * half + list(row) + [row[-1]] * half
    filtered = [sorted(padded[i : i + median])[half] for i in range(len(row))]
    for value, limit, keep_ends in ((False, gap, True), (True, shortest, False)):
        position = 0
        for current, group in itertools.groupby(list(filtered)):
            length = len(list(group))
            at_end = position == 0 or position + length == len(filtered)
            if current == value and round(length * frame, 9) < limit and not (keep_ends and at_end):
                filtered[position : position + length] = [not value] * length
            position += length
    return filtered


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=40),
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from([0.0, 0.08, 0.2, 0.24, 0.4]),
    st.sampled_from([0.0, 0.08, 0.2, 0.24, 0.4]),
)
def test_smoothing_is_that_of_plain_loops(row: list[bool], median: int, gap: float, shortest: float) -> None:
    params = Decoding(threshold=0.5, median_length=median, minimum_gap=gap, minimum_duration=shortest)
    active = np.array(row)[None, :, None]
    expected = smooth_by_loops(np.array(row), median, gap, shortest, 0.08)
    assert smooth(active, params=params, frame_duration=0.08)[0, :, 0].tolist() == expected


def test_clips_and_classes_do_not_touch_each_other() -> None:
    params = Decoding(threshold=0.5, median_length=1, minimum_gap=1.0, minimum_duration=0.1)
    active = np.zeros((2, 10, 2), bool)
    active[0, -3:, 0] = active[1, :3, 0] = active[0, :3, 1] = True
    np.testing.assert_array_equal(smooth(active, params=params, frame_duration=0.08), active)
    assert not smooth(np.zeros_like(active), params=params, frame_duration=0.08).any()


def test_the_median_filter_is_scipys() -> None:
    params = Decoding(threshold=0.5, median_length=5, minimum_gap=0.0, minimum_duration=0.0)
    prob = np.random.default_rng(0).random((2, 60, 3))
    ours = decode(prob, threshold=0.4, params=params, frame_duration=0.08)
    for clip, column in itertools.product(range(2), range(3)):
        theirs = scipy.signal.medfilt((prob[clip, :, column] > 0.4).astype(float), 5) > 0
        np.testing.assert_array_equal(ours[clip, 2:-2, column], theirs[2:-2])


def test_the_threshold_is_the_best_of_those_tried_by_sed_eval() -> None:
    params = Decoding(threshold="validation", median_length=3, minimum_gap=0.2, minimum_duration=0.2)
    rng = np.random.default_rng(2)
    truth = np.repeat(rng.random((3, 25, 3)) < 0.3, 5, axis=1)
    prob = np.clip(0.35 * truth + 0.1 + 0.3 * rng.random(truth.shape), 0, 1)
    reference = to_events(truth, filenames=FILES, classes=CLASSES, frame_duration=0.08)
    threshold, curve = choose_threshold(
        prob,
        event_activity(reference, **SHAPE),  # type: ignore[arg-type]
        params=params,
        frame_duration=0.08,
        time_resolution=1.0,
    )
    theirs = []
    for value in THRESHOLDS:
        active = decode(prob, threshold=value, params=params, frame_duration=0.08)
        events = to_events(active, filenames=FILES, classes=CLASSES, frame_duration=0.08)
        theirs.append(sed_eval_scores(reference, events, **SHAPE)["overall"]["f_measure"])  # type: ignore[arg-type]
    np.testing.assert_allclose(curve.f_measure, theirs)
    assert threshold == THRESHOLDS[int(np.argmax(theirs))]
    assert 0.2 < threshold < 0.6


def test_the_best_constant_guess_is_the_best_of_all_sets_of_classes() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        reference = rng.random((4, 10, 4)) < rng.random(4) ** 2
        every = []
        for chosen in itertools.product([False, True], repeat=4):
            guess = np.broadcast_to(np.array(chosen), reference.shape)
            every.append(f_score(segment_counts(reference, guess)))
        assert best_constant_guess(reference) == pytest.approx(max(every))
