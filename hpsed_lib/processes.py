"""Processes that end with whoever started them, and locks that end with the process that holds them."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from hpsed_lib.errors import ExecutionError
from hpsed_lib.paths import ROOT

LAUNCHER = "HPSED_LAUNCHER_PID"  # "pid", or "pid@place", of the process this one must not outlive
POLL_INTERVAL = 0.2  # s


def end_with_launcher() -> None:
    """End this process, and all that it started, as soon as the process named in `LAUNCHER` is gone.

    Without that variable, or if it names a process of another host or outside of this job of a cluster, nothing is
    watched. Processes started from here then watch this one.
    """
    here = f"{socket.gethostname()}/{os.environ.get('SLURM_JOB_ID', '')}"
    pid, _, place = os.environ.get(LAUNCHER, "").partition("@")
    if pid and place in ("", here):
        threading.Thread(target=_watch, args=(int(pid),), daemon=True).start()
    os.environ[LAUNCHER] = f"{os.getpid()}@{here}"


def end_with_parent() -> None:
    """End this process as soon as its parent is gone: a worker must not outlive a kernel that was killed."""
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        launcher = psutil.Process(pid)
        while launcher.is_running() and launcher.status() != psutil.STATUS_ZOMBIE:
            time.sleep(POLL_INTERVAL)
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            kill_family(child)
    os._exit(1)


def kill_family(process: psutil.Process) -> None:
    """Kill a process and every one that descends from it."""
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()


@contextlib.contextmanager
def only_one(lock: Path, waiting: Callable[[str], None], *, patience: float = math.inf) -> Iterator[None]:
    """Hold `lock` exclusively; while another process holds it, call `waiting` once with its id and host and wait.

    The lock ends with the process, however that ends. After `patience` seconds of waiting it is an `ExecutionError`.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "a+", encoding="utf-8") as file:
        for attempt in itertools.count():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip()
            if attempt == 1:  # at the first, `is_held` may have had it for an instant
                waiting(holder)
            if attempt * POLL_INTERVAL >= patience:
                raise ExecutionError(f"process {holder} still holds {os.path.relpath(lock, ROOT)}")
            time.sleep(POLL_INTERVAL)
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def is_held(lock: Path) -> bool:
    """Whether a process holds `lock` (see `only_one`), on this host or on another that shares the file system."""
    try:
        with open(lock, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
