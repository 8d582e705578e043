"""How long our ways take beside what one would otherwise use: ``python -m hpsed_lib.bench``, or ``make bench``.

Conventions: the two sides of a comparison are ways to one result and must agree before anything is timed. Then they run
in turn, the first of one pair last in the next, so that a machine that grows slower or faster meets both alike; each
pair gives one ratio, theirs over ours: 2 is twice as fast. Beside each stands its floor: the least arithmetic and the
least traffic with memory that the task can do with, at the speed that this machine reaches in a matrix product and in a
copy, measured in the same call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
import torch

from hpsed_lib import provenance
from hpsed_lib.bench import experiment, features, memory, scoring, training
from hpsed_lib.bench.timing import Comparison, peaks, summarise, time_pairs
from hpsed_lib.paths import replacing, results_folder

TRAININGS = [partial(training.training_step, name) for name in ("quick", "esc10", "paper")]
COMPARISONS: tuple[Callable[..., Comparison], ...] = (features.log_mel_files, *TRAININGS, scoring.segment_scores)


def compare(*, tiny: bool) -> dict[str, pd.DataFrame | str]:
    """Time every comparison; the contents of its files, by name. What is ``tiny`` shows that it works, not how fast."""
    timed = []
    for make in COMPARISONS:
        comparison = make(tiny=tiny)
        print(f"timing {comparison.task}", flush=True)
        timed.append(time_pairs(comparison, n_pairs=2 if tiny else 7))
    pairs = pd.concat(timed)
    operations, n_bytes = peaks(1)
    processor = provenance.describe_device(torch.device("cpu"))["device_name"]
    text = (
        f"{summarise(pairs).to_markdown(index=False, floatfmt='.3g')}\n\n"
        "Ratio: theirs / ours, of runs in turn; median, smallest and largest pair. Floor: the least work at this "
        f"machine's peaks (of one core {operations / 1e9:.0f} GFLOP/s in a matrix product, {n_bytes / 1e9:.1f} GB/s "
        f"in a copy).\n\n{processor}; {provenance.setting(*provenance.PACKAGES)}; commit {provenance.commit()}.\n"
    )
    print(text)
    return {"bench.csv": pairs, "bench.md": text}


def main() -> None:
    for measure in (compare, memory.measure, experiment.measure):
        for name, content in measure(tiny=False).items():
            text = content if isinstance(content, str) else content.to_csv(index=False, float_format="%.6g")
            with replacing(results_folder("bench") / name) as temporary:
                temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
