"""Benchmarks of a training step on the CPU, beside the same network in plain PyTorch.

Conventions: one thread, as the runs of an experiment are trained. Both sides start from the same weights on the same
batch of random features; the plain network is the same one with `torch.nn.GRU`. A step is forward, backward and Adam.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hpsed_lib.bench.timing import Comparison
from hpsed_lib.networks import build
from hpsed_lib.networks.gated_crnn import GatedCRNN
from hpsed_lib.params import Experiment, load_experiment
from hpsed_lib.training import clip_loss, predict

N_CLASSES = 17
TOLERANCE = 1e-4  # of a loss, in proportion
PARTS = {
    "convolution": "convolutions",
    "batch_norm": "batch norm",
    "glu": "gates",
    "sigmoid": "gates",
    "max_pool": "max-pooling",
    "_Recurrence": "GRU",
    "bmm": "GRU",
    "Optimizer": "Adam",
}
"""What operations belong to, by the first of these texts in their name."""


class PlainGRU(nn.GRU):
    """The recurrent layer as PyTorch has it."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)[0]


def random_network(experiment: Experiment) -> GatedCRNN:
    """The experiment's network with random weights, for 17 classes."""
    torch.manual_seed(0)
    network = build(experiment.network, n_mels=experiment.features.n_mels, n_classes=N_CLASSES)
    assert isinstance(network, GatedCRNN)
    return network


def stepper(network: GatedCRNN, experiment: Experiment, batch_size: int) -> Callable[[], float]:
    """A function that makes one step of training, always on the same batch, and returns its loss."""
    torch.manual_seed(1)
    features = torch.randn(batch_size, experiment.n_frames, experiment.features.n_mels)
    target = (torch.rand(batch_size, N_CLASSES) < 0.2).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=experiment.training.learning_rate)

    def step() -> float:
        torch.manual_seed(2)  # the same dropout on both sides
        _, clip_prob = predict(network, features, experiment, pooling="linear", structure="hierarchical")
        loss = clip_loss(clip_prob, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def training_step(name: str, *, tiny: bool) -> Comparison:
    """A step of an experiment's network on one of its batches, of at most 8 clips."""
    torch.set_num_threads(1)
    experiment = load_experiment(name)
    batch_size = 1 if tiny else min(experiment.training.batch_size, 8)
    network = random_network(experiment)
    plain, counted = copy.deepcopy(network), copy.deepcopy(network)
    plain.gru = PlainGRU(network.gru.input_size, network.gru.hidden_size, batch_first=True, bidirectional=True)  # type: ignore[assignment]
    plain.load_state_dict(network.state_dict())
    with FlopCounterMode(display=False) as counter:
        stepper(counted, experiment, batch_size)()
    step = stepper(network, experiment, batch_size)
    return Comparison(
        f"training step, {name}, {batch_size} clips, one thread",
        "the same network with torch.nn.GRU",
        step,
        stepper(plain, experiment, batch_size),
        lambda ours, theirs: abs(ours - theirs) <= TOLERANCE * abs(theirs),
        goal=2,
        parts=partial(_parts, step),
        operations=float(counter.get_total_flops()),
    )


def _parts(step: Callable[[], float]) -> dict[str, float]:
    """Seconds of a step's operations, forward and backward, put together as in `PARTS`."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    seconds: dict[str, float] = {}
    for event in profile.key_averages():
        part = next((part for text, part in PARTS.items() if text in event.key), event.key)
        seconds[part] = seconds.get(part, 0.0) + event.self_cpu_time_total / 1e6
    return seconds
