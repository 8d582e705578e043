"""Benchmarks of training on the CPU: a step of the network, and pooling, beside what they could plainly be.

Conventions: one thread, as the runs of an experiment are trained. Both sides start from the same weights on the same
batch of random features; the plain network is the same one with `torch.nn.GRU`. A step is forward, backward and Adam.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from hpsed_lib.bench import Comparison
from hpsed_lib.network import GatedCRNN
from hpsed_lib.params import load_experiment
from hpsed_lib.pooling import pool
from hpsed_lib.training import clip_loss, predict_clips

N_CLASSES = 17
TOLERANCE = 1e-4  # of a loss, in proportion


class PlainGRU(nn.GRU):
    """The recurrent layer as PyTorch has it."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)[0]


def training_step(name: str, *, tiny: bool) -> Comparison:
    """A step of an experiment's network on one of its batches."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    experiment = load_experiment(name)
    n_mels = experiment.features.n_mels
    batch_size = 2 if tiny else experiment.training.batch_size
    features = torch.randn(batch_size, experiment.n_frames, n_mels)
    target = (torch.rand(batch_size, N_CLASSES) < 0.2).float()
    network = GatedCRNN(
        experiment.network, n_mels=n_mels, n_classes=N_CLASSES, mean=np.zeros(n_mels), std=np.ones(n_mels)
    ).float()
    plain = copy.deepcopy(network)
    plain.gru = PlainGRU(network.gru.input_size, network.gru.hidden_size, batch_first=True, bidirectional=True)  # type: ignore[assignment]
    plain.load_state_dict(network.state_dict())

    def stepper(trained: GatedCRNN) -> Callable[[], float]:
        optimizer = torch.optim.Adam(trained.parameters(), lr=experiment.training.learning_rate)

        def step() -> float:
            clip_prob = predict_clips(trained, features, experiment, pooling="linear", structure="hierarchical")
            loss = clip_loss(clip_prob, target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    task = f"training step, {name}, {batch_size} clips, one thread"
    return Comparison(task, "the same network with torch.nn.GRU", stepper(network), stepper(plain), _difference, goal=2)


def pooling_step(structure: str, *, tiny: bool) -> Comparison:
    """Forward and backward of a structure, against single pooling."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.rand(8 if tiny else 128, 125, N_CLASSES, requires_grad=True)

    def run(of: str) -> Callable[[], float]:
        def step() -> float:
            clip_prob = pool(x, pooling="linear", structure=of)
            x.grad = None
            clip_prob.sum().backward()
            return clip_prob.sum().item()

        return step

    task = f"pooling of {x.shape[0]} clips, {structure}, forward and backward"
    return Comparison(task, "single", run(structure), run("single"), _difference, goal=1 / 1.5)


def _difference(ours: float, theirs: float) -> str:
    """Both values, if they differ by more than `TOLERANCE`."""
    return "" if abs(ours - theirs) <= TOLERANCE * abs(theirs) else f"{ours} against {theirs}"
