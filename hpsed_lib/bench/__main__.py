"""How long our ways take beside what one would otherwise use: ``python -m hpsed_lib.bench``, or ``make bench``.

Conventions: the two sides of a comparison, where both are ways to one result, must agree before anything is timed.
Then they run in turn, the first of one pair last in the next, so that a machine that grows slower or faster meets both
alike; each pair gives one ratio, theirs over ours: 2 is twice as fast. Beside each stands its floor: the least
arithmetic and the least traffic with memory that the task can do with, at the speed that this machine reaches in a
matrix product and in a copy, measured in the same call. The comparisons are in ``scoring.py``,
``features.py`` and ``training.py``; what grows with the data set is in ``memory.py``, a whole experiment in
``experiment.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import matplotlib
import pandas as pd
import torch

from hpsed_lib import plots, provenance
from hpsed_lib.bench import features, figures, scoring, training
from hpsed_lib.bench.timing import Comparison, largest_parts, peaks, ratios, summarise, time_pairs
from hpsed_lib.paths import replacing, results_folder


def comparisons() -> dict[str, Callable[..., Comparison]]:
    """Every comparison by name; each is made with ``tiny``, which shows that it works and not how fast."""
    return {
        "log_mel_files": features.log_mel_files,
        "training_step_quick": partial(training.training_step, "quick"),
        "training_step_esc10": partial(training.training_step, "esc10"),
        "training_step_paper": partial(training.training_step, "paper"),
        "pooling_hierarchical": partial(training.pooling_step, "hierarchical"),
        "pooling_appendix": partial(training.pooling_step, "appendix"),
        "pooling_in_training": training.pooling_share,
        "segment_scores": scoring.segment_scores,
        "threshold_search": scoring.threshold_search,
        "inference_1": partial(training.inference, 1),
        "inference_8": partial(training.inference, 8),
        "inference_32": partial(training.inference, 32),
    }


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

    plots.use_style()
    figure, ax = plt.subplots(figsize=(8, 1 + 0.45 * len(chosen)))
    figures.plot_ratios(pairs, ax=ax)
    plots.save(figure, folder / "bench.png")


if __name__ == "__main__":
    main()
