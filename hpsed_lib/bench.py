"""How long our ways take beside what one would otherwise use: ``python -m hpsed_lib.bench``, or ``make bench``.

Conventions: the two sides of a comparison, where both are ways to one result, must agree before anything is timed.
Then they run in turn, the first of one pair last in the next, so that a machine that grows slower or faster meets both
alike; each pair gives one ratio, theirs over ours: 2 is twice as fast. Beside each stands its floor: the least
arithmetic and the least traffic with memory that the task can do with, at the speed that this machine reaches in a
matrix product and in a copy, measured in the same call. The comparisons are in ``bench_scoring.py``,
``bench_features.py`` and ``bench_training.py``; what grows with the data set is in ``bench_memory.py``, a whole
experiment in ``bench_experiment.py``.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import pstats
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import pandas as pd
import torch

from hpsed_lib import provenance
from hpsed_lib.errors import HpsedError, ParameterError
from hpsed_lib.paths import replacing, results_folder


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


def comparisons() -> dict[str, Callable[..., Comparison]]:
    """Every comparison by name; each is made with ``tiny``, which shows that it works and not how fast."""
    from hpsed_lib import bench_features, bench_scoring, bench_training

    return {
        "log_mel_files": bench_features.log_mel_files,
        "training_step_quick": partial(bench_training.training_step, "quick"),
        "training_step_esc10": partial(bench_training.training_step, "esc10"),
        "training_step_paper": partial(bench_training.training_step, "paper"),
        "pooling_hierarchical": partial(bench_training.pooling_step, "hierarchical"),
        "pooling_appendix": partial(bench_training.pooling_step, "appendix"),
        "pooling_in_training": bench_training.pooling_share,
        "segment_scores": bench_scoring.segment_scores,
        "threshold_search": bench_scoring.threshold_search,
        "inference_1": partial(bench_training.inference, 1),
        "inference_8": partial(bench_training.inference, 8),
        "inference_32": partial(bench_training.inference, 32),
    }


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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hpsed_lib.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="small sizes: shows that it works, not how fast")
    parser.add_argument("--pairs", type=int, default=7, help="times that both sides run (default: 7)")
    parser.add_argument("--output", type=Path, help="folder of the files (default: results/bench)")
    parser.add_argument("--only", nargs="+", choices=list(comparisons()), help="comparisons (default: all)")
    options = parser.parse_args(arguments)
    chosen = {name: make for name, make in comparisons().items() if not options.only or name in options.only}
    timed, profiles, n_threads = [], [], set()
    for name, make in chosen.items():
        print(f"timing {name}", flush=True)
        comparison = make(tiny=options.tiny)
        timed.append(time_pairs(comparison, n_pairs=options.pairs))
        n_threads.add(comparison.work.threads)
        profiles.append(largest_parts(comparison))
    pairs = pd.concat(timed)

    machine = provenance.describe_device(torch.device("cpu"))
    made_by = ", ".join(f"{name} {number}" for name, number in provenance.versions().items())
    reached = "; ".join(
        f"{threads} thread{'s' * (threads > 1)}: {operations / 1e9:.0f} GFLOP/s in a matrix product, "
        f"{n_bytes / 1e9:.1f} GB/s in a copy"
        for threads in sorted(n_threads)
        for operations, n_bytes in [peaks(threads)]
    )
    text = (
        f"{summarise(pairs).to_markdown(index=False, floatfmt='.3g')}\n\n"
        "Ratio: theirs / ours, of runs in turn; median, smallest and largest pair. Floor: the least work at this "
        f"machine's peaks ({reached}).\n\n"
        f"{machine['device_name']}; {made_by}; commit {provenance.commit()}.\n"
    )
    folder = options.output or results_folder("bench")
    files = {
        "bench.csv": pairs.to_csv(index=False, float_format="%.6g"),
        "profile.csv": pd.concat(profiles).to_csv(index=False, float_format="%.3g"),
        "bench.md": text,
        "ratios.md": ratios(summarise(pairs)),
    }
    for name, content in files.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    print(text)
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    from hpsed_lib import plots

    plots.use_style()
    figure, ax = plt.subplots(figsize=(8, 1 + 0.45 * len(chosen)))
    plots.plot_ratios(pairs, ax=ax)
    plots.save(figure, folder / "bench.png")


if __name__ == "__main__":
    main()
