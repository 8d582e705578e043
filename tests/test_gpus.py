"""Who gets which GPU, with devices that are only named: no GPU is needed to share them out."""

import os
import subprocess
import sys

import pytest

from hpsed_lib.errors import ParameterError
from hpsed_lib.launch import gpus

TAKE = """
import os, time
from hpsed_lib.launch.gpus import take_gpu
take_gpu(lambda: print("waiting", flush=True))
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
time.sleep(600)
"""


@pytest.fixture
def take(tmp_path):
    """Start a process that takes a GPU and keeps it until the test ends."""
    takers = []
    here = os.environ | {"TMPDIR": str(tmp_path), "SLURM_JOB_ID": "", "HPSED_RUNS_PER_GPU": "1"}

    def start(visible, **environment):
        environment = here | environment | {"CUDA_VISIBLE_DEVICES": visible}
        command = [sys.executable, "-c", TAKE]
        takers.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        return takers[-1]

    yield start
    for taker in takers:
        taker.kill()
        taker.communicate()


def said(process):
    return process.stdout.readline().strip()


def test_a_gpu_that_auto_would_take(monkeypatch):
    cases = {("Darwin", "arm64", ""), ("Darwin", "x86_64", ""), ("Linux", "aarch64", ""), ("Linux", "x86_64", "0")}
    found = set()
    for system, machine, visible in cases:
        monkeypatch.setattr("platform.system", lambda system=system: system)
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        found |= {(system, machine)} if gpus.is_gpu_here() else set()
    assert found == {("Darwin", "arm64"), ("Linux", "x86_64")}


def test_each_run_has_a_gpu_of_its_own_and_the_next_one_waits(take):
    visible = "2, MIG-8a1/0"
    first = take(visible)
    assert said(first) == "2"
    assert said(take(visible)) == "MIG-8a1/0"
    third = take(visible)
    assert said(third) == "waiting"
    first.kill()  # a lock ends with its process
    assert said(third) == "2"


@pytest.mark.parametrize(
    ("visible", "environments", "expected"),
    [
        ("0,1", [{"HPSED_RUNS_PER_GPU": "2"}] * 4, ["0", "1", "0", "1"]),  # shared if asked, and spread first
        ("0", [{"SLURM_JOB_ID": job} for job in "788"], ["0", "0", "waiting"]),  # both allocations call theirs 0
        ("", [{}, {}], ["", ""]),
    ],
)
def test_who_takes_which(take, visible, environments, expected):
    assert [said(take(visible, **environment)) for environment in environments] == expected


def test_nvidia_smi_says_which_there_are(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible_gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA A (UUID: x)'\necho 'GPU 1: NVIDIA B (UUID: y)'\n")
    program.chmod(0o755)
    assert gpus.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("HPSED_RUNS_PER_GPU", "3")
    assert gpus.runs_on_gpus() == 6
    monkeypatch.setenv("HPSED_RUNS_PER_GPU", "two")
    with pytest.raises(ParameterError, match="HPSED_RUNS_PER_GPU must be a whole number above 0, got 'two'"):
        gpus.runs_on_gpus()
