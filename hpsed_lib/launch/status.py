"""How far an experiment is, for ``make status``.

Reads what the executions leave in ``cache/`` and ``reproduced/`` and changes none of it, so that it may be asked at any
time, on any host that shares these folders. An execution is

- ``running``: a process holds its lock;
- ``failed``: a cell of its notebook failed, and the notebook is kept;
- ``done``: its results are there, newer than what they were made from, and, of a run, with its present settings;
- ``stopped``: it was ended from outside (a kill, a cluster's time or memory limit); the next launch goes on with it;
- ``waiting``: none of these.

Whether library code has changed since is for the launch to find out.
"""

from __future__ import annotations

import contextlib
import pickle
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from hpsed_lib.launch.graph import SHARED, executed_notebooks
from hpsed_lib.params import Experiment, run_settings
from hpsed_lib.paths import ROOT, cache_folder, read_json, results_folder
from hpsed_lib.processes import is_held


class Status(NamedTuple):
    """How far one execution is: its state, each complete epoch of a run, and failing cell and kept notebook, if any."""

    name: str
    state: str
    history: Sequence[dict[str, float]] = ()
    failure: str = ""

    def row(self, max_epochs: int) -> str:
        """State, epoch, lowest validation loss and, of a running training, the time left: it may stop early."""
        epoch = loss = left = ""
        if n_epochs := len(self.history):
            epoch = f"{n_epochs}/{max_epochs}"
            loss = f"{min(row['validation_loss'] for row in self.history):.4f}"
            seconds = sum(row["seconds"] for row in self.history) / n_epochs * (max_epochs - n_epochs)
            left = f"<= {tqdm.format_interval(seconds)}" if self.state == "running" else ""
        return f"{self.state:7}  {epoch:7}  {loss:9}  {left}".rstrip()


def statuses(experiment: Experiment) -> list[Status]:
    """The state of every execution of an experiment, in the order of the tables."""
    runs, paths = set(experiment.runs()), executed_notebooks(experiment)
    return [_status(experiment, name, ROOT / path, is_run=name in runs) for name, path in paths.items()]


def _status(experiment: Experiment, name: str, notebook: Path, *, is_run: bool) -> Status:
    cache, results = cache_folder(experiment.name), results_folder(experiment.name)
    traces = cache_folder("" if name in SHARED else experiment.name) / "notebooks-in-progress"
    log, failure = traces / f"{name}.log", traces / f"{name}.failed.txt"
    checkpoint = cache / f"runs/{name}/checkpoint.pt"
    if is_held(traces / f"{name}.lock"):
        begun = re.findall(r"epoch (\d+)/", log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else []
        # An older checkpoint may be longer.
        return Status(name, "running", _history(checkpoint)[: int(begun[-1])] if begun else ())
    if failure.is_file():
        return Status(name, "failed", failure=failure.read_text(encoding="utf-8").strip())
    if log.is_file() and not _is_newer(notebook, [log]):
        return Status(name, "stopped", _history(checkpoint))
    made = results / f"metrics/{name}.json" if is_run else notebook
    made_from = [] if name in SHARED else [cache / "data.json"]
    if name in ("04_result_tables", "11_findings"):  # made from all runs
        made_from += [results / f"metrics/{run}.json" for run in experiment.runs()]
    if not notebook.is_file() or not _is_newer(made, made_from):
        return Status(name, "waiting")
    if not is_run:
        return Status(name, "done")
    metrics = read_json(made)
    is_present = run_settings(metrics["parameters"]) == run_settings(experiment.model_dump(mode="json"))
    return Status(name, "done", metrics["history"]) if is_present else Status(name, "waiting")


def _history(checkpoint: Path) -> Sequence[dict[str, float]]:
    """What a checkpoint knows of its epochs; nothing, if there is none that can be read. Weights are not read."""
    if not checkpoint.is_file():
        return ()
    import torch

    with contextlib.suppress(RuntimeError, pickle.UnpicklingError, EOFError, OSError):  # training will start anew
        return torch.load(checkpoint, mmap=True, weights_only=True)["history"]
    return ()


def _is_newer(path: Path, others: list[Path]) -> bool:
    """Whether a file and all the others are there, and it is no older than any of them."""
    files = [path, *others]
    return all(file.is_file() and file.stat().st_mtime_ns <= path.stat().st_mtime_ns for file in files)


def table(experiment: Experiment) -> str:
    """One line for each execution, then its failures, then how many there are in each state."""
    rows = statuses(experiment)
    width = max(len(row.name) for row in rows)
    lines = [f"{'run':{width}}  state    epoch    val. loss  time left"]
    lines += [f"{row.name:{width}}  {row.row(experiment.training.max_epochs)}" for row in rows]
    lines += [f"\n{row.name} " + row.failure.replace("\n", "\n  ") for row in rows if row.failure]
    counts = Counter(row.state for row in rows)
    return "\n".join([*lines, "", ", ".join(f"{number} {state}" for state, number in counts.items())])
