"""From frame-level probabilities to events: threshold, median filter, "ignoring noise" (Sec. 2.1).

Conventions: ``frame_prob`` and every activity are (clips, frames, classes); frame k covers
[k, k + 1) * frame_duration seconds. Event lists are data frames with the columns filename, onset, offset, event_label.
The steps come in this order: median filter, threshold (or two, with hysteresis), close short gaps, drop short events.

All of these but the threshold are increasing and flat (order statistics of a window), so they commute with it:
`smooth` applies them to the probabilities once, and ``smooth(frame_prob) > threshold`` is the activity at every
threshold. A segment's score is the largest smoothed value of the frames that touch it; between two neighbouring scores
of the validation clips nothing changes, so the searches below are exact: they try every threshold that differs.

Thresholds lie in [0, 1] and are compared in the type of ``frame_prob``; active is what lies above. A threshold that is
chosen lies half-way between the two neighbouring scores that it separates (0 and 1 count as neighbours at the ends), so
that it decodes what was counted. Of several thresholds with the best value the highest is chosen: the fewest events,
and none at all where there is nothing to find.

References
----------
Grey-scale closing and opening, and their threshold decomposition: P. Maragos and R. W. Schafer, "Morphological filters,
part II", IEEE Trans. ASSP 35(8), 1987. Fractional programming: W. Dinkelbach, "On nonlinear fractional programming",
Management Science 13(7), 1967.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import numpy as np
import pandas as pd
import scipy.ndimage

from hpsed_lib.errors import ParameterError
from hpsed_lib.params import Decoding
from hpsed_lib.scoring import class_threshold_counts, segment_activity, segment_counts, threshold_curve

Criterion = Literal["f_measure", "error_rate"]
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)

LOWS = tuple(round(0.05 * k, 2) for k in range(1, 20))
"""Low thresholds that `choose_hysteresis` tries."""

MEDIAN_LENGTHS = (1, 3, 5, 9, 13, 25)
"""Median filters that `choose_hysteresis` tries, in frames."""


def _runs(active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs of True along the last axis of a 2-d array: row, first frame, frame after the last."""
    edges = np.diff(np.pad(active.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    row, start = np.nonzero(edges == 1)
    return row, start, np.nonzero(edges == -1)[1]


def _median_filter(frame_prob: np.ndarray, length: int) -> np.ndarray:
    """Median of `length` frames around each; the edge frames are repeated."""
    return frame_prob if length == 1 else scipy.ndimage.median_filter(frame_prob, (1, length, 1), mode="nearest")


def _lift_runs(frame_prob: np.ndarray, low: float) -> np.ndarray:
    """Raise every frame above `low` to the largest value of its run of such frames; 0 elsewhere."""
    n_clips, n_frames, n_classes = frame_prob.shape
    # One frame of silence after each row ends the runs, and gives `reduceat` a place to end the last one.
    rows = np.pad(frame_prob.transpose(0, 2, 1).reshape(-1, n_frames), ((0, 0), (0, 1)))
    above = rows > np.asarray(low, dtype=rows.dtype)
    row, start, end = _runs(above)
    lifted = np.zeros_like(rows)
    if len(row):
        borders = (row * (n_frames + 1) + np.array([start, end])).T.ravel()  # start, end, start, end ...
        peaks = np.maximum.reduceat(rows.ravel(), borders)[::2]
        lifted[above] = np.repeat(peaks, end - start)
    return lifted[:, :-1].reshape(n_clips, n_classes, n_frames).transpose(0, 2, 1)


def _shortest_kept(duration: float, frame_duration: float, n_frames: int) -> int:
    """Frames of the shortest gap or event that is not shorter than `duration`; one more than the clip's are enough."""
    # 0.24 s is three frames of 0.08 s, whatever binary fractions say.
    return min(int(np.floor(duration / frame_duration - 1e-6)) + 1, n_frames + 1)


def smooth(frame_prob: np.ndarray, *, params: Decoding, frame_duration: float, low: float | None = None) -> np.ndarray:
    """Median filter, runs above the low threshold, close short gaps, drop short events; for all thresholds at once.

    Parameters
    ----------
    frame_prob : np.ndarray of float32 or float64 in [0, 1], shape (clips, frames, classes)
    params : Decoding
        Median length in frames; shortest gap and shortest event kept, in seconds. Its threshold is not looked at.
    frame_duration : float
        Seconds per frame.
    low : float, optional
        With hysteresis, the low threshold: a run of frames above it takes the largest value of the run, and what is
        not above it 0, so that a run is kept whole by every threshold that one of its frames exceeds.

    Returns
    -------
    np.ndarray of the same type and shape
        ``smooth(frame_prob) > t`` are the active frames at threshold t, for all t in [0, 1] (t >= low with hysteresis).
        The median filter repeats the edge frames. Outside the clip is silence: what lies before the first and after
        the last event is no gap, and an event that the clip's edge cuts short is short.

    Raises
    ------
    ParameterError
        Not probabilities.
    """
    _check_frame_prob(frame_prob)
    n_frames = frame_prob.shape[1]
    graded = _median_filter(frame_prob, params.median_length)
    if low is not None:
        graded = _lift_runs(graded, low)
    gap = _shortest_kept(params.minimum_gap, frame_duration, n_frames)
    if gap > 1:
        # Closing looks a window beyond the edges and back again: silence must be there to be seen.
        silence = ((0, 0), (gap, gap), (0, 0))
        graded = scipy.ndimage.grey_closing(np.pad(graded, silence), (1, gap, 1), mode="constant")[:, gap:-gap]
    event = _shortest_kept(params.minimum_duration, frame_duration, n_frames)
    if event > 1:
        graded = scipy.ndimage.grey_opening(graded, (1, event, 1), mode="constant")
    return graded


def _check_frame_prob(frame_prob: np.ndarray) -> None:
    if frame_prob.ndim != 3 or frame_prob.dtype not in (np.float32, np.float64):
        raise ParameterError(
            "frame_prob must be float32 or float64, (clips, frames, classes); got "
            f"{frame_prob.dtype}, shape {frame_prob.shape}"
        )
    if not (frame_prob.min(initial=0) >= 0 and frame_prob.max(initial=0) <= 1):  # refuses NaN too
        raise ParameterError("frame_prob must lie in [0, 1]")


def decode(
    frame_prob: np.ndarray,
    *,
    threshold: float | Sequence[float] | np.ndarray,
    params: Decoding,
    frame_duration: float,
    low: float | None = None,
) -> np.ndarray:
    """Activity of each class in each frame: ``smooth(frame_prob) > threshold``.

    Parameters
    ----------
    frame_prob : np.ndarray of float32 or float64 in [0, 1], shape (clips, frames, classes)
    threshold : float or sequence of float, shape (classes,)
        A frame is active above it, in [0, 1]; compared in the type of `frame_prob`.
    params : Decoding
        Its threshold is not looked at.
    frame_duration : float
        Seconds per frame.
    low : float, optional
        Hysteresis: an event is a run of frames above `low` that holds a frame above `threshold`. At most the
        threshold; ``low = threshold`` is the same as none.

    Returns
    -------
    np.ndarray of bool, shape (clips, frames, classes)

    Raises
    ------
    ParameterError
        Not probabilities, thresholds outside [0, 1] or of another number than the classes, `low` above a threshold.
    """
    _check_frame_prob(frame_prob)
    high, lowest = np.asarray(threshold, frame_prob.dtype), np.asarray(low or 0, frame_prob.dtype)
    if high.shape not in ((), frame_prob.shape[2:]):
        raise ParameterError(
            f"expected one threshold, or one for each of {frame_prob.shape[2]} classes; got shape {high.shape}"
        )
    if not ((lowest >= 0) & (lowest <= high) & (high <= 1)).all():  # refuses NaN too
        raise ParameterError(f"expected 0 <= low <= threshold <= 1, got low {low}, threshold {threshold}")
    return smooth(frame_prob, params=params, frame_duration=frame_duration, low=low) > high


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


def _candidates(segment_score: np.ndarray, *, lowest: float = 0.0) -> np.ndarray:
    """Every threshold from `lowest` on that differs in what it makes active, ascending; at the last nothing is."""
    kind = segment_score.dtype
    above = np.unique(segment_score[segment_score > np.asarray(lowest, dtype=kind)])
    borders = np.concatenate([np.array([lowest], dtype=kind), above, np.ones(1, dtype=kind)])
    lower, upper = borders[:-1], borders[1:]
    middle = ((lower.astype(float) + upper) / 2).astype(kind)
    return np.where(middle < upper, middle, lower)  # of two neighbouring numbers, the middle may round up


def _best(curve: pd.DataFrame, criterion: Criterion) -> int:
    """Row with the best value; of several the last, which has the highest threshold."""
    if criterion == "f_measure":
        return len(curve) - 1 - int(np.argmax(curve["f_measure"].to_numpy()[::-1]))
    errors = (curve["S"] + curve["D"] + curve["I"]).to_numpy()  # has a value without reference too
    return len(curve) - 1 - int(np.argmin(errors[::-1]))


def choose_threshold(
    frame_prob: np.ndarray,
    reference: np.ndarray,
    *,
    params: Decoding,
    frame_duration: float,
    time_resolution: float,
    criterion: Criterion = "f_measure",
    per_class: bool = False,
) -> tuple[float | list[float], float, pd.DataFrame]:
    """Choose one threshold for all classes, or one for each, on validation clips.

    Exact, over every threshold that makes a difference, "nothing active" among them: of one threshold for both
    criteria; of one for each class for F1, whose best set Dinkelbach's iteration finds. The error rate is not separable
    (an insertion of one class can stand for a deletion of another, as a substitution): there each class in turn takes
    its best threshold, from the best common one on, until none improves. That is a local optimum, never worse than the
    best common threshold.

    Parameters
    ----------
    frame_prob : np.ndarray of float32 or float64 in [0, 1], shape (clips, frames, classes)
        Predictions for the validation clips.
    reference : np.ndarray of bool, shape (clips, segments, classes)
        Their segment activity.
    params : Decoding
        Its threshold is not looked at.
    frame_duration, time_resolution : float
        Seconds per frame and per segment.
    criterion : {"f_measure", "error_rate"}
        Micro-averaged and segment-based: the F1 to be highest, or the error rate to be lowest.
    per_class : bool

    Returns
    -------
    threshold : float, or list of float, one for each class
    value : float
        The criterion's value there; NaN for an error rate without reference activity.
    curve : DataFrame with columns threshold, Nref, Nsys, Ntp, Nfp, Nfn, S, D, I, f_measure, error_rate
        The overall scores at every threshold tried; per class, with a column class_index, at every threshold of the
        class while the others keep theirs.
    """
    _check_criterion(criterion)
    segment_score = _segment_scores(
        frame_prob, reference, params=params, frame_duration=frame_duration, time_resolution=time_resolution
    )
    curve = threshold_curve(segment_score, reference, thresholds=_candidates(segment_score))
    best = curve.iloc[_best(curve, criterion)]
    if not per_class:
        return float(best["threshold"]), float(best[criterion]), curve
    if criterion == "f_measure":
        thresholds = _best_class_thresholds(segment_score, reference)
    else:
        common = np.full(reference.shape[2], best["threshold"], dtype=segment_score.dtype)
        thresholds = _improve_class_thresholds(segment_score, reference, common)
    curves = [
        _vary_one_class(segment_score, reference, thresholds, index).assign(class_index=index)
        for index in range(len(thresholds))
    ]
    last = curves[-1]
    value = last[criterion].iloc[_best(last, criterion)]
    return thresholds.tolist(), float(value), pd.concat(curves, ignore_index=True)


def _check_criterion(criterion: str) -> None:
    if criterion not in CRITERIA:
        raise ParameterError(f"criterion must be one of {', '.join(CRITERIA)}; got {criterion!r}")


def _segment_scores(
    frame_prob: np.ndarray,
    reference: np.ndarray,
    *,
    params: Decoding,
    frame_duration: float,
    time_resolution: float,
    low: float | None = None,
) -> np.ndarray:
    """Largest smoothed value in each segment (clips, segments, classes): active at every threshold below it."""
    if reference.ndim != 3 or reference.shape[::2] != frame_prob.shape[::2]:
        raise ParameterError(
            f"expected a reference of (clips, segments, classes) for frame_prob {frame_prob.shape}, "
            f"got {reference.shape}"
        )
    return segment_activity(
        smooth(frame_prob, params=params, frame_duration=frame_duration, low=low),
        frame_duration=frame_duration,
        n_segments=reference.shape[1],
        time_resolution=time_resolution,
    )


def _best_class_thresholds(segment_score: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The thresholds of the classes with the highest micro F1.

    Dinkelbach: for a guess p / q of the F1, each class by itself takes the threshold with the largest
    ``2 Ntp - (p / q) Nsys``; the F1 of all of them is the next guess, and when it is the same, none is higher. In
    integers, so that "the same" is exact.
    """
    options = []
    for index in range(reference.shape[2]):
        of_class = (slice(None), slice(None), slice(index, index + 1))
        thresholds = _candidates(segment_score[of_class])
        counts = class_threshold_counts(segment_score[of_class], reference[of_class], thresholds=thresholds)
        # Highest threshold first: of equals, `argmax` takes the first.
        options.append((thresholds[::-1], counts["Nsys"][::-1, 0], counts["Ntp"][::-1, 0]))
    n_ref = int(reference.sum())
    p, q = 0, 1
    while True:
        best = [int(np.argmax(2 * n_tp * q - n_sys * p)) for _, n_sys, n_tp in options]
        found = sum(2 * int(n_tp[k]) for k, (_, _, n_tp) in zip(best, options, strict=True))
        both = n_ref + sum(int(n_sys[k]) for k, (_, n_sys, _) in zip(best, options, strict=True))
        if found * q <= p * both:
            return np.array(
                [thresholds[k] for k, (thresholds, _, _) in zip(best, options, strict=True)], segment_score.dtype
            )
        p, q = found, both


def _improve_class_thresholds(segment_score: np.ndarray, reference: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Lower S + D + I by one class's threshold after the other, until none lowers it."""
    thresholds = thresholds.copy()
    counts = segment_counts(reference, segment_score > thresholds)
    fewest, improved = counts["S"] + counts["D"] + counts["I"], True
    while improved:
        improved = False
        for index in range(len(thresholds)):
            curve = _vary_one_class(segment_score, reference, thresholds, index)
            best = curve.iloc[_best(curve, "error_rate")]
            errors = best["S"] + best["D"] + best["I"]
            if errors < fewest:
                improved = True
                fewest, thresholds[index] = errors, best["threshold"]
    return thresholds


def _vary_one_class(
    segment_score: np.ndarray, reference: np.ndarray, thresholds: np.ndarray, index: int
) -> pd.DataFrame:
    """The overall counts at every threshold of one class, the other classes keeping theirs."""
    # The others do not move: a score above every threshold where they are active, one below where they are not.
    moving = np.where(segment_score > thresholds, np.inf, -np.inf).astype(segment_score.dtype)
    moving[:, :, index] = segment_score[:, :, index]
    return threshold_curve(moving, reference, thresholds=_candidates(segment_score[:, :, index]))


def choose_hysteresis(
    frame_prob: np.ndarray,
    reference: np.ndarray,
    *,
    params: Decoding,
    frame_duration: float,
    time_resolution: float,
    criterion: Criterion = "f_measure",
    lows: Sequence[float] = LOWS,
    median_lengths: Sequence[int] = MEDIAN_LENGTHS,
) -> tuple[float, float, int, float, pd.DataFrame]:
    """Choose high threshold, low threshold and median length together, on validation clips.

    For each median length and each low threshold the best high one is exact: a run above `low` counts with its largest
    value. To the low thresholds of the list comes, for each median length, the best single threshold, so that no
    single threshold is better than the pair.

    Parameters
    ----------
    frame_prob : np.ndarray of float32 or float64 in [0, 1], shape (clips, frames, classes)
        Predictions for the validation clips.
    reference : np.ndarray of bool, shape (clips, segments, classes)
        Their segment activity.
    params : Decoding
        Its threshold and its median length are not looked at.
    frame_duration, time_resolution : float
        Seconds per frame and per segment.
    criterion : {"f_measure", "error_rate"}
        As in `choose_threshold`.
    lows : sequence of float
        Low thresholds to try.
    median_lengths : sequence of int
        Median lengths to try, in frames, odd.

    Returns
    -------
    high, low : float
    median_length : int
        Of several with the best value, the shortest filter, then the highest low threshold, then the highest high one.
    value : float
        The criterion's value there; NaN for an error rate without reference activity.
    table : DataFrame with columns median_length, low, threshold, the counts, f_measure, error_rate
        The best high threshold of everything tried, from the longest filter to the
        shortest, then by the low threshold.
    """
    _check_criterion(criterion)
    _check_frame_prob(frame_prob)
    if not len(median_lengths) or any(length < 1 or length % 2 == 0 for length in median_lengths):
        raise ParameterError(f"median_lengths must be odd numbers of frames, at least one; got {list(median_lengths)}")
    unfiltered = params.model_copy(update={"median_length": 1})
    scores = partial(_segment_scores, params=unfiltered, frame_duration=frame_duration, time_resolution=time_resolution)
    tried = []
    for length in sorted(set(median_lengths), reverse=True):
        filtered = _median_filter(frame_prob, length)
        single = float(_best_row(scores(filtered, reference), reference, criterion)["threshold"].iloc[0])
        for low in sorted({*lows, single}):
            row = _best_row(scores(filtered, reference, low=low), reference, criterion, lowest=low)
            row.insert(0, "low", low)
            row.insert(0, "median_length", length)
            tried.append(row)
    table = pd.concat(tried, ignore_index=True)
    best = table.iloc[_best(table, criterion)]
    found = float(best["threshold"]), float(best["low"]), int(best["median_length"]), float(best[criterion])
    return *found, table


def _best_row(
    segment_score: np.ndarray, reference: np.ndarray, criterion: Criterion, *, lowest: float = 0.0
) -> pd.DataFrame:
    """The best threshold for all classes, with its counts: one row."""
    curve = threshold_curve(segment_score, reference, thresholds=_candidates(segment_score, lowest=lowest))
    return curve.iloc[[_best(curve, criterion)]]
