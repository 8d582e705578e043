"""The benchmark: both sides come to the same, and what it writes. No time is asserted; experiments: test_smoke."""

import copy
import functools
import json
import math
import subprocess
import sys

import pandas as pd
import pytest

from hpsed_lib.bench import __main__ as bench
from hpsed_lib.bench import experiment, gpu, memory, timing
from hpsed_lib.bench.timing import Comparison
from hpsed_lib.errors import HpsedError
from hpsed_lib.paths import ROOT


@pytest.fixture(scope="module")
def comparisons():
    """Every comparison, small; each side is computed once, and then only given again."""
    made = [make(tiny=True) for make in bench.COMPARISONS]
    return [each._replace(ours=functools.cache(each.ours), theirs=functools.cache(each.theirs)) for each in made]


def test_every_comparison_agrees_and_is_timed(comparisons, monkeypatch):
    monkeypatch.setattr(bench, "COMPARISONS", [lambda tiny, made=each: made for each in comparisons])
    files = bench.compare(tiny=True)
    pairs, text = files["bench.csv"], files["bench.md"]
    assert pairs.task.unique().tolist() == [each.task for each in comparisons]
    assert (pairs.groupby("task").size() == 2).all()
    assert (pairs.ratio == pairs.theirs / pairs.ours).all()
    assert all(task in text for task in pairs.task)


def test_every_file_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "results_folder", lambda name: tmp_path / name)
    for name, where in (("compare", bench), ("measure", memory), ("measure", experiment)):
        content = {f"{where.__name__}.csv": pd.DataFrame({"a": [0.12345678]}), f"{where.__name__}.md": "text"}
        monkeypatch.setattr(where, name, lambda tiny, content=content: content)
    bench.main()
    assert sorted(path.read_text() for path in tmp_path.glob("bench/*")) == ["a\n0.123457\n"] * 3 + ["text"] * 3


@pytest.mark.parametrize("name", ["log-mel", "training step", "segment scores"])
def test_what_differs_is_not_timed(comparisons, name):
    comparison = next(each for each in comparisons if each.task.startswith(name))
    value = copy.deepcopy(comparison.ours())
    if isinstance(value, dict):
        assert value["overall"]["Ntp"] > 0
        value["class 3"]["Nsys"] += 1
    else:
        value = value + 0.01 * abs(value)
    with pytest.raises(HpsedError, match=f"{name}.* differ"):
        timing.time_pairs(comparison._replace(ours=lambda: value), n_pairs=1)


def test_the_summary_is_of_ratios_of_pairs():
    about = {"task": "t", "peer": "p", "goal": 2.0, "floor": 0.5}
    pairs = pd.DataFrame({**about, "ours": [1.0, 2, 4], "theirs": [3.0, 2, 8], "ratio": [3.0, 1.0, 2.0]})
    [row] = timing.summarise(pairs).to_dict("records")
    milliseconds = {"floor (ms)": 500.0, "ours (ms)": 2000.0, "theirs (ms)": 3000.0}
    ratio = {"ratio": 2.0, "smallest": 1.0, "largest": 3.0, "goal": 2.0}
    assert row == {"task": "t", "peer": "p", "pairs": 3, **milliseconds, **ratio}


def test_the_floor_is_the_longer_of_arithmetic_and_traffic():
    nothing = Comparison("t", "p", int, int, lambda ours, theirs: True, 1.0)
    arithmetic, traffic = (timing.floor(nothing._replace(**{name: 1e9})) for name in ("operations", "n_bytes"))
    assert timing.floor(nothing._replace(operations=1e9, n_bytes=1e9)) == max(arithmetic, traffic) > 0


def test_operations_of_a_training_step_are_those_of_its_layers(comparisons):
    # By hand, for one clip: convolutions (4, 8, 16, 16 gated; 32), forward and twice backward, none for the input.
    maps = {500 * 80: [(1, 8), (4, 8)], 250 * 40: [(4, 16), (8, 16)]}
    maps |= {125 * 20: [(8, 32), (16, 32)], 125 * 10: [(16, 32)] * 2, 125 * 5: [(16, 32)]}
    products = sum(9 * n * a * b for n, layers in maps.items() for a, b in layers)
    convolutions = 2 * (3 * products - 9 * 500 * 80 * 8)
    [quick] = [each.operations for each in comparisons if "training step, quick" in each.task]
    assert convolutions < quick < 1.3 * convolutions  # GRU and dense layers add a little


def test_memory_is_measured_in_a_process_and_its_workers(tmp_path, monkeypatch):
    assert 5e7 < memory.peak_memory(memory.extract, 20) < 5e9
    memory.train(20, tmp_path)
    monkeypatch.setattr(memory, "peak_memory", lambda work, n_clips: 1e6 * n_clips)
    table = memory.measure(tiny=True)["memory.csv"]
    assert table["peak (MB)"].tolist() == table.clips.tolist() == [20, 20]


def test_an_experiment_that_fails_is_an_error(monkeypatch):
    monkeypatch.setattr(experiment, "available_cores", lambda: 0)
    with pytest.raises(HpsedError, match="smoke failed: error: CORES must be 1 or more"):
        experiment.measure(tiny=True)


BARE = """
import sys, tomllib
project = tomllib.loads(open("pyproject.toml").read())["project"]
there = {"torch", "numpy", "sympy", "jinja2"}  # the last two come with PyTorch
there |= {"pydantic", "pyyaml", "psutil", "threadpoolctl", "tqdm"}  # `make carried`
for name in project["dependencies"] + project["optional-dependencies"]["dev"]:
    if name.split("<")[0].split("[")[0] not in there:
        sys.modules[{"scikit-learn": "sklearn"}.get(name, name.split("<")[0])] = None
import json
import torch
from hpsed_lib.bench import gpu
cpu, found = torch.device("cpu"), {}
gpu.ARMS = gpu.ARMS[:1]
parts = gpu.parts(cpu, tiny=True)
for name in ("pooling", "network", "peaks", "training"):
    found[name] = parts[name](found)
print(json.dumps(found))
"""


@pytest.mark.slow
def test_make_gpu_needs_pytorch_and_numpy_and_what_can_be_carried():
    """On the CPU, with every other dependency out of reach."""
    ran = subprocess.run([sys.executable, "-c", BARE], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found.pop("peaks")["float32 (FLOP/s)"] > 1e6
    checks = [row for part in found.values() for row in part]
    assert {row["check"] for row in checks} == set(gpu.TOLERANCES) - {"losses, compiled"}
    assert all(row["passed"] for row in checks), checks


def test_a_check_on_a_gpu_can_fail():
    kind, bound = "network, float32", gpu.TOLERANCES["network, float32"]
    found = gpu._judged(iter([(kind, "here", bound / 2), (kind, "there", 2 * bound)]))
    assert found == [{"check": kind, "tolerance": bound, "difference": 2 * bound, "where": "there", "passed": False}]
    assert not gpu._judged(iter([(kind, "here", math.nan), (kind, "there", 0.0)]))[0]["passed"]
