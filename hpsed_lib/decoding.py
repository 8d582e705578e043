"""From frame-level probabilities to events: threshold, median filter, "ignoring noise" (Sec. 2.1).

Conventions: ``frame_prob`` and every activity are (clips, frames, classes); frame k covers
[k, k + 1) * frame_duration seconds. Event lists are data frames with the columns filename, onset, offset, event_label.
The steps come in this order: threshold, median filter, close short gaps, drop short events.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.ndimage

from hpsed_lib.params import Decoding
from hpsed_lib.scoring import f_score, segment_activity, segment_counts

THRESHOLDS = np.round(np.arange(0.02, 0.99, 0.02), 2)
"""Thresholds tried on the validation clips."""


def _runs(active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs of True along the last axis of a 2-d array: row, first frame, frame after the last."""
    edges = np.diff(np.pad(active.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    row, start = np.nonzero(edges == 1)
    return row, start, np.nonzero(edges == -1)[1]


def _fill(shape: tuple[int, int], row: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The inverse of `_runs`, for runs that do not overlap."""
    steps = np.zeros((shape[0], shape[1] + 1), dtype=np.int8)
    np.add.at(steps, (row, start), 1)
    np.add.at(steps, (row, end), -1)
    return steps.cumsum(axis=1)[:, :-1] > 0


def smooth(active: np.ndarray, *, params: Decoding, frame_duration: float) -> np.ndarray:
    """Median filter, then close short gaps, then drop short events.

    Parameters
    ----------
    active : np.ndarray of bool, shape (clips, frames, classes)
        Frames above the threshold.
    params : Decoding
        Median length in frames; shortest gap and shortest event kept, in seconds.
    frame_duration : float
        Seconds per frame.

    Returns
    -------
    np.ndarray of bool, shape (clips, frames, classes)
        The median filter repeats the edge frames; silence before the first and after the last event is no gap.
    """
    if params.median_length > 1:
        active = scipy.ndimage.median_filter(active.view(np.uint8), (1, params.median_length, 1), mode="nearest") > 0
    n_clips, n_frames, n_classes = active.shape
    flat = active.transpose(0, 2, 1).reshape(-1, n_frames)  # (clips * classes, frames)
    tolerance = 1e-6 * frame_duration  # 0.24 s is three frames of 0.08 s, whatever binary fractions say

    row, start, end = _runs(flat)
    long_gap = (start[1:] - end[:-1]) * frame_duration > params.minimum_gap - tolerance
    separate = np.append(True, long_gap | (row[1:] != row[:-1])) if len(row) else np.zeros(0, bool)
    row, start, end = row[separate], start[separate], end[np.roll(separate, -1)]

    kept = (end - start) * frame_duration > params.minimum_duration - tolerance
    filled = _fill(flat.shape, row[kept], start[kept], end[kept])
    return filled.reshape(n_clips, n_classes, n_frames).transpose(0, 2, 1)


def decode(frame_prob: np.ndarray, *, threshold: float, params: Decoding, frame_duration: float) -> np.ndarray:
    """Activity of each class in each frame: ``smooth(frame_prob > threshold)``.

    Parameters
    ----------
    frame_prob : np.ndarray, shape (clips, frames, classes)
    threshold : float
        A frame is active above it.
    params : Decoding
    frame_duration : float
        Seconds per frame.

    Returns
    -------
    np.ndarray of bool, shape (clips, frames, classes)
    """
    return smooth(frame_prob > threshold, params=params, frame_duration=frame_duration)


def to_events(
    active: np.ndarray, *, filenames: Sequence[str], classes: Sequence[str], frame_duration: float
) -> pd.DataFrame:
    """List the events of an activity.

    Parameters
    ----------
    active : np.ndarray of bool, shape (clips, frames, classes)
    filenames, classes : sequence of str
        Names of the first and the last axis.
    frame_duration : float
        Seconds per frame.

    Returns
    -------
    DataFrame with columns filename, onset, offset, event_label
        Times in seconds, rounded to the microsecond; ordered by clip, class, onset.
    """
    _, n_frames, n_classes = active.shape
    row, start, end = _runs(active.transpose(0, 2, 1).reshape(-1, n_frames))
    return pd.DataFrame(
        {
            "filename": [filenames[index] for index in row // n_classes],
            "onset": np.round(start * frame_duration, 6),
            "offset": np.round(end * frame_duration, 6),
            "event_label": [classes[index] for index in row % n_classes],
        }
    )


def choose_threshold(
    frame_prob: np.ndarray,
    reference: np.ndarray,
    *,
    params: Decoding,
    frame_duration: float,
    time_resolution: float,
) -> tuple[float, pd.DataFrame]:
    """Choose one threshold for all classes, on validation clips.

    The rule: of `THRESHOLDS`, the one whose decoded events have the best segment-based micro F1; of several, the
    lowest.

    Parameters
    ----------
    frame_prob : np.ndarray, shape (clips, frames, classes)
        Predictions for the validation clips.
    reference : np.ndarray of bool, shape (clips, segments, classes)
        Their segment activity.
    params : Decoding
    frame_duration, time_resolution : float
        Seconds per frame and per segment.

    Returns
    -------
    threshold : float
    curve : DataFrame with columns threshold, f_measure
        Every threshold tried.
    """
    scores = []
    for threshold in THRESHOLDS:
        active = decode(frame_prob, threshold=threshold, params=params, frame_duration=frame_duration)
        estimated = segment_activity(
            active, frame_duration=frame_duration, n_segments=reference.shape[1], time_resolution=time_resolution
        )
        scores.append(f_score(segment_counts(reference, estimated)))
    return float(THRESHOLDS[int(np.argmax(scores))]), pd.DataFrame({"threshold": THRESHOLDS, "f_measure": scores})
