"""From a trained network to the files of its run: thresholds, events, scores, and what made them.

Thresholds are chosen on the *tuning* clips, those with strong labels beside the test clips: the validation clips, where
they have such labels. The test clips meet the finished choice only. Without tuning clips the one threshold is the
experiment's own number.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpsed_lib import provenance
from hpsed_lib.dataset import Dataset, Split
from hpsed_lib.decoding import CRITERIA, Criterion, choose_threshold, decode, smooth, to_events
from hpsed_lib.errors import DataError
from hpsed_lib.params import Experiment, run_name
from hpsed_lib.paths import cache_folder, replacing, results_folder
from hpsed_lib.scoring import (
    best_constant_guess,
    clip_scores,
    event_activity,
    event_based_scores,
    frame_prob_counts,
    places,
    sed_eval_scores,
    threshold_free_scores,
)
from hpsed_lib.training import Trained, predict_split


def run_folder(experiment: Experiment, run: str) -> Path:
    """Where a run keeps its checkpoint."""
    return cache_folder(experiment.name) / "runs" / run


def load_events(experiment: Experiment, run: str) -> pd.DataFrame:
    """Events that a finished run found in the test clips: filename, onset, offset (s), event_label."""
    path = results_folder(experiment.name) / "events" / f"{run}.tsv"
    if not path.is_file():
        raise DataError(f"{path}: not there; run notebook 03_train_variant for {run}")
    return pd.read_csv(path, sep="\t", dtype={"filename": str, "event_label": str}, keep_default_na=False)


def event_to_show(split: Split) -> tuple[str, str]:
    """The first clip, and class, with one event of that class, of 1 to 4 s; else the very first event's."""
    events = split.strong_labels
    alone = events.groupby(["filename", "event_label"]).onset.transform("size") == 1
    fitting = events[alone & (events.offset - events.onset).between(1.0, 4.0)]
    first = (fitting if len(fitting) else events).iloc[0]
    return first.filename, first.event_label


def finish_run(
    experiment: Experiment, dataset: Dataset, trained: Trained, *, pooling: str, structure: str, seed: int
) -> tuple[dict, pd.DataFrame]:
    """Predict, choose thresholds on tuning clips, score the test clips, write the run's events and metrics.

    Returns
    -------
    metrics : dict
        What ``metrics/<run>.json`` holds; ``test`` is the score of the decoding that the experiment asks for.
    curve : DataFrame
        As `choose_threshold` returns it; without tuning clips it has no row.
    """
    run, variant = run_name(pooling, structure, seed), {"pooling": pooling, "structure": structure}
    test, tuning, frame_duration = dataset.test, dataset.tuning, experiment.frame_duration
    test_prob, clip_prob = predict_split(trained.network, test, experiment, **variant)
    frame_prob = {"test": test_prob}
    rule, curve = experiment.decoding.threshold, pd.DataFrame(columns=["threshold", "f_measure"])
    best = math.nan
    if tuning:
        frame_prob["tuning"], _ = predict_split(trained.network, tuning, experiment, **variant)
        best, _, curve = tuned_threshold(experiment, dataset, frame_prob["tuning"], "f_measure")
    threshold = best if rule == "validation" else float(rule)
    tuned = score(experiment, dataset, tuning, frame_prob["tuning"], threshold=threshold) if tuning else None
    events = estimated_events(experiment, dataset, test, test_prob, threshold=threshold)
    smoothed = smooth(test_prob, params=experiment.decoding, frame_duration=frame_duration)
    names, present = _names(dataset, test), test.weak_target > 0
    frames: dict[str, Any] = {"n_frames": experiment.n_output_frames, "frame_duration": frame_duration}
    where = places(test.strong_labels, present, **names, **frames)
    times = {**_segments(experiment), "frame_duration": frame_duration}
    metrics = {
        "run": run,
        "experiment": experiment.name,
        **variant,
        "seed": seed,
        "threshold": threshold,
        "n_thresholds_tried": len(curve) if rule == "validation" else 0,
        "best_epoch": trained.best_epoch,
        "n_test_clips": len(test.filenames),
        "best_constant_guess": best_constant_guess(reference_activity(experiment, dataset, test)),
        "tuning": tuned["overall"] if tuned else None,
        "test": score(experiment, dataset, test, test_prob, threshold=threshold),
        "operating_points": operating_points(experiment, dataset, frame_prob),
        "threshold_free": threshold_free_scores(test_prob, smoothed, clip_prob, test.strong_labels, **names, **times),
        "event_based": event_based_scores(test.strong_labels, events, **names),
        "tagging": clip_scores(present, clip_prob, threshold=0.5),
        "frame_prob_counts": frame_prob_counts(test_prob, where),
        "example": _example(test, dataset.classes, test_prob),
        "own_pooling": experiment.pooling.digest(pooling),
        **_provenance(experiment, dataset, trained),
    }
    with replacing(results_folder(experiment.name) / "events" / f"{run}.tsv") as temporary:
        events.to_csv(temporary, sep="\t", index=False)
    with replacing(results_folder(experiment.name) / "metrics" / f"{run}.json") as temporary:
        temporary.write_text(to_json(metrics) + "\n", encoding="utf-8")
    return metrics, curve


def _example(test: Split, classes: Sequence[str], frame_prob: np.ndarray) -> dict | None:
    """What Figure 5's view shows of a run; None, if no test clip has an event."""
    if test.strong_labels.empty:
        return None
    filename, label = event_to_show(test)
    shown = frame_prob[test.filenames.index(filename), :, classes.index(label)]
    return {"filename": filename, "event_label": label, "frame_prob": [round(float(x), 4) for x in shown]}


def tuned_threshold(
    experiment: Experiment, dataset: Dataset, frame_prob: np.ndarray, criterion: Criterion
) -> tuple[float, float, pd.DataFrame]:
    """`choose_threshold` on the tuning clips, whose predictions these are."""
    assert dataset.tuning is not None
    return choose_threshold(
        frame_prob,
        reference_activity(experiment, dataset, dataset.tuning),
        params=experiment.decoding,
        frame_duration=experiment.frame_duration,
        time_resolution=experiment.scoring.time_resolution,
        criterion=criterion,
    )


def _provenance(experiment: Experiment, dataset: Dataset, trained: Trained) -> dict:
    """What made a run: its history, parameters, data, code, device and time."""
    history = trained.history
    return {
        "history": history[["epoch", "training_loss", "validation_loss"]].to_dict("records"),
        "parameters": experiment.model_dump(mode="json"),
        "data": {"checksum": dataset.checksum, "report": dataset.report, "stand_in": dataset.stand_in},
        "commit": provenance.commit(),
        "commit_date": provenance.commit_date(),
        "versions": provenance.versions(),
        **provenance.describe_device(next(trained.network.parameters()).device),
        "time": {"training_seconds": round(float(history.seconds.sum()), 1), "resumed_after": trained.resumed_after},
    }


def operating_points(experiment: Experiment, dataset: Dataset, frame_prob: dict[str, np.ndarray]) -> dict[str, dict]:
    """Scores of the test clips at three thresholds, and with a published system's own decoding, if there is one.

    Takes predictions (clips, frames, classes) for ``test`` and, if there are tuning clips, ``tuning``. By name:
    ``fixed``, 0.5; ``global_f_measure`` and ``global_error_rate``, with the best F1 and ER on the tuning clips, where
    there are any; ``own``. Each has ``threshold``, ``criterion`` and ``tuning``, what it was chosen by and the value
    there (None: not chosen, or no reference activity), and ``test``, sed_eval's overall scores.
    """

    def point(threshold: float, chosen_by: str | None = None, value: float = math.nan, *, by: Experiment) -> dict:
        found = score(by, dataset, dataset.test, frame_prob["test"], threshold=threshold)["overall"]
        tuning = value if math.isfinite(value) else None
        return {"threshold": threshold, "criterion": chosen_by, "tuning": tuning, "test": found}

    points = {"fixed": point(0.5, by=experiment)}
    for criterion in CRITERIA if dataset.tuning else ():
        threshold, value, _ = tuned_threshold(experiment, dataset, frame_prob["tuning"], criterion)
        points[f"global_{criterion}"] = point(threshold, criterion, value, by=experiment)
    if own := experiment.own_decoding:
        points["own"] = point(float(own.threshold), by=experiment.model_copy(update={"decoding": own}))
    return points


def _names(dataset: Dataset, split: Split) -> dict[str, Any]:
    return {"filenames": split.filenames, "classes": dataset.classes}


def _segments(experiment: Experiment) -> dict[str, Any]:
    return {"clip_duration": experiment.data.clip_duration, "time_resolution": experiment.scoring.time_resolution}


def reference_activity(experiment: Experiment, dataset: Dataset, split: Split) -> np.ndarray:
    """Segment activity (clips, segments, classes) of a split's strong labels."""
    return event_activity(split.strong_labels, **_names(dataset, split), **_segments(experiment))


def score(experiment: Experiment, dataset: Dataset, split: Split, frame_prob: np.ndarray, *, threshold: float) -> dict:
    """Decode a split's predictions and score the events by sed_eval; see `decode` and `sed_eval_scores`."""
    estimated = estimated_events(experiment, dataset, split, frame_prob, threshold=threshold)
    return sed_eval_scores(split.strong_labels, estimated, **_names(dataset, split), **_segments(experiment))


def estimated_events(
    experiment: Experiment, dataset: Dataset, split: Split, frame_prob: np.ndarray, *, threshold: float
) -> pd.DataFrame:
    """Events of a split's predictions; see `decode` and `to_events`."""
    frame_duration = experiment.frame_duration
    active = decode(frame_prob, threshold=threshold, params=experiment.decoding, frame_duration=frame_duration)
    return to_events(active, **_names(dataset, split), frame_duration=frame_duration)


def to_json(metrics: dict) -> str:
    """A metrics file's text: one value a line, but a list of numbers, such as the counts of all clips, on one line."""
    text = json.dumps(metrics, indent=1)
    return re.sub(r"\[\n[-+.\deE,\s]+\]", lambda numbers: "[" + " ".join(numbers[0][1:-1].split()) + "]", text)
