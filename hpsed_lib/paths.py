"""Where things lie: one place that knows the folders of this repository.

``cache/`` holds what can be made again (soundscapes, features, checkpoints) and ``reproduced/`` what notebooks that ran
here found out; neither is committed. ``results/`` holds what is published, and no run writes there.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from hpsed_lib.errors import DataError

ROOT = Path(__file__).resolve().parents[1]
PARAMS = ROOT / "params"
NOTEBOOKS = ROOT / "notebooks"
FAILURES = "failures.csv"  # beside recordings: which of them could not be fetched, and why
MARK = "unfinished"  # in the names of temporary files
NOTES = "cache/kept"  # of the files in cache/ and reproduced/, under the same paths: their SHA-256


def cache_folder(experiment: str) -> Path:
    """Folder of everything of one experiment that can be made again."""
    return ROOT / "cache" / experiment


def results_folder(experiment: str) -> Path:
    """Folder of one experiment's outcomes, as they were reproduced here: notebooks, metrics, tables, figures."""
    return ROOT / "reproduced" / experiment


def published_folder(experiment: str) -> Path:
    """Folder of one experiment's published outcomes, in the same layout."""
    return ROOT / "results" / experiment


def files_below(folder: Path) -> list[str]:
    """Every file below a folder, relative to it, sorted; linked folders are entered, each folder once."""
    found, entered = [], set()
    for here, subfolders, names in os.walk(folder, followlinks=True):
        subfolders.sort()
        if (real := os.path.realpath(here)) in entered:
            subfolders.clear()
            continue
        entered.add(real)
        inside = Path(here).relative_to(folder).as_posix()
        found += names if inside == "." else [f"{inside}/{name}" for name in names]
    return sorted(found)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _note(path: Path) -> Path | None:
    """Where the digest of a file is noted that a later launch may rest on."""
    path = path.absolute()
    is_kept = path.is_relative_to(ROOT / "cache") or path.is_relative_to(ROOT / "reproduced")
    return ROOT / NOTES / path.relative_to(ROOT) if is_kept else None


def note_digest(path: Path, written: Path | None = None) -> None:
    """Note the digest of a file that is there, or `written` and not yet in its place, if it is one that is kept.

    The one noted before stays beside it, for a kill may come before the new file is in its place.
    """
    if note := _note(path):
        note.parent.mkdir(parents=True, exist_ok=True)
        before = note.read_text(encoding="utf-8").split()[-1:] if note.is_file() else []
        note.write_text(" ".join([*before, digest(written or path)]), encoding="utf-8")


def forget_digest(path: Path) -> None:
    """Let a file be changed in its place."""
    if note := _note(path):
        note.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Content of a JSON file; a `DataError` that names it, if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        again = f"git checkout -- {path}" if path.is_relative_to(ROOT / "results") else "`make reproduce` again"
        raise DataError(f"{path} is damaged ({error}); {again} mends it") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it takes `path`'s place at once, on failure it is removed.

    Its digest is noted first (`note_digest`).

    A reader, or a run resumed after a kill or a full disk, sees the whole old file or the whole new one. What killed
    processes have left in the folder is removed when a process first writes there: theirs of this host at once, those
    of another one, which nobody here can ask about, when they are a day old. A full disk is a `DataError`.
    """
    temporary = path.with_name(f".{path.stem}.{MARK}.{socket.gethostname()}.{os.getpid()}{path.suffix}")
    with naming_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent)
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            note_digest(path, temporary)
            os.replace(temporary, path)
        except RuntimeError:  # torch.save's words for a full disk: does it take more?
            with open(temporary, "ab") as file:
                file.write(bytes(1 << 20))
                file.flush()
                os.fsync(file.fileno())
            raise
        finally:
            temporary.unlink(missing_ok=True)


@functools.cache  # once for each folder: it may hold as many files as there are clips
def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of `replacing` whose process is no more, as far as this host can know."""
    names = (re.fullmatch(rf"\..+\.{MARK}\.(.+)\.(\d+)(\.[^.]*)?", name) for name in os.listdir(folder))
    for found in filter(None, names):
        file, (host, pid, _) = folder / found[0], found.groups()
        with suppress(FileNotFoundError):  # another process removes it too
            here = host == socket.gethostname()
            if not psutil.pid_exists(int(pid)) if here else time.time() - file.stat().st_mtime > 24 * 3600:
                file.unlink()


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Turn the error of a full disk, or of a used-up quota, into a `DataError` that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{path}: {error.strerror}; make room and give the same command again") from error
        raise
