"""Training one variant on clip labels, so that a killed run goes on and ends with the same numbers.

Conventions: at each epoch's end a checkpoint (network, best network, optimiser, random states, history) takes the place
of the last one at once; a run that was killed goes on from there. A fingerprint ties it to one set of parameters, data
and code on one machine: with any other the run starts anew.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from hpsed_lib import IS_PINNED
from hpsed_lib.errors import ParameterError
from hpsed_lib.networks import FrameNetwork, build
from hpsed_lib.networks.own_pooling import pooling_function
from hpsed_lib.params import Experiment, Training, run_name
from hpsed_lib.paths import replacing
from hpsed_lib.pooling import pool
from hpsed_lib.progress import track
from hpsed_lib.provenance import code_digest, describe_device

if TYPE_CHECKING:  # here, so that a machine with PyTorch and numpy alone can train
    import pandas as pd

    from hpsed_lib.dataset import Dataset, Split

EPSILON = 1e-7
"""How near to 0 and 1 the loss lets a clip probability come: the resolution of float32 below 1."""
CPU = torch.device("cpu")


def select_device(name: str) -> torch.device:
    """The device called ``cpu``, ``cuda`` or ``mps``; ``auto``: CUDA where there is a GPU, then MPS, then the CPU."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_there in there.items() if is_there)
    if not there[name]:
        raise ParameterError(f"training.device is {name!r}, and there is none; set it to auto or cpu")
    return torch.device(name)


def clip_loss(clip_prob: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of (batch, classes), averaged over clips and classes (Eq. A-1).

    ``-t log y - (1 - t) log(1 - y)``, with y kept in [EPSILON, 1 - EPSILON]. Sec. 3.2 calls it categorical; clips carry
    several labels, so that A-1 is what can be meant.
    """
    return nn.functional.binary_cross_entropy(clip_prob.clamp(EPSILON, 1 - EPSILON), target)


def build_network(experiment: Experiment, dataset: Dataset, *, seed: int) -> FrameNetwork:
    """A network with its initial weights, the same for every variant of one seed."""
    torch.manual_seed(seed)
    network = build(experiment.network, n_mels=experiment.features.n_mels, n_classes=len(dataset.classes))
    network.mean, network.std = torch.as_tensor(dataset.mean), torch.as_tensor(dataset.std)
    return network


def prepare_for_training(network: FrameNetwork, params: Training) -> FrameNetwork:
    """The network in the memory layout, and compiled, as the experiment asks for it."""
    if params.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if params.compile:
        if IS_PINNED:
            import torch._inductor.config as inductor  # beside kernels for AVX2, its own for AVX-512 give NaN

            inductor.cpp.simdlen = 256
        network.convolved = torch.compile(network.convolved)  # type: ignore[method-assign]
    return network


class _Clips(torch.utils.data.Dataset):
    """A split as `torch.utils.data.DataLoader` wants it, a whole batch at a time."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __getitems__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        features = self.split.features[np.array(rows, dtype=int)]
        return torch.from_numpy(features), torch.from_numpy(self.split.weak_target[rows])


def batches(
    split: Split,
    *,
    batch_size: int,
    order: np.ndarray | None = None,
    loader_workers: int = 0,
    device: torch.device = CPU,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (batch, frames, n_mels) and weak labels (batch, classes) of a split, batch by batch, on a device.

    Clips come in the `order` given, or in their own. With `loader_workers` so many processes read ahead.
    """
    rows = np.arange(len(split.filenames)) if order is None else order
    loader = torch.utils.data.DataLoader(
        _Clips(split),
        batch_sampler=[rows[start : start + batch_size].tolist() for start in range(0, len(rows), batch_size)],
        num_workers=loader_workers,
        collate_fn=tuple,  # of a whole batch, which `_Clips` has put together
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # the loader draws a number; not from the stream that dropout draws from
    )
    for features, target in loader:
        yield features.to(device, non_blocking=True), target.to(device, non_blocking=True)


def epoch_order(weak_target: np.ndarray, *, seed: int, epoch: int, balance_ratio: float | None = None) -> np.ndarray:
    """The training clips of one epoch, in order, int (clips,); it depends on nothing but the arguments.

    Every clip of `weak_target`, (clips, classes), comes once. With `balance_ratio` (not the paper's; 5 in its reference
    [4], Xu et al., ICASSP 2018) each clip is drawn by class first: a class as often as it has clips, but at most so
    many times as often as the rarest; within a class each clip comes before any comes again. Clips without a class are
    drawn together, at most as often as the commonest class.
    """
    rng = np.random.default_rng([seed, epoch])
    n_clips = len(weak_target)
    if balance_ratio is None:
        return rng.permutation(n_clips)
    active = weak_target > 0
    classes = [np.flatnonzero(column) for column in active.T if column.any()]
    without_class = np.flatnonzero(~active.any(axis=1))
    groups = [*classes, without_class] if len(without_class) else classes
    sizes = [len(rows) for rows in groups]
    weights = np.minimum(sizes, balance_ratio * min(sizes[: len(classes)], default=n_clips))
    drawn = rng.choice(len(groups), size=n_clips, p=weights / weights.sum())
    order = np.empty(n_clips, dtype=int)
    for group, rows in enumerate(groups):
        places = np.flatnonzero(drawn == group)
        rounds = [rng.permutation(rows) for _ in range(-(-len(places) // len(rows)))]
        order[places] = np.concatenate([*rounds, rows[:0]])[: len(places)]
    return order


def learning_rate(params: Training, n_epochs: float) -> float:
    """Learning rate of the step that completes `n_epochs`, a fraction of an epoch included.

    It rises in proportion for `warmup_epochs`; then ``constant`` keeps it, as the paper does (Sec. 3.2), and ``cosine``
    lets it fall along half a cosine, to 0 at `max_epochs` (Loshchilov and Hutter, arXiv:1608.03983, Eq. 5).
    """
    if n_epochs < params.warmup_epochs:
        return params.learning_rate * n_epochs / params.warmup_epochs
    if params.schedule == "constant":
        return params.learning_rate
    fallen = (n_epochs - params.warmup_epochs) / (params.max_epochs - params.warmup_epochs)
    return round(params.learning_rate * (1 + math.cos(math.pi * fallen)) / 2, 9)  # libraries differ in the last bit


@dataclass(frozen=True)
class Trained:
    """A trained variant."""

    network: FrameNetwork  # with the weights of the best validation loss, in evaluation mode
    epochs: list[dict[str, float]]  # epoch, training_loss, validation_loss, seconds
    best_epoch: int
    resumed_after: list[int]  # epochs after which the run was taken up again

    @property
    def history(self) -> pd.DataFrame:
        """The epochs as a table."""
        import pandas as pd

        return pd.DataFrame(self.epochs)


def train(
    experiment: Experiment,
    dataset: Dataset,
    *,
    pooling: str,
    structure: str,
    seed: int,
    folder: Path,
    after_epoch: Callable[[int, FrameNetwork], None] | None = None,
) -> Trained:
    """Train one variant, or go on with it, or load it if it is done; ``checkpoint.pt`` is kept in `folder`.

    Sec. 3.2: Adam, early stopping when the validation loss has not fallen for `patience` epochs. The seed decides the
    initial weights, the data order and dropout. `after_epoch` is called with the number of each epoch and the network
    as that epoch leaves it, to look at. On CUDA the network runs under bfloat16 autocast; GRU, pooling and loss stay in
    float32. From here on PyTorch has the experiment's number of threads: with another, the last bits would be others.
    """
    params, variant = experiment.training, {"pooling": pooling, "structure": structure}
    torch.set_num_threads(experiment.resources.threads)
    device = select_device(params.device)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    network = prepare_for_training(build_network(experiment, dataset, seed=seed).to(device), params)
    state = State(network, torch.optim.Adam(network.parameters(), lr=params.learning_rate), device)
    path = folder / "checkpoint.pt"
    fingerprint = _fingerprint(experiment, dataset, run_name(**variant, seed=seed), device)
    state.load(path, fingerprint)
    if state.history and not state.has_ended(params):
        state.resumed_after.append(len(state.history))
    while not state.has_ended(params):
        epoch, started = len(state.history) + 1, time.perf_counter()
        training_loss = _train_epoch(state, dataset.training, experiment, seed=seed, epoch=epoch, **variant)
        validation_loss = evaluate_loss(network, dataset.validation, experiment, **variant)
        state.add_epoch(training_loss, validation_loss, time.perf_counter() - started)
        if after_epoch:
            after_epoch(epoch, network)
        state.save(path, fingerprint)
        print(f"epoch {epoch:3d}  training loss {training_loss:.4f}  validation loss {validation_loss:.4f}", flush=True)
    network.load_state_dict(state.best_weights)
    network.eval()
    return Trained(network, state.history, int(state.best["epoch"]), state.resumed_after)


KEPT = ("best", "best_weights", "history", "resumed_after")  # in a checkpoint, under their own names


class State:
    """All that changes from epoch to epoch, and what a checkpoint keeps of it."""

    def __init__(self, network: FrameNetwork, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self.network, self.optimizer, self.device = network, optimizer, device
        self.best = {"loss": float("inf"), "epoch": 0}
        self.best_weights = copy.deepcopy(network.state_dict())
        self.history: list[dict[str, float]] = []
        self.resumed_after: list[int] = []

    def has_ended(self, params: Training) -> bool:
        """Whether training is over after these epochs."""
        return len(self.history) >= params.max_epochs or len(self.history) - self.best["epoch"] >= params.patience

    def add_epoch(self, training_loss: float, validation_loss: float, seconds: float) -> None:
        """Note an epoch's losses; if the validation loss is the lowest so far, keep the weights."""
        epoch = len(self.history) + 1
        losses = {"training_loss": training_loss, "validation_loss": validation_loss}
        self.history.append({"epoch": epoch, **losses, "seconds": seconds})
        if validation_loss < self.best["loss"]:
            self.best = {"loss": validation_loss, "epoch": epoch}
            self.best_weights = copy.deepcopy(self.network.state_dict())

    def save(self, path: Path, fingerprint: str) -> None:
        """Write a checkpoint in place of the last one, random states included."""
        of_device = None if self.device.type == "cpu" else getattr(torch, self.device.type).get_rng_state()
        content = {
            "fingerprint": fingerprint,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random_state": torch.get_rng_state(),
            "device_random_state": of_device,
            **{name: getattr(self, name) for name in KEPT},
        }
        with replacing(path) as temporary:
            torch.save(content, temporary)

    def load(self, path: Path, fingerprint: str) -> None:
        """Go on from a checkpoint, if there is one and it belongs to this run; if it does not, that is printed."""
        if not path.is_file():
            return
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            why = "a checkpoint of other parameters, data or code is set aside"
        except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
            saved, why = {"fingerprint": None}, f"{path} cannot be read ({error})"
        if saved["fingerprint"] != fingerprint:
            print(f"{why}: training starts anew", flush=True)
            return
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["random_state"])
        if self.device.type != "cpu":
            getattr(torch, self.device.type).set_rng_state(saved["device_random_state"])
        for name in KEPT:
            setattr(self, name, saved[name])


def _train_epoch(
    state: State, split: Split, experiment: Experiment, *, pooling: str, structure: str, seed: int, epoch: int
) -> float:
    """Train for one epoch and return its mean loss."""
    params = experiment.training
    order = epoch_order(split.weak_target, seed=seed, epoch=epoch, balance_ratio=params.balance_ratio)
    reading: dict[str, Any] = {"batch_size": params.batch_size, "loader_workers": params.loader_workers}
    stream = batches(split, order=order, device=state.device, **reading)
    n_batches = -(-len(order) // params.batch_size)
    total, n_seen = torch.zeros((), device=state.device), 0
    state.network.train()
    for features, target in track(stream, description=f"epoch {epoch}/{params.max_epochs}", total=n_batches):
        n_seen += len(target)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(params, epoch - 1 + n_seen / len(order))
        _, clip_prob = predict(state.network, features, experiment, pooling=pooling, structure=structure)
        loss = clip_loss(clip_prob, target)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        total += loss.detach() * len(target)
    return float(total) / len(order)


def predict(
    network: FrameNetwork, features: Tensor, experiment: Experiment, *, pooling: str, structure: str
) -> tuple[Tensor, Tensor]:
    """Frame and clip probabilities of one batch, (batch, frames, classes) and (batch, classes), float32 or wider."""
    with torch.autocast(features.device.type, dtype=torch.bfloat16, enabled=features.device.type == "cuda"):
        frame_prob, attention_logit = network(features)
    clip_prob = pool(
        frame_prob,
        None if attention_logit is None else attention_logit.softmax(2),
        network.sharpness,
        attention_logit,
        pooling=pooling_function(experiment, pooling),
        structure=structure,
        segment_lengths=experiment.pooling.segment_lengths,
    )
    return frame_prob, clip_prob


@torch.no_grad()
def evaluate_loss(
    network: FrameNetwork, split: Split, experiment: Experiment, *, pooling: str, structure: str
) -> float:
    """Mean loss over a split, in evaluation mode."""
    network.eval()
    params, total = experiment.training, 0.0
    reading: dict[str, Any] = {"batch_size": params.batch_size, "loader_workers": params.loader_workers}
    for features, target in batches(split, device=network.mean.device, **reading):
        _, clip_prob = predict(network, features, experiment, pooling=pooling, structure=structure)
        total += float(clip_loss(clip_prob, target)) * len(target)
    return total / len(split.filenames)


@torch.no_grad()
def predict_split(
    network: FrameNetwork, split: Split, experiment: Experiment, *, pooling: str, structure: str
) -> tuple[np.ndarray, np.ndarray]:
    """Frame and clip probabilities of a split, (clips, frames, classes) and (clips, classes), in evaluation mode."""
    network.eval()
    predicted = [
        predict(network, features, experiment, pooling=pooling, structure=structure)
        for features, _ in batches(split, batch_size=experiment.training.batch_size, device=network.mean.device)
    ]
    frame_prob, clip_prob = (torch.cat(parts).cpu().numpy() for parts in zip(*predicted, strict=True))
    return frame_prob, clip_prob


def _fingerprint(experiment: Experiment, dataset: Dataset, run: str, device: torch.device) -> str:
    """What a checkpoint belongs to."""
    params = experiment.model_dump(include={"features", "network"})
    training = experiment.training.model_dump(exclude={"loader_workers"})
    networks = [f"networks/{name}" for name in (experiment.network.kind, "base", "gru")]
    modules = (*networks, "pooling", "training", "features", "data/audio", "dataset")
    code = code_digest([f"{module}.py" for module in modules], pooling=run.partition("-")[0])
    machine = [str(torch.__version__), describe_device(device)]
    data = [experiment.data.sample_rate, experiment.data.clip_duration, dataset.classes, dataset.training_checksum]
    pooling = [experiment.pooling.segment_lengths, experiment.pooling.digest(run.partition("-")[0])]
    content = [params, training, pooling, run, data, code, machine]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
