"""What `make status` says of runs whose traces are written here, by the means that real ones use."""

import fcntl
import json
import os

import pytest
import torch

from hpsed_lib import paths
from hpsed_lib.launch import status
from hpsed_lib.launch.__main__ import main
from hpsed_lib.launch.graph import executed_notebooks
from hpsed_lib.progress import LOG_VARIABLE, track

HISTORY = [
    {"epoch": 1, "training_loss": 0.9, "validation_loss": 0.8, "seconds": 10.0},
    {"epoch": 2, "training_loss": 0.8, "validation_loss": 0.9, "seconds": 20.0},
]
RUN, TABLES = "linear-single-seed0", "04_result_tables"
TRACES = "cache/smoke/notebooks-in-progress"


class Traces:
    """An experiment of ten epochs and the traces of its executions, in a folder of their own."""

    def __init__(self, experiment, folder):
        training = experiment.training.model_copy(update={"max_epochs": 10})
        self.experiment = experiment.model_copy(update={"training": training})
        self.folder = folder
        self.data = self.write("cache/smoke/data.json", "{}")

    def write(self, name, text=""):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def begin(self, *epochs):
        """The log of a run that has begun these epochs."""
        log = self.write(f"{TRACES}/{RUN}.log")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(LOG_VARIABLE, str(log))
            for epoch in epochs:
                next(track(range(20), description=f"epoch {epoch}/10"))

    def save(self, history):
        path = self.write(f"cache/smoke/runs/{RUN}/checkpoint.pt")
        torch.save({"history": history, "network": {"weight": torch.zeros(1000)}}, path)
        return path

    def finish(self, run):
        self.write(f"reproduced/smoke/notebooks/03_train_variant/{run}.ipynb")
        metrics = {"parameters": self.experiment.model_dump(mode="json"), "history": HISTORY}
        return self.write(f"reproduced/smoke/metrics/{run}.json", json.dumps(metrics))

    def shown(self, name=RUN):
        [found] = [row for row in status.statuses(self.experiment) if row.name == name]
        return " ".join(found.row(10).split())


@pytest.fixture
def traces(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(status, "ROOT", tmp_path)
    return Traces(tiny, tmp_path)


def later(path, than):
    os.utime(path, ns=(than.stat().st_mtime_ns + 1000,) * 2)


@pytest.mark.parametrize(
    ("begun", "history", "expected"),
    [
        ([], [], "running"),
        ([1], [], "running"),
        ([1, 2], HISTORY[:1], "running 1/10 0.8000 <= 01:30"),
        ([1, 2, 3], HISTORY, "running 2/10 0.8000 <= 02:00"),
        ([1], HISTORY * 5, "running 1/10 0.8000 <= 01:30"),  # an older checkpoint may be longer
        ([], HISTORY, "running"),  # this one too: nothing is known before the first epoch has begun
    ],
)
def test_running(traces, begun, history, expected):
    traces.begin(*begun)
    traces.save(history)
    with open(traces.write(f"{TRACES}/{RUN}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert traces.shown() == expected
    assert traces.shown().startswith("stopped")


def test_failed_and_waiting(traces, capsys):
    message = 'failed in cell 5 under "2.1 Losses": ValueError: too loud\nkept: cache/x.ipynb'
    traces.write(f"{TRACES}/{RUN}.failed.txt", message + "\n")
    before = {path: path.stat().st_mtime_ns for path in traces.folder.rglob("*")}
    assert main(["status", "smoke"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()[1:15]] == list(executed_notebooks(traces.experiment))
    assert f"\n\n{RUN} failed in cell 5" in shown
    assert shown.endswith("\n  kept: cache/x.ipynb\n\n13 waiting, 1 failed\n")
    assert {path: path.stat().st_mtime_ns for path in traces.folder.rglob("*")} == before  # asking changes nothing


def test_stopped_goes_on_from_a_checkpoint_that_can_be_read(traces):
    traces.begin()
    assert traces.shown() == "stopped"
    checkpoint = traces.save(HISTORY)
    assert traces.shown() == "stopped 2/10 0.8000"
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    assert traces.shown() == "stopped"


@pytest.mark.parametrize("change", ["settings", "metrics", "data", ""])
def test_results_of_something_else_are_not_done(tiny, traces, change):
    traces.begin()
    metrics = traces.finish(RUN)
    if change == "settings":
        traces.experiment = tiny
    elif change == "metrics":
        metrics.unlink()
    elif change == "data":
        later(traces.data, metrics)
    assert traces.shown() == ("waiting" if change else "done 2/10 0.8000")


def test_tables_are_done_when_they_are_newer_than_every_run(traces):
    metrics = [traces.finish(run) for run in traces.experiment.runs()]
    tables = traces.write(f"reproduced/smoke/notebooks/{TABLES}.ipynb")
    assert traces.shown(TABLES) == "done"
    later(metrics[0], tables)
    assert traces.shown(TABLES) == "waiting"


def test_seeds_are_those_of_the_last_launch(traces, capsys):
    traces.write("cache/smoke/launch.json", json.dumps({"n_seeds": 3, "cluster": "slurm"}))
    for options, n_seeds in (([], 3), (["--seeds", "2"], 2)):
        assert main(["status", "smoke", *options]) == 0
        assert capsys.readouterr().out.count("linear-single-seed") == n_seeds
    assert main(["status", "smok"]) == 2
    assert capsys.readouterr().err.startswith("error: no experiment 'smok'")
