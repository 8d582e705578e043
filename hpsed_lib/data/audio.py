"""Reading recordings of any kind into one shape: mono float32 at one rate and one length.

Conventions: waveforms ``y`` are (samples,), float32, full scale at 1; ``sr`` is in Hz, durations are in seconds.
Several channels are averaged; another rate is resampled; a short recording is padded with zeros at its end, a long one
is cut.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

import librosa
import numpy as np
import soundfile

from hpsed_lib.errors import DataError

HUGE = 1e12  # relative to full scale: the power of such a sample is no number
SILENCE = 1e-4  # peak, relative to full scale, under which a recording counts as silent
OFFSET = 0.01  # mean of a channel, relative to full scale, above which it counts as off zero
CANCELLED = 0.01  # power of the mean of several channels, relative to theirs, under which they cancel each other
BLOCKS = (1 << 16, 1 << 5)  # samples decoded at a time, and where a decoder fails: what is lost at most
LARGEST = 1 << 30  # bytes of a file, and of its samples as float32, at its own rate and at the one wanted
SAMPLE_RATES = (1000, 1_000_000)  # Hz, lowest and highest; another one is a damaged header


class Audio(NamedTuple):
    """A recording, what it was, and what was done to it."""

    y: np.ndarray
    duration: float  # s, as it lies in the file
    sample_rate: int  # Hz, as it lies in the file
    sha256: str  # of the file
    truncated: bool  # the file ends before its own header says, is damaged from there on, or its header has no end
    silent: bool
    constant: bool  # not silent, but never changing
    dc_offset: bool
    above_full_scale: bool
    cancelled: bool  # its channels are nearly each other's opposite, so that next to nothing is left of their mean
    resampled: bool
    mixed_down: bool
    padded: bool
    cut: bool


def read_audio(path: Path, *, sr: int, duration: float | None = None) -> Audio:
    """Read one recording of any format that libsndfile reads (WAV, FLAC, Ogg, MP3 ...), at the rate wanted.

    ``y`` is (round(duration * sr),) if a duration is wanted; otherwise the recording keeps its own. Whatever error a
    decoder ends with is a `DataError` of this file.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
        return _read(content, sr=sr, duration=duration)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:
        # Soundfile's own text names the object that was read, and that has another address each time.
        why = getattr(error, "error_string", error)
        raise DataError(f"{path}: cannot be read as audio ({why})") from error


def _read(content: bytes, *, sr: int, duration: float | None) -> Audio:
    """`read_audio` of a file's content."""
    channels, native_sr, truncated = _decode(content)
    if len(channels) == 0:
        raise DataError("is cut off before its first sample" if truncated else "holds no sample")
    if not SAMPLE_RATES[0] <= native_sr <= SAMPLE_RATES[1] or len(channels) * sr / native_sr * 4 > LARGEST:
        raise DataError(f"holds {len(channels):,} samples at {native_sr:,} Hz, more than can be resampled to {sr:,} Hz")
    peak = np.abs(channels).max()
    if not peak < HUGE:
        raise DataError(f"holds values that are not finite, or beyond {HUGE:g} times full scale")
    mixed_down = channels.shape[1] > 1
    y = channels.mean(axis=1) if mixed_down else channels[:, 0]
    constant = bool(np.ptp(y) < SILENCE)
    cancelled = mixed_down and bool(np.square(y).mean() < CANCELLED * np.square(channels).mean())
    resampled = native_sr != sr
    if resampled:
        y = librosa.resample(y, orig_sr=native_sr, target_sr=sr)
    length = len(y) if duration is None else round(duration * sr)
    silent = bool(np.abs(y).max() < SILENCE)
    # Resampling may round the length by a sample: that is neither padding nor cutting.
    return Audio(
        np.pad(y[:length], (0, max(length - len(y), 0))),
        duration=len(channels) / native_sr,
        sample_rate=native_sr,
        sha256=hashlib.sha256(content).hexdigest(),
        truncated=truncated,
        silent=silent,
        constant=constant and not silent,
        dc_offset=bool(np.abs(channels.mean(axis=0)).max() > OFFSET),
        above_full_scale=bool(peak > 1),
        cancelled=cancelled,
        resampled=resampled,
        mixed_down=mixed_down,
        padded=len(y) < length - 1,
        cut=len(y) > length + 1,
    )


class _Endless(io.BytesIO):
    """A file that does not say where it ends: libsndfile counts an MP3's frames then, and does not estimate them."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.tell() if whence == os.SEEK_END else super().seek(offset, whence)


class _Forwards(soundfile.SoundFile):
    """A file that is only read forwards; soundfile seeks after each block otherwise, which a stream does not bear."""

    def seekable(self) -> bool:
        return False


def _decode(content: bytes, block_length: int = BLOCKS[0]) -> tuple[np.ndarray, int, bool]:
    """The samples, (samples, channels), float32, as far as a decoder gets, their rate, and whether truncated."""
    if len(content) > LARGEST:
        raise DataError(f"is larger than {LARGEST:,} bytes; cut it into clips")
    whole = _with_length(content)
    truncated = whole is not content or _ends_early(content)
    file = _Forwards(io.BytesIO(whole))
    if file.format == "MP3":
        file = _Forwards(_Endless(_without_tag(whole)))
    with file:
        # Libsndfile converts 16-bit samples to the same numbers, but takes five times as long.
        dtype, scale = ("int16", np.float32(2**-15)) if file.subtype == "PCM_16" else ("float32", np.float32(1))
        blocks, n_read = [np.zeros((0, file.channels), dtype)], 0
        try:
            while n_block := len(block := file.read(block_length, dtype=dtype, always_2d=True)):
                blocks.append(block)
                n_read += n_block
                if n_read * file.channels * 4 > LARGEST:
                    raise DataError(f"holds more than {LARGEST // 4:,} samples; cut it into clips")
        except soundfile.LibsndfileError:
            if block_length > BLOCKS[1]:
                return _decode(content, BLOCKS[1])
            if n_read == 0:
                raise
            truncated = True
        known = file.frames < 2**63 - 1  # a stream of FLAC may not say how long it is
        return np.concatenate(blocks) * scale, file.samplerate, truncated or (known and n_read < file.frames)


def _without_tag(content: bytes) -> bytes:
    """An MP3 file without the ID3 tag at its beginning, which says its length in four times seven bits."""
    length = 0
    for byte in content[6:10]:
        length = length << 7 | byte
    return content[10 + length :] if content[:3] == b"ID3" else content


def _with_length(content: bytes) -> bytes:
    """The same file; with "to the end" for its length, if it is a WAV file whose recorder has left that at 0."""
    start = 12 if content[:4] == b"RIFF" else len(content)
    while content[start : start + 4] not in (b"data", b""):
        size = int.from_bytes(content[start + 4 : start + 8], "little")
        start += 8 + size + size % 2
    follows = content[start + 8 : start + 12].replace(b" ", b"_")
    is_chunk = follows.isalnum() and follows.isascii()  # then it is really empty
    if content[start + 4 : start + 8] != bytes(4) or not follows or is_chunk:
        return content
    return content[: start + 4] + b"\xff" * 4 + content[start + 8 :]


def _ends_early(content: bytes) -> bool:
    """Whether a file is shorter than it says, which libsndfile does not mind; a stream says nothing (all ones)."""
    if content[:4] in (b"RIFF", b"RF64", b"FORM"):
        size = content[20:28] if content[:4] == b"RF64" else content[4:8]  # without the first 8 bytes
        promised = int.from_bytes(size, "big" if content[:4] == b"FORM" else "little")
        return promised != 0xFFFFFFFF and promised + 8 > len(content)
    page = content.rfind(b"OggS")  # the last page of Ogg is marked as such
    if content[:4] != b"OggS" or page + 26 >= len(content):
        return content[:4] == b"OggS"
    lengths = content[page + 27 :][: content[page + 26]]
    return not content[page + 5] & 4 or page + 27 + content[page + 26] + sum(lengths) > len(content)


def write_audio(file: Path | BinaryIO, y: np.ndarray, *, sr: int) -> None:
    """Write a mono waveform as 16-bit WAV."""
    soundfile.write(file, y, sr, format="WAV", subtype="PCM_16")
