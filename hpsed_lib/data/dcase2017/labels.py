"""DCASE 2017 Task 4: the published label files, the paper's split, and the audio that is there.

Clips are called as in the label files, ``<YouTube id>_<start>_<end>.wav``; audio files may have another extension
(`AUDIO_SUFFIXES`) and, as published, a leading ``Y``. An id may itself begin with ``-``, ``_`` or ``Y`` and hold ``_``.

Only the published label files are read, byte for byte: each is checked against its SHA-256.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pandas as pd

from hpsed_lib.data.download import fetch_published, read_registry
from hpsed_lib.data.label_audit import STRONG, WEAK
from hpsed_lib.data.labels import Listing, gather, make_listing, read_labels
from hpsed_lib.data.synthesis import CLASSES
from hpsed_lib.errors import DataError
from hpsed_lib.params import Dcase2017Data
from hpsed_lib.paths import cache_folder, files_below

LABELS_COMMIT = "96dc262e3869580c0ff4c4de622995a8e3573ad9"
LABELS_URL = (
    "https://raw.githubusercontent.com/ankitshah009/"
    f"Task-4-Large-scale-weakly-supervised-sound-event-detection-for-smart-cars/{LABELS_COMMIT}/groundtruth_release/"
)
LABELS_REGISTRY = Path(__file__).with_name("sha256.txt")
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")

WEAK_FILES = {
    "training": "groundtruth_weak_label_training_set.csv",
    "development": "groundtruth_weak_label_testing_set.csv",
    "evaluation": "groundtruth_weak_label_evaluation_set.csv",
}
STRONG_FILES = {name: WEAK_FILES[name].replace("weak", "strong") for name in ("development", "evaluation")}


def list_dcase2017(params: Dcase2017Data, *, folder: Path, download: bool) -> Listing:
    """List the clips and labels of DCASE 2017 Task 4; a clip's source is the YouTube id of its video.

    The test set is the development set (488 clips), or the evaluation set (1,103) with the development set for tuning.
    Audio files lie anywhere below `folder`, and so may the label files; with `download` those that are neither there
    nor fetched before are fetched.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with the audio of DCASE 2017 Task 4")
    tuning = {"tuning": "development"} if params.test_set == "evaluation" else {}
    tested = tuning | {"test": params.test_set}
    sets = {"training": "training"} | tested
    present = files_below(folder)
    wanted = [*(WEAK_FILES[name] for name in sets.values()), *(STRONG_FILES[name] for name in tested.values())]
    files = _label_files(wanted, folder, present, download=download)
    weak = {split: read_labels(files[WEAK_FILES[name]], columns=WEAK) for split, name in sets.items()}
    strong = {split: read_labels(files[STRONG_FILES[name]], columns=STRONG) for split, name in tested.items()}
    rows = gather(weak, strong)
    rows["sources"] = rows.filename.str.rsplit("_", n=2).str[0]
    audio = audio_files(rows.filename.unique().tolist(), present)
    rows["files"] = [audio.get(name, []) for name in rows.filename]
    return make_listing(rows, params, classes=CLASSES, folder=folder)


def clip_names(name: str, *, folder: Path, download: bool) -> list[str]:
    """The clips of one set (a name in `WEAK_FILES`), each once, in its label file's order; `folder` may be absent."""
    [path] = _label_files([WEAK_FILES[name]], folder, files_below(folder), download=download).values()
    return read_labels(path, columns=WEAK).filename.unique().tolist()


def reference_events(name: str, *, folder: Path, download: bool) -> tuple[list[str], pd.DataFrame]:
    """The clips of one set (a name in `STRONG_FILES`) and its strong labels; the rest as in `clip_names`."""
    [path] = _label_files([STRONG_FILES[name]], folder, files_below(folder), download=download).values()
    return clip_names(name, folder=folder, download=download), read_labels(path, columns=STRONG)[STRONG]


def _label_files(wanted: list[str], folder: Path, present: list[str], *, download: bool) -> dict[str, Path]:
    """The published files of these names: from the folder, fetched before, or fetched now."""
    registry = read_registry(LABELS_REGISTRY)
    cache = cache_folder("dcase2017_task4") / "groundtruth_release"
    found: dict[str, Path] = {}
    for name in wanted:
        paths = [folder / path for path in present if path.rpartition("/")[2] == name]
        paths = paths or [path for path in [cache / name] if path.is_file()]
        good = [path for path in paths if hashlib.sha256(path.read_bytes()).hexdigest() == registry[name]]
        if paths and not good:
            raise DataError(
                f"{paths[0]}: not the published file (its SHA-256 is another); often git has changed the line ends "
                "(core.autocrlf): put the published file there, or remove this one and give DOWNLOAD=1"
            )
        if not good and download:
            fetch_published(LABELS_URL, {name: registry[name]}, cache, or_else=f"; put it into {folder}")
            good = [cache / name]
        if good:
            found[name] = good[0]
    if missing := [name for name in wanted if name not in found]:
        raise DataError(f"{folder}: lacks {'; '.join(missing)}; put them there, or give DOWNLOAD=1 to fetch them")
    return found


def audio_files(clips: list[str], present: list[str]) -> dict[str, list[str]]:
    """Audio files by clip; a name that is one clip's with the leading Y is no other clip's without it."""
    stems = {name.removesuffix(".wav"): name for name in clips}
    stems |= {f"Y{stem}": name for stem, name in stems.items()}
    found: dict[str, list[str]] = {}
    for path in present:
        stem, suffix = os.path.splitext(path.rpartition("/")[2])
        if suffix.lower() in AUDIO_SUFFIXES and stem in stems:
            found.setdefault(stems[stem], []).append(path)
    return found
