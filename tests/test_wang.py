"""Wang and Metze's network: its published size, and all of its forward pass written again in numpy."""

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
from hpsed_lib.training import clip_loss

PUBLISHED, NARROW = (Wang(kind="wang", width=width) for width in (1.0, 1 / 16))


@pytest.mark.parametrize(
    ("n_frames", "n_mels", "n_parameters", "n_outputs"), [(400, 64, 936_041, 100), (500, 80, 1_089_641, 125)]
)
def test_the_published_width_has_the_published_size(
    n_frames: int, n_mels: int, n_parameters: int, n_outputs: int
) -> None:
    network = networks.build(PUBLISHED, n_mels=n_mels, n_classes=17)
    assert sum(each.numel() for each in network.parameters()) - 17 == n_parameters
    assert network.gru.input_size == 128 * n_mels // 8
    frame_prob, attention_logit = network(torch.randn(1, n_frames, n_mels))
    assert frame_prob.shape == (1, n_outputs, 17)
    assert attention_logit is None


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


def test_every_parameter_learns_with_its_own_pooling_and_attention_is_refused() -> None:
    torch.manual_seed(0)
    network = networks.build(NARROW, n_mels=80, n_classes=17)
    frame_prob, attention_logit = network(torch.randn(2, 48, 80))
    clip_loss(pool(frame_prob, attention_logit=attention_logit, pooling="linear"), torch.eye(2, 17)).backward()
    unused = [name for name, each in network.named_parameters() if each.grad is None or not each.grad.isfinite().all()]
    assert unused == ["sharpness"]
    with pytest.raises(ParameterError, match="attention pooling needs the network's attention, and got none"):
        pool(frame_prob, attention_logit=attention_logit, pooling="attention")


def test_too_few_bands_are_refused() -> None:
    with pytest.raises(ParameterError, match="no band of 7 mel bands"):
        networks.build(NARROW, n_mels=7, n_classes=17)
