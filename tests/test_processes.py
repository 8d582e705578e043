"""Processes that end with their launcher. Locks: test_status, test_execution."""

import os
import socket
import subprocess
import sys

import pytest

from hpsed_lib.paths import ROOT


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
