"""The jobs of an experiment in Slurm's queue, which two scripts play: a file holds its jobs."""

import os
import re
import shutil
from pathlib import Path

import pytest

from hpsed_lib import paths
from hpsed_lib.errors import ExecutionError
from hpsed_lib.launch import slurm, workflow


@pytest.fixture
def queue(tmp_path, monkeypatch) -> Path:
    queue = tmp_path / "queue"
    queue.write_text("")
    scripts = {
        "squeue": f"cat {queue}",
        "scancel": f'for job in "$@"; do grep -v "^$job " {queue} > {queue}.left; mv {queue}.left {queue}; done'
        f'; echo "$@" >> {tmp_path}/cancelled',
    }
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return queue


def test_only_the_experiments_own_jobs_are_cancelled(queue):
    names = [f"{slurm.job_prefix('toy')}_1", f"{slurm.job_prefix('toy2')}_2", "toy", f"{slurm.job_prefix('toy')}_3"]
    queue.write_text("".join(f"{job} {name}\n" for job, name in enumerate(names, start=10)))
    assert slurm.queued_jobs("toy") == ["10", "13"]
    assert slurm.cancel_jobs("toy") == 2
    assert (queue.parent / "cancelled").read_text() == "10 13\n"
    assert slurm.cancel_jobs("toy") == 0


def test_a_job_that_does_not_end_is_named(queue, monkeypatch):
    (queue.parent / "scancel").write_text("#!/bin/sh\n")
    queue.write_text(f"12 {slurm.job_prefix('toy')}_1\n")
    monkeypatch.setattr(slurm, "PATIENCE", 1.5)
    with pytest.raises(ExecutionError, match=r"jobs of toy do not end .* squeue --job=12"):
        slurm.cancel_jobs("toy")


def test_no_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExecutionError, match="no squeue here: a cluster is used from one of its own hosts"):
        slurm.queued_jobs("toy")


def test_a_failing_slurm_says_why(queue):
    (queue.parent / "squeue").write_text("#!/bin/sh\necho 'cannot contact controller' >&2\nexit 1\n")
    with pytest.raises(ExecutionError, match="squeue failed: cannot contact controller"):
        slurm.queued_jobs("toy")


@pytest.mark.parametrize("name", ["quick", "x" * 200, "two words.and/more"])
def test_names_are_what_the_executor_takes(name):
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,50}", slurm.job_prefix(name))


def test_jobs_of_an_earlier_launch_end_before_and_own_ones_after(queue, monkeypatch, capsys):
    monkeypatch.setattr(paths, "ROOT", queue.parent)
    prefix = slurm.job_prefix("toy")
    queue.write_text(f"10 {prefix}_1\n")
    # plays Snakemake: it notes its arguments and the queue that it finds, and leaves a job behind
    played = queue.parent / "snakemake"
    script = f'echo "$@" > {played}.log; cat {queue} >> {played}.log; echo "11 {prefix}_2" >> {queue}; exit 1'
    played.write_text(f"#!/bin/sh\n{script}\n")
    played.chmod(0o755)
    monkeypatch.setattr(workflow.sys, "executable", str(played))
    assert workflow.reproduce("toy", {}, cluster="slurm", cores=7) == 1
    called, *found = Path(f"{played}.log").read_text().splitlines()
    assert found == []
    assert f"--workflow-profile workflow/profiles/slurm --nolock --slurm-jobname-prefix {prefix} --jobs 7" in called
    assert slurm.queued_jobs("toy") == []
    assert "cancelled 1 jobs that an earlier launch had left" in capsys.readouterr().err


@pytest.mark.parametrize("is_there", [True, False])
def test_a_local_launch_ends_what_is_left_on_a_cluster(queue, monkeypatch, is_there):
    monkeypatch.setattr(paths, "ROOT", queue.parent)
    monkeypatch.setattr(workflow.sys, "executable", shutil.which("true"))
    assert workflow.reproduce("toy", {}, cluster="slurm") == 0
    job = f"10 {slurm.job_prefix('toy')}_1\n"
    queue.write_text(job)
    if not is_there:
        monkeypatch.setenv("PATH", "")
    assert workflow.reproduce("toy", {}) == 0
    assert queue.read_text() == ("" if is_there else job)
