"""Published detections of a system of Table 3 on DCASE 2017 Task 4: MLMS8's, on the development set.

Jongpil Lee's repository (MIT) holds the outputs of many runs. One is the row of Table 3: all eight encoders, 4,096
units, learning rate 0.001, trial 2. The file is told by its SHA-256, under whatever name.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from hpsed_lib.data.download import fetch_published
from hpsed_lib.data.label_audit import STRONG
from hpsed_lib.data.labels import read_labels
from hpsed_lib.errors import DataError
from hpsed_lib.paths import cache_folder, files_below

MLMS8_URL = (
    "https://raw.githubusercontent.com/jongpillee/dcase2017submission/9c9c09de33185803785f8c9bfd222b9824c927bb/"
    "dcase2017task4_multi_dnn/evaluation/prediction_sed/"
)
_ENCODERS = "".join(f"[input{number}]" for number in (372, 557, 627, 743, 893, 1486, 2678, 3543))
MLMS8_FILE = f"[model:2][-2, -1, 0][num_neurons:4096]{_ENCODERS}[lr:0.001000][trial:2][threshold:0.500000].csv"
MLMS8_SHA256 = "e44cb3440156c347a948fbc489b659a755e58ed89aa291bad2e3b6c978f9b42f"


def mlms8_events(folder: Path, *, download: bool) -> pd.DataFrame:
    """MLMS8's events (filename, onset, offset, event_label), seconds, from below `folder`, or fetched before or now."""
    cache = cache_folder("dcase2017_task4") / "mlms8"
    for place in (folder, cache):
        for name in files_below(place):
            path = place / name
            if path.suffix == ".csv" and hashlib.sha256(path.read_bytes()).hexdigest() == MLMS8_SHA256:
                return read_labels(path, columns=STRONG)[STRONG]
    if not download:
        raise DataError(f"{folder}: lacks MLMS8's published outputs, {MLMS8_FILE}; put it there, or give DOWNLOAD=1")
    fetch_published(MLMS8_URL, {MLMS8_FILE: MLMS8_SHA256}, cache, or_else=f"; put it into {folder}")
    return mlms8_events(folder, download=False)
