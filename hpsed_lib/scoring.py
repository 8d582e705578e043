"""Segment-based detection scores (Sec. 3.3).

Conventions: a clip is cut into segments of ``time_resolution`` seconds; a class is active in every segment that one of
its events touches, ``floor(onset / time_resolution)`` to ``ceil(offset / time_resolution)``, as in sed_eval. Segment
activities are (clips, segments, classes). Every clip counts, with events or without. Counts are micro-averaged: summed
over clips, segments and classes before any ratio.

The score of record is sed_eval's (`sed_eval_scores`). Our own counts, many times faster, serve the search for a
threshold; every call of `sed_eval_scores` compares the two and refuses to go on if they differ.

Where precision, recall or F1 has no value (nothing to be found, or nothing estimated) it is 0. An error rate without
reference activity has no value and is None: 0 would read as perfect.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from hpsed_lib.errors import DataError, HpsedError

_EPSILON = 1e-6  # of a segment or frame: what rounding may add to a time


def segment_activity(
    active: np.ndarray, *, frame_duration: float, n_segments: int, time_resolution: float
) -> np.ndarray:
    """Segments that active frames touch.

    Parameters
    ----------
    active : np.ndarray of bool, shape (clips, frames, classes)
    frame_duration : float
        Seconds per frame.
    n_segments : int
        Segments in a clip.
    time_resolution : float
        Seconds per segment.

    Returns
    -------
    np.ndarray of bool, shape (clips, n_segments, classes)
    """
    borders = np.arange(n_segments + 1) * (time_resolution / frame_duration)  # frames
    first = np.floor(borders[:-1] + _EPSILON).astype(int)
    last = np.minimum(np.ceil(borders[1:] - _EPSILON).astype(int), active.shape[1])
    return np.stack([active[:, start:end].any(axis=1) for start, end in zip(first, last, strict=True)], axis=1)


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
        Times in seconds. What lies past the clip's end does not count.
    filenames, classes : sequence of str
        Names of the first and the last axis.
    clip_duration, time_resolution : float
        Seconds per clip and per segment.

    Returns
    -------
    np.ndarray of bool, shape (clips, ceil(clip_duration / time_resolution), classes)

    Raises
    ------
    DataError
        An event of an unknown file or class, or with a time that is no number.
    """
    clip = {name: index for index, name in enumerate(filenames)}
    column = {label: index for index, label in enumerate(classes)}
    active = np.zeros((len(clip), int(np.ceil(clip_duration / time_resolution)), len(column)), dtype=bool)
    for name, onset, offset, label in events[["filename", "onset", "offset", "event_label"]].itertuples(index=False):
        if name not in clip or label not in column or not np.isfinite([onset, offset]).all():
            raise DataError(f"event {label!r} of {name!r} ({onset} to {offset} s): unknown file, label or time")
        segments = slice(int(np.floor(onset / time_resolution)), int(np.ceil(offset / time_resolution)))
        active[clip[name], segments, column[label]] = True
    return active


def segment_counts(reference: np.ndarray, estimated: np.ndarray) -> dict[str, int]:
    """Count true and false positives and negatives, substitutions, deletions and insertions.

    Parameters
    ----------
    reference, estimated : np.ndarray of bool, shape (clips, segments, classes)

    Returns
    -------
    dict of int
        ``Nref, Nsys, Ntp, Nfp, Nfn, S, D, I``, as sed_eval defines them: in each segment S = min(Nref, Nsys) - Ntp,
        D = max(0, Nref - Nsys), I = max(0, Nsys - Nref).
    """
    n_ref, n_sys, n_tp = reference.sum(2), estimated.sum(2), (reference & estimated).sum(2)  # (clips, segments)
    counts = {
        "Nref": n_ref,
        "Nsys": n_sys,
        "Ntp": n_tp,
        "Nfp": n_sys - n_tp,
        "Nfn": n_ref - n_tp,
        "S": np.minimum(n_ref, n_sys) - n_tp,
        "D": np.maximum(n_ref - n_sys, 0),
        "I": np.maximum(n_sys - n_ref, 0),
    }
    return {name: int(count.sum()) for name, count in counts.items()}


def f_score(counts: dict[str, int]) -> float:
    """Micro-averaged F1: ``2 Ntp / (Nref + Nsys)``; 0 where nothing was to be found and nothing was."""
    both = counts["Nref"] + counts["Nsys"]
    return 2 * counts["Ntp"] / both if both else 0.0


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
        ``class_wise``: error_rate, f_measure, precision, recall, Nref, Nsys of each class.

    Raises
    ------
    HpsedError
        sed_eval's counts and ours differ: a bug, and no number may be reported.
    """
    with warnings.catch_warnings():  # dcase_util imports pkg_resources, which warns of its own end
        warnings.simplefilter("ignore")
        import sed_eval

    metrics = sed_eval.sound_event.SegmentBasedMetrics(event_label_list=list(classes), time_resolution=time_resolution)
    groups = [
        {name: group.to_dict("records") for name, group in events.groupby("filename")}
        for events in (reference, estimated)
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        for filename in filenames:
            metrics.evaluate(
                groups[0].get(filename, []), groups[1].get(filename, []), evaluated_length_seconds=clip_duration
            )
        n_ref = int(metrics.overall["Nref"])
        overall = {
            **{name: _rate(value, n_ref) for name, value in metrics.overall_error_rate().items()},
            **{name: _number(value) for name, value in metrics.overall_f_measure().items()},
        }
        class_wise = {
            label: {
                "error_rate": _rate(
                    metrics.class_wise_error_rate(label)["error_rate"], int(metrics.class_wise[label]["Nref"])
                ),
                **{name: _number(value) for name, value in metrics.class_wise_f_measure(label).items()},
                "Nref": int(metrics.class_wise[label]["Nref"]),
                "Nsys": int(metrics.class_wise[label]["Nsys"]),
            }
            for label in classes
        }
    activity = partial(
        event_activity,
        filenames=filenames,
        classes=classes,
        clip_duration=clip_duration,
        time_resolution=time_resolution,
    )
    counts = segment_counts(activity(reference), activity(estimated))
    theirs = {name: int(metrics.overall[name]) for name in counts}
    if theirs != counts:
        raise HpsedError(f"segment counts differ from sed_eval's: {counts} against {theirs}")
    return {"overall": {**overall, **counts}, "class_wise": class_wise}


def _number(value: float) -> float:
    """A plain float, 0 where sed_eval has no value."""
    return float(value) if np.isfinite(value) else 0.0


def _rate(value: float, n_ref: int) -> float | None:
    """An error rate; None where there is no reference activity (sed_eval divides by a tiny number there)."""
    return float(value) if n_ref else None
