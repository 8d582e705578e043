"""What a pooling function's gradient does to frames: which are pushed up, which down, and where they end.

Conventions: one clip, one class. Frames move freely, as in a network that could fit anything: ``x_i = sigmoid(z_i)``
and, for attention, ``w_i = exp(v_i)``; z and v follow the negative gradient of the loss (Eq. A-1). The time of a flow
has no unit. ``hierarchical`` moves as ``single`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.integrate
import scipy.special
import sympy as sp

from hpsed_lib.errors import ParameterError
from hpsed_lib.theory.derivation import ALPHA, EXPONENT, TOTAL, XHAT, W, X, Y, derive, in_words_of
from hpsed_lib.theory.gradients import Derivatives, differentiate, dloss_dy


def loss_gradient(frame_prob: npt.ArrayLike, target: int, *, quantity: str = "dL/dx", **options: Any) -> np.ndarray:
    """Gradient of the loss at each frame, ``(dL/dy) (dy/dx_i)`` or, "dL/dw", ``(dL/dy) (dy/dw_i)`` (Eqs. A-1 to A-3).

    Frames and options are those of `differentiate`; the target is 0 or 1.

    Examples
    --------
    >>> loss_gradient([0.25, 0.75], 1, pooling="linear", structure="single")  # y = .625, dL/dy = -1.6
    array([ 0.2, -1.4])
    """
    derivatives = differentiate(frame_prob, **options)
    return dloss_dy(derivatives.y, target) * (derivatives.dy_dw if quantity == "dL/dw" else derivatives.dy_dx)


def push(pooling: str, *, stop_gradient: bool, quantity: str = "dy/dx_i") -> Callable[..., np.ndarray]:
    """How strongly y pulls at a frame: ``sum(w)`` times the derivative (Table A-1), positive where both rise.

    Returned as a function of (x_i, x_hat_j, y, sharpness), arrays or numbers. The stop-gradient is for ``appendix`` in
    two stages; the quantity may be "dy/dw_i" for attention.

    Examples
    --------
    >>> push("linear", stop_gradient=True)(0.25, 0.5, 0.375, 0)  # x_i + x_hat_j - y
    0.375
    """
    expression = sp.cancel(derive(quantity, pooling, stop_gradient=stop_gradient) * in_words_of(pooling, TOTAL))
    return sp.lambdify([X, XHAT, Y, EXPONENT if pooling == "power" else ALPHA], expression, modules="numpy")


def pushed_up_where() -> pd.DataFrame:
    """Which frames raise y when they are raised: the condition on x_i, solved for any N and M, in two stages."""
    quantities = [(name, "dy/dx_i") for name in ("linear", "exponential", "attention", "power", "auto")]
    quantities.append(("attention", "dy/dw_i"))
    found = [(*each, *(_condition(*each, stop_gradient=stop) for stop in (False, True))) for each in quantities]
    return pd.DataFrame(found, columns=["pooling", "quantity", "single", "appendix"])


def _condition(pooling: str, quantity: str, *, stop_gradient: bool) -> str:
    """Where a derivative is positive; it is linear in x_i once the weight, which is positive, is divided out."""
    positive = in_words_of(pooling, W if quantity == "dy/dx_i" else sp.S.One) / in_words_of(pooling, TOTAL)
    derivative = derive(quantity, pooling, stop_gradient=stop_gradient)
    numerator = sp.fraction(sp.together(sp.cancel(sp.powsimp(sp.expand(derivative / positive)))))[0]
    if not numerator.has(X):
        return "always" if numerator.is_positive else f"{numerator} > 0"
    return f"x_i > {sp.factor(sp.solve(numerator, X)[0])}"


class Flow(NamedTuple):
    """Frames moving along the gradient of the loss, at 200 times."""

    time: np.ndarray  # (steps,)
    frame_prob: np.ndarray  # (steps, frames)
    attention: np.ndarray  # (steps, frames); adds up to 1, and is constant for the other pooling functions
    clip_prob: np.ndarray  # (steps,)


def gradient_flow(
    frame_prob: Sequence[float], target: int, *, structure: str, end: float = 1000.0, **options: Any
) -> Flow:
    """Let the frames of one clip follow the gradient of the loss from where they are, inside (0, 1).

    Attention starts with equal weights. `end` is the time of the last step; the steps are spaced evenly in the
    logarithm of time, and the integrator (LSODA) chooses its own. The options are those of `differentiate`.
    """
    if structure == "mixed":
        raise ParameterError("mixed has no gradient flow: where two frames of a segment meet, its gradient jumps")
    n_frames = len(frame_prob)

    def at(state: np.ndarray) -> tuple[np.ndarray, np.ndarray, Derivatives]:
        x, w = scipy.special.expit(state[:n_frames]), np.exp(state[n_frames:])
        return x, w, differentiate(x, attention=w, structure=structure, **options)

    def velocity(_time: float, state: np.ndarray) -> np.ndarray:
        x, w, (y, dy_dx, dy_dw, _) = at(state)
        dl_dy = dloss_dy(y, target)
        return -np.concatenate([dl_dy * dy_dx * x * (1 - x), dl_dy * dy_dw * w])

    time = np.concatenate([[0.0], np.geomspace(1e-3 * end, end, 199)])
    state = np.concatenate([scipy.special.logit(frame_prob), np.zeros(n_frames)])
    solution = scipy.integrate.solve_ivp(velocity, (0, end), state, method="LSODA", t_eval=time, rtol=1e-8, atol=1e-10)
    if not solution.success:
        raise ParameterError(f"the flow of {options['pooling']} {structure} stopped: {solution.message}")
    x, w, derivatives = zip(*map(at, solution.y.T), strict=True)
    shares = [weight / weight.sum() for weight in w]
    return Flow(time, np.array(x), np.array(shares), np.array([found.y for found in derivatives]))
