"""A sweep on a Slurm cluster loses a job, a node and two launchers, and ends with the numbers of a local one.

``make slurm`` runs it on a cluster of this machine's own (``tests/slurm/cluster``). The smallest experiment, in a copy
of the project where its data have been prepared, is launched four times with one command: in the first launch a job is
cancelled and then the launcher is killed with all its processes; the second is stopped by Ctrl-C; in the third a node
dies, Slurm starts its job again on the other one, and the launch ends by itself; the fourth has nothing to do.
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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch

from hpsed_lib.execution import is_held
from hpsed_lib.params import load_experiment

ROOT = Path(__file__).resolve().parents[2]
RUNS = [f"linear-{structure}-seed0" for structure in ("single", "hierarchical", "appendix")]
N_EPOCHS = 30


def copy_project(folder: Path) -> Path:
    """A copy of the project with a small sweep, and with the results that do not depend on it in place."""
    for name in ("hpsed_lib", "notebooks", "params", "workflow", "results/paper", "results/derivation"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy2(ROOT / name, folder / name)
        os.utime(folder / name, (0, 0))  # older than the stamp in .venv, in whatever order git wrote them
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


@dataclass(frozen=True)
class Job:
    """A job in the queue: what it is for, its state, its node (or nothing), and what it asks for."""

    what: str
    state: str
    node: str
    memory: str
    time_limit: str
    processors: str


class Sweep:
    """The sweep in one copy of the project, with a watch on the queue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.n_launches = 0
        self.doubled: set[str] = set()
        self.seen: dict[str, Job] = {}
        self.nodes: dict[str, set[str]] = {}
        threading.Thread(target=self._watch, daemon=True).start()

    def jobs(self) -> dict[str, Job]:
        """Every job in the queue, by its id."""
        squeue = ["squeue", "--noheader", "--format=%A|%k|%T|%N|%m|%l|%C"]
        lines = subprocess.run(squeue, capture_output=True, text=True, check=True).stdout.splitlines()
        return {job: Job(*rest) for job, *rest in (line.split("|") for line in lines)}

    def _watch(self) -> None:
        while True:
            jobs = self.jobs()
            running = [job.what for job in jobs.values() if job.state == "RUNNING"]
            self.doubled |= {what for what in running if running.count(what) > 1}
            self.seen |= jobs
            for number, job in jobs.items():
                self.nodes.setdefault(number, set()).update({job.node} - {""})
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
        jobs = [number for number, job in self.jobs().items() if job.what.endswith(f"_{pooling}_{structure}_{seed}")]
        return jobs[0] if jobs else None

    def in_training(self) -> list[str]:
        """Runs that a job does, with an epoch behind them since it began, and more before them."""
        return [run for run in RUNS if self.has_gone_on(run) and self.n_epochs(run) < N_EPOCHS - 5 and self.job_of(run)]

    def has_gone_on(self, run: str) -> bool:
        """Whether the run is being executed and its checkpoint is younger than its execution."""
        lock = self.folder / "cache/smoke/notebooks-in-progress" / f"{run}.lock"
        checkpoint = self.folder / "cache/smoke/runs" / run / "checkpoint.pt"
        return is_held(lock) and checkpoint.is_file() and checkpoint.stat().st_mtime_ns > lock.stat().st_mtime_ns

    def n_epochs(self, run: str) -> int:
        path = self.folder / "cache/smoke/runs" / run / "checkpoint.pt"
        return len(torch.load(path, weights_only=True)["history"]) if path.is_file() else 0

    def finished(self) -> dict[str, int]:
        """Runs whose notebook is in its place and whose job has ended, and when their metrics were written."""
        notebooks = self.folder / "results/smoke/notebooks/03_train_variant"
        runs = [run for run in RUNS if (notebooks / f"{run}.ipynb").is_file() and not self.job_of(run)]
        return {run: metrics_of(self.folder, run).stat().st_mtime_ns for run in runs}


def run_here(folder: Path, targets: list[str]) -> subprocess.Popen[bytes]:
    """Make some of the experiment's outputs on this machine, as a local launch does."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--cores", "2"]
    command += ["--workflow-profile", "workflow/profiles/default", "--config", "experiment=smoke", "--", *targets]
    with open(folder / "log", "a") as log:
        return subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=log, stderr=log)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with everything but the runs."""
    folder = copy_project(tmp_path_factory.mktemp("prepared") / "hpsed")
    assert run_here(folder, ["results/smoke/tables/structure_agreement.csv"]).wait() == 0, (folder / "log").read_text()
    return folder


def test_a_killed_sweep_ends_with_the_numbers_of_a_local_one(tmp_path: Path, prepared: Path) -> None:
    sweep = Sweep(shutil.copytree(prepared, tmp_path / "sweep", symlinks=True))

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
    sweep.wait_until(lambda: "jobs that an earlier launch had left" in sweep.log(), launched)
    finished = sweep.finished()
    assert 0 < len(finished) < len(RUNS)
    sweep.wait_until(lambda: sweep.job_of(cancelled), launched)
    [launcher] = psutil.Process(launched.pid).children()
    launcher.send_signal(signal.SIGINT)
    launched.wait()
    assert sweep.jobs() == {}, sweep.log()

    launched = sweep.launch()
    sweep.wait_until(lambda: cancelled in sweep.in_training(), launched)
    lost = sweep.job_of(cancelled)
    node, n_epochs = sweep.jobs()[lost].node, sweep.n_epochs(cancelled)
    os.kill(int(Path(f"/etc/slurm/{node}.pid").read_text()), signal.SIGKILL)
    # Until Slurm notices it: the same runs on this machine, uninterrupted.
    reference = shutil.copytree(prepared, tmp_path / "reference", symlinks=True)
    local = run_here(reference, [f"results/smoke/metrics/{run}.json" for run in RUNS])
    assert local.wait() == 0, (reference / "log").read_text()
    assert launched.wait(timeout=300) == 0, sweep.log()
    assert (sweep.folder / "results/smoke/tables/table2.md").read_text() in sweep.log()
    n_submitted = len(sweep.seen)
    launched = sweep.launch()
    assert launched.wait(timeout=300) == 0, sweep.log()
    assert len(sweep.seen) == n_submitted

    assert len(sweep.nodes[lost]) == 2  # Slurm started it again by itself, elsewhere
    assert {run: metrics_of(sweep.folder, run).stat().st_mtime_ns for run in finished} == finished  # none done twice
    assert sweep.doubled == set()  # none doubled at the same time
    for path in (sweep.folder / ".snakemake/slurm_logs").rglob("*.log"):
        assert "waiting for its end" not in path.read_text()
    for run in RUNS:
        metrics = json.loads(metrics_of(sweep.folder, run).read_text())
        assert len(metrics["history"]) == N_EPOCHS
        assert run != cancelled or any(epoch >= n_epochs for epoch in metrics["time"]["resumed_after"])
        assert numbers(metrics_of(sweep.folder, run)) == numbers(metrics_of(reference, run))

    asked = load_experiment(sweep.folder / "params/smoke.yaml").resources
    trainings = [job for job in sweep.seen.values() if job.what.startswith("rule_train")]
    assert {job.memory for job in trainings} == {f"{asked.memory}M"}
    assert {job.time_limit for job in trainings} == {f"{asked.run_time}:00"}
    assert {job.processors for job in trainings} == {str(asked.threads)}
    others = {job.what for job in sweep.seen.values()} - {job.what for job in trainings}
    assert others == {"rule_tables"}  # what a local launch has made is not made again
