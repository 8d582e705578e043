"""Detection scores: segment-based (Sec. 3.3), event-based, over all thresholds (PSDS, average precision), of clips.

Everywhere ``filenames`` and ``classes`` name the first and the last axis, each once; every clip counts, with events or
without; event lists are data frames with the columns filename, onset, offset (seconds), event_label; frame k covers
[k, k + 1) * frame_duration seconds; durations and the time resolution are in seconds.

**Segment-based.** A class is active in every segment of ``time_resolution`` seconds that one of its events touches, as
in sed_eval. An event without duration counts in the segment it lies in and, on a border, nowhere; what lies past the
clip's end does not count. Segment activities are (clips, segments, classes). Counts are summed over clips, segments and
classes before any ratio (micro). The score of record is sed_eval's; our own counts, many times faster, serve the search
for a threshold and the resampling of recordings.

Precision, recall and F1 without a value (nothing to be found, or nothing estimated) are 0. An error rate without
reference activity has none: 0 would read as perfect. It is None in files, NaN in arrays and data frames.

**Over all thresholds.** ``micro`` pools clips (frames, segments) and classes before the score is computed; ``macro`` is
the mean over the classes that have one. A class without positives has none, and counts with its negatives in ``micro``.

**PSDS** [1]_, on smoothed probabilities. A detection is relevant if events of its class cover the share ``dtc`` of it,
otherwise a false positive; an event is found if relevant detections cover the share ``gtc`` of it; a false positive of
which the events of another class cover the share ``cttc`` is a cross-trigger too. Every threshold that makes a
difference is an operating point [2]_: a grid of thresholds would score how a pooling function spreads its frame
probabilities. The counts are our own, as psds_eval 0.5.3 and sed_scores_eval 0.0.4 do not run with pandas 3. Left out
are reference events without duration, and classes without reference events; overlapping events of a class are joined.

References
----------
.. [1] C. Bilen, G. Ferroni, F. Tuveri, J. Azcarreta and S. Krstulovic, "A framework for the robust evaluation of sound
   event detection", ICASSP 2020.
.. [2] J. Ebbers, R. Serizel and R. Haeb-Umbach, "Threshold independent evaluation of sound event detection scores",
   ICASSP 2022.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from hpsed_lib.errors import DataError, HpsedError, ParameterError

_EPSILON = 1e-6  # of a segment or frame: what rounding may add to a time
COLLAR, OFFSET_SHARE = 0.2, 0.2
"""Seconds, and of an offset the share of the event's length, by which DCASE's event-based F1 lets a time be off."""
_TOLERANCE = 1e-6  # s: a share met but for rounding is met


def segment_activity(
    active: np.ndarray, *, frame_duration: float, n_segments: int, time_resolution: float
) -> np.ndarray:
    """The largest value of the frames that touch each segment: of bool, or of float >= 0, (clips, frames, classes)."""
    borders = np.arange(n_segments + 1) * (time_resolution / frame_duration)  # frames
    first = np.floor(borders[:-1] + _EPSILON).astype(int)
    last = np.minimum(np.ceil(borders[1:] - _EPSILON).astype(int), active.shape[1])
    return np.stack(
        [active[:, start:end].max(axis=1, initial=0) for start, end in zip(first, last, strict=True)], axis=1
    )


def event_activity(
    events: pd.DataFrame,
    *,
    filenames: Sequence[str],
    classes: Sequence[str],
    clip_duration: float,
    time_resolution: float,
) -> np.ndarray:
    """Segments that events touch: bool, shape (clips, ceil(clip_duration / time_resolution), classes).

    Refused are names given twice, and events of an unknown file or class, with a time that is no number, or before the
    clip's start, where sed_eval counts from the end of the longest event.
    """
    if len(set(filenames)) < len(filenames) or len(set(classes)) < len(classes):
        raise ParameterError("filenames and classes must name each file and each class once")
    clip, label, onset, offset = _event_arrays(events, filenames, classes)
    _refuse((onset < 0) | (offset < 0), events, "before the clip's start")
    n_segments = int(np.ceil(clip_duration / time_resolution))
    segment = np.arange(n_segments)
    touched = (np.floor(onset / time_resolution)[:, None] <= segment) & (
        segment < np.ceil(offset / time_resolution)[:, None]
    )
    event, segment = np.nonzero(touched)  # (events, segments)
    active = np.zeros((len(filenames), n_segments, len(classes)), dtype=bool)
    active[clip[event], segment, label[event]] = True
    return active


def _event_arrays(
    events: pd.DataFrame, filenames: Sequence[str], classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Clip and class indices, onsets and offsets."""
    clip = pd.Index(filenames).get_indexer(events["filename"])  # -1: unknown
    label = pd.Index(classes).get_indexer(events["event_label"])
    onset, offset = events["onset"].to_numpy(float), events["offset"].to_numpy(float)
    unknown = (clip < 0) | (label < 0) | ~np.isfinite(onset) | ~np.isfinite(offset)
    _refuse(unknown, events, "unknown file, label or time")
    return clip, label, onset, offset


def _refuse(bad: np.ndarray, events: pd.DataFrame, reason: str) -> None:
    """Name the first bad event."""
    if bad.any():
        event = events.iloc[int(bad.argmax())]
        raise DataError(
            f"event {event.event_label!r} of {event.filename!r} ({event.onset} to {event.offset} s): {reason}"
        )


def clip_counts(reference: np.ndarray, estimated: np.ndarray) -> dict[str, np.ndarray]:
    """Count ``Nref, Nsys, Ntp, Nfp, Nfn, S, D, I`` in each clip, from activities (clips, segments, classes) of bool.

    As sed_eval defines them: in each segment S = min(Nref, Nsys) - Ntp, D = max(0, Nref - Nsys), I = max(0, Nsys -
    Nref).
    """
    # (clips, segments)
    n_ref, n_sys, n_tp = (active.sum(2) for active in (reference, estimated, reference & estimated))
    return _count(*(count.sum(1) for count in (n_ref, n_sys, n_tp, np.minimum(n_ref, n_sys))))


def _count(n_ref: Any, n_sys: Any, n_tp: Any, matched: Any) -> dict[str, Any]:
    """Every count, from four; `matched` is min(Nref, Nsys) of each segment, summed."""
    return {
        "Nref": n_ref,
        "Nsys": n_sys,
        "Ntp": n_tp,
        "Nfp": n_sys - n_tp,
        "Nfn": n_ref - n_tp,
        "S": matched - n_tp,
        "D": n_ref - matched,
        "I": n_sys - matched,
    }


def segment_counts(reference: np.ndarray, estimated: np.ndarray) -> dict[str, int]:
    """The counts of all clips together: the sum of `clip_counts`."""
    return {name: int(count.sum()) for name, count in clip_counts(reference, estimated).items()}


def class_counts(reference: np.ndarray, estimated: np.ndarray) -> dict[str, np.ndarray]:
    """``Nref, Nsys, Ntp, Nfp, Nfn`` of each class, shape (classes,), from arrays as in `clip_counts`."""
    n_ref, n_sys, n_tp = (active.sum((0, 1)) for active in (reference, estimated, reference & estimated))
    return {"Nref": n_ref, "Nsys": n_sys, "Ntp": n_tp, "Nfp": n_sys - n_tp, "Nfn": n_ref - n_tp}


def f_score(counts: Mapping[str, Any]) -> Any:
    """Micro-averaged F1: ``2 Ntp / (Nref + Nsys)``, from numbers or arrays; 0 without any activity."""
    both = np.asarray(counts["Nref"] + counts["Nsys"])
    return np.divide(2 * counts["Ntp"], both, out=np.zeros(both.shape), where=both > 0)[()]


def error_rate(counts: Mapping[str, Any]) -> Any:
    """Error rate: ``(S + D + I) / Nref``, from numbers or arrays; NaN without reference activity."""
    n_ref, errors = np.broadcast_arrays(counts["Nref"], counts["S"] + counts["D"] + counts["I"])
    return np.divide(errors, n_ref, out=np.full(n_ref.shape, np.nan), where=n_ref > 0)[()]


def threshold_curve(segment_score: np.ndarray, reference: np.ndarray, *, thresholds: np.ndarray) -> pd.DataFrame:
    """The counts of ``segment_score > threshold``, against a reference of the same shape, for every threshold at once.

    A cell (clip, segment, class) is active at the thresholds below its score: one histogram of how many these are,
    summed from above, gives Nsys, and that of the reference cells Ntp. min(Nref, Nsys) of a segment counts its Nref
    highest cells. Thresholds ascend; they are compared in the type of `segment_score`. Columns: threshold, the counts
    of `clip_counts`, f_measure, error_rate.
    """
    compared = np.asarray(thresholds, dtype=segment_score.dtype)
    if compared.ndim != 1 or not (compared[:-1] <= compared[1:]).all():
        raise ParameterError("thresholds must be a list of numbers in ascending order")
    level = np.searchsorted(compared, segment_score, side="left")  # how many thresholds lie below
    n_ref = reference.sum(axis=2, keepdims=True)  # (clips, segments, 1)
    highest_first = np.sort(level, axis=2)[:, :, ::-1]
    cells = (level.ravel(), level[reference], highest_first[np.arange(level.shape[2]) < n_ref])
    n_sys, n_tp, matched = (np.bincount(levels, minlength=len(compared) + 1)[:0:-1].cumsum()[::-1] for levels in cells)
    counts = _count(np.full(len(compared), reference.sum()), n_sys, n_tp, matched)
    ratios = {"f_measure": f_score(counts), "error_rate": error_rate(counts)}
    return pd.DataFrame({"threshold": thresholds, **counts, **ratios})


def best_constant_guess(reference: np.ndarray) -> float:
    """F1 of the best guess that ignores the sound: some set of classes, always active, chosen with hindsight.

    ``max_k 2 T_k / (Nref + k n)``, with T_k the activity of the k most frequent of the classes and n the segments of a
    `reference` (clips, segments, classes).
    """
    per_class = np.sort(reference.sum((0, 1)))[::-1]
    n_segments = reference.shape[0] * reference.shape[1]
    guessed = np.arange(1, len(per_class) + 1) * n_segments
    return float((2 * per_class.cumsum() / (per_class.sum() + guessed)).max())


def sed_eval_scores(
    reference: pd.DataFrame,
    estimated: pd.DataFrame,
    *,
    filenames: Sequence[str],
    classes: Sequence[str],
    clip_duration: float,
    time_resolution: float,
) -> dict:
    """The score of record: sed_eval's segment-based metrics; an error if its counts and ours differ.

    ``overall`` has rates, precision, recall, f_measure and counts; ``class_wise`` error_rate, f_measure, precision,
    recall, Nref and Nsys of each class; ``clip_counts`` lists of int, in the order of `filenames`.
    """
    sizes: dict[str, Any] = {"classes": classes, "clip_duration": clip_duration, "time_resolution": time_resolution}
    active = [event_activity(events, filenames=filenames, **sizes) for events in (reference, estimated)]
    metrics = evaluate_by_sed_eval(_clip_by_clip(reference, estimated, filenames=filenames), **sizes)
    counts, by_class = segment_counts(*active), class_counts(*active)
    _compare(counts, metrics.overall)
    class_wise = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        overall = _ratios(metrics.overall_error_rate(), metrics.overall_f_measure(), n_ref=counts["Nref"])
        for index, label in enumerate(classes):
            own = {name: int(count[index]) for name, count in by_class.items()}
            _compare(own, metrics.class_wise[label])
            rates = {"error_rate": metrics.class_wise_error_rate(label)["error_rate"]}
            ratios = _ratios(rates, metrics.class_wise_f_measure(label), n_ref=own["Nref"])
            class_wise[label] = ratios | {name: own[name] for name in ("Nref", "Nsys")}
    return {
        "overall": overall | counts,
        "class_wise": class_wise,
        "clip_counts": {name: count.tolist() for name, count in clip_counts(*active).items()},
    }


def _clip_by_clip(*lists: pd.DataFrame, filenames: Sequence[str]) -> Iterator[Sequence[list[dict]]]:
    """The events of each list in one clip after the other."""
    groups = [events_by_file(events) for events in lists]
    return ([group.get(name, []) for group in groups] for name in filenames)


def events_by_file(events: pd.DataFrame) -> dict[str, list[dict]]:
    """The events of each file that has some, as sed_eval takes them."""
    groups: dict[str, list[dict]] = {}
    for event in events.to_dict("records"):  # many times faster than a data frame for each file
        groups.setdefault(event["filename"], []).append(event)
    return groups


def evaluate_by_sed_eval(
    clips: Iterable[Sequence[list[dict]]],
    *,
    classes: Sequence[str],
    clip_duration: float,
    time_resolution: float,
) -> Any:
    """sed_eval's SegmentBasedMetrics after the reference and estimated events of each clip."""
    metrics = _sed_eval().sound_event.SegmentBasedMetrics(list(classes), time_resolution=time_resolution)
    for reference, estimated in clips:
        metrics.evaluate(reference, estimated, evaluated_length_seconds=clip_duration)
    return metrics


def _sed_eval() -> Any:
    with warnings.catch_warnings():  # dcase_util imports pkg_resources, which warns of its own end
        warnings.simplefilter("ignore")
        import sed_eval
    return sed_eval


def _compare(ours: dict[str, int], theirs: dict[str, float]) -> None:
    if ours != {name: theirs[name] for name in ours}:
        raise HpsedError(f"segment counts differ from sed_eval's: {ours} against {theirs}")


def _ratios(error_rates: dict, f_measures: dict, *, n_ref: int) -> dict[str, float | None]:
    """sed_eval's ratios as plain numbers; its error rates without reference activity are by a tiny number."""
    rates = {name: float(value) if n_ref else None for name, value in error_rates.items()}
    return rates | {name: _number(value) for name, value in f_measures.items()}


def _number(value: float) -> float:
    """A plain float, 0 where sed_eval has no value."""
    return float(value) if np.isfinite(value) else 0.0


def frame_activity(
    events: pd.DataFrame, *, filenames: Sequence[str], classes: Sequence[str], n_frames: int, frame_duration: float
) -> np.ndarray:
    """Frames whose centre lies within an event: bool, shape (clips, n_frames, classes)."""
    centres = (np.arange(n_frames) + 0.5) * frame_duration
    active = np.zeros((len(filenames), n_frames, len(classes)), dtype=bool)
    for clip, label, onset, offset in zip(*_event_arrays(events, filenames, classes), strict=True):
        active[clip, :, label] |= (onset <= centres) & (centres < offset)
    return active


def ranking_scores(reference: np.ndarray, scores: np.ndarray, *, classes: Sequence[str]) -> dict:
    """How well scores rank what is active above what is not (scikit-learn); both arrays are (..., classes).

    ``micro``, ``macro`` and each class in ``class_wise`` have ``average_precision`` (area under the precision-recall
    staircase) and ``roc_auc``, None where there is none; ``n_classes_scored`` are the classes with positives. A class
    that is active everywhere has an average precision, 1, and no ROC curve.
    """
    if reference.shape != scores.shape or reference.shape[-1] != len(classes):
        raise ParameterError(f"reference {reference.shape}, scores {scores.shape}: expected one shape, (..., classes)")
    truth, ranked = reference.reshape(-1, len(classes)), scores.reshape(-1, len(classes))
    class_wise = {label: _ranking(truth[:, index], ranked[:, index]) for index, label in enumerate(classes)}
    macro = {name: _mean([score[name] for score in class_wise.values()]) for name in ("average_precision", "roc_auc")}
    return {
        "micro": _ranking(truth.ravel(), ranked.ravel()),
        "macro": macro,
        "class_wise": class_wise,
        "n_classes_scored": int(truth.any(axis=0).sum()),
    }


def threshold_free_scores(
    frame_prob: np.ndarray,
    smoothed: np.ndarray,
    clip_prob: np.ndarray,
    reference: pd.DataFrame,
    *,
    filenames: Sequence[str],
    classes: Sequence[str],
    clip_duration: float,
    frame_duration: float,
    time_resolution: float,
) -> dict:
    """All scores that need no threshold, as plain numbers for a metrics file.

    ``psds``: those of `SCENARIOS`; ``segment``, ``frame`` and ``clip``: `ranking_scores`. Takes frame probabilities as
    predicted and after `hpsed_lib.decoding.smooth`.
    """
    names: dict[str, Any] = {"filenames": filenames, "classes": classes}
    segments = event_activity(reference, **names, clip_duration=clip_duration, time_resolution=time_resolution)
    frames = frame_activity(reference, **names, n_frames=frame_prob.shape[1], frame_duration=frame_duration)
    by_segment = segment_activity(
        frame_prob, frame_duration=frame_duration, n_segments=segments.shape[1], time_resolution=time_resolution
    )
    sizes: dict[str, Any] = {**names, "clip_duration": clip_duration, "frame_duration": frame_duration}
    return {
        "psds": {name: psds(smoothed, reference, **sizes, scenario=each) for name, each in SCENARIOS.items()},
        "segment": ranking_scores(segments, by_segment, classes=classes),
        "frame": ranking_scores(frames, frame_prob, classes=classes),
        "clip": ranking_scores(segments.max(axis=1), clip_prob, classes=classes),
    }


N_BINS = 20
"""Of `frame_prob_counts`, from 0 to 1."""


def places(
    reference: pd.DataFrame,
    present: np.ndarray,
    *,
    filenames: Sequence[str],
    classes: Sequence[str],
    n_frames: int,
    frame_duration: float,
) -> dict[str, np.ndarray]:
    """Where frames lie, each bool (clips, n_frames, classes).

    ``inside`` an event of the class; ``beside`` it, in clips where the class is `present` (bool, clips, classes); and
    ``absent``, in those where it is not.
    """
    names: dict[str, Any] = {"filenames": filenames, "classes": classes}
    inside = frame_activity(reference, **names, n_frames=n_frames, frame_duration=frame_duration)
    beside = ~inside & present[:, None]
    return {"inside": inside, "beside": beside, "absent": ~(inside | beside)}


def frame_prob_counts(frame_prob: np.ndarray, where: dict[str, np.ndarray]) -> dict[str, list[int]]:
    """How many frame probabilities (clips, frames, classes) lie in each of `N_BINS` bins, in each of the `places`."""
    return {
        name: np.histogram(frame_prob[frames], bins=N_BINS, range=(0, 1))[0].tolist() for name, frames in where.items()
    }


def clip_scores(reference: np.ndarray, clip_prob: np.ndarray, *, threshold: float) -> dict[str, float]:
    """Audio tagging above a threshold, of arrays (clips, classes): what subtask A of DCASE 2017 Task 4 measures."""
    precision, recall, f_measure, _ = precision_recall_fscore_support(
        np.asarray(reference, dtype=bool), clip_prob > threshold, average="micro", zero_division=0
    )
    return {"precision": float(precision), "recall": float(recall), "f_measure": float(f_measure)}


def event_based_scores(
    reference: pd.DataFrame, estimated: pd.DataFrame, *, filenames: Sequence[str], classes: Sequence[str]
) -> dict:
    """sed_eval's event-based F1, with DCASE's collars.

    An event is found if an estimated one of its class starts within `COLLAR` of its onset and ends within `COLLAR`, or
    `OFFSET_SHARE` of its length if that is more, of its offset. Each event is matched at most once.

    ``micro`` has precision, recall and f_measure; ``macro`` f_measure, the mean over classes with reference events, or
    None without any; ``n_classes_scored`` is their number.
    """
    metrics = _sed_eval().sound_event.EventBasedMetrics(
        event_label_list=list(classes), t_collar=COLLAR, percentage_of_length=OFFSET_SHARE
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        for events in _clip_by_clip(reference, estimated, filenames=filenames):
            metrics.evaluate(*events)
        micro = {name: _number(value) for name, value in metrics.overall_f_measure().items()}
        of_classes = [
            _number(metrics.class_wise_f_measure(label)["f_measure"])
            for label in classes
            if metrics.class_wise[label]["Nref"]
        ]
    return {"micro": micro, "macro": {"f_measure": _mean(of_classes)}, "n_classes_scored": len(of_classes)}


def _ranking(truth: np.ndarray, ranked: np.ndarray) -> dict[str, float | None]:
    return {
        "average_precision": float(average_precision_score(truth, ranked)) if truth.any() else None,
        "roc_auc": float(roc_auc_score(truth, ranked)) if truth.any() and not truth.all() else None,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that there are; None if there are none."""
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None


@dataclass(frozen=True)
class Scenario:
    """What counts as found and what errors cost; see the module's docstring."""

    dtc: float  # share of a detection, detection tolerance criterion
    gtc: float  # share of an event, ground truth intersection criterion
    cttc: float  # share of a false positive, cross-trigger tolerance criterion
    alpha_ct: float  # weight of cross-triggers in the effective rate of false positives
    alpha_st: float = 1.0  # weight of the standard deviation over classes in the effective ratio of true positives
    max_efpr: float = 100.0  # per hour: highest effective rate of false positives that counts


SCENARIOS = {
    "scenario1": Scenario(dtc=0.7, gtc=0.7, cttc=0.3, alpha_ct=0.0),
    "scenario2": Scenario(dtc=0.1, gtc=0.1, cttc=0.3, alpha_ct=0.5),
}
"""Those of DCASE's Task 4 since 2021: 1 asks for exact times, 2 for the right class. 1 ignores ``cttc``."""


MOST_CLASSES = 100
"""Of which a PSDS is computed."""
AT_ONCE = 2**22
"""Overlaps of detections with classes that are held at once: all of them may not fit into memory."""


def psds(
    smoothed: np.ndarray,
    reference: pd.DataFrame,
    *,
    filenames: Sequence[str],
    classes: Sequence[str],
    clip_duration: float,
    frame_duration: float,
    scenario: Scenario,
) -> float | None:
    """Area under the curve of true against false positives, over that of a perfect detector: 0 to 1.

    What a clip adds to the counts of a class changes at no threshold but one of its own smoothed frame probabilities:
    each clip and class is decoded at those, and the changes are summed over clips in the order of the thresholds [2]_;
    a frame is active from the threshold up. The rate of true positives is the share of the events found; that of false
    ones is, per hour,
    ``false positives / duration + alpha_ct * mean over other classes of (cross-triggers / duration of their events)``.

    The curve is a staircase up to ``max_efpr``: ``max(0, mean - alpha_st * std)`` over classes of the highest rate of
    true positives that a class reaches with no more false ones. Without a reference event with a duration it is None,
    and of more than `MOST_CLASSES`: cross-triggers are of pairs of classes, and would take hours. It takes some 60
    times the memory of `smoothed`, and 100 MB.
    """
    if smoothed.ndim != 3 or smoothed.shape[::2] != (len(filenames), len(classes)):
        raise ParameterError(f"frame_prob {smoothed.shape}: expected {len(filenames)} clips, {len(classes)} classes")
    events = _reference_events(reference, filenames, classes)
    if not events or len(classes) > MOST_CLASSES:
        return None
    clip, label, onset, offset = map(np.array, zip(*events, strict=True))
    present, label = np.unique(label, return_inverse=True)
    graded = smoothed[:, :, present]
    levels = -np.sort(-graded, axis=1)  # (clips, frames, classes): the thresholds at which something changes
    changes = _psd_changes(graded, levels, (clip, label, onset, offset), scenario, clip_duration, frame_duration)
    points = []  # of each class: true and false positives at falling thresholds
    for column in range(len(present)):
        added = pd.DataFrame(changes[..., column].reshape(2, -1).T, columns=["true", "false"])
        counts = added.groupby(levels[:, :, column].T.ravel()).sum()[::-1].cumsum().round(9)  # equal is to be equal
        points.append(counts.sort_values("false", kind="stable"))
    rates = np.unique([0.0, *pd.concat(points).false])
    rates = np.append(rates[rates < scenario.max_efpr], scenario.max_efpr)
    ratios = []
    for column, counts in enumerate(points):
        best = np.append(0.0, np.maximum.accumulate(counts.true / np.count_nonzero(label == column)))
        ratios.append(best[np.searchsorted(counts.false, rates, side="right")])
    effective = np.maximum(np.mean(ratios, axis=0) - scenario.alpha_st * np.std(ratios, axis=0), 0)
    return float((np.diff(rates) * effective[:-1]).sum() / scenario.max_efpr)


def _psd_changes(
    graded: np.ndarray,
    levels: np.ndarray,
    events: tuple[np.ndarray, ...],
    scenario: Scenario,
    clip_duration: float,
    frame_duration: float,
) -> np.ndarray:
    """True positives, and effective rate of false positives, that each clip adds at each of its thresholds.

    Shape (2, frames, clips, classes), the highest threshold first.
    """
    n_clips, n_frames, n_classes = graded.shape
    clip, label, onset, offset = events
    sounding = np.bincount(label, offset - onset)  # s
    borders = np.arange(n_frames + 1) * frame_duration
    until = np.clip(borders - onset[:, None], 0, (offset - onset)[:, None])  # seconds of each event up to each border
    covered = np.zeros((n_clips, n_classes, n_frames + 1))  # the same of each class
    np.add.at(covered, (clip, label), until)
    added = np.zeros((2, n_frames + 1, n_clips, n_classes))  # first of all nothing
    for index in range(n_frames):
        in_clip, of_class, start, end = active_runs((graded >= levels[:, index, None]) & (graded > 0))
        length = (end - start) * frame_duration
        own = covered[in_clip, of_class, end] - covered[in_clip, of_class, start]  # (detections,), s
        relevant = (own > 0) & (own >= scenario.dtc * length - _TOLERANCE)
        edges = np.zeros((n_clips, n_classes, n_frames + 1), dtype=np.int8)  # of relevant detections
        for value, edge in ((1, start), (-1, end)):
            edges[in_clip[relevant], of_class[relevant], edge[relevant]] = value
        detected = edges[clip, label, :-1].cumsum(axis=1)  # (events, frames): 1 in relevant detections
        within = (detected * np.diff(until, axis=1)).sum(axis=1)  # s
        found = (within > 0) & (within >= scenario.gtc * (offset - onset) - _TOLERANCE)
        np.add.at(added[0, index + 1], (clip[found], label[found]), 1)

        costs = np.full(len(length), 3600 / (n_clips * clip_duration))
        others = np.flatnonzero(~relevant) if scenario.alpha_ct and n_classes > 1 else ()
        for first in range(0, len(others), AT_ONCE // n_classes):
            rows = others[first : first + AT_ONCE // n_classes]
            wrong = covered[in_clip[rows], :, end[rows]] - covered[in_clip[rows], :, start[rows]]  # (rows, classes), s
            triggers = (wrong > 0) & (wrong >= scenario.cttc * length[rows, None] - _TOLERANCE)
            triggers[np.arange(len(rows)), of_class[rows]] = False
            costs[rows] += triggers @ (3600 * scenario.alpha_ct / (n_classes - 1) / sounding)
        np.add.at(added[1, index + 1], (in_clip[~relevant], of_class[~relevant]), costs[~relevant])
    return np.diff(added, axis=1)


def _reference_events(reference: pd.DataFrame, filenames: Sequence[str], classes: Sequence[str]) -> list[list[float]]:
    """Clip, class, onset and offset of each reference event with a duration, overlapping ones joined."""
    events: list[list[float]] = []
    columns = (values.tolist() for values in _event_arrays(reference, filenames, classes))
    for clip, label, onset, offset in sorted(zip(*columns, strict=True)):
        if onset < offset:
            if events and events[-1][:2] == [clip, label] and onset < events[-1][3]:
                events[-1][3] = max(offset, events[-1][3])
            else:
                events.append([clip, label, onset, offset])
    return events


def active_runs(active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Runs of True along the frames of (clips, frames, classes): clip, class, first frame, frame after the last."""
    edges = np.diff(np.pad(active.transpose(0, 2, 1).astype(np.int8), ((0, 0), (0, 0), (1, 1))), axis=2)
    clip, label, start = np.nonzero(edges == 1)
    return clip, label, start, np.nonzero(edges == -1)[2]
