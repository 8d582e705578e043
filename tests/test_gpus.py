"""Who gets which GPU, with devices that are only named: no GPU is needed to share them out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpsed_lib import gpus
from hpsed_lib.errors import ParameterError
from hpsed_lib.gpus import one_gpu, runs_per_gpu, visible_gpus

HOLD = """
import os, sys, time
from hpsed_lib.gpus import one_gpu
with one_gpu(lambda: print("waiting", flush=True)) as gpu:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu
    print(gpu, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("HPSED_RUNS_PER_GPU", raising=False)


def hold(**environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_each_run_has_a_gpu_of_its_own_and_the_next_one_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, MIG-8a1/0")
    runs: list[subprocess.Popen] = []
    try:
        runs += [hold()]
        assert said(runs[0]) == "2"
        runs += [hold()]
        assert said(runs[1]) == "MIG-8a1/0"
        runs += [hold()]
        assert said(runs[2]) == "waiting"
        runs[0].kill()  # a lock ends with its process
        assert said(runs[2]) == "2"
    finally:
        for run in runs:
            run.kill()
            run.wait()


def test_several_runs_share_a_gpu_if_asked_and_spread_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    runs: list[subprocess.Popen] = []
    taken = []
    try:
        for _ in range(4):
            runs += [hold(HPSED_RUNS_PER_GPU="2")]
            taken += [said(runs[-1])]
    finally:
        for run in runs:
            run.kill()
            run.wait()
    assert taken == ["0", "1", "0", "1"]


def test_without_a_gpu_nothing_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with one_gpu(pytest.fail) as gpu:
        assert gpu is None


def test_allocations_that_both_call_their_gpu_0_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    runs = []
    try:
        for job in ("7", "8", "8"):
            runs.append(hold(SLURM_JOB_ID=job))
            assert said(runs[-1]) == ("0" if len(runs) < 3 else "waiting")
    finally:
        for run in runs:
            run.kill()
            run.wait()


def test_what_was_visible_before_is_visible_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    with pytest.raises(KeyboardInterrupt), one_gpu(pytest.fail):
        raise KeyboardInterrupt
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,4"


def test_nvidia_smi_says_which_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA A (UUID: x)'\necho 'GPU 1: NVIDIA B (UUID: y)'\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program.chmod(0o755)
    assert visible_gpus() == ["0", "1"]
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", ""])
def test_a_number_of_runs_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPSED_RUNS_PER_GPU", text)
    with pytest.raises(ParameterError, match=gpus.RUNS_PER_GPU):
        runs_per_gpu()
