"""DCASE 2017 Task 4: the published label files, the paper's split, and the audio that is there.

Clips are called as in the label files, ``<YouTube id>_<start>_<end>.wav``; audio files may have another extension
(`AUDIO_SUFFIXES`) and, as published, a leading ``Y``. An id may itself begin with ``-``, ``_`` or ``Y`` and hold ``_``.

The labels come in two forms: files of one label or event a row, separated by TABs, and lists of one clip a row,
``id,start,end,"label,label","mid,mid"``, where a label may itself hold a comma. Only the published files are read,
byte for byte: each is checked against its SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pandas as pd

from hpsed_lib.data.label_audit import STRONG, WEAK
from hpsed_lib.data.labels import (
    Listing,
    draw_validation,
    gather,
    make_listing,
    read_labels,
    read_records,
    refuse_odd_rows,
    remarks_of,
    rows_of,
    shared_sources,
)
from hpsed_lib.data.synthesis import CLASSES
from hpsed_lib.errors import DataError
from hpsed_lib.params import Dcase2017Data
from hpsed_lib.paths import cache_folder, files_below

LABELS_COMMIT = "96dc262e3869580c0ff4c4de622995a8e3573ad9"
LABELS_URL = (
    "https://raw.githubusercontent.com/ankitshah009/"
    f"Task-4-Large-scale-weakly-supervised-sound-event-detection-for-smart-cars/{LABELS_COMMIT}/"
)
LABELS_REGISTRY = Path(__file__).with_name("sha256.txt")
DOWNLOAD_RETRIES = 3
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")

WEAK_FILES = {  # any one of a set's files will do: they say the same
    "training": ("groundtruth_weak_label_training_set.csv", "training_set.csv"),
    "development": ("groundtruth_weak_label_testing_set.csv", "testing_set.csv"),
    "evaluation": ("groundtruth_weak_label_evaluation_set.csv",),
}
STRONG_FILES = {
    "development": ("groundtruth_strong_label_testing_set.csv",),
    "evaluation": ("groundtruth_strong_label_evaluation_set.csv",),
}
_CLIP_LIST = ("training_set.csv", "testing_set.csv")
_LABEL_IN_LIST = re.compile(f"(?:^|,)({'|'.join(map(re.escape, CLASSES))})(?=,|$)")


def list_dcase2017(params: Dcase2017Data, *, folder: Path, download: bool) -> Listing:
    """List the clips and labels of DCASE 2017 Task 4; a clip's source is the YouTube id of its video.

    The test set is the development set (488 clips), or the evaluation set (1,103) with the development set for tuning.
    Validation clips are drawn from the training clips by video (`draw_validation`).

    Parameters
    ----------
    folder : Path
        Audio files lie anywhere below it, and so may the label files.
    download : bool
        Fetch the label files that are neither there nor fetched before.

    Raises
    ------
    DataError
        The folder or a label file is missing, a label file is not the published one, or a row is of a kind that is
        refused.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with the audio of DCASE 2017 Task 4")
    sets = {"training": "training", "tuning": "development", "test": params.test_set}
    if params.test_set == "development":
        del sets["tuning"]
    wanted = [WEAK_FILES[name] for name in sets.values()]
    wanted += [STRONG_FILES[name] for split, name in sets.items() if split != "training"]
    present = files_below(folder)
    found = iter(_label_files(wanted, folder=folder, present=present, download=download))
    weak = {split: _read(next(found), columns=WEAK) for split in sets}
    strong = {split: _read(next(found), columns=STRONG) for split in sets if split != "training"}
    rows = gather(weak, strong)
    refuse_odd_rows(rows, classes=CLASSES, clip_duration=params.clip_duration, folder=folder)

    clips = rows.drop_duplicates("filename").reset_index(drop=True)
    clips["sources"] = clips.filename.str.rsplit("_", n=2).str[0]
    audio = audio_files(clips.filename.tolist(), present)
    clips["path"] = [audio[name][0] if name in audio else "" for name in clips.filename]
    several = clips[[len(audio.get(name, ())) > 1 for name in clips.filename]]
    paths = [f"{name} as {', '.join(audio[name])}" for name in several.filename]
    remarks = [shared_sources(clips), remarks_of(several.assign(kind="two_files", text=paths))]
    clips["split"] = draw_validation(clips, share=params.validation_share, seed=params.validation_seed)
    return make_listing(
        rows, clips, classes=CLASSES, clip_duration=params.clip_duration, audio_folder=folder, remarks=remarks
    )


def clip_names(name: str, *, folder: Path, download: bool) -> list[str]:
    """The clips of one set (a name in `WEAK_FILES`), each once, in the order of its label file.

    `folder` need not exist; it and `download` are those of `list_dcase2017`.

    Raises
    ------
    DataError
        The label file is missing or not the published one.
    """
    [path] = _label_files([WEAK_FILES[name]], folder=folder, present=files_below(folder), download=download)
    return _read(path, columns=WEAK).filename.unique().tolist()


def _label_files(wanted: list[tuple[str, ...]], *, folder: Path, present: list[str], download: bool) -> list[Path]:
    """For each tuple of equivalent names the published file: from the folder, fetched before, or fetched now."""
    lines = [line.split("  ", 1) for line in LABELS_REGISTRY.read_text().splitlines()]
    registry = {address: checksum for checksum, address in lines}
    published = {address.rpartition("/")[2]: (address, checksum) for address, checksum in registry.items()}
    cache = cache_folder("dcase2017_task4")
    found, missing = [], []
    for names in wanted:
        paths = [folder / path for name in names for path in present if path.rpartition("/")[2] == name]
        paths = paths or [cache / published[name][0] for name in names if (cache / published[name][0]).is_file()]
        good = [path for path in paths if hashlib.sha256(path.read_bytes()).hexdigest() == published[path.name][1]]
        if paths and not good:
            raise DataError(
                f"{paths[0]}: not the published file (its SHA-256 is another); often git has changed the line ends "
                "(core.autocrlf): put the published file there, or remove this one and give DOWNLOAD=1"
            )
        if not good and download:
            good = [_fetch(published[names[0]][0], registry, cache, folder)]
        found += good[:1]
        missing += [] if good else [" or ".join(names)]
    if missing:
        raise DataError(f"{folder}: lacks {'; '.join(missing)}; put them there, or give DOWNLOAD=1 to fetch them")
    return found


def _fetch(address: str, registry: dict[str, str], cache: Path, folder: Path) -> Path:
    """Fetch one label file from the public repository, checked against its SHA-256."""
    import pooch  # here, because it greets every notebook with a warning about missing widgets

    fetcher = pooch.create(path=cache, base_url=LABELS_URL, registry=registry, retry_if_failed=DOWNLOAD_RETRIES)
    try:
        return Path(fetcher.fetch(address))
    except (OSError, ValueError) as error:
        raise DataError(f"{LABELS_URL + address}: could not be fetched ({error}); put it into {folder}") from error


def _read(path: Path, *, columns: list[str]) -> pd.DataFrame:
    """Rows of one label file of either form."""
    if path.name not in _CLIP_LIST:
        return read_labels(path, name=path.name, columns=columns)
    pairs = []
    for record in read_records(path)[0]:
        video, start, end, labels, _ = record.fields
        clip = f"{video}_{start}_{end}.wav"
        pairs += [record._replace(fields=[clip, label]) for label in _LABEL_IN_LIST.findall(labels)]
    return rows_of(pairs, name=path.name, columns=columns)


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
