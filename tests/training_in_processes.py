"""What the processes of `test_distributed.py` train: functions of a module that a new process can import."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from hpsed_lib import distributed, training
from hpsed_lib.dataset import Dataset
from hpsed_lib.params import Experiment

VARIANT = {"pooling": "linear", "structure": "hierarchical", "seed": 0}


def train_all(cases: list[tuple[Experiment, Path, torch.dtype]], dataset: Dataset) -> None:
    """Train every case, as `hpsed_lib.training.train` does in a process of its own."""
    for experiment, folder, dtype in cases:
        with of_dtype(dtype):
            training.train(experiment, dataset, folder=folder, **VARIANT)


@contextlib.contextmanager
def of_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Train in float64 instead of float32."""

    def build(*arguments: Any, **options: Any) -> training.GatedCRNN:
        return build_network(*arguments, **options).to(dtype)

    def loss(clip_prob: torch.Tensor, target: torch.Tensor, **options: Any) -> torch.Tensor:
        return clip_loss(clip_prob, target.to(dtype), **options)

    build_network, clip_loss, before = training.build_network, training.clip_loss, torch.get_default_dtype()
    training.build_network, training.clip_loss = build, loss
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        training.build_network, training.clip_loss = build_network, clip_loss
        torch.set_default_dtype(before)


def train_two_epochs(experiment: Experiment, dataset: Dataset, folder: Path) -> None:
    """Train, but at the end of the third epoch wait for ever."""
    evaluate_loss, calls = training.evaluate_loss, itertools.count(1)

    def wait(*arguments: Any, **options: Any) -> float:
        if next(calls) == 3:
            (folder / f"waits{distributed.rank_and_count()[0]}").touch()
            time.sleep(600)
        return evaluate_loss(*arguments, **options)

    training.evaluate_loss = wait
    training.train(experiment, dataset, folder=folder, **VARIANT)
