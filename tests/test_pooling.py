"""Pooling against loops written from Eqs. 1 and 3-5 and Table 1, and against the laws that must hold for any clip."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsed_lib.errors import HpsedError, ParameterError
from hpsed_lib.pooling import POOLINGS, STRUCTURES, pool, weighted_mean

ALL_ARMS = [(pooling, structure) for pooling in POOLINGS for structure in STRUCTURES]
COLLAPSING = [structure for structure in STRUCTURES if structure != "mixed"]  # to the value of Eq. 1
SHARPNESS = 1.7  # of power pooling and autopool, where a test does not say otherwise


# --- the oracle: loops over Python floats, one clip and one class at a time ---


def loop_weights(x: list[float], w: list[float], pooling: str, sharpness: float) -> list[float]:
    if pooling == "max":
        return [1.0 if i == x.index(max(x)) else 0.0 for i in range(len(x))]
    if pooling == "average":
        return [1.0 / len(x) for _ in x]
    if pooling == "linear":
        return list(x)
    if pooling == "exponential":
        return [math.exp(value) for value in x]
    if pooling == "power":
        return [value**sharpness for value in x]
    if pooling == "auto":
        return [math.exp(sharpness * value) for value in x]
    return list(w)


def loop_mean(x: list[float], w: list[float], pooling: str) -> float:
    if sum(w) == 0:
        return max(x) if pooling == "max" else sum(x) / len(x)
    numerator = 0.0
    for i in range(len(x)):
        numerator += w[i] * x[i]
    return numerator / sum(w)


def loop_pool(x, w, pooling: str, structure: str, segment_lengths: list[int], sharpness: float = SHARPNESS) -> float:
    w = loop_weights(x, w, pooling, sharpness)
    for m in segment_lengths if structure != "single" else []:
        x_hat, w_hat = [], []
        for j in range(len(x) // m):
            x_j, w_j = x[j * m : (j + 1) * m], w[j * m : (j + 1) * m]
            if structure == "mixed":
                x_hat.append(max(x_j))
                w_hat.append(w_j[x_j.index(max(x_j))])
            else:
                x_hat.append(loop_mean(x_j, w_j, pooling))  # Eq. 3
                w_hat.append(sum(w_j) / m)  # Eq. 4
        x, w = x_hat, w_hat
    return loop_mean(x, w, pooling)  # Eqs. 1 and 5


DEFINITIONS = {
    "max": lambda x, w: x.max(),
    "average": lambda x, w: x.mean(),
    "linear": lambda x, w: (x**2).sum() / x.sum(),
    "exponential": lambda x, w: (x * np.exp(x)).sum() / np.exp(x).sum(),
    "attention": lambda x, w: (w * x).sum() / w.sum(),
    "power": lambda x, w: (x ** (SHARPNESS + 1)).sum() / (x**SHARPNESS).sum(),
    "auto": lambda x, w: (x * np.exp(SHARPNESS * x)).sum() / np.exp(SHARPNESS * x).sum(),
}
"""Table 1's second column, and the two of later years."""


def pool_one(x, w=None, *, sharpness=SHARPNESS, dtype=torch.float64, **options) -> float:
    frame_prob = torch.tensor(x, dtype=dtype).reshape(1, -1, 1)
    attention = None if w is None else torch.tensor(w, dtype=dtype).reshape(1, -1, 1)
    return pool(frame_prob, attention, torch.tensor([sharpness], dtype=dtype), **options).item()


@st.composite
def clips(draw, low=0.0):
    """A clip of any length, with weights and segment lengths that divide it, zeros and ties included."""
    lengths = draw(st.lists(st.integers(1, 4), min_size=0, max_size=3))
    n_frames = math.prod(lengths) * draw(st.integers(1, 3))
    values = st.floats(max(low, 1e-3), 1.0) if low else st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(1e-3, 1))
    x = draw(st.lists(values, min_size=n_frames, max_size=n_frames))
    w = draw(st.lists(values, min_size=n_frames, max_size=n_frames))
    return x, w, lengths


@pytest.mark.parametrize(("pooling", "structure"), ALL_ARMS)
@pytest.mark.parametrize(
    ("n_frames", "segment_lengths"),
    [(125, [5, 5]), (6, [3]), (8, [2, 2]), (24, [2, 3, 2]), (7, [7]), (7, [1]), (1, [1])],
)
def test_pool_equals_the_loops_of_the_equations(pooling, structure, n_frames, segment_lengths):
    rng = np.random.default_rng(n_frames)
    x, w = rng.uniform(size=(2, 3, n_frames, 4))  # (batch, frames, classes)
    sharpness = rng.uniform(0.2, 3, size=4)
    clip_prob = pool(
        *(torch.tensor(value) for value in (x, w, sharpness)),
        pooling=pooling,
        structure=structure,
        segment_lengths=segment_lengths,
    )
    expected = [
        [
            loop_pool(x[b, :, c].tolist(), w[b, :, c].tolist(), pooling, structure, segment_lengths, sharpness[c])
            for c in range(4)
        ]
        for b in range(3)
    ]
    assert clip_prob.shape == (3, 4)
    np.testing.assert_allclose(clip_prob.numpy(), expected, rtol=1e-13)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_single_pooling_is_table_1(pooling):
    x, w = np.random.default_rng(0).uniform(size=(2, 125))
    assert pool_one(x, w, pooling=pooling) == pytest.approx(DEFINITIONS[pooling](x, w), rel=1e-13)


def test_weights_are_those_of_table_1():
    """Their scale matters to nothing but the definition, and Eq. 2 makes each depend on its own frame alone."""
    x, attention = (torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    largest = x == x.amax(dim=1, keepdim=True)
    expected = {"max": largest.float(), "average": torch.full((2, 5, 3), 1 / 5), "linear": x, "exponential": x.exp()}
    for name, weight in (expected | {"attention": attention}).items():
        torch.testing.assert_close(POOLINGS[name](x, attention, None), weight)
    sharpness = torch.tensor([0.5, 1.0, 2.0])
    relative = {"power": x**sharpness, "auto": (sharpness * x).exp()}  # up to a factor for each clip and class
    for name, weight in relative.items():
        found = POOLINGS[name](x, None, sharpness)
        torch.testing.assert_close(found / found.amax(1, keepdim=True), weight / weight.amax(1, keepdim=True))
        torch.testing.assert_close(found.amax(1), torch.ones(2, 3))


@settings(max_examples=60, deadline=None)
@given(clip=clips())
def test_y_is_between_the_least_and_the_largest_frame(clip):
    x, w, lengths = clip
    for pooling, structure in ALL_ARMS:
        y = pool_one(x, w, pooling=pooling, structure=structure, segment_lengths=lengths)
        assert min(x) - 1e-12 <= y <= max(x) + 1e-12


@settings(max_examples=60, deadline=None)
@given(clip=clips(low=1e-3))
def test_the_papers_structures_have_the_same_value(clip):
    x, w, lengths = clip
    for pooling in POOLINGS:
        y = [pool_one(x, w, pooling=pooling, structure=s, segment_lengths=lengths) for s in COLLAPSING]
        assert y == pytest.approx([y[0]] * 3, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(clip=clips())
def test_zeros_and_ties_follow_the_loops(clip):
    x, w, lengths = clip
    for pooling in POOLINGS:
        for structure in ("hierarchical", "mixed"):
            y = pool_one(x, w, pooling=pooling, structure=structure, segment_lengths=lengths)
            assert y == pytest.approx(loop_pool(x, w, pooling, structure, lengths), rel=1e-12, abs=1e-15)


def test_maxima_of_segments_move_y_either_way():
    """The second segment's one loud frame counts as much as the first's three: y falls; alone it makes y rise."""
    options = {"pooling": "linear", "segment_lengths": [3]}
    falls, rises = [1.0, 1.0, 1.0, 0.5, 0.0, 0.0], [0.5, 0.4, 0.4, 0.5, 0.4, 0.4]
    assert pool_one(falls, structure="mixed", **options) == pytest.approx(1.25 / 1.5)
    assert pool_one(falls, structure="single", **options) == pytest.approx(3.25 / 3.5)
    assert pool_one(rises, structure="mixed", **options) == pytest.approx(0.5)
    assert pool_one(rises, structure="single", **options) == pytest.approx(1.14 / 2.6)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_sharpness_leads_from_average_pooling_to_max_pooling(structure):
    x = np.random.default_rng(0).uniform(0.05, 0.95, size=12).tolist()
    options = {"structure": structure, "segment_lengths": [3, 2]}
    ends = {name: pool_one(x, pooling=name, **options) for name in ("average", "linear", "exponential", "max")}
    for pooling, at_one in (("power", "linear"), ("auto", "exponential")):
        y = [pool_one(x, pooling=pooling, sharpness=s, **options) for s in (0.0, 1.0, 10.0, 1e4)]
        assert y[0] == pytest.approx(ends["average"], rel=1e-12)
        assert y[1] == pytest.approx(ends[at_one], rel=1e-12)
        assert y[3] == pytest.approx(ends["max"], rel=1e-12)
        assert y == sorted(y)


def test_an_exponent_below_zero_counts_as_zero_in_power_pooling_and_as_itself_in_autopool():
    x = [0.2, 0.9, 0.4]
    assert pool_one(x, pooling="power", sharpness=-1.0) == pytest.approx(0.5)
    assert pool_one(x, pooling="auto", sharpness=-1.0) == pytest.approx(
        sum(v * math.exp(-v) for v in x) / sum(math.exp(-v) for v in x)
    )


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


@pytest.mark.parametrize(("pooling", "structure"), ALL_ARMS)
@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_a_constant_clip_gives_its_constant(pooling, structure, value):
    y = pool_one([value] * 12, [0.2, 0.7, 0.1] * 4, pooling=pooling, structure=structure, segment_lengths=[3, 2])
    assert y == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(("pooling", "structure"), ALL_ARMS)
def test_one_frame_is_its_own_clip(pooling, structure):
    assert pool_one([0.37], [0.2], pooling=pooling, structure=structure, segment_lengths=[1, 1]) == pytest.approx(0.37)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_max_pooling_is_the_maximum_though_eq_3_reads_zero_by_zero_elsewhere(structure):
    assert pool_one([0.1, 0.2, 0.9, 0.3], pooling="max", structure=structure, segment_lengths=[2]) == 0.9


def test_zero_by_zero_is_the_mean():
    x, weight = torch.tensor([[0.1, 0.3], [0.1, 0.3]]), torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert weighted_mean(x, weight, dim=1).tolist() == pytest.approx([0.2, 0.1])


@pytest.mark.parametrize("structure", COLLAPSING)
@pytest.mark.parametrize("attention", [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]])
def test_frames_without_attention_count_only_where_none_has_any(structure, attention):
    x = [0.1, 0.2, 0.6, 0.8]
    expected = 0.425 if sum(attention) == 0 else 0.7
    assert pool_one(x, attention, pooling="attention", structure=structure, segment_lengths=[2]) == pytest.approx(
        expected
    )


@pytest.mark.parametrize(("pooling", "structure"), ALL_ARMS)
def test_clips_and_classes_do_not_touch_each_other(pooling, structure):
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.rand(3, 10, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    sharpness = torch.rand(4, generator=generator, dtype=torch.float64)
    whole = pool(x, w, sharpness, pooling=pooling, structure=structure, segment_lengths=[5])
    for b in range(3):
        for c in range(4):
            alone = pool(
                x[b : b + 1, :, c : c + 1],
                w[b : b + 1, :, c : c + 1],
                sharpness[c : c + 1],
                pooling=pooling,
                structure=structure,
                segment_lengths=[5],
            )
            assert whole[b, c].item() == pytest.approx(alone.item(), rel=1e-14)


@pytest.mark.parametrize(("pooling", "structure"), ALL_ARMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_keeps_float32_sums(pooling, structure, dtype):
    generator = torch.Generator().manual_seed(1)
    x, w = (torch.rand(2, 125, 3, generator=generator).to(dtype) for _ in range(2))
    sharpness = torch.tensor([0.5, 1.0, 2.0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = pool(x, w, sharpness, pooling=pooling, structure=structure, segment_lengths=[5, 5])
    exact = pool(
        x.double(), w.double(), sharpness.double(), pooling=pooling, structure=structure, segment_lengths=[5, 5]
    )
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("pooling", "structure"), ALL_ARMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_gradients_are_finite_at_saturated_frames(pooling, structure, dtype, value):
    x = torch.full((2, 25, 3), value, dtype=dtype)
    x[0, :10] = 1 - value  # one clip of both, one of a single value
    w = torch.full_like(x, value)
    x.requires_grad_()
    w.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = pool(x, w, torch.ones(3), pooling=pooling, structure=structure, segment_lengths=[5, 5])
    y.sum().backward()
    assert x.grad is not None
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
    attention = pool(
        torch.rand(1, 25, 2, generator=torch.Generator().manual_seed(0)),
        logits.softmax(-1),
        pooling="attention",
        structure=structure,
    )
    linear = pool((logits[:, :10, 1:]).sigmoid(), pooling="linear", structure=structure, segment_lengths=[5])
    loss = attention.sum() + torch.nn.functional.binary_cross_entropy(linear, torch.ones_like(linear))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()


# --- what is refused ---

FRAMES = torch.full((1, 10, 1), 0.5)


@pytest.mark.parametrize(
    ("frame_prob", "attention", "options", "message"),
    [
        (FRAMES, None, {"pooling": "softmax"}, r"unknown pooling 'softmax'; known: max, average"),
        (FRAMES, None, {"pooling": "max", "structure": "double"}, r"unknown structure 'double'; known: single"),
        (FRAMES, None, {"pooling": "attention"}, r"needs the network's attention weights, and got none"),
        (FRAMES, None, {"pooling": "power"}, r"power pooling needs the network's sharpness.* got none"),
        (FRAMES, None, {"pooling": "auto"}, r"auto pooling needs the network's sharpness.* got none"),
        (FRAMES, None, {"pooling": "auto", "sharpness": torch.ones(2)}, r"each of 1 classes; got \(2,\)"),
        (FRAMES[0], None, {"pooling": "max"}, r"must be \(batch, frames, classes\).*got \(10, 1\)"),
        (FRAMES[:, :0], None, {"pooling": "max"}, r"with a frame at least; got \(1, 0, 1\)"),
        (FRAMES, FRAMES[:, :5], {"pooling": "attention"}, r"attention \(1, 5, 1\) and frame_prob \(1, 10, 1\) differ"),
        (
            FRAMES,
            None,
            {"pooling": "max", "structure": "hierarchical", "segment_lengths": [3]},
            r"cannot cut 10 frames",
        ),
        (
            FRAMES,
            None,
            {"pooling": "max", "structure": "appendix", "segment_lengths": [5, 4]},
            r"stage 2 .* cut 2 fram",
        ),
        (FRAMES, None, {"pooling": "max", "structure": "hierarchical", "segment_lengths": [0]}, r"segments of 0"),
        (FRAMES, None, {"pooling": "max", "structure": "hierarchical", "segment_lengths": [20]}, r"segments of 20"),
    ],
)
def test_wrong_input_is_refused_with_what_was_expected(frame_prob, attention, options, message):
    with pytest.raises(ParameterError, match=message) as caught:
        pool(frame_prob, attention, **options)
    assert isinstance(caught.value, HpsedError)


def test_single_pooling_does_not_need_lengths_that_divide():
    assert pool(FRAMES[:, :7], pooling="linear", segment_lengths=(5, 5)).item() == pytest.approx(0.5)
