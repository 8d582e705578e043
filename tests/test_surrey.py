"""Surrey's network: its published size and shapes, and what it is made of."""

from __future__ import annotations

import pytest
import torch

from hpsed_lib import networks
from hpsed_lib.errors import ParameterError
from hpsed_lib.networks.base import layer_table
from hpsed_lib.params import Surrey
from hpsed_lib.pooling import pool
from hpsed_lib.training import clip_loss

PUBLISHED, NARROW = (Surrey(kind="surrey", width=width) for width in (1.0, 1 / 16))
SECOND_BIASES = 2 * 2 * 3 * 128  # PyTorch's GRUs have them: two layers, two directions, three gates


@pytest.mark.parametrize(("n_frames", "n_mels"), [(240, 64), (500, 80)])
def test_the_published_width_has_the_published_size(n_frames: int, n_mels: int) -> None:
    network = networks.build(PUBLISHED, n_mels=n_mels, n_classes=17)
    assert sum(each.numel() for each in network.parameters()) - 17 == 1_267_106 + SECOND_BIASES
    rows = layer_table(network, n_frames=n_frames, n_mels=n_mels)
    kinds = [row["kind"] for row in rows]
    assert (kinds.count("GatedConv"), kinds.count("MaxPool2d"), kinds.count("Dropout")) == (8, 5, 0)
    assert [row["output"] for row in rows if row["kind"] == "BidirectionalGRU"] == [(n_frames, 256)] * 2
    assert [row["output"] for row in rows if row["kind"] == "Linear"] == [(n_frames, 17)] * 2
    assert PUBLISHED.time_pooling == 1


def test_one_recurrent_layer_gates_the_other() -> None:
    torch.manual_seed(0)
    network = networks.build(NARROW, n_mels=64, n_classes=3).eval()
    assert (network.gru.activation, network.gru_gate.activation) == ("linear", "sigmoid")
    seen = {}
    for name in ("gru", "gru_gate", "frame_dense"):
        getattr(network, name).register_forward_hook(lambda _, x, y, name=name: seen.update({name: (x[0], y)}))
    frame_prob, _ = network(torch.randn(2, 9, 64))
    torch.testing.assert_close(seen["frame_dense"][0], seen["gru"][1] * seen["gru_gate"][1])
    torch.testing.assert_close(frame_prob, seen["frame_dense"][1].sigmoid())


def test_every_parameter_learns_under_bfloat16_autocast() -> None:
    torch.manual_seed(0)
    network = networks.build(NARROW, n_mels=80, n_classes=17)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        frame_prob, logit = network(torch.randn(2, 50, 80))
    assert frame_prob.dtype == logit.dtype == torch.float32
    clip_loss(pool(frame_prob, logit.softmax(2), pooling="attention"), torch.eye(2, 17)).backward()
    unused = [name for name, each in network.named_parameters() if each.grad is None or not each.grad.isfinite().all()]
    assert unused == ["sharpness"]


def test_too_few_bands_are_refused() -> None:
    with pytest.raises(ParameterError, match="no band of 63 mel bands"):
        networks.build(NARROW, n_mels=63, n_classes=17)
