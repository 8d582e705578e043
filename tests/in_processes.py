"""What the processes of `test_distributed.py` do: functions of a module that a new process can import, and quickly."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hpsed_lib import distributed
from hpsed_lib.errors import DataError


def normalise_and_draw(folder: Path, batches: dict[str, list[torch.Tensor]], splits: list[int]) -> None:
    """`normalise` each batch and its gradient, then `draw`: one launch for both."""
    for name, (x, d_y) in batches.items():
        normalise(folder / name, x, d_y, splits)
    draw(folder)


def normalise(folder: Path, x: torch.Tensor, d_y: torch.Tensor, splits: list[int]) -> None:
    """Batch norm of a batch cut in two, forward and backward, for each place of the cut; saved by rank."""
    folder.mkdir(exist_ok=True)
    rank, _ = distributed.rank_and_count()
    norm = distributed.with_global_norms(nn.Sequential(nn.BatchNorm2d(x.shape[1], dtype=x.dtype)))[0]
    assert type(norm) is distributed.GlobalBatchNorm2d
    results = []
    for split in splits:
        part = slice(0, split) if rank == 0 else slice(split, None)
        own = x[part].clone().requires_grad_()
        norm.zero_grad()
        y = norm(own)
        y.backward(d_y[part])
        gradients = [own.grad, norm.weight.grad, norm.bias.grad]
        results.append([y.detach(), *gradients, *(buffer.clone() for buffer in norm.buffers())])
    norm.eval()
    torch.save({"training": results, "evaluation": norm(x).detach()}, folder / f"norm{rank}.pt")


def draw(folder: Path) -> None:
    """Shares, a sum over processes and random numbers, saved by rank."""
    rank, _ = distributed.rank_and_count()
    shares = [distributed.share(np.arange(n)).tolist() for n in range(8)]
    drawn = []
    for epoch in (1, 2, 1):
        distributed.seed_apart(0, epoch)
        drawn.append(torch.rand(5))
    torch.save({"shares": shares, "total": distributed.total(rank + 0.5), "drawn": drawn}, folder / f"drawn{rank}.pt")


def fail(how: str) -> None:
    """Process 1 fails while process 0 waits for it."""
    if distributed.rank_and_count()[0] == 1:
        time.sleep(0.5)
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "expected":
            raise DataError("clip.wav: too loud")
        raise ValueError("never seen")
    distributed.total(1.0)
