"""Memory against the size of the data set.

Conventions: the largest memory of a fresh process and its workers, added up (resident set size; pages that they share
count for each), sampled while it works through a whole data set once. Training reads spectrograms of the paper's size
in random order, and trains a small network on a few; extraction makes the features of hard links of one recording.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch

from hpsed_lib import features
from hpsed_lib.bench.steps import N_CLASSES, stepper
from hpsed_lib.data.audio import write_audio
from hpsed_lib.dataset import Split
from hpsed_lib.params import Features, load_experiment
from hpsed_lib.paths import ROOT
from hpsed_lib.training import batches, epoch_order

FRAMES, BANDS = 500, 80


def measure(*, tiny: bool) -> dict[str, pd.DataFrame | str]:
    """Peak memory of each task and size; the contents of the file, by name."""
    rows = []
    for task, work in {"training: an epoch's input": train, "extraction: features of 1 s clips": extract}.items():
        for n_clips in (20,) if tiny else (1_000, 10_000, 50_000):
            rows.append({"task": task, "clips": n_clips, "peak (MB)": round(peak_memory(work, n_clips) / 1e6)})
            print(rows[-1], flush=True)
    return {"memory.csv": pd.DataFrame(rows)}


def train(n_clips: int, folder: Path) -> None:
    """Go once through a training set, and make a few steps."""
    path = folder / "features.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_clips, FRAMES, BANDS))  # holes: no disk
    split = Split(
        filenames=[f"{index}.wav" for index in range(n_clips)],
        features=features.Spectrograms(path, np.arange(n_clips)),
        weak_target=np.zeros((n_clips, N_CLASSES), dtype=np.float32),
        strong_labels=pd.DataFrame(),
    )
    experiment = load_experiment("quick")
    step = stepper(experiment, torch.device("cpu"), experiment.training.batch_size)
    order = epoch_order(split.weak_target, seed=0, epoch=1)
    for number, _ in enumerate(batches(split, batch_size=128, order=order)):
        if number < 3:
            step()


def extract(n_clips: int, folder: Path) -> None:
    """Features of a whole data set."""
    sr, paths = 8000, [folder / f"{index}.wav" for index in range(n_clips)]
    write_audio(paths[0], np.random.default_rng(0).uniform(-0.5, 0.5, sr).astype(np.float32), sr=sr)
    for path in paths[1:]:
        os.link(paths[0], path)
    params = Features(window_duration=0.04, hop_duration=0.02, n_mels=BANDS, fmin=0.0, fmax=None)
    files = {path.name: path for path in paths}
    features.extract(files, cache=folder / "cache" / "bench", sr=sr, duration=1.0, params=params)


def peak_memory(work: Callable[[int, Path], None], n_clips: int) -> float:
    """Bytes that a process needs at most, with those it starts, to do some work in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        code = f"from hpsed_lib.bench import memory as b; b.{work.__name__}({n_clips}, b.Path({folder!r}))"
        process, largest = psutil.Popen([sys.executable, "-c", code], cwd=ROOT), 0
        while process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):  # one has ended meanwhile
                family = [process, *process.children(recursive=True)]
                largest = max(largest, sum(each.memory_info().rss for each in family))
            time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{work.__name__} of {n_clips} clips ended with status {process.returncode}")
    return largest
