"""The network's shapes, gates and outputs against plain loops and closed forms; the GRU against torch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from hpsed_lib import networks
from hpsed_lib.errors import ParameterError
from hpsed_lib.networks.base import FrameNetwork, GatedConv, layer_table
from hpsed_lib.networks.gru import BidirectionalGRU
from hpsed_lib.params import NETWORK_SECTIONS, Network, load_experiment
from hpsed_lib.pooling import POOLINGS, STRUCTURES, has_weights, pool
from hpsed_lib.training import EPSILON, clip_loss

ALL_ARMS = [(name, each) for name in POOLINGS for each in (STRUCTURES if has_weights(name) else ("single",))]


def build(params: Network, n_classes: int = 17) -> FrameNetwork:
    torch.manual_seed(0)
    return networks.build(params, n_mels=80, n_classes=n_classes)


@pytest.fixture(scope="module")
def narrow() -> Network:
    return load_experiment("smoke").network


def test_a_gate_is_one_half_times_the_sigmoid_of_the_other() -> None:
    torch.manual_seed(0)
    gate = GatedConv(2, 3).eval()
    gate.norm.running_mean.uniform_(-1, 1)
    gate.norm.running_var.uniform_(0.5, 2)
    x = torch.randn(1, 2, 5, 6)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    expected = torch.empty(1, 6, 5, 6)
    for channel, i, j in np.ndindex(6, 5, 6):
        patch = (padded[0, :, i : i + 3, j : j + 3] * gate.conv.weight[channel]).sum()
        scale = (gate.norm.running_var[channel] + gate.norm.eps).rsqrt()
        expected[0, channel, i, j] = (patch - gate.norm.running_mean[channel]) * scale
    torch.testing.assert_close(gate(x), expected[:, :3] * expected[:, 3:].sigmoid(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("experiment", ["quick", "esc10", "smoke"])
def test_500_frames_become_125_with_probabilities(experiment: str) -> None:
    network = build(load_experiment(experiment).network)
    frame_prob, attention_logit = network(torch.randn(2, 500, 80))
    assert frame_prob.shape == attention_logit.shape == (2, 125, 17)
    assert frame_prob.dtype == torch.float32
    assert ((frame_prob > 0) & (frame_prob < 1)).all()


def test_the_paper_network_has_the_printed_shape() -> None:
    experiment = load_experiment("paper")
    network = build(experiment.network)
    rows = layer_table(network, n_frames=500, n_mels=80)
    assert [row["kind"] for row in rows].count("GatedConv") == 8
    assert [row["kind"] for row in rows].count("MaxPool2d") == 5
    assert [row["output"] for row in rows if row["kind"] == "MaxPool2d"][-1] == (256, 125, 1)
    assert next(row["output"] for row in rows if row["kind"] == "BidirectionalGRU") == (125, 256)
    n_parameters = sum(p.numel() for p in network.parameters()) - 17  # sharpness, which no layer holds
    assert sum(row["parameters"] for row in rows) == n_parameters
    convolutions = 9 * (1 * 128 + 7 * 64 * 128 + 64 * 256) + 2 * (8 * 128 + 256)  # weights, batch norm
    gru = 2 * 3 * 128 * (256 + 128 + 2)
    assert n_parameters == convolutions + gru + 2 * 17 * (256 + 1)


def test_the_table_of_layers_leaves_the_network_as_it_was(narrow: Network) -> None:
    network = build(narrow).train()
    layer_table(network, n_frames=500, n_mels=80)
    assert network.training
    torch.testing.assert_close(network.state_dict(), build(narrow).state_dict(), rtol=0, atol=0)


def test_the_input_is_normalised_with_the_given_statistics(narrow: Network) -> None:
    features = torch.randn(1, 500, 80) * 12 - 40
    plain, scaled = build(narrow).eval(), build(narrow).eval()
    scaled.mean += -40
    scaled.std *= 12
    torch.testing.assert_close(scaled(features)[0], plain((features + 40) / 12)[0])


def test_pools_that_leave_no_band_are_refused(narrow: Network) -> None:
    with pytest.raises(ParameterError, match="leave no band"):
        build(narrow.model_copy(update={"last_pool": (1, 6)}))


@pytest.mark.parametrize(("pooling", "structure"), ALL_ARMS)
def test_every_parameter_learns_under_bfloat16_autocast(narrow: Network, pooling: str, structure: str) -> None:
    network = build(narrow)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        frame_prob, logit = network(torch.randn(2, 500, 80))
    clip_prob = pool(frame_prob, logit.softmax(2), network.sharpness, logit, pooling=pooling, structure=structure)
    assert clip_prob.dtype == torch.float32
    clip_loss(clip_prob, torch.eye(2, 17)).backward()
    for name, parameter in network.named_parameters():
        of_attention = ("attention", "sigmoid", "decision", "feature")
        used = {"attention_dense": pooling in of_attention, "sharpness": pooling in ("power", "auto")}
        if used.get(name.split(".")[0], True):
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
    assert (network.frame_dense.weight.grad.abs().max() > 0) == (pooling != "noisy_or")


PUBLISHED = [  # kind, its pooling function, frames, mel bands, parameters, output frames, bands that are too few
    ("surrey", "attention", 240, 64, 1_267_106 + 2 * 2 * 3 * 128, 240, 63),  # PyTorch's GRUs have a second bias
    ("surrey", "attention", 500, 80, 1_267_106 + 2 * 2 * 3 * 128, 500, 63),
    ("gccaps", "sigmoid", 240, 64, 447_449, 30, 7),
    ("gccaps", "sigmoid", 500, 80, 457_241, 62, 7),
    ("wang", "linear", 400, 64, 936_041, 100, 7),
    ("wang", "linear", 500, 80, 1_089_641, 125, 7),
]


@pytest.mark.parametrize(("kind", "pooling", "n_frames", "n_mels", "n_parameters", "n_outputs", "too_few"), PUBLISHED)
def test_the_systems_of_table_3_have_their_published_size_and_learn_in_a_smaller_one(
    kind: str, pooling: str, n_frames: int, n_mels: int, n_parameters: int, n_outputs: int, too_few: int
) -> None:
    torch.manual_seed(0)
    [section] = [each for each in NETWORK_SECTIONS if get_args(each.model_fields["kind"].annotation) == (kind,)]
    network = networks.build(section(kind=kind, width=1.0), n_mels=n_mels, n_classes=17)
    assert sum(each.numel() for each in network.parameters()) - 17 == n_parameters
    narrow = networks.build(section(kind=kind, width=1 / 16), n_mels=n_mels, n_classes=17)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        frame_prob, logit = narrow(torch.randn(2, n_frames, n_mels))
    assert frame_prob.shape == (2, n_outputs, 17)
    assert n_outputs == n_frames // section.time_pooling
    assert {each.dtype for each in (frame_prob, logit) if each is not None} == {torch.float32}
    attention = None if logit is None else logit.softmax(2)
    clip_loss(pool(frame_prob, attention, attention_logit=logit, pooling=pooling), torch.eye(2, 17)).backward()
    unused = [name for name, each in narrow.named_parameters() if each.grad is None or not each.grad.isfinite().all()]
    assert unused == ["sharpness"]
    with pytest.raises(ParameterError, match=f"no band of {too_few} mel bands"):
        networks.build(section(kind=kind, width=1.0), n_mels=too_few, n_classes=17)


def test_the_loss_is_a1_and_finite_at_both_ends() -> None:
    clip_prob = torch.tensor([[0.2, 0.9]], dtype=torch.float64)
    target = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert clip_loss(clip_prob, target).item() == pytest.approx(-(np.log(0.2) + np.log(0.1)) / 2)
    ends = torch.tensor([[0.0, 1.0]], requires_grad=True)
    loss = clip_loss(ends, torch.tensor([[1.0, 0.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(-np.log(EPSILON), rel=0.02)
    assert torch.isfinite(ends.grad).all()


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
    for output in (gru(x), nn.GRU.forward(gru, x)[0]):
        gradients = torch.autograd.grad((output * weight).sum(), (x, *gru.parameters()))
        results.append([output.detach(), *gradients])
    names = ["output", "x", *(name for name, _ in gru.named_parameters())]
    for name, ours, theirs in zip(names, *results, strict=True):
        scale = max(float(theirs.abs().max()), 1.0)
        torch.testing.assert_close(ours / scale, theirs / scale, **tolerance, msg=lambda text, n=name: f"{n}: {text}")


def by_loop(gru: BidirectionalGRU, x: torch.Tensor, activation: Callable) -> torch.Tensor:
    """The recurrence frame by frame, from its formulas, left to automatic differentiation."""
    outputs = []
    for suffix, order in (("", range(x.shape[1])), ("_reverse", range(x.shape[1] - 1, -1, -1))):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        w_ih, w_hh, b_ih, b_hh = (getattr(gru, f"{name}_l0{suffix}") for name in names)
        h, states = x.new_zeros(len(x), gru.hidden_size), {}
        for frame in order:
            i_r, i_z, i_n = (x[:, frame] @ w_ih.T + b_ih).chunk(3, dim=1)
            h_r, h_z, h_n = (h @ w_hh.T + b_hh).chunk(3, dim=1)
            z = (i_z + h_z).sigmoid()
            h = (1 - z) * activation(i_n + (i_r + h_r).sigmoid() * h_n) + z * h
            states[frame] = h
        outputs.append(torch.stack([states[frame] for frame in range(x.shape[1])], dim=1))
    return torch.cat(outputs, dim=2)


@pytest.mark.parametrize(
    ("name", "activation"), [("tanh", torch.tanh), ("sigmoid", torch.sigmoid), ("linear", lambda x: x)]
)
def test_every_activation_is_the_loops(name: str, activation: Callable) -> None:
    torch.manual_seed(0)
    gru = BidirectionalGRU(3, 4, activation=name).double()
    x = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 7, 8, dtype=torch.float64)
    ours, theirs = (
        [output, *torch.autograd.grad((output * weight).sum(), (x, *gru.parameters()))]
        for output in (gru(x), by_loop(gru, x, activation))
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_the_output_is_the_same_every_time() -> None:
    gru, x = BidirectionalGRU(32, 16), torch.randn(4, 125, 32)
    assert torch.equal(gru(x), gru(x))
