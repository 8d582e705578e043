"""Segment-based detection scores (Sec. 3.3).

Conventions: a clip is cut into segments of ``time_resolution`` seconds; a class is active in every segment that one of
its events touches, ``floor(onset / time_resolution)`` to ``ceil(offset / time_resolution)``, as in sed_eval. So an
event without duration counts in the segment it lies in and, on a border, nowhere; of overlapping events of one class
each segment counts once; what lies past the clip's end does not count. Segment activities are (clips, segments,
classes). Every clip counts, with events or without. Counts are micro-averaged: summed over clips, segments and classes
before any ratio.

The score of record is sed_eval's (`sed_eval_scores`). Our own counts, many times faster, serve the search for a
threshold and the resampling of clips; every call of `sed_eval_scores` compares the two, overall and class by class, and
refuses to go on if they differ.

Where precision, recall or F1 has no value (nothing to be found, or nothing estimated) it is 0. An error rate without
reference activity has no value: 0 would read as perfect. It is None in what is written to files, NaN in arrays and data
frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from hpsed_lib.errors import DataError, HpsedError, ParameterError

_EPSILON = 1e-6  # of a segment or frame: what rounding may add to a time


def segment_activity(
    active: np.ndarray, *, frame_duration: float, n_segments: int, time_resolution: float
) -> np.ndarray:
    """Segments that active frames touch; of graded activity, the largest value of the frames that touch a segment.

    Parameters
    ----------
    active : np.ndarray of bool, or of float >= 0, shape (clips, frames, classes)
    frame_duration : float
        Seconds per frame.
    n_segments : int
        Segments in a clip.
    time_resolution : float
        Seconds per segment.

    Returns
    -------
    np.ndarray of the same type, shape (clips, n_segments, classes)
        The maximum, which for booleans is "any": so ``segment_activity(x) > t`` is ``segment_activity(x > t)``.
    """
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
    """Segments that events touch.

    Parameters
    ----------
    events : DataFrame with columns filename, onset, offset, event_label
        Times in seconds, in any order. What lies past the clip's end does not count.
    filenames, classes : sequence of str
        Names of the first and the last axis, each once.
    clip_duration, time_resolution : float
        Seconds per clip and per segment.

    Returns
    -------
    np.ndarray of bool, shape (clips, ceil(clip_duration / time_resolution), classes)

    Raises
    ------
    ParameterError
        A name is given twice.
    DataError
        An event of an unknown file or class, with a time that is no number, or before the clip's start: there sed_eval
        counts segments from the end of the longest event, and no count would mean anything.
    """
    if len(set(filenames)) < len(filenames) or len(set(classes)) < len(classes):
        raise ParameterError("filenames and classes must name each file and each class once")
    clip = pd.Index(filenames).get_indexer(events["filename"])  # -1: unknown
    label = pd.Index(classes).get_indexer(events["event_label"])
    onset, offset = events["onset"].to_numpy(float), events["offset"].to_numpy(float)
    unknown = (clip < 0) | (label < 0) | ~np.isfinite(onset) | ~np.isfinite(offset)
    _refuse(unknown, events, "unknown file, label or time")
    _refuse((onset < 0) | (offset < 0), events, "before the clip's start")

    n_segments = int(np.ceil(clip_duration / time_resolution))
    first = np.minimum(np.floor(onset / time_resolution), n_segments).astype(int)
    last = np.minimum(np.ceil(offset / time_resolution), n_segments).astype(int)
    n_touched = np.maximum(last - first, 0)
    nth = np.arange(n_touched.sum()) - np.repeat(n_touched.cumsum() - n_touched, n_touched)  # 0, 1 ... of each event
    active = np.zeros((len(filenames), n_segments, len(classes)), dtype=bool)
    active[np.repeat(clip, n_touched), np.repeat(first, n_touched) + nth, np.repeat(label, n_touched)] = True
    return active


def _refuse(bad: np.ndarray, events: pd.DataFrame, reason: str) -> None:
    """Name the first bad event."""
    if bad.any():
        event = events.iloc[int(bad.argmax())]
        raise DataError(
            f"event {event.event_label!r} of {event.filename!r} ({event.onset} to {event.offset} s): {reason}"
        )


def clip_counts(reference: np.ndarray, estimated: np.ndarray) -> dict[str, np.ndarray]:
    """Count true and false positives and negatives, substitutions, deletions and insertions, in each clip.

    Parameters
    ----------
    reference, estimated : np.ndarray of bool, shape (clips, segments, classes)

    Returns
    -------
    dict of np.ndarray of int, shape (clips,)
        ``Nref, Nsys, Ntp, Nfp, Nfn, S, D, I``, as sed_eval defines them: in each segment S = min(Nref, Nsys) - Ntp,
        D = max(0, Nref - Nsys), I = max(0, Nsys - Nref).
    """
    n_ref, n_sys, n_tp = (  # (clips, segments)
        np.count_nonzero(active, axis=2) for active in (reference, estimated, reference & estimated)
    )
    matched = np.minimum(n_ref, n_sys).sum(1)  # (clips,)
    n_ref, n_sys, n_tp = n_ref.sum(1), n_sys.sum(1), n_tp.sum(1)
    return _count(n_ref, n_sys, n_tp, matched)


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
    """Count true and false positives and negatives of each class.

    Parameters
    ----------
    reference, estimated : np.ndarray of bool, shape (clips, segments, classes)

    Returns
    -------
    dict of np.ndarray of int, shape (classes,)
        ``Nref, Nsys, Ntp, Nfp, Nfn``. Of one class, S is 0, D is Nfn and I is Nfp.
    """
    n_ref, n_sys, n_tp = (active.sum((0, 1)) for active in (reference, estimated, reference & estimated))
    return {"Nref": n_ref, "Nsys": n_sys, "Ntp": n_tp, "Nfp": n_sys - n_tp, "Nfn": n_ref - n_tp}


def f_score(counts: Mapping[str, Any]) -> Any:
    """Micro-averaged F1: ``2 Ntp / (Nref + Nsys)``; 0 where nothing was to be found and nothing was.

    Takes counts as numbers or as arrays, and returns the same.

    >>> float(f_score({"Nref": 5, "Nsys": 3, "Ntp": 2}))
    0.5
    """
    both = np.asarray(counts["Nref"] + counts["Nsys"])
    return np.divide(2 * counts["Ntp"], both, out=np.zeros(both.shape), where=both > 0)[()]


def error_rate(counts: Mapping[str, Any]) -> Any:
    """Error rate: ``(S + D + I) / Nref``; NaN without reference activity. Takes numbers or arrays, as `f_score`.

    >>> float(error_rate({"Nref": 4, "S": 1, "D": 1, "I": 0}))
    0.5
    """
    n_ref, errors = np.broadcast_arrays(counts["Nref"], counts["S"] + counts["D"] + counts["I"])
    return np.divide(errors, n_ref, out=np.full(n_ref.shape, np.nan), where=n_ref > 0)[()]


def threshold_curve(segment_score: np.ndarray, reference: np.ndarray, *, thresholds: np.ndarray) -> pd.DataFrame:
    """The counts of ``segment_score > threshold`` for every threshold at once.

    A cell (clip, segment, class) is active at the thresholds below its score: one histogram of how many these are,
    summed from above, gives Nsys, and that of the reference cells Ntp. min(Nref, Nsys) of a segment counts its Nref
    highest cells.

    Parameters
    ----------
    segment_score : np.ndarray, shape (clips, segments, classes)
    reference : np.ndarray of bool, shape (clips, segments, classes)
    thresholds : np.ndarray, shape (thresholds,)
        Ascending. Compared in the type of `segment_score`.

    Returns
    -------
    DataFrame with columns threshold, Nref, Nsys, Ntp, Nfp, Nfn, S, D, I, f_measure, error_rate
        One row for each threshold.
    """
    level = _level(segment_score, thresholds)
    n_ref = reference.sum(axis=2, keepdims=True)  # (clips, segments, 1)
    highest_first = np.sort(level, axis=2)[:, :, ::-1]
    matched = highest_first[np.arange(level.shape[2]) < n_ref]
    n_sys, n_tp, n_matched = (
        _from_above(cells, len(thresholds)) for cells in (level.ravel(), level[reference], matched)
    )
    counts = _count(np.full(len(thresholds), reference.sum()), n_sys, n_tp, n_matched)
    return pd.DataFrame(
        {"threshold": thresholds, **counts, "f_measure": f_score(counts), "error_rate": error_rate(counts)}
    )


def class_threshold_counts(
    segment_score: np.ndarray, reference: np.ndarray, *, thresholds: np.ndarray
) -> dict[str, np.ndarray]:
    """The counts of each class for every threshold at once, as `threshold_curve` has them for all classes together.

    Parameters
    ----------
    segment_score : np.ndarray, shape (clips, segments, classes)
    reference : np.ndarray of bool, shape (clips, segments, classes)
    thresholds : np.ndarray, shape (thresholds,)
        Ascending. Compared in the type of `segment_score`.

    Returns
    -------
    dict of np.ndarray of int, shape (thresholds, classes)
        ``Nsys, Ntp``.
    """
    level = _level(segment_score, thresholds)
    n_thresholds, n_classes = len(thresholds), level.shape[2]
    level = level + (n_thresholds + 1) * np.arange(n_classes)  # a histogram of its own for each class
    counts = {}
    for name, cells in (("Nsys", level.ravel()), ("Ntp", level[reference])):
        histogram = np.bincount(cells, minlength=(n_thresholds + 1) * n_classes).reshape(n_classes, -1)
        counts[name] = histogram[:, :0:-1].cumsum(axis=1)[:, ::-1].T  # (thresholds, classes)
    return counts


def _level(segment_score: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many of the thresholds lie below each score."""
    compared = np.asarray(thresholds, dtype=segment_score.dtype)
    if compared.ndim != 1 or not (compared[:-1] <= compared[1:]).all():
        raise ParameterError("thresholds must be a list of numbers in ascending order")
    return np.searchsorted(compared, segment_score, side="left")


def _from_above(level: np.ndarray, n_thresholds: int) -> np.ndarray:
    """Cells active at each threshold: those with a higher level than its place in the list."""
    return np.bincount(level, minlength=n_thresholds + 1)[:0:-1].cumsum()[::-1]


def best_constant_guess(reference: np.ndarray) -> float:
    """F1 of the best guess that ignores the sound: some set of classes, always active, chosen with hindsight.

    Parameters
    ----------
    reference : np.ndarray of bool, shape (clips, segments, classes)

    Returns
    -------
    float
        ``max_k 2 T_k / (Nref + k n)``, with T_k the activity of the k most frequent classes and n the segments.
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
    """The score of record: sed_eval's segment-based metrics.

    Parameters
    ----------
    reference, estimated : DataFrame with columns filename, onset, offset, event_label
        Times in seconds.
    filenames : sequence of str
        Every clip evaluated, with events or without.
    classes : sequence of str
        Every class.
    clip_duration, time_resolution : float
        Seconds per clip and per segment.

    Returns
    -------
    dict
        ``overall``: substitution, deletion, insertion and error rate, precision, recall, f_measure, and the counts;
        ``class_wise``: error_rate, f_measure, precision, recall, Nref, Nsys of each class;
        ``clip_counts``: the counts of each clip, lists of int in the order of `filenames`.

    Raises
    ------
    HpsedError
        sed_eval's counts and ours differ: a bug, and no number may be reported.
    """
    activity = partial(
        event_activity,
        filenames=filenames,
        classes=classes,
        clip_duration=clip_duration,
        time_resolution=time_resolution,
    )
    active = activity(reference), activity(estimated)
    groups = [events_by_file(events) for events in (reference, estimated)]
    clips = ((groups[0].get(name, []), groups[1].get(name, [])) for name in filenames)
    metrics = evaluate_by_sed_eval(clips, classes=classes, clip_duration=clip_duration, time_resolution=time_resolution)
    counts, by_class = segment_counts(*active), class_counts(*active)
    _compare(counts, metrics.overall)
    for index, label in enumerate(classes):
        _compare({name: int(count[index]) for name, count in by_class.items()}, metrics.class_wise[label])
    return {
        "overall": {**_overall_ratios(metrics), **counts},
        "class_wise": {label: _class_ratios(metrics, label) for label in classes},
        "clip_counts": {name: count.tolist() for name, count in clip_counts(*active).items()},
    }


def events_by_file(events: pd.DataFrame) -> dict[str, list[dict]]:
    """The events of each file that has some, as sed_eval takes them."""
    groups: dict[str, list[dict]] = {}
    for event in events.to_dict("records"):  # many times faster than a data frame for each file
        groups.setdefault(event["filename"], []).append(event)
    return groups


def evaluate_by_sed_eval(
    clips: Iterable[tuple[list[dict], list[dict]]],
    *,
    classes: Sequence[str],
    clip_duration: float,
    time_resolution: float,
) -> Any:
    """Run sed_eval's segment-based evaluation, clip by clip.

    Parameters
    ----------
    clips : iterable of pairs of lists of dict
        Reference and estimated events of each clip, with onset, offset and event_label.
    classes : sequence of str
    clip_duration, time_resolution : float
        Seconds per clip and per segment.

    Returns
    -------
    sed_eval.sound_event.SegmentBasedMetrics
    """
    with warnings.catch_warnings():  # dcase_util imports pkg_resources, which warns of its own end
        warnings.simplefilter("ignore")
        import sed_eval

    metrics = sed_eval.sound_event.SegmentBasedMetrics(event_label_list=list(classes), time_resolution=time_resolution)
    for reference, estimated in clips:
        metrics.evaluate(reference, estimated, evaluated_length_seconds=clip_duration)
    return metrics


def _compare(ours: dict[str, int], theirs: dict[str, float]) -> None:
    """Refuse to go on where a count of ours is not sed_eval's."""
    if ours != {name: theirs[name] for name in ours}:
        raise HpsedError(f"segment counts differ from sed_eval's: {ours} against {theirs}")


def _overall_ratios(metrics: Any) -> dict[str, float | None]:
    """sed_eval's rates and F1 over all classes."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            **{name: _rate(value, metrics.overall["Nref"]) for name, value in metrics.overall_error_rate().items()},
            **{name: _number(value) for name, value in metrics.overall_f_measure().items()},
        }


def _class_ratios(metrics: Any, label: str) -> dict[str, float | int | None]:
    """sed_eval's error rate and F1 of one class."""
    n_ref, n_sys = (int(metrics.class_wise[label][name]) for name in ("Nref", "Nsys"))
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "error_rate": _rate(metrics.class_wise_error_rate(label)["error_rate"], n_ref),
            **{name: _number(value) for name, value in metrics.class_wise_f_measure(label).items()},
            "Nref": n_ref,
            "Nsys": n_sys,
        }


def _number(value: float) -> float:
    """A plain float, 0 where sed_eval has no value."""
    return float(value) if np.isfinite(value) else 0.0


def _rate(value: float, n_ref: float) -> float | None:
    """An error rate; None where there is no reference activity (sed_eval divides by a tiny number there)."""
    return float(value) if n_ref else None
