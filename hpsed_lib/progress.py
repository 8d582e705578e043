"""Progress of long work: a bar in JupyterLab and in a terminal, lines in the log of a headless run.

A headless execution names its log in the environment variable `LOG_VARIABLE` and shows its lines in the
terminal, so that nothing of it stays in the executed notebook.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from hpsed_lib.paths import naming_full_disk
from hpsed_lib.processes import end_with_parent

T = TypeVar("T")
LOG_VARIABLE = "HPSED_PROGRESS_LOG"


def is_headless() -> bool:
    """Whether a notebook runs without anybody looking at it."""
    return LOG_VARIABLE in os.environ


def use_large_pages() -> None:
    """Let processes that are started from here on have large pages: large arrays come and go with fewer faults."""
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")


def in_parallel(jobs: Iterable[Any], *, total: int, description: str, batch_size: int) -> Iterator[Any]:
    """Do jobs (`joblib.delayed` calls) on all cores and give their results in order, showing how far it is."""
    from joblib import Parallel  # here, because every execution imports this module

    use_large_pages()
    with warnings.catch_warnings():
        # Workers that had nothing to do for a while end, and others take their place: nothing is lost.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given", category=UserWarning)
        options = {"return_as": "generator", "idle_worker_timeout": 60, "initializer": end_with_parent}
        results = Parallel(n_jobs=-1, batch_size=batch_size, **options)(jobs)
        yield from track(results, total=total, description=description)


def track(items: Iterable[T], *, description: str, total: int | None = None) -> Iterator[T]:
    """Iterate over `items`, `total` of them where they do not know it, showing how far it is and what will be left."""
    log = os.environ.get(LOG_VARIABLE)
    if log is None:
        yield from tqdm(items, desc=description, total=total, leave=False)
        return
    with naming_full_disk(Path(log)), open(log, "a", encoding="utf-8") as file:
        yield from tqdm(items, desc=description, total=total, file=file, mininterval=5, ncols=80, ascii=True)
