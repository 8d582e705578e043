"""From a trained network to the files of its run: predictions, thresholds, scores, and what made them.

Thresholds are chosen on the *tuning* clips, those with strong labels beside the test clips: the validation clips, where
they have such labels. The test clips meet the finished choice only. Without tuning clips the one threshold is the
experiment's own number.
"""

from __future__ import annotations

import json
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpsed_lib import provenance
from hpsed_lib.dataset import Dataset, Split
from hpsed_lib.decoding import CRITERIA, choose_hysteresis, choose_threshold, decode, to_events
from hpsed_lib.errors import DataError
from hpsed_lib.params import Decoding, Experiment, run_name
from hpsed_lib.paths import cache_folder, replacing, results_folder
from hpsed_lib.scoring import best_constant_guess, event_activity, sed_eval_scores
from hpsed_lib.threshold_free import clip_scores, event_based_scores, threshold_free_scores
from hpsed_lib.training import Trained, predict_split

TAGGING_THRESHOLD = 0.5
"""Above it a class counts as present in a clip (audio tagging)."""


def run_folder(experiment: Experiment, run: str) -> Path:
    """Where a run keeps its checkpoint and its predictions."""
    return cache_folder(experiment.name) / "runs" / run


def load_predictions(experiment: Experiment, run: str) -> dict[str, np.ndarray]:
    """Frame probabilities (clips, frames, classes) of a finished run, by split (test, and tuning if there is one)."""
    path = run_folder(experiment, run) / "predictions.npz"
    if not path.is_file():
        raise DataError(f"{path}: not there; run notebook 03_train_variant for {run}")
    with np.load(path) as stored:
        return {split: stored[split] for split in stored}


def finish_run(
    experiment: Experiment, dataset: Dataset, trained: Trained, *, pooling: str, structure: str, seed: int
) -> tuple[dict, pd.DataFrame]:
    """Predict, choose thresholds on tuning clips, score the test clips, write the run's files.

    Parameters
    ----------
    experiment : Experiment
    dataset : Dataset
    trained : Trained
    pooling, structure : str
        The variant.
    seed : int

    Returns
    -------
    metrics : dict
        What ``results/<experiment>/metrics/<run>.json`` holds: ``test`` is the score of the decoding that the
        experiment asks for, ``operating_points`` has those of `operating_points`, ``threshold_free``, ``event_based``
        and ``tagging`` those of `hpsed_lib.threshold_free`.
    curve : DataFrame with columns threshold, f_measure and the counts
        Every threshold that makes a difference on the tuning clips, as `choose_threshold` returns it; without tuning
        clips it has no row.
    """
    run = run_name(pooling, structure, seed)
    splits = {"test": dataset.test} | ({"tuning": dataset.tuning} if dataset.tuning else {})
    predicted = {
        name: predict_split(trained.network, split, experiment, pooling=pooling, structure=structure)
        for name, split in splits.items()
    }
    frame_prob = {name: frames for name, (frames, _) in predicted.items()}
    _, clip_prob = predicted["test"]
    curve = pd.DataFrame(columns=["threshold", "f_measure"])
    chosen = experiment.decoding.threshold
    if dataset.tuning:
        best_threshold, _, curve = choose_threshold(
            frame_prob["tuning"],
            reference_activity(experiment, dataset, dataset.tuning),
            params=experiment.decoding,
            frame_duration=experiment.frame_duration,
            time_resolution=experiment.scoring.time_resolution,
        )
    threshold = best_threshold if chosen == "validation" else float(chosen)
    of_record = partial(score, experiment, dataset, threshold=threshold, decoding=experiment.decoding)

    device = next(trained.network.parameters()).device
    history = trained.history
    metrics = {
        "run": run,
        "experiment": experiment.name,
        "pooling": pooling,
        "structure": structure,
        "seed": seed,
        "threshold": threshold,
        "n_thresholds_tried": len(curve) if chosen == "validation" else 0,
        "best_epoch": trained.best_epoch,
        "n_test_clips": len(dataset.test.filenames),
        "best_constant_guess": best_constant_guess(reference_activity(experiment, dataset, dataset.test)),
        "tuning": of_record(dataset.tuning, frame_prob["tuning"])["overall"] if dataset.tuning else None,
        "test": of_record(dataset.test, frame_prob["test"]),
        "operating_points": operating_points(experiment, dataset, frame_prob),
        "threshold_free": threshold_free_scores(
            frame_prob["test"],
            clip_prob,
            dataset.test.strong_labels,
            filenames=dataset.test.filenames,
            classes=dataset.classes,
            clip_duration=experiment.data.clip_duration,
            frame_duration=experiment.frame_duration,
            time_resolution=experiment.scoring.time_resolution,
            params=experiment.decoding,
        ),
        "event_based": event_based_scores(
            dataset.test.strong_labels,
            estimated_events(
                experiment, dataset, dataset.test, frame_prob["test"], threshold=threshold, decoding=experiment.decoding
            ),
            filenames=dataset.test.filenames,
            classes=dataset.classes,
        ),
        "tagging": clip_scores(dataset.test.weak_target > 0, clip_prob, threshold=TAGGING_THRESHOLD),
        "history": history[["epoch", "training_loss", "validation_loss"]].to_dict("records"),
        "parameters": experiment.model_dump(mode="json"),
        "data": {"checksum": dataset.checksum, "report": dataset.report, "stand_in": dataset.stand_in},
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        **provenance.describe_device(device),
        "time": {"training_seconds": round(float(history.seconds.sum()), 1), "resumed_after": trained.resumed_after},
    }
    with replacing(run_folder(experiment, run) / "predictions.npz") as temporary:
        np.savez_compressed(temporary, **frame_prob)  # type: ignore[arg-type]
    with replacing(results_folder(experiment.name) / "metrics" / f"{run}.json") as temporary:
        temporary.write_text(to_json(metrics) + "\n", encoding="utf-8")
    return metrics, curve


def operating_points(experiment: Experiment, dataset: Dataset, frame_prob: dict[str, np.ndarray]) -> dict[str, dict]:
    """Scores of the test clips with thresholds chosen in several ways, each on tuning clips only.

    Parameters
    ----------
    experiment : Experiment
        Its decoding says what is short, and the median length, but for hysteresis, which chooses its own.
    dataset : Dataset
    frame_prob : dict of np.ndarray, shape (clips, frames, classes)
        Predictions for ``test`` and, if there are tuning clips, ``tuning``.

    Returns
    -------
    dict of dict, by name
        ``fixed`` (0.5), ``global_f_measure`` and ``global_error_rate`` (one threshold for all classes),
        ``per_class_f_measure`` and ``per_class_error_rate`` (a list, in the order of ``dataset.classes``),
        ``hysteresis_f_measure`` ([high, low]). Each has ``threshold``, ``median_length`` in frames, ``criterion`` and
        ``tuning``, what it was chosen by and the value there (None: not chosen, or no reference activity), and
        ``test``, sed_eval's overall scores. Without tuning clips there is ``fixed`` alone.
    """
    choice: dict[str, Any] = {
        "params": experiment.decoding,
        "frame_duration": experiment.frame_duration,
        "time_resolution": experiment.scoring.time_resolution,
    }

    def point(
        threshold: float | list[float],
        *,
        criterion: str | None = None,
        value: float = math.nan,
        low: float | None = None,
        median_length: int = experiment.decoding.median_length,
    ) -> dict:
        decoding = experiment.decoding.model_copy(update={"median_length": median_length})
        scores = score(
            experiment, dataset, dataset.test, frame_prob["test"], threshold=threshold, low=low, decoding=decoding
        )
        return {
            "threshold": threshold if low is None else [threshold, low],
            "median_length": median_length,
            "criterion": criterion,
            "tuning": value if math.isfinite(value) else None,
            "test": scores["overall"],
        }

    points = {"fixed": point(0.5)}
    if dataset.tuning is None:
        return points
    tuning = frame_prob["tuning"], reference_activity(experiment, dataset, dataset.tuning)
    for scope in ("global", "per_class"):
        for criterion in CRITERIA:
            threshold, value, _ = choose_threshold(
                *tuning, **choice, criterion=criterion, per_class=scope == "per_class"
            )
            points[f"{scope}_{criterion}"] = point(threshold, criterion=criterion, value=value)
    high, low, length, value, _ = choose_hysteresis(*tuning, **choice, criterion="f_measure")
    points["hysteresis_f_measure"] = point(high, criterion="f_measure", value=value, low=low, median_length=length)
    return points


def reference_activity(experiment: Experiment, dataset: Dataset, split: Split) -> np.ndarray:
    """Segment activity (clips, segments, classes) of a split's strong labels."""
    return event_activity(
        split.strong_labels,
        filenames=split.filenames,
        classes=dataset.classes,
        clip_duration=experiment.data.clip_duration,
        time_resolution=experiment.scoring.time_resolution,
    )


def score(
    experiment: Experiment,
    dataset: Dataset,
    split: Split,
    frame_prob: np.ndarray,
    *,
    threshold: float | list[float],
    decoding: Decoding,
    low: float | None = None,
) -> dict:
    """Decode a split's predictions and score the events by sed_eval; see `decode` and `sed_eval_scores`."""
    return sed_eval_scores(
        split.strong_labels,
        estimated_events(experiment, dataset, split, frame_prob, threshold=threshold, decoding=decoding, low=low),
        filenames=split.filenames,
        classes=dataset.classes,
        clip_duration=experiment.data.clip_duration,
        time_resolution=experiment.scoring.time_resolution,
    )


def estimated_events(
    experiment: Experiment,
    dataset: Dataset,
    split: Split,
    frame_prob: np.ndarray,
    *,
    threshold: float | list[float],
    decoding: Decoding,
    low: float | None = None,
) -> pd.DataFrame:
    """Events of a split's predictions; see `decode` and `to_events`."""
    active = decode(frame_prob, threshold=threshold, low=low, params=decoding, frame_duration=experiment.frame_duration)
    return to_events(
        active, filenames=split.filenames, classes=dataset.classes, frame_duration=experiment.frame_duration
    )


def to_json(metrics: dict) -> str:
    """A metrics file's text: one value a line, but a list of numbers, such as the counts of all clips, on one line."""
    text = json.dumps(metrics, indent=1)
    return re.sub(r"\[\n[-+.\deE,\s]+\]", lambda numbers: "[" + " ".join(numbers[0][1:-1].split()) + "]", text)
