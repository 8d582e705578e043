"""From frame-level probabilities to events: threshold, median filter, "ignoring noise" (Sec. 2.1).

Conventions: ``frame_prob``, of float32 or float64 in [0, 1], and every activity are (clips, frames, classes); frame k
covers [k, k + 1) * frame_duration seconds. The steps come in this order: median filter, threshold, close short gaps,
drop short events.

All of these but the threshold are order statistics of a window, which commute with it (P. Maragos and R. W. Schafer,
"Morphological filters, part II", IEEE Trans. ASSP 35(8), 1987): `smooth` applies them to the probabilities once, and
``smooth(frame_prob) > threshold`` is the activity at every threshold. A segment's score is the largest smoothed value
of the frames that touch it; `choose_threshold` tries one threshold between every two neighbouring scores, so all.

Thresholds lie in [0, 1] and are compared in the type of ``frame_prob``. A chosen one lies half-way between the two
scores that it separates (0 and 1 count as scores). Of several with the best value the highest is chosen: the fewest
events, and none at all where there is nothing to find.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
import scipy.ndimage

from hpsed_lib.errors import ParameterError
from hpsed_lib.params import Decoding
from hpsed_lib.scoring import active_runs, segment_activity, threshold_curve

Criterion = Literal["f_measure", "error_rate"]
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)


def _shortest_kept(duration: float, frame_duration: float, n_frames: int) -> int:
    """Frames of the shortest gap or event that is not shorter than `duration`; one more than the clip's are enough."""
    # 0.24 s is three frames of 0.08 s, whatever binary fractions say.
    return min(int(np.floor(duration / frame_duration - 1e-6)) + 1, n_frames + 1)


def smooth(frame_prob: np.ndarray, *, params: Decoding, frame_duration: float) -> np.ndarray:
    """Median filter, close short gaps, drop short events; for all thresholds at once.

    The threshold of `params` is not looked at. The median filter repeats the edge frames. Outside the clip is silence:
    what lies before the first and after the last event is no gap, and an event cut short by the clip's edge is short.
    """
    if frame_prob.ndim != 3 or frame_prob.dtype not in (np.float32, np.float64):
        got = f"{frame_prob.dtype}, shape {frame_prob.shape}"
        raise ParameterError(f"frame_prob must be float32 or float64, (clips, frames, classes); got {got}")
    if not (frame_prob.min(initial=0) >= 0 and frame_prob.max(initial=0) <= 1):  # refuses NaN too
        raise ParameterError("frame_prob must lie in [0, 1]")
    n_frames = frame_prob.shape[1]
    graded = scipy.ndimage.median_filter(frame_prob, (1, params.median_length, 1), mode="nearest")
    gap = _shortest_kept(params.minimum_gap, frame_duration, n_frames)
    if gap > 1:
        # Closing looks a window beyond the edges and back again: silence must be there to be seen.
        silence = ((0, 0), (gap, gap), (0, 0))
        graded = scipy.ndimage.grey_closing(np.pad(graded, silence), (1, gap, 1), mode="constant")[:, gap:-gap]
    event = _shortest_kept(params.minimum_duration, frame_duration, n_frames)
    if event > 1:
        graded = scipy.ndimage.grey_opening(graded, (1, event, 1), mode="constant")
    return graded


def decode(frame_prob: np.ndarray, *, threshold: float, params: Decoding, frame_duration: float) -> np.ndarray:
    """Activity of each class in each frame: ``smooth(frame_prob) > threshold``."""
    if not 0 <= threshold <= 1:  # refuses NaN too
        raise ParameterError(f"expected a threshold in [0, 1], got {threshold}")
    return smooth(frame_prob, params=params, frame_duration=frame_duration) > np.asarray(threshold, frame_prob.dtype)


def to_events(
    active: np.ndarray, *, filenames: Sequence[str], classes: Sequence[str], frame_duration: float
) -> pd.DataFrame:
    """The events of an activity (clips, frames, classes): filename, onset, offset, event_label.

    Times are in seconds, rounded to the microsecond; events are ordered by clip, class, onset.
    """
    clip, label, start, end = active_runs(active)
    return pd.DataFrame(
        {
            "filename": [filenames[index] for index in clip],
            "onset": np.round(start * frame_duration, 6),
            "offset": np.round(end * frame_duration, 6),
            "event_label": [classes[index] for index in label],
        }
    )


def _candidates(segment_score: np.ndarray) -> np.ndarray:
    """Every threshold that differs in what it makes active, ascending; at the last nothing is."""
    kind = segment_score.dtype
    borders = np.concatenate([np.zeros(1, kind), np.unique(segment_score[segment_score > 0]), np.ones(1, kind)])
    lower, upper = borders[:-1], borders[1:]
    middle = ((lower.astype(float) + upper) / 2).astype(kind)
    return np.where(middle < upper, middle, lower)  # of two neighbouring numbers, the middle may round up


def choose_threshold(
    frame_prob: np.ndarray,
    reference: np.ndarray,
    *,
    params: Decoding,
    frame_duration: float,
    time_resolution: float,
    criterion: Criterion,
) -> tuple[float, float, pd.DataFrame]:
    """Choose one threshold for all classes on validation clips: the best of all, "nothing active" among them.

    `reference` is the clips' activity, bool (clips, segments, classes), in segments of `time_resolution` seconds.
    Micro-averaged and segment-based, F1 is to be highest or the error rate lowest. Returned are the threshold, the
    criterion's value there (NaN: an error rate without reference activity), and the `threshold_curve` of all tried.
    """
    if reference.ndim != 3 or reference.shape[::2] != frame_prob.shape[::2]:
        expected = "expected a reference of (clips, segments, classes)"
        raise ParameterError(f"{expected} for frame_prob {frame_prob.shape}, got {reference.shape}")
    segment_score = segment_activity(  # active at every threshold below it
        smooth(frame_prob, params=params, frame_duration=frame_duration),
        frame_duration=frame_duration,
        n_segments=reference.shape[1],
        time_resolution=time_resolution,
    )
    curve = threshold_curve(segment_score, reference, thresholds=_candidates(segment_score))
    wanted = curve["f_measure"] if criterion == "f_measure" else -(curve["S"] + curve["D"] + curve["I"])
    best = curve[wanted == wanted.max()].iloc[-1]  # of several the highest; errors have a value without reference too
    return float(best["threshold"]), float(best[criterion]), curve
