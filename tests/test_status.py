"""What `make status` says of runs whose traces are written here, by the means that real ones use."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hpsed_lib import paths
from hpsed_lib.launch import status
from hpsed_lib.launch.graph import executed_notebooks
from hpsed_lib.params import Experiment
from hpsed_lib.progress import LOG_VARIABLE, track

HISTORY = [
    {"epoch": 1, "training_loss": 0.9, "validation_loss": 0.8, "seconds": 10.0},
    {"epoch": 2, "training_loss": 0.8, "validation_loss": 0.9, "seconds": 20.0},
]
RUN = "linear-single-seed0"


@pytest.fixture
def experiment(tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """An experiment of ten epochs whose traces lie in a folder of their own."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(status, "ROOT", tmp_path)
    (tmp_path / "cache/smoke/notebooks-in-progress").mkdir(parents=True)
    (tmp_path / "cache/smoke/data.json").write_text("{}")
    return tiny.model_copy(update={"training": tiny.training.model_copy(update={"max_epochs": 10})})


@pytest.fixture
def traces(experiment: Experiment, tmp_path: Path) -> Path:
    return tmp_path / "cache/smoke/notebooks-in-progress"


def write_progress(traces: Path, monkeypatch: pytest.MonkeyPatch, *, epoch: int, share: float) -> None:
    """Progress of epochs up to a share of the last one, in the log of a headless run."""
    log = traces / f"{RUN}.log"
    monkeypatch.setenv(LOG_VARIABLE, str(log))
    for number in range(1, epoch):
        list(track(range(20), description=f"epoch {number}/10"))
    steps = track(range(20), description=f"epoch {epoch}/10", total=20)
    for _ in range(int(20 * share)):
        next(steps)
    steps.close()
    text = log.read_text() if log.is_file() else ""
    if share < 1:
        # The bar writes every five seconds only: what it would have written after eight seconds.
        log.write_text(
            f"{text}\repoch {epoch}/10: {100 * share:3.0f}%|####    | {20 * share:.0f}/20 [00:08<00:08, 1it/s]"
        )


def write_checkpoint(tmp_path: Path, history: list[dict]) -> None:
    path = tmp_path / "cache/smoke/runs" / RUN / "checkpoint.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"history": history, "network": {"weight": torch.zeros(1000)}}, path)


def write_results(experiment: Experiment, tmp_path: Path, run: str) -> None:
    for folder, name, text in (
        ("cache/smoke/runs", f"{run}/predictions.npz", ""),
        ("results/smoke/metrics", f"{run}.json", ""),
        ("results/smoke/notebooks/03_train_variant", f"{run}.ipynb", ""),
    ):
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    metrics = {"parameters": experiment.model_dump(mode="json"), "history": HISTORY}
    (tmp_path / f"results/smoke/metrics/{run}.json").write_text(json.dumps(metrics))


@pytest.fixture
def held(traces: Path) -> Iterator[None]:
    """The lock of the run, held by somebody."""
    with open(traces / f"{RUN}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def status_of(experiment: Experiment, name: str = RUN) -> status.Status:
    [found] = [row for row in status.statuses(experiment) if row.name == name]
    return found


class TestStates:
    def test_nothing_has_run(self, experiment):
        rows = status.statuses(experiment)
        assert [row.name for row in rows] == list(executed_notebooks(experiment))
        assert {row.state for row in rows} == {"waiting"}

    @pytest.mark.usefixtures("held")
    def test_running_before_the_first_epoch(self, experiment, traces):
        assert status_of(experiment) == status.Status(RUN, "running")
        (traces / f"{RUN}.log").write_text("")
        assert status_of(experiment) == status.Status(RUN, "running")

    @pytest.mark.usefixtures("held")
    def test_running_in_the_first_epoch(self, experiment, traces, monkeypatch):
        write_progress(traces, monkeypatch, epoch=1, share=0.5)  # 8 s for half an epoch
        assert status_of(experiment) == status.Status(RUN, "running", 0, None, pytest.approx(9.5 * 16))

    @pytest.mark.usefixtures("held")
    def test_running_later(self, experiment, tmp_path, traces, monkeypatch):
        write_progress(traces, monkeypatch, epoch=3, share=0.5)
        write_checkpoint(tmp_path, HISTORY)
        assert status_of(experiment) == status.Status(RUN, "running", 2, 0.8, pytest.approx(7.5 * 15))

    @pytest.mark.usefixtures("held")
    def test_an_epoch_is_complete_when_it_is_in_the_checkpoint(self, experiment, tmp_path, traces, monkeypatch):
        write_progress(traces, monkeypatch, epoch=2, share=1)
        write_checkpoint(tmp_path, HISTORY[:1])  # its validation is still going on
        assert status_of(experiment).n_epochs == 1
        write_checkpoint(tmp_path, HISTORY)
        assert status_of(experiment) == status.Status(RUN, "running", 2, 0.8, pytest.approx(8 * 15))

    @pytest.mark.usefixtures("held")
    def test_an_older_checkpoint_may_be_longer(self, experiment, tmp_path, traces, monkeypatch):
        write_progress(traces, monkeypatch, epoch=1, share=0.5)
        write_checkpoint(tmp_path, HISTORY * 5)
        assert status_of(experiment).n_epochs <= 1

    def test_failed(self, experiment, traces):
        message = 'failed in cell 5 (In [4]) under "2.1 Losses": ValueError: too loud\nkept: cache/x.ipynb'
        (traces / f"{RUN}.failed.txt").write_text(message + "\n")
        row = status_of(experiment)
        assert (row.state, row.failure) == ("failed", message)
        shown = status.table(experiment, status.statuses(experiment))
        assert f"{RUN} failed in cell 5" in shown
        assert "\n  kept: cache/x.ipynb" in shown
        assert shown.endswith("12 waiting, 1 failed")

    def test_stopped_goes_on_from_its_checkpoint(self, experiment, tmp_path, traces):
        (traces / f"{RUN}.log").write_text("")
        assert status_of(experiment) == status.Status(RUN, "stopped")
        write_checkpoint(tmp_path, HISTORY)
        assert status_of(experiment) == status.Status(RUN, "stopped", 2, 0.8)

    def test_a_damaged_checkpoint_is_none(self, experiment, tmp_path, traces):
        (traces / f"{RUN}.log").write_text("")
        write_checkpoint(tmp_path, HISTORY)
        path = tmp_path / "cache/smoke/runs" / RUN / "checkpoint.pt"
        path.write_bytes(path.read_bytes()[:500])
        assert status_of(experiment) == status.Status(RUN, "stopped")

    def test_done(self, experiment, tmp_path, traces):
        (traces / f"{RUN}.log").write_text("")
        write_results(experiment, tmp_path, RUN)
        assert status_of(experiment) == status.Status(RUN, "done", 2, 0.8)

    @pytest.mark.parametrize("change", ["settings", "predictions", "data"])
    def test_results_of_something_else_are_not_done(self, experiment, tmp_path, change):
        write_results(experiment, tmp_path, RUN)
        predictions = tmp_path / "cache/smoke/runs" / RUN / "predictions.npz"
        if change == "settings":
            training = experiment.training.model_copy(update={"max_epochs": 11})
            experiment = experiment.model_copy(update={"training": training})
        elif change == "predictions":
            predictions.unlink()
        else:
            later = predictions.stat().st_mtime_ns + 1000
            os.utime(tmp_path / "cache/smoke/data.json", ns=(later, later))
        assert status_of(experiment).state == "waiting"

    def test_tables_are_done_when_they_are_newer_than_every_run(self, experiment, tmp_path):
        path = tmp_path / "results/smoke/notebooks/04_result_tables.ipynb"
        for run in experiment.runs():
            write_results(experiment, tmp_path, run)
        path.write_text("")
        assert status_of(experiment, "04_result_tables").state == "done"
        write_results(experiment, tmp_path, RUN)
        later = path.stat().st_mtime_ns + 1000
        os.utime(tmp_path / f"results/smoke/metrics/{RUN}.json", ns=(later, later))
        assert status_of(experiment, "04_result_tables").state == "waiting"


def test_asking_changes_nothing(experiment, tmp_path, traces, monkeypatch):
    write_progress(traces, monkeypatch, epoch=3, share=0.5)
    write_checkpoint(tmp_path, HISTORY)
    (traces / f"{RUN}.lock").write_text("1 on here")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    status.statuses(experiment)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_seeds_are_those_of_the_last_launch(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(status, "ROOT", tmp_path)
    launched = tmp_path / "cache/smoke/launch.json"
    launched.parent.mkdir(parents=True)
    launched.write_text(json.dumps({"n_seeds": 3, "cluster": "slurm"}))
    assert status.main(["smoke"]) == 0
    assert capsys.readouterr().out.count("linear-single-seed") == 3
    assert status.main(["smoke", "--seeds", "2"]) == 0
    assert capsys.readouterr().out.count("linear-single-seed") == 2
    assert status.main(["smok"]) == 2
    assert capsys.readouterr().err.startswith("error: no experiment 'smok'")
