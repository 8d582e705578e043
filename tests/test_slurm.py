"""The jobs of an experiment in Slurm's queue, which two scripts play: a file holds its jobs."""

import os
import re

import pytest

from hpsed_lib import paths
from hpsed_lib.errors import ExecutionError
from hpsed_lib.launch import slurm, workflow

PREFIX = slurm.job_prefix("toy")


def play(path, script):
    """Have a script play a program."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def queue(tmp_path, monkeypatch):
    queue = tmp_path / "queue"
    queue.write_text(f"10 {PREFIX}_1\n11 {slurm.job_prefix('toy2')}_2\n12 toy\n13 {PREFIX}_3\n")
    play(tmp_path / "squeue", f"cat {queue}")
    remove = f'for job in "$@"; do grep -v "^$job " {queue} > {queue}.left; mv {queue}.left {queue}; done'
    play(tmp_path / "scancel", remove)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return queue


def jobs_in(queue):
    return [line[:2] for line in queue.read_text().splitlines()]


def test_a_slurm_that_is_not_there_or_fails_or_ends_no_job_is_named(queue, monkeypatch):
    assert slurm.queued_jobs("toy") == ["10", "13"]
    play(queue.parent / "scancel", "")
    monkeypatch.setattr(slurm, "PATIENCE", 0.5)
    with pytest.raises(ExecutionError, match=r"jobs of toy do not end .* squeue --job=10,13"):
        slurm.cancel_jobs("toy")
    play(queue.parent / "squeue", "echo 'cannot contact controller' >&2; exit 1")
    with pytest.raises(ExecutionError, match="squeue failed: cannot contact controller"):
        slurm.queued_jobs("toy")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ExecutionError, match="no squeue here: a cluster is used from one of its own hosts"):
        slurm.queued_jobs("toy")


def test_jobs_of_an_earlier_launch_end_before_and_own_ones_after(queue, monkeypatch, capsys):
    log = queue.parent / "log"  # Snakemake's arguments and the queue that it finds; it leaves a job behind
    script = f'echo "$@" > {log}; cat {queue} >> {log}; echo "14 {PREFIX}_4" >> {queue}; exit 1'
    monkeypatch.setattr(workflow.sys, "executable", play(queue.parent / "snakemake", script))
    assert workflow.reproduce("toy", {}, cluster="slurm", cores=7) == 1
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,50}", PREFIX)  # as the executor takes it
    called, *found = log.read_text().splitlines()
    assert [line[:2] for line in found] == jobs_in(queue) == ["11", "12"]  # and no others' jobs
    assert f"--workflow-profile workflow/profiles/slurm --slurm-jobname-prefix {PREFIX} --jobs 7" in called
    assert "cancelled 2 jobs that an earlier launch had left" in capsys.readouterr().err


@pytest.mark.parametrize("is_there", [True, False])
def test_a_local_launch_ends_what_is_left_on_a_cluster(queue, monkeypatch, is_there):
    monkeypatch.setattr(workflow.sys, "executable", play(queue.parent / "snakemake", ""))
    jobs = queue.read_text()
    assert workflow.reproduce("toy", {}, cluster="slurm") == 0
    queue.write_text(jobs)
    if not is_there:
        monkeypatch.setenv("PATH", "")
    assert workflow.reproduce("toy", {}) == 0
    assert ("10" in jobs_in(queue)) != is_there
