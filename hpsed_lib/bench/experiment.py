"""A whole experiment against its training alone: ``python -m hpsed_lib.bench.experiment``, a part of ``make bench``.

Conventions: the experiment runs from nothing, by the command behind ``make reproduce``, in a temporary copy of the
project. Its trainings run one a core; the sum of their times over the number of cores is what it could not do without.
The rest is start-up of every notebook, data, scores, tables and what is the same for every experiment. What it is made
of is in seconds of a core, of which there are the elapsed time times the cores; for the sections of notebook 03, some
finished runs are executed again, one a core: all but the training itself.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pandas as pd

from hpsed_lib.errors import HpsedError
from hpsed_lib.launch.execution import THREAD_VARIABLES
from hpsed_lib.launch.workflow import available_cores
from hpsed_lib.params import load_experiment
from hpsed_lib.paths import ROOT, replacing, results_folder
from hpsed_lib.processes import LAUNCHER

NEEDED = ("hpsed_lib", "notebooks", "params", "workflow", "results/paper")
GOAL = 1.25


def measure(name: str, *, cores: int) -> tuple[dict[str, str | int | float], pd.DataFrame]:
    """Run an experiment that needs no recordings, from nothing.

    Returns
    -------
    row : dict
        Keys ``experiment``, ``cores``, ``runs``; in seconds ``all in all``, ``training / cores``; ``ratio``, ``goal``.
    parts : DataFrame with columns task, part, seconds, share
        What its time is made of; shares in percent.

    Raises
    ------
    HpsedError
        It failed; its last lines are in the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "hpsed"
        for part in NEEDED:
            shutil.copytree(ROOT / part, project / part, ignore=shutil.ignore_patterns("__pycache__"))
        environment = os.environ | {"PYTHONPATH": str(project), LAUNCHER: str(os.getpid())}
        command = [sys.executable, "-m", "hpsed_lib.launch.workflow", name, "--cores", str(cores)]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise HpsedError(f"{name} failed: {done.stderr[-2000:]}")
        metrics = [json.loads(path.read_text()) for path in (project / "reproduced" / name / "metrics").glob("*.json")]
        sections = sections_of_a_run(project, metrics[:cores], environment)
    training = sum(run["time"]["training_seconds"] for run in metrics)
    parts = parts_of_all(done.stderr, metrics, sections) | {"training": training}
    parts["no notebook on a core"] = cores * seconds - sum(parts.values())
    table = pd.DataFrame({"part": parts.keys(), "seconds": parts.values()})
    table = table.assign(task=f"{name}, all of it, {cores} cores", share=100 * table.seconds / (cores * seconds))
    at_least = training / min(cores, len(metrics))
    row = {
        "experiment": name,
        "cores": cores,
        "runs": len(metrics),
        "all in all": round(seconds, 1),
        "training / cores": round(at_least, 1),
        "ratio": round(seconds / at_least, 2),
        "goal": GOAL,
    }
    return row, table[["task", "part", "seconds", "share"]].sort_values("share", ascending=False)


def parts_of_all(log: str, metrics: Sequence[dict], sections: dict[str, float]) -> dict[str, float]:
    """Seconds of all but training, by notebook or, of the runs' notebooks, by section.

    Parameters
    ----------
    log : str
        What the launch printed.
    metrics : sequence of dict
        Of every run.
    sections : dict of float
        From `sections_of_a_run`.
    """
    notebooks = {notebook: float(seconds) for notebook, seconds in re.findall(r"^\[(.+)\] done in (\d+) s$", log, re.M)}
    runs = {run["run"] for run in metrics}
    of_runs = sum(seconds for notebook, seconds in notebooks.items() if notebook in runs)
    rest = of_runs - sum(run["time"]["training_seconds"] for run in metrics) - len(runs) * sum(sections.values())
    return {
        **{notebook: seconds for notebook, seconds in notebooks.items() if notebook not in runs},
        **{f"runs: {section}": len(runs) * seconds for section, seconds in sections.items()},
        "runs: start and end of their processes": rest,
    }


def sections_of_a_run(project: Path, metrics: Sequence[dict], environment: dict[str, str]) -> dict[str, float]:
    """Seconds of each section of notebook 03 without the training, a mean over finished runs, executed side by side."""
    executed = [project / f"{run['run']}.ipynb" for run in metrics]
    processes = []
    try:
        for run, path in zip(metrics, executed, strict=True):
            command = [sys.executable, "-m", "papermill", "notebooks/03_train_variant.ipynb", str(path)]
            for key in ("experiment", "pooling", "structure", "seed"):
                command += ["-p", key, str(run[key])]
            variables = environment | dict.fromkeys(THREAD_VARIABLES, "1")
            processes.append(subprocess.Popen(command, cwd=project, env=variables, stderr=subprocess.PIPE, text=True))
        for run, process in zip(metrics, processes, strict=True):
            _, errors = process.communicate()
            if process.returncode:
                raise HpsedError(f"{run['run']}, finished, could not be executed again: {errors[-2000:]}")
    finally:
        for process in processes:
            process.kill()
    means = pd.DataFrame([seconds_by_section(path) for path in executed]).mean()
    return {str(section): float(seconds) for section, seconds in means.items()}


def seconds_by_section(notebook: Path) -> dict[str, float]:
    """Seconds of a notebook's cells, as papermill noted them, by the heading that they stand under."""
    seconds: dict[str, float] = {}
    section = ""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#+ +(.+?)(?: \(.*\))?$", cell.source, flags=re.MULTILINE)
            section = headings[-1] if headings else section
        else:
            seconds[section] = seconds.get(section, 0.0) + (cell.metadata.papermill.duration or 0.0)
    return seconds


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hpsed_lib.bench.experiment", description=__doc__.split("\n")[0])
    parser.add_argument("experiment", nargs="?", default="quick", help="one that needs no recordings (default: quick)")
    parser.add_argument("--output", type=Path, help="folder of the tables (default: reproduced/bench)")
    options = parser.parse_args(arguments)
    row, parts = measure(load_experiment(options.experiment).name, cores=available_cores())
    print(row, parts, sep="\n")
    for name, table in {"experiment": pd.DataFrame([row]), "experiment_parts": parts}.items():
        with replacing((options.output or results_folder("bench")) / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
