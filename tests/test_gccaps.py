"""GCCaps: its published shapes; routing against plain loops; its pooling against the published formula."""

from __future__ import annotations

import numpy as np
import torch

from hpsed_lib import networks
from hpsed_lib.networks.gccaps import Capsules, squash
from hpsed_lib.params import GcCaps
from hpsed_lib.pooling import pool


def test_shapes_are_the_published_ones() -> None:
    network = networks.build(GcCaps(kind="gccaps", width=1.0), n_mels=64, n_classes=17).eval()
    shapes = {}
    for name in ("blocks", "capsules"):
        getattr(network, name).register_forward_hook(
            lambda _, x, y, name=name: shapes.update({name: (*x[0].shape, *y.shape)})
        )
    length, _ = network(torch.randn(1, 240, 64))
    assert shapes["blocks"][-3:] == (64, 30, 8)
    assert shapes["capsules"] == (1, 30, 64, 4, 1, 30, 17, 8)
    assert ((length >= 0) & (length < 1)).all()


def test_routing_is_that_of_plain_loops() -> None:
    """Procedure 1 of arXiv:1710.09829, for one frame at a time."""
    torch.manual_seed(0)
    n_inputs, n_classes = 5, 3
    layer = Capsules(n_inputs, n_classes).double()
    torch.nn.init.normal_(layer.weight)
    x = torch.randn(2, 4, n_inputs, 4, dtype=torch.float64)
    weight = layer.weight.detach().numpy()
    expected = np.zeros((2, 4, n_classes, 8))
    for clip, frame in np.ndindex(2, 4):
        votes = np.array(
            [[weight[j, i] @ x[clip, frame, i].numpy() for j in range(n_classes)] for i in range(n_inputs)]
        )
        b = np.zeros((n_inputs, n_classes))
        for _ in range(3):
            outputs = []
            for j in range(n_classes):
                s = sum(np.exp(b[i, j]) / np.exp(b[i]).sum() * votes[i, j] for i in range(n_inputs))
                squared = (s**2).sum()
                outputs.append(s * squared / (1 + squared) / np.sqrt(squared + 1e-7))
            for i, j in np.ndindex(n_inputs, n_classes):
                b[i, j] += votes[i, j] @ outputs[j]
        expected[clip, frame] = outputs
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-10, atol=1e-12)


def test_squash_keeps_the_direction_and_a_slope_at_zero() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e4, 4e4]], dtype=torch.float64, requires_grad=True)
    y = squash(x)
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.6, 0.8]]) * torch.tensor([[25 / 26], [0.0], [1.0]])
    torch.testing.assert_close(y, expected.double(), rtol=1e-7, atol=1e-7)
    torch.linalg.vector_norm(y, dim=1).sum().backward()
    assert x.grad.isfinite().all()


def test_a_clip_is_the_mean_of_lengths_by_sigmoid_attention() -> None:
    length, logit = networks.build(GcCaps(kind="gccaps", width=0.1), n_mels=80, n_classes=17)(torch.randn(2, 50, 80))
    attention = 1 / (1 + (-logit).exp())
    clip_prob = pool(length, attention_logit=logit, pooling="sigmoid")
    torch.testing.assert_close(clip_prob, (length * attention).sum(1) / attention.sum(1))
