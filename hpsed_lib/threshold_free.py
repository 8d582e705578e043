"""Scores beside the segment-based ones: over all thresholds, event by event, and clip by clip.

Conventions: ``frame_prob`` is (clips, frames, classes), ``clip_prob`` (clips, classes). Scores are fractions. ``micro``
pools every clip (frame, segment) and class before the score is computed; ``macro`` is the mean over the classes that
have one. A class without positives has no average precision and no ROC curve: its score is None, and
``n_classes_scored`` says over how many classes a mean goes. In the pooled scores it still counts, with its negatives.
Where precision, recall or F1 at a threshold has no value it is 0, as in `hpsed_lib.scoring`.

Segments, frames and clips are ranked by the probability as it is, without the smoothing of decoding; PSDS smooths.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.params import Decoding
from hpsed_lib.psds import SCENARIOS, operating_points, psd_roc, psds
from hpsed_lib.scoring import event_activity, events_by_file, segment_activity

ONSET_COLLAR = 0.2
"""Seconds by which an onset, and an offset, may be off in DCASE's event-based F1."""
OFFSET_SHARE = 0.2
"""Share of the event's length by which its offset may be off, if that is more."""


def frame_activity(
    events: pd.DataFrame, *, filenames: Sequence[str], classes: Sequence[str], n_frames: int, frame_duration: float
) -> np.ndarray:
    """Frames whose centre lies within an event.

    Parameters
    ----------
    events : DataFrame with columns filename, onset, offset, event_label
        Times in seconds.
    filenames, classes : sequence of str
        Names of the first and the last axis.
    n_frames : int
        Frames in a clip.
    frame_duration : float
        Seconds per frame.

    Returns
    -------
    np.ndarray of bool, shape (clips, n_frames, classes)

    Raises
    ------
    DataError
        An event of an unknown file or class, or with a time that is no number.
    """
    clip = {name: index for index, name in enumerate(filenames)}
    column = {label: index for index, label in enumerate(classes)}
    centres = (np.arange(n_frames) + 0.5) * frame_duration
    active = np.zeros((len(clip), n_frames, len(column)), dtype=bool)
    for name, onset, offset, label in events[["filename", "onset", "offset", "event_label"]].itertuples(index=False):
        if name not in clip or label not in column or not np.isfinite([onset, offset]).all():
            raise DataError(f"event {label!r} of {name!r} ({onset} to {offset} s): unknown file, label or time")
        active[clip[name], :, column[label]] |= (onset <= centres) & (centres < offset)
    return active


def ranking_scores(reference: np.ndarray, scores: np.ndarray, *, classes: Sequence[str]) -> dict:
    """How well scores rank what is active above what is not (scikit-learn).

    Parameters
    ----------
    reference : np.ndarray of bool, shape (..., classes)
        Whether the class is active in the clip, frame or segment.
    scores : np.ndarray, shape (..., classes)
    classes : sequence of str

    Returns
    -------
    dict
        ``micro``, ``macro`` and each class in ``class_wise``: ``average_precision`` (area under the precision-recall
        staircase) and ``roc_auc``, None where there is none; ``n_classes_scored``, the classes with positives.
        A class that is active everywhere has an average precision, 1, and no ROC curve.
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
    clip_prob: np.ndarray,
    reference: pd.DataFrame,
    *,
    filenames: Sequence[str],
    classes: Sequence[str],
    clip_duration: float,
    frame_duration: float,
    time_resolution: float,
    params: Decoding,
) -> dict:
    """All scores that need no threshold, as plain numbers for a metrics file.

    Parameters
    ----------
    frame_prob : np.ndarray, shape (clips, frames, classes)
    clip_prob : np.ndarray, shape (clips, classes)
    reference : DataFrame with columns filename, onset, offset, event_label
        Times in seconds.
    filenames, classes : sequence of str
        Every clip, with events or without, and every class.
    clip_duration, frame_duration, time_resolution : float
        Seconds per clip, frame and segment.
    params : Decoding
        Smoothing before PSDS.

    Returns
    -------
    dict
        ``psds``: the scenarios of `hpsed_lib.psds.SCENARIOS`, None where no reference event has a duration;
        ``segment``, ``frame`` and ``clip``: `ranking_scores`.
    """
    segments = event_activity(
        reference,
        filenames=filenames,
        classes=classes,
        clip_duration=clip_duration,
        time_resolution=time_resolution,
    )
    frames = frame_activity(
        reference,
        filenames=filenames,
        classes=classes,
        n_frames=frame_prob.shape[1],
        frame_duration=frame_duration,
    )
    by_segment = segment_activity(
        frame_prob,
        frame_duration=frame_duration,
        n_segments=segments.shape[1],
        time_resolution=time_resolution,
    )
    areas: dict[str, float | None] = dict.fromkeys(SCENARIOS)
    if (reference.offset > reference.onset).any():
        points = operating_points(
            frame_prob,
            reference,
            filenames=filenames,
            classes=classes,
            clip_duration=clip_duration,
            frame_duration=frame_duration,
            params=params,
        )
        for name, scenario in SCENARIOS.items():
            areas[name] = psds(psd_roc(points[points.scenario == name], scenario=scenario))
    return {
        "psds": areas,
        "segment": ranking_scores(segments, by_segment, classes=classes),
        "frame": ranking_scores(frames, frame_prob, classes=classes),
        "clip": ranking_scores(segments.max(axis=1), clip_prob, classes=classes),
    }


def clip_scores(reference: np.ndarray, clip_prob: np.ndarray, *, threshold: float) -> dict[str, float]:
    """Audio tagging at one threshold, micro-averaged (scikit-learn): what subtask A of DCASE 2017 Task 4 measures.

    Parameters
    ----------
    reference : np.ndarray of bool, shape (clips, classes)
        Whether the class sounds in the clip.
    clip_prob : np.ndarray, shape (clips, classes)
    threshold : float
        A class is estimated above it.

    Returns
    -------
    dict
        ``precision``, ``recall``, ``f_measure``; 0 where they have no value.
    """
    precision, recall, f_measure, _ = precision_recall_fscore_support(
        np.asarray(reference, dtype=bool), clip_prob > threshold, average="micro", zero_division=0
    )
    return {"precision": float(precision), "recall": float(recall), "f_measure": float(f_measure)}


def event_based_scores(
    reference: pd.DataFrame, estimated: pd.DataFrame, *, filenames: Sequence[str], classes: Sequence[str]
) -> dict:
    """sed_eval's event-based F1, with DCASE's collars.

    An event is found if an estimated one of its class starts within `ONSET_COLLAR` of its onset and ends within
    `ONSET_COLLAR`, or `OFFSET_SHARE` of its length if that is more, of its offset. Each event is matched at most once.

    Parameters
    ----------
    reference, estimated : DataFrame with columns filename, onset, offset, event_label
        Times in seconds.
    filenames, classes : sequence of str
        Every clip, with events or without, and every class.

    Returns
    -------
    dict
        ``micro``: precision, recall, f_measure; ``macro``: f_measure, the mean over classes with reference events, None
        if there are none; ``n_classes_scored``, their number.
    """
    with warnings.catch_warnings():  # dcase_util imports pkg_resources, which warns of its own end
        warnings.simplefilter("ignore")
        import sed_eval

    metrics = sed_eval.sound_event.EventBasedMetrics(
        event_label_list=list(classes), t_collar=ONSET_COLLAR, percentage_of_length=OFFSET_SHARE
    )
    groups = [events_by_file(events) for events in (reference, estimated)]
    with np.errstate(invalid="ignore", divide="ignore"):
        for filename in filenames:
            metrics.evaluate(groups[0].get(filename, []), groups[1].get(filename, []))
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


def _number(value: float) -> float:
    """A plain float, 0 where sed_eval has no value."""
    return float(value) if np.isfinite(value) else 0.0
