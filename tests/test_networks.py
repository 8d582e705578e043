"""The networks against what is printed and published of them, plain loops and torch's own layers."""

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from test_pooling import ALL_ARMS
from torch import nn
from torch.nn import functional

from hpsed_lib import networks
from hpsed_lib.errors import ParameterError
from hpsed_lib.networks.base import FrameNetwork, GatedConv, layer_table
from hpsed_lib.networks.gccaps import Capsules, squash
from hpsed_lib.networks.gru import BidirectionalGRU
from hpsed_lib.params import GcCaps, Network, Surrey, Wang, load_experiment
from hpsed_lib.pooling import pool
from hpsed_lib.training import EPSILON, clip_loss


def build(params: Network, n_classes: int = 17) -> FrameNetwork:
    torch.manual_seed(0)
    return networks.build(params, n_mels=80, n_classes=n_classes)


@pytest.fixture(scope="module")
def narrow():
    return load_experiment("smoke").network


def test_a_gate_is_one_half_times_the_sigmoid_of_the_other():
    torch.manual_seed(0)
    gate = GatedConv(2, 3).eval()
    gate.norm.running_mean.uniform_(-1, 1)
    gate.norm.running_var.uniform_(0.5, 2)
    x = torch.randn(1, 2, 5, 6)
    convolved = functional.conv2d(x, gate.conv.weight, padding=1)
    mean, variance = (each[:, None, None] for each in (gate.norm.running_mean, gate.norm.running_var))
    one, other = ((convolved - mean) / (variance + gate.norm.eps).sqrt()).split(3, dim=1)
    torch.testing.assert_close(gate(x), one * other.sigmoid(), rtol=1e-4, atol=1e-5)


def test_the_paper_network_has_the_printed_shape():
    experiment = load_experiment("paper")
    network = build(experiment.network).train()
    rows = layer_table(network, n_frames=500, n_mels=80)
    assert network.training  # the table leaves the network as it was
    torch.testing.assert_close(network.state_dict(), build(experiment.network).state_dict(), rtol=0, atol=0)
    assert [row["kind"] for row in rows].count("GatedConv") == 8
    assert [row["kind"] for row in rows].count("MaxPool2d") == 5
    assert [row["output"] for row in rows if row["kind"] == "MaxPool2d"][-1] == (256, 125, 1)
    assert next(row["output"] for row in rows if row["kind"] == "BidirectionalGRU") == (125, 256)
    n_parameters = sum(p.numel() for p in network.parameters()) - 17  # sharpness, which no layer holds
    assert sum(row["parameters"] for row in rows) == n_parameters
    convolutions = 9 * (1 * 128 + 7 * 64 * 128 + 64 * 256) + 2 * (8 * 128 + 256)  # weights, batch norm
    gru = 2 * 3 * 128 * (256 + 128 + 2)
    assert n_parameters == convolutions + gru + 2 * 17 * (256 + 1)


def test_the_input_is_normalised_with_the_given_statistics(narrow):
    features = torch.randn(1, 500, 80) * 12 - 40
    plain, scaled = build(narrow).eval(), build(narrow).eval()
    scaled.mean += -40
    scaled.std *= 12
    torch.testing.assert_close(scaled(features)[0], plain((features + 40) / 12)[0])
    with pytest.raises(ParameterError, match="leave no band"):
        build(narrow.model_copy(update={"last_pool": (1, 6)}))


@pytest.mark.parametrize(("pooling", "structure"), ALL_ARMS)
def test_every_parameter_learns_under_bfloat16_autocast(narrow, pooling, structure):
    network = build(narrow)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        frame_prob, logit = network(torch.randn(2, 200, 80))
    assert frame_prob.shape == logit.shape == (2, 50, 17)
    assert ((frame_prob > 0) & (frame_prob < 1)).all()
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
    ("gccaps", "sigmoid", 240, 64, 447_449, 30, 7),
    ("gccaps", "sigmoid", 500, 80, 457_241, 62, 7),
    ("wang", "linear", 400, 64, 936_041, 100, 7),
    ("wang", "linear", 500, 80, 1_089_641, 125, 7),
]


@pytest.mark.parametrize(("kind", "pooling", "n_frames", "n_mels", "n_parameters", "n_outputs", "too_few"), PUBLISHED)
def test_the_systems_of_table_3_have_their_published_size_and_learn_in_a_smaller_one(
    kind, pooling, n_frames, n_mels, n_parameters, n_outputs, too_few
):
    torch.manual_seed(0)
    [section] = [each for each in get_args(Network) if get_args(each.model_fields["kind"].annotation) == (kind,)]
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


def test_the_loss_is_a1_and_finite_at_both_ends():
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
    ("n_batch", "n_frames", "n_features", "n_units"), [(1, 1, 1, 1), (3, 125, 32, 16), (8, 7, 5, 32)]
)
def test_values_and_gradients_are_torchs(dtype, n_batch, n_frames, n_features, n_units):
    torch.manual_seed(0)
    gru = BidirectionalGRU(n_features, n_units).to(dtype)
    x = torch.randn(n_batch, n_frames, n_features, dtype=dtype, requires_grad=True)
    weight = torch.randn(n_batch, n_frames, 2 * n_units, dtype=dtype)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-12}
    results = []
    for output in (gru(x), nn.GRU.forward(gru, x)[0]):
        gradients = torch.autograd.grad((output * weight).sum(), (x, *gru.parameters()))
        results.append([output.detach(), *gradients])
    for ours, theirs in zip(*results, strict=True):
        scale = max(float(theirs.abs().max()), 1.0)
        torch.testing.assert_close(ours / scale, theirs / scale, **tolerance)


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
def test_every_activation_is_the_loops(name, activation):
    torch.manual_seed(0)
    gru = BidirectionalGRU(3, 4, activation=name).double()
    x = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 7, 8, dtype=torch.float64)
    ours, theirs = (
        [output, *torch.autograd.grad((output * weight).sum(), (x, *gru.parameters()))]
        for output in (gru(x), by_loop(gru, x, activation))
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


# --- the systems of Table 3; `PUBLISHED` has their sizes ---


def seen_by(network: FrameNetwork, features: torch.Tensor, *names: str) -> dict[str, tuple]:
    """First input and output of parts of a network, in evaluation mode, and its own output as "all"."""
    seen = {}
    for name in names:
        part = getattr(network, name)
        part.register_forward_hook(lambda _, x, y, name=name: seen.update({name: (x[0], y)}))
    return {"all": network.eval()(features)} | seen


def test_surrey_has_eight_gated_layers():
    network = networks.build(Surrey(kind="surrey", width=1.0), n_mels=64, n_classes=17)
    kinds = [row["kind"] for row in layer_table(network, n_frames=24, n_mels=64)]
    assert (kinds.count("GatedConv"), kinds.count("MaxPool2d"), kinds.count("Dropout")) == (8, 5, 0)


def test_of_surreys_recurrent_layers_one_gates_the_other():
    torch.manual_seed(0)
    network = networks.build(Surrey(kind="surrey", width=1 / 16), n_mels=64, n_classes=3)
    assert (network.gru.activation, network.gru_gate.activation) == ("linear", "sigmoid")
    seen = seen_by(network, torch.randn(2, 9, 64), "gru", "gru_gate", "frame_dense")
    torch.testing.assert_close(seen["frame_dense"][0], seen["gru"][1] * seen["gru_gate"][1])
    torch.testing.assert_close(seen["all"][0], seen["frame_dense"][1].sigmoid())


def test_gccaps_has_the_published_shapes():
    network = networks.build(GcCaps(kind="gccaps", width=1.0), n_mels=64, n_classes=17)
    seen = seen_by(network, torch.randn(1, 240, 64), "blocks", "capsules")
    assert seen["blocks"][1].shape == (1, 64, 30, 8)
    assert [each.shape for each in seen["capsules"]] == [(1, 30, 64, 4), (1, 30, 17, 8)]
    assert ((seen["all"][0] >= 0) & (seen["all"][0] < 1)).all()


def test_routing_is_that_of_plain_loops():
    """Procedure 1 of arXiv:1710.09829, for one frame at a time."""
    torch.manual_seed(0)
    n_inputs, n_classes = 5, 3
    layer = Capsules(n_inputs, n_classes).double()
    torch.nn.init.normal_(layer.weight)
    x = torch.randn(2, 4, n_inputs, 4, dtype=torch.float64)
    weight = layer.weight.detach().numpy()
    expected = np.zeros((2, 4, n_classes, 8))
    for clip, frame in np.ndindex(2, 4):
        votes = np.einsum("jioc,ic->ijo", weight, x[clip, frame].numpy())
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


def test_squash_keeps_the_direction_and_a_slope_at_zero():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e4, 4e4]], dtype=torch.float64, requires_grad=True)
    y = squash(x)
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.6, 0.8]]) * torch.tensor([[25 / 26], [0.0], [1.0]])
    torch.testing.assert_close(y, expected.double(), rtol=1e-7, atol=1e-7)
    torch.linalg.vector_norm(y, dim=1).sum().backward()
    assert x.grad.isfinite().all()


def test_wangs_forward_pass_is_the_one_of_plain_layers():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = networks.build(Wang(kind="wang", width=1 / 16), n_mels=16, n_classes=5).double().eval()
    network.mean, network.std = torch.tensor(rng.normal(-40, 5, 16)), torch.tensor(rng.uniform(5, 9, 16))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    weights, features = network.state_dict(), torch.tensor(rng.normal(-40, 8, (3, 20, 16)))
    x = ((features - network.mean) / network.std)[:, None]
    for layer, pools in zip((0, 3, 6), ((1, 2), (2, 2), (2, 2)), strict=True):
        kernels, bias = weights[f"convolution.{layer}.weight"], weights[f"convolution.{layer}.bias"]
        x = functional.max_pool2d(functional.conv2d(x, kernels, bias, padding=2).relu(), pools)
    states = by_loop(network.gru, x.permute(0, 2, 1, 3).flatten(2), torch.tanh)
    expected = (states @ weights["frame_dense.weight"].T + weights["frame_dense.bias"]).sigmoid()
    frame_prob, attention_logit = network(features)
    torch.testing.assert_close(frame_prob, expected, rtol=1e-9, atol=0)
    assert attention_logit is None


def test_wang_starts_from_orthogonal_recurrence_and_biases_of_zero():
    network = networks.build(Wang(kind="wang", width=1 / 16), n_mels=80, n_classes=17)
    for name, value in network.state_dict().items():
        if "bias" in name:
            assert not value.any(), name
        if "weight_hh" in name:
            for gate in value.chunk(3):
                torch.testing.assert_close(gate @ gate.T, torch.eye(len(gate)))
