"""Polyphonic sound detection score: the quality of detection over all thresholds, by intersections.

Conventions: ``frame_prob`` is (clips, frames, classes); frame k covers [k, k + 1) * frame_duration seconds. An
operating point is a threshold, followed by the smoothing of `hpsed_lib.decoding`. A detection is relevant if the
reference events of its class cover the share ``dtc`` of it, otherwise it is a false positive; a reference event is
found if relevant detections cover the share ``gtc`` of it; a false positive of which the events of another class cover
the share ``cttc`` is a cross-trigger too [1]_.

Every threshold that makes a difference is an operating point, as in [2]_. A grid of thresholds would not do here:
pooling functions differ in how the frame probabilities spread between 0 and 1, and the fewer of the grid's thresholds
lie where they are, the lower the score. The counts are our own, for of the two published implementations the first
(psds_eval 0.5.3) calls what pandas 3 and numpy 2.4 no longer have, and the second (sed_scores_eval 0.0.4) is compiled
at installation and cannot read the arrays of pandas 3; the tests compare with the first.

Reference events without duration are left out; those of one class and clip that overlap are joined, for a detector
that says which classes sound when cannot tell them apart. A class without reference events has no rate of true
positives: it is left out, with its detections. A clip without events counts with its duration.

References
----------
.. [1] C. Bilen, G. Ferroni, F. Tuveri, J. Azcarreta and S. Krstulovic, "A framework for the robust evaluation of sound
   event detection", ICASSP 2020.
.. [2] J. Ebbers, R. Serizel and R. Haeb-Umbach, "Threshold independent evaluation of sound event detection scores",
   ICASSP 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hpsed_lib.decoding import smooth
from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.params import Decoding

_TOLERANCE = 1e-6  # s: a share met but for rounding is met


@dataclass(frozen=True)
class Scenario:
    """What counts as found and what errors cost.

    Attributes
    ----------
    dtc, gtc, cttc : float
        Shares: detection tolerance, ground truth intersection, cross-trigger tolerance criterion.
    alpha_ct : float
        Weight of the cross-triggers in the effective rate of false positives.
    alpha_st : float
        Weight of the standard deviation over classes in the effective ratio of true positives.
    max_efpr : float
        Highest effective rate of false positives that counts, per hour.
    """

    dtc: float
    gtc: float
    cttc: float
    alpha_ct: float
    alpha_st: float = 1.0
    max_efpr: float = 100.0


SCENARIOS = {
    "scenario1": Scenario(dtc=0.7, gtc=0.7, cttc=0.3, alpha_ct=0.0),
    "scenario2": Scenario(dtc=0.1, gtc=0.1, cttc=0.3, alpha_ct=0.5),
}
"""Those of DCASE's Task 4 since 2021: 1 asks for exact times, 2 for the right class. 1 ignores ``cttc``."""


def operating_points(
    frame_prob: np.ndarray,
    reference: pd.DataFrame,
    *,
    filenames: Sequence[str],
    classes: Sequence[str],
    clip_duration: float,
    frame_duration: float,
    params: Decoding,
    scenarios: Mapping[str, Scenario] = SCENARIOS,
) -> pd.DataFrame:
    """Rates of true and false positives of each class at every threshold.

    What a clip adds to the counts of a class changes at no threshold but one of its own smoothed frame probabilities:
    each clip and class is decoded at those, and the changes are summed over clips in the order of the thresholds [2]_.

    Parameters
    ----------
    frame_prob : np.ndarray, shape (clips, frames, classes)
    reference : DataFrame with columns filename, onset, offset, event_label
        Times in seconds.
    filenames, classes : sequence of str
        Names of the first and the last axis of ``frame_prob``.
    clip_duration, frame_duration : float
        Seconds per clip and per frame.
    params : Decoding
        Smoothing after the threshold; its own threshold is not used.
    scenarios : dict of Scenario

    Returns
    -------
    DataFrame with columns scenario, event_label, threshold, tp_ratio, effective_fp_rate
        A row per scenario, class with reference events, and threshold at which its rates change, the highest first; a
        frame is active from the threshold up. ``tp_ratio`` is the share of the events found; ``effective_fp_rate`` is,
        per hour, ``false positives / duration + alpha_ct * mean over other classes of (cross-triggers / duration of
        their events)``.

    Raises
    ------
    DataError
        An event of an unknown file or class or with a time that is no number; no event with a duration.
    ParameterError
        ``frame_prob`` does not fit the names.
    """
    if frame_prob.ndim != 3 or (frame_prob.shape[0], frame_prob.shape[2]) != (len(filenames), len(classes)):
        raise ParameterError(f"frame_prob {frame_prob.shape}: expected {len(filenames)} clips, {len(classes)} classes")
    clip, label, onset, offset = _reference_arrays(reference, filenames, classes)
    present, label = np.unique(label, return_inverse=True)
    frame_prob = frame_prob[:, :, present]
    n_clips, n_frames, n_classes = frame_prob.shape
    n_ref = np.bincount(label)  # (classes,)
    sounding = np.bincount(label, offset - onset)  # s
    pair, with_events = np.full((n_clips, n_classes), -1), np.unique([clip, label], axis=1)  # clips and classes in them
    pair[*with_events] = np.arange(with_events.shape[1])
    borders = np.arange(n_frames + 1) * frame_duration
    covered = np.zeros((n_clips, n_classes, n_frames + 1))  # seconds of reference events up to each border
    np.add.at(covered, (clip, label), np.clip(borders - onset[:, None], 0, (offset - onset)[:, None]))

    graded = smooth(frame_prob, params=params, frame_duration=frame_duration)  # once, for every threshold
    levels = -np.sort(-graded, axis=1)  # (clips, frames, classes)
    # What each clip adds at its thresholds, first of all nothing: true positives, effective rate of false positives.
    added = {name: np.zeros((2, n_frames + 1, n_clips, n_classes)) for name in scenarios}
    for index in range(n_frames):
        in_clip, of_class, start, end = _runs((graded >= levels[:, index, None]) & (graded > 0))
        length = (end - start) * frame_duration
        overlap = covered[in_clip, :, end] - covered[in_clip, :, start]  # (detections, classes), s
        own = overlap[np.arange(len(length)), of_class]
        for name, scenario in scenarios.items():
            relevant = (own > 0) & (own >= scenario.dtc * length - _TOLERANCE)
            row = pair[in_clip[relevant], of_class[relevant]]
            steps = np.zeros((with_events.shape[1], n_frames + 1), dtype=np.int8)
            steps[row, start[relevant]], steps[row, end[relevant]] = 1, -1
            frames = steps.cumsum(axis=1)[:, :-1]  # 1 in the frames of relevant detections
            detected = frame_duration * np.pad(frames.cumsum(axis=1), ((0, 0), (1, 0)))[pair[clip, label]]
            within = _at(detected, offset / frame_duration) - _at(detected, onset / frame_duration)  # (events,), s
            found = (within > 0) & (within >= scenario.gtc * (offset - onset) - _TOLERANCE)
            np.add.at(added[name][0, index + 1], (clip[found], label[found]), 1)

            in_clip_wrong, of_class_wrong = in_clip[~relevant], of_class[~relevant]
            costs = np.full(len(of_class_wrong), 3600 / (n_clips * clip_duration))
            if scenario.alpha_ct and n_classes > 1:
                wrong = overlap[~relevant]
                triggers = (wrong > 0) & (wrong >= scenario.cttc * length[~relevant, None] - _TOLERANCE)
                triggers[np.arange(len(triggers)), of_class_wrong] = False
                costs += triggers @ (3600 * scenario.alpha_ct / (n_classes - 1) / sounding)
            np.add.at(added[name][1, index + 1], (in_clip_wrong, of_class_wrong), costs)

    points = []
    for name in scenarios:
        changes = np.diff(added[name], axis=1)  # (2, frames, clips, classes)
        for column, present_class in enumerate(present):
            thresholds = levels[:, :, column].T.ravel()  # (frames * clips,), as the changes
            order = np.argsort(-thresholds, kind="stable")
            thresholds, counts = thresholds[order], changes[..., column].reshape(2, -1)[:, order].cumsum(axis=1)
            counts = np.round(counts, 9)  # equal rates are to be equal
            last = np.append(thresholds[1:] != thresholds[:-1], True)  # of equal thresholds: when all changes are in
            thresholds, counts = thresholds[last], counts[:, last]
            changed = np.asarray(np.diff(counts, axis=1, prepend=0).any(axis=0))
            point = {"threshold": thresholds, "tp_ratio": counts[0] / n_ref[column], "effective_fp_rate": counts[1]}
            table = pd.DataFrame(point)[changed | (np.arange(len(changed)) == 0)]
            points.append(table.assign(scenario=name, event_label=classes[int(present_class)]))
    columns = ["scenario", "event_label", "threshold", "tp_ratio", "effective_fp_rate"]
    return pd.concat(points, ignore_index=True)[columns]


def psd_roc(points: pd.DataFrame, *, scenario: Scenario) -> pd.DataFrame:
    """The curve under which the score is the area.

    Parameters
    ----------
    points : DataFrame
        From `operating_points`, of one scenario.
    scenario : Scenario

    Returns
    -------
    DataFrame with columns effective_fp_rate, effective_tp_ratio
        A staircase, each ratio up to the next rate, ending at ``max_efpr``: ``max(0, mean - alpha_st * std)`` over
        classes of the highest ``tp_ratio`` that a class reaches with no more false positives.
    """
    rates = np.unique(np.append(points.effective_fp_rate, 0.0))
    rates = np.append(rates[rates < scenario.max_efpr], scenario.max_efpr)
    ratios = []
    for _, own in points.groupby("event_label", sort=False):
        own = own.sort_values("effective_fp_rate", kind="stable")
        best = np.append(0.0, np.maximum.accumulate(own.tp_ratio))
        ratios.append(best[np.searchsorted(own.effective_fp_rate, rates, side="right")])
    effective = np.mean(ratios, axis=0) - scenario.alpha_st * np.std(ratios, axis=0)
    return pd.DataFrame({"effective_fp_rate": rates, "effective_tp_ratio": np.maximum(effective, 0)})


def psds(roc: pd.DataFrame) -> float:
    """Area under the curve of `psd_roc`, over that of a perfect detector: 0 to 1."""
    rates, ratios = roc.effective_fp_rate.to_numpy(), roc.effective_tp_ratio.to_numpy()
    return float((np.diff(rates) * ratios[:-1]).sum() / rates[-1])


def _reference_arrays(
    reference: pd.DataFrame, filenames: Sequence[str], classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Clip and class indices, onsets and offsets of the reference events, overlapping ones joined."""
    clip_index = {name: index for index, name in enumerate(filenames)}
    class_index = {name: index for index, name in enumerate(classes)}
    events: list[list[float]] = []
    columns = ["filename", "event_label", "onset", "offset"]
    for filename, label, onset, offset in reference[columns].sort_values(columns).itertuples(index=False):
        if filename not in clip_index or label not in class_index or not np.isfinite([onset, offset]).all():
            raise DataError(f"event {label!r} of {filename!r} ({onset} to {offset} s): unknown file, label or time")
        if onset >= offset:
            continue
        key: list[float] = [clip_index[filename], class_index[label]]
        if events and events[-1][:2] == key and onset < events[-1][3]:
            events[-1][3] = max(offset, events[-1][3])
        else:
            events.append([*key, onset, offset])
    if not events:
        raise DataError("expected a reference event with a duration in some clip, found none: the score has no value")
    clip, label, onset, offset = np.array(events).T
    return clip.astype(int), label.astype(int), onset, offset


def _runs(active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Detections: clip, class, first frame, frame after the last."""
    edges = np.diff(np.pad(active.transpose(0, 2, 1).astype(np.int8), ((0, 0), (0, 0), (1, 1))), axis=2)
    clip, label, start = np.nonzero(edges == 1)
    return clip, label, start, np.nonzero(edges == -1)[2]


def _at(values: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Row by row, the value (rows, borders) at a position between borders, in frames; constant past the last."""
    last = values.shape[1] - 1
    position = np.minimum(position, last)
    before = np.minimum(position.astype(int), last - 1)
    rows = np.arange(len(values))
    return values[rows, before] + (position - before) * (values[rows, before + 1] - values[rows, before])
