"""Planning a sweep and asking how far it is grow in proportion to its runs: function calls are counted, not seconds."""

import json
import os
import subprocess
import sys

import pytest
from held import copy_project

COUNT = """
import contextlib, cProfile, io, json, pstats

from hpsed_lib.launch.status import statuses
from hpsed_lib.params import load_experiment, with_seeds
from snakemake.cli import main

def n_calls(function):
    profile, said = cProfile.Profile(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            profile.runcall(function)
        except SystemExit as ended:
            assert not ended.code, said.getvalue()
    return pstats.Stats(profile).total_calls

def dry_run(n_seeds):
    options = "--snakefile workflow/Snakefile --workflow-profile workflow/profiles/default --nolock --cores 1 --dry-run"
    return lambda: main([*options.split(), "--config", "experiment=smoke", f"n_seeds={n_seeds}"])

smoke = load_experiment("smoke")
n_calls(dry_run(1))  # the first one imports
for n_seeds in (5, 10, 20):  # 40, 80 and 160 runs
    print(json.dumps([n_calls(dry_run(n_seeds)), n_calls(lambda: statuses(with_seeds(smoke, n_seeds)))]))
"""


def test_work_for_a_sweep_grows_in_proportion_to_its_runs(tmp_path):
    copy_project(tmp_path, "hpsed_lib", "params", "workflow", "notebooks", "results/paper")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-c", COUNT]
    counted = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    for first, second, third in zip(*map(json.loads, counted.splitlines()), strict=True):
        # in proportion to n log n it would be 2.3, to n squared 4
        assert third - second == pytest.approx(2 * (second - first), rel=0.1)
