"""Data sets as the notebooks see them: clips in three splits, labels, features, and what was done to get them.

A prepared data set lies in ``cache/<experiment>/``: ``data.json`` (classes, counts, checksum, normalisation),
``clips.csv``, ``strong_labels.csv``, ``weak_labels.csv``, ``remarks.csv`` (odd rows of label files), ``manifest.csv``
(every clip and what became of it) and the features. ``data.json`` is written last, so where it stands the rest is
complete.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from hpsed_lib.data.dcase2017.labels import list_dcase2017
from hpsed_lib.data.folder import list_folder
from hpsed_lib.data.label_audit import WEAK
from hpsed_lib.data.labels import Listing, remarks_on_data
from hpsed_lib.data.manifest import report, typed_manifest
from hpsed_lib.data.recordings import download_esc10, find_recordings
from hpsed_lib.data.soundscapes import make_soundscapes
from hpsed_lib.errors import DataError
from hpsed_lib.features import Spectrograms, band_statistics, extract, feature_file
from hpsed_lib.params import Dcase2017Data, Experiment, FolderData, ListedData, SyntheticData, require_available
from hpsed_lib.paths import ROOT, cache_folder, read_json, replacing
from hpsed_lib.scoring import event_activity

STAND_IN = "STAND-IN-AUDIO.txt"
"""A file of this name in the data folder says that the audio stands in for recordings that nobody has any more."""


@dataclass(frozen=True)
class Split:
    """One of training, validation and test; only clips with usable audio."""

    filenames: list[str]  # as the label files name them, in the order of every array's first axis
    features: Spectrograms  # (clips, frames, n_mels), float32, dB, not normalised; read when indexed
    weak_target: np.ndarray  # (clips, classes), float32: 1 where the class sounds in the clip
    strong_labels: pd.DataFrame  # filename, onset, offset, event_label


@dataclass(frozen=True)
class Dataset:
    """A prepared data set."""

    classes: tuple[str, ...]  # in the order of every array's class axis
    training: Split
    validation: Split
    test: Split
    tuning: Split | None  # clips with strong labels that thresholds are chosen on: the validation clips, mostly
    mean: np.ndarray  # (n_mels,), float32, dB; of the training clips only, as the next
    std: np.ndarray
    checksum: str  # SHA-256 over every recording and label
    training_checksum: str  # the same over training and validation clips, all that a trained network depends on
    report: dict[str, dict[str, int]]  # clips listed, used, missing: see `hpsed_lib.data.manifest.report`
    stand_in: bool  # whether the audio only stands in for what the labels speak of (a file `STAND_IN` says so)


def prepare(experiment: Experiment, *, data_folder: str = "", download: bool = False) -> Dataset:
    """List an experiment's clips or make them, extract their features, and write `data.json`.

    `data_folder` holds the recordings, where the experiment needs some; a relative one starts at the repository.
    `download` fetches what is public and small (ESC-10; the label files of DCASE 2017) where it is not there. Data that
    cannot be had or used, or miss audio of test clips although the experiment does not allow it, are a `DataError`.
    """
    require_available(experiment, data_folder=data_folder, download=download)
    folder = cache_folder(experiment.name)
    (folder / "data.json").unlink(missing_ok=True)
    listing = _list_clips(experiment, ROOT / data_folder if data_folder else None, download=download)
    tables = {"clips": listing.clips, "strong_labels": listing.strong_labels, "weak_labels": listing.weak_labels}
    for name, table in (tables | {"remarks": listing.remarks}).items():
        _write_table(table, folder / f"{name}.csv")

    manifests: dict[str, pd.DataFrame] = {}
    groups = {str(split): clips for split, clips in listing.clips.groupby("split", sort=False)}
    for split, clips in sorted(groups.items(), key=lambda group: group[0] != "test"):  # what may stop us comes first
        paths = zip(clips.filename, clips.path, strict=True)
        files = {filename: listing.audio_folder / path if path else None for filename, path in paths}
        manifest = extract(files, cache=folder / "features" / split, **_form(experiment))
        manifests[split] = manifest.assign(split=split)
        _write_table(manifests[split], folder / "manifest.csv")
        _refuse_unusable(experiment, manifests[split])
    manifest = pd.concat([manifests[split] for split in groups], ignore_index=True)
    _write_table(manifest, folder / "manifest.csv")
    remarks = [listing.remarks, remarks_on_data(listing, manifest)]
    _write_table(pd.concat(remarks, ignore_index=True), folder / "remarks.csv")

    training = manifest[manifest.split == "training"]
    used = np.flatnonzero(training.state == "present")
    mean, std = band_statistics(Spectrograms(_feature_file(experiment, "training", list(training.filename)), used))
    content = {
        "classes": listing.classes,
        "audio_folder": str(listing.audio_folder),
        "stand_in": (listing.audio_folder / STAND_IN).is_file(),
        "checksum": _checksum(listing, manifest),
        "training_checksum": "-".join(
            _checksum(listing, manifest[manifest.split == split])[:32] for split in ("training", "validation")
        ),
        "report": report(manifest),
        "normalisation": {"mean": mean.tolist(), "std": std.tolist()},
    }
    with replacing(folder / "data.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    return load(experiment)


def _list_clips(experiment: Experiment, data_folder: Path | None, *, download: bool) -> Listing:
    """What the experiment's source says there is; soundscapes are made now."""
    params, folder = experiment.data, cache_folder(experiment.name)
    if isinstance(params, Dcase2017Data):
        assert data_folder is not None
        return list_dcase2017(params, folder=data_folder, download=download)
    if isinstance(params, FolderData):
        assert data_folder is not None
        return list_folder(params, folder=data_folder)
    recordings = []
    if not isinstance(params, SyntheticData):
        recordings = find_recordings(data_folder or download_esc10(folder.parent / "ESC-10"), subset=params.source)
    return make_soundscapes(params, recordings=recordings, folder=folder / "soundscapes")


def _refuse_unusable(experiment: Experiment, manifest: pd.DataFrame) -> None:
    """Stop where audio is missing or unreadable that the experiment cannot do without."""
    needed, what, what_to_do = manifest, "clips", "delete cache/ and run again"
    if isinstance(experiment.data, ListedData):
        needed = manifest[(manifest.split == "test") & (experiment.data.incomplete_test == "refuse")]
        what, what_to_do = "test clips", "add them, or set data.incomplete_test to report, and every table will say so"
    unusable = needed[needed.state != "present"]
    if len(unusable):
        shown = ", ".join(f"{row.filename} ({row.reason or row.state})" for row in unusable.head(10).itertuples())
        counts = ", ".join(f"{count:,} {state}" for state, count in unusable.state.value_counts().items())
        raise DataError(
            f"{len(unusable):,} of {len(needed):,} {what} have no usable audio ({counts}), such as {shown}; "
            f"{what_to_do}. {cache_folder(experiment.name) / 'manifest.csv'} lists them all"
        )
    for split, clips in manifest.groupby("split", sort=False):
        if not (clips.state == "present").any():
            raise DataError(f"no clip of the {split} set has usable audio ({len(clips):,} are listed)")


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def _form(experiment: Experiment) -> dict[str, Any]:
    """What recordings and their features are brought to."""
    data = experiment.data
    return {"sr": data.sample_rate, "duration": data.clip_duration, "params": experiment.features}


def _feature_file(experiment: Experiment, split: str, filenames: list[str]) -> Path:
    """Where a split's features are."""
    return feature_file(cache_folder(experiment.name) / "features" / split, filenames, **_form(experiment))


def _checksum(listing: Listing, manifest: pd.DataFrame) -> str:
    """SHA-256 over the names and contents of the manifest's clips, and their labels."""
    strong = listing.strong_labels[listing.strong_labels.filename.isin(manifest.filename)]
    weak = listing.weak_labels[listing.weak_labels.filename.isin(manifest.filename)]
    digest = hashlib.sha256(strong.to_csv(index=False).encode())
    for row in manifest[["filename", "sha256"]].itertuples(index=False):
        digest.update(PurePosixPath(row.filename).name.encode() + bytes.fromhex(row.sha256))
    implied = pd.MultiIndex.from_frame(strong[WEAK])  # weak labels that follow from the strong ones say nothing new
    rest = weak[~pd.MultiIndex.from_frame(weak[WEAK]).isin(implied)]
    if len(rest):
        digest.update(rest.to_csv(index=False).encode())
    return digest.hexdigest()


def load(experiment: Experiment) -> Dataset:
    """Load what `prepare` made; a `DataError` if that was not for these parameters, or with other code."""
    folder = cache_folder(experiment.name)
    again = f"run notebook 01_data_preparation for {experiment.name!r}"
    if not (folder / "data.json").is_file():
        raise DataError(f"{folder / 'data.json'}: not there; {again} first")
    content = read_json(folder / "data.json")
    classes = tuple(content["classes"])
    manifest = read_manifest(experiment)
    strong, weak = read_table(experiment, "strong_labels"), read_table(experiment, "weak_labels")
    splits = {}
    for split, clips in manifest.groupby("split", sort=False):
        path = _feature_file(experiment, str(split), list(clips.filename))
        if not path.is_file():
            raise DataError(f"{path}: not there; the features are of other parameters or other code; {again} again")
        used = np.flatnonzero(clips.state == "present")
        kept = clips.filename.iloc[used].tolist()
        splits[split] = Split(
            filenames=kept,
            features=Spectrograms(path, used),
            weak_target=_weak_target(weak, kept, classes),
            strong_labels=strong[strong.filename.isin(kept)].reset_index(drop=True),
        )
    return Dataset(
        classes=classes,
        training=splits["training"],
        validation=splits["validation"],
        test=splits["test"],
        tuning=splits.get("tuning", splits["validation"]) if experiment.has_tuning_clips else None,
        mean=np.array(content["normalisation"]["mean"], dtype=np.float32),
        std=np.array(content["normalisation"]["std"], dtype=np.float32),
        **{name: content[name] for name in ("checksum", "training_checksum", "report", "stand_in")},
    )


def recording_of(experiment: Experiment, filename: str) -> Path:
    """The recording of a clip."""
    folder = cache_folder(experiment.name)
    clips = read_table(experiment, "clips").set_index("filename")
    return Path(read_json(folder / "data.json")["audio_folder"]) / clips.path[filename]


def read_manifest(experiment: Experiment) -> pd.DataFrame:
    """The manifest of a prepared experiment; see `hpsed_lib.data.manifest`."""
    path = cache_folder(experiment.name) / "manifest.csv"
    return typed_manifest(pd.read_csv(path, keep_default_na=False, dtype=str))


def read_table(experiment: Experiment, table: str) -> pd.DataFrame:
    """A table of a prepared experiment: ``clips``, ``weak_labels``, ``strong_labels`` or ``remarks``."""
    text = ("filename", "split", "sources", "path", "event_label", "file", "kind", "treatment", "message")
    path = cache_folder(experiment.name) / f"{table}.csv"
    return pd.read_csv(path, keep_default_na=False, dtype=dict.fromkeys(text, str))  # a label may look like a number


def _weak_target(weak_labels: pd.DataFrame, filenames: list[str], classes: tuple[str, ...]) -> np.ndarray:
    """Weak labels as an array (clips, classes) of 0 and 1."""
    table = pd.crosstab(weak_labels.filename, weak_labels.event_label)
    return (table.reindex(index=filenames, columns=classes, fill_value=0) > 0).to_numpy(np.float32)


def shared_sources(experiment: Experiment) -> pd.DataFrame:
    """How many source sounds each two splits share: 0 off the diagonal is what a fair test needs."""
    clips = read_table(experiment, "clips")
    sources = {
        split: {name for row in of_split.sources for name in row.split("\t") if name}
        for split, of_split in clips.groupby("split", sort=False)
    }
    return pd.DataFrame({one: {two: len(sources[one] & sources[two]) for two in sources} for one in sources})


def overlap_share(strong_labels: pd.DataFrame, *, classes: tuple[str, ...], clip_duration: float) -> pd.Series:
    """Share of the sounding time, by split, in which two classes or more sound; on a grid of 10 ms."""
    shares = {}
    for split, events in strong_labels.groupby("split", sort=False):
        names = {"filenames": sorted(events.filename.unique()), "classes": classes}
        n_sounding = event_activity(events, **names, clip_duration=clip_duration, time_resolution=0.01).sum(axis=2)
        shares[split] = (n_sounding > 1).sum() / (n_sounding > 0).sum()
    return pd.Series(shares)
