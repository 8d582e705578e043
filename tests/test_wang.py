"""Wang and Metze's network: all of its forward pass written again in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from scipy.special import expit

from hpsed_lib import networks
from hpsed_lib.errors import ParameterError
from hpsed_lib.params import Wang
from hpsed_lib.pooling import pool

NARROW = Wang(kind="wang", width=1 / 16)


def numpy_forward(weights: dict[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """Frame probabilities (frames, classes) of one clip (frames, bands)."""
    x = ((features - weights["mean"]) / weights["std"])[None]  # (channels, frames, bands)
    for layer, (time, frequency) in zip((0, 3, 6), ((1, 2), (2, 2), (2, 2)), strict=True):
        kernels, bias = weights[f"convolution.{layer}.weight"], weights[f"convolution.{layer}.bias"]
        padded = np.pad(x, ((0, 0), (2, 2), (2, 2)))
        maps = [correlate(padded, kernel, mode="valid")[0] + b for kernel, b in zip(kernels, bias, strict=True)]
        x = np.maximum(np.array(maps), 0)
        n_frames, n_bands = x.shape[1] // time, x.shape[2] // frequency
        x = x.reshape(len(x), n_frames, time, n_bands, frequency).max(axis=(2, 4))
    x = x.transpose(1, 0, 2).reshape(x.shape[1], -1)  # (frames, channels * bands)
    states = []
    for suffix, inputs in (("", x), ("_reverse", x[::-1])):
        of_input, of_state = (weights[f"gru.weight_{kind}_l0{suffix}"] for kind in ("ih", "hh"))
        b_input, b_state = (weights[f"gru.bias_{kind}_l0{suffix}"] for kind in ("ih", "hh"))
        h, all_h = np.zeros(of_state.shape[1]), []
        for row in inputs:
            r_i, z_i, n_i = np.split(of_input @ row + b_input, 3)
            r_h, z_h, n_h = np.split(of_state @ h + b_state, 3)
            z = expit(z_i + z_h)
            h = (1 - z) * np.tanh(n_i + expit(r_i + r_h) * n_h) + z * h
            all_h.append(h)
        states.append(np.array(all_h if suffix == "" else all_h[::-1]))
    return expit(np.concatenate(states, axis=1) @ weights["frame_dense.weight"].T + weights["frame_dense.bias"])


def test_the_forward_pass_is_the_one_in_numpy() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    statistics = {"mean": rng.normal(-40, 5, 16), "std": rng.uniform(5, 9, 16)}
    network = networks.build(NARROW, n_mels=16, n_classes=5, **statistics).double().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    features = rng.normal(-40, 8, (3, 20, 16))
    frame_prob, _ = network(torch.tensor(features))
    np.testing.assert_allclose(
        frame_prob.detach().numpy(), [numpy_forward(weights, clip) for clip in features], rtol=1e-9
    )


def test_it_starts_from_orthogonal_recurrence_and_biases_of_zero() -> None:
    network = networks.build(NARROW, n_mels=80, n_classes=17)
    for name, value in network.state_dict().items():
        if "bias" in name:
            assert not value.any(), name
        if "weight_hh" in name:
            for gate in value.chunk(3):
                torch.testing.assert_close(gate @ gate.T, torch.eye(len(gate)))


def test_it_has_no_attention() -> None:
    frame_prob, attention_logit = networks.build(NARROW, n_mels=80, n_classes=17)(torch.randn(1, 8, 80))
    assert attention_logit is None
    with pytest.raises(ParameterError, match="attention pooling needs the network's attention, and got none"):
        pool(frame_prob, attention_logit=attention_logit, pooling="attention")
