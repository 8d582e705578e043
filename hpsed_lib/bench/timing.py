"""Time two ways to one result side by side, beside the least work that the task can do with."""

from __future__ import annotations

import cProfile
import functools
import pstats
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import torch

from hpsed_lib.errors import HpsedError, ParameterError


class Work(NamedTuple):
    """The least that a task must do."""

    operations: float  # of floating point, a multiplication and an addition being two
    n_bytes: float  # read from memory or written to it
    threads: int  # that it runs on


class Comparison(NamedTuple):
    """Two ways to the same result, as functions to be timed."""

    task: str
    peer: str  # what stands beside ours
    ours: Callable[[], Any]
    theirs: Callable[[], Any] | float  # seconds, if there is nothing to run
    difference: Callable[[Any, Any], str]  # of the two results; nothing if they agree
    goal: float  # ratio
    work: Work
    parts: Callable[[], dict[str, float]]  # seconds of our side's parts
    scale: float = 1.0  # theirs does one part of so many, and its time counts for all


def require_agreement(comparison: Comparison) -> None:
    """Refuse to time what does not come to the same.

    Raises
    ------
    HpsedError
        The results differ.
    """
    ours = comparison.ours()
    theirs = comparison.theirs() if callable(comparison.theirs) else None
    if difference := comparison.difference(ours, theirs):
        raise HpsedError(f"{comparison.task}: ours and {comparison.peer} differ: {difference}")


def time_pairs(comparison: Comparison, *, n_pairs: int) -> pd.DataFrame:
    """Time both sides in turn.

    Parameters
    ----------
    comparison : Comparison
    n_pairs : int
        At least 5: fewer say nothing about the spread.

    Returns
    -------
    DataFrame with columns task, peer, goal, floor, pair, ours, theirs, ratio
        Seconds; ``ratio = theirs / ours``.
    """
    if n_pairs < 5:
        raise ParameterError(f"n_pairs must be 5 or more, got {n_pairs}")
    require_agreement(comparison)  # both have run once before the clock starts
    rows = []
    what = {
        "task": comparison.task,
        "peer": comparison.peer,
        "goal": comparison.goal,
        "floor": floor(comparison.work),
    }
    for pair in range(n_pairs):
        seconds = {}
        for side in ("ours", "theirs") if pair % 2 == 0 else ("theirs", "ours"):
            run = getattr(comparison, side)
            start = time.perf_counter()
            seconds[side] = (run(), time.perf_counter() - start)[1] if callable(run) else run
        seconds["theirs"] *= comparison.scale
        rows.append({**what, "pair": pair, **seconds})
    return pd.DataFrame(rows).assign(ratio=lambda pairs: pairs.theirs / pairs.ours)


@functools.cache
def peaks(threads: int, *, size: int = 1024, repetitions: int = 20) -> tuple[float, float]:
    """What this machine reaches: floating-point operations a second in a matrix product, bytes a second in a copy.

    Parameters
    ----------
    threads : int
        Threads of PyTorch.
    size : int
        Rows and columns of the matrices, float32; the copy takes 16 times as much memory, more than a cache holds.
    repetitions : int
        The fastest counts.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    square, long = torch.rand(size, size), torch.rand(16 * size, size)
    product, copy = torch.empty_like(square), torch.empty_like(long)

    def fastest(run: Callable[[], Any]) -> float:
        times = []
        for _ in range(repetitions):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return min(times)

    rates = (
        2 * size**3 / fastest(lambda: torch.mm(square, square, out=product)),
        8 * long.numel() / fastest(lambda: copy.copy_(long)),
    )
    torch.set_num_threads(before)
    return rates


def floor(work: Work) -> float:
    """Seconds that the work takes at the machine's peaks: of arithmetic and traffic, what takes longer."""
    operations, n_bytes = peaks(work.threads)
    return max(work.operations / operations, work.n_bytes / n_bytes)


def parts_by_function(run: Callable[[], Any]) -> dict[str, float]:
    """Seconds of each function that `run` calls, without those it calls in turn."""
    profile = cProfile.Profile()
    profile.runcall(run)
    seconds: dict[str, float] = {}
    for (_, _, name), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        # "<built-in method torch.conv2d>", "<method 'square' of 'torch._C.TensorBase' objects>": conv2d, square
        name = name.split("'")[1] if "'" in name else name.strip("<>").split()[-1].split(".")[-1]
        seconds[name] = seconds.get(name, 0.0) + own
    return seconds


def largest_parts(comparison: Comparison, *, n_parts: int = 10) -> pd.DataFrame:
    """The parts of our side that take longest, as shares of the whole in percent, and the rest."""
    seconds = pd.Series(comparison.parts()).sort_values(ascending=False)
    shares = 100 * seconds / seconds.sum()
    shares = pd.concat([shares[:n_parts], pd.Series({"everything else": shares[n_parts:].sum()})])
    return pd.DataFrame({"task": comparison.task, "part": shares.index, "share": shares.to_numpy()})


def summarise(pairs: pd.DataFrame) -> pd.DataFrame:
    """Median times and floor in ms, and goal, median, smallest and largest ratio, of each comparison."""
    return (
        pairs.groupby(["task", "peer"], sort=False)
        .agg(
            pairs=("pair", "size"),
            floor=("floor", "first"),
            ours=("ours", "median"),
            theirs=("theirs", "median"),
            ratio=("ratio", "median"),
            smallest=("ratio", "min"),
            largest=("ratio", "max"),
            goal=("goal", "first"),
        )
        .reset_index()
        .assign(**{name: lambda table, name=name: 1000 * table[name] for name in ("floor", "ours", "theirs")})
        .rename(columns={name: f"{name} (ms)" for name in ("floor", "ours", "theirs")})
    )


def ratios(table: pd.DataFrame) -> str:
    """The ratios of `summarise` in short, as a Markdown table."""
    shown = pd.DataFrame(
        {
            "task": table.task,
            "beside": table.peer,
            "times faster": table.ratio.map("{:.3g}".format),
            "slowest to fastest pair": table.smallest.map("{:.3g}".format)
            + " to "
            + table.largest.map("{:.3g}".format),
            "goal": table.goal.map("{:,.3g}".format),
            "share of the floor": (100 * table["floor (ms)"] / table["ours (ms)"]).map("{:.2g} %".format),
        }
    )
    return shown.to_markdown(index=False, disable_numparse=True) + "\n"
