"""The signs of the push, and gradient flows: against autograd and known ends."""

import numpy as np
import pytest
import torch

from hpsed_lib.errors import ParameterError
from hpsed_lib.pooling import pool
from hpsed_lib.theory import dynamics
from hpsed_lib.theory.gradients import differentiate

BAG = [0.15, 0.2, 0.6, 0.3, 0.2, 0.1, 0.15, 0.2]


@pytest.mark.parametrize("pooling", ["linear", "exponential", "attention", "power", "auto"])
@pytest.mark.parametrize("structure", ["single", "appendix"])
def test_the_push_is_the_derivative_times_the_sum_of_weights(pooling, structure):
    x, w = np.random.default_rng(1).uniform(0.05, 0.95, size=(2, 8))
    chosen = {"pooling": pooling, "sharpness": 3.0}
    found = differentiate(x, structure=structure, segment_lengths=[4], attention=w, **chosen)
    parts = [differentiate(x[s], structure="single", attention=w[s], **chosen).y for s in (slice(4), slice(4, 8))]
    stop, quantity = structure == "appendix", "dy/dw_i" if pooling == "attention" else "dy/dx_i"
    pushed = dynamics.push(pooling, stop_gradient=stop, quantity=quantity)(x, np.repeat(parts, 4), found.y, 3.0)
    ratio = pushed / (found.dy_dw if pooling == "attention" else found.dy_dx)
    assert ratio == pytest.approx(ratio[0], rel=1e-10)
    assert ratio[0] > 0


def test_conditions_are_where_the_push_is_positive():
    table = dynamics.pushed_up_where().set_index(["pooling", "quantity"])
    assert {key: tuple(conditions) for key, conditions in table.iterrows()} == {
        ("linear", "dy/dx_i"): ("x_i > y/2", "x_i > -x̂_j + y"),
        ("exponential", "dy/dx_i"): ("x_i > y - 1", "x̂_j - y + 1 > 0"),
        ("attention", "dy/dx_i"): ("always", "always"),
        ("power", "dy/dx_i"): ("x_i > n*y/(n + 1)", "x_i > n*(-x̂_j + y)"),
        ("auto", "dy/dx_i"): ("x_i > (alpha*y - 1)/alpha", "alpha*x̂_j - alpha*y + 1 > 0"),
        ("attention", "dy/dw_i"): ("x_i > y", "x̂_j - y > 0"),
    }
    bar = (2.0 * 0.5 - 1) / 2.0  # x_i > y - 1/alpha at y = .5, alpha = 2
    pull = dynamics.push("auto", stop_gradient=False)
    assert pull(bar + 0.01, 0, 0.5, 2.0) > 0 > pull(bar - 0.01, 0, 0.5, 2.0)


@pytest.mark.parametrize("pooling", ["linear", "exponential", "attention"])
@pytest.mark.parametrize("structure", ["single", "hierarchical", "appendix"])
@pytest.mark.parametrize("target", [0, 1])
def test_flows_lower_the_loss_and_follow_small_steps_of_descent(pooling, structure, target):
    options = {"pooling": pooling, "structure": structure, "segment_lengths": [4]}
    flow = dynamics.gradient_flow(BAG, target, end=2.0, **options)
    assert flow.frame_prob[0] == pytest.approx(BAG)
    assert (np.diff(np.abs(flow.clip_prob - target)) <= 1e-9).all()
    z, v = np.log(np.array(BAG) / (1 - np.array(BAG))), np.zeros(8)
    for _ in range(400):  # plain gradient descent, by autograd
        logits, log_weights = (torch.tensor(value).requires_grad_() for value in (z, v))
        y = pool(logits.sigmoid().reshape(1, -1, 1), log_weights.exp().reshape(1, -1, 1), **options)
        loss = torch.nn.functional.binary_cross_entropy(y, torch.full_like(y, target))
        steps = torch.autograd.grad(loss, (logits, log_weights), allow_unused=True, materialize_grads=True)
        z, v = z - 5e-3 * steps[0].numpy(), v - 5e-3 * steps[1].numpy()
    np.testing.assert_allclose(flow.frame_prob[-1], 1 / (1 + np.exp(-z)), atol=5e-3)
    np.testing.assert_allclose(flow.attention[-1], np.exp(v) / np.exp(v).sum(), atol=5e-3)


def test_single_learns_frames_and_appendix_segments_with_linear_softmax():
    """By x_i > y/2, and by x_i > y - x_hat_j, in a positive clip."""
    options = {"pooling": "linear", "segment_lengths": [4]}
    single, appendix = (
        dynamics.gradient_flow(BAG, 1, structure=s, **options).frame_prob[-1] for s in ("single", "appendix")
    )
    high = np.array(BAG) > 0.25
    assert ((single > 0.9) == high).all()
    assert (single[~high] < 0.1).all()
    assert (appendix[:4] > 0.9).all()
    assert (appendix[4:] < 0.1).all()


def test_mixed_has_no_flow():
    with pytest.raises(ParameterError, match="mixed has no gradient flow"):
        dynamics.gradient_flow(BAG, 1, pooling="linear", structure="mixed", segment_lengths=[4])
