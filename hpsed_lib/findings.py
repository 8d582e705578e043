"""What an experiment's F1 hides: did its trainings learn, where do probabilities and thresholds lie, what is missed.

Everything is read from the runs' metrics files and events; arms are (pooling, structure), as in `hpsed_lib.comparison`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hpsed_lib.scoring import N_BINS

FALLING = 0.01
"""Of itself an epoch: a validation loss whose lowest value still falls by more was cut short."""
LENGTHS = (0.0, 1.0, 2.0, 3.0, np.inf)
"""Bounds, in seconds, of the groups of `coverage_by_length`."""


def late_gain(history: Sequence[Mapping]) -> float:
    """By how much of itself an epoch the lowest validation loss fell in the last three; 0 if it did not.

    Of the lowest, not of the last: on a few hundred clips the loss goes up and down by several percent an epoch.

    >>> round(late_gain([{"validation_loss": loss} for loss in (4.0, 1.0, 1.1, 1.2, 0.729)]), 6)
    0.1
    """
    losses = [row["validation_loss"] for row in history]
    before, last = losses[:-3], losses[-3:]
    return max(0.0, float(1 - (min(last) / min(before)) ** (1 / 3))) if before else float("nan")


def trainings(metrics: Sequence[Mapping]) -> pd.DataFrame:
    """Of every arm: runs, epoch and lowest validation loss, its `late_gain` (means), and how many still fell."""
    rows = [
        {
            "pooling": run["pooling"],
            "structure": run["structure"],
            "best_epoch": run["best_epoch"],
            "validation_loss": min(row["validation_loss"] for row in run["history"]),
            "late_gain": late_gain(run["history"]),
        }
        for run in metrics
    ]
    groups = pd.DataFrame(rows).groupby(["pooling", "structure"], sort=False)
    n_still_falling = groups.late_gain.agg(lambda gains: (gains > FALLING).sum())
    return groups.mean().assign(n_runs=groups.size(), n_still_falling=n_still_falling)


def probabilities(metrics: Sequence[Mapping]) -> pd.DataFrame:
    """Where the frame probabilities of every arm lie, all runs together.

    Returns
    -------
    DataFrame with columns pooling, structure, where, low, share
        ``where``: ``inside`` an event, ``beside`` one in the same clip, or in clips where the class is ``absent``
        (`hpsed_lib.scoring.frame_prob_counts`); ``share`` of these frames lie in the bin that begins at ``low``.
    """
    rows = [
        {
            "pooling": run["pooling"],
            "structure": run["structure"],
            "where": where,
            "low": index / N_BINS,
            "share": count,
        }
        for run in metrics
        for where, counts in run["frame_prob_counts"].items()
        for index, count in enumerate(counts)
    ]
    place = ["pooling", "structure", "where"]
    n_frames = pd.DataFrame(rows).groupby([*place, "low"], sort=False).share.sum()
    return (n_frames / n_frames.groupby(place).transform("sum").clip(lower=1)).reset_index()


def thresholds(scores: pd.DataFrame) -> pd.DataFrame:
    """Of every arm: tuned thresholds (lowest, median, highest), F1 there and at 0.5, precision and recall, in percent.

    Takes `hpsed_lib.tables.scores`; scores are means over seeds.
    """
    groups = scores.groupby(["pooling", "structure"], sort=False)
    ends = groups.threshold.agg(["min", "median", "max"]).add_prefix("threshold_")
    return ends.join(groups[["f_measure", "f_measure_fixed", "precision", "recall"]].mean())


def coverage_by_length(reference: pd.DataFrame, estimated: pd.DataFrame) -> pd.DataFrame:
    """How many reference events are as long as each interval of `LENGTHS` says, and what share of them is found.

    Events are (filename, onset, offset, event_label), in seconds; the estimated ones of one class and clip do not
    overlap. ``n_events``, and ``covered``: the mean share of an event's time in which its class is detected.
    """
    events = reference.reset_index(drop=True).rename_axis("event").reset_index()
    pairs = events.merge(estimated, on=["filename", "event_label"], suffixes=("", "_estimated"))
    shared = np.minimum(pairs.offset, pairs.offset_estimated) - np.maximum(pairs.onset, pairs.onset_estimated)
    length = (events.offset - events.onset).round(6)  # 4.4 - 1.4 is more than 3
    covered = shared.clip(lower=0).groupby(pairs.event).sum().reindex(events.event, fill_value=0) / length
    groups = pd.DataFrame({"length": pd.cut(length, LENGTHS), "covered": covered}).groupby("length", observed=False)
    return groups.covered.agg(n_events="size", covered="mean")


def detections(reference: pd.DataFrame, estimated: Mapping[tuple[str, str], Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """What each arm, whose runs' events are `estimated`, detects, beside the reference; means over runs.

    ``n_events`` (a run), ``median_length`` in seconds, and what `coverage_by_length` finds covered.
    """
    lengths = reference.offset - reference.onset
    rows = [{"pooling": "reference", "structure": "", "n_events": len(reference), "median_length": lengths.median()}]
    for (pooling, structure), runs in estimated.items():
        covered = pd.concat([coverage_by_length(reference, events).covered for events in runs], axis=1).mean(axis=1)
        every = pd.concat(runs)
        row = {"pooling": pooling, "structure": structure, "n_events": len(every) / len(runs)}
        row |= {"median_length": (every.offset - every.onset).median()}
        rows.append(row | {f"covered {span}": share for span, share in covered.items()})
    return pd.DataFrame(rows).set_index(["pooling", "structure"])
