"""Steps of training on random clips, with PyTorch and numpy alone, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpsed_lib import training
from hpsed_lib.networks import FrameNetwork
from hpsed_lib.params import Experiment
from hpsed_lib.pooling import pool

N_CLASSES = 17


def random_data(experiment: Experiment, n_clips: int) -> Any:
    """Random features and labels that can be learned, as much of a `hpsed_lib.dataset.Dataset` as training wants."""
    rng = np.random.default_rng(0)
    shape = (n_clips, experiment.n_frames, experiment.features.n_mels)
    target = (rng.random((n_clips, N_CLASSES)) < 0.2).astype("f")
    features = rng.standard_normal(shape).astype("f")
    features[:, :, :N_CLASSES] += 2 * target[:, None]  # a class is heard in a band of its own
    split = SimpleNamespace(features=features, weak_target=target, filenames=range(n_clips))
    return SimpleNamespace(
        classes=[str(index) for index in range(N_CLASSES)],
        training=split,
        validation=split,
        training_checksum="random",
        mean=np.zeros(shape[2], "f"),
        std=np.ones(shape[2], "f"),
    )


def with_training(experiment: Experiment, **changes: Any) -> Experiment:
    """The experiment with other settings of training."""
    return experiment.model_copy(update={"training": experiment.training.model_copy(update=changes)})


def stepper(
    experiment: Experiment,
    device: torch.device,
    n_clips: int,
    *,
    change: Callable[[FrameNetwork], FrameNetwork] = lambda network: network,
    autocast: bool = True,
) -> Callable[[], Tensor]:
    """A function that makes one step of training, always on the same clips, and returns its loss.

    The network is the experiment's, with the same initial weights each time, after a `change`; without `autocast` all
    of it is in float32 on a GPU too.
    """
    data = random_data(experiment, n_clips)
    network = change(training.build_network(experiment, data, seed=0)).to(device)
    network = training.prepare_for_training(network, experiment.training)
    features, target = (torch.from_numpy(a).to(device) for a in (data.training.features, data.training.weak_target))
    rate = experiment.training.learning_rate
    optimizer = torch.optim.Adam(network.parameters(), lr=rate, capturable=device.type == "cuda")

    def step() -> Tensor:
        if autocast:
            _, clip_prob = training.predict(network, features, experiment, pooling="linear", structure="hierarchical")
        else:
            clip_prob = pool(network(features)[0], pooling="linear", structure="hierarchical")
        loss = training.clip_loss(clip_prob, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    return step
