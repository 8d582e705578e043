"""DCASE 2017 Task 4: the published label files against the csv module, and small ones like them in every situation."""

import csv
import hashlib
import itertools
from collections import Counter
from pathlib import Path

import pytest

from hpsed_lib import paths
from hpsed_lib.data import download
from hpsed_lib.data.dcase2017 import labels as dcase2017
from hpsed_lib.data.dcase2017.labels import CLASSES, STRONG_FILES, WEAK_FILES, clip_names, list_dcase2017
from hpsed_lib.data.label_audit import STRONG
from hpsed_lib.data.labels import Listing, read_labels
from hpsed_lib.errors import DataError
from hpsed_lib.params import Dcase2017Data, load_experiment

TRAINING = WEAK_FILES["training"]

LABELS = {  # of clips: published weak labels, and strong rows where there are some
    "training": {
        "Yabcdefghij_30.000_40.000.wav": ["Car", "Air horn, truck horn"],
        "-bcdefghijk_0.000_10.000.wav": ["Train horn", "Train"],
        "_c_d_e_f_gh_7.000_17.000.wav": ["Fire engine, fire truck (siren)", "Police car (siren)"],
        "0000000000a_30.000_40.000.wav": ["Car passing by"],
    },
    "testing": {"1111111111a_30.000_40.000.wav": ["Bus"], "1111111111b_30.000_40.000.wav": ["Truck", "Car"]},
    "evaluation": {"2222222222a_30.000_40.000.wav": ["Bus"], "0000000000a_90.000_100.000.wav": ["Car alarm"]},
}
EVENTS = {
    "testing": [
        ["1111111111a_30.000_40.000.wav", 0, 0, "Bus"],
        ["1111111111b_30.000_40.000.wav", 0.5, 1.25, "Truck"],
        ["1111111111b_30.000_40.000.wav", 1, 10, "Car"],
    ],
    "evaluation": [["2222222222a_30.000_40.000.wav", 2, 3, "Bus"]] * 2,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path / "root")
    return tmp_path / "root" / "cache" / "dcase2017_task4" / "groundtruth_release"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Small label files like the published ones, under the published names; their checksums stand in the registry."""
    folder = tmp_path / "published"
    release = folder / "groundtruth_release"
    release.mkdir(parents=True)
    for name, clips in LABELS.items():
        weak = [[clip, "30.000", "40.000", label] for clip, labels in clips.items() for label in labels]
        for kind, rows in (("weak", weak), ("strong", EVENTS.get(name, []))):
            with open(release / f"groundtruth_{kind}_label_{name}_set.csv", "w", newline="") as file:
                end = "\r\n" if name == "evaluation" else "\n"
                csv.writer(file, delimiter="\t", lineterminator=end).writerows(rows)
    names = download.read_registry(dcase2017.LABELS_REGISTRY)
    lines = [f"{hashlib.sha256((release / name).read_bytes()).hexdigest()}  {name}" for name in names]
    (tmp_path / "registry.txt").write_text("\n".join(lines))
    monkeypatch.setattr(dcase2017, "LABELS_REGISTRY", tmp_path / "registry.txt")
    return folder


def listed(folder: Path, test_set: str = "development", *, download: bool = False) -> Listing:
    params = load_experiment("paper").data.model_dump() | {"test_set": test_set}
    return list_dcase2017(Dcase2017Data.model_validate(params), folder=folder, download=download)


class TestPublished:
    """The label files that were published, where there are some."""

    def test_counts(self, dcase2017_folder):
        listing = listed(dcase2017_folder)
        splits = Counter(listing.clips.split)
        assert splits == {"training": 51172 - 2559, "validation": 2559, "test": 488}  # 5 %
        training = listing.clips.filename[listing.clips.split != "test"]
        labels = Counter(listing.weak_labels.event_label[listing.weak_labels.filename.isin(training)])
        assert (labels["Car"], labels["Car alarm"], labels.total(), len(labels)) == (25077, 180, 56131, 17)
        assert len(listing.strong_labels) == 688
        remarks = Counter(listing.remarks.kind)
        assert remarks == {"missing_audio": 51172 + 488, "zero_duration": 36, "overlap": 1}
        assert listing.clips.groupby("sources").split.nunique().max() == 1
        assert listing.clips.sources.str.len().eq(11).all()

    def test_classes_are_those_of_the_published_list(self, dcase2017_folder):
        lines = (dcase2017_folder / "sound_event_list_17_classes.txt").read_text().splitlines()
        assert tuple(line.split("\t")[2] for line in lines[1:]) == CLASSES

    @pytest.mark.parametrize(("name", "lists"), [("training", "training_set.csv"), ("development", "testing_set.csv")])
    def test_labels_are_those_of_the_published_lists(self, dcase2017_folder, name, lists):
        """One clip a row, its labels in one field, where some hold a comma themselves."""
        with open(dcase2017_folder / lists, newline="") as file:
            rows = {f"{video}_{start}_{end}.wav": labels for video, start, end, labels, _ in csv.reader(file)}
        read = read_labels(dcase2017_folder / WEAK_FILES[name], columns=["filename", "event_label"])
        of_clip = read.groupby("filename").event_label.agg(list)
        assert set(clip_names(name, folder=dcase2017_folder, download=False)) == set(of_clip.index) == set(rows)
        for clip, labels in of_clip.items():
            assert any(",".join(order) == rows[clip] for order in itertools.permutations(labels))


@pytest.mark.parametrize("test_set", ["development", "evaluation"])
def test_splits(published, test_set):
    """One evaluation clip has no strong row, one is listed twice over and one shares a training clip's video."""
    listing = listed(published, test_set)
    names, splits = ["training", "testing"], {"training": 3, "validation": 1, "test": 2}
    odd = {(STRONG_FILES["development"], 1, "zero_duration")}
    if test_set == "evaluation":
        names, splits = [*names, "evaluation"], splits | {"tuning": 2}
        odd |= {(STRONG_FILES["evaluation"], 2, "duplicate"), (WEAK_FILES["evaluation"], 2, "weak_without_row")}
        odd |= {(WEAK_FILES["evaluation"], 2, "shared_source")}
    assert (listing.classes, Counter(listing.clips.split)) == (CLASSES, splits)
    assert listing.clips.filename.tolist() == [clip for name in names for clip in LABELS[name]]
    assert listing.clips.sources.tolist()[:3] == ["Yabcdefghij", "-bcdefghijk", "_c_d_e_f_gh"]
    assert listing.strong_labels[STRONG].to_numpy().tolist() == [row for name in names[1:] for row in EVENTS[name]]
    weak = {(clip, label) for name in names for clip, labels in LABELS[name].items() for label in labels}
    assert set(map(tuple, listing.weak_labels.to_numpy().tolist())) == weak
    remarks = listing.remarks[listing.remarks.kind != "missing_audio"]
    assert set(remarks[["file", "line", "kind"]].itertuples(index=False, name=None)) == odd


def test_audio_with_and_without_the_leading_y_anywhere_below(published, tmp_path):
    """The first of two files is used; linked folders are entered once."""
    files = {
        "Yabcdefghij_30.000_40.000.wav": "Yabcdefghij_30.000_40.000.flac",  # Y is the id's own
        "-bcdefghijk_0.000_10.000.wav": "a/b/Y-bcdefghijk_0.000_10.000.wav",
        "_c_d_e_f_gh_7.000_17.000.wav": "linked/_c_d_e_f_gh_7.000_17.000.MP3",
        "0000000000a_30.000_40.000.wav": "Y0000000000a_30.000_40.000.ogg",
        "1111111111a_30.000_40.000.wav": "b/1111111111a_30.000_40.000.wav",
    }
    others = ["Y1111111111b_30.000_40.000.txt", "Y1111111111b_30.000_40.000", "YY1111111111b_30.000_40.000.wav"]
    others += [".Y1111111111b_30.000_40.000.123.wav"]  # what a kill leaves
    others += ["z/1111111111a_30.000_40.000.wav", "b/Y1111111111a_30.000_40.000.wav"]
    (tmp_path / "elsewhere").mkdir()
    (published / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(published)
    for file in (*files.values(), *others):
        (published / file).parent.mkdir(parents=True, exist_ok=True)
        (published / file).touch()
    listing = listed(published)
    clip, last = LABELS["testing"]
    assert dict(zip(listing.clips.filename, listing.clips.path, strict=True)) == files | {last: ""}
    of_audio = listing.remarks[listing.remarks.kind.isin(["missing_audio", "two_files"])]
    assert set(zip(of_audio.file, of_audio.line, of_audio.message.str.rsplit(": ").str[-1], strict=True)) == {
        (WEAK_FILES["development"], 1, f"{clip} as b/{clip}, b/Y{clip}, z/{clip}"),
        (WEAK_FILES["development"], 2, last),
    }


@pytest.mark.parametrize("convert", [(b"\n", b"\r\n"), (b"Car", b"Bus")])
def test_label_files_that_are_missing_or_not_the_published_ones_are_named(published, tmp_path, convert):
    before = listed(published)
    path = published / "groundtruth_release" / TRAINING
    path.rename(published / TRAINING)
    path.write_bytes((published / TRAINING).read_bytes().replace(*convert))
    assert listed(published).clips.equals(before.clips)
    (published / TRAINING).unlink()
    with pytest.raises(DataError, match=rf"{TRAINING}: not the published file .*line ends.*DOWNLOAD=1"):
        listed(published, download=True)
    path.unlink()
    (published / "groundtruth_release" / STRONG_FILES["development"]).unlink()
    with pytest.raises(
        DataError, match=f"published: lacks {TRAINING}; {STRONG_FILES['development']}; put .*DOWNLOAD=1"
    ):
        listed(published)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        listed(tmp_path / "nowhere")


def test_what_is_needed_is_fetched_once(published, server, tmp_path, own_cache, monkeypatch):
    server.files = {path.name: path.read_bytes() for path in published.rglob("*.csv")}
    good, server.files[TRAINING] = server.files[TRAINING], b"something else"
    monkeypatch.setattr(dcase2017, "LABELS_URL", server.address)
    monkeypatch.setattr(download, "RETRIES", 0)
    data = tmp_path / "data"
    data.mkdir()
    with pytest.raises(DataError, match=rf"127\.0\.0\.1.*{TRAINING}: could not be fetched.*; put it into .*data"):
        listed(data, download=True)
    assert not list(own_cache.rglob("*.csv"))
    server.files[TRAINING] = good
    server.requests.clear()
    first = listed(data, download=True)
    wanted = [TRAINING, WEAK_FILES["development"], STRONG_FILES["development"]]
    assert sorted(path for _, path, _ in server.requests) == sorted(wanted)
    assert sorted(path.name for path in own_cache.rglob("*.csv")) == sorted(wanted)
    assert not list(data.iterdir())
    assert listed(data).clips.equals(first.clips)
    listed(data, "evaluation", download=True)
    listed(published, "evaluation", download=True)  # all are in this folder
    assert clip_names("training", folder=tmp_path / "not yet", download=False) == list(LABELS["training"])
    assert len(server.requests) == 5
    (own_cache / TRAINING).write_bytes(good[:-1])
    with pytest.raises(DataError, match=f"{TRAINING}: not the published file"):
        clip_names("training", folder=data, download=False)
