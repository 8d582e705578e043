"""GPUs of its own for each run: which GPUs there are, and taking one, or several, that no other run has.

A GPU is taken by locking a file of its name in the folder for temporary files, so that a user's runs of every
experiment and every copy of this project on one computer keep out of each other's way; the lock ends with the process,
however that ends. `RUNS_PER_GPU` in the environment lets several runs share each GPU.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from hpsed_lib.errors import ParameterError

VISIBLE = "CUDA_VISIBLE_DEVICES"
RUNS_PER_GPU = "HPSED_RUNS_PER_GPU"
POLL_INTERVAL = 1.0  # s


def visible_gpus() -> list[str]:
    """Names of the CUDA devices that may be used: those of ``CUDA_VISIBLE_DEVICES``, or all that nvidia-smi lists."""
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(index) for index, _ in enumerate(re.findall(r"^GPU \d+:", listed, flags=re.MULTILINE))]


def is_gpu_here() -> bool:
    """Whether a device chosen by itself (``auto``) is a GPU: one of CUDA, or that of an Apple processor."""
    return bool(visible_gpus()) or (platform.system(), platform.machine()) == ("Darwin", "arm64")


def runs_per_gpu() -> int:
    """How many runs may share a GPU: 1, unless the environment variable `RUNS_PER_GPU` says otherwise.

    Raises
    ------
    ParameterError
        It is no whole number above 0.
    """
    text = os.environ.get(RUNS_PER_GPU, "1")
    if not text.isdecimal() or int(text) < 1:
        raise ParameterError(f"{RUNS_PER_GPU} must be a whole number above 0, got {text!r}")
    return int(text)


def require_gpus(count: int, gpus: list[str]) -> None:
    """Refuse a run of more processes than there are GPUs, of the names given."""
    if count > len(gpus):
        raise ParameterError(
            f"training.processes is {count}, and the GPUs here are {len(gpus)} ({', '.join(gpus)}): each process takes "
            "one; set it to as many or fewer"
        )


@contextlib.contextmanager
def own_gpus(count: int, waiting: Callable[[], None]) -> Iterator[list[str]]:
    """Take GPUs for this process and those it starts from now on: all of them at once, or none.

    Parameters
    ----------
    count : int
        GPUs, 1 or more.
    waiting : callable
        Called once if there are not as many that no other run has; then it waits for them.

    Yields
    ------
    list of str
        The GPUs' names, or nothing where there is no GPU.

    Raises
    ------
    ParameterError
        There are GPUs, and fewer than `count`.
    """
    gpus = visible_gpus()
    if not gpus:
        yield []
        return
    require_gpus(count, gpus)
    told = False
    while not (taken := _take(gpus, count)):
        if not told:
            waiting()
            told = True
        time.sleep(POLL_INTERVAL)
    with contextlib.ExitStack() as locks:
        for lock in taken.values():
            locks.enter_context(lock)
        before = os.environ.get(VISIBLE)
        os.environ[VISIBLE] = ",".join(taken)
        try:
            yield list(taken)
        finally:
            del os.environ[VISIBLE]
            if before is not None:
                os.environ[VISIBLE] = before


def _take(gpus: list[str], count: int) -> dict[str, TextIO]:
    """Lock a place on each of `count` GPUs that have one free, the least shared first; or on none."""
    taken: dict[str, TextIO] = {}
    with _lock_file("gpus") as door:
        fcntl.flock(door, fcntl.LOCK_EX)  # one run looks at a time: of two, neither takes what the other one lacks
        for slot in range(runs_per_gpu()):
            for gpu in gpus:
                if gpu in taken or len(taken) == count:
                    continue
                job = os.environ.get("SLURM_JOB_ID", "")  # an allocation's GPUs are numbered by themselves
                lock = _lock_file(f"gpu{job}-{re.sub('[^A-Za-z0-9-]', '-', gpu)}-{slot}")
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    taken[gpu] = lock
                except BlockingIOError:
                    lock.close()
        if len(taken) == count:
            return taken
        for lock in taken.values():
            lock.close()
    return {}


def _lock_file(name: str) -> TextIO:
    return open(Path(tempfile.gettempdir()) / f"hpsed-{os.getuid()}-{name}.lock", "a")
