"""Scores beside the segment-based ones against psds_eval, scipy, plain loops and closed forms."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment

from hpsed_lib.decoding import smooth, to_events
from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.params import Decoding
from hpsed_lib.scoring import (
    SCENARIOS,
    Scenario,
    clip_scores,
    event_based_scores,
    frame_activity,
    psd_points,
    psds,
    ranking_scores,
    threshold_free_scores,
)

CLASSES = ("a", "b", "c")
FILES = tuple(f"{index}.wav" for index in range(12))
FRAME, DURATION = 0.4, 10.0
COLUMNS = ["filename", "onset", "offset", "event_label"]
PLAIN = Decoding(threshold=0.5, median_length=1, minimum_gap=0.0, minimum_duration=0.0)
SMOOTH = Decoding(threshold=0.5, median_length=3, minimum_gap=0.8, minimum_duration=0.8)
TOUCH = Scenario(dtc=0.0, gtc=0.0, cttc=0.0, alpha_ct=0.5)  # however little they overlap
LENGTHS = {"clip_duration": DURATION, "frame_duration": FRAME}


def random_reference(rng: np.random.Generator, classes: tuple[str, ...] = CLASSES) -> pd.DataFrame:
    """Events that overlap those of other classes, not of their own; the last two clips have none."""
    rows = []
    for name, label in itertools.product(FILES[:-2], classes):
        times = np.sort(rng.uniform(0, DURATION, 2 * rng.integers(0, 3)))
        rows += [(name, onset, offset, label) for onset, offset in zip(times[::2], times[1::2], strict=True)]
    return pd.DataFrame(rows, columns=COLUMNS)


def probabilities(rng: np.random.Generator, reference: pd.DataFrame, classes: tuple[str, ...] = CLASSES) -> np.ndarray:
    """Frame probabilities on a grid, so that many are equal, higher within events."""
    truth = frame_activity(reference, filenames=FILES, classes=classes, n_frames=25, frame_duration=FRAME)
    noise = np.repeat(rng.random((len(FILES), 5, len(classes))), 5, axis=1) + 0.3 * rng.random(truth.shape)
    return np.round((0.6 * truth + noise) / 1.9, 1)


def score(frame_prob: np.ndarray, reference: pd.DataFrame, scenario: Scenario, params: Decoding = PLAIN) -> float:
    points = psd_points(
        smooth(frame_prob, params=params, frame_duration=FRAME),
        reference,
        filenames=FILES[: len(frame_prob)],
        classes=CLASSES[: frame_prob.shape[2]],
        scenarios={"this": scenario},
        **LENGTHS,
    )
    return psds(points, scenario=scenario)


@pytest.fixture
def _psds_eval_runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """psds_eval 0.5.3 fills forward as pandas 3, and makes an int of an array as numpy 2.4, no longer can."""
    fillna = pd.DataFrame.fillna

    def old_fillna(self: pd.DataFrame, value: float | None = None, method: str | None = None) -> pd.DataFrame:
        return self.ffill() if method == "ffill" else fillna(self, value)

    monkeypatch.setattr(pd.DataFrame, "fillna", old_fillna)
    monkeypatch.setattr("psds_eval.psds.int", lambda array: array.item(), raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.usefixtures("_psds_eval_runs")
@pytest.mark.parametrize("params", [PLAIN, SMOOTH], ids=["plain", "smooth"])
@pytest.mark.parametrize(
    "scenario",
    [*SCENARIOS.values(), Scenario(dtc=0.4, gtc=0.3, cttc=0.1, alpha_ct=1.0, alpha_st=0.0, max_efpr=250.0), TOUCH],
    ids=[*SCENARIOS, "another", "any overlap"],
)
def test_psds_is_that_of_psds_eval(scenario: Scenario, params: Decoding) -> None:
    from psds_eval import PSDSEval

    seen = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        reference = random_reference(rng)
        frame_prob = probabilities(rng, reference)
        theirs = PSDSEval(
            dtc_threshold=scenario.dtc,
            gtc_threshold=scenario.gtc,
            cttc_threshold=scenario.cttc,
            ground_truth=reference,
            metadata=pd.DataFrame({"filename": FILES, "duration": DURATION}),
        )
        for threshold in np.unique(frame_prob):
            active = smooth(frame_prob, params=params, frame_duration=FRAME) >= threshold
            if active.any():
                theirs.add_operating_point(to_events(active, filenames=FILES, classes=CLASSES, frame_duration=FRAME))
        expected = theirs.psds(alpha_ct=scenario.alpha_ct, alpha_st=scenario.alpha_st, max_efpr=scenario.max_efpr).value
        assert score(frame_prob, reference, scenario, params) == pytest.approx(expected, abs=1e-8)
        seen.append(expected)
    assert 0 < max(seen) < 1


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_perfect_detector_has_one_and_ranks_alone_matter(scenario: Scenario) -> None:
    rng = np.random.default_rng(2)
    reference = random_reference(rng)
    reference[["onset", "offset"]] = (reference[["onset", "offset"]] / FRAME).round() * FRAME  # on borders of frames
    truth = frame_activity(reference, filenames=FILES, classes=CLASSES, n_frames=25, frame_duration=FRAME)
    assert score(truth.astype(float), reference, scenario) == pytest.approx(1)
    assert score(0.02 + 1e-6 * truth, reference, scenario) == pytest.approx(1)
    frame_prob = probabilities(rng, reference)
    assert score(frame_prob**5, reference, scenario) == score(frame_prob, reference, scenario) < 1


def test_psds_by_hand() -> None:
    """Two classes, 12 clips of 10 s: 2 minutes, in which a false positive is 30 an hour."""
    reference = pd.DataFrame([("0.wav", 0.0, 4.0, "a"), ("1.wav", 0.0, 4.0, "b")], columns=COLUMNS)
    scenario = Scenario(dtc=0.7, gtc=0.7, cttc=0.3, alpha_ct=0.0, alpha_st=0.0)
    frame_prob = np.zeros((12, 25, 2))
    frame_prob[0, :, 0] = 0.4
    frame_prob[0, :10, 0] = 0.9  # class a: found at once, and lost when the threshold falls
    frame_prob[1, :10, 1] = 0.5  # class b: found after one false positive
    frame_prob[2, :3, 1] = 0.6
    assert score(frame_prob, reference, scenario) == pytest.approx((0.5 * 30 + 1 * 70) / 100)
    unstable = Scenario(dtc=0.7, gtc=0.7, cttc=0.3, alpha_ct=0.0, alpha_st=1.0)
    assert score(frame_prob, reference, unstable) == pytest.approx((0 * 30 + 1 * 70) / 100)
    frame_prob[2, :3, 1], frame_prob[0, :3, 1] = 0, 0.6  # the false positive is on class a, once in 4 s: 900 an hour
    costly = Scenario(dtc=0.7, gtc=0.7, cttc=0.3, alpha_ct=0.05, alpha_st=0.0)
    assert score(frame_prob, reference, costly) == pytest.approx((0.5 * 75 + 1 * 25) / 100)


def test_what_cannot_be_found_is_left_out() -> None:
    rng = np.random.default_rng(3)
    reference = random_reference(rng, CLASSES[:2])
    frame_prob = probabilities(rng, reference, CLASSES[:2])
    scenario = SCENARIOS["scenario2"]
    expected = score(frame_prob, reference, scenario)
    with_absent_class = np.concatenate([frame_prob, rng.random((12, 25, 1))], axis=2)
    assert score(with_absent_class, reference, scenario) == expected
    instants = reference.head(3).assign(offset=reference.onset.head(3))
    assert score(frame_prob, pd.concat([reference, instants]), scenario) == expected
    middle = (reference.onset + reference.offset) / 2
    halves = pd.concat([reference.assign(offset=middle + 1e-3), reference.assign(onset=middle)])
    assert score(frame_prob, halves, scenario) == pytest.approx(expected)
    middle_parts = reference.assign(onset=(reference.onset + middle) / 2, offset=(reference.offset + middle) / 2)
    assert score(frame_prob, pd.concat([reference, middle_parts]), scenario) == expected
    with pytest.raises(DataError, match="found none"):
        score(frame_prob, reference.iloc[:0], scenario)
    with pytest.raises(DataError, match="unknown file, label or time"):
        score(frame_prob, reference.assign(event_label="z"), scenario)
    with pytest.raises(ParameterError, match="expected 12 clips, 3 classes"):
        psd_points(frame_prob, reference, filenames=FILES, classes=CLASSES, **LENGTHS)


def test_frames_are_active_where_their_centre_is() -> None:
    rows = [("0.wav", 0.25, 0.75, "a"), ("0.wav", 0.76, 1.24, "b"), ("1.wav", 9.5, 12.0, "a")]
    events = pd.DataFrame(rows, columns=COLUMNS)
    active = frame_activity(events, filenames=FILES, classes=CLASSES, n_frames=20, frame_duration=0.5)
    assert np.argwhere(active).tolist() == [[0, 0, 0], [1, 19, 0]]  # centres 0.25, 0.75, 1.25, ... 9.75
    with pytest.raises(DataError, match="unknown file, label or time"):
        frame_activity(events, filenames=["x"], classes=CLASSES, n_frames=5, frame_duration=1)


def area_by_loops(truth: np.ndarray, ranked: np.ndarray) -> float:
    """Probability that a positive is above a negative; ties count half."""
    pairs = [np.sign(one - other) for one in ranked[truth] for other in ranked[~truth]]
    return float((np.mean(pairs) + 1) / 2)


def precision_by_loops(truth: np.ndarray, ranked: np.ndarray) -> float:
    """Mean over positives of the precision at their rank."""
    return float(np.mean([truth[ranked >= value].mean() for value in ranked[truth]]))


def test_ranking_scores_are_those_of_plain_loops() -> None:
    rng = np.random.default_rng(5)
    truth = rng.random((6, 9, 4)) < [0.4, 0.1, 0.0, 2.0]
    ranked = np.round(rng.random(truth.shape), 1) + 0.2 * truth
    scores = ranking_scores(truth, ranked, classes=["a", "b", "never", "always"])
    for index, label in enumerate("ab"):
        own = scores["class_wise"][label]
        assert own["roc_auc"] == pytest.approx(area_by_loops(truth[..., index].ravel(), ranked[..., index].ravel()))
        expected = precision_by_loops(truth[..., index].ravel(), ranked[..., index].ravel())
        assert own["average_precision"] == pytest.approx(expected)
    assert scores["micro"]["roc_auc"] == pytest.approx(area_by_loops(truth.ravel(), ranked.ravel()))
    assert scores["micro"]["average_precision"] == pytest.approx(precision_by_loops(truth.ravel(), ranked.ravel()))
    assert scores["class_wise"]["never"] == {"average_precision": None, "roc_auc": None}
    assert scores["class_wise"]["always"] == {"average_precision": pytest.approx(1), "roc_auc": None}
    areas = [scores["class_wise"][label]["roc_auc"] for label in "ab"]
    assert scores["macro"]["roc_auc"] == pytest.approx(np.mean(areas))
    assert scores["n_classes_scored"] == 3
    with pytest.raises(ParameterError, match="one shape"):
        ranking_scores(truth, ranked[:2], classes="abcd")


def test_tagging_is_counted() -> None:
    truth = np.array([[1, 0, 1], [0, 0, 1]], dtype=bool)
    clip_prob = np.array([[0.9, 0.8, 0.2], [0.5, 0.1, 0.7]])
    scores = clip_scores(truth, clip_prob, threshold=0.5)  # 0.5 is not above 0.5: 2 found of 3, 1 wrong
    assert scores == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f_measure": 2 / 3})
    nothing = {"precision": 0.0, "recall": 0.0, "f_measure": 0.0}
    assert clip_scores(truth, clip_prob, threshold=1.0) == nothing
    assert clip_scores(np.zeros((2, 3), bool), clip_prob, threshold=0.5) == nothing


@pytest.mark.parametrize(
    ("onset", "offset", "label", "found"),
    [
        (2.19, 3.0, "a", True),
        (2.21, 3.0, "a", False),
        (2.0, 3.19, "a", True),
        (2.0, 3.21, "a", False),  # 20 % of 1 s is the collar too
        (2.0, 3.0, "b", False),
    ],
)
def test_collars_are_those_of_dcase(onset: float, offset: float, label: str, found: bool) -> None:
    reference = pd.DataFrame([("0.wav", 2.0, 3.0, "a")], columns=COLUMNS)
    estimated = pd.DataFrame([("0.wav", onset, offset, label)], columns=COLUMNS)
    scores = event_based_scores(reference, estimated, filenames=FILES, classes=CLASSES)
    assert scores["micro"]["f_measure"] == float(found)
    assert scores["n_classes_scored"] == 1
    longer = event_based_scores(
        reference.assign(offset=7.0), estimated.assign(offset=8.0), filenames=FILES, classes="ab"
    )
    assert longer["macro"]["f_measure"] == float(onset < 2.2 and label == "a")  # 20 % of 5 s


def test_event_based_f1_is_that_of_the_best_matching() -> None:
    rng = np.random.default_rng(6)
    reference = random_reference(rng).round(2)
    estimated = random_reference(rng).round(2)
    near = reference.sample(frac=0.7, random_state=0)
    estimated = pd.concat([estimated, near.assign(onset=near.onset + rng.normal(0, 0.15, len(near)))])
    n_tp = 0
    for name, label in itertools.product(FILES, CLASSES):
        one, other = (
            events[(events.filename == name) & (events.event_label == label)] for events in (reference, estimated)
        )
        hit = np.zeros((len(one), len(other)))
        for (i, first), (j, second) in itertools.product(enumerate(one.itertuples()), enumerate(other.itertuples())):
            allowed = max(0.2, 0.2 * (first.offset - first.onset))
            hit[i, j] = abs(first.onset - second.onset) <= 0.2 and abs(first.offset - second.offset) <= allowed
        n_tp += hit[linear_sum_assignment(-hit)].sum()
    scores = event_based_scores(reference, estimated, filenames=FILES, classes=CLASSES)
    assert scores["micro"]["f_measure"] == pytest.approx(2 * n_tp / (len(reference) + len(estimated)))
    assert n_tp > 5
    nothing = event_based_scores(reference.iloc[:0], estimated, filenames=FILES, classes=CLASSES)
    assert nothing["micro"]["f_measure"] == 0
    assert nothing["macro"]["f_measure"] is None


@pytest.mark.parametrize("case", ["usual", "silent detector", "no events"])
def test_scores_are_plain_numbers_or_none(case: str) -> None:
    rng = np.random.default_rng(7)
    reference = random_reference(rng, CLASSES[:2])  # class c never sounds
    frame_prob = np.zeros((12, 25, 3), np.float32) if case == "silent detector" else rng.random((12, 25, 3), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = threshold_free_scores(
            frame_prob,
            smooth(frame_prob, params=SMOOTH, frame_duration=FRAME),
            frame_prob.max(axis=1),
            reference.iloc[:0] if case == "no events" else reference,
            filenames=FILES,
            classes=CLASSES,
            time_resolution=1.0,
            **LENGTHS,
        )
    assert json.loads(json.dumps(scores)) == scores
    assert set(scores) == {"psds", "segment", "frame", "clip"}
    assert scores["segment"]["class_wise"]["c"] == {"average_precision": None, "roc_auc": None}
    if case == "no events":
        assert scores["psds"] == {"scenario1": None, "scenario2": None}
        assert scores["frame"]["micro"]["average_precision"] is scores["clip"]["macro"]["roc_auc"] is None
        assert scores["clip"]["n_classes_scored"] == 0
    else:
        assert 0 <= scores["psds"]["scenario1"] <= scores["psds"]["scenario2"] <= 1
        assert scores["clip"]["n_classes_scored"] == 2
    if case == "silent detector":  # all are equal: areas of a guess, precisions of the share of positives
        assert scores["frame"]["macro"]["roc_auc"] == 0.5
        truth = frame_activity(reference, filenames=FILES, classes=CLASSES, n_frames=25, frame_duration=FRAME)
        assert scores["frame"]["micro"]["average_precision"] == pytest.approx(truth.mean())
