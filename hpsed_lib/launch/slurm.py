"""The jobs of one experiment in Slurm's queue: found by their name, so that none outlives its launch unseen.

Every job that is submitted for an experiment of this copy of the project has a name that begins with `job_prefix`. A
launcher that is killed leaves its jobs behind: the next one cancels them first, and each run goes on from its
checkpoint.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import time

from hpsed_lib.errors import ExecutionError
from hpsed_lib.paths import ROOT

PATIENCE = 120.0  # s for cancelled jobs to end; Slurm itself gives a job 30 s before it kills it


def job_prefix(experiment: str) -> str:
    """What the names of an experiment's jobs begin with: letters, digits, ``-`` and ``_``, at most 50 of them."""
    digest = hashlib.sha256(f"{ROOT}/{experiment}".encode()).hexdigest()[:12]
    return f"hpsed-{re.sub('[^A-Za-z0-9-]', '-', experiment)[:30]}-{digest}"


def queued_jobs(experiment: str) -> list[str]:
    """Ids of the experiment's jobs that are pending, running or ending."""
    names = _slurm("squeue", "--me", "--noheader", "--format=%A %j")
    jobs = dict(line.split(maxsplit=1) for line in names.splitlines())
    return [job for job, name in jobs.items() if name.startswith(f"{job_prefix(experiment)}_")]


def cancel_jobs(experiment: str) -> int:
    """Cancel every job of the experiment, wait for their end and return how many there were."""
    jobs = cancelled = queued_jobs(experiment)
    end = time.monotonic() + PATIENCE
    while jobs:
        if time.monotonic() > end:
            raise ExecutionError(f"jobs of {experiment} do not end though cancelled; see squeue --job={','.join(jobs)}")
        _slurm("scancel", *jobs)  # again: one may have been in the middle of its submission
        time.sleep(1.0)
        jobs = queued_jobs(experiment)
    return len(cancelled)


def _slurm(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
    except FileNotFoundError:
        raise ExecutionError(f"no {command[0]} here: a cluster is used from one of its own hosts") from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise ExecutionError(f"{command[0]} failed: {(error.stderr or error)!s}".strip()) from None
