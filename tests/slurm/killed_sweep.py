"""Sweeps on a Slurm cluster lose nodes, a job and launchers, and end with the numbers of an undisturbed local one.

``make slurm`` runs them, side by side, on a cluster of this machine's own (``tests/slurm/cluster``). In the first sweep
a node dies at each moment of docs/interruptions.md, and its launcher only waits. The second begins where data are
prepared and is launched four times with one command: in the first launch a job is cancelled and then the launcher is
killed with all its processes; the second is stopped by Ctrl-C; the third ends by itself; the fourth has nothing to do.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from held import JOURNAL, MOMENTS, N_TRAINING, NAME, RUN, Project, small_experiment

from hpsed_lib.params import load_experiment
from hpsed_lib.processes import is_held

STRUCTURES = ["single", "hierarchical", "appendix"]
RUNS = [f"linear-{structure}-seed0" for structure in STRUCTURES]
N_EPOCHS = 30
ON_CLUSTER = "--cluster slurm --cores 2"  # two jobs at a time


class Job(NamedTuple):
    """A job in the queue: what it is for, its state, its node (or nothing), and what it asks for."""

    what: str
    state: str
    node: str
    asked: str


class Sweep(Project):
    """The sweep in one copy of the project, with a watch on the queue."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, small_experiment(STRUCTURES, N_EPOCHS))
        profile = self.seen / "workflow/profiles/slurm/config.yaml"
        settings = r"\1 2\nslurm-keep-successful-logs: true"
        text, n_changes = re.subn(r"(status-checks:) \d+", settings, profile.read_text())
        assert n_changes == 1
        profile.write_text(text)
        self.doubled: set[str] = set()  # what two jobs were for at the same time
        self.seen_jobs: dict[str, Job] = {}  # by id, as they were last
        self.nodes: dict[str, list[str]] = {}  # that a job was on, one after the other
        self.ended = threading.Event()
        self.watch = ThreadPoolExecutor(1).submit(self._watch)

    def jobs(self) -> dict[str, Job]:
        """Every job of the sweep in the queue, by its id."""
        squeue = ["squeue", "--noheader", "--format=%Z|%A|%k|%T|%N|%m %l %C"]
        lines = subprocess.run(squeue, capture_output=True, text=True, check=True).stdout.splitlines()
        jobs = [line.split("|") for line in lines]
        return {job: Job(*rest) for folder, job, *rest in jobs if folder == str(self.folder)}

    def _watch(self) -> None:
        while not self.ended.wait(0.3):
            jobs = self.jobs()
            running = [job.what for job in jobs.values() if job.state == "RUNNING"]
            self.doubled |= {what for what in running if running.count(what) > 1}
            self.seen_jobs |= jobs
            for number, job in jobs.items():
                nodes = self.nodes.setdefault(number, [])
                nodes += [job.node] if job.node and job.node not in nodes[-1:] else []

    def end(self) -> None:
        """No process of it works on, and its watch has seen everything."""
        self.kill()
        self.ended.set()
        self.watch.result()

    def job_of(self, execution: str) -> str | None:
        """The job that is to execute a notebook, or does."""
        rules = {"01_data_preparation": "rule_data", "04_result_tables": "rule_tables"}
        what = rules.get(execution) or execution.replace("seed", "").replace("-", "_")
        jobs = [number for number, job in self.jobs().items() if job.what.endswith(what)]
        return jobs[0] if jobs else None

    def lose_node_of(self, job: str, *, told: bool) -> None:
        """Cut the node that a job is on off from its power; Slurm is told at once, or notices in half a minute."""
        name = self.jobs()[job].node
        node = psutil.Process(int(Path(f"/etc/slurm/{name}.pid").read_text()))
        processes = [node, *node.children(recursive=True)]
        node.kill()
        psutil.wait_procs(processes, timeout=10)
        if told:
            subprocess.run(["scontrol", "update", f"nodename={name}", "state=down", "reason=lost"], check=True)

    def in_training(self) -> list[str]:
        """Runs that are executed, with a checkpoint younger than their execution and some epochs to go."""
        found = []
        for run in RUNS:
            lock = self.cache / f"notebooks-in-progress/{run}.lock"
            checkpoint = self.cache / f"runs/{run}/checkpoint.pt"
            if is_held(lock) and checkpoint.is_file() and checkpoint.stat().st_mtime_ns > lock.stat().st_mtime_ns:
                found += [run] if self.n_epochs(run) < N_EPOCHS - 5 and self.job_of(run) else []
        return found

    def finished(self) -> dict[str, int]:
        """Runs whose notebook is in its place and whose job has ended, and when their metrics were written."""
        notebooks = self.results / "notebooks/03_train_variant"
        runs = [run for run in RUNS if (notebooks / f"{run}.ipynb").is_file() and not self.job_of(run)]
        return {run: self.metrics_of(run).stat().st_mtime_ns for run in runs}

    def metrics_of(self, run: str) -> Path:
        return self.results / f"metrics/{run}.json"


def lose_nodes(sweep: Sweep) -> tuple[Sweep, dict[str, str]]:
    """Launch once and take a node away at each moment; returns the job that was lost at each, too."""
    moments = list(MOMENTS.items())
    launched = sweep.launch(moments[0][1], options="--cluster slurm --cores 4")
    lost: dict[str, str] = {}
    for (name, moment), following in zip(moments, [*MOMENTS.values(), None][1:], strict=True):
        sweep.wait_until(sweep.is_held, name, launched)
        sweep.check_held(name, n_epochs={"mid-epoch": 1, "before metrics": N_EPOCHS}.get(name))
        lost[name] = str(sweep.job_of(moment["execution"]))
        sweep.lose_node_of(lost[name], told=name != "mid-epoch")
        sweep.hold_at(following)  # what Slurm starts again is held at the next one
    assert launched.wait(timeout=300) == 0, sweep.log()
    sweep.end()
    return sweep, lost


def lose_launchers(sweep: Sweep, reference: Future[Project]) -> tuple[Sweep, str, dict[str, int]]:
    """Launch four times and end job and launchers; returns the run whose job was cancelled and those done before."""
    whole = reference.result()
    shutil.rmtree(sweep.seen / "reproduced")  # all but the runs and what rests on them
    for name in (".snakemake", "cache", "reproduced"):
        shutil.copytree(whole.seen / name, sweep.seen / name)
    shutil.rmtree(sweep.cache / "runs")
    shutil.rmtree(sweep.results / "metrics")
    shutil.rmtree(sweep.results / "notebooks/03_train_variant")

    launched = sweep.launch(MOMENTS["mid-epoch"], options=f"--cluster slurm --cores {len(RUNS)}")  # one job stays
    sweep.wait_until(lambda: set(sweep.in_training()) - {RUN}, "training", launched)
    cancelled = min(set(sweep.in_training()) - {RUN})
    subprocess.run(["scancel", str(sweep.job_of(cancelled))], check=True)
    sweep.wait_until(sweep.is_held, RUN, launched)
    sweep.wait_until(sweep.finished, "a run", launched)
    for process in [*psutil.Process(launched.pid).children(recursive=True), launched]:
        process.kill()
    launched.wait()
    assert sweep.jobs()  # the launcher is gone, its jobs are not

    launched = sweep.launch(options=ON_CLUSTER)
    found = "jobs that an earlier launch had left"
    sweep.wait_until(lambda: found in sweep.log(), found, launched)
    done = sweep.finished()
    assert 0 < len(done) < len(RUNS)
    sweep.wait_until(lambda: sweep.job_of(cancelled), "its job", launched)
    launched.send_signal(signal.SIGINT)
    launched.wait()
    assert sweep.jobs() == {}, sweep.log()

    sweep.finish(options=ON_CLUSTER)
    assert (sweep.results / "tables/table2.md").read_text() in sweep.log()
    n_submitted = len(sweep.seen_jobs)
    sweep.finish(options=ON_CLUSTER)
    assert len(sweep.seen_jobs) == n_submitted
    sweep.end()
    return sweep, cancelled, done


@pytest.fixture(scope="module")
def courses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Future]]:
    """Both sweeps and the undisturbed one on this machine, under way."""
    folder = tmp_path_factory.mktemp("courses")
    whole = Project(folder / "reference", small_experiment(STRUCTURES, N_EPOCHS))
    sweeps = [Sweep(folder / "nodes"), Sweep(folder / "launchers")]
    with ThreadPoolExecutor() as pool:
        reference = pool.submit(whole.finish, options="--cores 2")
        lost_nodes = pool.submit(lose_nodes, sweeps[0])
        yield [reference, lost_nodes, pool.submit(lose_launchers, sweeps[1], reference)]
        whole.kill()  # nothing works on, whatever failed
        for sweep in sweeps:
            sweep.end()


def test_a_node_disappears_at_every_moment(courses: list[Future]) -> None:
    sweep, lost = courses[1].result()
    sweep.check_end(courses[0].result(), STRUCTURES, N_EPOCHS)
    n_nodes = {name: len(sweep.nodes[job]) for name, job in lost.items()}
    assert n_nodes == {"extraction": 2, "mid-epoch": 3, "before metrics": 3, "tables": 2}  # Slurm found another
    assert lost["mid-epoch"] == lost["before metrics"]  # by itself: the same job
    assert sweep.doubled == set()
    assert sweep.n_extracted("training") <= N_TRAINING + N_TRAINING - JOURNAL + 1  # the file was opened once more
    assert (sweep.results / "tables/table2.md").read_text() in sweep.log()
    lost_nodes = {node for job in lost.values() for node in sweep.nodes[job][:-1]}
    assert {path.name.split(".")[-3] for path in sweep.half_written()} <= lost_nodes


def test_launchers_and_a_job_are_killed(courses: list[Future]) -> None:
    sweep, cancelled, done = courses[2].result()
    assert {run: sweep.metrics_of(run).stat().st_mtime_ns for run in done} == done  # none done twice
    assert sweep.doubled == set()  # none doubled at the same time
    for path in (sweep.seen / ".snakemake/slurm_logs").rglob("*.log"):
        assert "waiting for its end" not in path.read_text()
    assert sweep.numbers() == courses[0].result().numbers()
    assert json.loads(sweep.metrics_of(cancelled).read_text())["time"]["resumed_after"]

    asked = load_experiment(sweep.seen / f"params/{NAME}.yaml").resources
    trainings = [job for job in sweep.seen_jobs.values() if job.what.startswith("rule_train")]
    assert {job.asked for job in trainings} == {f"{asked.memory}M {asked.run_time}:00 {asked.threads}"}
    others = {job.what for job in sweep.seen_jobs.values()} - {job.what for job in trainings}
    assert others == {"rule_findings", "rule_tables"}  # what a local launch has made is not made again
