"""Pooling functions of one's own: the library's pass the check, and what is faulty is told what is wrong with it."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from held import copy_project

from hpsed_lib.errors import ParameterError
from hpsed_lib.networks.own_pooling import GIVEN, check, pooling_function
from hpsed_lib.params import Experiment, Variants, load_experiment
from hpsed_lib.pooling import POOLINGS, arguments, pool
from hpsed_lib.training import train


def using(file: Path, name: str) -> Experiment:
    """The smallest experiment with one function of a file."""
    smoke = load_experiment("smoke")
    functions = {name: Variants(structures=("single",), seeds=1, file=str(file))}
    return smoke.model_copy(update={"pooling": smoke.pooling.model_copy(update={"functions": functions})})


@pytest.mark.parametrize("name", POOLINGS)
@torch.no_grad()  # as where a finished training is scored again
def test_the_librarys_functions_pass(name):
    check(POOLINGS[name])


def test_the_example_is_what_it_says():
    top_half = pooling_function(load_experiment("smoke"), "top_half")
    x = torch.tensor([0.1, 0.2, 0.9, 0.6], dtype=torch.float64).reshape(1, 4, 1)  # .9 and .6 are above .45
    assert pool(x, pooling=top_half).item() == pytest.approx((0.81 + 0.36) / 1.5)
    assert pooling_function(load_experiment("smoke"), "linear") == "linear"


RETURNED = {  # by a function of frame_prob
    "frame_prob.no": r"with random frames, it raises AttributeError: .*'no'",
    "0.5": r"with random frames, it returns float; expected a torch.Tensor",
    "frame_prob.mean()": r"it returns \(\) for frame_prob \(2, 25, 3\); expected weights of that shape",
    "frame_prob / (1 - frame_prob)": r"with frames that are all 1, it returns numbers that are not finite",
    "frame_prob - 0.5": r"with random frames, it returns weights below 0",
    "frame_prob.sum(1)": r"with random frames, clip_prob goes from .*; expected 0 to 1",
    "frame_prob.mul_(0.5)": r"with random frames, it changes frame_prob in place",
    "frame_prob.new_empty(frame_prob.shape).uniform_()": r"it returns other numbers when it is called again",
    "frame_prob.softmax(0)": r"a clip's result depends on the other clips of its batch",
    "frame_prob.detach().amax(1)": r"with random frames, clip_prob has no gradient",
    "frame_prob.sqrt()": r"with frames that are all 0, a gradient is not finite",
    "frame_prob[:, 1]": r"with a single frame, it raises IndexError",
}
FAULTY = {f"def f(frame_prob):\n    return {what}": message for what, message in RETURNED.items()} | {
    "def f(frame_prob, embedding):\n    return frame_prob": r"its arguments are frame_prob, embedding; expected some",
    "def f():\n    return 1": r"its arguments are none; expected some of frame_prob, attention",
    "def g(frame_prob):\n    return frame_prob": r"there is no function 'f'; there: g",
    "def f(frame_prob) return frame_prob": r"cannot be imported: SyntaxError",
    "import nothing_of_this_name": r"cannot be imported: ModuleNotFoundError",
}


@pytest.mark.parametrize(("code", "message"), FAULTY.items(), ids=range(len(FAULTY)))
def test_what_is_faulty_is_told_what_and_with_which_input(tmp_path, code, message):
    file = tmp_path / "mine.py"
    file.write_text(code)
    with pytest.raises(ParameterError, match=rf"(?s)mine\.py.*{message}"):
        pooling_function(using(file, "f"), "f")


def test_a_file_that_is_none_is_named(tmp_path):
    (tmp_path / "f.txt").write_text("def f(frame_prob):\n    return frame_prob")
    for name, message in (("nowhere.py", r"nowhere.py: no such file; pooling.functions.f"), ("f.txt", "must end in")):
        with pytest.raises(ParameterError, match=message):
            pooling_function(using(tmp_path / name, "f"), "f")


def test_another_file_trains_its_runs_anew(tmp_path, tiny_dataset, capsys):
    file, variant = tmp_path / "mine.py", {"pooling": "f", "structure": "single", "seed": 0}
    trained = []
    for code in ("frame_prob", "frame_prob", "frame_prob**2"):
        file.write_text(f"def f(frame_prob):\n    return {code}\n")
        trained.append(train(using(file, "f"), tiny_dataset, folder=tmp_path, **variant).history.training_loss[0])
        assert ("training starts anew" in capsys.readouterr().out) == (code == "frame_prob**2")
    linear = train(using(file, "f"), tiny_dataset, folder=tmp_path / "linear", **{**variant, "pooling": "linear"})
    assert trained[0] == trained[1] == linear.history.training_loss[0] != trained[2]


@pytest.mark.slow
def test_notebook_08_goes_through_it_09_through_schedules_and_10_looks_at_gradients(tmp_path):
    copy_project(tmp_path, "hpsed_lib", "notebooks", "params")

    def executed(notebook: str, *options: str) -> str:
        command = [sys.executable, "-m", "hpsed_lib.launch.execution", f"notebooks/{notebook}.ipynb", "made.ipynb"]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        chosen = ["-p", "experiment", "smoke", *options]
        subprocess.run([*command, *chosen], cwd=tmp_path, env=environment, capture_output=True, check=True)
        return (tmp_path / "made.ipynb").read_text()

    text = executed("08_your_own_pooling", "-p", "n_epochs", "2")
    assert "the plain sum of the frames is not: with random frames, clip_prob goes from" in text
    assert "<td>" in text
    assert "an epoch" in executed("09_learning_rate")  # on the same clips
    executed("10_directions")
    looked = pd.read_csv(tmp_path / "reproduced/smoke/tables/directions_linear.csv")
    assert looked.groupby(["trained_as", "epoch"]).size().to_dict() == {
        (structure, epoch): 6 for structure in ("single", "appendix") for epoch in (1, 2)
    }
    curves = pd.read_csv(tmp_path / "reproduced/smoke/tables/learning_rate_linear.csv")
    schedules = ("cosine 0.003", "cosine 0.005", "constant 0.003")
    assert curves.groupby("schedule").size().to_dict() == dict.fromkeys(schedules, 2)


def test_what_is_given_is_what_the_library_gives():
    assert {name for function in POOLINGS.values() for name in arguments(function)} == set(GIVEN)
