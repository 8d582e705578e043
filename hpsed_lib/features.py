"""Log-mel spectrograms (Sec. 3.2), computed once and kept in a file that is read row by row.

Conventions: features are (frames, n_mels), float32, in dB relative to unit power. Frame k is centred on
``(k + 1/2) * hop_duration``: the clip is padded by half of (window - hop) at both ends, so that a clip of T seconds has
exactly ``round(T / hop_duration)`` frames (500 for 10 s) at any sample rate, and frame k describes the k-th slot of
``hop_duration`` seconds.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import scipy.signal
import torch
from joblib import delayed

from hpsed_lib.data.audio import read_audio
from hpsed_lib.data.manifest import MANIFEST, typed_manifest
from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.params import Features
from hpsed_lib.paths import forget_digest, naming_full_disk, note_digest, replacing
from hpsed_lib.processes import only_one
from hpsed_lib.progress import in_parallel
from hpsed_lib.provenance import code_digest

FLOOR = 1e-10  # power; -100 dB


@lru_cache(maxsize=8)
def _window_and_filters(sr: int, params: Features) -> tuple[np.ndarray, np.ndarray]:
    """Hann window and mel filters; the FFT is the window's length, zero-padded to the next power of two."""
    win_length = round(params.window_duration * sr)
    n_fft = 1 << (win_length - 1).bit_length()
    window = scipy.signal.get_window("hann", win_length).astype(np.float32)
    filters = librosa.filters.mel(sr=sr, n_fft=n_fft, n_mels=params.n_mels, fmin=params.fmin, fmax=params.fmax)
    if not filters.any(axis=1).all():
        raise ParameterError(f"features.n_mels: of {params.n_mels} bands some hold no bin of the spectrum")
    return window, np.ascontiguousarray(filters.T)


def log_mel(y: np.ndarray, *, sr: int, params: Features) -> np.ndarray:
    """Log-mel spectrogram of one mono waveform: float32, (round(samples / sr / hop_duration), n_mels).

    ``10 log10(max(mel power, 1e-10))``, in dB; the filters are librosa's (Slaney). Sec. 3.2 has 500 x 80 for 10 s.
    """
    window, filters = _window_and_filters(sr, params)
    hop = params.hop_duration * sr  # samples; need not be whole
    n_frames = round(len(y) / hop)
    margin = max(len(window) - hop, 0) / 2
    starts = np.floor(np.arange(n_frames) * hop + (np.ceil(margin) - margin) + 1e-6).astype(int)
    padded = np.pad(y, (int(np.ceil(margin)), len(window)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, len(window))[starts] * window
    # torch's transform is many times faster than scipy's wherever torch comes with MKL.
    spectrum = torch.fft.rfft(torch.from_numpy(frames), n=2 * (len(filters) - 1))
    power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    return 10 * (power @ torch.from_numpy(filters)).clamp_min(FLOOR).log10().numpy()


@dataclass(frozen=True)
class Spectrograms:
    """Features of a split's clips, in a file; what is indexed is read, and nothing stays in memory."""

    path: Path  # .npy, (rows, frames, n_mels), float32
    rows: np.ndarray  # the file's row of each clip

    @property
    def shape(self) -> tuple[int, int, int]:
        """Clips, frames, n_mels."""
        _, n_frames, n_mels = np.load(self.path, mmap_mode="r").shape
        return len(self.rows), n_frames, n_mels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
        # The map lives as long as this call: one that stays would count every row read as this process's memory.
        return np.array(np.load(self.path, mmap_mode="r")[self.rows[index]])


CHUNK = 32  # clips between two entries into the manifest


def _extract_one(path: Path, sr: int, duration: float, params: Features, target: Path, offset: int) -> dict:
    """Write the features of one recording into `target`, and return its line of the manifest without its name."""
    torch.set_num_threads(1)  # all cores have a recording each, and a product in two threads has other last bits
    stat = path.stat()
    line = dict.fromkeys(MANIFEST, "") | {"n_bytes": stat.st_size, "modified": stat.st_mtime_ns}
    try:
        audio = read_audio(path, sr=sr, duration=duration)
    except DataError as error:
        return line | {"state": "unreadable", "reason": str(error)}
    content = log_mel(audio.y, sr=sr, params=params).tobytes()
    with naming_full_disk(target), open(target, "rb+") as file:
        file.seek(offset)
        file.write(content)  # buffered, so all of it: on an almost full disk an unbuffered one writes a part
    return line | {name: value for name, value in audio._asdict().items() if name != "y"} | {"state": "present"}


def feature_file(cache: Path, filenames: Sequence[str], *, sr: int, duration: float, params: Features) -> Path:
    """The file that holds the features of these clips: its name depends on all that decides its content but audio."""
    code = [code_digest(("features.py", "data/audio.py")), version("librosa")]
    key = hashlib.sha256(json.dumps([sr, duration, params.model_dump(), list(filenames), code]).encode())
    return cache.with_name(f"{cache.name}-{key.hexdigest()[:16]}.npy")


def extract(
    files: Mapping[str, Path | None], *, cache: Path, sr: int, duration: float, params: Features
) -> pd.DataFrame:
    """Features of many recordings into a file, as far as they are not in it; returns a manifest (see `MANIFEST`).

    `files` are every clip and its recording, None where there is none, in the order of the rows; `cache` is the stem of
    the files (see `feature_file`); every recording is brought to `sr` and `duration`, in Hz and s.

    Clips are entered into the manifest, which lies beside the features, once their features are on the disk. A call
    that was killed, or one after more audio has come, does the rest only; a recording that has changed (size or time)
    is done again. Memory does not grow with the number of clips. Too small a disk is refused.
    """
    with only_one(cache.with_name(f"{cache.name}.lock"), lambda pid: print(f"process {pid} is at it; waiting for it")):
        return _extract(files, cache, sr, duration, params)


def _extract(files: Mapping[str, Path | None], cache: Path, sr: int, duration: float, params: Features) -> pd.DataFrame:
    path = feature_file(cache, list(files), sr=sr, duration=duration, params=params)
    journal = path.with_suffix(".csv")
    shape = (len(files), round(duration / params.hop_duration), params.n_mels)
    n_bytes = math.prod(shape[1:]) * 4  # of a clip
    finished = _finished(journal, files) if path.is_file() else {}
    finished = {name: line for name, line in finished.items() if line["state"] == "present"}  # others may be mended
    there = {name: file for name, file in files.items() if file is not None and file.is_file()}
    waiting = [name for name in there if name not in finished]
    _reserve(path, len(waiting) * n_bytes, description=f"{len(waiting):,} clips of {cache.name}")
    if not path.is_file():
        with replacing(path) as temporary:
            np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)  # no byte of it is written
    with replacing(journal) as temporary:
        pd.DataFrame(finished.values(), columns=list(MANIFEST)).to_csv(temporary, index=False)
    for file in (path, journal):
        forget_digest(file)

    n_header = np.load(path, mmap_mode="r").offset
    offsets = {name: n_header + row * n_bytes for row, name in enumerate(files)}
    jobs = [delayed(_extract_one)(there[name], sr, duration, params, path, offsets[name]) for name in waiting]
    with (
        naming_full_disk(journal),
        open(path, "rb+", buffering=0) as target,
        open(journal, "a", encoding="utf-8", newline="") as entries,
    ):
        writer = csv.DictWriter(entries, list(MANIFEST), lineterminator="\n")
        results = in_parallel(jobs, total=len(jobs), description=f"features of {cache.name}", batch_size=16)
        named = (line | {"filename": name} for name, line in zip(waiting, results, strict=True))
        while lines := list(itertools.islice(named, CHUNK)):
            with naming_full_disk(path):
                os.fsync(target.fileno())
            writer.writerows(lines)
            entries.flush()
    for file in (path, journal):
        note_digest(file)
    for old in cache.parent.glob(f"{cache.name}-*"):
        if old not in (path, journal):  # of other parameters, clips or code
            old.unlink(missing_ok=True)
    manifest = _finished(journal, files)
    absent = dict.fromkeys(MANIFEST, "") | {"state": "missing"}
    rows = [manifest.get(name, absent | {"filename": name}) for name in files]
    return typed_manifest(pd.DataFrame(rows, columns=list(MANIFEST)))


def _finished(journal: Path, files: Mapping[str, Path | None]) -> dict[str, dict[str, str]]:
    """Lines of a journal, by clip, whose recording is still the one they speak of; a line cut off by a kill is none."""
    if not journal.is_file():
        return {}
    text = journal.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    finished = {}
    for line in csv.DictReader(io.StringIO(whole)):
        file = files.get(line["filename"])
        if file is not None and file.is_file():
            stat = file.stat()
            if (str(stat.st_size), str(stat.st_mtime_ns)) == (line["n_bytes"], line["modified"]):
                finished[line["filename"]] = line
    return finished


def _reserve(path: Path, n_bytes: int, *, description: str) -> None:
    """Say how much space is going to be taken, and refuse to begin if there is not enough."""
    free = shutil.disk_usage(path.parent).free
    if n_bytes > free:
        raise DataError(
            f"{path.parent}: the features of {description} need {n_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
            "free; make room, or move cache/ to a larger disk and put a link in its place"
        )
    if n_bytes > 1e9:
        print(f"features of {description}: {n_bytes / 1e9:.1f} GB of {free / 1e9:.1f} GB free", flush=True)


def band_statistics(features: np.ndarray | Spectrograms) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (1 for a band that never changes) of the bands of (clips, frames, n_mels), in dB."""
    n, total, squares = 0, 0.0, 0.0
    for start in range(0, len(features), 64):  # memory stays flat whatever the number of clips
        chunk = features[start : start + 64].astype(np.float64)
        chunk = chunk.reshape(-1, chunk.shape[2])
        n, total, squares = n + len(chunk), total + chunk.sum(0), squares + (chunk**2).sum(0)
    if n == 0:
        raise DataError("no training clip could be used: nothing to normalise with")
    mean = np.asarray(total / n)
    std = np.sqrt(np.maximum(squares / n - mean**2, 0))
    return mean.astype(np.float32), np.where(std > 1e-3, std, 1).astype(np.float32)
