"""Pooling functions of your own: in a Python file, named by an experiment, checked before anything is trained.

A file has functions like those of `hpsed_lib.pooling`: each takes what it names (``frame_prob``, ``attention``,
``attention_logit``, ``sharpness``) and returns weights, (batch, frames, classes), or ``clip_prob``, (batch, classes).
It goes by the function's own name; paths are relative to the repository.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
from pathlib import Path

import torch
from torch import Tensor

from hpsed_lib.errors import ParameterError
from hpsed_lib.params import Experiment
from hpsed_lib.paths import ROOT
from hpsed_lib.pooling import Function, arguments, pool

GIVEN = ("frame_prob", "attention", "attention_logit", "sharpness")


def pooling_function(experiment: Experiment, pooling: str) -> str | Function:
    """The name of a function of `hpsed_lib.pooling`, or the function itself where it is one of your own.

    If there is no such file or function, or it is no pooling function, a `ParameterError` says why.
    """
    own = experiment.pooling.functions.get(pooling)
    if own is None or own.file is None:
        return pooling
    return _load(ROOT / own.file, pooling, experiment.pooling.digest(pooling))


@functools.cache
def _load(path: Path, name: str, digest: str) -> Function:
    """Import a file, and check one of its functions."""
    spec = importlib.util.spec_from_file_location(f"own_pooling_{digest[:16]}", path)
    if spec is None or spec.loader is None:
        raise ParameterError(f"{path}: not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ParameterError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        there = [own for own, value in vars(module).items() if inspect.isfunction(value)]
        raise ParameterError(f"{path}: there is no function {name!r}; there: {', '.join(there) or 'none'}")
    try:
        check(function)
    except ParameterError as error:
        raise ParameterError(f"{path}: {name} is not a pooling function: {error}") from error
    return function


def _inputs() -> dict[str, Tensor]:
    """Frame probabilities, (2, frames, 3), that a pooling function must bear, by what they are."""
    random = torch.rand(2, 25, 3, generator=torch.Generator().manual_seed(0))
    return {
        "random frames": random,
        "constant frames": torch.full_like(random, 0.3),
        "frames that are all 0": torch.zeros_like(random),
        "frames that are all 1": torch.ones_like(random),
        "frames of 0 and 1": random.round(),
        "a single frame": random[:, :1],
        "frames in bfloat16": random.bfloat16(),
    }


@torch.enable_grad()  # whoever asks first, a training that is only scored again among them
def check(function: Function) -> None:
    """Try a pooling function on `_inputs`: shape, range, gradient, and that no clip and no call touches another.

    A `ParameterError` says what is wrong, and with which input.
    """
    taken = arguments(function)
    if not taken or not set(taken) <= set(GIVEN):
        raise ParameterError(f"its arguments are {', '.join(taken) or 'none'}; expected some of {', '.join(GIVEN)}")
    for what, frame_prob in _inputs().items():
        try:
            _check_on(function, frame_prob)
        except ParameterError as error:
            raise ParameterError(f"with {what}, {error}") from error


def _check_on(function: Function, frame_prob: Tensor) -> None:
    logit = torch.randn(frame_prob.shape, generator=torch.Generator().manual_seed(1))
    leaves = [frame_prob.clone(), logit, torch.ones(frame_prob.shape[2])]
    x, attention_logit, sharpness = (leaf.requires_grad_() for leaf in leaves)
    given = {"frame_prob": x.float() * 1, "attention": attention_logit.softmax(2)}
    given |= {"attention_logit": attention_logit * 1, "sharpness": sharpness * 1}
    before = {name: given[name].detach().clone() for name in arguments(function)}
    result = _result(function, given)
    changed = [name for name, value in before.items() if not torch.equal(given[name].detach(), value)]
    if changed:
        raise ParameterError(f"it changes {changed[0]} in place; it must make a new tensor")
    if result.shape not in (x.shape, x[:, 0].shape):
        shapes = f"{tuple(result.shape)} for frame_prob {tuple(x.shape)}"
        raise ParameterError(
            f"it returns {shapes}; expected weights of that shape, or clip_prob, {tuple(x[:, 0].shape)}"
        )
    if not result.isfinite().all():
        raise ParameterError("it returns numbers that are not finite")
    if result.ndim == 3 and (result < 0).any():
        raise ParameterError("it returns weights below 0")
    if not torch.equal(result, _result(function, given)):
        raise ParameterError("it returns other numbers when it is called again")
    y = pool(x, given["attention"], given["sharpness"], given["attention_logit"], pooling=function)
    low, high = y.detach().aminmax()
    if low < -1e-6 or high > 1 + 1e-6:
        raise ParameterError(f"clip_prob goes from {low:.3g} to {high:.3g}; expected 0 to 1")
    alone = {name: value if name == "sharpness" else value[1:] for name, value in given.items()}
    if not torch.allclose(result[1:], _result(function, alone), rtol=1e-4, atol=1e-6):
        raise ParameterError("a clip's result depends on the other clips of its batch")
    if not y.requires_grad:
        raise ParameterError("clip_prob has no gradient")
    y.sum().backward()
    if x.grad is None and attention_logit.grad is None:
        raise ParameterError("clip_prob has no gradient by frame_prob or attention")
    if not all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in (x, attention_logit, sharpness)):
        raise ParameterError("a gradient is not finite")


def _result(function: Function, given: dict[str, Tensor]) -> Tensor:
    try:
        result = function(**{name: given[name] for name in arguments(function)})
    except Exception as error:
        raise ParameterError(f"it raises {type(error).__name__}: {error}") from error
    if not isinstance(result, Tensor):
        raise ParameterError(f"it returns {type(result).__name__}; expected a torch.Tensor")
    return result
