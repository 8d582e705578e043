"""How long our ways take beside what one would otherwise use: ``python -m hpsed_lib.bench``, or ``make bench``.

Conventions: the two sides of a comparison must agree before anything is timed. Then they run in turn, the first of one
pair last in the next, so that a machine that grows slower or faster meets both alike; each pair gives one ratio, theirs
over ours: 2 is twice as fast. The comparisons are in ``bench_scoring.py``, ``bench_features.py`` and
``bench_training.py``.
"""

from __future__ import annotations

import argparse
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


class Comparison(NamedTuple):
    """Two ways to the same result, as functions to be timed."""

    task: str
    peer: str  # what stands beside ours
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    difference: Callable[[Any, Any], str]  # of the two results; nothing if they agree
    goal: float  # ratio


def comparisons() -> dict[str, Callable[..., Comparison]]:
    """Every comparison by name; each is made with ``tiny``, which shows that it works and not how fast."""
    from hpsed_lib import bench_features, bench_scoring, bench_training

    return {
        "log_mel_files": bench_features.log_mel_files,
        "training_step_quick": partial(bench_training.training_step, "quick"),
        "training_step_esc10": partial(bench_training.training_step, "esc10"),
        "pooling_hierarchical": partial(bench_training.pooling_step, "hierarchical"),
        "pooling_appendix": partial(bench_training.pooling_step, "appendix"),
        "segment_scores": bench_scoring.segment_scores,
        "threshold_sweep": bench_scoring.threshold_sweep,
    }


def require_agreement(comparison: Comparison) -> None:
    """Refuse to time what does not come to the same.

    Raises
    ------
    HpsedError
        The results differ.
    """
    if difference := comparison.difference(comparison.ours(), comparison.theirs()):
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
    DataFrame with columns task, peer, goal, pair, ours, theirs, ratio
        Seconds; ``ratio = theirs / ours``.
    """
    if n_pairs < 5:
        raise ParameterError(f"n_pairs must be 5 or more, got {n_pairs}")
    require_agreement(comparison)  # both have run once before the clock starts
    rows = []
    what = {"task": comparison.task, "peer": comparison.peer, "goal": comparison.goal}
    for pair in range(n_pairs):
        seconds = {}
        for side in ("ours", "theirs") if pair % 2 == 0 else ("theirs", "ours"):
            start = time.perf_counter()
            getattr(comparison, side)()
            seconds[side] = time.perf_counter() - start
        rows.append({**what, "pair": pair, **seconds})
    return pd.DataFrame(rows).assign(ratio=lambda pairs: pairs.theirs / pairs.ours)


def summarise(pairs: pd.DataFrame) -> pd.DataFrame:
    """Median times in ms, and goal, median, smallest and largest ratio, of each comparison."""
    return (
        pairs.groupby(["task", "peer"], sort=False)
        .agg(
            pairs=("pair", "size"),
            ours=("ours", "median"),
            theirs=("theirs", "median"),
            ratio=("ratio", "median"),
            smallest=("ratio", "min"),
            largest=("ratio", "max"),
            goal=("goal", "first"),
        )
        .reset_index()
        .assign(ours=lambda table: 1000 * table.ours, theirs=lambda table: 1000 * table.theirs)
        .rename(columns={"ours": "ours (ms)", "theirs": "theirs (ms)"})
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hpsed_lib.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="small sizes: shows that it works, not how fast")
    parser.add_argument("--pairs", type=int, default=7, help="times that both sides run (default: 7)")
    parser.add_argument("--output", type=Path, help="folder of the files (default: results/bench)")
    parser.add_argument("--only", nargs="+", choices=list(comparisons()), help="comparisons (default: all)")
    options = parser.parse_args(arguments)
    chosen = {name: make for name, make in comparisons().items() if not options.only or name in options.only}
    pairs = pd.concat([time_pairs(make(tiny=options.tiny), n_pairs=options.pairs) for make in chosen.values()])

    machine = provenance.describe_device(torch.device("cpu"))
    made_by = ", ".join(f"{name} {number}" for name, number in provenance.versions().items())
    text = (
        f"{summarise(pairs).to_markdown(index=False, floatfmt='.3g')}\n\n"
        "Ratio: theirs / ours, of runs in turn; median, smallest and largest pair.\n"
        f"{machine['device_name']}; {made_by}; commit {provenance.commit()}.\n"
    )
    folder = options.output or results_folder("bench")
    for name, content in (("bench.csv", pairs.to_csv(index=False, float_format="%.6g")), ("bench.md", text)):
        with replacing(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    print(text)
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    from hpsed_lib import plots

    plots.use_style()
    figure, ax = plt.subplots(figsize=(8, 1 + 0.45 * len(chosen)))
    plots.plot_ratios(pairs, ax=ax)
    with replacing(folder / "bench.png") as temporary:
        figure.savefig(temporary)


if __name__ == "__main__":
    main()
