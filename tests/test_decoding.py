"""Decoding against plain loops, and the choice of thresholds against trying them all."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsed_lib.decoding import CRITERIA, choose_threshold, decode, smooth, to_events
from hpsed_lib.errors import ParameterError
from hpsed_lib.params import Decoding
from hpsed_lib.scoring import error_rate, event_activity, f_score, sed_eval_scores, segment_activity, segment_counts

FRAME = 0.08  # s
LIMITS = [0.0, 0.08, 0.16, 0.2, 0.24, 0.4, 9.9]  # s
NAMES = {"filenames": ("1", "2", "3"), "classes": ("a", "b", "c")}


def params_of(median: int = 1, gap: float = 0.0, shortest: float = 0.0) -> Decoding:
    return Decoding(threshold="validation", median_length=median, minimum_gap=gap, minimum_duration=shortest)


def filtered_by_loops(row: list, median: int) -> list:
    half = median // 2
    padded = [row[0]] * half + list(row) + [row[-1]] * half
    return [sorted(padded[i : i + median])[half] for i in range(len(row))]


def cleaned_by_loops(active: list[bool], params: Decoding) -> list[bool]:
    """Close short gaps, then drop short events, run by run."""
    active = list(active)
    for value, limit, keep_ends in ((False, params.minimum_gap, True), (True, params.minimum_duration, False)):
        position = 0
        for current, group in itertools.groupby(list(active)):
            length = len(list(group))
            at_end = position == 0 or position + length == len(active)
            if current == value and round(length * FRAME, 9) < limit and not (keep_ends and at_end):
                active[position : position + length] = [not value] * length
            position += length
    return active


def by_loops(prob: np.ndarray, threshold: float, params: Decoding) -> np.ndarray:
    """Median filter, threshold, short gaps, short events: all by plain loops."""
    active = np.zeros(prob.shape, bool)
    for clip, index in np.ndindex(prob.shape[0], prob.shape[2]):
        row = filtered_by_loops(list(prob[clip, :, index]), params.median_length)
        active[clip, :, index] = cleaned_by_loops([bool(value > prob.dtype.type(threshold)) for value in row], params)
    return active


decodings = st.builds(params_of, st.sampled_from([1, 3, 5, 7]), st.sampled_from(LIMITS), st.sampled_from(LIMITS))
rows = st.lists(st.integers(0, 10), min_size=1, max_size=40)  # tenths, so that there are ties


@settings(max_examples=300, deadline=None)
@given(rows, decodings, st.sampled_from([np.float32, np.float64]))
def test_smoothing_in_grey_scale_is_smoothing_at_every_threshold(row, params, kind):
    prob = (np.array(row) / 10).astype(kind)[None, :, None]
    graded = smooth(prob, params=params, frame_duration=FRAME)
    assert graded.dtype == kind
    for threshold in np.arange(21) / 20:  # on the levels and between them
        expected = by_loops(prob, threshold, params)
        np.testing.assert_array_equal(graded > kind(threshold), expected)
        found = decode(prob, threshold=float(threshold), params=params, frame_duration=FRAME)
        np.testing.assert_array_equal(found, expected)


def test_the_median_filter_is_scipys():
    prob = np.random.default_rng(0).random((2, 60, 3))
    ours = decode(prob, threshold=0.4, params=params_of(5), frame_duration=FRAME)
    for clip, column in itertools.product(range(2), range(3)):
        theirs = scipy.signal.medfilt((prob[clip, :, column] > 0.4).astype(float), 5) > 0
        np.testing.assert_array_equal(ours[clip, 2:-2, column], theirs[2:-2])


def test_what_is_no_probability_or_no_threshold_is_refused():
    prob = np.full((1, 4, 2), 0.5)
    kwargs = {"params": params_of(), "frame_duration": FRAME}
    for wrong in (prob > 0, prob + 1, prob * np.nan, prob - 1, prob[0], prob.astype(np.float16)):
        with pytest.raises(ParameterError, match="frame_prob must"):
            decode(wrong, threshold=0.5, **kwargs)
    for threshold in (1.5, -0.1, np.nan):
        with pytest.raises(ParameterError, match=r"expected a threshold in \[0, 1\]"):
            decode(prob, threshold=threshold, **kwargs)
    assert decode(prob[:0], threshold=0.5, **kwargs).shape == (0, 4, 2)  # no clip is no error


SEGMENTS = {"frame_duration": FRAME, "n_segments": 3, "time_resolution": 0.4}


def problem(rng: np.random.Generator, kind: type) -> tuple[np.ndarray, np.ndarray, Decoding]:
    """Predictions of 2 clips x 15 frames with few levels, and a reference that they have something to do with."""
    n_classes = int(rng.integers(1, 4))
    levels = np.sort(rng.random(int(rng.integers(2, 6))))
    if rng.random() < 0.3:
        levels[-1] = 1.0  # nothing is above it
    if rng.random() < 0.3:
        levels[0] = 0.0  # no threshold is below it
    prob = levels[rng.integers(0, len(levels), (2, 15, n_classes))].astype(kind)
    reference = segment_activity(prob, **SEGMENTS) * rng.random((2, 3, n_classes)) > rng.choice([0.0, 0.3, 0.5, 1.0])
    params = params_of(*(rng.choice(options).item() for options in ([1, 3], [0.0, 0.2], [0.0, 0.2])))
    return prob, reference ^ (rng.random(reference.shape) < 0.1), params


def counts_at(prob: np.ndarray, reference: np.ndarray, threshold: float, params: Decoding) -> dict[str, int]:
    return segment_counts(reference, segment_activity(by_loops(prob, threshold, params), **SEGMENTS))


def goodness(counts: dict[str, int], criterion: str) -> float:
    """What is to be highest; of the error rate's errors, which have a value without reference too, the negative."""
    return f_score(counts) if criterion == "f_measure" else -(counts["S"] + counts["D"] + counts["I"])


def choice(params: Decoding, criterion: str) -> dict:
    return {"params": params, "frame_duration": FRAME, "time_resolution": 0.4, "criterion": criterion}


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_chosen_threshold_is_the_best_of_all(criterion, kind):
    rng = np.random.default_rng(2)
    chosen, without_reference = set(), 0
    for _ in range(60):
        prob, reference, params = problem(rng, kind)
        threshold, value, curve = choose_threshold(prob, reference, **choice(params, criterion))
        every = {level: counts_at(prob, reference, level, params) for level in (0.0, *np.unique(prob).tolist(), 1.0)}
        best = max(goodness(counts, criterion) for counts in every.values())
        promised = counts_at(prob, reference, threshold, params)
        assert goodness(promised, criterion) == best
        # The rule for ties: no threshold as good makes less active.
        assert promised["Nsys"] == min(c["Nsys"] for c in every.values() if goodness(c, criterion) == best)
        np.testing.assert_equal(value, f_score(promised) if criterion == "f_measure" else error_rate(promised))
        for row in curve.itertuples():
            counts = counts_at(prob, reference, row.threshold, params)
            assert {name: getattr(row, name) for name in counts} == counts
        assert set(curve.Nsys) == {counts["Nsys"] for counts in every.values()}  # none is left out
        assert curve.Nsys.iloc[-1] == 0
        assert (np.diff(curve.threshold) > 0).all()
        assert (np.diff(curve.Nsys) < 0).all()  # and none twice
        assert curve.threshold.dtype == kind
        chosen.add(threshold)
        without_reference += not reference.any()
    assert len(chosen) > 30
    assert without_reference


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@given(start=st.floats(0, 1))
def test_neighbouring_numbers_are_told_apart(kind, start):
    """The middle of two neighbours rounds to one of them, half the time to the wrong one."""
    lower = min(kind(start), np.nextafter(kind(1), kind(0)))
    prob = np.full((1, 15, 1), lower, kind)
    prob[0, :5] = np.nextafter(lower, kind(1))
    reference = np.array([True, False, False])[None, :, None]
    threshold, value, _ = choose_threshold(prob, reference, **choice(params_of(), "f_measure"))
    assert value == 1
    active = decode(prob, threshold=threshold, params=params_of(), frame_duration=FRAME)
    assert active[0, :, 0].tolist() == [True] * 5 + [False] * 10


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_chosen_threshold_keeps_its_promise_by_sed_eval(criterion):
    rng = np.random.default_rng(7)
    shape = {**NAMES, "clip_duration": 10.0, "time_resolution": 1.0}
    truth = np.repeat(rng.random((3, 25, 3)) < 0.3, 5, axis=1)
    prob = np.clip(0.35 * truth + 0.1 + 0.3 * rng.random(truth.shape), 0, 1).astype(np.float32)
    reference = to_events(truth, **NAMES, frame_duration=FRAME)
    activity = event_activity(reference, **shape)
    smoothing = {"params": params_of(3, 0.2, 0.2), "frame_duration": FRAME}
    threshold, value, _ = choose_threshold(prob, activity, **smoothing, time_resolution=1.0, criterion=criterion)
    estimated = to_events(decode(prob, threshold=threshold, **smoothing), **NAMES, frame_duration=FRAME)
    assert sed_eval_scores(reference, estimated, **shape)["overall"][criterion] == pytest.approx(value)
    assert 0.2 < threshold < 0.6


def test_what_cannot_be_chosen_is_refused():
    prob, reference = np.zeros((2, 15, 2)), np.zeros((2, 3, 2), bool)
    with pytest.raises(ParameterError, match="expected a reference"):
        choose_threshold(prob, reference[:1], **choice(params_of(), "f_measure"))


@pytest.mark.parametrize("frame", [FRAME, 1 / 3])
def test_activity_of_frames_and_of_their_events_is_one_thing(frame):
    rng = np.random.default_rng(1)
    for _ in range(30):
        active = rng.random((3, round(10 / frame), 3)) < rng.choice([0.01, 0.2, 0.9])
        events = to_events(active, **NAMES, frame_duration=frame)
        direct = segment_activity(active, frame_duration=frame, n_segments=10, time_resolution=1.0)
        np.testing.assert_array_equal(direct, event_activity(events, **NAMES, clip_duration=10.0, time_resolution=1.0))
        pd.testing.assert_frame_equal(events, events.round(6), check_exact=True)  # microseconds
