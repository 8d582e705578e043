"""Soundscapes, recordings and data sets: exact labels, disjoint splits, determinism, clear errors."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from hpsed_lib import dataset, paths
from hpsed_lib.data import recordings, soundscapes
from hpsed_lib.data.recordings import ESC10_NAMES, Recording, cut_event, download_esc10, find_recordings
from hpsed_lib.data.soundscapes import Event, merge_overlaps, mix
from hpsed_lib.dataset import Dataset
from hpsed_lib.errors import DataError
from hpsed_lib.params import SPLITS, Experiment, load_experiment, require_available

SR = 16000


def burst(seconds: float, frequency: float = 1000.0, sr: int = SR) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * sr)) / sr)).astype(np.float32)


def mix_params(**changes: object):  # type: ignore[no-untyped-def]
    return load_experiment("quick").data.model_copy(update={"cooccurrence": 0.0, **changes})


class TestMix:
    def draw(self, label: str, rng: np.random.Generator) -> Event:
        return Event(burst(1.0, {"low": 500.0, "high": 4000.0}[label]), label, label)

    def test_labels_are_where_the_sound_is(self) -> None:
        params = mix_params(snr=(30.0, 30.0), n_events=(1, 1))
        for seed in range(20):
            y, events, sources = mix(params, self.draw, classes=("low", "high"), rng=np.random.default_rng(seed))
            [(onset, offset, label)] = events
            assert sources == [label]
            power = y.astype(float) ** 2
            inside = power[round(onset * SR) : round(offset * SR)].mean()
            outside = np.concatenate([power[: round(onset * SR)], power[round(offset * SR) :]]).mean()
            assert inside > 300 * outside
            assert offset - onset == pytest.approx(1.0)
            assert offset <= 10.0

    @pytest.mark.parametrize("snr", [0.0, 10.0, 20.0])
    def test_the_ratio_of_event_to_background_is_the_one_asked_for(self, snr: float) -> None:
        params = mix_params(snr=(snr, snr), n_events=(1, 1))
        y, [(onset, offset, _)], _ = mix(params, self.draw, classes=("low",), rng=np.random.default_rng(3))
        power = y.astype(float) ** 2
        inside = slice(round(onset * SR), round(offset * SR))
        background = np.delete(power, np.arange(inside.start, inside.stop)).mean()
        assert 10 * np.log10(power[inside].mean() / background - 1) == pytest.approx(snr, abs=1.5)

    def test_no_event_is_background_alone(self) -> None:
        params = mix_params(n_events=(0, 1))
        rng = np.random.default_rng(0)
        drawn = [mix(params, self.draw, classes=("low",), rng=rng) for _ in range(30)]
        counts = {len(events) for _, events, _ in drawn}
        assert counts == {0, 1}
        assert all(np.isfinite(y).all() and np.abs(y).max() <= 0.91 for y, _, _ in drawn)

    def test_companions_sound_at_the_same_time(self) -> None:
        params = mix_params(cooccurrence=1.0, n_events=(1, 1))
        label, companion = next(iter(soundscapes.COMPANIONS.items()))

        def draw(event_label: str, rng: np.random.Generator) -> Event:
            return Event(burst(1.0), event_label, event_label)

        _, events, _ = mix(params, draw, classes=(label,), rng=np.random.default_rng(0))
        assert {event[2] for event in events} == {label, companion}
        assert max(event[0] for event in events) < min(event[1] for event in events)

    def test_companions_are_classes(self) -> None:
        known = set(soundscapes.synthesis.CLASSES)
        assert set(soundscapes.COMPANIONS) | set(soundscapes.COMPANIONS.values()) <= known


def test_merging_keeps_exactly_the_active_time() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        onsets = rng.integers(0, 80, 8)
        events = [(float(a), float(a + rng.integers(1, 20)), rng.choice(["a", "b"])) for a in onsets]
        merged = merge_overlaps(events)
        for label in ("a", "b"):
            before, after = np.zeros(100, bool), np.zeros(100, int)
            for onset, offset, name in events:
                before[int(onset) : int(offset)] |= name == label
            for onset, offset, name in merged:
                after[int(onset) : int(offset)] += name == label
            np.testing.assert_array_equal(before, after > 0)
            assert after.max(initial=0) <= 1


class TestPreparedData:
    def test_shapes_and_counts(self, tiny: Experiment, tiny_dataset: Dataset) -> None:
        for name in SPLITS:
            split = getattr(tiny_dataset, name)
            n_clips = getattr(tiny.data.n_clips, name)  # type: ignore[union-attr]
            assert split.features.shape == (n_clips, 500, 80)
            assert split.features[:].dtype == np.float32
            assert split.weak_target.shape == (n_clips, 17)
            assert tiny_dataset.report[name]["listed"] == tiny_dataset.report[name]["used"] == n_clips

    def test_weak_labels_are_those_of_the_strong_ones(self, tiny_dataset: Dataset) -> None:
        for name in SPLITS:
            split = getattr(tiny_dataset, name)
            for row, filename in enumerate(split.filenames):
                strong = set(split.strong_labels.event_label[split.strong_labels.filename == filename])
                weak = {tiny_dataset.classes[column] for column in np.nonzero(split.weak_target[row])[0]}
                assert weak == strong

    def test_strong_labels_lie_in_the_clip(self, tiny_dataset: Dataset) -> None:
        for name in SPLITS:
            events = getattr(tiny_dataset, name).strong_labels
            assert (events.onset >= 0).all()
            assert (events.onset < events.offset).all()
            assert (events.offset <= 10).all()

    def test_normalisation_is_of_the_training_clips(self, tiny_dataset: Dataset) -> None:
        np.testing.assert_allclose(tiny_dataset.mean, tiny_dataset.training.features[:].mean((0, 1)), rtol=1e-4)
        assert not np.allclose(tiny_dataset.mean, tiny_dataset.test.features[:].mean((0, 1)), rtol=1e-4)

    def test_the_same_parameters_give_the_same_data(
        self, tiny: Experiment, tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(paths, "ROOT", tmp_path)
        again = dataset.prepare(tiny)
        assert again.checksum == tiny_dataset.checksum
        np.testing.assert_array_equal(again.test.features[:], tiny_dataset.test.features[:])
        shared = dataset.shared_sources(tiny).to_numpy()
        assert (np.diag(shared) > 0).all()
        assert shared.sum() == np.trace(shared)
        other = tiny.model_copy(update={"data": tiny.data.model_copy(update={"seed": 7})})
        assert dataset.prepare(other).checksum != tiny_dataset.checksum

    def test_loading_before_preparing_names_the_notebook(
        self, tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(paths, "ROOT", tmp_path)
        with pytest.raises(DataError, match="01_data_preparation"):
            dataset.load(tiny)


class TestFolder:
    """The template for anyone's data, on a folder of a few clips of every kind."""

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(paths, "ROOT", tmp_path)
        (tmp_path / "mine" / "audio").mkdir(parents=True)
        for name, seconds, rate in [
            ("a", 10.0, SR),
            ("b", 4.0, SR),
            ("c", 12.0, 44100),
            ("d", 10.0, SR),
            ("e", 10.0, SR),
        ]:
            soundfile.write(tmp_path / "mine" / "audio" / f"{name}.wav", burst(seconds, sr=rate), rate)
        (tmp_path / "mine" / "audio" / "bad.wav").write_text("no audio")
        for name, text in {
            "weak_training": "filename,event_label\na.wav,Dog\na.wav,Rain\nb.wav,Rain\nbad.wav,Dog\ngone.wav,Rain\n",
            "weak_validation": "filename,event_label\nc.wav,Dog\n",
            "strong_validation": "filename,onset,offset,event_label\nc.wav,1.0,2.5,Dog\n",
            "strong_test": "filename,onset,offset,event_label\nd.wav,0.0,3.0,Rain\nd.wav,4.0,4.0,Dog\ne.wav,,,\n",
        }.items():
            (tmp_path / "mine" / f"{name}.csv").write_text(text)
        return tmp_path / "mine"

    def test_splits_labels_and_counts_are_those_of_the_files(self, folder: Path) -> None:
        data = dataset.prepare(load_experiment("folder"), data_folder=str(folder))
        assert data.classes == ("Dog", "Rain")
        assert data.training.filenames == ["a.wav", "b.wav"]
        assert data.training.weak_target.tolist() == [[1, 1], [0, 1]]
        assert data.validation.filenames == ["c.wav"]
        assert data.tuning is data.validation
        assert data.tuning.strong_labels.to_dict("records") == [
            {"filename": "c.wav", "onset": 1.0, "offset": 2.5, "event_label": "Dog"}
        ]
        assert data.test.filenames == ["d.wav", "e.wav"]
        assert data.test.weak_target.tolist() == [[1, 1], [0, 0]]
        assert len(data.test.strong_labels) == 2
        training = data.report["training"]
        assert (training["listed"], training["used"], training["missing"], training["unreadable"]) == (4, 2, 1, 1)
        assert training["padded"] == 1
        assert (data.report["validation"]["resampled"], data.report["validation"]["cut"]) == (1, 1)
        assert data.training.features.shape == (2, 500, 80)
        assert np.isfinite(data.training.features[:]).all()
        assert not data.stand_in

    def test_a_label_or_a_sound_that_changes_changes_the_checksums(self, folder: Path) -> None:
        experiment = load_experiment("folder")
        first = dataset.prepare(experiment, data_folder=str(folder))
        (folder / "strong_test.csv").write_text("filename,onset,offset,event_label\nd.wav,0.0,3.5,Rain\ne.wav,,,\n")
        second = dataset.prepare(experiment, data_folder=str(folder))
        assert (first.checksum != second.checksum, first.training_checksum) == (True, second.training_checksum)
        soundfile.write(folder / "audio" / "a.wav", burst(9.0), SR)
        third = dataset.prepare(experiment, data_folder=str(folder))
        assert second.training_checksum != third.training_checksum
        weak = (folder / "weak_training.csv").read_text()
        (folder / "weak_training.csv").write_text(weak.replace("b.wav,Rain", "b.wav,Dog"))
        fourth = dataset.prepare(experiment, data_folder=str(folder))
        assert len({data.training_checksum for data in (first, third, fourth)}) == 3
        assert len({data.checksum for data in (first, second, third, fourth)}) == 4

    def test_labels_that_look_like_numbers_stay_text(self, folder: Path) -> None:
        for path in folder.glob("*.csv"):
            path.write_text(path.read_text().replace("Dog", "001").replace("Rain", "2"))
        data = dataset.prepare(load_experiment("folder"), data_folder=str(folder))
        assert data.classes == ("001", "2")
        assert data.training.weak_target.tolist() == [[1, 1], [0, 1]]
        assert set(data.test.strong_labels.event_label) == {"001", "2"}

    def test_file_names_with_spaces_share_nothing(self, folder: Path) -> None:
        for name in "ade":
            (folder / "audio" / f"{name}.wav").rename(folder / "audio" / f"my clip {name}.wav")
        for path in folder.glob("*.csv"):
            text = path.read_text()
            for name in "ade":
                text = text.replace(f"{name}.wav", f"my clip {name}.wav") if f"\n{name}.wav" in text else text
            path.write_text(text)
        dataset.prepare(load_experiment("folder"), data_folder=str(folder))
        shared = dataset.shared_sources(load_experiment("folder")).to_numpy()
        assert (shared == np.diag(np.diag(shared))).all()

    def test_a_recording_that_could_not_be_read_is_tried_again(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = folder / "audio" / "a.wav"
        content, stat = path.read_bytes(), path.stat()
        path.write_bytes(b"x" * len(content))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        first = dataset.prepare(load_experiment("folder"), data_folder=str(folder))
        assert first.training.filenames == ["b.wav"]
        path.write_bytes(content)  # of the same size and time
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        second = dataset.prepare(load_experiment("folder"), data_folder=str(folder))
        assert second.training.filenames == ["a.wav", "b.wav"]

    def test_features_of_other_parameters_are_not_taken_for_these(self, folder: Path) -> None:
        experiment = load_experiment("folder")
        dataset.prepare(experiment, data_folder=str(folder))
        changed = experiment.features.model_copy(update={"fmin": 50.0})
        with pytest.raises(DataError, match="other parameters or other code; run notebook 01"):
            dataset.load(experiment.model_copy(update={"features": changed}))

    def test_a_split_without_any_audio_is_an_error(self, folder: Path) -> None:
        (folder / "audio" / "c.wav").unlink()
        with pytest.raises(DataError, match="no clip of the validation set has usable audio"):
            dataset.prepare(load_experiment("folder"), data_folder=str(folder))


class TestAvailability:
    def test_the_papers_audio_must_be_somewhere(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"DATA=<the folder of it>.*dcase2017-audio"):
            require_available(load_experiment("paper"))
        require_available(load_experiment("paper"), data_folder=str(tmp_path))

    def test_a_folder_of_ones_own_must_be_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="DATA=<the folder of its audio and label files>"):
            require_available(load_experiment("folder"))
        with pytest.raises(DataError, match="no such folder"):
            require_available(load_experiment("folder"), data_folder=str(tmp_path / "none"))

    def test_recordings_must_be_named_or_fetched(self, tmp_path: Path) -> None:
        esc10 = load_experiment("esc10")
        with pytest.raises(DataError, match="DATA=<its folder>, or DOWNLOAD=1"):
            require_available(esc10)
        with pytest.raises(DataError, match="no such folder"):
            require_available(esc10, data_folder=str(tmp_path / "nowhere"))
        require_available(esc10, data_folder=str(tmp_path))


def write_esc10(folder: Path, *, folds: range = range(1, 6), takes: str = "A") -> None:
    """A folder in ESC-10's layout: one second of silence, 1.5 s of tone, silence."""
    for number, name in enumerate(ESC10_NAMES, start=1):
        class_folder = folder / f"{number:03d} - {name}"
        class_folder.mkdir(parents=True)
        for fold in folds:
            for take in takes:
                y = np.concatenate([np.zeros(SR), burst(1.5, 200.0 * number), np.zeros(SR)])
                soundfile.write(class_folder / f"{fold}-{100 * number + fold}-{take}.ogg", y, SR)


class TestRecordings:
    def test_class_folders(self, tmp_path: Path) -> None:
        write_esc10(tmp_path)
        found = find_recordings(tmp_path, subset="esc10")
        assert len(found) == 50
        assert {recording.event_label for recording in found} == set(ESC10_NAMES.values())
        assert all(recording.path.name.startswith(f"{recording.fold}-") for recording in found)

    def test_table_and_audio(self, tmp_path: Path) -> None:
        (tmp_path / "meta").mkdir()
        (tmp_path / "audio").mkdir()
        names = [label.lower().replace(" ", "_") for label in ESC10_NAMES.values()] + ["mouse_click"]
        rows = [
            {"filename": f"{fold}-{target}-A-{target}.wav", "fold": fold, "target": target, "category": name}
            for target, name in enumerate(names)
            for fold in range(1, 6)
        ]
        pd.DataFrame(rows).to_csv(tmp_path / "meta" / "esc50.csv", index=False)
        with pytest.raises(DataError, match=r"names .*which does not exist"):
            find_recordings(tmp_path, subset="esc10")
        for row in rows:
            soundfile.write(tmp_path / "audio" / str(row["filename"]), burst(0.1), SR)
        found = find_recordings(tmp_path, subset="esc10")
        assert len(found) == 50
        assert {recording.event_label for recording in found} == set(ESC10_NAMES.values())
        with pytest.raises(DataError, match="esc50 has 50 classes, found 11"):
            find_recordings(tmp_path, subset="esc50")

    def test_what_is_neither_layout_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="neither class folders"):
            find_recordings(tmp_path, subset="esc10")
        (tmp_path / "music").mkdir()
        (tmp_path / "music" / "song.ogg").touch()
        with pytest.raises(DataError, match=r"song\.ogg: expected"):
            find_recordings(tmp_path, subset="esc10")
        with pytest.raises(DataError, match="no such folder"):
            find_recordings(tmp_path / "nowhere", subset="esc10")

    def test_events_are_cut_where_the_sound_is(self, tmp_path: Path) -> None:
        write_esc10(tmp_path, folds=range(1, 2))
        recording = find_recordings(tmp_path, subset="esc10")[0]
        rng = np.random.default_rng(0)
        whole = cut_event(recording, duration=(1.0, 5.0), sr=SR, rng=rng)
        assert whole is not None
        assert len(whole) / SR == pytest.approx(1.5, abs=0.5)
        lengths = [cut_event(recording, duration=(0.5, 1.0), sr=SR, rng=rng) for _ in range(20)]
        assert all(y is not None and 0.5 * SR <= len(y) <= 1.0 * SR for y in lengths)
        assert cut_event(recording, duration=(2.5, 5.0), sr=SR, rng=rng) is None

    def test_a_class_without_usable_events_is_an_error(self, tmp_path: Path) -> None:
        write_esc10(tmp_path)
        params = load_experiment("esc10").data.model_copy(update={"event_duration": (2.5, 5.0)})
        draw = soundscapes.recorded_source(params, find_recordings(tmp_path, subset="esc10"), split="test")
        with pytest.raises(DataError, match=r"no recording of 'Dog' in folds \[5\]"):
            draw("Dog", np.random.default_rng(0))

    def test_splits_take_their_own_folds(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_esc10(tmp_path / "esc")
        monkeypatch.setattr(paths, "ROOT", tmp_path)
        experiment = load_experiment("esc10")
        counts = {"n_clips": {"training": 12, "validation": 6, "test": 6}}
        data = type(experiment.data).model_validate({**experiment.data.model_dump(), **counts})
        experiment = experiment.model_copy(update={"data": data})
        dataset.prepare(experiment, data_folder=str(tmp_path / "esc"))
        clips = pd.read_csv(tmp_path / "cache" / "esc10" / "clips.csv")
        for split, folds in experiment.data.folds.items():  # type: ignore[union-attr]
            used = {int(name) % 10 for row in clips.sources[clips.split == split] for name in row.split()}
            assert used <= set(folds)  # the last digit of our numbers is the fold
        shared = dataset.shared_sources(experiment).to_numpy()
        assert shared.sum() == np.trace(shared)

    def test_the_real_recordings_load_and_are_the_published_ones(self, esc10_folder: Path) -> None:
        found = find_recordings(esc10_folder, subset="esc10")
        assert len(found) == 400
        assert pd.Series([recording.fold for recording in found]).value_counts().to_list() == [80] * 5
        sources = pd.DataFrame([(r.path.name.split("-")[1], r.fold) for r in found], columns=["source", "fold"])
        assert (sources.groupby("source").fold.nunique() == 1).all()
        checksums = dict(reversed(line.split("  ", 1)) for line in recordings.ESC10_REGISTRY.read_text().splitlines())  # type: ignore[misc]
        for recording in found[::20]:
            name = str(recording.path.relative_to(esc10_folder))
            assert hashlib.sha256(recording.path.read_bytes()).hexdigest() == checksums[name]

    def test_most_real_recordings_have_an_event(self, esc10_folder: Path) -> None:
        rng = np.random.default_rng(0)
        found = find_recordings(esc10_folder, subset="esc10")[::8]
        events = [cut_event(recording, duration=(0.5, 5.0), sr=SR, rng=rng) for recording in found]
        assert sum(y is not None for y in events) > 0.7 * len(found)


class TestDownload:
    """Against a server on this machine's loopback address."""

    @pytest.fixture
    def server(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        folder = tmp_path / "published"
        write_esc10(folder, folds=range(1, 2))

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *arguments: object) -> None:
                pass

        handler = functools.partial(Handler, directory=str(folder))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
            threading.Thread(target=running.serve_forever, daemon=True).start()
            files = sorted(folder.glob("*/*.ogg"))
            lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(folder)}" for f in files]
            registry = tmp_path / "registry.txt"
            registry.write_text("\n".join(lines))
            monkeypatch.setattr(recordings, "ESC10_URL", f"http://127.0.0.1:{running.server_port}/")
            monkeypatch.setattr(recordings, "ESC10_REGISTRY", registry)
            yield folder
            running.shutdown()

    def test_every_file_comes_and_what_is_there_stays(self, server: Path, tmp_path: Path) -> None:
        target = tmp_path / "ESC-10"
        download_esc10(target)
        assert len(find_recordings(target, subset="esc10")) == 10
        first = min(target.glob("*/*.ogg"))
        stamp = first.stat().st_mtime_ns
        sorted(target.glob("*/*.ogg"))[3].unlink()
        download_esc10(target)
        assert len(find_recordings(target, subset="esc10")) == 10
        assert first.stat().st_mtime_ns == stamp

    def test_another_file_than_the_published_one_is_refused(
        self, server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(recordings, "DOWNLOAD_RETRIES", 0)
        min(server.glob("*/*.ogg")).write_bytes(b"something else")
        with pytest.raises(DataError, match=r"001%20-%20.*could not be fetched"):
            download_esc10(tmp_path / "ESC-10")


def test_the_registry_lists_all_of_esc10() -> None:
    lines = recordings.ESC10_REGISTRY.read_text().splitlines()
    assert len(lines) == 400
    assert len({line.split("  ", 1)[0] for line in lines}) >= 399
    assert all(len(line.split("  ", 1)[0]) == 64 for line in lines)


def test_recordings_are_sorted(tmp_path: Path) -> None:
    write_esc10(tmp_path, takes="BA")
    found = find_recordings(tmp_path, subset="esc10")
    assert found == sorted(found, key=lambda r: (r.event_label, r.path.name))
    assert isinstance(found[0], Recording)
