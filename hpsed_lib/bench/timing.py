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

Run = Callable[[], Any]
SIZE = 1024  # rows and columns of the matrices that show the machine's peaks
REPETITIONS = 20  # the fastest counts


def parts_by_function(run: Run) -> dict[str, float]:
    """Seconds of each function that `run` calls, without those it calls in turn."""
    profile = cProfile.Profile()
    profile.runcall(run)
    seconds: dict[str, float] = {}
    for (_, _, name), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        # "<built-in method torch.conv2d>", "<method 'square' of 'torch._C.TensorBase' objects>": conv2d, square
        name = name.split("'")[1] if "'" in name else name.strip("<>").split()[-1].split(".")[-1]
        seconds[name] = seconds.get(name, 0.0) + own
    return seconds


class Work(NamedTuple):
    """The least that a task must do."""

    operations: float = 0  # of floating point, a multiplication and an addition being two
    n_bytes: float = 0  # read from memory or written to it
    threads: int = 1  # that it runs on


class Comparison(NamedTuple):
    """Two ways to the same result, as functions to be timed."""

    task: str
    peer: str  # what stands beside ours
    ours: Run
    theirs: Run | float  # seconds, if there is nothing to run
    agree: Callable[[Any, Any], bool]  # of the two results
    goal: float  # ratio
    work: Work
    parts: Callable[[Run], dict[str, float]] = parts_by_function  # seconds of our side's parts
    scale: float = 1.0  # theirs does one part of so many, and its time counts for all


def require_agreement(comparison: Comparison) -> None:
    """Refuse to time what does not come to the same, by an HpsedError."""
    ours = comparison.ours()
    theirs = comparison.theirs() if callable(comparison.theirs) else comparison.theirs
    if not comparison.agree(ours, theirs):
        raise HpsedError(f"{comparison.task}: ours and {comparison.peer} differ: {ours} against {theirs}")


def time_pairs(comparison: Comparison, *, n_pairs: int) -> pd.DataFrame:
    """Time both sides in turn, once they agree.

    Parameters
    ----------
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
    task, peer, goal, work = comparison.task, comparison.peer, comparison.goal, comparison.work
    rows = []
    for pair in range(n_pairs):
        seconds = {}
        for side in ("ours", "theirs") if pair % 2 == 0 else ("theirs", "ours"):
            run = getattr(comparison, side)
            seconds[side] = _seconds(run) if callable(run) else run
        seconds["theirs"] *= comparison.scale
        rows.append({"task": task, "peer": peer, "goal": goal, "floor": floor(work), "pair": pair, **seconds})
    return pd.DataFrame(rows).assign(ratio=lambda pairs: pairs.theirs / pairs.ours)


def _seconds(run: Run) -> float:
    start = time.perf_counter()
    _result = run()  # freed after the clock has stopped
    return time.perf_counter() - start


@functools.cache
def peaks(threads: int) -> tuple[float, float]:
    """What this machine reaches: floating-point operations a second in a matrix product, bytes a second in a copy."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    square, long = torch.rand(SIZE, SIZE), torch.rand(16 * SIZE, SIZE)  # float32; a cache does not hold the long one
    product, copy = torch.empty_like(square), torch.empty_like(long)
    multiplied = min(_seconds(lambda: torch.mm(square, square, out=product)) for _ in range(REPETITIONS))
    copied = min(_seconds(lambda: copy.copy_(long)) for _ in range(REPETITIONS))
    torch.set_num_threads(before)
    return 2 * SIZE**3 / multiplied, 2 * long.nbytes / copied


def floor(work: Work) -> float:
    """Seconds that the work takes at the machine's peaks: of arithmetic and traffic, what takes longer."""
    operations, n_bytes = peaks(work.threads)
    return max(work.operations / operations, work.n_bytes / n_bytes)


def largest_parts(comparison: Comparison, *, n_parts: int = 10) -> pd.DataFrame:
    """The parts of our side that take longest, as shares of the whole in percent, and the rest."""
    seconds = pd.Series(comparison.parts(comparison.ours)).sort_values(ascending=False)
    shares = 100 * seconds / seconds.sum()
    shares = pd.concat([shares[:n_parts], pd.Series({"everything else": shares[n_parts:].sum()})])
    return pd.DataFrame({"task": comparison.task, "part": shares.index, "share": shares.to_numpy()})


def summarise(pairs: pd.DataFrame) -> pd.DataFrame:
    """Median times and floor in ms, and goal, median, smallest and largest ratio, of each comparison."""
    milliseconds = pairs.assign(**{f"{name} (ms)": 1000 * pairs[name] for name in ("floor", "ours", "theirs")})
    grouped = milliseconds.groupby(["task", "peer"], sort=False)
    table = grouped[["floor (ms)", "ours (ms)", "theirs (ms)", "ratio"]].median()
    table.insert(0, "pairs", grouped.size())
    ratio = grouped.ratio
    return table.assign(smallest=ratio.min(), largest=ratio.max(), goal=grouped.goal.first()).reset_index()


def ratios(table: pd.DataFrame) -> str:
    """The ratios of `summarise` in short, as a Markdown table."""
    smallest, largest = (table[name].map("{:.3g}".format) for name in ("smallest", "largest"))
    shown = {
        "task": table.task,
        "beside": table.peer,
        "times faster": table.ratio.map("{:.3g}".format),
        "slowest to fastest pair": smallest + " to " + largest,
        "goal": table.goal.map("{:,.3g}".format),
        "share of the floor": (100 * table["floor (ms)"] / table["ours (ms)"]).map("{:.2g} %".format),
    }
    return pd.DataFrame(shown).to_markdown(index=False, disable_numparse=True) + "\n"
