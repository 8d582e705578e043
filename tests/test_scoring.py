"""Scores against sed_eval, psds_eval, scikit-learn, scipy, plain loops and counting one threshold at a time."""

import itertools
import json
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
import sed_eval
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from hpsed_lib import scoring
from hpsed_lib.decoding import smooth, to_events
from hpsed_lib.errors import DataError, HpsedError, ParameterError
from hpsed_lib.params import Decoding
from hpsed_lib.scoring import MOST_CLASSES, SCENARIOS, Scenario

CLASSES = ("a", "b", "c")
FILES = tuple(f"{index}.wav" for index in range(12))
NAMES = {"filenames": FILES, "classes": CLASSES}
FRAME, DURATION = 0.4, 10.0  # s
SHAPE = {**NAMES, "clip_duration": DURATION, "time_resolution": 1.0}
COLUMNS = ["filename", "onset", "offset", "event_label"]


def event_list(*events: tuple) -> pd.DataFrame:
    return pd.DataFrame(events, columns=COLUMNS)


# --- segment-based ---

GRIDS = [(3.0, 1.0), (2.5, 1.0), (1.7, 0.5), (0.9, 0.3), (0.7, 0.1), (6.0, 2.0), (1.0, 0.08)]  # clip, segment; s


def awkward_lists(clip: float, segment: float) -> st.SearchStrategy[pd.DataFrame]:
    """Times on borders and a rounding beside them, sums of 0.1, past the end; events without duration, overlapping,
    ending before they begin (which sed_eval accepts), of one class or of all."""
    borders = st.integers(0, int(clip / segment) + 2).map(lambda k: k * segment)
    beside = st.builds(np.nextafter, borders, st.sampled_from([-1.0, np.inf])).map(abs)
    times = st.one_of(borders, beside, st.integers(0, 39).map(lambda k: k * 0.1), st.floats(0, 3 * clip))
    spans = st.one_of(
        times.map(lambda time: (time, time)), st.tuples(times, times).map(sorted), st.tuples(times, times)
    )
    events = st.tuples(st.sampled_from(FILES[:3]), spans, st.sampled_from(CLASSES)).map(lambda e: (e[0], *e[1], e[2]))
    return st.lists(events, max_size=12).map(
        lambda events: event_list(*events).astype({"onset": float, "offset": float})
    )


def check_counts(reference: pd.DataFrame, estimated: pd.DataFrame, **shape) -> dict[str, int]:
    """Every count is sed_eval's as an integer, overall and class by class; those of clips are those of each alone."""
    metrics = sed_eval.sound_event.SegmentBasedMetrics(list(shape["classes"]), time_resolution=shape["time_resolution"])
    groups = [scoring.events_by_file(events) for events in (reference, estimated)]
    for name in shape["filenames"]:
        own = [group.get(name, []) for group in groups]
        metrics.evaluate(*own, evaluated_length_seconds=shape["clip_duration"])
    active = scoring.event_activity(reference, **shape), scoring.event_activity(estimated, **shape)
    np.testing.assert_array_equal(scoring.event_activity(reference.astype(object), **shape), active[0])
    counts = scoring.segment_counts(*active)
    assert counts == {name: metrics.overall[name] for name in counts}
    for name, count in scoring.class_counts(*active).items():
        assert count.tolist() == [metrics.class_wise[label][name] for label in shape["classes"]]
    of_clips = scoring.clip_counts(*active)
    for index in range(0, len(active[0]), 50):
        one_clip = active[0][index : index + 1], active[1][index : index + 1]
        assert scoring.segment_counts(*one_clip) == {name: count[index] for name, count in of_clips.items()}
    return counts


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(GRIDS))
def test_counts_are_sed_evals_on_awkward_event_lists(data, grid):
    lists = data.draw(awkward_lists(*grid)), data.draw(awkward_lists(*grid))
    check_counts(*lists, filenames=FILES[:3], classes=CLASSES, clip_duration=grid[0], time_resolution=grid[1])


def test_counts_are_sed_evals_on_the_labels_of_dcase_2017(dcase2017_folder):
    paths = sorted(dcase2017_folder.glob("groundtruth_strong_label_*.csv"))
    assert paths
    rng = np.random.default_rng(0)
    for path in paths:
        reference = pd.read_csv(path, sep="\t", names=COLUMNS)
        assert (reference.onset == reference.offset).sum() > 30
        classes, filenames = (tuple(sorted(set(reference[column]))) for column in ("event_label", "filename"))
        assert len(classes) == 17
        shape = {**SHAPE, "filenames": (*filenames, "one without events.wav"), "classes": classes}
        moved = reference.assign(onset=reference.onset + 0.7, offset=reference.offset + 0.7)
        rough = reference.assign(onset=reference.onset.round(), offset=reference.offset.round())
        times = np.maximum(reference[["onset", "offset"]] + rng.normal(0, 1, (len(reference), 2)), 0)
        confused = reference.assign(event_label=rng.permutation(reference.event_label)).sample(frac=0.6, random_state=0)
        for estimated in (reference, moved, rough, reference.assign(**times), confused, pd.concat([confused, moved])):
            counts = check_counts(reference, estimated, **shape)
            assert counts["Ntp"] > 0
        assert scoring.sed_eval_scores(reference, estimated, **shape)["overall"]["Ntp"] == counts["Ntp"]


def test_scores_are_sed_evals_and_nan_is_zero():
    reference = event_list(("1.wav", 0.0, 2.0, "a"), ("2.wav", 1.0, 3.0, "b"))
    estimated = event_list(("1.wav", 0.5, 1.0, "a"), ("2.wav", 1.0, 2.0, "a"))
    scores = scoring.sed_eval_scores(reference, estimated, **SHAPE)
    assert scores["overall"]["error_rate"] == pytest.approx((1 + 2 + 0) / 4)  # S in 2.wav's segment 1; D in two
    assert scores["overall"]["f_measure"] == pytest.approx(2 * 1 / (4 + 2))  # segment 0 of 1.wav is found
    nothing_there = {"error_rate": None, "f_measure": 0, "precision": 0, "recall": 0, "Nref": 0, "Nsys": 0}
    assert scores["class_wise"]["c"] == nothing_there
    nothing = scoring.sed_eval_scores(reference, estimated.iloc[:0], **SHAPE)["overall"]
    assert (nothing["f_measure"], nothing["precision"], nothing["error_rate"]) == (0, 0, 1)
    silent = scoring.sed_eval_scores(reference.iloc[:0], estimated.iloc[:0], **SHAPE)["overall"]
    assert (silent["f_measure"], silent["error_rate"]) == (0, None)
    false_alarms = scoring.sed_eval_scores(reference.iloc[:0], estimated, **SHAPE)
    assert false_alarms["overall"]["insertion_rate"] is None
    assert false_alarms["class_wise"]["a"] == {**nothing_there, "Nsys": 2}


@pytest.mark.parametrize("counted", ["segment_counts", "class_counts"])
def test_a_difference_from_sed_eval_is_an_error(counted, monkeypatch):
    reference, count = event_list(("1.wav", 0.0, 2.0, "a")), getattr(scoring, counted)
    monkeypatch.setattr(scoring, counted, lambda *active: {**count(*active), "Ntp": count(*active)["Ntp"] + 1})
    with pytest.raises(HpsedError, match="differ from sed_eval's"):
        scoring.sed_eval_scores(reference, reference, **SHAPE)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (("1.wav", -0.5, 1.0, "a"), "before the clip's start"),
        (("1.wav", 0.0, -0.5, "a"), "before the clip's start"),
        (("x.wav", 0.0, 1.0, "a"), "unknown file, label or time"),
        (("1.wav", 0.0, 1.0, "z"), "unknown file, label or time"),
        (("1.wav", np.nan, 1.0, "a"), "unknown file, label or time"),
        (("1.wav", 0.0, np.inf, "a"), "unknown file, label or time"),
    ],
)
def test_what_is_no_event_of_a_clip_is_named(event, reason):
    events = event_list(("1.wav", 3.0, 5.0, "b"), event)
    with pytest.raises(DataError, match=rf"event '{event[3]}' of '{event[0]}' .*: {reason}$"):
        scoring.event_activity(events, **SHAPE)
    with pytest.raises(DataError, match=reason):
        scoring.sed_eval_scores(events.iloc[:1], events, **SHAPE)
    for twice in ({"filenames": ("1.wav", "1.wav")}, {"classes": ("a", "a")}):
        with pytest.raises(ParameterError, match="once"):
            scoring.event_activity(events, **{**SHAPE, **twice})


def test_graded_activity_commutes_with_thresholding_and_is_nothing_past_the_last_frame():
    graded = np.random.default_rng(5).random((3, 125, 3), dtype=np.float32)
    lengths = {"frame_duration": 0.08, "n_segments": 12, "time_resolution": 1.0}
    for threshold in (0.0, 0.5, 0.9, 0.99):
        active = scoring.segment_activity(graded > threshold, **lengths)
        np.testing.assert_array_equal(scoring.segment_activity(graded, **lengths) > threshold, active)
        assert not active[:, 10:].any()


def test_ratios_of_counts_are_scikit_learns_and_the_definitions():
    rng = np.random.default_rng(6)
    for share, sounding in itertools.product((0.0, 0.1, 0.5, 1.0), (0.0, 0.4)):
        reference, estimated = rng.random((5, 4, 3)) < share, rng.random((5, 4, 3)) < sounding
        counts = scoring.clip_counts(reference, estimated)
        clips = zip(reference, estimated, strict=True)
        theirs = [sklearn.metrics.f1_score(*clip, average="micro", zero_division=0) for clip in clips]
        assert scoring.f_score(counts) == pytest.approx(theirs)
        errors = zip(counts["S"] + counts["D"] + counts["I"], counts["Nref"], strict=True)
        np.testing.assert_equal(
            scoring.error_rate(counts), [wrong / n_ref if n_ref else np.nan for wrong, n_ref in errors]
        )
        one = {name: int(count[0]) for name, count in counts.items()}
        np.testing.assert_equal(
            [scoring.f_score(one), scoring.error_rate(one)], [scoring.f_score(counts)[0], scoring.error_rate(counts)[0]]
        )


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_all_thresholds_at_once_are_one_at_a_time(kind):
    rng = np.random.default_rng(7)
    for n_classes, n_levels in itertools.product((1, 2, 5), (3, 20, 10**6)):
        score = (rng.integers(0, n_levels, (6, 5, n_classes)) / n_levels).astype(kind)  # many ties, few, none
        reference = rng.random(score.shape) < rng.random()
        thresholds = np.sort([*score.ravel()[:20], 0.0, 0.1, 0.5, 0.5, 1.0])  # repeated, and 0.1 is not float32's
        curve = scoring.threshold_curve(score, reference, thresholds=thresholds)
        for index, threshold in enumerate(thresholds):
            counts = scoring.segment_counts(reference, score > kind(threshold))
            assert {name: curve[name][index] for name in counts} == counts
            assert curve.f_measure[index] == scoring.f_score(counts)
            np.testing.assert_equal(curve.error_rate[index], scoring.error_rate(counts))
    for wrong in ([0.5, 0.2], [0.1, 0.5, 0.2], [[0.1, 0.2]]):
        with pytest.raises(ParameterError, match="ascending"):
            scoring.threshold_curve(score, reference, thresholds=np.array(wrong))


def test_the_best_constant_guess_is_the_best_of_all_sets_of_classes():
    rng = np.random.default_rng(3)
    for _ in range(20):
        reference = rng.random((4, 10, 4)) < rng.random(4) ** 2
        guesses = (np.broadcast_to(chosen, reference.shape) for chosen in itertools.product([False, True], repeat=4))
        best = max(scoring.f_score(scoring.segment_counts(reference, guess)) for guess in guesses)
        assert scoring.best_constant_guess(reference) == pytest.approx(best)


# --- over all thresholds, event-based, of clips ---

PLAIN = Decoding(threshold=0.5, median_length=1, minimum_gap=0.0, minimum_duration=0.0)
SMOOTH = Decoding(threshold=0.5, median_length=3, minimum_gap=0.8, minimum_duration=0.8)
ANOTHER = Scenario(dtc=0.4, gtc=0.3, cttc=0.1, alpha_ct=1.0, alpha_st=0.0, max_efpr=250.0)
TOUCH = Scenario(dtc=0.0, gtc=0.0, cttc=0.0, alpha_ct=0.5)  # however little they overlap
LENGTHS = {"clip_duration": DURATION, "frame_duration": FRAME}


def random_reference(rng: np.random.Generator, classes: tuple[str, ...] = CLASSES) -> pd.DataFrame:
    """Events that overlap those of other classes, not of their own; the last two clips have none."""
    rows = []
    for name, label in itertools.product(FILES[:-2], classes):
        times = np.sort(rng.uniform(0, DURATION, 2 * rng.integers(0, 3)))
        rows += [(name, onset, offset, label) for onset, offset in zip(times[::2], times[1::2], strict=True)]
    return event_list(*rows)


def in_frames(events: pd.DataFrame, classes: tuple[str, ...] = CLASSES) -> np.ndarray:
    return scoring.frame_activity(events, filenames=FILES, classes=classes, n_frames=25, frame_duration=FRAME)


def probabilities(rng: np.random.Generator, reference: pd.DataFrame, classes: tuple[str, ...] = CLASSES) -> np.ndarray:
    """Frame probabilities on a grid, so that many are equal, higher within events."""
    truth = in_frames(reference, classes)
    noise = np.repeat(rng.random((len(FILES), 5, len(classes))), 5, axis=1) + 0.3 * rng.random(truth.shape)
    return np.round((0.6 * truth + noise) / 1.9, 1)


def score(frame_prob: np.ndarray, reference: pd.DataFrame, scenario: Scenario, params: Decoding = PLAIN):
    smoothed = smooth(frame_prob, params=params, frame_duration=FRAME)
    names = {"filenames": FILES, "classes": CLASSES[: frame_prob.shape[2]]}
    return scoring.psds(smoothed, reference, **names, **LENGTHS, scenario=scenario)


@pytest.fixture
def _psds_eval_runs(monkeypatch):
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
@pytest.mark.parametrize("scenario", [*SCENARIOS.values(), ANOTHER, TOUCH])
def test_psds_is_that_of_psds_eval(scenario, params):
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
                theirs.add_operating_point(to_events(active, **NAMES, frame_duration=FRAME))
        expected = theirs.psds(alpha_ct=scenario.alpha_ct, alpha_st=scenario.alpha_st, max_efpr=scenario.max_efpr).value
        assert score(frame_prob, reference, scenario, params) == pytest.approx(expected, abs=1e-8)
        seen.append(expected)
    assert 0 < max(seen) < 1


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_perfect_detector_has_one_and_ranks_alone_matter(scenario):
    rng = np.random.default_rng(2)
    reference = random_reference(rng)
    reference[["onset", "offset"]] = (reference[["onset", "offset"]] / FRAME).round() * FRAME  # on borders of frames
    truth = in_frames(reference)
    assert score(truth.astype(float), reference, scenario) == pytest.approx(1)
    assert score(0.02 + 1e-6 * truth, reference, scenario) == pytest.approx(1)
    frame_prob = probabilities(rng, reference)
    assert score(frame_prob**5, reference, scenario) == score(frame_prob, reference, scenario) < 1


def test_what_cannot_be_found_is_left_out():
    rng = np.random.default_rng(3)
    reference = random_reference(rng, CLASSES[:2])
    frame_prob = probabilities(rng, reference, CLASSES[:2])
    scenario = SCENARIOS["scenario2"]
    expected = score(frame_prob, reference, scenario)
    with_absent_class = np.concatenate([frame_prob, rng.random((12, 25, 1))], axis=2)
    assert score(with_absent_class, reference, scenario) == expected
    instants = reference.head(3).assign(offset=reference.onset.head(3))
    middle = (reference.onset + reference.offset) / 2
    halves = reference.assign(offset=middle + 1e-3), reference.assign(onset=middle)
    part = reference.assign(onset=(reference.onset + middle) / 2, offset=(reference.offset + middle) / 2)
    for lists in ((reference, instants), halves, (reference, part)):
        assert score(frame_prob, pd.concat(lists), scenario) == pytest.approx(expected, rel=1e-12)
    assert score(frame_prob, reference.iloc[:0], scenario) is None
    with pytest.raises(DataError, match="unknown file, label or time"):
        score(frame_prob, reference.assign(event_label="z"), scenario)
    with pytest.raises(ParameterError, match="expected 12 clips, 3 classes"):
        scoring.psds(frame_prob, reference, **NAMES, **LENGTHS, scenario=scenario)


def test_psds_of_many_classes_keeps_to_its_bounds(monkeypatch):
    labels = [f"{number:03}" for number in range(MOST_CLASSES + 1)]
    reference = pd.DataFrame({"filename": "0.wav", "onset": 1.0, "offset": 3.0, "event_label": labels})
    frame_prob = np.random.default_rng(0).random((12, 25, MOST_CLASSES + 1))

    def psds(n_classes: int) -> float | None:
        names = {"filenames": FILES, "classes": labels[:n_classes]}
        scenario, of_these = SCENARIOS["scenario2"], reference[:n_classes]
        return scoring.psds(frame_prob[..., :n_classes], of_these, **names, **LENGTHS, scenario=scenario)

    assert psds(MOST_CLASSES + 1) is None
    expected = psds(MOST_CLASSES)
    monkeypatch.setattr(scoring, "AT_ONCE", 2**12)
    tracemalloc.start()
    assert psds(MOST_CLASSES) == expected
    assert tracemalloc.get_traced_memory()[1] < 60 * frame_prob.nbytes
    tracemalloc.stop()


def test_frames_are_active_where_their_centre_is():
    events = event_list(("0.wav", 0.25, 0.75, "a"), ("0.wav", 0.76, 1.24, "b"), ("1.wav", 9.5, 12.0, "a"))
    active = scoring.frame_activity(events, **NAMES, n_frames=20, frame_duration=0.5)
    assert np.argwhere(active).tolist() == [[0, 0, 0], [1, 19, 0]]  # centres 0.25, 0.75, 1.25, ... 9.75
    with pytest.raises(DataError, match="unknown file, label or time"):
        scoring.frame_activity(events, filenames=["x"], classes=CLASSES, n_frames=5, frame_duration=1)


def ranked_by_loops(truth: np.ndarray, ranked: np.ndarray) -> dict[str, float]:
    """Mean over positives of the precision at their rank; how often a positive is above a negative, ties half."""
    precisions = [truth[ranked >= value].mean() for value in ranked[truth]]
    pairs = [np.sign(one - other) for one in ranked[truth] for other in ranked[~truth]]
    return {"average_precision": np.mean(precisions), "roc_auc": (np.mean(pairs) + 1) / 2}


def test_ranking_scores_are_those_of_plain_loops():
    rng = np.random.default_rng(5)
    truth = rng.random((6, 9, 4)) < [0.4, 0.1, 0.0, 2.0]
    ranked = np.round(rng.random(truth.shape), 1) + 0.2 * truth
    scores = scoring.ranking_scores(truth, ranked, classes=["a", "b", "never", "always"])
    for index, label in enumerate("ab"):
        assert scores["class_wise"][label] == pytest.approx(ranked_by_loops(truth[..., index], ranked[..., index]))
    assert scores["micro"] == pytest.approx(ranked_by_loops(truth, ranked))
    assert scores["class_wise"]["never"] == {"average_precision": None, "roc_auc": None}
    assert scores["class_wise"]["always"] == {"average_precision": pytest.approx(1), "roc_auc": None}
    for name, labels in (("average_precision", ["a", "b", "always"]), ("roc_auc", ["a", "b"])):
        mean = np.mean([scores["class_wise"][label][name] for label in labels])
        assert scores["macro"][name] == pytest.approx(mean)
    assert scores["n_classes_scored"] == 3
    with pytest.raises(ParameterError, match="one shape"):
        scoring.ranking_scores(truth, ranked[:2], classes="abcd")


def test_tagging_is_counted():
    truth = np.array([[1, 0, 1], [0, 0, 1]], dtype=bool)
    clip_prob = np.array([[0.9, 0.8, 0.2], [0.5, 0.1, 0.7]])
    scores = scoring.clip_scores(truth, clip_prob, threshold=0.5)  # 0.5 is not above 0.5: 2 found of 3, 1 wrong
    assert scores == pytest.approx(dict.fromkeys(("precision", "recall", "f_measure"), 2 / 3))
    assert scoring.clip_scores(truth, clip_prob, threshold=1.0) == dict.fromkeys(scores, 0.0)
    assert scoring.clip_scores(truth & False, clip_prob, threshold=0.5) == dict.fromkeys(scores, 0.0)


def test_event_based_f1_is_that_of_the_best_matching():
    """Within 0.2 s, and of an offset 20 % of the event's length, if that is more."""
    rng = np.random.default_rng(6)
    reference, others = random_reference(rng).round(2), random_reference(rng).round(2)
    moved = reference[["onset", "offset"]] + rng.normal(0, (0.15, 0.3), (len(reference), 2))
    estimated = pd.concat([others, reference.assign(**moved).sample(frac=0.9, random_state=0)])
    found = dict.fromkeys(CLASSES, 0.0)
    for name, label in itertools.product(FILES, CLASSES):
        one, other = (
            events[(events.filename == name) & (events.event_label == label)] for events in (reference, estimated)
        )
        apart = [np.abs(np.subtract.outer(one[time].to_numpy(), other[time].to_numpy())) for time in COLUMNS[1:3]]
        allowed = np.maximum(0.2, 0.2 * (one.offset - one.onset)).to_numpy()[:, None]
        hit = (apart[0] <= 0.2) & (apart[1] <= allowed)
        found[label] += hit[linear_sum_assignment(hit, maximize=True)].sum()
    scores = scoring.event_based_scores(reference, estimated, filenames=FILES, classes=(*CLASSES, "never"))
    both = pd.concat([reference, estimated]).event_label.value_counts()
    assert scores["micro"]["f_measure"] == pytest.approx(2 * sum(found.values()) / both.sum())
    assert scores["macro"]["f_measure"] == pytest.approx(np.mean([2 * found[label] / both[label] for label in CLASSES]))
    assert scores["n_classes_scored"] == 3
    assert min(found.values()) > 2
    nothing = scoring.event_based_scores(reference.iloc[:0], estimated, **NAMES)
    assert (nothing["micro"]["f_measure"], nothing["macro"]["f_measure"]) == (0, None)


@pytest.mark.parametrize("case", ["usual", "silent detector", "no events"])
def test_scores_are_plain_numbers_or_none(case):
    rng = np.random.default_rng(7)
    reference = random_reference(rng, CLASSES[:2])  # class c never sounds
    if case == "no events":
        reference = reference.iloc[:0]
    frame_prob = np.zeros((12, 25, 3), np.float32) if case == "silent detector" else rng.random((12, 25, 3), np.float32)
    predicted = frame_prob, smooth(frame_prob, params=SMOOTH, frame_duration=FRAME), frame_prob.max(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = scoring.threshold_free_scores(*predicted, reference, **SHAPE, frame_duration=FRAME)
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
        assert scores["frame"]["micro"]["average_precision"] == pytest.approx(in_frames(reference).mean())
