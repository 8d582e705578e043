"""ESC-10 and ESC-50: finding the recordings, fetching them on request, cutting events out of them.

Both published layouts load: class folders of Ogg files (ESC-10's repository: ``001 - Dog bark/1-100032-A.ogg``, fold,
Freesound's number and take), and ``meta/esc50.csv`` beside ``audio/*.wav`` (ESC-50's). Labels are ESC-50's category
names with a capital and spaces ("Sea waves"), whichever layout they came from. Folds share no source recording.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import librosa
import numpy as np
import pandas as pd

from hpsed_lib.data.audio import read_audio
from hpsed_lib.data.download import fetch_published, read_registry
from hpsed_lib.errors import DataError

ESC10_COMMIT = "553c8f1743b9dba6b282e1323c3ca8fa76923448"
ESC10_URL = f"https://raw.githubusercontent.com/karolpiczak/ESC-10/{ESC10_COMMIT}/"
ESC10_REGISTRY = Path(__file__).with_name("esc10_sha256.txt")
ESC10_NAMES = {  # ESC-10's folder names -> ESC-50's categories
    "Dog bark": "Dog",
    "Rain": "Rain",
    "Sea waves": "Sea waves",
    "Baby cry": "Crying baby",
    "Clock tick": "Clock tick",
    "Person sneeze": "Sneezing",
    "Helicopter": "Helicopter",
    "Chainsaw": "Chainsaw",
    "Rooster": "Rooster",
    "Fire crackling": "Crackling fire",
}
_OGG_PATH = re.compile(r"\d{3} - (?P<label>.+)/(?P<fold>[1-5])-\d+-[A-Z]\d*\.ogg")


class Recording(NamedTuple):
    """One recording of ESC-10 or ESC-50."""

    path: Path
    event_label: str
    fold: int

    @property
    def source(self) -> str:
        """Freesound's number of the recording that this one was cut from."""
        return self.path.name.split("-")[1]


def find_recordings(folder: Path, *, subset: str) -> list[Recording]:
    """List the recordings of `subset` (esc10 or esc50, all its classes), sorted by label and file name."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with ESC-10 or ESC-50")
    table = folder / "meta" / "esc50.csv"
    found = _from_table(folder, table) if table.is_file() else _from_class_folders(folder)
    if not found:
        raise DataError(f"{folder}: neither class folders ('001 - Dog bark') of Ogg files nor meta/esc50.csv in it")
    if subset == "esc10":
        found = [recording for recording in found if recording.event_label in ESC10_NAMES.values()]
    n_expected = 10 if subset == "esc10" else 50
    labels = sorted({recording.event_label for recording in found})
    if len(labels) != n_expected:
        raise DataError(f"{folder}: {subset} has {n_expected} classes, found {len(labels)}: {', '.join(labels)}")
    return sorted(found, key=lambda recording: (recording.event_label, recording.path.name))


def _from_class_folders(folder: Path) -> list[Recording]:
    found = []
    for path in folder.glob("*/*.ogg"):
        match = _OGG_PATH.fullmatch(path.relative_to(folder).as_posix())
        if match is None:
            raise DataError(f"{path}: expected '<number> - <class>/<fold>-<freesound id>-<take>.ogg'")
        found.append(Recording(path, ESC10_NAMES.get(match["label"], match["label"]), int(match["fold"])))
    return found


def _from_table(folder: Path, table: Path) -> list[Recording]:
    rows = pd.read_csv(table)
    if missing := {"filename", "fold", "category"} - set(rows.columns):
        raise DataError(f"{table}: lacks the column(s) {', '.join(sorted(missing))}")
    found = []
    for row in rows.itertuples():
        path = folder / "audio" / row.filename
        if not path.is_file():
            raise DataError(f"{table} names {path}, which does not exist")
        found.append(Recording(path, row.category.replace("_", " ").capitalize(), int(row.fold)))
    return found


def download_esc10(folder: Path) -> Path:
    """Fetch what is not there of ESC-10 (about 30 MB) from its public repository (`fetch_published`); its folder."""
    fetch_published(ESC10_URL, read_registry(ESC10_REGISTRY), folder)
    return folder


@lru_cache(maxsize=512)
def _active_intervals(path: Path, sr: int) -> tuple[np.ndarray, np.ndarray]:
    """A recording and its active runs (samples): louder than 35 dB below its loudest, gaps under 0.3 s bridged."""
    y = read_audio(path, sr=sr).y
    edges = librosa.effects.split(y, top_db=35, frame_length=1024, hop_length=256).ravel()
    gaps = edges[1:-1].reshape(-1, 2)
    gaps = gaps[np.diff(gaps)[:, 0] >= 0.3 * sr]
    return y, np.concatenate([edges[:1], gaps.ravel(), edges[-1:]]).reshape(-1, 2)


def cut_event(
    recording: Recording, *, duration: tuple[float, float], sr: int, rng: np.random.Generator
) -> np.ndarray | None:
    """Cut one event out of a recording; None if it has no active run of ``duration[0]`` seconds.

    A run that long is drawn, and of it a place of a length drawn in `duration`. Both ends get a 10 ms fade.
    """
    y, runs = _active_intervals(recording.path, sr)
    runs = runs[np.diff(runs, axis=1)[:, 0] >= duration[0] * sr]
    if len(runs) == 0:
        return None
    start, end = runs[rng.integers(len(runs))]
    length = min(end - start, round(rng.uniform(*duration) * sr))
    start = rng.integers(start, end - length + 1)
    fade = np.minimum(np.arange(length) / (0.01 * sr), 1)
    return (y[start : start + length] * fade * fade[::-1]).astype(np.float32)
