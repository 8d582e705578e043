"""Recordings of ESC-10: both layouts, events cut out of them, folds, and the download, from a server on loopback."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import quote

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile
from loopback import Server
from scipy import stats

from hpsed_lib import dataset, paths
from hpsed_lib.data import download, recordings
from hpsed_lib.data.recordings import ESC10_NAMES, cut_event, download_esc10, find_recordings
from hpsed_lib.data.soundscapes import make_soundscapes, recorded_event
from hpsed_lib.errors import DataError
from hpsed_lib.params import load_experiment

SR = 16000
REGISTRY = recordings.ESC10_REGISTRY.read_text().splitlines()


def write_esc10(folder: Path, *, folds: range = range(1, 6), takes: str = "A") -> Path:
    """A folder in ESC-10's layout: one second of silence, 1.5 s of tone, silence; source numbers end in their fold."""
    for number, name in enumerate(ESC10_NAMES, start=1):
        (folder / f"{number:03d} - {name}").mkdir(parents=True)
        y = np.pad(0.5 * librosa.tone(200 * number, sr=SR, duration=1.5), SR)
        for path in [f"{fold}-{100 * number + fold}-{take}.ogg" for fold in folds for take in takes]:
            soundfile.write(folder / f"{number:03d} - {name}" / path, y, SR)
    return folder


def test_class_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        find_recordings(tmp_path / "nowhere", subset="esc10")
    with pytest.raises(DataError, match="neither class folders"):
        find_recordings(tmp_path, subset="esc10")
    found = find_recordings(write_esc10(tmp_path, takes="BA"), subset="esc10")
    assert len(found) == 100
    assert found == sorted(found, key=lambda recording: (recording.event_label, recording.path.name))
    assert {recording.event_label for recording in found} == set(ESC10_NAMES.values())
    assert all(recording.path.name.startswith(f"{recording.fold}-") for recording in found)
    (tmp_path / "001 - Dog bark" / "song.ogg").touch()
    with pytest.raises(DataError, match=r"song\.ogg: expected"):
        find_recordings(tmp_path, subset="esc10")


def write_esc50(folder: Path, names: list[str]) -> pd.DataFrame:
    """The table of a folder in ESC-50's layout with five recordings of each category, still without audio."""
    for inside in ("meta", "audio"):
        (folder / inside).mkdir(parents=True)
    rows = [(f"{fold}-{n}{fold}-A-{n}.wav", fold, name) for n, name in enumerate(names) for fold in range(1, 6)]
    table = pd.DataFrame(rows, columns=["filename", "fold", "category"])
    table.to_csv(folder / "meta" / "esc50.csv", index=False)
    return table


def test_table_and_audio(tmp_path: Path) -> None:
    names = [label.lower().replace(" ", "_") for label in ESC10_NAMES.values()] + ["mouse_click"]
    table = write_esc50(tmp_path, names)
    with pytest.raises(DataError, match=r"names .*which does not exist"):
        find_recordings(tmp_path, subset="esc10")
    for name in table.filename:
        (tmp_path / "audio" / name).touch()
    found = find_recordings(tmp_path, subset="esc10")
    assert (len(found), {one.event_label for one in found}) == (50, set(ESC10_NAMES.values()))
    with pytest.raises(DataError, match="esc50 has 50 classes, found 11"):
        find_recordings(tmp_path, subset="esc50")
    table.drop(columns="fold").to_csv(tmp_path / "meta" / "esc50.csv", index=False)
    with pytest.raises(DataError, match=r"lacks the column\(s\) fold"):
        find_recordings(tmp_path, subset="esc10")


def test_events_are_cut_where_the_sound_is(tmp_path: Path) -> None:
    found = find_recordings(write_esc10(tmp_path), subset="esc10")
    rng = np.random.default_rng(0)
    for shortest, longest, least, most in ((1.0, 5.0, 1.0, 2.0), (0.5, 1.0, 0.5, 1.0)):
        events = [cut_event(found[0], duration=(shortest, longest), sr=SR, rng=rng) for _ in range(20)]
        assert all(y is not None and least * SR <= len(y) <= most * SR for y in events)
    params = load_experiment("esc10").data.model_copy(update={"event_duration": (2.5, 5.0)})
    with pytest.raises(DataError, match=r"no recording of 'Dog' in folds \[5\]"):
        recorded_event("Dog", rng, params=params, recordings=found, split="test")


def test_every_source_is_used_alike_however_many_files_it_has(tmp_path: Path) -> None:
    first, *others = [one for one in find_recordings(write_esc10(tmp_path), subset="esc10") if one.event_label == "Dog"]
    params = load_experiment("esc10").data
    chosen, rng = {"params": params, "recordings": [*9 * [first], *others]}, np.random.default_rng(0)
    drawn = [recorded_event("Dog", rng, **chosen, split="training")[1] for _ in range(300)]
    times = pd.Series(drawn).value_counts()
    assert len(times) == 3
    assert stats.chisquare(times).pvalue > 0.01


def test_splits_take_their_own_folds(tmp_path: Path) -> None:
    data = load_experiment("esc10").data
    data = type(data).model_validate(data.model_dump() | {"n_clips": {"training": 6, "validation": 3, "test": 3}})
    found = find_recordings(write_esc10(tmp_path / "esc"), subset="esc10")
    clips = make_soundscapes(data, recordings=found, folder=tmp_path).clips
    for split, folds in data.folds.items():
        sources = {source for row in clips.sources[clips.split == split] for source in row.split()}
        assert sources
        assert {int(source) % 10 for source in sources} <= set(folds)


def test_esc50_mixes_every_class_of_a_folder_of_its_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for name in write_esc50(tmp_path / "ESC-50", [f"class_{number:02d}" for number in range(50)]).filename:
        soundfile.write(tmp_path / "ESC-50" / "audio" / name, 0.3 * rng.standard_normal(SR), SR)
    experiment = load_experiment("esc50")
    few = type(experiment.data.n_clips)(training=60, validation=3, test=3)
    small = experiment.model_copy(update={"data": experiment.data.model_copy(update={"n_clips": few})})
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    data = dataset.prepare(small, data_folder=str(tmp_path / "ESC-50"))
    assert data.classes == tuple(f"Class {number:02d}" for number in range(50))
    assert data.training.weak_target.sum(axis=1).min() >= 1
    assert (data.training.weak_target.sum(axis=0) > 0).mean() > 0.5


def test_the_real_recordings_are_the_published_ones(esc10_folder: Path) -> None:
    found = find_recordings(esc10_folder, subset="esc10")
    table = pd.DataFrame([(one.source, one.fold) for one in found], columns=["source", "fold"])
    assert table.fold.value_counts().to_dict() == dict.fromkeys(range(1, 6), 80)
    assert (table.groupby("source").fold.nunique() == 1).all()
    assert len({line.split("  ")[1] for line in REGISTRY}) == len(found) == 400
    for recording in found[::20]:
        checksum = hashlib.sha256(recording.path.read_bytes()).hexdigest()
        assert f"{checksum}  {recording.path.relative_to(esc10_folder)}" in REGISTRY
    rng = np.random.default_rng(0)
    events = [cut_event(recording, duration=(0.5, 5.0), sr=SR, rng=rng) for recording in found[::8]]
    assert sum(y is not None for y in events) > 0.7 * len(events)


def test_download_brings_what_is_not_there_and_refuses_another_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published, folder = write_esc10(tmp_path / "published", folds=range(1, 2)), tmp_path / "ESC-10"
    files = {str(path.relative_to(published)): path.read_bytes() for path in published.glob("*/*.ogg")}
    server.files = {quote(name): content for name, content in files.items()}
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in files.items()]
    (tmp_path / "registry.txt").write_text("\n".join(lines))
    monkeypatch.setattr(recordings, "ESC10_URL", server.address)
    monkeypatch.setattr(recordings, "ESC10_REGISTRY", tmp_path / "registry.txt")
    monkeypatch.setattr(download, "RETRIES", 0)
    found = find_recordings(download_esc10(folder), subset="esc10")
    assert len(found) == len(server.requests) == 10
    found[3].path.unlink()
    assert find_recordings(download_esc10(folder), subset="esc10") == found
    gone = quote(str(found[3].path.relative_to(folder)))
    assert [path for _, path, _ in server.requests[10:]] == [gone]
    found[3].path.unlink()
    server.files[gone] = b"something else"
    with pytest.raises(DataError, match=rf"{gone}: could not be fetched"):
        download_esc10(folder)
