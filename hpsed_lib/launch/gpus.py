"""A GPU of its own for each run: which GPUs there are, and taking one that no other run has.

A GPU is taken by locking a file of its name in the folder for temporary files, so that a user's runs of every
experiment and every copy of this project on one computer keep out of each other's way; the lock ends with the process,
however that ends. `RUNS_PER_GPU` in the environment lets several runs share each GPU.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
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


@contextlib.contextmanager
def own_gpu(waiting: Callable[[], None]) -> Iterator[str]:
    """Take a GPU for this process and those it starts from now on.

    Parameters
    ----------
    waiting : callable
        Called once if other runs have every GPU; then it waits for one.

    Yields
    ------
    str
        The GPU's name, or nothing where there is no GPU.
    """
    gpus = visible_gpus()
    if not gpus:
        yield ""
        return
    if (taken := _take(gpus)) is None:
        waiting()
        while (taken := _take(gpus)) is None:
            time.sleep(POLL_INTERVAL)
    gpu, lock = taken
    before = os.environ.get(VISIBLE)
    with lock:
        os.environ[VISIBLE] = gpu
        try:
            yield gpu
        finally:
            del os.environ[VISIBLE]
            if before is not None:
                os.environ[VISIBLE] = before


def _take(gpus: list[str]) -> tuple[str, TextIO] | None:
    """Lock a place on the least shared GPU that has one free."""
    job = os.environ.get("SLURM_JOB_ID", "")  # an allocation's GPUs are numbered by themselves
    for slot, gpu in itertools.product(range(runs_per_gpu()), gpus):
        name = f"hpsed-{os.getuid()}-gpu{job}-{re.sub('[^A-Za-z0-9-]', '-', gpu)}-{slot}.lock"
        lock = open(Path(tempfile.gettempdir()) / name, "a")  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return gpu, lock
        except BlockingIOError:
            lock.close()
    return None
