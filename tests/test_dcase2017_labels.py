"""DCASE 2017 Task 4: the published label files against the csv module, and small ones like them in every situation."""

from __future__ import annotations

import csv
import hashlib
import itertools
from collections import Counter
from pathlib import Path

import pytest
from loopback import Server

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
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "ROOT", tmp_path / "root")
    return tmp_path / "root" / "cache" / "dcase2017_task4" / "groundtruth_release"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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


def strong_rows(listing: Listing) -> list[list]:
    return listing.strong_labels[STRONG].to_numpy().tolist()


def odd(listing: Listing) -> set[tuple[str, int, str]]:
    """Remarks but for missing audio: file, line, kind."""
    return {(row.file, row.line, row.kind) for row in listing.remarks.itertuples() if row.kind != "missing_audio"}


class TestPublished:
    """The label files that were published, where there are some."""

    def test_counts(self, dcase2017_folder: Path) -> None:
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

    def test_classes_are_those_of_the_published_list(self, dcase2017_folder: Path) -> None:
        lines = (dcase2017_folder / "sound_event_list_17_classes.txt").read_text().splitlines()
        assert tuple(line.split("\t")[2] for line in lines[1:]) == CLASSES

    @pytest.mark.parametrize(("name", "lists"), [("training", "training_set.csv"), ("development", "testing_set.csv")])
    def test_labels_are_those_of_the_published_lists(self, dcase2017_folder: Path, name: str, lists: str) -> None:
        """One clip a row, its labels in one field, where some hold a comma themselves."""
        with open(dcase2017_folder / lists, newline="") as file:
            rows = {f"{video}_{start}_{end}.wav": labels for video, start, end, labels, _ in csv.reader(file)}
        read = read_labels(dcase2017_folder / WEAK_FILES[name], columns=["filename", "event_label"])
        of_clip = read.groupby("filename").event_label.agg(list)
        assert set(clip_names(name, folder=dcase2017_folder, download=False)) == set(of_clip.index) == set(rows)
        for clip, labels in of_clip.items():
            assert any(",".join(order) == rows[clip] for order in itertools.permutations(labels))


class TestSplits:
    def test_development(self, published: Path) -> None:
        listing = listed(published)
        assert listing.classes == CLASSES
        assert Counter(listing.clips.split) == {"training": 3, "validation": 1, "test": 2}
        assert strong_rows(listing) == EVENTS["testing"]
        lists = (LABELS["training"], LABELS["testing"])
        expected = {(clip, label) for clips in lists for clip, labels in clips.items() for label in labels}
        assert set(map(tuple, listing.weak_labels.to_numpy().tolist())) == expected
        assert listing.clips.sources.tolist()[:3] == ["Yabcdefghij", "-bcdefghijk", "_c_d_e_f_gh"]
        assert odd(listing) == {(STRONG_FILES["development"], 1, "zero_duration")}

    def test_evaluation_tunes_on_development(self, published: Path) -> None:
        """One evaluation clip has no strong row, one is listed twice over and one shares a training clip's video."""
        listing = listed(published, "evaluation")
        assert Counter(listing.clips.split) == {"training": 3, "validation": 1, "tuning": 2, "test": 2}
        assert strong_rows(listing) == EVENTS["testing"] + EVENTS["evaluation"]
        assert odd(listing) == {
            (STRONG_FILES["development"], 1, "zero_duration"),
            (STRONG_FILES["evaluation"], 2, "duplicate"),
            (WEAK_FILES["evaluation"], 2, "weak_without_row"),
            (WEAK_FILES["evaluation"], 2, "shared_source"),
        }
        assert "0000000000a_90.000_100.000.wav" in listing.clips.filename[listing.clips.split == "test"].tolist()


class TestAudio:
    def with_files(self, folder: Path, *files: str) -> tuple[dict[str, str], list[tuple[str, int, str, str]]]:
        """Each clip's path in a folder with these files, and each remark: file, line, kind and end of its message."""
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).touch()
        listing = listed(folder)
        remarks = [(row.file, row.line, row.kind, row.message.rsplit(": ")[-1]) for row in listing.remarks.itertuples()]
        return dict(zip(listing.clips.filename, listing.clips.path, strict=True)), remarks

    def test_with_and_without_the_leading_y_anywhere_below(self, published: Path) -> None:
        files = {
            "Yabcdefghij_30.000_40.000.wav": "Yabcdefghij_30.000_40.000.flac",  # Y is the id's own
            "-bcdefghijk_0.000_10.000.wav": "a/b/Y-bcdefghijk_0.000_10.000.wav",
            "_c_d_e_f_gh_7.000_17.000.wav": "a/_c_d_e_f_gh_7.000_17.000.MP3",
            "0000000000a_30.000_40.000.wav": "Y0000000000a_30.000_40.000.ogg",
        }
        others = ["Y1111111111a_30.000_40.000.txt", "Y1111111111b_30.000_40.000", "YY1111111111b_30.000_40.000.wav"]
        others += [".Y1111111111b_30.000_40.000.123.wav"]  # what a kill leaves
        paths, remarks = self.with_files(published, *files.values(), *others)
        assert paths == files | dict.fromkeys(LABELS["testing"], "")
        weak_file = WEAK_FILES["development"]
        missing = [(weak_file, line, "missing_audio", clip) for line, clip in enumerate(LABELS["testing"], start=1)]
        assert [remark for remark in remarks if remark[2] == "missing_audio"] == missing

    def test_the_first_of_two_files_is_used(self, published: Path) -> None:
        clip = "1111111111a_30.000_40.000.wav"
        paths, remarks = self.with_files(published, f"z/{clip}", f"b/Y{clip}", f"b/{clip}")
        assert paths[clip] == f"b/{clip}"
        expected = [f"{clip} as b/{clip}, b/Y{clip}, z/{clip}"]
        assert [message for _, _, kind, message in remarks if kind == "two_files"] == expected

    def test_linked_folders_are_entered_once(self, published: Path, tmp_path: Path) -> None:
        clip = "1111111111a_30.000_40.000.wav"
        (tmp_path / "elsewhere").mkdir()
        (published / "audio").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "up").symlink_to(published)
        paths, remarks = self.with_files(published, f"audio/{clip}")
        assert paths[clip] == f"audio/{clip}"
        assert "two_files" not in [remark[2] for remark in remarks]


class TestLabelFiles:
    def test_what_is_missing_is_named(self, published: Path, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        needed = f"{TRAINING}; {WEAK_FILES['development']}; {STRONG_FILES['development']}"
        with pytest.raises(DataError, match=f"data: lacks {needed}; put .*DOWNLOAD=1"):
            listed(tmp_path / "data")
        with pytest.raises(DataError, match="nowhere: no such folder"):
            listed(tmp_path / "nowhere")

    @pytest.mark.parametrize("convert", [(b"\n", b"\r\n"), (b"Car", b"Bus")])
    def test_another_file_than_the_published_one_is_refused_or_passed_over(
        self, published: Path, convert: tuple[bytes, bytes]
    ) -> None:
        before = listed(published)
        path = published / "groundtruth_release" / TRAINING
        path.rename(published / TRAINING)
        path.write_bytes((published / TRAINING).read_bytes().replace(*convert))
        assert listed(published).clips.equals(before.clips)
        (published / TRAINING).unlink()
        with pytest.raises(DataError, match=rf"{TRAINING}: not the published file .*line ends.*DOWNLOAD=1"):
            listed(published, download=True)


class TestFetching:
    """Against a server on this machine's loopback address."""

    @pytest.fixture(autouse=True)
    def site(self, published: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
        server.files = {path.name: path.read_bytes() for path in published.rglob("*.csv")}
        monkeypatch.setattr(dcase2017, "LABELS_URL", server.address)
        monkeypatch.setattr(download, "RETRIES", 0)
        return server

    def test_what_is_needed_is_fetched_once(
        self, site: Server, published: Path, tmp_path: Path, own_cache: Path
    ) -> None:
        data = tmp_path / "data"
        data.mkdir()
        first = listed(data, download=True)
        wanted = [TRAINING, WEAK_FILES["development"], STRONG_FILES["development"]]
        assert sorted(path for _, path, _ in site.requests) == sorted(wanted)
        assert sorted(path.name for path in own_cache.rglob("*.csv")) == sorted(wanted)
        assert not list(data.iterdir())
        assert listed(data).clips.equals(first.clips)
        listed(data, "evaluation", download=True)
        listed(published, "evaluation", download=True)  # all are in this folder
        assert clip_names("training", folder=tmp_path / "not yet", download=False) == list(LABELS["training"])
        assert len(site.requests) == 5

    def test_another_file_or_none_is_an_error_and_so_is_a_damaged_copy_of_ours(
        self, site: Server, tmp_path: Path, own_cache: Path
    ) -> None:
        good, site.files[TRAINING] = site.files[TRAINING], b"something else"
        with pytest.raises(DataError, match=rf"127\.0\.0\.1.*{TRAINING}: could not be fetched"):
            clip_names("training", folder=tmp_path / "data", download=True)
        del site.files[TRAINING]
        with pytest.raises(DataError, match=r"could not be fetched.*404.*put it into .*data"):
            clip_names("training", folder=tmp_path / "data", download=True)
        assert not list(own_cache.rglob("*.csv"))
        own_cache.mkdir(parents=True, exist_ok=True)
        (own_cache / TRAINING).write_bytes(good[:-1])
        with pytest.raises(DataError, match=f"{TRAINING}: not the published file"):
            clip_names("training", folder=tmp_path / "data", download=False)
