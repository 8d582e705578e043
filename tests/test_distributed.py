"""Two processes train what one trains: batch norm, loss curves, a run that was killed, failures. CPU and gloo only."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import in_processes
import numpy as np
import psutil
import pytest
import torch
import training_in_processes
from torch import nn
from training_in_processes import VARIANT

from hpsed_lib.dataset import Dataset
from hpsed_lib.distributed import rank_and_count, run_in_processes, share, total
from hpsed_lib.errors import ExecutionError, ParameterError
from hpsed_lib.params import Experiment
from hpsed_lib.training import Trained, train

CPU = torch.device("cpu")
BATCH_SIZES = {5: "5, 5, 2: shares of 2 and 3", 11: "11, 1: of 5 and 6, then one without a clip"}
TOLERANCES = {torch.float64: 1e-9, torch.float32: 2e-3}  # of every parameter and loss after 4 epochs


@pytest.fixture(scope="module", autouse=True)
def processes_find_the_tests() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
        patch.delenv("HPSED_PROGRESS_LOG", raising=False)
        yield


def of_processes(
    experiment: Experiment, processes: int, *, batch_size: int, dropout: float = 0.0, max_epochs: int = 4
) -> Experiment:
    training = {"processes": processes, "batch_size": batch_size, "max_epochs": max_epochs}
    return experiment.model_copy(
        update={
            "training": experiment.training.model_copy(update=training),
            "network": experiment.network.model_copy(update={"dropout": dropout}),
        }
    )


@pytest.fixture(scope="module")
def of_two(tiny: Experiment, tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder for each case, as two processes trained it."""
    folder = tmp_path_factory.mktemp("two")
    cases = [
        (of_processes(tiny, 2, batch_size=size), folder / f"{size}-{dtype}", dtype)
        for size in BATCH_SIZES
        for dtype in TOLERANCES
    ]
    cases.append((of_processes(tiny, 2, batch_size=5, dropout=0.3), folder / "dropout", torch.float32))
    run_in_processes(training_in_processes.train_all, cases, tiny_dataset, count=2, device=CPU)
    return folder


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_two_processes_train_what_one_trains(
    tiny: Experiment, tiny_dataset: Dataset, of_two: Path, tmp_path: Path, batch_size: int, dtype: torch.dtype
) -> None:
    with training_in_processes.of_dtype(dtype):
        one = train(of_processes(tiny, 1, batch_size=batch_size), tiny_dataset, folder=tmp_path, **VARIANT)
        together = of_processes(tiny, 2, batch_size=batch_size)
        two = train(together, tiny_dataset, folder=of_two / f"{batch_size}-{dtype}", **VARIANT)  # loads it
    close = {"rtol": TOLERANCES[dtype], "atol": TOLERANCES[dtype]}
    assert two.resumed_after == []
    assert len(two.history) == 4
    for column in ("training_loss", "validation_loss"):
        np.testing.assert_allclose(two.history[column], one.history[column], **close)
    for name, value in one.network.state_dict().items():
        difference = (two.network.state_dict()[name] - value).abs().max()
        assert difference <= TOLERANCES[dtype], f"{name}: {difference}"
    assert one.network.frame_dense.weight.dtype == dtype


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[torch.Tensor]], list[int]]:
    """A folder of what two processes made of two batches, cut in two at each of some places, and of random numbers."""
    folder, generator = tmp_path_factory.mktemp("small"), torch.Generator().manual_seed(0)
    batches = {}
    for dtype in (torch.float64, torch.float32):
        x = torch.randn(5, 3, 4, 6, generator=generator, dtype=dtype) + torch.tensor([0, 10, 1000])[:, None, None]
        batches[str(dtype)] = [x, torch.randn(x.shape, generator=generator, dtype=dtype)]
    splits = [2, 0, 5, 1]
    run_in_processes(in_processes.normalise_and_draw, folder, batches, splits, count=2, device=CPU)
    return folder, batches, splits


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-3)])
def test_batch_norm_is_that_of_the_whole_batch(
    small: tuple[Path, dict[str, list[torch.Tensor]], list[int]], dtype: torch.dtype, tolerance: float
) -> None:
    folder, batches, splits = small
    parts = [torch.load(folder / str(dtype) / f"norm{rank}.pt", weights_only=True) for rank in (0, 1)]
    x, d_y = (tensor.double() for tensor in batches[str(dtype)])
    norm = nn.BatchNorm2d(3, dtype=torch.float64)
    close = {"rtol": tolerance, "atol": tolerance, "check_dtype": False}
    assert len(parts[0]["training"]) == len(splits)
    for (y0, d_x0, d_weight0, d_bias0, *buffers), (y1, d_x1, d_weight1, d_bias1, *same) in zip(
        parts[0]["training"], parts[1]["training"], strict=True
    ):
        x = x.detach().requires_grad_()
        norm.zero_grad()
        y = norm(x)
        y.backward(d_y)
        torch.testing.assert_close(torch.cat([y0, y1]), y.detach(), **close)
        torch.testing.assert_close(torch.cat([d_x0, d_x1]), x.grad, **close)
        torch.testing.assert_close(d_weight0 + d_weight1, norm.weight.grad, **close)
        torch.testing.assert_close(d_bias0 + d_bias1, norm.bias.grad, **close)
        for ours, other, theirs in zip(buffers, same, norm.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs, **close)
            assert torch.equal(ours, other)
    torch.testing.assert_close(parts[0]["evaluation"], norm.eval()(x).detach(), **close)


def test_processes_share_everything_and_draw_their_own_numbers(small: tuple[Path, dict, list[int]]) -> None:
    folder, _, _ = small
    first, second = (torch.load(folder / f"drawn{rank}.pt", weights_only=True) for rank in (0, 1))
    for n, (one, other) in enumerate(zip(first["shares"], second["shares"], strict=True)):
        assert one + other == list(range(n))
        assert abs(len(one) - len(other)) <= 1
    assert first["total"] == second["total"] == 2.0
    assert not torch.equal(first["drawn"][0], second["drawn"][0])  # what dropout draws
    assert not torch.equal(first["drawn"][0], first["drawn"][1])
    assert torch.equal(first["drawn"][0], first["drawn"][2])


def test_one_process_has_everything() -> None:
    assert rank_and_count() == (0, 1)
    assert share(np.arange(7)).tolist() == list(range(7))
    assert total(0.1) == 0.1


KILLED = """
import pickle, sys
import torch
from pathlib import Path
from hpsed_lib.distributed import run_in_processes
run_in_processes(*pickle.loads(Path(sys.argv[1]).read_bytes()), count=2, device=torch.device("cpu"))
"""


def test_a_killed_run_leaves_no_process_and_goes_on_to_the_same_numbers(
    tiny: Experiment, tiny_dataset: Dataset, of_two: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    experiment, folder = of_processes(tiny, 2, batch_size=5, dropout=0.3), tmp_path / "run"
    job = tmp_path / "job.pickle"
    job.write_bytes(pickle.dumps((training_in_processes.train_two_epochs, experiment, tiny_dataset, folder)))
    caller = subprocess.Popen([sys.executable, "-c", KILLED, str(job)], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: (folder / "waits0").exists() and (folder / "waits1").exists(), seconds=120)
        started = psutil.Process(caller.pid).children(recursive=True)
        assert len(started) >= 3  # the launcher and two more
    finally:
        caller.kill()
        caller.wait()
    wait_until(lambda: not any(runs(process) for process in started), seconds=20)
    resumed = train(experiment, tiny_dataset, folder=folder, **VARIANT)
    assert re.findall(r"^epoch +(\d)", capsys.readouterr().out, flags=re.MULTILINE) == ["3", "4"]
    assert resumed.resumed_after == [2]
    assert_same(resumed, train(experiment, tiny_dataset, folder=of_two / "dropout", **VARIANT))
    assert_same(resumed, train(experiment, tiny_dataset, folder=folder, **VARIANT))  # done: nothing is started
    assert capsys.readouterr().out == ""


def assert_same(one: Trained, other: Trained) -> None:
    columns = ["epoch", "training_loss", "validation_loss"]
    assert one.history[columns].equals(other.history[columns])  # to the last bit
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name]), name


def runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def wait_until(condition, *, seconds: float) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("expected", "one of 2 processes failed: process 1: clip.wav: too loud"),
        ("killed", "one of 2 processes failed: process 1 was ended by SIGKILL"),
    ],
)
def test_the_failure_of_a_process_is_one_error(how: str, message: str, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(ExecutionError) as caught:
        run_in_processes(in_processes.fail, how, count=2, device=CPU)
    assert str(caught.value) == message
    assert capfd.readouterr() == ("", "")


def test_devices_that_do_not_suffice_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"training.processes is 2, and MPS takes one process"):
        run_in_processes(in_processes.fail, "", count=2, device=torch.device("mps"))
    if torch.cuda.device_count() < 99:
        with pytest.raises(ParameterError, match=r"training.processes is 99, and the GPUs here are"):
            run_in_processes(in_processes.fail, "", count=99, device=torch.device("cuda"))
