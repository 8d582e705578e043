"""The clips of DCASE 2017 Task 4 in a folder: which are there, and why the others are not.

Conventions: a clip is named as in the label files, ``<video>_<start>_<end>.wav``, start and end in seconds of the
video; its audio is the file ``Y<clip>`` in the folder, or what the user has put there under another name that `labels`
knows. What could not be had is a row of `FAILURES` in that folder (clip, reason, detail, time in UTC).
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from hpsed_lib.data.dcase2017.labels import audio_files
from hpsed_lib.errors import DataError
from hpsed_lib.paths import FAILURES, files_below, replacing

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


class Failure(NamedTuple):
    clip: str
    reason: str  # one of REASONS
    detail: str
    time: str  # UTC


def audio_path(folder: Path, clip: str) -> Path:
    """Where the audio of a clip is, or will be."""
    return folder / f"Y{clip}"


def missing(folder: Path, clips: Iterable[str]) -> list[str]:
    """Clips without an audio file anywhere below `folder`, under any of the names that `labels` takes for theirs."""
    wanted = list(clips)
    there = audio_files(wanted, files_below(folder))
    return [clip for clip in wanted if clip not in there]


def require_space(folder: Path, n_bytes: int) -> None:
    """Refuse to begin what needs more bytes than the disk of `folder` has left."""
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise DataError(
            f"{folder}: up to {n_bytes / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; "
            "name a folder on another disk, fewer sets or a lower rate"
        )


def read_failures(folder: Path) -> dict[str, Failure]:
    """Why clips are not in a folder, by clip; those that are there by now are left out."""
    path = folder / FAILURES
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        failures = [Failure(*row) for row in csv.reader(file)][1:]
    return {failure.clip: failure for failure in failures if not audio_path(folder, failure.clip).is_file()}


def write_failures(folder: Path, failures: Mapping[str, Failure]) -> None:
    """Replace the list of failures of a folder, at once."""
    with replacing(folder / FAILURES) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([Failure._fields, *failures.values()])


def failure_of(clip: str, reason: str, detail: str) -> Failure:
    """The failure of a clip, just now."""
    return Failure(clip, reason, " ".join(detail.split())[:300], datetime.now(UTC).isoformat(timespec="seconds"))
