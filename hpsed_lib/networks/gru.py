"""A bidirectional gated recurrent layer that is fast on the CPU, and whose activation can be chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hpsed_lib.networks.base import wide


class BidirectionalGRU(nn.GRU):
    """`torch.nn.GRU` with one layer in both directions, ``batch_first``; on the CPU it runs as written here.

    There `torch.nn.GRU` records a few dozen small operations for each frame and direction, which cost more than the
    arithmetic. Here the two directions advance in one batched product, what does not depend on the frame before is
    computed for all frames at once, and the backward pass is written out. Parameters, values, gradients are the same.

    References
    ----------
    Arrays here are (frames, direction, batch, ...), direction 1 on the frames in reverse order; gates lie in torch's
    order: reset r, update z, new n. ``r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)``, z alike,
    ``n = tanh(W_in x + b_in + r (W_hn h + b_hn))``, ``h' = n + z (h - n)``. Another `activation` than tanh, of n alone,
    has no equal in PyTorch, and runs as written here everywhere.
    """

    def __init__(self, n_features: int, n_units: int, *, activation: str = "tanh") -> None:
        super().__init__(n_features, n_units, batch_first=True, bidirectional=True)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Outputs of both directions, (batch, frames, 2 * units), wide, for an input (batch, frames, features)."""
        x = wide(x)
        with torch.autocast(x.device.type, enabled=False):  # on CUDA, autocast would run a GRU in float16
            if x.device.type != "cpu" and self.activation == "tanh":
                return super().forward(x)[0]
            stacked = (
                torch.stack([getattr(self, f"{name}_l0"), getattr(self, f"{name}_l0_reverse")])
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            return _Recurrence.apply(x, self.activation, *stacked)


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


ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "linear": lambda x, *, out: out.copy_(x),
}
SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda y: 1 - y.square(),
    "sigmoid": lambda y: y * (1 - y),
    "linear": torch.ones_like,
}
"""Derivatives of the `ACTIVATIONS`, as functions of their values."""


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, activation: str, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
    ) -> Tensor:
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
            ACTIVATIONS[activation](pre, out=new[frame])
            torch.lerp(new[frame], states[frame], gates[frame, :, :, n_units:], out=states[frame + 1])
        ctx.activation = activation
        ctx.save_for_backward(x, weight_ih, weight_hh, states, gates, new, hidden_new)
        forward, backward = states[1:].unbind(1)  # (frames, batch, units) each
        return torch.cat([forward, backward.flip(0)], dim=2).transpose(0, 1).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_ih, weight_hh, states, gates, new, hidden_new = ctx.saved_tensors
        n_frames, n_units = new.shape[0], new.shape[3]
        reset, update = gates.split(n_units, dim=3)
        before = states[:-1]
        # Slopes that do not depend on what comes from later frames, for all frames at once.
        new_slope = (1 - update) * SLOPES[ctx.activation](new)
        of_reset, of_update = new_slope * hidden_new * reset * (1 - reset), (before - new) * update * (1 - update)
        slopes = torch.cat([of_reset, of_update, new_slope * reset], dim=3)  # of the recurrent products' three parts
        d_forward, d_backward = d_output.transpose(0, 1).split(n_units, dim=2)
        d_states = torch.stack([d_forward, d_backward.flip(0)], dim=1)  # (frames, 2, batch, units)
        d_recurrent = torch.empty_like(slopes)
        d_inputs_new = torch.empty_like(new)
        d_state = torch.zeros_like(before[0])
        for frame in range(n_frames - 1, -1, -1):
            d_state = d_state + d_states[frame]
            in_parts = slopes[frame].unflatten(2, (3, n_units))
            torch.mul(in_parts, d_state.unsqueeze(2), out=d_recurrent[frame].unflatten(2, (3, n_units)))
            torch.mul(new_slope[frame], d_state, out=d_inputs_new[frame])
            d_state = torch.baddbmm(d_state * update[frame], d_recurrent[frame], weight_hh)
        d_input = torch.cat([d_recurrent[..., : 2 * n_units], d_inputs_new], dim=3)  # of the input products

        rows, recurrent_rows = _by_direction(d_input), _by_direction(d_recurrent)
        d_both = _by_frame(torch.bmm(rows, weight_ih), n_frames)  # (frames, 2, batch, features)
        d_x = (d_both[:, 0] + d_both[:, 1].flip(0)).transpose(0, 1)
        d_weight_ih = torch.bmm(rows.transpose(1, 2), _by_direction(_both_ways(x)))
        d_weight_hh = torch.bmm(recurrent_rows.transpose(1, 2), _by_direction(before))
        return d_x, None, d_weight_ih, d_weight_hh, rows.sum(1), recurrent_rows.sum(1)
