"""Audio of every kind becomes exactly 500 frames, and the values are librosa's."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile

from hpsed_lib.bench.features import PARAMS, librosa_log_mel
from hpsed_lib.data.audio import read_audio
from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.features import Spectrograms, band_statistics, extract, feature_file, log_mel
from hpsed_lib.params import Features


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


@pytest.mark.parametrize("sr", [8000, 16000, 22050, 32000, 44100, 48000])
def test_values_agree_with_librosa(sr):
    y = noise(10 * sr)
    ours = log_mel(y, sr=sr, params=PARAMS)
    assert ours.shape == (500, 80)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, librosa_log_mel(y, sr), atol=1e-4, rtol=0)


@pytest.mark.parametrize("sr", [8000, 11025, 12345, 44100, 47999])
@pytest.mark.parametrize("duration", [10.0, 0.02, 3.34])
def test_the_number_of_frames_does_not_depend_on_the_rate(sr, duration):
    assert len(log_mel(noise(round(duration * sr)), sr=sr, params=PARAMS)) == round(duration / 0.02)


@pytest.mark.parametrize("sr", [11025, 16000, 44100])
def test_a_click_is_loudest_in_the_frames_of_its_own_time_and_silence_is_the_floor(sr):
    y = np.zeros(2 * sr, dtype=np.float32)
    y[int(1.01 * sr)] = 1.0  # the middle of slot 50
    level = log_mel(y, sr=sr, params=PARAMS).mean(axis=1)
    assert level.argmax() == 50
    assert level[49] == pytest.approx(level[51], abs=1.0)
    assert (level[:48] == -100).all()
    assert (level[53:] == -100).all()


@pytest.mark.parametrize("change", [{"n_mels": 5000}, {"fmax": 16000.0}])
def test_bands_without_a_bin_are_refused(change):
    with pytest.raises(ParameterError, match="bands some hold no bin"):
        log_mel(noise(8000), sr=16000, params=PARAMS.model_copy(update=change))


class TestReadAudio:
    def test_stereo_is_averaged_short_is_padded_and_long_is_cut(self, tmp_path):
        left, right = noise(16000, 1), noise(16000, 2)
        soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000, subtype="FLOAT")
        y = (left + right) / 2
        for duration, padded, cut in ((None, False, False), (1.5, True, False), (0.5, False, True)):
            audio = read_audio(tmp_path / "a.wav", sr=16000, duration=duration)
            expected = np.pad(y, (0, 8000))[: round(16000 * (duration or 1))]
            np.testing.assert_allclose(audio.y, expected, atol=1e-7)
            assert (audio.mixed_down, audio.resampled, audio.padded, audio.cut) == (True, False, padded, cut)

    @pytest.mark.parametrize("native", [8000, 22050, 44100, 48000])
    def test_another_rate_keeps_pitch_and_length(self, tmp_path, native):
        soundfile.write(tmp_path / "a.wav", 0.5 * librosa.tone(1000, sr=native, duration=2), native, subtype="FLOAT")
        audio = read_audio(tmp_path / "a.wav", sr=16000, duration=2.0)
        assert np.abs(np.fft.rfft(audio.y)).argmax() == 2000  # bins of 0.5 Hz
        assert len(audio.y) == 32000
        assert (audio.mixed_down, audio.resampled, audio.padded, audio.cut) == (False, True, False, False)

    def test_what_cannot_be_used_is_named(self, tmp_path):
        (tmp_path / "empty.wav").touch()
        (tmp_path / "text.wav").write_bytes(b"this is text, no audio" * 50)
        soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
        soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 16000, subtype="FLOAT")
        unreadable = dict.fromkeys(("empty", "text", "missing"), "cannot be read as audio")
        for name, message in (unreadable | {"none": "holds no sample", "nan": "holds values that are not fin"}).items():
            with pytest.raises(DataError, match=rf"{name}\.wav: {message}"):
                read_audio(tmp_path / f"{name}.wav", sr=16000)

    @pytest.mark.parametrize(("level", "silent"), [(0.0, True), (0.0005, False)])
    def test_silence_is_told_from_a_soft_sound(self, tmp_path, level, silent):
        soundfile.write(tmp_path / "a.wav", level * np.ones(16000), 16000)
        assert read_audio(tmp_path / "a.wav", sr=16000).silent is silent


class TestExtract:
    @pytest.fixture
    def files(self, tmp_path):
        for index in range(4):
            soundfile.write(tmp_path / f"{index}.wav", noise(16000, index), 16000, subtype="FLOAT")
        return {f"{index}.wav": tmp_path / f"{index}.wav" for index in range(4)}

    def extract(self, files: dict, folder: Path, params: Features = PARAMS) -> tuple[pd.DataFrame, np.ndarray]:
        manifest = extract(files, cache=folder / "set", sr=16000, duration=1.0, params=params)
        path = feature_file(folder / "set", list(files), sr=16000, duration=1.0, params=params)
        return manifest, Spectrograms(path, np.arange(len(files)))[:]

    def spoil(self, path: Path) -> None:
        """Make a recording unreadable in such a way that nobody who looks at size and time would notice."""
        stat = path.stat()
        path.write_bytes(b"x" * stat.st_size)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    def test_rows_are_the_files_in_order(self, files, tmp_path):
        backwards = dict(reversed(files.items()))
        manifest, features = self.extract(backwards, tmp_path / "cache")
        assert list(manifest.filename) == list(backwards)
        assert set(manifest.state) == {"present"}
        assert not manifest[["truncated", "silent", "resampled", "mixed_down", "padded", "cut"]].any(axis=None)
        for row, path in zip(features, backwards.values(), strict=True):
            y = soundfile.read(path, dtype="float32")[0]
            np.testing.assert_allclose(row, log_mel(y, sr=16000, params=PARAMS), atol=1e-4)
        for row in manifest.itertuples():
            content = files[row.filename].read_bytes()
            assert (row.sha256, row.n_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
            assert (row.duration, row.sample_rate) == (1.0, 16000)

    def test_nothing_finished_is_done_again(self, files, tmp_path):
        """Neither after a kill, which leaves a journal that ends within a line, nor if all is finished."""
        first = self.extract(files, tmp_path / "cache")
        [journal] = (tmp_path / "cache").glob("*.csv")
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text("".join(lines[:3]) + lines[3][:20])
        for n_finished in (2, 4):
            for path in list(files.values())[:n_finished]:
                self.spoil(path)
            again = self.extract(files, tmp_path / "cache")
            pd.testing.assert_frame_equal(first[0], again[0])
            np.testing.assert_array_equal(first[1], again[1])
        other, _ = self.extract(files, tmp_path / "cache", PARAMS.model_copy(update={"fmin": 50.0}))
        assert set(other.state) == {"unreadable"}  # other parameters: all is done again
        assert len(list((tmp_path / "cache").glob("*.npy"))) == 1  # and the old file is gone

    def test_a_recording_that_changes_comes_or_goes_is_noticed(self, files, tmp_path):
        files["3.wav"] = None
        first, features = self.extract(files, tmp_path / "cache")
        assert list(first.state) == ["present", "present", "present", "missing"]
        assert (features[3] == 0).all()
        files["3.wav"] = tmp_path / "3.wav"
        soundfile.write(files["1.wav"], noise(8000, 7), 16000)
        files["0.wav"].unlink()
        self.spoil(files["2.wav"])
        second, again = self.extract(files, tmp_path / "cache")
        assert list(second.state) == ["missing", "present", "present", "present"]
        assert list(second.padded) == [False, True, False, False]
        assert first.sha256[1] != second.sha256[1]
        np.testing.assert_array_equal(features[2], again[2])
        assert (features[1] != again[1]).any()
        assert again[3].std() > 1
        sound = files["3.wav"].read_bytes()
        files["3.wav"].write_bytes(b"x" * len(sound))
        stat = files["3.wav"].stat()
        third, _ = self.extract(files, tmp_path / "cache")
        assert "3.wav: cannot be read as audio" in third.reason[3]
        files["3.wav"].write_bytes(sound)  # mended, and nobody who looks at size and time would notice
        os.utime(files["3.wav"], ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert self.extract(files, tmp_path / "cache")[0].state[3] == "present"

    def test_a_disk_that_is_too_small_is_named_before_anything_is_done(self, files, tmp_path, monkeypatch):
        free = 4 * 50 * 80 * 4  # bytes of four clips
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free - 1))
        with pytest.raises(DataError, match="features of 4 clips of set need"):
            self.extract(files, tmp_path / "cache")
        assert not list((tmp_path / "cache").glob("*.npy"))
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
        self.extract(files, tmp_path / "cache")


def test_a_write_that_is_cut_short_is_an_error(tmp_path):
    """A limit on file sizes stands in for the disk: the system takes a part of a row, and says how much, no more."""
    soundfile.write(tmp_path / "a.wav", noise(16000), 16000)
    (tmp_path / "features.npy").touch()
    script = f"""
import resource, signal, sys
from pathlib import Path
from hpsed_lib.features import _extract_one
from hpsed_lib.params import Features
params, folder = Features(**{PARAMS.model_dump()!r}), Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
print(_extract_one(folder / "a.wav", 16000, 1.0, params, folder / "features.npy", 0)["state"])
"""
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (tmp_path / "features.npy").stat().st_size == 10_000
    assert "File too large" in ended.stderr
    assert ended.stdout == ""


def test_spectrograms_index_like_the_array_they_stand_for(tmp_path):
    array = np.random.default_rng(0).normal(size=(6, 5, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", array)
    rows = np.array([4, 0, 5])
    spectrograms = Spectrograms(tmp_path / "a.npy", rows)
    assert len(spectrograms) == 3
    assert spectrograms.shape == (3, 5, 3)
    for index in (1, -1, slice(None), slice(1, 3), np.array([2, 2, 0])):
        np.testing.assert_array_equal(spectrograms[index], array[rows][index])


def test_band_statistics_are_numpys():
    features = np.random.default_rng(0).normal(-40, 10, (150, 20, 8)).astype(np.float32)
    features[:, :, 3] = 5.0
    mean, std = band_statistics(features)
    np.testing.assert_allclose(mean, features.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(std[:3], features.std((0, 1))[:3], rtol=1e-4)
    assert std[3] == 1
    with pytest.raises(DataError, match="no training clip"):
        band_statistics(features[:0])
