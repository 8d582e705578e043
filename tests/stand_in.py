"""Stand-in audio for data sets whose recordings nobody here has: ``python tests/stand_in.py LABELS FOLDER``.

Fills FOLDER with the label files of DCASE 2017 Task 4 from LABELS and with audio files of the published names:
synthetic sounds of the labelled classes, at the labelled times where there are strong labels, over noise. A file named
`hpsed_lib.dataset.STAND_IN` marks the folder, and every table made from it says so. Nothing computed on it belongs into
``results/``.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from hpsed_lib.data.audio import write_audio
from hpsed_lib.data.dcase2017.labels import STRONG_FILES, WEAK_FILES
from hpsed_lib.data.synthesis import synthesize
from hpsed_lib.dataset import STAND_IN

SR = 16000
DURATION = 10.0  # s
N_TRAINING = 120
FILES = (WEAK_FILES["training"], WEAK_FILES["development"], STRONG_FILES["development"])


def stand_in(events: Sequence[tuple[float, float, str]], *, rng: np.random.Generator) -> np.ndarray:
    """Noise with a synthetic sound of 0.2 s or more for each event (onset, offset, event_label)."""
    y = 0.01 * rng.standard_normal(round(SR * DURATION))
    for onset, offset, event_label in events:
        length = min(max(offset - onset, 0.2), DURATION)
        start = round(SR * min(onset, DURATION - length))
        sound = synthesize(event_label, duration=length, sr=SR, rng=rng)[: len(y) - start]
        y[start : start + len(sound)] += 0.1 * sound / (np.abs(sound).max() + 1e-9)
    return np.clip(y, -1, 1)


def fill(labels: Path, folder: Path) -> None:
    """Write label files, `N_TRAINING` training clips spread over the published list, and every test clip."""
    audio = folder / "stand-in-audio"
    audio.mkdir(parents=True, exist_ok=True)
    (folder / STAND_IN).write_text("The audio in this folder was synthesised: it stands in for recordings.\n")
    for name in FILES:
        shutil.copy(labels / name, folder / name)
    weak, _, strong = (
        pd.read_csv(folder / name, sep="\t", header=None, names=["filename", "onset", "offset", "event_label"])
        for name in FILES
    )
    rng = np.random.default_rng(0)
    listed = list(dict.fromkeys(weak.filename))
    training = [listed[index] for index in np.linspace(0, len(listed) - 1, N_TRAINING).round().astype(int)]
    of_clip = {name: rows.event_label.tolist() for name, rows in weak[weak.filename.isin(training)].groupby("filename")}
    for name in tqdm(training, desc="training clips"):
        onsets = rng.uniform(0, 7, len(of_clip[name]))
        events = [(onset, onset + 3, label) for onset, label in zip(onsets, of_clip[name], strict=True)]
        write_audio(audio / f"Y{name}", stand_in(events, rng=rng), sr=SR)
    for name, rows in tqdm(strong.groupby("filename"), desc="test clips"):
        events = list(rows[["onset", "offset", "event_label"]].itertuples(index=False, name=None))
        write_audio(audio / f"Y{name}", stand_in(events, rng=rng), sr=SR)


if __name__ == "__main__":
    fill(*map(Path, sys.argv[1:]))
