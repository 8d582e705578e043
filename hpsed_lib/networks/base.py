"""What the networks share.

Conventions: the input is (batch, frames, n_mels), log-mel in dB. A network returns ``frame_prob``, the probability of
each class in each of its own frames, and ``attention_logit``, both (batch, frames, classes), in float32 or wider: near
1, bfloat16 has no room. Without a head for attention the second is None. A network normalises its input itself, with
the training set's statistics kept as buffers, so that a checkpoint needs nothing else to be used.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn


class FrameNetwork(nn.Module):
    """Base of the networks: normalisation of the input, and ``sharpness``, (classes,), of trained pooling functions.

    ``sharpness`` starts at 1, where power pooling is linear softmax and autopool exponential softmax.
    """

    convolutions: ClassVar[tuple[str, ...]]  # modules, in order, from the normalised input to the last image

    def __init__(self, *, n_mels: int, n_classes: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(n_mels))  # of the training set, in dB, once that is known
        self.register_buffer("std", torch.ones(n_mels))
        self.sharpness = nn.Parameter(torch.ones(n_classes))

    def convolved(self, features: Tensor) -> Tensor:
        """What the convolutions make of log-mel (batch, frames, n_mels): (batch, channels, frames, bands).

        `hpsed_lib.training.prepare_for_training` compiles it, as one.
        """
        x = ((features - self.mean) / self.std).unsqueeze(1)
        for name in self.convolutions:
            x = getattr(self, name)(x)
        return x


def wide(x: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if that is what it is in."""
    return x if x.dtype == torch.float64 else x.float()


class GatedConv(nn.Module):
    """Gated 3x3 convolution with batch norm: ``a * sigmoid(b)`` of the two halves of its channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        # Batch norm brings the bias; another one would have no gradient but rounding noise.
        self.conv = nn.Conv2d(in_channels, 2 * out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2 * out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.glu(self.norm(self.conv(x)), dim=1)


def layer_table(network: FrameNetwork, *, n_frames: int, n_mels: int) -> list[dict]:
    """Every layer in the order of computation: layer, kind, output (its shape, without the batch axis), parameters."""
    rows: list[dict] = []

    def note(name: str, module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        shape = tuple((output[0] if isinstance(output, tuple) else output).shape[1:])
        count = sum(parameter.numel() for parameter in module.parameters())
        rows.append({"layer": name, "kind": type(module).__name__, "output": shape, "parameters": count})

    modules = dict(network.named_modules())
    handles = []
    for name, module in modules.items():  # a gated convolution is one layer, whatever it is made of
        is_part = isinstance(modules[name.rpartition(".")[0]], GatedConv)
        if isinstance(module, GatedConv) or not (is_part or list(module.children())):
            handles.append(module.register_forward_hook(partial(note, name)))
    training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, n_frames, n_mels, device=network.mean.device))
    network.train(training)
    for handle in handles:
        handle.remove()
    return rows
