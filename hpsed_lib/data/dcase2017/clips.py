"""The clips of DCASE 2017 Task 4 in a folder: which are there, and why the others are not.

Conventions: a clip is named as in the label files, ``<video>_<start>_<end>.wav``, start and end in seconds of the
video; its audio is the file ``Y<clip>`` in the folder, as it was published, or what the user has put there under
another name that `labels` knows. A file of ours is whole: it was checked before it got the name. What
could not be had is a row of `FAILURES` in that folder (clip, reason, detail, time in UTC), the newest of each clip;
`REASONS` lists the reasons.
"""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from hpsed_lib.data.dcase2017.labels import audio_files
from hpsed_lib.errors import DataError
from hpsed_lib.paths import FAILURES, files_below, replacing

DETAIL_LENGTH = 300  # characters

REASONS = {
    "gone": "private, removed, or never there",
    "restricted": "needs a login, an age or a country",
    "too short": "the recording ends before the section, or less than a second into it",
    "refused": "the site turned us away (HTTP 403, 429, a check for robots)",
    "unreachable": "no connection, or an error of the server",
    "stalled": "no byte came for too long",
    "incomplete": "ends before it says",
    "unreadable": "no audio in it, or damaged",
    "corrupt": "damaged in the archive",
    "unexpected": "anything else; a newer yt-dlp may know more",
}

_CLIP = re.compile(r"(?P<video>[\w-]{11})_(?P<start>\d+\.\d{3})_(?P<end>\d+\.\d{3})\.wav", re.ASCII)


class Clip(NamedTuple):
    """A section of a video."""

    name: str  # as in the label files
    video: str
    start: float  # s
    end: float  # s


class Failure(NamedTuple):
    """Why a clip is not there."""

    clip: str
    reason: str  # one of REASONS
    detail: str
    time: str  # UTC


def parse_clip(name: str) -> Clip:
    """Take a clip's name apart.

    Raises
    ------
    DataError
        It is not ``<video>_<start>_<end>.wav``, or it ends before it begins.

    Examples
    --------
    >>> parse_clip("-E0sh_RxAbo_30.000_40.000.wav")
    Clip(name='-E0sh_RxAbo_30.000_40.000.wav', video='-E0sh_RxAbo', start=30.0, end=40.0)
    """
    match = _CLIP.fullmatch(name)
    if match is None:
        raise DataError(f"{name!r}: expected the name of a clip, as in -E0sh_RxAbo_30.000_40.000.wav")
    clip = Clip(name, match["video"], float(match["start"]), float(match["end"]))
    if clip.end <= clip.start:
        raise DataError(f"{name!r}: ends before it begins")
    return clip


def audio_path(folder: Path, clip: Clip) -> Path:
    """Where the audio of a clip is, or will be."""
    return folder / f"Y{clip.name}"


def missing(folder: Path, clips: Iterable[Clip]) -> list[Clip]:
    """Clips without an audio file anywhere below `folder`, under any of the names that `dcase2017` takes for theirs."""
    wanted = list(clips)
    there = audio_files([clip.name for clip in wanted], files_below(folder))
    return [clip for clip in wanted if clip.name not in there]


def require_space(folder: Path, n_bytes: int) -> None:
    """Refuse to begin what cannot end.

    Raises
    ------
    DataError
        The disk of `folder` has less than `n_bytes` left.
    """
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise DataError(
            f"{folder}: up to {n_bytes / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; "
            "name a folder on another disk, fewer sets or a lower rate"
        )


def read_failures(folder: Path) -> dict[str, Failure]:
    """Why clips are not in a folder: the newest failure of each that is not there by now, by the clip's name."""
    path = folder / FAILURES
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) == len(Failure._fields)]  # a kill may leave half a row
    return {row[0]: Failure(*row) for row in rows[1:] if not (folder / f"Y{row[0]}").is_file()}


def write_failures(folder: Path, failures: Iterable[Failure]) -> None:
    """Replace the list of failures of a folder."""
    with replacing(folder / FAILURES) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([Failure._fields, *failures])


def failure_of(clip: Clip, reason: str, detail: object) -> Failure:
    """The failure of a clip, just now; `detail` is anything that reads well, an error for one."""
    text = " ".join(str(detail).split())[:DETAIL_LENGTH]
    return Failure(clip.name, reason, text, datetime.now(UTC).isoformat(timespec="seconds"))
