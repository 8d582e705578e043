"""Where things lie: one place that knows the folders of this repository.

``cache/`` holds what can be made again (soundscapes, features, checkpoints) and is never committed; ``results/`` holds
what the notebooks found out and is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARAMS = ROOT / "params"
NOTEBOOKS = ROOT / "notebooks"
FAILURES = "failures.csv"  # beside recordings: which of them could not be fetched, and why


def cache_folder(experiment: str) -> Path:
    """Folder of everything of one experiment that can be made again."""
    return ROOT / "cache" / experiment


def results_folder(experiment: str) -> Path:
    """Folder of one experiment's outcomes: notebooks, metrics, tables, figures."""
    return ROOT / "results" / experiment


def files_below(folder: Path) -> list[str]:
    """Every file below a folder, relative to it, sorted; linked folders are entered, each folder once."""
    found, entered = [], set()
    for here, subfolders, names in os.walk(folder, followlinks=True):
        subfolders.sort()
        real = os.path.realpath(here)
        if real in entered:
            subfolders.clear()
            continue
        entered.add(real)
        inside = Path(here).relative_to(folder).as_posix()
        found += names if inside == "." else [f"{inside}/{name}" for name in names]
    return sorted(found)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it takes `path`'s place at once, on failure it is removed.

    A reader, or a run resumed after a kill or a full disk, sees the whole old file or the whole new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
