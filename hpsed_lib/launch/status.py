"""How far an experiment is: ``python -m hpsed_lib.launch.status EXPERIMENT``, the command behind ``make status``.

Reads what the executions leave in ``cache/`` and ``results/`` and changes none of it, so that it may be asked at any
time, on any host that shares these folders. An execution is

- ``running``: a process holds its lock;
- ``failed``: a cell of its notebook failed, and the notebook is kept;
- ``done``: its results are there, newer than what they were made from, and, of a run, with its present settings;
- ``stopped``: it was ended from outside (a kill, a cluster's time or memory limit); the next launch goes on with it;
- ``waiting``: none of these.

Times are in seconds. Whether library code has changed since, or the settings of a notebook that is no run, is for the
launch to find out.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpsed_lib.errors import HpsedError
from hpsed_lib.launch.graph import SHARED, executed_notebooks, last_launch
from hpsed_lib.params import Experiment, load_experiment, run_settings, with_seeds
from hpsed_lib.paths import ROOT, cache_folder, results_folder
from hpsed_lib.processes import is_held

PROGRESS = re.compile(r"epoch (\d+)/\d+: +(\d+)%[^\[]*\[([\d:]+)<")


@dataclass(frozen=True)
class Status:
    """How far one execution is.

    Attributes
    ----------
    state : {"waiting", "running", "done", "failed", "stopped"}
    n_epochs : int
        Epochs that are complete; 0 for what is no training.
    validation_loss : float or None
        The lowest so far.
    seconds_left : float or None
        Of a running training, at most: it may stop early.
    failure : str
        Failing cell and kept notebook, if it failed.
    """

    name: str
    state: str
    n_epochs: int = 0
    validation_loss: float | None = None
    seconds_left: float | None = None
    failure: str = ""


def statuses(experiment: Experiment) -> list[Status]:
    """The state of every execution of an experiment, in the order of the tables."""
    runs = set(experiment.runs())
    return [
        _status(experiment, name, ROOT / path, is_run=name in runs)
        for name, path in executed_notebooks(experiment).items()
    ]


def _status(experiment: Experiment, name: str, notebook: Path, *, is_run: bool) -> Status:
    traces = cache_folder("" if name in SHARED else experiment.name) / "notebooks-in-progress"
    log, failure = traces / f"{name}.log", traces / f"{name}.failed.txt"
    if is_held(traces / f"{name}.lock"):
        return _running(experiment, name, log) if is_run else Status(name, "running")
    if failure.is_file():
        return Status(name, "failed", failure=failure.read_text(encoding="utf-8").strip())
    if log.is_file() and not _is_newer(notebook, [log]):
        history = _history(experiment, name)
        return Status(name, "stopped", len(history), _lowest_loss(history))
    if is_run:
        if (metrics := _present_metrics(experiment, name, notebook)) is not None:
            return Status(name, "done", len(metrics["history"]), _lowest_loss(metrics["history"]))
    elif _is_newer(notebook, _made_from(experiment, name)):
        return Status(name, "done")
    return Status(name, "waiting")


def _running(experiment: Experiment, name: str, log: Path) -> Status:
    """The state of a training, from the progress in its log and the history in its checkpoint."""
    shown = PROGRESS.findall(log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else []
    if not shown:
        return Status(name, "running")
    epoch, percent, elapsed = shown[-1]
    history = _history(experiment, name)[: int(epoch)]  # an older checkpoint may be longer
    n_epochs = len(history) if len(history) == int(epoch) else int(epoch) - 1
    share = 0.0 if n_epochs == int(epoch) else int(percent) / 100
    seconds = None
    if history:
        seconds = sum(row["seconds"] for row in history) / len(history)
    elif share:
        parts = reversed(elapsed.split(":"))  # seconds, minutes, hours
        seconds = sum(int(part) * 60**power for power, part in enumerate(parts)) / share
    left = None if seconds is None else seconds * (experiment.training.max_epochs - n_epochs - share)
    return Status(name, "running", n_epochs, _lowest_loss(history), left)


def _lowest_loss(history: list[dict[str, float]]) -> float | None:
    return min((epoch["validation_loss"] for epoch in history), default=None)


def _history(experiment: Experiment, run: str) -> list[dict[str, float]]:
    """What a run's checkpoint knows of its epochs; nothing, if there is none that can be read. Weights are not read."""
    path = cache_folder(experiment.name) / "runs" / run / "checkpoint.pt"
    if not path.is_file():
        return []
    import torch

    try:
        return torch.load(path, mmap=True, weights_only=True)["history"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError):  # training says so and starts anew
        return []


def _present_metrics(experiment: Experiment, run: str, notebook: Path) -> dict | None:
    """A run's metrics, if it is complete and its settings are those of the experiment."""
    path = results_folder(experiment.name) / "metrics" / f"{run}.json"
    predictions = cache_folder(experiment.name) / "runs" / run / "predictions.npz"
    data = cache_folder(experiment.name) / "data.json"
    if not path.is_file() or not _is_newer(predictions, [data]) or not notebook.is_file():
        return None
    metrics = json.loads(path.read_text(encoding="utf-8"))
    is_same = run_settings(metrics["parameters"]) == run_settings(experiment.model_dump(mode="json"))
    return metrics if is_same else None


def _made_from(experiment: Experiment, name: str) -> list[Path]:
    """What must be there, and older, for an execution that is no run to be done."""
    data = cache_folder(experiment.name) / "data.json"
    metrics = results_folder(experiment.name) / "metrics"
    return {
        "01_data_preparation": [data],
        "07_identity_in_training": [data],
        "04_result_tables": [data, *(metrics / f"{run}.json" for run in experiment.runs())],
    }.get(name, [])


def _is_newer(path: Path, others: list[Path]) -> bool:
    """Whether a file and all the others are there, and it is no older than any of them."""
    return path.is_file() and all(
        other.is_file() and other.stat().st_mtime_ns <= path.stat().st_mtime_ns for other in others
    )


def table(experiment: Experiment, rows: list[Status]) -> str:
    """One line for each execution, then its failures, then how many there are in each state."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'run':{width}}  state    epoch    val. loss  time left"]
    for row in rows:
        epoch = f"{row.n_epochs}/{experiment.training.max_epochs}" if row.n_epochs or row.seconds_left else ""
        loss = "" if row.validation_loss is None else f"{row.validation_loss:.4f}"
        left = "" if row.seconds_left is None else f"<= {duration(row.seconds_left)}"
        lines.append(f"{row.name:{width}}  {row.state:7}  {epoch:7}  {loss:9}  {left}".rstrip())
    for row in rows:
        if row.failure:
            lines += ["", f"{row.name} " + row.failure.replace("\n", "\n  ")]
    counts = Counter(row.state for row in rows)
    return "\n".join([*lines, "", ", ".join(f"{number} {state}" for state, number in counts.items())])


def duration(seconds: float) -> str:
    """A time in the two units that matter.

    >>> duration(42.4), duration(125), duration(7260), duration(200_000)
    ('42 s', '2 min 5 s', '2 h 1 min', '2 d 7 h')
    """
    left = round(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= size or parts:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(part for part in parts[:2] if not part.startswith("0 ")) or "0 s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 0, or 2 if there is no such experiment."""
    parser = argparse.ArgumentParser(prog="python -m hpsed_lib.launch.status", description="How far an experiment is.")
    parser.add_argument("experiment", help="name of a file in params/")
    parser.add_argument("--seeds", type=int, help="as in the launch (default: as in the last launch)")
    options = parser.parse_args(arguments)
    try:
        experiment = load_experiment(options.experiment)
        n_seeds = last_launch(experiment.name)["n_seeds"] if options.seeds is None else options.seeds
        experiment = with_seeds(experiment, n_seeds)
    except HpsedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(experiment, statuses(experiment)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
