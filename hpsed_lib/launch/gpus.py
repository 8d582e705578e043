"""A GPU of its own for each run: which GPUs there are, and taking one that no other run has.

A GPU is taken by locking a file of its name in the folder for temporary files, so that a user's runs of every
experiment and every copy of this project on one computer keep out of each other's way; the lock ends with the process,
however that ends. `RUNS_PER_GPU` in the environment lets several runs share each GPU.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

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


def runs_on_gpus() -> int:
    """How many runs may have a GPU at a time; a device that is none of CUDA's counts as one GPU."""
    return max(len(visible_gpus()), 1) * _runs_per_gpu()


def _runs_per_gpu() -> int:
    text = os.environ.get(RUNS_PER_GPU, "1")
    if not text.isdecimal() or int(text) < 1:
        raise ParameterError(f"{RUNS_PER_GPU} must be a whole number above 0, got {text!r}")
    return int(text)


def take_gpu(waiting: Callable[[], None]) -> None:
    """Take a GPU, if there is any, for as long as this process lasts; it and those it starts see this one only.

    If other runs have every GPU, `waiting` is called once, and it waits for one.
    """
    gpus = visible_gpus()
    if gpus and not _lock_one(gpus):
        waiting()
        while not _lock_one(gpus):
            time.sleep(POLL_INTERVAL)


def _lock_one(gpus: list[str]) -> bool:
    """Lock a place on the least shared GPU that has one free, and show this process no other GPU."""
    job = os.environ.get("SLURM_JOB_ID", "")  # an allocation's GPUs are numbered by themselves
    for slot, gpu in itertools.product(range(_runs_per_gpu()), gpus):
        name = f"hpsed-{os.getuid()}-gpu{job}-{re.sub('[^A-Za-z0-9-]', '-', gpu)}-{slot}.lock"
        lock = os.open(Path(tempfile.gettempdir()) / name, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        os.environ[VISIBLE] = gpu
        return True
    return False
