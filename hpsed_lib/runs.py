"""From a trained network to the files of its run: predictions, threshold, scores, and what made them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from hpsed_lib import provenance
from hpsed_lib.dataset import Dataset, Split
from hpsed_lib.decoding import THRESHOLDS, choose_threshold, decode, to_events
from hpsed_lib.errors import DataError
from hpsed_lib.params import Experiment, run_name
from hpsed_lib.paths import cache_folder, replacing, results_folder
from hpsed_lib.scoring import best_constant_guess, event_activity, sed_eval_scores
from hpsed_lib.training import Trained, predict_frames


def run_folder(experiment: Experiment, run: str) -> Path:
    """Where a run keeps its checkpoint and its predictions."""
    return cache_folder(experiment.name) / "runs" / run


def load_predictions(experiment: Experiment, run: str) -> dict[str, np.ndarray]:
    """Frame probabilities (clips, frames, classes) of a finished run, by split (validation, test)."""
    path = run_folder(experiment, run) / "predictions.npz"
    if not path.is_file():
        raise DataError(f"{path}: not there; run notebook 03_train_variant for {run}")
    with np.load(path) as stored:
        return {split: stored[split] for split in stored}


def finish_run(
    experiment: Experiment, dataset: Dataset, trained: Trained, *, pooling: str, structure: str, seed: int
) -> tuple[dict, pd.DataFrame]:
    """Predict, choose the threshold on validation clips, score the test clips, write the run's files.

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
        What ``results/<experiment>/metrics/<run>.json`` holds.
    curve : DataFrame with columns threshold, f_measure
        Every threshold tried on the validation clips.
    """
    run = run_name(pooling, structure, seed)
    batch_size = experiment.training.batch_size
    frame_prob = {
        "validation": predict_frames(trained.network, dataset.validation, batch_size=batch_size),
        "test": predict_frames(trained.network, dataset.test, batch_size=batch_size),
    }
    time_resolution, clip_duration = experiment.scoring.time_resolution, experiment.data.clip_duration

    def reference(split: Split) -> np.ndarray:
        return event_activity(
            split.strong_labels,
            filenames=split.filenames,
            classes=dataset.classes,
            clip_duration=clip_duration,
            time_resolution=time_resolution,
        )

    best_threshold, curve = choose_threshold(
        frame_prob["validation"],
        reference(dataset.validation),
        params=experiment.decoding,
        frame_duration=experiment.frame_duration,
        time_resolution=time_resolution,
    )
    fixed = experiment.decoding.threshold
    threshold = best_threshold if fixed == "validation" else float(fixed)

    def score(split: Split, split_prob: np.ndarray) -> dict:
        active = decode(
            split_prob, threshold=threshold, params=experiment.decoding, frame_duration=experiment.frame_duration
        )
        estimated = to_events(
            active, filenames=split.filenames, classes=dataset.classes, frame_duration=experiment.frame_duration
        )
        return sed_eval_scores(
            split.strong_labels,
            estimated,
            filenames=split.filenames,
            classes=dataset.classes,
            clip_duration=clip_duration,
            time_resolution=time_resolution,
        )

    device = next(trained.network.parameters()).device
    history = trained.history
    metrics = {
        "run": run,
        "experiment": experiment.name,
        "pooling": pooling,
        "structure": structure,
        "seed": seed,
        "threshold": threshold,
        "n_thresholds_tried": len(THRESHOLDS) if fixed == "validation" else 0,
        "best_epoch": trained.best_epoch,
        "n_test_clips": len(dataset.test.filenames),
        "best_constant_guess": best_constant_guess(reference(dataset.test)),
        "validation": score(dataset.validation, frame_prob["validation"])["overall"],
        "test": score(dataset.test, frame_prob["test"]),
        "history": history[["epoch", "training_loss", "validation_loss"]].to_dict("records"),
        "parameters": experiment.model_dump(mode="json"),
        "data": {"checksum": dataset.checksum, "report": dataset.report},
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        **provenance.describe_device(device),
        "time": {"training_seconds": round(float(history.seconds.sum()), 1), "resumed_after": trained.resumed_after},
    }
    with replacing(run_folder(experiment, run) / "predictions.npz") as temporary:
        np.savez_compressed(temporary, validation=frame_prob["validation"], test=frame_prob["test"])
    with replacing(results_folder(experiment.name) / "metrics" / f"{run}.json") as temporary:
        temporary.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    return metrics, curve
