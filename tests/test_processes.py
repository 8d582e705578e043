"""Processes that end with their launcher, and locks that are seen."""

import fcntl
import os
import socket
import subprocess
import sys

import pytest

from hpsed_lib.paths import ROOT
from hpsed_lib.processes import is_held


@pytest.mark.parametrize(("job", "lives"), [("", False), ("17", True)], ids=["same place", "job of a cluster"])
def test_only_a_launcher_in_the_same_place_is_watched(job, lives):
    gone = subprocess.Popen(["true"])
    gone.wait()
    code = "import time; from hpsed_lib import processes as e; e.end_with_launcher(); time.sleep(1); print('alive')"
    given = os.environ | {"HPSED_LAUNCHER_PID": f"{gone.pid}@{socket.gethostname()}/", "SLURM_JOB_ID": job}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=given, capture_output=True, text=True, timeout=60
    )
    assert ended.stdout == ("alive\n" if lives else ""), ended.stderr


def test_a_lock_is_seen_and_left_alone(tmp_path):
    lock = tmp_path / "run.lock"
    assert not is_held(lock)
    assert not lock.exists()
    with open(lock, "w") as file:
        assert not is_held(lock)
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_held(lock)
    assert not is_held(lock)
