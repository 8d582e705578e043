"""A whole experiment against its training alone.

Conventions: the experiment runs from nothing, by the command behind ``make reproduce``, in a temporary copy of the
project. Its trainings run one a core; the sum of their times over the number of cores is what it could not do without.
Its parts are in seconds of a core, of which there are the elapsed time times the cores; for the sections of notebook
03, some finished trainings are executed again, one a core: all but the training itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pandas as pd

from hpsed_lib.errors import HpsedError
from hpsed_lib.launch.execution import THREAD_VARIABLES
from hpsed_lib.launch.workflow import available_cores
from hpsed_lib.paths import ROOT
from hpsed_lib.processes import LAUNCHER

NEEDED = ("hpsed_lib", "notebooks", "params", "workflow", "results/paper")
GOAL = 1.25


def measure(*, tiny: bool) -> dict[str, pd.DataFrame | str]:
    """Run ``quick`` from nothing; what that took, as the contents of files, by name."""
    name, cores = "smoke" if tiny else "quick", available_cores()
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
        return account(project, name, done.stderr, seconds=seconds, cores=cores)


def account(project: Path, name: str, log: str, *, seconds: float, cores: int) -> dict[str, pd.DataFrame | str]:
    """What an experiment took, in seconds, by what lies in its project and what the launch printed.

    Its parts are notebooks and, of notebook 03, sections; their shares are in percent.
    """
    results = project / "reproduced" / name
    metrics = [json.loads(path.read_text()) for path in (results / "metrics").glob("*.json")]
    executed = sorted((results / "notebooks/03_train_variant").glob("*.ipynb"))
    training = sum(run["time"]["training_seconds"] for run in metrics)
    took = {notebook: float(each) for notebook, each in re.findall(r"^\[(.+)\] done in (\d+) s$", log, re.MULTILINE)}
    of_runs = sum(took.pop(path.stem, 0.0) for path in executed)
    sections = {f"runs: {title}": len(executed) * each for title, each in _sections(project, executed[:cores]).items()}
    parts = took | sections | {"training": training}
    parts["runs: start and end of their processes"] = of_runs - training - sum(sections.values())
    parts["no notebook on a core"] = cores * seconds - sum(parts.values())
    table = pd.DataFrame({"task": f"{name}, all of it, {cores} cores", "part": parts.keys(), "seconds": parts.values()})
    table = table.assign(share=100 * table.seconds / (cores * seconds)).sort_values("share", ascending=False)
    row = {"experiment": name, "cores": cores, "runs": len(metrics), "all in all": seconds}
    row |= {"training / cores": training / cores, "ratio": seconds / training * cores, "goal": GOAL}
    return {"experiment.csv": pd.DataFrame([row]), "experiment_parts.csv": table}


def _sections(project: Path, executed: list[Path]) -> pd.Series:
    """Seconds of each section of finished trainings' notebooks, a mean, executed once more side by side."""
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1") | {"PYTHONPATH": str(project)}
    papermill = [sys.executable, "-m", "papermill", "--no-progress-bar"]
    commands = [[*papermill, str(path), path.name] for path in executed]
    processes = [subprocess.Popen(command, cwd=project, env=environment) for command in commands]
    if {process.wait() for process in processes} != {0}:
        raise HpsedError("a finished training could not be executed again")
    return pd.DataFrame([_seconds_by_section(project / path.name) for path in executed]).mean()


def _seconds_by_section(notebook: Path) -> dict[str, float]:
    """Seconds of a notebook's cells, as papermill noted them, by the heading that they stand under."""
    seconds: dict[str, float] = {}
    section = ""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "markdown":
            section = (re.findall(r"^#+ +(.+?)(?: \(.*\))?$", cell.source, flags=re.MULTILINE) or [section])[-1]
        else:
            seconds[section] = seconds.get(section, 0.0) + (cell.metadata.papermill.duration or 0.0)
    return seconds
