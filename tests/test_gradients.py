"""Gradients four ways: automatic differentiation, the closed forms, finite differences and (test_derivation) SymPy."""

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hpsed_lib.errors import ParameterError
from hpsed_lib.pooling import POOLINGS, STRUCTURES, arguments, pool
from hpsed_lib.theory.gradients import WEIGHT_SLOPES_BY_SHARPNESS, WEIGHTS, differentiate, dloss_dy

ALL_ARMS = [(pooling, structure) for pooling in WEIGHTS for structure in STRUCTURES]
TRUE_ARMS = [arm for arm in ALL_ARMS if arm[1] != "appendix"]
PAPER = ["max", "average", "linear", "exponential", "attention"]  # Table A-1's rows
SOFTMAXES = ["linear", "exponential", "power", "auto"]  # whose weights depend on the frames, smoothly
SHARPNESS = 1.7  # of power pooling and autopool
TINY = float(np.finfo(np.float64).tiny)


def draw(n_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.02, 0.98, size=(2, n_frames))


def autograd(x, w, pooling, structure, segment_lengths) -> tuple[float, np.ndarray, np.ndarray, float]:
    """y, dy/dx, dy/dw and dy/dsharpness by automatic differentiation; zero for what a function does not use."""
    tensors = [torch.tensor(v, dtype=torch.float64).reshape(1, -1, 1).requires_grad_() for v in (x, w)]
    tensors.append(torch.tensor([SHARPNESS], dtype=torch.float64).requires_grad_())
    y = pool(*tensors, pooling=pooling, structure=structure, segment_lengths=segment_lengths)
    found = torch.autograd.grad(y.sum(), tensors, allow_unused=True, materialize_grads=True)
    return y.item(), found[0].flatten().numpy(), found[1].flatten().numpy(), found[2].item()


def closed_forms(x, w, pooling, structure, segment_lengths) -> tuple[float, np.ndarray, np.ndarray, float]:
    options = {"pooling": pooling, "structure": structure, "segment_lengths": segment_lengths}
    return differentiate(x, attention=w, sharpness=SHARPNESS, **options)


def assert_same(found, expected, **tolerances):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, **tolerances)


# --- Table A-1, cell by cell ---


def table_a1(x, w, pooling, column, m):
    """Table A-1 as printed: dy/dx, and dy/dw for attention; x_hat_j by Eq. 3 with segments of m frames."""
    n = len(x)
    weight = {"linear": x, "exponential": np.exp(x), "attention": w}.get(pooling, np.ones(n))
    y = x.max() if pooling == "max" else np.average(x, weights=weight)
    segments = [slice(start, start + m) for start in range(0, n, m)]
    x_hat = np.repeat([np.average(x[segment], weights=weight[segment]) for segment in segments], m)
    value = x if column == "single" else x_hat
    by_frame = {
        "max": 1.0 * (x == x.max()),
        "average": np.full(n, 1 / n),
        "linear": (x + value - y) / sum(x),
        "exponential": (1 + value - y) * np.exp(x) / sum(np.exp(x)),
        "attention": w / sum(w),
    }[pooling]
    return [by_frame, (value - y) / sum(w)][: 2 if pooling == "attention" else 1]


@pytest.mark.parametrize("pooling", PAPER)
@pytest.mark.parametrize(("column", "structure"), [("single", "single"), ("hierarchical", "appendix")])
@pytest.mark.parametrize(("n_frames", "lengths", "longest"), [(12, [4], 4), (125, [5, 5], 25)])
def test_gradients_are_table_a1_as_printed_with_the_longest_segment(
    pooling, column, structure, n_frames, lengths, longest
):
    x, w = draw(n_frames)
    printed = table_a1(x, w, pooling, column, longest)
    for found in (autograd(x, w, pooling, structure, lengths), closed_forms(x, w, pooling, structure, lengths)):
        assert_same(found[1 : 1 + len(printed)], printed, atol=1e-15)


# --- automatic differentiation against closed forms and finite differences ---


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 4), max_size=3),
    rest=st.integers(1, 3),
    levels=st.sampled_from([None, [0.0], [1.0], [0.3], [0.0, 0.2, 0.9]]),
    seed=st.integers(0, 2**32 - 1),
)
@example(lengths=[5, 5], rest=5, levels=None, seed=0)
@example(lengths=[1], rest=1, levels=None, seed=0)
@example(lengths=[3, 2], rest=2, levels=[0.0], seed=0)
@example(lengths=[3, 2], rest=2, levels=[0.0, 0.0, 0.0, 0.9], seed=0)  # silent segments
def test_autograd_equals_the_closed_form(lengths, rest, levels, seed):
    x, w = draw(int(np.prod(lengths, dtype=int)) * rest, seed)
    if levels:
        x = np.random.default_rng(seed).choice(levels, len(x))
    for pooling, structure in ALL_ARMS:
        found = autograd(x, w, pooling, structure, lengths)
        assert_same(found, closed_forms(x, w, pooling, structure, lengths), atol=1e-13)


@pytest.mark.parametrize(("pooling", "structure"), TRUE_ARMS)
def test_autograd_of_the_true_gradient_passes_gradcheck(pooling, structure):
    x, w = (torch.tensor(v).reshape(1, -1, 1).requires_grad_() for v in draw(12))
    sharpness = torch.tensor([SHARPNESS], dtype=torch.float64, requires_grad=pooling in WEIGHT_SLOPES_BY_SHARPNESS)

    def y(*tensors):
        return pool(*tensors, pooling=pooling, structure=structure, segment_lengths=[3, 2])

    assert torch.autograd.gradcheck(y, (x, w if pooling == "attention" else w.detach(), sharpness))


# --- laws ---


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), max_size=3), st.integers(1, 3), st.booleans(), st.integers(0, 2**32 - 1))
def test_what_holds_of_the_gradients_of_any_clip(lengths, rest, constant, seed):
    """That of ``hierarchical`` is that of ``single``; that of ``appendix`` is, where segments are constant.

    Where weights do not depend on frames, shares of frames add up to one. And Euler: y has degree 0 in the weights, so
    sum(w dy/dw) is 0.
    """
    longest = int(np.prod(lengths, dtype=int))
    x, w = draw(longest * rest, seed)
    if constant:
        x = np.repeat(x[::longest], longest)
    steps = np.ptp(x.reshape(-1, longest), axis=1).max()
    assume(steps == 0 or steps > 1e-2)
    for pooling in WEIGHTS:
        of = {structure: autograd(x, w, pooling, structure, lengths)[1:] for structure in STRUCTURES}
        assert_same(of["hierarchical"], of["single"], rtol=1e-10, atol=1e-12)
        gap = [np.abs(ours - theirs).max() for ours, theirs in zip(of["appendix"], of["single"], strict=True)]
        differ = [steps > 0 and pooling in names for names in (SOFTMAXES, ["attention"])]
        assert [difference > 1e-6 for difference in gap[:2]] == differ, (pooling, gap)
        assert max(difference for difference, apart in zip(gap, differ, strict=False) if not apart) < 1e-10
        if pooling not in SOFTMAXES:
            for by_frame, by_weight, _ in of.values():
                assert by_frame.sum() == pytest.approx(1, abs=1e-12)
                assert w @ by_weight == pytest.approx(0, abs=1e-12)


# --- edges ---


@pytest.mark.parametrize("total", [0, 0.75 * TINY, TINY])
@pytest.mark.parametrize("structure", ["single", "hierarchical", "appendix"])
def test_a_clip_without_attention_has_the_gradient_of_its_mean(structure, total):
    """Attention that sums to less than the smallest normal number is none."""
    x, w = draw(6)[0], np.array([total, 0, 0, 0, 0, 0])
    found = closed_forms(x, w, "attention", structure, [3])
    if total < TINY:
        for each in (found, autograd(x, w, "attention", structure, [3])):
            assert_same(each, (x.mean(), np.full(6, 1 / 6), np.zeros(6), 0.0), atol=1e-15)
    else:
        assert_same(found[:2], (x[0], [1, 0, 0, 0, 0, 0]), atol=1e-15)


def test_a_segment_without_attention_is_where_eq_3_hides_a_gradient_from_autograd():
    """y is smooth there, with dy/dw = (x_i - y) / sum(w); Eq. 3 reads 0/0 and autograd sees its limit as a constant."""
    x, w = np.array([0.1, 0.5, 0.6, 0.8]), np.array([0.0, 0.0, 1.0, 1.0])
    true, stopped = [-0.3, -0.1, -0.05, 0.05], [-0.2, -0.2, 0, 0]
    for by_weight, expected in (
        (autograd(x, w, "attention", "single", [2])[2], true),
        (closed_forms(x, w, "attention", "hierarchical", [2])[2], true),
        (autograd(x, w, "attention", "hierarchical", [2])[2], [-0.2, -0.2, -0.05, 0.05]),
        (autograd(x, w, "attention", "appendix", [2])[2], stopped),
        (closed_forms(x, w, "attention", "appendix", [2])[2], stopped),
    ):
        np.testing.assert_allclose(by_weight, expected, atol=1e-15)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(
    ("pooling", "sharpness", "same"),
    [("power", 0.0, "average"), ("power", 1.0, "linear"), ("auto", 0.0, "average"), ("auto", 1.0, "exponential")],
)
def test_the_ends_of_the_sharpness(structure, pooling, sharpness, same):
    options = {"structure": structure, "segment_lengths": [3, 2]}
    found = differentiate(draw(12)[0], pooling=pooling, sharpness=sharpness, **options)
    assert_same(found[:2], differentiate(draw(12)[0], pooling=same, **options)[:2], atol=1e-15)


def test_numbers_are_taken_in_float64():
    clip = draw(50).astype(np.float32)
    for arm in ALL_ARMS:
        assert_same(closed_forms(*clip, *arm, [5]), closed_forms(*clip.astype(float), *arm, [5]), rtol=0)
    assert float(dloss_dy(np.float32(0.1), 1)) == -1 / float(np.float32(0.1))


# --- the loss ---


def test_loss_gradient_is_that_of_binary_cross_entropy():
    y, t = np.array([0.1, 0.5, 0.9, 0.3, 0.999]), np.array([0, 1, 1, 0, 0])
    clip_prob = torch.tensor(y).requires_grad_()
    torch.nn.functional.binary_cross_entropy(clip_prob, torch.tensor(t).double(), reduction="sum").backward()
    np.testing.assert_allclose(dloss_dy(y, t), clip_prob.grad, rtol=1e-12)
    np.testing.assert_array_equal(dloss_dy([0, 1, 0, 1], [0, 1, 1, 0]), [1, -1, -np.inf, np.inf])


# --- what is refused ---


@pytest.mark.parametrize(
    ("frame_prob", "options", "message"),
    [
        ([0.5], {"pooling": "softmax"}, r"unknown pooling 'softmax'"),
        ([0.5], {"pooling": "max", "structure": "double"}, r"unknown structure 'double'"),
        ([[0.5]], {"pooling": "max"}, r"must be \(frames,\).*got \(1, 1\)"),
        ([], {"pooling": "max"}, r"got \(0,\)"),
        ([0.5], {"pooling": "attention"}, r"attention weights, and got none"),
        ([0.5], {"pooling": "power"}, r"sharpness, and got none"),
        ([0.5], {"pooling": "attention", "attention": [1, 2]}, r"\(2,\) and frame_prob \(1,\)"),
        ([0.5] * 5, {"pooling": "max", "structure": "appendix", "segment_lengths": [2]}, r"cannot cut 5 frames"),
    ],
)
def test_wrong_input_is_refused(frame_prob, options, message):
    with pytest.raises(ParameterError, match=message):
        differentiate(frame_prob, **{"structure": "single", **options})


def test_wrong_targets_are_refused():
    with pytest.raises(ParameterError, match=r"0 or 1.*got \[0.5\]"):
        dloss_dy([0.5], [0.5])


def test_segments_are_figure_4s_where_none_are_given():
    x, w = draw(125)
    found = differentiate(x, pooling="attention", structure="appendix", attention=w)
    assert_same(found, closed_forms(x, w, "attention", "appendix", (5, 5)), rtol=0)


def test_weights_are_those_of_table_1():
    """Their scale matters to nothing but the definition."""
    frames, attention = draw(5)
    for name in PAPER:
        given = {"frame_prob": frames, "attention": attention}
        named = {key: torch.tensor(given[key])[None, :, None] for key in arguments(POOLINGS[name])}
        np.testing.assert_allclose(WEIGHTS[name](frames, attention, 0.0), POOLINGS[name](**named).flatten(), rtol=1e-15)
