"""Prepared data sets: counts, labels and normalisation, determinism, and what stands in the way said clearly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile

from hpsed_lib import dataset, paths, tables
from hpsed_lib.data.manifest import UNUSED, what_was_done
from hpsed_lib.dataset import Dataset
from hpsed_lib.errors import DataError
from hpsed_lib.params import SPLITS, Experiment, FolderData, Variants, load_experiment, require_available
from hpsed_lib.runs import finish_run
from hpsed_lib.training import train

SR = 16000


class TestPrepared:
    def test_splits_have_their_counts_and_labels_and_the_training_clips_the_norm(self, tiny, tiny_dataset) -> None:
        for name in SPLITS:
            split, n_clips = getattr(tiny_dataset, name), getattr(tiny.data.n_clips, name)
            assert split.features.shape == (n_clips, 500, 80)
            assert split.features[:].dtype == np.float32
            assert tiny_dataset.report[name]["listed"] == tiny_dataset.report[name]["used"] == n_clips
            events = split.strong_labels
            assert ((events.onset >= 0) & (events.onset < events.offset) & (events.offset <= 10)).all()
            assert split.weak_target.shape == (n_clips, 17)
            for filename, target in zip(split.filenames, split.weak_target, strict=True):
                weak = {tiny_dataset.classes[column] for column in np.flatnonzero(target)}
                assert weak == set(events.event_label[events.filename == filename])
        np.testing.assert_allclose(tiny_dataset.mean, tiny_dataset.training.features[:].mean((0, 1)), rtol=1e-4)
        assert not np.allclose(tiny_dataset.mean, tiny_dataset.test.features[:].mean((0, 1)), rtol=1e-4)

    def test_the_same_parameters_give_the_same_data(self, tiny, tiny_dataset, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(paths, "ROOT", tmp_path)
        with pytest.raises(DataError, match="01_data_preparation"):
            dataset.load(tiny)
        again = dataset.prepare(tiny)
        assert again.checksum == tiny_dataset.checksum
        np.testing.assert_array_equal(again.test.features[:], tiny_dataset.test.features[:])
        shared = dataset.shared_sources(tiny).to_numpy()
        assert (np.diag(shared) > 0).all()
        assert shared.sum() == np.trace(shared)
        other = tiny.model_copy(update={"data": tiny.data.model_copy(update={"seed": 7})})
        assert dataset.prepare(other).checksum != tiny_dataset.checksum


def tone(seconds: float, sr: int = SR) -> np.ndarray:
    return 0.5 * librosa.tone(1000, sr=sr, duration=seconds)


class TestFolder:
    """The template for anyone's data, on a few clips of every kind; labels look like numbers, a name has a space."""

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(paths, "ROOT", tmp_path)
        folder = tmp_path / "mine"
        (folder / "audio").mkdir(parents=True)
        for name, seconds, sr in [("my a", 10, SR), ("b", 4, SR), ("c", 12, 44100), ("d", 10, SR), ("e", 10, SR)]:
            soundfile.write(folder / "audio" / f"{name}.wav", tone(seconds, sr), sr)
        (folder / "audio" / "bad.wav").write_text("no audio")
        for name, text in {
            "weak_training": "filename,event_label\nmy a.wav,001\nmy a.wav,2\nb.wav,2\nbad.wav,001\ngone.wav,2\n",
            "weak_validation": "filename,event_label\nc.wav,001\n",
            "strong_validation": "filename,onset,offset,event_label\nc.wav,1.0,2.5,001\n",
            "strong_test": "filename,onset,offset,event_label\nd.wav,0.0,3.0,2\nd.wav,4.0,4.0,001\ne.wav,,,\n",
        }.items():
            (folder / f"{name}.csv").write_text(text)
        return folder

    def prepared(self, folder: Path) -> Dataset:
        return dataset.prepare(load_experiment("folder"), data_folder=str(folder))

    def change(self, path: Path, old: str, new: str) -> None:
        path.write_text(path.read_text().replace(old, new))

    def test_splits_labels_and_counts_are_those_of_the_files(self, folder: Path) -> None:
        data = self.prepared(folder)
        assert data.classes == ("001", "2")
        assert data.training.filenames == ["my a.wav", "b.wav"]
        assert data.training.weak_target.tolist() == [[1, 1], [0, 1]]
        assert data.validation.filenames == ["c.wav"]
        assert data.tuning is data.validation
        assert data.tuning.strong_labels.to_numpy().tolist() == [["c.wav", 1.0, 2.5, "001"]]
        assert data.test.filenames == ["d.wav", "e.wav"]
        assert data.test.weak_target.tolist() == [[1, 1], [0, 0]]
        assert len(data.test.strong_labels) == 2
        wanted = {"listed": 4, "used": 2, "missing": 1, "unreadable": 1, "padded": 1}
        assert data.report["training"].items() >= wanted.items()
        assert data.report["validation"].items() >= {"resampled": 1, "cut": 1}.items()
        assert data.training.features.shape == (2, 500, 80)
        assert np.isfinite(data.training.features[:]).all()
        assert not data.stand_in

    def test_a_label_or_a_sound_that_changes_changes_the_checksums(self, folder: Path) -> None:
        first = self.prepared(folder)
        self.change(folder / "strong_test.csv", "0.0,3.0", "0.0,3.5")
        second = self.prepared(folder)
        assert (first.checksum != second.checksum, first.training_checksum) == (True, second.training_checksum)
        soundfile.write(folder / "audio" / "my a.wav", tone(9), SR)
        third = self.prepared(folder)
        assert second.training_checksum != third.training_checksum
        self.change(folder / "weak_training.csv", "b.wav,2", "b.wav,001")
        fourth = self.prepared(folder)
        assert len({data.training_checksum for data in (first, third, fourth)}) == 3
        assert len({data.checksum for data in (first, second, third, fourth)}) == 4

    def test_other_parameters_and_a_split_without_any_audio_are_errors(self, folder: Path) -> None:
        self.prepared(folder)
        experiment = load_experiment("folder")
        changed = experiment.features.model_copy(update={"fmin": 50.0})
        with pytest.raises(DataError, match="other parameters or other code; run notebook 01"):
            dataset.load(experiment.model_copy(update={"features": changed}))
        (folder / "audio" / "c.wav").unlink()
        with pytest.raises(DataError, match="no clip of the validation set has usable audio"):
            self.prepared(folder)


class TestTheFieldsFolders:
    """Small folders in the layouts of DESED and AudioSet, from what notebook 01 shows to the tables."""

    def write(self, folder: Path, files: dict[str, str]) -> None:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("sv"):
                (folder / name).write_text(text.replace(" ", "\t") if name.endswith("tsv") else text)
                continue
            soundfile.write(folder / name, tone(float(text)), SR)

    def table2(self, experiment: Experiment, data: Dataset) -> pd.Series:
        """What Table 2 says of one epoch of the smallest network."""
        variant: dict[str, Any] = {"pooling": "linear", "structure": "single", "seed": 0}
        smoke = load_experiment("smoke")
        pooling = smoke.pooling.model_copy(update={"functions": {"linear": Variants(structures=("single",), seeds=1)}})
        training = experiment.training.model_copy(update={"max_epochs": 1, "device": "cpu"})
        decoding = experiment.decoding.model_copy(update={} if data.tuning else {"threshold": 0.5})
        parts: dict[str, Any] = {
            "network": smoke.network,
            "pooling": pooling,
            "training": training,
            "decoding": decoding,
        }
        small = experiment.model_copy(update=parts)
        trained = train(small, data, folder=paths.cache_folder(small.name), **variant)
        finish_run(small, data, trained, **variant)
        tables.write_tables(small, tables.load_metrics(small), tables.tested_clips(small, data))
        [(_, row)] = pd.read_csv(paths.results_folder(small.name) / "tables" / "table2.csv").iterrows()
        assert (row.pooling, row.structure, row.n_seeds, row.experiment) == ("linear", "single", 1, small.name)
        assert 0 <= row.f_measure_percent <= 100
        assert row.error_rate_percent >= 0
        return row

    def test_desed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(paths, "ROOT", tmp_path)
        audio = {"train/weak/Ya.wav": "10", "train/weak/Yb.wav": "9", "validation/validation/Yc.wav": "10"}
        audio |= {"validation/validation/Yd.wav": "8", "eval/public/Ye.wav": "4", "eval/public/Yf.wav": "10"}
        strong = "filename onset offset event_label\n"
        tables = {
            "train/weak.tsv": "filename event_labels\nYa.wav Speech,Dog\nYb.wav Speech\nYgone.wav Cat\n",
            "validation/validation.tsv": f"{strong}Yc.wav 0.5 2.0 Cat\nYd.wav   \n",
            "eval/public.tsv": f"{strong}Ye.wav 1.0 8.0 Speech\nYf.wav   \n",
        }
        files = {f"audio/{name}": text for name, text in audio.items()}
        self.write(tmp_path / "DESED", files | {f"metadata/{name}": text for name, text in tables.items()})
        desed = load_experiment("desed")
        data = dataset.prepare(desed, data_folder=str(tmp_path / "DESED"))
        assert len(data.classes) == 10
        assert data.training.filenames == ["Ya.wav", "Yb.wav"]
        assert np.argwhere(data.training.weak_target).tolist() == [[0, 4], [0, 8], [1, 8]]
        assert data.tuning is data.validation
        assert np.argwhere(data.validation.weak_target).tolist() == [[0, 2]]
        assert data.test.strong_labels.to_numpy().tolist() == [["Ye.wav", 1.0, 8.0, "Speech"]]
        assert data.report["training"].items() >= {"listed": 3, "missing": 1, "padded": 1}.items()
        kinds = dataset.read_table(desed, "remarks").groupby("kind").message.agg(list)
        assert kinds.map(len).to_dict() == {
            "missing_audio": 1, "past_audio": 1, "same_audio": 2, "in_every_clip": 1, "no_test_event": 9
        }  # fmt: skip
        assert kinds["past_audio"][0].endswith(": Ye.wav, 1.0, 8.0, Speech")
        assert kinds["in_every_clip"][0].endswith(": Speech")
        assert kinds["same_audio"][1].endswith(": Yf.wav")
        table = what_was_done(data.report)
        assert table.loc["padded", ["training", "test"]].tolist() == [1, 1]
        assert tuple(table.loc["missing", ["what it is", "what was done"]]) == UNUSED["missing"]
        self.table2(desed, data)

    def test_audioset(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(paths, "ROOT", tmp_path)
        head = "# Segments\n# n=3\n# YTID, start_seconds, end_seconds, positive_labels\n"
        strong = "segment_id start_time_seconds end_time_seconds label\n"
        self.write(
            tmp_path / "AudioSet",
            {
                "weak.csv": f'{head}--a, 30.000, 40.000, "/m/1,/m/2"\n_b, 0.0, 10.0, "/m/2"\nc, 1.5, 11.5, "/m/1"\n',
                "strong.tsv": f"{strong}d-_0 0.000 2.500 /m/1\nd-_0 1.000 10.000 /m/2\n",
                **{f"wav/{name}": "10" for name in ("--a_30000.wav", "Y_b_0.flac", "x/c_1500.wav", "d-_0.wav")},
            },
        )
        folder, weak = load_experiment("folder"), {"training": "weak.csv", "validation": None}
        chosen = folder.data.model_dump() | {"audio": "wav", "weak_labels": weak}
        chosen["strong_labels"] = {"validation": None, "test": "strong.tsv"}
        folder = folder.model_copy(update={"data": FolderData.model_validate(chosen)})
        data = dataset.prepare(folder, data_folder=str(tmp_path / "AudioSet"))
        assert data.classes == ("/m/1", "/m/2")
        assert sorted(data.training.filenames + data.validation.filenames) == ["--a_30000", "_b_0", "c_1500"]
        assert (data.test.filenames, len(data.test.strong_labels)) == (["d-_0"], 2)
        self.table2(folder, data)


def test_data_must_be_named_and_be_there(tmp_path: Path) -> None:
    for name, message in {
        "paper": r"DATA=<the folder of it>.*dcase2017-audio",
        "folder": "DATA=<the folder of its audio and label files>",
        "esc10": "DATA=<its folder>, or DOWNLOAD=1",
    }.items():
        experiment = load_experiment(name)
        with pytest.raises(DataError, match=message):
            require_available(experiment)
        with pytest.raises(DataError, match="no such folder"):
            require_available(experiment, data_folder=str(tmp_path / "nowhere"))
        require_available(experiment, data_folder=str(tmp_path))
