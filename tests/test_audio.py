"""Files as people have them: estimated lengths, streams, unfinished and cut ones, and 300 that were mutated."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hpsed_lib.data import audio
from hpsed_lib.data.audio import Audio, read_audio
from hpsed_lib.data.manifest import FLAGS
from hpsed_lib.errors import DataError
from hpsed_lib.features import extract
from hpsed_lib.params import Features

SR = 16000
FORMATS = {"WAV": "PCM_16", "RF64": "PCM_16", "AIFF": "PCM_16", "FLAC": "PCM_16", "OGG": "VORBIS", "MP3": None}


def sound(seconds: float = 10.0) -> np.ndarray:
    """Loud noise, silence and soft noise: a variable bitrate varies."""
    y = np.random.default_rng(0).standard_normal(round(seconds * SR))
    return y * np.repeat([0.2, 0.0, 0.002, 0.1], len(y) // 4)


def encoded(y: np.ndarray, kind: str = "WAV", **options: object) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, y, SR, format=kind, **({"subtype": FORMATS[kind]} | options))
    return file.getvalue()


def read(folder: Path, content: bytes, duration: float | None = 10.0) -> Audio:
    (folder / "a.any").write_bytes(content)
    return read_audio(folder / "a.any", sr=SR, duration=duration)


def flags(found: Audio) -> set[str]:
    return {flag for flag in FLAGS if getattr(found, flag)}


class TestLength:
    @pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
    @pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0\0\0\x08\0" + bytes(1024)])
    def test_an_mp3_that_does_not_say_its_length_is_read_to_its_end(
        self, tmp_path: Path, mode: str, tag: bytes
    ) -> None:
        whole = encoded(sound(), "MP3", bitrate_mode=mode, compression_level=0.5)
        bare = tag + whole[whole.index(whole[:2], 4) :]  # without the first frame, which holds the length
        with soundfile.SoundFile(io.BytesIO(bare)) as file:
            assert file.frames / SR != pytest.approx(10, abs=0.02) or mode == "CONSTANT"
        found = read(tmp_path, bare)
        assert found.duration == pytest.approx(10, abs=0.11)  # the encoder's own padding is not told from sound
        assert flags(found) <= {"cut"}
        assert flags(read(tmp_path, tag + whole)) == set()

    def test_a_flac_stream_without_a_total_length_is_read_to_its_end(self, tmp_path: Path) -> None:
        content = bytearray(encoded(sound(), "FLAC"))
        content[21] &= 0xF0  # 36 bits of the header's STREAMINFO
        content[22:26] = bytes(4)
        found = read(tmp_path, bytes(content))
        assert (found.duration, flags(found)) == (10, set())

    @pytest.mark.parametrize("riff_size", [0, 36, None])
    def test_a_wav_whose_recorder_never_wrote_its_length_is_read_and_flagged(
        self, tmp_path: Path, riff_size: int | None
    ) -> None:
        content = bytearray(encoded(sound()))
        content[40:44] = bytes(4)
        content[4:8] = content[4:8] if riff_size is None else riff_size.to_bytes(4, "little")
        found = read(tmp_path, bytes(content))
        assert (found.duration, flags(found)) == (10, {"truncated"})
        with pytest.raises(DataError, match="holds no sample"):  # what follows is a chunk, and no sound
            read(tmp_path, b"RIFF\x30\0\0\0" + bytes(content[8:44]) + b"LIST\x04\0\0\0INFO")

    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("share", [0.6, 0.95])
    def test_a_file_that_is_cut_is_flagged_in_every_format(self, tmp_path: Path, kind: str, share: float) -> None:
        whole = encoded(np.tile(sound(2), 5), kind)
        assert flags(read(tmp_path, whole)) == set()
        found = read(tmp_path, whole[: int(share * len(whole))])
        assert flags(found) == {"truncated", "padded"}
        assert found.duration == pytest.approx(10 * share, abs=2)  # Ogg loses what its last page holds

    def test_a_word_in_a_header_is_not_taken_for_the_sound(self, tmp_path: Path) -> None:
        whole = encoded(sound())
        note = b"bext\x18\0\0\0my data" + bytes(17)
        riff = b"RIFF" + (len(whole) + len(note) - 8).to_bytes(4, "little")
        found = read(tmp_path, riff + whole[8:12] + note + whole[12:])
        assert (found.duration, flags(found)) == (10, set())

    @pytest.mark.parametrize(("kind", "length"), [("OGG", 3600), ("WAV", 44)])
    def test_what_ends_before_the_first_sample_says_so(self, tmp_path: Path, kind: str, length: int) -> None:
        with pytest.raises(DataError, match=r"a\.any: is cut off before its first sample"):
            read(tmp_path, encoded(sound(), kind)[:length])


class TestLevel:
    def test_each_flag_of_the_level_is_raised_by_its_own_kind_alone(self, tmp_path: Path) -> None:
        y, kinds = sound(), {"subtype": "FLOAT"}
        pair = np.stack([y, -0.99 * y], axis=1)
        for samples, expected in (
            (y, set()),
            (30 * y / np.abs(y).max(), {"above_full_scale"}),
            (y + 0.05, {"dc_offset"}),
            (np.full_like(y, 0.3), {"constant", "dc_offset"}),
            (np.zeros_like(y), {"silent"}),
            (pair, {"cancelled", "mixed_down"}),
            (np.abs(pair) * np.sign(y)[:, None], {"mixed_down"}),
            (np.stack([y, np.zeros_like(y)], axis=1), {"mixed_down"}),
        ):
            found = read(tmp_path, encoded(samples, **kinds))
            assert flags(found) == expected
            np.testing.assert_allclose(found.y, samples.reshape(len(y), -1).mean(axis=1), atol=1e-6)  # nothing changes

    def test_values_whose_power_is_no_number_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"not finite, or beyond 1e\+12 times full scale"):
            read(tmp_path, encoded(1e20 * sound(), subtype="FLOAT"))


def mutated(whole: bytes, rng: np.random.Generator) -> bytes:
    """A file that is cut, or whose bytes are zeroed, drawn anew or flipped; every other time in its header."""
    content = np.frombuffer(whole, np.uint8).copy()
    start = int(rng.integers(64 if rng.random() < 0.5 else len(content)))
    part = slice(start, start + int(rng.choice([1, 4, 8, 500])))
    match rng.choice(["cut", "zeroed", "drawn", "flipped"]):
        case "cut":
            content = content[: part.stop]
        case "zeroed":
            content[part] = 0
        case "drawn":
            content[part] = rng.integers(256, size=len(content[part]))
        case _:
            content[part] ^= np.uint8(1 << rng.integers(8))
    return content.tobytes()


def test_every_mutated_file_is_present_or_unreadable_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 of them; tracemalloc sees numpy's memory. The bound holds for the file, its samples, and those resampled."""
    bound = 16 << 20
    monkeypatch.setattr(audio, "LARGEST", bound)
    rng, states = np.random.default_rng(0), []
    wholes = [encoded(sound(1), kind) for kind in ("WAV", "FLAC", "OGG", "MP3")]
    tracemalloc.start()
    for number in range(300):
        path = tmp_path / f"{number}.any"
        path.write_bytes(mutated(wholes[number % 4], rng))
        try:
            y = read_audio(path, sr=SR, duration=1.0).y
            states.append("present")
            assert (y.shape, y.dtype) == ((SR,), np.float32), number
        except DataError:
            states.append("unreadable")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * bound
    assert min(states.count("present"), states.count("unreadable")) > 50


def test_two_extractions_of_what_cannot_be_read_give_the_same_manifest(tmp_path: Path) -> None:
    names = {"empty": b"", "text": b"no audio" * 50, "none": encoded(np.zeros(0)), "cut": encoded(sound(), "OGG")[:50]}
    for name, content in names.items():
        (tmp_path / name).write_bytes(content)
    files = {name: tmp_path / name for name in names}
    params = Features(window_duration=0.04, hop_duration=0.02, n_mels=80, fmin=0.0, fmax=None)
    first, second = (extract(files, cache=tmp_path / n, sr=SR, duration=1.0, params=params) for n in ("one", "two"))
    assert first.reason.tolist() == second.reason.tolist()
    assert set(first.state) == {"unreadable"}
