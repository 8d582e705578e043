"""A whole experiment against its training alone: ``python -m hpsed_lib.bench_experiment``, a part of ``make bench``.

Conventions: the experiment runs from nothing, by the command behind ``make reproduce``, in a temporary copy of the
project. Its trainings run one a core; the sum of their times over the number of cores is what it could not do without.
The rest is start-up of every notebook, data, scores, tables and what is the same for every experiment.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hpsed_lib.errors import HpsedError
from hpsed_lib.params import load_experiment
from hpsed_lib.paths import ROOT, replacing, results_folder
from hpsed_lib.workflow import available_cores

NEEDED = ("hpsed_lib", "notebooks", "params", "workflow", "results/paper")
GOAL = 1.25


def measure(name: str, *, cores: int) -> dict[str, str | int | float]:
    """Run an experiment that needs no recordings, from nothing.

    Returns
    -------
    dict
        Keys ``experiment``, ``cores``, ``runs``; in seconds ``all in all``, ``training / cores``; ``ratio``, ``goal``.

    Raises
    ------
    HpsedError
        It failed; its last lines are in the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "hpsed"
        for part in NEEDED:
            shutil.copytree(ROOT / part, project / part, ignore=shutil.ignore_patterns("__pycache__"))
        command = [sys.executable, "-m", "hpsed_lib.workflow", name, "--cores", str(cores)]
        start = time.perf_counter()
        done = subprocess.run(
            command, cwd=project, env=os.environ | {"PYTHONPATH": str(project)}, capture_output=True, text=True
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            raise HpsedError(f"{name} failed: {done.stderr[-2000:]}")
        metrics = [json.loads(path.read_text()) for path in (project / "results" / name / "metrics").glob("*.json")]
    training = sum(run["time"]["training_seconds"] for run in metrics) / min(cores, len(metrics))
    return {
        "experiment": name,
        "cores": cores,
        "runs": len(metrics),
        "all in all": round(seconds, 1),
        "training / cores": round(training, 1),
        "ratio": round(seconds / training, 2),
        "goal": GOAL,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hpsed_lib.bench_experiment", description=__doc__.split("\n")[0])
    parser.add_argument("experiment", nargs="?", default="quick", help="one that needs no recordings (default: quick)")
    parser.add_argument("--output", type=Path, help="folder of experiment.csv (default: results/bench)")
    options = parser.parse_args(arguments)
    row = measure(load_experiment(options.experiment).name, cores=available_cores())
    print(row)
    with replacing((options.output or results_folder("bench")) / "experiment.csv") as temporary:
        pd.DataFrame([row]).to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
