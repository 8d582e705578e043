"""Memory against the size of the data set: ``python -m hpsed_lib.bench.memory``, a part of ``make bench``.

Conventions: each figure is the largest memory of a fresh process and its workers, added up (resident set size; pages
that they share count for each), sampled while it works through a whole data set once. Training reads spectrograms of
the paper's size in random order, in batches of 128, and trains a small network on a few of them; extraction makes the
features of recordings of 1 s, which are hard links of one file.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from hpsed_lib.paths import ROOT, replacing, results_folder

SIZES = (1_000, 10_000, 50_000)  # clips
INTERVAL = 0.05  # s between two samples
FRAMES, BANDS, CLASSES, BATCH = 500, 80, 17, 128
STEPS = 3  # of training


def train(n_clips: int, folder: Path) -> None:
    """Go once through a training set, and make a few steps."""
    from hpsed_lib.bench.training import random_network, stepper
    from hpsed_lib.dataset import Split
    from hpsed_lib.features import Spectrograms
    from hpsed_lib.params import load_experiment
    from hpsed_lib.training import batches, epoch_order

    path = folder / "features.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_clips, FRAMES, BANDS))  # holes: no disk
    split = Split(
        filenames=[f"{index}.wav" for index in range(n_clips)],
        features=Spectrograms(path, np.arange(n_clips)),
        weak_target=np.zeros((n_clips, CLASSES), dtype=np.float32),
        strong_labels=pd.DataFrame(),
    )
    experiment = load_experiment("quick")
    step = stepper(random_network(experiment), experiment, experiment.training.batch_size)
    order = epoch_order(split.weak_target, seed=0, epoch=1)
    for number, (features, _) in enumerate(batches(split, batch_size=BATCH, order=order)):
        assert features.shape[1:] == (FRAMES, BANDS)
        if number < STEPS:
            step()


def extract(n_clips: int, folder: Path) -> None:
    """Features of a whole data set."""
    from hpsed_lib import features
    from hpsed_lib.data.audio import write_audio
    from hpsed_lib.params import Features

    sr, duration = 8000, 1.0
    write_audio(folder / "0.wav", np.random.default_rng(0).uniform(-0.5, 0.5, sr).astype(np.float32), sr=sr)
    files: dict[str, Path | None] = {}
    for index in range(n_clips):
        path = folder / f"{index}.wav"
        if index:
            os.link(folder / "0.wav", path)
        files[path.name] = path
    params = Features(window_duration=0.04, hop_duration=0.02, n_mels=BANDS, fmin=0.0, fmax=None)
    features.extract(files, cache=folder / "cache" / "bench", sr=sr, duration=duration, params=params)


TASKS: dict[str, Callable[[int, Path], None]] = {
    "training: an epoch's input": train,
    "extraction: features of 1 s clips": extract,
}


def peak_memory(work: Callable[[int, Path], None], n_clips: int) -> float:
    """Bytes that a process needs at most, with those it starts, to do some work in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        code = f"from hpsed_lib.bench import memory as b; b.{work.__name__}({n_clips}, b.Path({folder!r}))"
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
        watched, largest = psutil.Process(process.pid), 0.0
        try:
            while process.poll() is None:
                largest = max(largest, _memory(watched))
                time.sleep(INTERVAL)
        finally:
            process.kill()
        if process.returncode:
            raise RuntimeError(f"{work.__name__} of {n_clips} clips ended with status {process.returncode}")
    return largest


def _memory(process: psutil.Process) -> float:
    """Bytes of a process and its children; nothing of those that end meanwhile."""
    total = 0.0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.NoSuchProcess:
        return 0.0
    return total


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hpsed_lib.bench.memory", description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, nargs="+", default=SIZES, help="sizes (default: 1000 10000 50000)")
    parser.add_argument("--output", type=Path, help="folder of memory.csv (default: results/bench)")
    options = parser.parse_args(arguments)
    rows = []
    for task, work in TASKS.items():
        for n_clips in options.clips:
            rows.append({"task": task, "clips": n_clips, "peak (MB)": round(peak_memory(work, n_clips) / 1e6)})
            print(rows[-1], flush=True)
    with replacing((options.output or results_folder("bench")) / "memory.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
