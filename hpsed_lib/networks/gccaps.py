"""GCCaps: gated convolutions and capsules; its clip probability is ``sigmoid`` attention pooling of capsule lengths."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hpsed_lib.errors import ParameterError
from hpsed_lib.networks.base import FrameNetwork, wide
from hpsed_lib.params import GcCaps

EPSILON = 1e-7  # keeps the slope of `squash` finite at 0
INPUT_DIM, OUTPUT_DIM = 4, 8  # numbers in a primary capsule, and in one of a class


def squash(x: Tensor) -> Tensor:
    """Vectors along the last axis, with their direction and a length below 1: ``|x|^2 / (1 + |x|^2)``."""
    squared = x.square().sum(-1, keepdim=True)
    return x * squared / (1 + squared) / (squared + EPSILON).sqrt()


class Capsules(nn.Module):
    """One capsule a class, of `OUTPUT_DIM` numbers, from the primary capsules of a frame, by dynamic routing.

    References
    ----------
    Sabour, Frosst, Hinton: Dynamic routing between capsules, arXiv:1710.09829, procedure 1: each input capsule shares
    itself out among the outputs, so that the softmax runs over these; the gradient goes through all iterations.
    """

    def __init__(self, n_inputs: int, n_classes: int, *, n_routings: int = 3) -> None:
        super().__init__()
        self.n_routings = n_routings
        self.weight = nn.Parameter(torch.empty(n_classes, n_inputs, OUTPUT_DIM, INPUT_DIM))
        bound = math.sqrt(6 / (n_classes * n_inputs * (INPUT_DIM + OUTPUT_DIM)))  # Glorot's, as Keras counts inputs
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, classes, `OUTPUT_DIM`) from (batch, frames, inputs, `INPUT_DIM`)."""
        votes = torch.einsum("btni,cnoi->btcno", x, self.weight)
        logit = votes.new_zeros(votes.shape[:4])  # (batch, frames, classes, inputs)
        for routing in range(self.n_routings):
            capsules = squash(torch.einsum("btcn,btcno->btco", logit.softmax(2), votes))
            if routing < self.n_routings - 1:
                logit = logit + torch.einsum("btco,btcno->btcn", capsules, votes)
        return capsules


class GatedCapsules(FrameNetwork):
    """Three blocks of two gated convolutions, primary capsules of 4 numbers, and for each frame a capsule a class.

    References
    ----------
    Iqbal, Xu, Kong, Wang: Capsule routing for sound event detection, EUSIPCO 2018, arXiv:1806.04699, and its published
    code. A class's probability is its capsule's length. Not followed: the mean of the five epochs that are best on the
    official test set.
    """

    convolutions = ("blocks", "primary")

    def __init__(self, params: GcCaps, *, n_mels: int, n_classes: int) -> None:
        super().__init__(n_mels=n_mels, n_classes=n_classes)
        if n_mels < 8:
            raise ParameterError(f"the pools leave no band of {n_mels} mel bands; it takes 8 at least")
        width, primary = params.scaled(64), INPUT_DIM * params.scaled(16)
        blocks: list[nn.Module] = []
        for channels in (1, width, width):
            for in_channels in (channels, width):
                convolution = nn.Conv2d(in_channels, 2 * width, 3, padding=1)
                blocks += [convolution, nn.GLU(dim=1), nn.BatchNorm2d(width), nn.Dropout(0.2)]
            blocks.append(nn.MaxPool2d(2))
        self.blocks = nn.Sequential(*blocks)
        self.primary = nn.Sequential(nn.Conv2d(width, primary, 3, stride=(1, 2), padding=1), nn.ReLU())
        bands = -(-(n_mels // 8) // 2)
        self.norm, self.dropout = nn.BatchNorm1d(INPUT_DIM), nn.Dropout(0.5)
        self.capsules = Capsules(primary * bands // INPUT_DIM, n_classes)
        self.attention_dense = nn.Linear(primary * bands, n_classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Each class in each of its frames, (batch, frames // 8, classes), from log-mel (batch, frames, n_mels)."""
        x = wide(self.convolved(features))  # (batch, channels, frames, bands)
        with torch.autocast(x.device.type, enabled=False):
            x = x.permute(0, 2, 3, 1).unflatten(3, (-1, INPUT_DIM)).flatten(2, 3)  # (batch, frames, capsules, numbers)
            x = self.dropout(self.norm(squash(x).flatten(0, 2)).view(x.shape))
            length = torch.linalg.vector_norm(self.capsules(x), dim=3)
            return length, self.attention_dense(x.flatten(2))
