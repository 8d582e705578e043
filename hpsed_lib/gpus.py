"""One GPU for each run: which GPUs there are, and taking one that no other run has.

A GPU is taken by locking a file of its name in the folder for temporary files, so that a user's runs of every
experiment and every copy of this project on one computer keep out of each other's way; the lock ends with the process,
however that ends. `RUNS_PER_GPU` in the environment lets several runs share each GPU.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
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
def one_gpu(waiting: Callable[[], None]) -> Iterator[str | None]:
    """Take a GPU for this process and those it starts from now on; while every GPU is taken, call `waiting` once, wait.

    Yields the GPU's name, or None where there is none.
    """
    gpus = visible_gpus()
    if not gpus:
        yield None
        return
    slots = [(gpu, slot) for slot in range(runs_per_gpu()) for gpu in gpus]
    told = False
    while True:
        for gpu, slot in slots:
            job = os.environ.get("SLURM_JOB_ID", "")  # an allocation's GPUs are numbered by themselves
            name = f"hpsed-{os.getuid()}-gpu{job}-{re.sub('[^A-Za-z0-9-]', '-', gpu)}-{slot}.lock"
            with open(Path(tempfile.gettempdir()) / name, "a") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                before = os.environ.get(VISIBLE)
                os.environ[VISIBLE] = gpu
                try:
                    yield gpu
                finally:
                    del os.environ[VISIBLE]
                    if before is not None:
                        os.environ[VISIBLE] = before
                return
        if not told:
            waiting()
            told = True
        time.sleep(POLL_INTERVAL)
