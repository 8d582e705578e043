"""The GRU against torch's own: values, every gradient, and finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hpsed_lib.recurrence import BidirectionalGRU


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("n_batch", "n_frames", "n_features", "n_units"), [(1, 1, 1, 1), (3, 125, 32, 16), (8, 7, 5, 32), (2, 40, 256, 128)]
)
def test_values_and_gradients_are_torchs(
    dtype: torch.dtype, n_batch: int, n_frames: int, n_features: int, n_units: int
) -> None:
    torch.manual_seed(0)
    gru = BidirectionalGRU(n_features, n_units).to(dtype)
    x = torch.randn(n_batch, n_frames, n_features, dtype=dtype, requires_grad=True)
    weight = torch.randn(n_batch, n_frames, 2 * n_units, dtype=dtype)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-12}
    results = []
    for run in (lambda: gru(x), lambda: nn.GRU.forward(gru, x)[0]):
        gru.zero_grad()
        x.grad = None
        output = run()
        (output * weight).sum().backward()
        assert x.grad is not None
        results.append([output.detach(), x.grad.clone(), *(p.grad.clone() for p in gru.parameters())])  # type: ignore
    names = ["output", "x", *(name for name, _ in gru.named_parameters())]
    for name, ours, theirs in zip(names, *results, strict=True):
        scale = max(float(theirs.abs().max()), 1.0)
        torch.testing.assert_close(ours / scale, theirs / scale, **tolerance, msg=lambda text, n=name: f"{n}: {text}")


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    gru = BidirectionalGRU(3, 2).double()
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gru, (x,))


def test_the_output_is_the_same_every_time() -> None:
    torch.manual_seed(0)
    gru = BidirectionalGRU(32, 16)
    x = torch.randn(4, 125, 32)
    assert torch.equal(gru(x), gru(x))
