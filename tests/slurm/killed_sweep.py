"""A sweep on a Slurm cluster loses a job, its launcher and a launcher again, and ends with the numbers of a local one.

``make slurm`` runs it on a cluster of this machine's own (``tests/slurm/cluster``). The smallest experiment, in a copy
of the project, is launched four times with one command: in the first launch a job is cancelled and then the launcher
is killed with all its processes, the second is stopped by Ctrl-C, the third ends by itself, the fourth has nothing to
do.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
RUNS = [f"linear-{structure}-seed0" for structure in ("single", "hierarchical", "appendix")]
N_EPOCHS = 30


def copy_project(folder: Path) -> Path:
    """A copy of the project with a small sweep, and with the results that do not depend on it in place."""
    for name in ("hpsed_lib", "notebooks", "params", "workflow", "results/paper", "results/derivation"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    params = folder / "params/smoke.yaml"
    text = params.read_text()
    for key, value in {
        "functions": "[linear]",
        "structures": "[single, hierarchical, appendix]",
        "max_epochs": str(N_EPOCHS),
        "patience": str(N_EPOCHS),
    }.items():
        text, n_changes = re.subn(rf"( {key}:).*", rf"\1 {value}", text)
        assert n_changes == 1
    params.write_text(text)
    profile = folder / "workflow/profiles/slurm/config.yaml"
    text, n_changes = re.subn(r"(status-checks:) \d+", r"\1 2\nslurm-keep-successful-logs: true", profile.read_text())
    assert n_changes == 1
    profile.write_text(text)
    for path in (folder / "results").rglob("*.*"):
        path.touch()  # newer than the copies of what they were made from
    return folder


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder)}


def metrics_of(folder: Path, run: str) -> Path:
    return folder / f"results/smoke/metrics/{run}.json"


def numbers(path: Path) -> dict:
    """A metrics file without what may differ between two runs of the same thing."""
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in ("time", "commit")}


class Sweep:
    """The sweep in one copy of the project, with a watch on the queue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.n_launches = 0
        self.doubled: set[str] = set()
        self.submitted: set[str] = set()
        threading.Thread(target=self._watch, daemon=True).start()

    def jobs(self) -> dict[str, tuple[str, str]]:
        """What every job in the queue is for and its state, by its id."""
        squeue = ["squeue", "--noheader", "--format=%A %k %T"]
        lines = subprocess.run(squeue, capture_output=True, text=True, check=True).stdout.splitlines()
        return {job: (what, state) for job, what, state in map(str.split, lines)}

    def _watch(self) -> None:
        while True:
            jobs = self.jobs()
            running = [what for what, state in jobs.values() if state == "RUNNING"]
            self.doubled |= {what for what in running if running.count(what) > 1}
            self.submitted |= set(jobs)
            time.sleep(0.3)

    def launch(self) -> subprocess.Popen[bytes]:
        self.n_launches += 1
        with open(self.folder / f"launch{self.n_launches}.log", "w") as log:
            command = ["make", "reproduce", "EXPERIMENT=smoke", "CLUSTER=slurm"]
            return subprocess.Popen(command, cwd=self.folder, env=environment(self.folder), stdout=log, stderr=log)

    def log(self) -> str:
        return (self.folder / f"launch{self.n_launches}.log").read_text()

    def wait_until(self, condition: Callable[[], object], launched: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + 300
        while not condition():
            assert launched.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.1)

    def job_of(self, run: str) -> str | None:
        """The job that is to do a run, or does."""
        pooling, structure, seed = run.replace("seed", "").split("-")
        jobs = [job for job, (what, _) in self.jobs().items() if what.endswith(f"_{pooling}_{structure}_{seed}")]
        return jobs[0] if jobs else None

    def in_training(self) -> list[str]:
        """Runs that a job does, with epochs behind and before them."""
        return [run for run in RUNS if 0 < self.n_epochs(run) < N_EPOCHS - 5 and self.job_of(run)]

    def n_epochs(self, run: str) -> int:
        path = self.folder / "cache/smoke/runs" / run / "checkpoint.pt"
        return len(torch.load(path, weights_only=True)["history"]) if path.is_file() else 0

    def finished(self) -> dict[str, int]:
        """Runs whose notebook is in its place and whose job has ended, and when their metrics were written."""
        notebooks = self.folder / "results/smoke/notebooks/03_train_variant"
        runs = [run for run in RUNS if (notebooks / f"{run}.ipynb").is_file() and not self.job_of(run)]
        return {run: metrics_of(self.folder, run).stat().st_mtime_ns for run in runs}


@pytest.fixture
def reference(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The same runs on this machine, uninterrupted, beside the first launch."""
    folder = copy_project(tmp_path / "reference")
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--cores", "2", "--config"]
    command += ["experiment=smoke", "--", *(f"results/smoke/metrics/{run}.json" for run in RUNS)]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=log, stderr=log)
    yield process
    process.kill()


def test_a_killed_sweep_ends_with_the_numbers_of_a_local_one(tmp_path: Path, reference) -> None:
    sweep = Sweep(copy_project(tmp_path / "sweep"))

    launched = sweep.launch()
    sweep.wait_until(sweep.in_training, launched)
    cancelled = sweep.in_training()[0]
    subprocess.run(["scancel", str(sweep.job_of(cancelled))], check=True)
    sweep.wait_until(sweep.finished, launched)
    for process in [*psutil.Process(launched.pid).children(recursive=True), launched]:
        process.kill()
    launched.wait()
    assert sweep.jobs()  # the launcher is gone, its jobs are not

    launched = sweep.launch()
    sweep.wait_until(lambda: cancelled in sweep.in_training(), launched)
    assert re.search(r"cancelled \d+ jobs that an earlier launch had left", sweep.log())
    finished = sweep.finished()
    assert 0 < len(finished) < len(RUNS)
    [launcher] = psutil.Process(launched.pid).children()
    launcher.send_signal(signal.SIGINT)
    launched.wait()
    assert sweep.jobs() == {}, sweep.log()

    launched = sweep.launch()
    assert launched.wait(timeout=300) == 0, sweep.log()
    assert (sweep.folder / "results/smoke/tables/table2.md").read_text() in sweep.log()
    n_submitted = len(sweep.submitted)
    launched = sweep.launch()
    assert launched.wait(timeout=60) == 0, sweep.log()
    assert len(sweep.submitted) == n_submitted

    assert {run: metrics_of(sweep.folder, run).stat().st_mtime_ns for run in finished} == finished  # none done twice
    assert sweep.doubled == set()  # none doubled at the same time
    for path in (sweep.folder / ".snakemake/slurm_logs").rglob("*.log"):
        assert "waiting for its end" not in path.read_text()
    assert reference.wait(timeout=120) == 0, (tmp_path / "reference/log").read_text()
    for run in RUNS:
        metrics = json.loads(metrics_of(sweep.folder, run).read_text())
        assert len(metrics["history"]) == N_EPOCHS
        assert metrics["time"]["resumed_after"] or run != cancelled
        assert numbers(metrics_of(sweep.folder, run)) == numbers(metrics_of(tmp_path / "reference", run))
