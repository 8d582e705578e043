"""Benchmarks of the network on the CPU: training steps, pooling, inference, beside what they could plainly be.

Conventions: one thread, as the runs of an experiment are trained. Both sides of a training step start from the same
weights on the same batch of random features; the plain network is the same one with `torch.nn.GRU`. A step is forward,
backward and Adam.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hpsed_lib.bench.timing import Comparison, Work
from hpsed_lib.decoding import decode, to_events
from hpsed_lib.features import log_mel
from hpsed_lib.network import GatedCRNN
from hpsed_lib.params import Experiment, load_experiment
from hpsed_lib.pooling import pool
from hpsed_lib.training import clip_loss, predict

N_CLASSES = 17
TOLERANCE = 1e-4  # of a loss, in proportion
POOLED = (128, 125)  # clips, frames: a batch of the paper's
PARTS = {
    "convolution": "convolutions",
    "batch_norm": "batch norm",
    "glu": "gates",
    "sigmoid": "gates",
    "max_pool": "max-pooling",
    "_Recurrence": "GRU",
    "bmm": "GRU",
    "aten::empty": "memory for results",
    "aten::resize_": "memory for results",
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
    n_mels = experiment.features.n_mels
    return GatedCRNN(
        experiment.network, n_mels=n_mels, n_classes=N_CLASSES, mean=np.zeros(n_mels), std=np.ones(n_mels)
    ).float()


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
    plain = copy.deepcopy(network)
    plain.gru = PlainGRU(network.gru.input_size, network.gru.hidden_size, batch_first=True, bidirectional=True)  # type: ignore[assignment]
    plain.load_state_dict(network.state_dict())
    step = stepper(network, experiment, batch_size)
    return Comparison(
        f"training step, {name}, {batch_size} clips, one thread",
        "the same network with torch.nn.GRU",
        step,
        stepper(plain, experiment, batch_size),
        _agree,
        goal=2,
        work=Work(operations=_operations(stepper(copy.deepcopy(network), experiment, batch_size))),
        parts=_parts,
    )


def pooling_step(structure: str, *, tiny: bool) -> Comparison:
    """Forward and backward of a structure, against single pooling."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    n_clips, n_frames = (8, POOLED[1]) if tiny else POOLED
    x = torch.rand(n_clips, n_frames, N_CLASSES, requires_grad=True)
    return Comparison(
        f"pooling of {n_clips} clips, {structure}, forward and backward",
        "single",
        _pooling(x, structure),
        _pooling(x, "single"),
        _agree,
        goal=1 / 1.5,
        work=Work(n_bytes=3 * x.nbytes),  # read twice, its gradient written once
        parts=partial(_parts, names={}),
    )


def pooling_share(*, tiny: bool) -> Comparison:
    """Hierarchical pooling, forward and backward, beside the training step that it is part of."""
    torch.set_num_threads(1)
    experiment = load_experiment("esc10")
    batch_size = 1 if tiny else experiment.training.batch_size
    x = torch.rand(batch_size, POOLED[1], N_CLASSES, requires_grad=True)
    return Comparison(
        f"hierarchical pooling of {batch_size} clips, forward and backward",
        "the training step of esc10 that it is part of",
        _pooling(x, "hierarchical"),
        stepper(random_network(experiment), experiment, batch_size),
        lambda ours, theirs: True,  # a part and its whole
        goal=50,
        work=Work(n_bytes=3 * x.nbytes),
        parts=partial(_parts, names={}),
    )


def inference(batch_size: int, *, tiny: bool) -> Comparison:
    """From waveforms of 10 s to events with esc10's network, beside the time that the sound itself takes."""
    torch.set_num_threads(1)
    experiment = load_experiment("esc10")
    network = random_network(experiment).eval()
    sr, duration = experiment.data.sample_rate, experiment.data.clip_duration
    waveforms = np.random.default_rng(0).uniform(-0.5, 0.5, (batch_size, round(sr * duration))).astype(np.float32)
    filenames = [f"{index}.wav" for index in range(batch_size)]
    classes = [f"class {index}" for index in range(N_CLASSES)]

    def to_probabilities() -> np.ndarray:
        features = np.stack([log_mel(y, sr=sr, params=experiment.features) for y in waveforms])
        with torch.no_grad():
            return network(torch.from_numpy(features))[0].numpy()

    def ours() -> Any:
        frames = {"frame_duration": experiment.frame_duration}
        active = decode(to_probabilities(), threshold=0.5, params=experiment.decoding, **frames)
        return to_events(active, filenames=filenames, classes=classes, **frames)

    return Comparison(
        f"waveform to events, esc10, {batch_size} clips at a time, one thread",
        "real time",
        ours,
        duration * batch_size,
        lambda events, _: len(events) > 0 and events.offset.max() <= duration,
        goal=1,
        work=Work(operations=_operations(to_probabilities)),
    )


def _pooling(x: Tensor, structure: str) -> Callable[[], float]:
    def step() -> float:
        clip_prob = pool(x, pooling="linear", structure=structure)
        x.grad = None
        clip_prob.sum().backward()
        return clip_prob.sum().item()

    return step


def _operations(run: Callable[[], Any]) -> float:
    """Floating-point operations of the convolutions and matrix products that a function makes."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def _parts(step: Callable[[], Any], names: dict[str, str] = PARTS, n_steps: int = 5) -> dict[str, float]:
    """Seconds of a step's operations, forward and backward, put together under `names`."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(n_steps):
            step()
    seconds: dict[str, float] = {}
    for event in profile.key_averages():
        part = next((part for text, part in names.items() if text in event.key), event.key)
        seconds[part] = seconds.get(part, 0.0) + event.self_cpu_time_total / 1e6 / n_steps
    return seconds


def _agree(ours: float, theirs: float) -> bool:
    return abs(ours - theirs) <= TOLERANCE * abs(theirs)
