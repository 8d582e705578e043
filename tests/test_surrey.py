"""Surrey's network: what it is made of; `test_network` has its size."""

from __future__ import annotations

import pytest
import torch

from hpsed_lib import networks
from hpsed_lib.networks.base import layer_table
from hpsed_lib.params import Surrey

PUBLISHED, NARROW = (Surrey(kind="surrey", width=width) for width in (1.0, 1 / 16))


@pytest.mark.parametrize(("n_frames", "n_mels"), [(240, 64), (500, 80)])
def test_it_has_eight_gated_layers_and_keeps_every_frame(n_frames: int, n_mels: int) -> None:
    network = networks.build(PUBLISHED, n_mels=n_mels, n_classes=17)
    rows = layer_table(network, n_frames=n_frames, n_mels=n_mels)
    kinds = [row["kind"] for row in rows]
    assert (kinds.count("GatedConv"), kinds.count("MaxPool2d"), kinds.count("Dropout")) == (8, 5, 0)
    assert [row["output"] for row in rows if row["kind"] == "BidirectionalGRU"] == [(n_frames, 256)] * 2
    assert [row["output"] for row in rows if row["kind"] == "Linear"] == [(n_frames, 17)] * 2


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
