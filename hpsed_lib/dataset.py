"""Data sets as the notebooks see them: clips in three splits, labels, features, and what was done to get them.

A prepared data set lies in ``cache/<experiment>/``: ``data.json`` (classes, counts, checksum, normalisation),
``clips.csv``, ``strong_labels.csv``, ``weak_labels.csv``, the soundscapes and the features. ``data.json`` is written
last, so where it stands the rest is complete.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.features import band_statistics, extract
from hpsed_lib.params import SPLITS, Dcase2017Data, Experiment, SyntheticData, require_available
from hpsed_lib.paths import ROOT, cache_folder, replacing
from hpsed_lib.recordings import download_esc10, find_recordings
from hpsed_lib.scoring import event_activity
from hpsed_lib.soundscapes import class_list, make_soundscapes


@dataclass(frozen=True)
class Split:
    """One of training, validation and test.

    Attributes
    ----------
    filenames : list of str
        Clips, relative to the data set's folder of soundscapes, in the order of every array's first axis.
    features : np.ndarray, shape (clips, frames, n_mels), float32
        Memory map, in dB, not normalised.
    weak_target : np.ndarray, shape (clips, classes), float32
        1 where the class sounds in the clip.
    strong_labels : DataFrame
        filename, onset, offset, event_label; empty frames for clips without events.
    """

    filenames: list[str]
    features: np.ndarray
    weak_target: np.ndarray
    strong_labels: pd.DataFrame


@dataclass(frozen=True)
class Dataset:
    """A prepared data set.

    Attributes
    ----------
    classes : tuple of str
        Labels, in the order of every array's class axis.
    training, validation, test : Split
    mean, std : np.ndarray, shape (n_mels,), float32
        Normalisation, from the training split only, in dB.
    checksum : str
        SHA-256 over every recording and label.
    audio_folder : Path
        Where the splits' filenames lie.
    report : dict
        Files resampled, mixed down, padded, cut and skipped in each split.
    skipped : dict
        Why each skipped file was.
    """

    classes: tuple[str, ...]
    training: Split
    validation: Split
    test: Split
    mean: np.ndarray
    std: np.ndarray
    checksum: str
    audio_folder: Path
    report: dict[str, dict[str, int]]
    skipped: dict[str, str]


def prepare(experiment: Experiment, *, data_folder: str = "", download: bool = False) -> Dataset:
    """Make soundscapes, labels and features of an experiment, and `data.json`.

    Parameters
    ----------
    experiment : Experiment
        Its data and features sections decide.
    data_folder : str
        Folder with ESC-10 or ESC-50, where the experiment mixes recordings; a relative one starts at the repository.
    download : bool
        Fetch ESC-10 where no folder is given.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        The recordings cannot be had or used.
    """
    require_available(experiment, data_folder=data_folder, download=download)
    params = experiment.data
    assert not isinstance(params, Dcase2017Data)
    folder = cache_folder(experiment.name)
    (folder / "data.json").unlink(missing_ok=True)
    if isinstance(params, SyntheticData):
        recordings = []
    else:
        source_folder = ROOT / data_folder if data_folder else download_esc10(folder.parent / "ESC-10")
        recordings = find_recordings(source_folder, subset=params.source)
    audio_folder = folder / "soundscapes"
    clips, strong = make_soundscapes(params, recordings=recordings, folder=audio_folder)
    weak = strong[["filename", "event_label"]].drop_duplicates()

    for name, table in (("clips", clips), ("strong_labels", strong), ("weak_labels", weak)):
        with replacing(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)

    checksum = _checksum([audio_folder / name for name in clips.filename], strong)
    report, normalisation = {}, {}
    skipped: dict[str, str] = {}
    for split in SPLITS:
        files = [audio_folder / name for name in clips.filename[clips.split == split]]
        extraction = extract(
            files,
            cache=folder / "features" / split,
            sr=params.sample_rate,
            duration=params.clip_duration,
            params=experiment.features,
            checksum=checksum,
        )
        report[split] = {"clips": len(files), **extraction.counts}
        skipped |= {f"{split}/{name}": reason for name, reason in extraction.skipped.items()}
        if split == "training":
            mean, std = band_statistics(extraction.features)
            normalisation = {"mean": mean.tolist(), "std": std.tolist()}
    with replacing(folder / "data.json") as temporary:
        content = {
            "classes": class_list(params, recordings),
            "checksum": checksum,
            "report": report,
            "skipped": skipped,
            "normalisation": normalisation,
        }
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    return load(experiment)


def _checksum(files: list[Path], strong_labels: pd.DataFrame) -> str:
    """SHA-256 over names, contents and labels."""
    digest = hashlib.sha256(strong_labels.to_csv(index=False).encode())
    for file in files:
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def load(experiment: Experiment) -> Dataset:
    """Load what `prepare` made.

    Raises
    ------
    DataError
        Notebook 01 has not run for this experiment.
    """
    folder = cache_folder(experiment.name)
    if not (folder / "data.json").is_file():
        raise DataError(
            f"{folder / 'data.json'}: not there; run notebook 01_data_preparation for {experiment.name!r} first"
        )
    content = json.loads((folder / "data.json").read_text())
    classes = tuple(content["classes"])
    clips = pd.read_csv(folder / "clips.csv", keep_default_na=False)
    strong = pd.read_csv(folder / "strong_labels.csv")
    weak = pd.read_csv(folder / "weak_labels.csv")
    splits = {}
    for split in SPLITS:
        filenames = clips.filename[clips.split == split].tolist()
        extraction = extract(
            [folder / "soundscapes" / name for name in filenames],
            cache=folder / "features" / split,
            sr=experiment.data.sample_rate,
            duration=experiment.data.clip_duration,
            params=experiment.features,
            checksum=content["checksum"],
        )
        usable = np.isfinite(extraction.features[:, 0, 0])
        kept = [name for name, good in zip(filenames, usable, strict=True) if good]
        splits[split] = Split(
            filenames=kept,
            features=extraction.features if usable.all() else extraction.features[usable],
            weak_target=_weak_target(weak, kept, classes),
            strong_labels=strong[strong.filename.isin(kept)].reset_index(drop=True),
        )
    return Dataset(
        classes=classes,
        training=splits["training"],
        validation=splits["validation"],
        test=splits["test"],
        mean=np.array(content["normalisation"]["mean"], dtype=np.float32),
        std=np.array(content["normalisation"]["std"], dtype=np.float32),
        checksum=content["checksum"],
        audio_folder=folder / "soundscapes",
        report=content["report"],
        skipped=content["skipped"],
    )


def _weak_target(weak_labels: pd.DataFrame, filenames: list[str], classes: tuple[str, ...]) -> np.ndarray:
    """Weak labels as an array (clips, classes) of 0 and 1."""
    unknown = sorted(set(weak_labels.event_label) - set(classes))
    if unknown:
        raise ParameterError(f"labels that are not in the class list: {', '.join(unknown)}")
    row = {name: index for index, name in enumerate(filenames)}
    column = {label: index for index, label in enumerate(classes)}
    target = np.zeros((len(filenames), len(classes)), dtype=np.float32)
    for filename, label in zip(weak_labels.filename, weak_labels.event_label, strict=True):
        if filename in row:
            target[row[filename], column[label]] = 1
    return target


def shared_sources(experiment: Experiment) -> pd.DataFrame:
    """How many source sounds each two splits share; 0 off the diagonal is what a fair test needs.

    Returns
    -------
    DataFrame, splits by splits
        On the diagonal: the source sounds of the split.
    """
    clips = pd.read_csv(cache_folder(experiment.name) / "clips.csv", keep_default_na=False)
    sources = {split: {name for row in clips.sources[clips.split == split] for name in row.split()} for split in SPLITS}
    return pd.DataFrame({one: {two: len(sources[one] & sources[two]) for two in SPLITS} for one in SPLITS})


def overlap_share(strong_labels: pd.DataFrame, *, classes: tuple[str, ...], clip_duration: float) -> pd.Series:
    """Share of the sounding time, by split, in which two classes or more sound; on a grid of 10 ms.

    Parameters
    ----------
    strong_labels : DataFrame with columns split, filename, onset, offset, event_label
    classes : tuple of str
    clip_duration : float
        Seconds.
    """
    shares = {}
    for split, events in strong_labels.groupby("split", sort=False):
        active = event_activity(
            events,
            filenames=sorted(events.filename.unique()),
            classes=classes,
            clip_duration=clip_duration,
            time_resolution=0.01,
        )
        n_sounding = active.sum(axis=2)
        shares[split] = (n_sounding > 1).sum() / (n_sounding > 0).sum()
    return pd.Series(shares)
