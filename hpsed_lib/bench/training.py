"""Benchmarks of a training step on the CPU, beside the same network in plain PyTorch.

Conventions: one thread, as the runs of an experiment are trained. Both sides start from the same weights on the same
batch of random features; the plain network is the same one with `torch.nn.GRU`. A step is forward, backward and Adam.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hpsed_lib.bench.steps import stepper, with_training
from hpsed_lib.bench.timing import Comparison
from hpsed_lib.networks import FrameNetwork
from hpsed_lib.params import load_experiment


class PlainGRU(nn.GRU):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)[0]


def with_plain_gru(network: FrameNetwork) -> FrameNetwork:
    """The network with `torch.nn.GRU` in place of our own, and the same weights."""
    ours, weights = network.gru, network.state_dict()
    assert isinstance(ours, nn.GRU)
    network.gru = PlainGRU(ours.input_size, ours.hidden_size, batch_first=True, bidirectional=True)
    network.load_state_dict(weights)
    return network


def training_step(name: str, *, tiny: bool) -> Comparison:
    """A step of an experiment's network on one of its batches, of at most 8 clips."""
    cpu = torch.device("cpu")
    torch.set_num_threads(1)
    experiment = with_training(load_experiment(name), channels_last=False, compile=False)
    batch_size = 1 if tiny else min(experiment.training.batch_size, 8)
    with FlopCounterMode(display=False) as counter:
        stepper(experiment, cpu, batch_size)()

    def seeded(step: Callable[[], Tensor]) -> Callable[[], float]:
        def run() -> float:
            torch.manual_seed(2)  # the same dropout on both sides
            return step().item()

        return run

    return Comparison(
        f"training step, {name}, {batch_size} clips, one thread",
        "the same network with torch.nn.GRU",
        seeded(stepper(experiment, cpu, batch_size)),
        seeded(stepper(experiment, cpu, batch_size, change=with_plain_gru)),
        lambda ours, theirs: abs(ours - theirs) <= 1e-4 * abs(theirs),
        goal=2,
        operations=float(counter.get_total_flops()),
    )
