"""What notebooks do for those who execute or read them: check what they are given, stay quiet, write out formulas."""

from __future__ import annotations

import ast
import difflib
import os
import re
from typing import Any

from IPython import get_ipython

from hpsed_lib.errors import ParameterError
from hpsed_lib.progress import LOG_VARIABLE

INJECTED = "# Parameters"  # the first line of the cell in which papermill puts what it is given


def check_parameters() -> None:
    """Refuse what a notebook was given and does not declare; to be called in the cell after its parameters.

    That is an unknown parameter (the message names the nearest one), another type than declared, a number below 0.
    Outside JupyterLab, where nobody looks, progress bars are left out from here on.
    """
    if "JPY_SESSION_NAME" not in os.environ:
        os.environ.setdefault(LOG_VARIABLE, os.devnull)
    names = get_ipython().user_ns
    declared: dict[str, type] = names["__annotations__"]
    given = [node for cell in names["In"] if cell.startswith(INJECTED) for node in ast.walk(ast.parse(cell))]
    for name in (node.id for node in given if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)):
        if name not in declared:
            [nearest] = difflib.get_close_matches(name, declared, n=1, cutoff=0)
            raise _in_one_line(f"unknown parameter {name!r}; the nearest known one is {nearest!r}")
    for name, kind in declared.items():
        value: Any = names[name]
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            expected = "int, 0 or above" if kind is int else kind.__name__
            raise _in_one_line(f"parameter {name!r} expects {expected}, got {value!r}")


def _in_one_line(message: str) -> ParameterError:
    """An error that IPython shows without the lines of code that led to it."""
    error = ParameterError(message)
    error._render_traceback_ = lambda: [f"ParameterError: {message}"]  # type: ignore[attr-defined]
    return error


def readable(value: Any) -> Any:
    """A formula in SymPy's text as one would write it; anything else as it is.

    >>> readable("Sum(w[i]*x[i], (i, 1, N))/N**2")
    'Σ[i=1..N](w_i·x_i)/N^2'
    >>> readable("Piecewise((1, Eq(i, k)), (0, True))")
    '[i=k]'
    """
    if not isinstance(value, str):
        return value
    text = re.sub(r"Sum\((.+?), \((\w), (.+?), (.+?)\)\)", r"Σ[\2=\3..\4](\1)", value)
    text = re.sub(r"Piecewise\(\(1, Eq\((\w), (\w)\)\), \(0, True\)\)", r"[\1=\2]", text)
    text = re.sub(r"(\w)\[(\w)\]", r"\1_\2", text).replace("**", "^")
    return re.sub(r"(?<=\S)\*(?=\S)", "·", text)
