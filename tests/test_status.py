"""What `make status` says of runs whose traces are written here, by the means that real ones use."""

import fcntl
import json
import os

import pytest
import torch

from hpsed_lib import paths
from hpsed_lib.launch import status
from hpsed_lib.launch.graph import executed_notebooks
from hpsed_lib.progress import LOG_VARIABLE, track

HISTORY = [
    {"epoch": 1, "training_loss": 0.9, "validation_loss": 0.8, "seconds": 10.0},
    {"epoch": 2, "training_loss": 0.8, "validation_loss": 0.9, "seconds": 20.0},
]
RUN, TABLES = "linear-single-seed0", "04_result_tables"


class Traces:
    """An experiment of ten epochs and the traces of its executions, in a folder of their own."""

    def __init__(self, experiment, folder):
        training = experiment.training.model_copy(update={"max_epochs": 10})
        self.experiment = experiment.model_copy(update={"training": training})
        self.folder, self.progress = folder, folder / "cache/smoke/notebooks-in-progress"
        self.checkpoint = folder / f"cache/smoke/runs/{RUN}/checkpoint.pt"
        self.write("cache/smoke/data.json", "{}")

    def write(self, name, text=""):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def begin(self, *epochs):
        """The log of a run that has begun these epochs."""
        log = self.write(f"cache/smoke/notebooks-in-progress/{RUN}.log")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(LOG_VARIABLE, str(log))
            for epoch in epochs:
                next(track(range(20), description=f"epoch {epoch}/10"))

    def save(self, history):
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"history": history, "network": {"weight": torch.zeros(1000)}}, self.checkpoint)

    def finish(self, run):
        self.write(f"cache/smoke/runs/{run}/predictions.npz")
        self.write(f"reproduced/smoke/notebooks/03_train_variant/{run}.ipynb")
        metrics = {"parameters": self.experiment.model_dump(mode="json"), "history": HISTORY}
        return self.write(f"reproduced/smoke/metrics/{run}.json", json.dumps(metrics))

    def of(self, name=RUN):
        [found] = [row for row in status.statuses(self.experiment) if row.name == name]
        return found

    def shown(self, name=RUN):
        return " ".join(self.of(name).row(10).split())


@pytest.fixture
def traces(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(status, "ROOT", tmp_path)
    return Traces(tiny, tmp_path)


@pytest.fixture
def held(traces):
    """The lock of the run, held by somebody."""
    with open(traces.write(f"cache/smoke/notebooks-in-progress/{RUN}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def later(path, than):
    stamp = than.stat().st_mtime_ns + 1000
    os.utime(path, ns=(stamp, stamp))


def test_nothing_has_run(traces):
    rows = status.statuses(traces.experiment)
    assert [row.name for row in rows] == list(executed_notebooks(traces.experiment))
    assert {row.state for row in rows} == {"waiting"}


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(
    ("begun", "history", "expected"),
    [
        ([], [], "running"),
        ([1], [], "running"),
        ([1, 2], HISTORY[:1], "running 1/10 0.8000 <= 1 min 30 s"),
        ([1, 2, 3], HISTORY, "running 2/10 0.8000 <= 2 min"),
        ([1], HISTORY * 5, "running 1/10 0.8000 <= 1 min 30 s"),  # an older checkpoint may be longer
        ([], HISTORY, "running"),  # this one too: nothing is known before the first epoch has begun
    ],
)
def test_running(traces, begun, history, expected):
    assert traces.shown() == "running"
    traces.begin(*begun)
    traces.save(history)
    assert traces.shown() == expected


def test_failed(traces):
    message = 'failed in cell 5 (In [4]) under "2.1 Losses": ValueError: too loud\nkept: cache/x.ipynb'
    traces.write(f"cache/smoke/notebooks-in-progress/{RUN}.failed.txt", message + "\n")
    assert traces.of() == status.Status(RUN, "failed", failure=message)
    shown = status.table(traces.experiment, status.statuses(traces.experiment))
    assert f"\n\n{RUN} failed in cell 5" in shown
    assert shown.endswith("\n  kept: cache/x.ipynb\n\n12 waiting, 1 failed")


@pytest.mark.parametrize("damaged", [False, True])
def test_stopped_goes_on_from_a_checkpoint_that_can_be_read(traces, damaged):
    traces.begin()
    assert traces.shown() == "stopped"
    traces.save(HISTORY)
    if damaged:
        traces.checkpoint.write_bytes(traces.checkpoint.read_bytes()[:500])
    assert traces.shown() == ("stopped" if damaged else "stopped 2/10 0.8000")


def test_done(traces):
    traces.begin()
    traces.finish(RUN)
    assert traces.shown() == "done 2/10 0.8000"


@pytest.mark.parametrize("change", ["settings", "predictions", "data"])
def test_results_of_something_else_are_not_done(tiny, traces, change):
    traces.finish(RUN)
    predictions = traces.folder / f"cache/smoke/runs/{RUN}/predictions.npz"
    if change == "settings":
        traces.experiment = tiny
    elif change == "predictions":
        predictions.unlink()
    else:
        later(traces.folder / "cache/smoke/data.json", predictions)
    assert traces.of().state == "waiting"


def test_tables_are_done_when_they_are_newer_than_every_run(traces):
    metrics = [traces.finish(run) for run in traces.experiment.runs()]
    tables = traces.write(f"reproduced/smoke/notebooks/{TABLES}.ipynb")
    assert traces.of(TABLES).state == "done"
    later(metrics[0], tables)
    assert traces.of(TABLES).state == "waiting"


def test_asking_changes_nothing(traces):
    traces.begin(1, 2, 3)
    traces.save(HISTORY)
    traces.write(f"cache/smoke/notebooks-in-progress/{RUN}.lock", "1 on here")
    before = {path: path.stat().st_mtime_ns for path in traces.folder.rglob("*")}
    status.statuses(traces.experiment)
    assert {path: path.stat().st_mtime_ns for path in traces.folder.rglob("*")} == before


def test_seeds_are_those_of_the_last_launch(traces, capsys):
    traces.write("cache/smoke/launch.json", json.dumps({"n_seeds": 3, "cluster": "slurm"}))
    for options, n_seeds in (([], 3), (["--seeds", "2"], 2)):
        assert status.main(["smoke", *options]) == 0
        assert capsys.readouterr().out.count("linear-single-seed") == n_seeds
    assert status.main(["smok"]) == 2
    assert capsys.readouterr().err.startswith("error: no experiment 'smok'")
