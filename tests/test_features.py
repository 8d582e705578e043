"""Audio of every kind becomes exactly 500 frames, and the values are librosa's."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from hpsed_lib.audio import read_audio
from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.features import Extraction, band_statistics, extract, log_mel
from hpsed_lib.params import Features

PARAMS = Features(window_duration=0.04, hop_duration=0.02, n_mels=80, fmin=0.0, fmax=None, on_bad_file="fail")
SKIPPING = PARAMS.model_copy(update={"on_bad_file": "skip"})


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


def librosa_log_mel(y: np.ndarray, sr: int) -> np.ndarray:
    """Librosa's own spectrogram, with its windows moved to where ours are: half a hop earlier than a frame's slot."""
    hop, win = round(0.02 * sr), round(0.04 * sr)
    n_fft = 2 ** int(np.ceil(np.log2(win)))
    before = int(np.ceil((win - hop) / 2)) + (n_fft - win) // 2
    power = librosa.feature.melspectrogram(
        y=np.pad(y, (before, n_fft)),
        sr=sr,
        n_fft=n_fft,
        hop_length=hop,
        win_length=win,
        center=False,
        n_mels=80,
    )
    return librosa.power_to_db(power, amin=1e-10, top_db=None).T[: round(len(y) / hop)]


@pytest.mark.parametrize("sr", [8000, 16000, 22050, 32000, 44100, 48000])
def test_values_agree_with_librosa(sr: int) -> None:
    y = noise(10 * sr)
    ours = log_mel(y, sr=sr, params=PARAMS)
    assert ours.shape == (500, 80)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, librosa_log_mel(y, sr), atol=1e-4, rtol=0)


@pytest.mark.parametrize("sr", [8000, 11025, 12345, 16000, 22050, 44100, 47999])
@pytest.mark.parametrize("duration", [10.0, 0.02, 3.34])
def test_the_number_of_frames_does_not_depend_on_the_rate(sr: int, duration: float) -> None:
    assert len(log_mel(noise(round(duration * sr)), sr=sr, params=PARAMS)) == round(duration / 0.02)


@pytest.mark.parametrize("sr", [11025, 16000, 44100])
def test_a_click_is_loudest_in_the_frames_of_its_own_time(sr: int) -> None:
    y = np.zeros(2 * sr, dtype=np.float32)
    y[int(1.01 * sr)] = 1.0  # the middle of slot 50
    level = log_mel(y, sr=sr, params=PARAMS).mean(axis=1)
    assert level.argmax() == 50
    assert level[49] == pytest.approx(level[51], abs=1.0)
    assert (level[:49] < -99).all()
    assert (level[52:] < -99).all()


def test_silence_is_the_floor() -> None:
    assert (log_mel(np.zeros(16000, dtype=np.float32), sr=16000, params=PARAMS) == -100).all()


def test_a_band_beyond_half_the_rate_is_refused() -> None:
    with pytest.raises(ParameterError, match="fmax <= sr / 2"):
        log_mel(noise(8000), sr=8000, params=PARAMS.model_copy(update={"fmax": 8000.0}))


class TestReadAudio:
    def test_stereo_is_averaged(self, tmp_path: Path) -> None:
        left, right = noise(16000, 1), noise(16000, 2)
        soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000, subtype="FLOAT")
        audio = read_audio(tmp_path / "a.wav", sr=16000)
        np.testing.assert_allclose(audio.y, (left + right) / 2, atol=1e-7)
        assert audio.mixed_down
        assert not audio.resampled

    @pytest.mark.parametrize("native", [8000, 22050, 44100, 48000])
    def test_another_rate_keeps_pitch_and_length(self, tmp_path: Path, native: int) -> None:
        time = np.arange(2 * native) / native
        soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 1000 * time), native, subtype="FLOAT")
        audio = read_audio(tmp_path / "a.wav", sr=16000, duration=2.0)
        spectrum = np.abs(np.fft.rfft(audio.y))
        assert spectrum.argmax() == 2000  # bins of 0.5 Hz
        assert len(audio.y) == 32000
        assert audio.resampled
        assert not audio.padded
        assert not audio.cut

    def test_short_is_padded_and_long_is_cut(self, tmp_path: Path) -> None:
        y = noise(16000)
        soundfile.write(tmp_path / "a.wav", y, 16000, subtype="FLOAT")
        longer, shorter = (read_audio(tmp_path / "a.wav", sr=16000, duration=d) for d in (1.5, 0.5))
        assert longer.padded
        np.testing.assert_array_equal(longer.y, np.pad(y, (0, 8000)))
        assert shorter.cut
        np.testing.assert_array_equal(shorter.y, y[:8000])

    @pytest.mark.parametrize(
        ("content", "message"),
        [(b"", "cannot be read"), (b"this is text, no audio" * 50, "cannot be read"), (None, "cannot be read")],
        ids=["empty file", "text", "missing"],
    )
    def test_what_is_no_audio_is_named(self, tmp_path: Path, content: bytes | None, message: str) -> None:
        if content is not None:
            (tmp_path / "bad.wav").write_bytes(content)
        with pytest.raises(DataError, match=f"bad.wav: {message}"):
            read_audio(tmp_path / "bad.wav", sr=16000)

    def test_no_samples_and_values_that_are_not_finite_are_named(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
        soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 16000, subtype="FLOAT")
        with pytest.raises(DataError, match=r"none\.wav: holds no sample"):
            read_audio(tmp_path / "none.wav", sr=16000)
        with pytest.raises(DataError, match=r"nan\.wav: holds values that are not finite"):
            read_audio(tmp_path / "nan.wav", sr=16000)


class TestExtract:
    @pytest.fixture
    def files(self, tmp_path: Path) -> list[Path]:
        for index in range(4):
            soundfile.write(tmp_path / f"{index}.wav", noise(16000, index), 16000, subtype="FLOAT")
        return [tmp_path / f"{index}.wav" for index in range(4)]

    def extract(self, files: list[Path], folder: Path, params: Features = PARAMS, checksum: str = "x") -> Extraction:
        return extract(files, cache=folder / "set", sr=16000, duration=1.0, params=params, checksum=checksum)

    def test_rows_are_the_files_in_order(self, files: list[Path], tmp_path: Path) -> None:
        extraction = self.extract(files[::-1], tmp_path / "cache")
        for row, file in zip(extraction.features, files[::-1], strict=True):
            y = soundfile.read(file, dtype="float32")[0]
            np.testing.assert_allclose(row, log_mel(y, sr=16000, params=PARAMS), atol=1e-4)
        assert extraction.counts == {"resampled": 0, "mixed_down": 0, "padded": 0, "cut": 0, "skipped": 0}

    def test_the_cache_is_used_and_keyed_by_data_and_parameters(self, files: list[Path], tmp_path: Path) -> None:
        first = self.extract(files, tmp_path / "cache")
        files[0].unlink()  # a second extraction would fail
        again = self.extract(files, tmp_path / "cache")
        assert isinstance(again.features, np.memmap)
        np.testing.assert_array_equal(first.features, again.features)
        other_params = PARAMS.model_copy(update={"fmin": 50.0})
        for arguments in ({"checksum": "y"}, {"params": other_params}):
            with pytest.raises(DataError, match=r"0\.wav"):
                self.extract(files, tmp_path / "cache", **arguments)  # type: ignore[arg-type]

    def test_a_bad_file_stops_or_is_counted(self, files: list[Path], tmp_path: Path) -> None:
        files[2].write_bytes(b"no audio")
        with pytest.raises(DataError, match=r"2\.wav.*on_bad_file"):
            self.extract(files, tmp_path / "cache")
        assert not list((tmp_path / "cache").glob("*.npy"))  # nothing half-done is left
        extraction = self.extract(files, tmp_path / "cache", SKIPPING)
        assert extraction.counts["skipped"] == 1
        assert list(extraction.skipped) == ["2.wav"]
        assert np.isnan(extraction.features[2]).all()
        assert np.isfinite(extraction.features[[0, 1, 3]]).all()

    def test_short_and_long_files_are_counted(self, files: list[Path], tmp_path: Path) -> None:
        soundfile.write(files[0], noise(8000), 16000)
        soundfile.write(files[1], noise(24000), 16000)
        counts = self.extract(files, tmp_path / "cache").counts
        assert (counts["padded"], counts["cut"]) == (1, 1)


def test_band_statistics_are_numpys_and_leave_skipped_rows_out() -> None:
    features = np.random.default_rng(0).normal(-40, 10, (150, 20, 8)).astype(np.float32)
    features[:, :, 3] = 5.0
    mean, std = band_statistics(features)
    np.testing.assert_allclose(mean, features.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(std[:3], features.std((0, 1))[:3], rtol=1e-4)
    assert std[3] == 1
    with_skipped = np.concatenate([features, np.full((1, 20, 8), np.nan, np.float32)])
    np.testing.assert_array_equal(band_statistics(with_skipped)[0], mean)
    with pytest.raises(DataError, match="no training clip"):
        band_statistics(with_skipped[-1:])
