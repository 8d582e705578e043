"""Who gets which GPU, with devices that are only named: no GPU is needed to share them out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpsed_lib.errors import ParameterError
from hpsed_lib.launch import gpus
from hpsed_lib.launch.gpus import is_gpu_here, own_gpu, runs_per_gpu, visible_gpus

HOLD = """
import os, time
from hpsed_lib.launch.gpus import own_gpu
with own_gpu(lambda: print("waiting", flush=True)) as gpu:
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


@pytest.mark.parametrize(
    ("system", "machine", "visible", "expected"),
    [
        ("Darwin", "arm64", "", True),
        ("Darwin", "x86_64", "", False),
        ("Linux", "aarch64", "", False),
        ("Linux", "x86_64", "0", True),
    ],
)
def test_a_gpu_that_auto_would_take(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, visible: str, expected: bool
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert is_gpu_here() == expected


@pytest.fixture
def hold() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a process that takes a GPU and keeps it until the test ends."""
    holders: list[subprocess.Popen] = []

    def start(**environment: str) -> subprocess.Popen:
        holders.append(
            subprocess.Popen(
                [sys.executable, "-c", HOLD], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
            )
        )
        return holders[-1]

    yield start
    for holder in holders:
        holder.kill()
        holder.wait()


def said(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_each_run_has_a_gpu_of_its_own_and_the_next_one_waits(
    monkeypatch: pytest.MonkeyPatch, hold: Callable[..., subprocess.Popen]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, MIG-8a1/0")
    first = hold()
    assert said(first) == "2"
    assert said(hold()) == "MIG-8a1/0"
    third = hold()
    assert said(third) == "waiting"
    first.kill()  # a lock ends with its process
    assert said(third) == "2"


def test_several_runs_share_a_gpu_if_asked_and_spread_first(
    monkeypatch: pytest.MonkeyPatch, hold: Callable[..., subprocess.Popen]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert [said(hold(HPSED_RUNS_PER_GPU="2")) for _ in range(4)] == ["0", "1", "0", "1"]


def test_without_a_gpu_nothing_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with own_gpu(pytest.fail) as gpu:
        assert gpu == ""


def test_allocations_that_both_call_their_gpu_0_do_not_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch, hold: Callable[..., subprocess.Popen]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert [said(hold(SLURM_JOB_ID=job)) for job in ("7", "8", "8")] == ["0", "0", "waiting"]


def test_what_was_visible_before_is_visible_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    with pytest.raises(KeyboardInterrupt), own_gpu(pytest.fail):
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
