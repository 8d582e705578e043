"""Benchmark of the features: from audio files to log-mel spectrograms, beside a loop over librosa's own functions.

Conventions: recordings of noise, 10 s at 44.1 kHz in 16 bit, whole on both sides; nothing is resampled. Ours is
`hpsed_lib.features.extract` as notebook 01 calls it, on all cores, checksums, manifest and writing to the disk
included. Librosa's spectrogram is set to the same windows.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import joblib
import librosa
import numpy as np

from hpsed_lib.bench.timing import Comparison
from hpsed_lib.data.audio import write_audio
from hpsed_lib.features import Spectrograms, extract, feature_file
from hpsed_lib.params import Features

SR, DURATION = 44100, 10.0  # Hz, s
PARAMS = Features(window_duration=0.04, hop_duration=0.02, n_mels=80, fmin=0.0, fmax=None)
WINDOW, N_FFT, N_FRAMES = 1764, 2048, 500


def log_mel_files(*, tiny: bool) -> Comparison:
    """Features of files of noise."""
    n_clips = 4 if tiny else 256
    folder = tempfile.TemporaryDirectory()
    files = {f"{index}.wav": Path(folder.name) / f"{index}.wav" for index in range(n_clips)}
    for index, path in enumerate(files.values()):
        y = np.random.default_rng(index).uniform(-0.5, 0.5, round(SR * DURATION)).astype(np.float32)
        write_audio(path, y, sr=SR)

    def ours() -> np.ndarray:
        with tempfile.TemporaryDirectory(dir=folder.name) as cache:
            bench = Path(cache) / "bench"
            extract(files, cache=bench, sr=SR, duration=DURATION, params=PARAMS)
            path = feature_file(bench, list(files), sr=SR, duration=DURATION, params=PARAMS)
            return Spectrograms(path, np.arange(n_clips))[:]

    transform = 2.5 * N_FFT * np.log2(N_FFT)  # operations of a real FFT
    return Comparison(
        f"log-mel of {n_clips} files, all cores",
        "librosa, a loop",
        ours,
        lambda: np.stack([librosa_log_mel(*librosa.load(path, sr=None)) for path in files.values()]),
        lambda ours, theirs: float(np.abs(ours - theirs).max()) <= 1e-4,  # dB
        goal=10,
        # Windows, transforms, power, and each of the power's bins into the two filters that it belongs to.
        operations=n_clips * N_FRAMES * (WINDOW + transform + 3 * N_FFT / 2 + 4 * N_FFT / 2),
        n_bytes=n_clips * (2 * SR * DURATION + 4 * N_FRAMES * PARAMS.n_mels),
        threads=joblib.cpu_count(),
    )


def librosa_log_mel(y: np.ndarray, sr: float) -> np.ndarray:
    """Librosa's log-mel, with its windows half a hop earlier than a frame's slot, where ours are."""
    hop, window = round(PARAMS.hop_duration * sr), round(PARAMS.window_duration * sr)
    n_fft = 2 ** int(np.ceil(np.log2(window)))
    before = int(np.ceil((window - hop) / 2)) + (n_fft - window) // 2
    lengths = {"n_fft": n_fft, "hop_length": hop, "win_length": window, "center": False}
    power = librosa.feature.melspectrogram(y=np.pad(y, (before, n_fft)), sr=sr, n_mels=PARAMS.n_mels, **lengths)
    return librosa.power_to_db(power, amin=1e-10, top_db=None).T[: round(len(y) / hop)]
