"""Log-mel spectrograms (Sec. 3.2), computed once and kept in a memory-mapped cache.

Conventions: features are (frames, n_mels), float32, in dB relative to unit power. Frame k is centred on
``(k + 1/2) * hop_duration``: the clip is padded by half of (window - hop) at both ends, so that a clip of T seconds has
exactly ``round(T / hop_duration)`` frames (500 for 10 s) at any sample rate, and frame k describes the k-th slot of
``hop_duration`` seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import librosa
import numpy as np
import scipy.fft
import scipy.signal
from joblib import Parallel, delayed

from hpsed_lib.audio import read_audio
from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.params import Features
from hpsed_lib.paths import replacing
from hpsed_lib.progress import track
from hpsed_lib.provenance import code_digest

FLOOR = 1e-10  # power; -100 dB


@lru_cache(maxsize=8)
def _window_and_filters(sr: int, params: Features) -> tuple[np.ndarray, np.ndarray]:
    """Hann window and mel filters; the FFT is the window's length, zero-padded to the next power of two."""
    win_length = round(params.window_duration * sr)
    n_fft = 1 << (win_length - 1).bit_length()
    fmax = sr / 2 if params.fmax is None else params.fmax
    if not params.fmin < fmax <= sr / 2:
        raise ParameterError(f"features need fmin < fmax <= sr / 2, got {params.fmin}, {fmax} and {sr / 2} Hz")
    window = scipy.signal.get_window("hann", win_length).astype(np.float32)
    filters = librosa.filters.mel(sr=sr, n_fft=n_fft, n_mels=params.n_mels, fmin=params.fmin, fmax=fmax)
    return window, np.ascontiguousarray(filters.T)


def log_mel(y: np.ndarray, *, sr: int, params: Features) -> np.ndarray:
    """Log-mel spectrogram of one waveform.

    Parameters
    ----------
    y : np.ndarray, shape (samples,)
        Mono waveform.
    sr : int
        Sample rate, in Hz.
    params : Features
        Window and hop in seconds, number of bands and their range in Hz.

    Returns
    -------
    np.ndarray, shape (round(samples / sr / hop_duration), n_mels), float32
        ``10 log10(max(mel power, 1e-10))``, in dB.

    References
    ----------
    Sec. 3.2: 40 ms frames with 50 % overlap, 80 mel filters, 500 x 80 for 10 s. Filters are librosa's (Slaney).
    """
    window, filters = _window_and_filters(sr, params)
    hop = params.hop_duration * sr  # samples; need not be whole
    n_frames = round(len(y) / hop)
    margin = max(len(window) - hop, 0) / 2
    starts = np.floor(np.arange(n_frames) * hop + (np.ceil(margin) - margin) + 1e-6).astype(int)
    padded = np.pad(y, (int(np.ceil(margin)), len(window)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, len(window))[starts] * window
    spectrum = scipy.fft.rfft(frames, n=2 * (len(filters) - 1), axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    return 10 * np.log10(np.maximum(power @ filters, FLOOR))


class Extraction(NamedTuple):
    """Features of one split, and what happened to its files."""

    features: np.ndarray  # memory map, (clips, frames, n_mels), float32
    counts: dict[str, int]  # files resampled, mixed_down, padded, cut, skipped
    skipped: dict[str, str]  # file -> reason


def _extract_one(path: Path, sr: int, duration: float, params: Features) -> tuple[np.ndarray, dict[str, int]]:
    audio = read_audio(path, sr=sr, duration=duration)
    return log_mel(audio.y, sr=sr, params=params), {k: int(v) for k, v in audio._asdict().items() if k != "y"}


def _extract_or_reason(path: Path, sr: int, duration: float, params: Features) -> tuple[np.ndarray, dict] | str:
    try:
        return _extract_one(path, sr, duration, params)
    except DataError as error:
        return str(error)


def extract(
    files: Sequence[Path], *, cache: Path, sr: int, duration: float, params: Features, checksum: str
) -> Extraction:
    """Features of many recordings, from the cache if it holds them.

    Parameters
    ----------
    files : sequence of Path
        Recordings, in the order of the rows wanted.
    cache : Path
        Stem of the cache's files; the key of data and parameters is appended to it.
    sr : int
        Sample rate, in Hz, that every recording is brought to.
    duration : float
        Length, in seconds, that every recording is brought to.
    params : Features
        Parameters of `log_mel`; ``on_bad_file`` says whether an unusable file stops the extraction or is left out.
    checksum : str
        Checksum of the recordings; with the parameters and the code it is the key of the cache.

    Returns
    -------
    Extraction
        A skipped file's row is all NaN, so that rows and files stay in step; ``skipped`` names it.

    Raises
    ------
    DataError
        A file is unusable and ``on_bad_file`` is ``fail``.
    """
    code = [code_digest(("features.py", "audio.py")), version("librosa")]
    wanted = [checksum, sr, duration, params.model_dump(), [file.name for file in files], code]
    key = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]
    path = cache.with_name(f"{cache.name}-{key}.npy")
    report_path = path.with_suffix(".json")
    if path.exists() and report_path.exists():
        report = json.loads(report_path.read_text())
        return Extraction(np.load(path, mmap_mode="r"), report["counts"], report["skipped"])

    shape = (len(files), round(duration / params.hop_duration), params.n_mels)
    counts = {"resampled": 0, "mixed_down": 0, "padded": 0, "cut": 0, "skipped": 0}
    skipped: dict[str, str] = {}
    with replacing(path) as temporary:
        features = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        results = Parallel(n_jobs=-1, return_as="generator", batch_size=16, idle_worker_timeout=60)(
            delayed(_extract_or_reason)(file, sr, duration, params) for file in files
        )
        for row, result in enumerate(track(results, total=len(files), description=f"features of {cache.name}")):
            if isinstance(result, str):
                if params.on_bad_file == "fail":
                    raise DataError(f"{result}; mend or remove the file, or set features.on_bad_file to skip")
                features[row] = np.nan
                skipped[str(files[row].name)] = result
                counts["skipped"] += 1
            else:
                features[row] = result[0]
                counts = {name: count + result[1].get(name, 0) for name, count in counts.items()}
        features.flush()
        del features
    with replacing(report_path) as temporary:
        temporary.write_text(json.dumps({"counts": counts, "skipped": skipped}, indent=1))
    for old in cache.parent.glob(f"{cache.name}-*"):
        if old not in (path, report_path):  # of other parameters, data or code
            old.unlink(missing_ok=True)
    return Extraction(np.load(path, mmap_mode="r"), counts, skipped)


def band_statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each mel band, in dB.

    Parameters
    ----------
    features : np.ndarray, shape (clips, frames, n_mels)
        Training features; rows of skipped files (NaN) do not count.

    Returns
    -------
    mean, std : np.ndarray, shape (n_mels,), float32
        A band that never changes has std 1.
    """
    n, total, squares = 0, 0.0, 0.0
    for start in range(0, len(features), 64):  # memory stays flat whatever the number of clips
        chunk = features[start : start + 64].astype(np.float64)
        chunk = chunk[np.isfinite(chunk[:, 0, 0])].reshape(-1, features.shape[2])
        n, total, squares = n + len(chunk), total + chunk.sum(0), squares + (chunk**2).sum(0)
    if n == 0:
        raise DataError("no training clip could be used: nothing to normalise with")
    mean = np.asarray(total / n)
    std = np.sqrt(np.maximum(squares / n - mean**2, 0))
    return mean.astype(np.float32), np.where(std > 1e-3, std, 1).astype(np.float32)
