"""Pooling against loops written from Eqs. 1 and 3-5 and Table 1, and against the laws that must hold for any clip."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpsed_lib.errors import ParameterError
from hpsed_lib.pooling import POOLINGS, STRUCTURES, has_constant_weights, has_weights, pool, weighted_mean

ALL_ARMS = [(name, each) for name in POOLINGS for each in (STRUCTURES if has_weights(name) else ("single",))]
SHARPNESS = 1.7  # of power pooling and autopool, where a test does not say otherwise


# --- the oracle: loops over Python floats, one clip and one class at a time ---

LOOP_WEIGHTS = {
    "max": lambda x, w, s: [1.0 if i == x.index(max(x)) else 0.0 for i in range(len(x))],
    "average": lambda x, w, s: [1.0 / len(x) for _ in x],
    "linear": lambda x, w, s: x,
    "exponential": lambda x, w, s: [math.exp(value) for value in x],
    "attention": lambda x, w, s: w,
    "sigmoid": lambda x, w, s: [sigmoid(value) for value in w],
    "power": lambda x, w, s: [value**s for value in x],
    "auto": lambda x, w, s: [math.exp(s * value) for value in x],
    "decision": lambda x, w, s: [math.exp(value) for value in w],
    "topk": lambda x, w, s: [float(rank < 10) for rank in ranks(x)],
    "gwrp": lambda x, w, s: [0.9**rank for rank in ranks(x)],
}
LOOP_PROBS = {
    "lse": lambda x, w: math.log(sum(math.exp(5 * value) for value in x) / len(x)) / 5,
    "noisy_or": lambda x, w: 1 - math.prod(1 - value for value in x),
    "feature": lambda x, w: sigmoid(np.average([logit(value) for value in x], weights=np.exp(w))),
}


def ranks(x: list[float]) -> list[int]:
    """How many frames surpass each; of equal frames the first comes first."""
    return [sum(other > value for other in x) + x[:i].count(value) for i, value in enumerate(x)]


def logit(value: float) -> float:
    value = min(max(value, 2**-20), 1 - 2**-20)
    return math.log(value / (1 - value))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def loop_mean(x: list[float], w: list[float]) -> float:
    if sum(w) == 0:
        return sum(x) / len(x)
    numerator = 0.0
    for i in range(len(x)):
        numerator += w[i] * x[i]
    return numerator / sum(w)


def loop_pool(x, w, sharpness: float, *, pooling: str, structure: str, segment_lengths: list[int]) -> float:
    if pooling in LOOP_PROBS:
        return LOOP_PROBS[pooling](x, w)
    w = LOOP_WEIGHTS[pooling](x, w, sharpness)
    for m in segment_lengths if structure != "single" else []:
        x_hat, w_hat = [], []
        for j in range(len(x) // m):
            x_j, w_j = x[j * m : (j + 1) * m], w[j * m : (j + 1) * m]
            if structure == "mixed":
                x_hat.append(max(x_j))
                w_hat.append(w_j[x_j.index(max(x_j))])
            else:
                x_hat.append(loop_mean(x_j, w_j))  # Eq. 3
                w_hat.append(sum(w_j) / m)  # Eq. 4
        x, w = x_hat, w_hat
    return loop_mean(x, w)  # Eqs. 1 and 5


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 4), max_size=3),
    rest=st.integers(1, 3),
    levels=st.sampled_from([None, [0.0], [1.0], [0.3], [0.0, 0.5, 1.0]]),
    seed=st.integers(0, 2**32 - 1),
)
@example(lengths=[5, 5], rest=5, levels=None, seed=0)
@example(lengths=[1, 1], rest=1, levels=None, seed=0)
@example(lengths=[2, 3, 2], rest=2, levels=None, seed=0)
@example(lengths=[3, 2], rest=2, levels=[0.0], seed=0)
@example(lengths=[3, 2], rest=2, levels=[0.0, 1.0], seed=0)
def test_pool_is_the_loops_and_the_papers_structures_have_one_value(lengths, rest, levels, seed):
    """Any frames, constant, silent, saturated and tied ones too; and no clip and no class touches another."""
    rng = np.random.default_rng(seed)
    shape = (2, math.prod(lengths) * rest, 2)  # (batch, frames, classes)
    x, w = (rng.uniform(1e-3, 1, shape) if levels is None else rng.choice(levels, shape) for _ in range(2))
    sharpness = rng.uniform(0.2, 3, 2)
    tensors = [torch.tensor(value) for value in (x, w, sharpness, w)]
    for pooling, structure in ALL_ARMS:
        options = {"pooling": pooling, "structure": structure, "segment_lengths": lengths}
        y = pool(*tensors, **options)
        expected = [
            [loop_pool(x[b, :, c].tolist(), w[b, :, c].tolist(), sharpness[c], **options) for c in range(2)]
            for b in range(2)
        ]
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-13)
        if pooling != "noisy_or":
            assert ((x.min(1) - 1e-6 <= y.numpy()) & (y.numpy() <= x.max(1) + 1e-6)).all()
        if structure != "mixed":
            torch.testing.assert_close(y, pool(*tensors, pooling=pooling), rtol=1e-12, atol=1e-15)


def test_weights_are_those_of_table_1():
    """Their scale matters to nothing but the definition, and Eq. 2 makes each depend on its own frame alone."""
    x, attention = (torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    largest = x == x.amax(dim=1, keepdim=True)
    expected = {"max": largest.float(), "average": torch.full((2, 5, 3), 1 / 5), "linear": x, "exponential": x.exp()}
    for name, weight in expected.items():
        torch.testing.assert_close(POOLINGS[name](x), weight)
    assert POOLINGS["attention"](attention) is attention
    sharpness = torch.tensor([0.5, 1.0, 2.0])
    relative = {"power": x**sharpness, "auto": (sharpness * x).exp()}  # up to a factor for each clip and class
    for name, weight in relative.items():
        found = POOLINGS[name](x, sharpness)
        torch.testing.assert_close(found / found.amax(1, keepdim=True), weight / weight.amax(1, keepdim=True))
        torch.testing.assert_close(found.amax(1), torch.ones(2, 3))


def test_the_ends_of_what_has_a_constant():
    x = torch.rand(2, 12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ends = {"max": {"topk": {"k": 1}, "gwrp": {"r": 0.0}, "lse": {"r": 1e4}}}
    ends |= {"average": {"topk": {"k": 12}, "gwrp": {"r": 1.0}, "lse": {"r": 1e-6}}}
    for end, functions in ends.items():
        for name, constant in functions.items():
            result = POOLINGS[name](x, **constant)
            y = result if result.ndim == 2 else weighted_mean(x, result, dim=1)
            torch.testing.assert_close(y, pool(x, pooling=end), rtol=1e-3, atol=1e-3)


def test_a_function_says_what_it_is():
    assert [name for name in POOLINGS if not has_weights(name)] == ["lse", "noisy_or", "feature"]
    assert [name for name in POOLINGS if has_constant_weights(name)] == ["max", "average", "topk", "gwrp"]


def pool_one(x, *, sharpness=SHARPNESS, **options) -> float:
    tensors = torch.tensor(x, dtype=torch.float64).reshape(1, -1, 1), None, torch.tensor([sharpness])
    return pool(*tensors, **options).item()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_sharpness_leads_from_average_pooling_to_max_pooling(structure):
    x = np.random.default_rng(0).uniform(0.05, 0.95, size=12).tolist()
    options = {"structure": structure, "segment_lengths": [3, 2]}
    ends = {name: pool_one(x, pooling=name, **options) for name in ("average", "linear", "exponential", "max")}
    for pooling, at_one in (("power", "linear"), ("auto", "exponential")):
        y = [pool_one(x, pooling=pooling, sharpness=s, **options) for s in (0.0, 1.0, 10.0, 1e4)]
        assert [y[0], y[1], y[3]] == pytest.approx([ends["average"], ends[at_one], ends["max"]], rel=1e-12)
        assert y == sorted(y)


def test_an_exponent_below_zero_counts_as_zero_in_power_pooling_and_as_itself_in_autopool():
    x = [0.2, 0.9, 0.4]
    assert pool_one(x, pooling="power", sharpness=-1.0) == pytest.approx(0.5)
    assert pool_one(x, pooling="auto", sharpness=-1.0) == pytest.approx(np.average(x, weights=np.exp(np.negative(x))))


@pytest.mark.parametrize("sharpness", [0.0, 0.3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("pooling", ["power", "auto"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_no_sharpness_overflows_in_float32(pooling, sharpness, structure):
    x = torch.tensor([0.0, 1e-30, 1e-4, 0.01, 0.02, 0.03]).reshape(1, -1, 1).requires_grad_()
    s = torch.tensor([sharpness], requires_grad=True)
    y = pool(x, None, s, pooling=pooling, structure=structure, segment_lengths=[3])
    y.sum().backward()
    assert 0.01 / 6 <= y.item() <= 0.03 + 1e-7
    assert x.grad.isfinite().all()
    assert s.grad.isfinite().all()


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_weights_that_sum_to_less_than_the_smallest_normal_number_are_none(kind):
    tiny, x = torch.finfo(kind).tiny, torch.tensor([0.1, 0.3], dtype=kind)
    for weight, mean in (((0, 0), 0.2), ((1, 0), 0.1), ((tiny, 0), 0.1), ((0.75 * tiny, 0), 0.2)):
        assert weighted_mean(x, torch.tensor(weight, dtype=kind), dim=0).item() == pytest.approx(mean)


@pytest.mark.parametrize(("pooling", "structure"), ALL_ARMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_keeps_float32_sums(pooling, structure, dtype):
    generator = torch.Generator().manual_seed(1)
    x, w = (torch.rand(2, 125, 3, generator=generator).to(dtype) for _ in range(2))
    tensors, options = (x, w, torch.tensor([0.5, 1.0, 2.0]), w), {"pooling": pooling, "structure": structure}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = pool(*tensors, **options)
    assert y.dtype == torch.float32
    exact = pool(*(tensor.double() for tensor in tensors), **options)
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("pooling", "structure"), ALL_ARMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_gradients_are_finite_at_saturated_frames(pooling, structure, dtype, value):
    x = torch.full((2, 25, 3), value, dtype=dtype)
    x[0, :10] = 1 - value  # one clip of both, one of a single value
    w = torch.full_like(x, value).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = pool(x.requires_grad_(), w, torch.ones(3), w, pooling=pooling, structure=structure)
    y.sum().backward()
    assert x.grad.isfinite().all()
    assert w.grad is None or w.grad.isfinite().all()


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("logit", [-40.0, -80.0, -86.0, -88.0, -90.0, -95.0, -100.0, -110.0])
def test_gradients_are_finite_where_float32_runs_out(structure, logit):
    """Below about -87 a float32 softmax or sigmoid is subnormal, and one over it infinite."""
    logits = torch.zeros(1, 25, 2)
    logits[0, :10, 1] = logit
    logits[0, 3, 1] = logit - 1
    logits.requires_grad_()
    frame_prob = torch.rand(1, 25, 2, generator=torch.Generator().manual_seed(0))
    attention = pool(frame_prob, logits.softmax(-1), pooling="attention", structure=structure)
    linear = pool((logits[:, :10, 1:]).sigmoid(), pooling="linear", structure=structure, segment_lengths=[5])
    loss = attention.sum() + torch.nn.functional.binary_cross_entropy(linear, torch.ones_like(linear))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()


FRAMES = torch.full((1, 10, 1), 0.5)
IN_SEGMENTS = {"pooling": "max", "structure": "hierarchical"}


@pytest.mark.parametrize(
    ("frame_prob", "options", "message"),
    [
        (FRAMES, {"pooling": "softmax"}, r"unknown pooling 'softmax'; known: max, average"),
        (FRAMES, {"pooling": "max", "structure": "double"}, r"unknown structure 'double'; known: single"),
        (FRAMES, {"pooling": "attention"}, r"needs the network's attention, and got none"),
        (FRAMES, {"pooling": "power"}, r"power pooling needs the network's sharpness.* got none"),
        (FRAMES, {"pooling": "feature"}, r"feature pooling needs the network's attention_logit, and got none"),
        (FRAMES, {"pooling": "lse", "structure": "mixed"}, r"lse pooling gives no weights: it has no structure but"),
        (FRAMES, {"pooling": "auto", "sharpness": torch.ones(2)}, r"sharpness must be \(1,\).*; got \(2,\)"),
        (FRAMES[0], {"pooling": "max"}, r"must be \(batch, frames, classes\).*got \(10, 1\)"),
        (FRAMES[:, :0], {"pooling": "max"}, r"with a frame at least; got \(1, 0, 1\)"),
        (FRAMES, {"pooling": "max", "attention": FRAMES[:, :5]}, r"attention must be \(1, 10, 1\).*; got \(1, 5, 1\)"),
        (FRAMES, {**IN_SEGMENTS, "segment_lengths": [3]}, r"cannot cut 10 frames"),
        (FRAMES, {**IN_SEGMENTS, "structure": "appendix", "segment_lengths": [5, 4]}, r"stage 2 .* cut 2 fram"),
        (FRAMES, {**IN_SEGMENTS, "segment_lengths": [0]}, r"segments of 0"),
    ],
)
def test_wrong_input_is_refused_with_what_was_expected(frame_prob, options, message):
    with pytest.raises(ParameterError, match=message):
        pool(frame_prob, **options)
