"""Time two ways to one result in turn, beside the least work that the task can do with."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import torch

from hpsed_lib.errors import HpsedError

Run = Callable[[], Any]


class Comparison(NamedTuple):
    """Two ways to the same result, as functions to be timed."""

    task: str
    peer: str  # what stands beside ours
    ours: Run
    theirs: Run
    agree: Callable[[Any, Any], bool]  # of the two results
    goal: float  # ratio
    operations: float = 0  # at least; of floating point, a multiplication and an addition being two
    n_bytes: float = 0  # at least; read from memory or written to it
    threads: int = 1  # that it runs on


def time_pairs(comparison: Comparison, *, n_pairs: int) -> pd.DataFrame:
    """Time both sides in turn, once they agree: seconds, and ``ratio = theirs / ours``, of each pair."""
    ours, theirs = comparison.ours(), comparison.theirs()  # both have run once before the clock starts
    if not comparison.agree(ours, theirs):
        raise HpsedError(f"{comparison.task}: ours and {comparison.peer} differ: {ours} against {theirs}")
    about = {"task": comparison.task, "peer": comparison.peer, "goal": comparison.goal, "floor": floor(comparison)}
    rows = []
    for pair in range(n_pairs):
        sides = ("ours", "theirs") if pair % 2 == 0 else ("theirs", "ours")
        rows.append({**about, "pair": pair} | {side: _seconds(getattr(comparison, side)) for side in sides})
    return pd.DataFrame(rows, columns=[*about, "pair", "ours", "theirs"]).eval("ratio = theirs / ours")


def _seconds(run: Run) -> float:
    start = time.perf_counter()
    _result = run()  # freed after the clock has stopped
    return time.perf_counter() - start


@functools.cache
def peaks(threads: int) -> tuple[float, float]:
    """What this machine reaches: floating-point operations a second in a matrix product, bytes a second in a copy."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    square, long = torch.rand(1024, 1024), torch.rand(16 * 1024, 1024)  # float32; a cache does not hold the long one
    product, copy = torch.empty_like(square), torch.empty_like(long)
    multiplied = min(_seconds(lambda: torch.mm(square, square, out=product)) for _ in range(20))
    copied = min(_seconds(lambda: copy.copy_(long)) for _ in range(20))
    torch.set_num_threads(before)
    return 2 * 1024**3 / multiplied, 2 * long.nbytes / copied


def floor(comparison: Comparison) -> float:
    """Seconds that the least work takes at the machine's peaks: of arithmetic and traffic, what takes longer."""
    operations, n_bytes = peaks(comparison.threads)
    return max(comparison.operations / operations, comparison.n_bytes / n_bytes)


def summarise(pairs: pd.DataFrame) -> pd.DataFrame:
    """Median times and floor in ms, and median, smallest and largest ratio, and goal, of each comparison."""
    table = pairs.groupby(["task", "peer"], sort=False).agg(
        pairs=("ratio", "size"),
        floor=("floor", "first"),
        ours=("ours", "median"),
        theirs=("theirs", "median"),
        ratio=("ratio", "median"),
        smallest=("ratio", "min"),
        largest=("ratio", "max"),
        goal=("goal", "first"),
    )
    table[["floor", "ours", "theirs"]] *= 1000
    return table.rename(columns={name: f"{name} (ms)" for name in ("floor", "ours", "theirs")}).reset_index()
