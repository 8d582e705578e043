"""Reading recordings of any kind into one shape: mono float32 at one rate and one length.

Conventions: waveforms ``y`` are (samples,), float32, full scale at 1; ``sr`` is in Hz, durations are in seconds.
Several channels are averaged; another rate is resampled; a short recording is padded with zeros at its end, a long one
is cut.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import BinaryIO, NamedTuple

import librosa
import numpy as np
import soundfile

from hpsed_lib.errors import DataError

SILENCE = 1e-4  # peak, relative to full scale, under which a recording counts as silent


class Audio(NamedTuple):
    """A recording, what it was, and what was done to it."""

    y: np.ndarray
    duration: float  # s, as it lies in the file
    sample_rate: int  # Hz, as it lies in the file
    sha256: str  # of the file
    truncated: bool  # the file ends before its own header says
    silent: bool
    resampled: bool
    mixed_down: bool
    padded: bool
    cut: bool


def read_audio(path: Path, *, sr: int, duration: float | None = None) -> Audio:
    """Read one recording of any format that libsndfile reads (WAV, FLAC, Ogg, MP3 ...), at the rate wanted.

    ``y`` is (round(duration * sr),) if a duration is wanted; otherwise the recording keeps its own.
    """
    try:
        content = path.read_bytes()
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            native_sr, n_promised = file.samplerate, file.frames
            # Libsndfile converts 16-bit samples to the same numbers, but takes five times as long.
            whole = file.subtype == "PCM_16"
            y = file.read(dtype="int16" if whole else "float32", always_2d=True)
            y = y * np.float32(2**-15) if whole else y
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path}: cannot be read as audio ({error})") from error
    if len(y) == 0:
        raise DataError(f"{path}: holds no sample")
    native_duration = len(y) / native_sr
    mixed_down = y.shape[1] > 1
    y = y.mean(axis=1) if mixed_down else y[:, 0]
    if not np.isfinite(y).all():
        raise DataError(f"{path}: holds values that are not finite")
    resampled = native_sr != sr
    if resampled:
        y = librosa.resample(y, orig_sr=native_sr, target_sr=sr)
    length = len(y) if duration is None else round(duration * sr)
    # Resampling may round the length by a sample: that is neither padding nor cutting.
    return Audio(
        np.pad(y[:length], (0, max(length - len(y), 0))),
        duration=native_duration,
        sample_rate=native_sr,
        sha256=hashlib.sha256(content).hexdigest(),
        truncated=round(native_duration * native_sr) < n_promised or _riff_is_truncated(content),
        silent=bool(np.abs(y).max() < SILENCE),
        resampled=resampled,
        mixed_down=mixed_down,
        padded=len(y) < length - 1,
        cut=len(y) > length + 1,
    )


def _riff_is_truncated(content: bytes) -> bool:
    """Whether a WAV file is shorter than it says, which libsndfile does not mind; a stream says nothing (all ones)."""
    promised = int.from_bytes(content[4:8], "little")
    return content[:4] == b"RIFF" and promised != 0xFFFFFFFF and promised + 8 > len(content)


def write_audio(file: Path | BinaryIO, y: np.ndarray, *, sr: int) -> None:
    """Write a mono waveform as 16-bit WAV."""
    soundfile.write(file, y, sr, format="WAV", subtype="PCM_16")
