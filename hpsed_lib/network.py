"""The gated convolutional recurrent network (Sec. 2.1, Figs. 2 and 3).

Conventions: the input is (batch, frames, n_mels), log-mel in dB; both outputs are (batch, frames, classes) at the
network's own frame rate (12.5 Hz for the paper's 50 Hz input). The network normalises its input itself, with the
training set's statistics kept as buffers, so that a checkpoint needs nothing else to be used.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hpsed_lib.errors import ParameterError
from hpsed_lib.params import Network


class GatedConv(nn.Module):
    """Gated 3x3 convolution with batch norm: ``a * sigmoid(b)`` of the two halves of its channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        # Batch norm brings the bias; another one would have no gradient but rounding noise.
        self.conv = nn.Conv2d(in_channels, 2 * out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2 * out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.glu(self.norm(self.conv(x)), dim=1)


class GatedCRNN(nn.Module):
    """Gated CRNN: frame-level probabilities, and the logits of attention pooling.

    Parameters
    ----------
    mean, std : np.ndarray, shape (n_mels,)
        Normalisation of the input, in dB.

    References
    ----------
    Figs. 2 and 3: four blocks of two gated convolutions, batch norm, dropout and max-pooling; one more convolution;
    channels stacked on the frequency axis; a Bi-GRU; a dense layer with sigmoid. The attention's dense layer has the
    same input (Sec. 2.2); what becomes of it is the pooling function's matter (`hpsed_lib.pooling`), and so is
    ``sharpness``, (classes,). It starts at 1, where power pooling is linear softmax and autopool exponential softmax.
    """

    def __init__(self, params: Network, *, n_mels: int, n_classes: int, mean: np.ndarray, std: np.ndarray) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.as_tensor(mean))
        self.register_buffer("std", torch.as_tensor(std))

        blocks: list[nn.Module] = []
        channels, bands = 1, n_mels
        for out_channels, pool in zip(params.block_channels, params.block_pools, strict=True):
            gates = [GatedConv(channels, out_channels), GatedConv(out_channels, out_channels)]
            blocks.append(nn.Sequential(*gates, nn.Dropout(params.dropout), nn.MaxPool2d(pool)))
            channels, bands = out_channels, bands // pool[1]
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(
            nn.Conv2d(channels, params.last_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(params.last_channels),
            nn.ReLU(),
            nn.Dropout(params.dropout),
            nn.MaxPool2d(params.last_pool),
        )
        bands //= params.last_pool[1]
        if bands == 0:
            raise ParameterError(f"the pools leave no band of {n_mels} mel bands")
        self.gru = BidirectionalGRU(params.last_channels * bands, params.gru_units)
        self.frame_dense = nn.Linear(2 * params.gru_units, n_classes)
        self.attention_dense = nn.Linear(2 * params.gru_units, n_classes)
        self.sharpness = nn.Parameter(torch.ones(n_classes))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Predict each class in each frame, from log-mel (batch, frames, n_mels) in dB.

        Returns
        -------
        frame_prob, attention_logit : Tensor, shape (batch, frames / time pooling, classes)
            Both in float32 or wider: near 1, bfloat16 has no room.
        """
        x = ((features - self.mean) / self.std).unsqueeze(1)  # (batch, 1, frames, bands)
        x = self.last(self.blocks(x))  # (batch, channels, frames, bands)
        x = x.permute(0, 2, 1, 3).flatten(2)  # (batch, frames, channels * bands)
        with torch.autocast(x.device.type, enabled=False):  # on CUDA, autocast would run a GRU in float16
            x = x if x.dtype == torch.float64 else x.float()
            u = self.gru(x)  # (batch, frames, 2 * units)
        frame_logit, attention_logit = self.frame_dense(u), self.attention_dense(u)
        if frame_logit.dtype != torch.float64:
            frame_logit, attention_logit = frame_logit.float(), attention_logit.float()
        return frame_logit.sigmoid(), attention_logit


def layer_table(network: GatedCRNN, *, n_frames: int, n_mels: int) -> list[dict]:
    """Every layer in the order of computation: layer, kind, output (its shape, without the batch axis), parameters."""
    rows: list[dict] = []

    def note(name: str, module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        shape = tuple((output[0] if isinstance(output, tuple) else output).shape[1:])
        count = sum(parameter.numel() for parameter in module.parameters())
        rows.append({"layer": name, "kind": type(module).__name__, "output": shape, "parameters": count})

    modules = dict(network.named_modules())
    handles = [
        module.register_forward_hook(partial(note, name))
        for name, module in modules.items()
        if isinstance(module, GatedConv)
        or not (list(module.children()) or isinstance(modules[name.rpartition(".")[0]], GatedConv))
    ]
    training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, n_frames, n_mels, device=network.mean.device))
    network.train(training)
    for handle in handles:
        handle.remove()
    return rows


class BidirectionalGRU(nn.GRU):
    """`torch.nn.GRU` with one layer in both directions, ``batch_first``; on the CPU it runs as written here.

    There `torch.nn.GRU` is a few dozen small operations for each frame and direction, each recorded for the backward
    pass: with few units and small batches that costs more than the arithmetic. Here the two directions advance in one
    batched product, what does not depend on the frame before is computed for all frames at once, and the backward pass
    is written out. Parameters, values and gradients are those of `torch.nn.GRU`, the oracle in the tests.

    References
    ----------
    Arrays here are (frames, direction, batch, ...), direction 1 on the frames in reverse order; gates lie in torch's
    order: reset r, update z, new n. ``r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)``, z alike,
    ``n = tanh(W_in x + b_in + r (W_hn h + b_hn))``, ``h' = n + z (h - n)``.
    """

    def __init__(self, n_features: int, n_units: int) -> None:
        super().__init__(n_features, n_units, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Outputs of both directions, (batch, frames, 2 * units), for an input (batch, frames, features)."""
        if x.device.type != "cpu":
            return super().forward(x)[0]
        stacked = (
            torch.stack([getattr(self, f"{name}_l0"), getattr(self, f"{name}_l0_reverse")])
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        return _Recurrence.apply(x, *stacked)


def _both_ways(x: Tensor) -> Tensor:
    """(batch, frames, n) as (frames, 2, batch, n), the second direction in reverse."""
    forward = x.transpose(0, 1)
    return torch.stack([forward, forward.flip(0)], dim=1)


def _by_direction(values: Tensor) -> Tensor:
    """(frames, 2, batch, n) as (2, frames * batch, n): one product for all frames of a direction."""
    return values.transpose(0, 1).flatten(1, 2)


def _by_frame(values: Tensor, n_frames: int) -> Tensor:
    """(2, frames * batch, n) as (frames, 2, batch, n), one piece of memory a frame."""
    return values.unflatten(1, (n_frames, -1)).transpose(0, 1).contiguous()


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
        n_batch, n_frames, _ = x.shape
        n_units = weight_hh.shape[2]
        products = torch.baddbmm(bias_ih[:, None], _by_direction(_both_ways(x)), weight_ih.transpose(1, 2))
        from_input = _by_frame(products, n_frames)  # (frames, 2, batch, 3 units)
        states = x.new_zeros(n_frames + 1, 2, n_batch, n_units)  # the first is the state before the first frame
        gates = x.new_empty(n_frames, 2, n_batch, 2 * n_units)  # r, z
        new = x.new_empty(n_frames, 2, n_batch, n_units)
        hidden_new = x.new_empty(n_frames, 2, n_batch, n_units)  # W_hn h + b_hn
        recurrent, bias = weight_hh.transpose(1, 2).contiguous(), bias_hh[:, None]
        for frame in range(n_frames):
            from_state = torch.baddbmm(bias, states[frame], recurrent)
            torch.sigmoid(from_input[frame, :, :, : 2 * n_units] + from_state[:, :, : 2 * n_units], out=gates[frame])
            hidden_new[frame] = from_state[:, :, 2 * n_units :]
            pre = torch.addcmul(from_input[frame, :, :, 2 * n_units :], gates[frame, :, :, :n_units], hidden_new[frame])
            torch.tanh(pre, out=new[frame])
            torch.lerp(new[frame], states[frame], gates[frame, :, :, n_units:], out=states[frame + 1])
        ctx.save_for_backward(x, weight_ih, weight_hh, states, gates, new, hidden_new)
        forward, backward = states[1:].unbind(1)  # (frames, batch, units) each
        return torch.cat([forward, backward.flip(0)], dim=2).transpose(0, 1).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor, ...]:
        x, weight_ih, weight_hh, states, gates, new, hidden_new = ctx.saved_tensors
        n_frames, n_units = new.shape[0], new.shape[3]
        reset, update = gates.split(n_units, dim=3)
        before = states[:-1]
        # Slopes that do not depend on what comes from later frames, for all frames at once.
        new_slope = (1 - update) * (1 - new.square())
        slopes = torch.cat(
            [new_slope * hidden_new * reset * (1 - reset), (before - new) * update * (1 - update), new_slope * reset],
            dim=3,
        )  # of the recurrent products' three parts
        d_forward, d_backward = d_output.transpose(0, 1).split(n_units, dim=2)
        d_states = torch.stack([d_forward, d_backward.flip(0)], dim=1)  # (frames, 2, batch, units)
        d_recurrent = torch.empty_like(slopes)
        d_inputs_new = torch.empty_like(new)
        d_state = torch.zeros_like(before[0])
        for frame in range(n_frames - 1, -1, -1):
            d_state = d_state + d_states[frame]
            torch.mul(
                slopes[frame].unflatten(2, (3, n_units)),
                d_state.unsqueeze(2),
                out=d_recurrent[frame].unflatten(2, (3, n_units)),
            )
            torch.mul(new_slope[frame], d_state, out=d_inputs_new[frame])
            d_state = torch.baddbmm(d_state * update[frame], d_recurrent[frame], weight_hh)
        d_input = torch.cat([d_recurrent[..., : 2 * n_units], d_inputs_new], dim=3)  # of the input products

        rows, recurrent_rows = _by_direction(d_input), _by_direction(d_recurrent)
        d_both = _by_frame(torch.bmm(rows, weight_ih), n_frames)  # (frames, 2, batch, features)
        d_x = (d_both[:, 0] + d_both[:, 1].flip(0)).transpose(0, 1)
        return (
            d_x,
            torch.bmm(rows.transpose(1, 2), _by_direction(_both_ways(x))),
            torch.bmm(recurrent_rows.transpose(1, 2), _by_direction(before)),
            rows.sum(1),
            recurrent_rows.sum(1),
        )
