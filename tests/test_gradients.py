"""Gradients four ways: automatic differentiation, the closed forms, finite differences and (test_derivation) SymPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hpsed_lib.errors import ParameterError
from hpsed_lib.pooling import POOLINGS, STRUCTURES, pool
from hpsed_lib.theory.gradients import WEIGHT_SLOPES_BY_SHARPNESS, WEIGHTS, differentiate, dloss_dy

ALL_ARMS = [(pooling, structure) for pooling in POOLINGS for structure in STRUCTURES]
TRUE_ARMS = [arm for arm in ALL_ARMS if arm[1] != "appendix"]
PAPER = ["max", "average", "linear", "exponential", "attention"]  # Table A-1's rows
SOFTMAXES = ["linear", "exponential", "power", "auto"]  # whose weights depend on the frames, smoothly
SHARPNESS = 1.7  # of power pooling and autopool
CLIPS = [(125, [5, 5]), (6, [3]), (8, [2, 2]), (24, [2, 3, 2]), (7, [7]), (7, [1]), (5, []), (1, [1])]


def draw(n_frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.random.default_rng(seed).uniform(0.02, 0.98, size=(2, n_frames))
    return x, w


def autograd(x, w, pooling, structure, segment_lengths, sharpness=SHARPNESS) -> tuple[np.ndarray, np.ndarray, float]:
    """dy/dx, dy/dw and dy/dsharpness by automatic differentiation; zero for what a function does not use."""
    tensors = [torch.tensor(v, dtype=torch.float64).reshape(1, -1, 1).requires_grad_() for v in (x, w)]
    tensors.append(torch.tensor([sharpness], dtype=torch.float64).requires_grad_())
    y = pool(*tensors, pooling=pooling, structure=structure, segment_lengths=segment_lengths)
    found = torch.autograd.grad(y.sum(), tensors, allow_unused=True, materialize_grads=True)
    return found[0].flatten().numpy(), found[1].flatten().numpy(), found[2].item()


def finite_difference(x, w, pooling, structure, segment_lengths, step=1e-6) -> np.ndarray:
    """dy/dx by central differences of the value."""

    def y(values):
        frame_prob, attention = (torch.tensor(v, dtype=torch.float64).reshape(1, -1, 1) for v in (values, w))
        sharpness = torch.tensor([SHARPNESS], dtype=torch.float64)
        options = {"pooling": pooling, "structure": structure, "segment_lengths": segment_lengths}
        return pool(frame_prob, attention, sharpness, **options).item()

    steps = np.eye(len(x)) * step
    return np.array([(y(x + s) - y(x - s)) / (2 * step) for s in steps])


def closed_forms(x, w, pooling, structure, segment_lengths) -> tuple[np.ndarray, np.ndarray, float]:
    options = {"pooling": pooling, "structure": structure, "segment_lengths": segment_lengths}
    return differentiate(x, attention=w, sharpness=SHARPNESS, **options)[1:]


def assert_same(found, expected, **tolerances):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, **tolerances)


# --- Table A-1, cell by cell, written out again with loops ---


def table_a1(x, w, pooling, column, m):
    """Table A-1 as printed: dy/dx, and dy/dw for attention; x_hat_j by Eq. 3 with segments of m frames."""
    n = len(x)
    weight = {"linear": x, "exponential": np.exp(x), "attention": w}.get(pooling, np.ones(n))
    y = x.max() if pooling == "max" else sum(weight * x) / sum(weight)
    by_frame, by_weight = [], []
    for i in range(n):
        segment = slice(i // m * m, i // m * m + m)
        x_hat = sum(weight[segment] * x[segment]) / sum(weight[segment])
        value = x[i] if column == "single" else x_hat
        by_frame.append(
            {
                "max": float(i == np.argmax(x)),
                "average": 1 / n,
                "linear": (x[i] + value - y) / sum(x),
                "exponential": (1 + value - y) * np.exp(x[i]) / sum(np.exp(x)),
                "attention": w[i] / sum(w),
            }[pooling]
        )
        by_weight.append((value - y) / sum(w))
    return np.array(by_frame), np.array(by_weight)


@pytest.mark.parametrize("pooling", PAPER)
@pytest.mark.parametrize(("column", "structure"), [("single", "single"), ("hierarchical", "appendix")])
def test_two_stages_give_table_a1_as_printed(pooling, column, structure):
    x, w = draw(12)
    n_printed = 2 if pooling == "attention" else 1
    printed = table_a1(x, w, pooling, column, 4)[:n_printed]
    assert_same(autograd(x, w, pooling, structure, [4])[:n_printed], printed, atol=1e-15)
    assert_same(closed_forms(x, w, pooling, structure, [4])[:n_printed], printed, atol=1e-15)


@pytest.mark.parametrize("pooling", ["linear", "exponential", "attention"])
def test_three_stages_take_the_longest_segment_not_the_first(pooling):
    x, w = draw(125)
    k = 1 if pooling == "attention" else 0
    found = autograd(x, w, pooling, "appendix", [5, 5])[k]
    np.testing.assert_allclose(found, table_a1(x, w, pooling, "hierarchical", 25)[k], atol=1e-15)
    assert np.abs(found - table_a1(x, w, pooling, "hierarchical", 5)[k]).max() > 1e-4


# --- automatic differentiation against closed forms and finite differences ---


@pytest.mark.parametrize(("pooling", "structure"), ALL_ARMS)
@pytest.mark.parametrize(("n_frames", "segment_lengths"), CLIPS)
def test_autograd_equals_the_closed_form(pooling, structure, n_frames, segment_lengths):
    x, w = draw(n_frames, seed=n_frames)
    chosen = (x, w, pooling, structure, segment_lengths)
    assert_same(autograd(*chosen), closed_forms(*chosen), atol=1e-14)


@pytest.mark.parametrize(("pooling", "structure"), TRUE_ARMS)
def test_autograd_of_the_true_gradient_passes_gradcheck(pooling, structure):
    x, w = (torch.tensor(v).reshape(1, -1, 1).requires_grad_() for v in draw(12))
    sharpness = torch.tensor([SHARPNESS], dtype=torch.float64, requires_grad=pooling in WEIGHT_SLOPES_BY_SHARPNESS)

    def y(*tensors):
        return pool(*tensors, pooling=pooling, structure=structure, segment_lengths=[3, 2])

    assert torch.autograd.gradcheck(y, (x, w if pooling == "attention" else w.detach(), sharpness))


@pytest.mark.parametrize(("pooling", "structure"), ALL_ARMS)
def test_finite_differences_give_the_true_gradient_which_that_of_appendix_is_not(pooling, structure):
    x, w = draw(12)
    numerical = finite_difference(x, w, pooling, structure, [3, 2])
    true = closed_forms(x, w, pooling, "mixed" if structure == "mixed" else "single", [3, 2])[0]
    np.testing.assert_allclose(numerical, true, atol=1e-8)
    if structure == "mixed":
        assert np.count_nonzero(numerical) <= 2  # one frame in each of two longest segments
    if structure == "appendix" and pooling in SOFTMAXES:
        assert np.abs(numerical - autograd(x, w, pooling, structure, [3, 2])[0]).max() > 1e-3


# --- laws ---


@st.composite
def clips(draw_from):
    lengths = draw_from(st.lists(st.integers(1, 4), min_size=0, max_size=3))
    n_frames = int(np.prod(lengths)) * draw_from(st.integers(1, 3))
    values = st.lists(st.floats(1e-2, 1.0), min_size=n_frames, max_size=n_frames)
    return np.array(draw_from(values)), np.array(draw_from(values)), lengths


@settings(max_examples=60, deadline=None)
@given(clip=clips())
def test_hierarchical_has_the_gradient_of_single_for_any_segments(clip):
    x, w, lengths = clip
    for pooling in POOLINGS:
        single = autograd(x, w, pooling, "single", lengths)
        hierarchical = autograd(x, w, pooling, "hierarchical", lengths)
        assert_same(hierarchical, single, rtol=1e-10, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(clip=clips())
def test_appendix_differs_from_single_exactly_where_a_frame_differs_from_its_longest_segment(clip):
    x, w, lengths = clip
    segments = x.reshape(-1, int(np.prod(lengths)))
    constant = bool(np.ptp(segments, axis=1).max() == 0) if lengths else True
    assume(constant or np.ptp(segments, axis=1).max() > 1e-2)
    for pooling in POOLINGS:
        appendix, single = (autograd(x, w, pooling, structure, lengths)[:2] for structure in ("appendix", "single"))
        gap = [np.abs(ours - theirs).max() for ours, theirs in zip(appendix, single, strict=True)]
        differ = [not constant and pooling in SOFTMAXES, not constant and pooling == "attention"]
        assert [g > 1e-6 for g in gap] == differ, (pooling, gap)
        assert max(g for g, differs in zip(gap, differ, strict=True) if not differs) < 1e-10


@settings(max_examples=60, deadline=None)
@given(clip=clips())
def test_shares_of_frames_add_up_to_one_and_scaling_every_weight_alike_leaves_y(clip):
    """Where weights do not depend on frames; and Euler: y has degree 0 in the weights, so sum(w dy/dw) is 0."""
    x, w, lengths = clip
    for pooling in ("max", "average", "attention"):
        for structure in STRUCTURES:
            by_frame, by_weight, _ = autograd(x, w, pooling, structure, lengths)
            assert by_frame.sum() == pytest.approx(1, abs=1e-12)
            assert w @ by_weight == pytest.approx(0, abs=1e-12)


# --- edges ---


@pytest.mark.parametrize("structure", STRUCTURES)
def test_of_tied_frames_the_first_has_the_gradient_of_max_pooling(structure):
    x = np.array([0.2, 0.9, 0.4, 0.9, 0.9, 0.1])
    for by_frame, *_ in (autograd(x, x, "max", structure, [3]), closed_forms(x, x, "max", structure, [3])):
        assert by_frame.tolist() == [0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("pooling", "structure"), ALL_ARMS)
@pytest.mark.parametrize(
    "x",
    [np.zeros(12), np.ones(12), np.full(12, 0.3), np.array([0, 0, 0, 0.2, 0, 0.7, 0, 0, 0, 0, 0, 0])],
    ids=["silent", "ones", "constant", "silent segments"],
)
def test_constant_clips_and_silent_segments(pooling, structure, x):
    chosen = (x, draw(12)[1], pooling, structure, [3, 2])
    found = autograd(*chosen)
    assert_same(found, closed_forms(*chosen), atol=1e-14)
    assert found[0].sum() == pytest.approx(1) or np.ptp(x) > 0


@pytest.mark.parametrize("structure", ["single", "hierarchical", "appendix"])
def test_a_clip_without_attention_has_the_gradient_of_its_mean(structure):
    chosen = (draw(6)[0], np.zeros(6), "attention", structure, [3])
    for found in (autograd(*chosen), closed_forms(*chosen)):
        assert_same(found, (np.full(6, 1 / 6), np.zeros(6), 0.0), atol=1e-15)


def test_a_segment_without_attention_is_where_eq_3_hides_a_gradient_from_autograd():
    """y is smooth there, with dy/dw = (x_i - y) / sum(w); Eq. 3 reads 0/0 and autograd sees its limit as a constant."""
    x, w = np.array([0.1, 0.5, 0.6, 0.8]), np.array([0.0, 0.0, 1.0, 1.0])
    true, stopped = [-0.3, -0.1, -0.05, 0.05], [-0.2, -0.2, 0, 0]
    for by_weight, expected in (
        (autograd(x, w, "attention", "single", [2])[1], true),
        (closed_forms(x, w, "attention", "hierarchical", [2])[1], true),
        (autograd(x, w, "attention", "hierarchical", [2])[1], [-0.2, -0.2, -0.05, 0.05]),
        (autograd(x, w, "attention", "appendix", [2])[1], stopped),
        (closed_forms(x, w, "attention", "appendix", [2])[1], stopped),
    ):
        np.testing.assert_allclose(by_weight, expected, atol=1e-15)


@pytest.mark.parametrize("pooling", ["power", "auto"])
def test_the_ends_of_the_sharpness(pooling):
    """At 0 both are average pooling; at 1 power pooling is linear softmax and autopool exponential softmax."""
    x = draw(12)[0]
    at_one = {"power": "linear", "auto": "exponential"}[pooling]
    for structure in STRUCTURES:
        options = {"structure": structure, "segment_lengths": [3, 2]}
        for sharpness, same in ((0.0, "average"), (1.0, at_one)):
            found = differentiate(x, pooling=pooling, sharpness=sharpness, **options)
            np.testing.assert_allclose(found.dy_dx, differentiate(x, pooling=same, **options).dy_dx, atol=1e-15)


def test_autopool_sharpens_by_the_weighted_variance():
    x = draw(12)[0]
    weight = np.exp(SHARPNESS * x)
    variance = np.average((x - np.average(x, weights=weight)) ** 2, weights=weight)
    by_sharpness = differentiate(x, sharpness=SHARPNESS, pooling="auto", structure="single").dy_ds
    assert by_sharpness == pytest.approx(variance, rel=1e-12)


# --- the loss ---


def test_loss_gradient_is_that_of_binary_cross_entropy():
    y, t = np.array([0.1, 0.5, 0.9, 0.3, 0.999]), np.array([0, 1, 1, 0, 0])
    clip_prob = torch.tensor(y).requires_grad_()
    torch.nn.functional.binary_cross_entropy(clip_prob, torch.tensor(t).double(), reduction="sum").backward()
    np.testing.assert_allclose(dloss_dy(y, t), clip_prob.grad, rtol=1e-12)


def test_loss_gradient_at_the_ends():
    np.testing.assert_array_equal(dloss_dy([0, 1, 0, 1], [0, 1, 1, 0]), [1, -1, -np.inf, np.inf])


# --- what is refused ---


@pytest.mark.parametrize(
    ("frame_prob", "options", "message"),
    [
        ([0.5], {"pooling": "softmax", "structure": "single"}, r"unknown pooling 'softmax'"),
        ([0.5], {"pooling": "max", "structure": "double"}, r"unknown structure 'double'"),
        ([[0.5]], {"pooling": "max", "structure": "single"}, r"must be \(frames,\).*got \(1, 1\)"),
        ([], {"pooling": "max", "structure": "single"}, r"got \(0,\)"),
        ([0.5], {"pooling": "attention", "structure": "single"}, r"attention weights, and got none"),
        ([0.5], {"pooling": "power", "structure": "single"}, r"sharpness, and got none"),
        ([0.5], {"pooling": "attention", "structure": "single", "attention": [1, 2]}, r"\(2,\) and frame_prob \(1,\)"),
        ([0.5] * 5, {"pooling": "max", "structure": "appendix", "segment_lengths": [2]}, r"cannot cut 5 frames"),
    ],
)
def test_wrong_input_is_refused(frame_prob, options, message):
    with pytest.raises(ParameterError, match=message):
        differentiate(frame_prob, **options)


@pytest.mark.parametrize(("y", "t", "message"), [([0.5], [0.5], r"0 or 1.*got \[0.5\]"), ([0.5], [0, 1], r"differ")])
def test_wrong_targets_are_refused(y, t, message):
    with pytest.raises(ParameterError, match=message):
        dloss_dy(y, t)


@pytest.mark.parametrize(("pooling", "structure"), ALL_ARMS)
def test_segments_are_figure_4s_where_none_are_given(pooling, structure):
    x, w = draw(125)
    found = differentiate(x, pooling=pooling, structure=structure, attention=w, sharpness=SHARPNESS)[1:]
    assert_same(found, closed_forms(x, w, pooling, structure, (5, 5)), rtol=0)


def test_weights_are_those_of_table_1():
    """Their scale matters to nothing but the definition."""
    x = draw(5)[0]
    expected = {"max": (x == x.max()) * 1.0, "average": np.full(5, 0.2), "linear": x, "exponential": np.exp(x)}
    for name, weight in expected.items():
        np.testing.assert_array_equal(WEIGHTS[name](x, x, 0.0), weight)
