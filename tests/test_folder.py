"""Anyone's folder of data: what is listed, what is refused, and that no label changes."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsed_lib.data.folder import list_folder
from hpsed_lib.data.label_audit import STRONG, WEAK
from hpsed_lib.data.labels import MOST_SHOWN, TREATMENTS, Listing, remarks_on_data
from hpsed_lib.data.manifest import FLAGS, UNUSED
from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.params import FolderData, load_experiment

GOOD = {
    "weak_training": ["a.wav,Car", "a.wav,Bus", "b.wav,Bus", "c.wav,"],
    "weak_validation": ["v.wav,Car", "w.wav,"],
    "strong_validation": ["v.wav,1,2,Car", "w.wav,,,"],
    "strong_test": ["t.wav,0,4,Car", "u.wav,,,"],
}
HALVES = st.integers(0, 19).map(lambda n: n / 2)
EVENT = st.tuples(st.sampled_from(["t.wav", "u.wav"]), HALVES, HALVES, st.sampled_from(["Car", "Bus"]))


def write_folder(folder: Path, **rows: list[str]) -> Path:
    """A good folder, as params/folder.yaml describes it; a label file's rows can be given instead."""
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    for stem, content in (GOOD | rows).items():
        lines = [",".join(WEAK if stem.startswith("weak") else STRONG), *content]
        (folder / f"{stem}.csv").write_text("\n".join(lines) + "\n")
    for clip in "abcvwtu":
        (folder / "audio" / f"{clip}.wav").touch()
    return folder


def listed(folder: Path, **changes: Any) -> Listing:
    params = load_experiment("folder").data.model_dump() | changes
    return list_folder(FolderData.model_validate(params), folder=folder)


def kinds(listing: Listing) -> list[tuple[str, int, str]]:
    return [(row.file.removesuffix(".csv"), row.line, row.kind) for row in listing.remarks.itertuples()]


class TestListing:
    def test_validation_clips_are_drawn_where_no_file_lists_them(self, tmp_path: Path) -> None:
        drawn = {"weak_labels": {"training": "weak_training.csv", "validation": None}, "validation_share": 0.5}
        drawn |= {"strong_labels": {"validation": None, "test": "strong_test.csv"}, "classes": ("Train", "Car", "Bus")}
        listing = listed(write_folder(tmp_path, weak_training=[f"{number}.wav,Car" for number in range(10)]), **drawn)
        assert listing.classes == ("Train", "Car", "Bus")  # as given, with an example or without
        assert Counter(listing.clips.split) == {"training": 5, "validation": 5, "test": 2}

    @settings(max_examples=20, deadline=None)
    @given(st.lists(EVENT, min_size=1, max_size=8))
    def test_no_label_changes_and_odd_ones_are_counted(
        self, tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple]
    ) -> None:
        rows = [(name, onset, onset + duration, label) for name, onset, duration, label in drawn]
        folder = write_folder(tmp_path_factory.mktemp("data"), strong_test=[",".join(map(str, row)) for row in rows])
        listing = listed(folder)
        strong = [tuple(row) for row in listing.strong_labels.to_numpy().tolist()]
        assert strong == [("v.wav", 1.0, 2.0, "Car"), *rows]
        weak = [tuple(row) for row in listing.weak_labels.to_numpy().tolist() if row[0] in ("t.wav", "u.wav")]
        assert sorted(weak) == sorted({(row[0], row[3]) for row in rows})
        odd = {
            "zero_duration": [onset == offset for _, onset, offset, _ in rows],
            "past_end": [offset > 10 for _, _, offset, _ in rows],
            "duplicate": [row in rows[:number] for number, row in enumerate(rows)],
        }
        expected = {("strong_test", line, kind) for kind in odd for line, is_odd in enumerate(odd[kind], 2) if is_odd}
        assert {kind for kind in kinds(listing) if kind[2] != "overlap"} == expected


ON_DATA = ("past_audio", "same_audio", "one_class", "in_every_clip", "no_test_event")


def test_every_kind_that_is_kept(tmp_path: Path) -> None:
    write_folder(
        tmp_path,
        weak_training=["a.wav,Car", "b.wav,Bus", "a.wav,Car", "c.wav,", "c.wav,", "x/gone.wav,Car"],
        weak_validation=["v.wav,Car", "w.wav,Bus"],
        strong_validation=["v.wav,1,2,Bus", "w.wav,,,"],
        strong_test=[
            *("t.wav,0,4,Car", "t.wav,3,12,Car", "t.wav,5,5,Bus", "t.wav,0,4,Car", "u.wav,,,", "u.wav,,,"),
            *("t.wav,,,", "t.wav,5,8.0,Bus", "t.wav,0.1,3.0000000000000004,Bus"),
        ],
    )
    listing = listed(tmp_path)
    assert sorted(kinds(listing)) == [
        ("strong_test", 3, "overlap"),
        ("strong_test", 3, "past_end"),
        ("strong_test", 4, "zero_duration"),
        ("strong_test", 5, "duplicate"),
        ("strong_test", 7, "duplicate"),
        ("strong_test", 8, "empty_beside_event"),
        ("strong_test", 10, "rounding"),
        ("strong_validation", 2, "strong_without_weak"),
        ("weak_training", 4, "duplicate"),
        ("weak_training", 6, "duplicate"),
        ("weak_training", 7, "missing_audio"),
        ("weak_validation", 2, "weak_without_row"),
        ("weak_validation", 3, "weak_without_row"),
    ]
    assert set(listing.remarks.treatment) == {"kept"}
    assert len(listing.strong_labels) == 7
    message = listing.remarks.message[listing.remarks.kind == "past_end"].item()
    assert message == f"{TREATMENTS['past_end'][1]}: t.wav, 3, 12, Car"
    found, elsewhere = set(listing.remarks.kind), {"two_files", "shared_source", *ON_DATA}
    assert found | elsewhere == {kind for kind, (treatment, _) in TREATMENTS.items() if treatment == "kept"}


def test_the_documentation_lists_every_flag_and_every_kind_of_odd_row() -> None:
    text = (Path(__file__).parents[1] / "docs" / "own_data.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (\w+) \| (.+) \| (.+) \|$", text, flags=re.MULTILINE)
    assert {row[0]: row[1:] for row in table if row[0] not in ("flag", "kind")} == UNUSED | FLAGS | TREATMENTS


def test_one_class_alone_is_remarked_on(tmp_path: Path) -> None:
    listing = listed(write_folder(tmp_path, weak_training=["a.wav,Car", "b.wav,Car"]))
    manifest = listing.clips.assign(state="present", duration=10.0, sha256=listing.clips.filename)
    found = remarks_on_data(listing, manifest)
    assert found.kind.tolist() == ["one_class", "in_every_clip"]
    assert found.message.str.endswith(": Car").all()


REFUSED = [
    ("weak_training", "a.wav", "malformed"),
    ("weak_training", "a.wav, Car", "spaces"),
    ("weak_training", "../a.wav,Car", "bad_path"),
    ("weak_training", "a.wav,Car|Bus", "several_labels"),
    ("weak_training", "a.wav,Bus;Car", "several_labels"),
    ("weak_training", 'a.wav,"Car,Bus"', "several_labels"),
    ("weak_training", 'a.wav,"Car, Bus"', "several_labels"),
    ("weak_training", "c.wav,BUS", "two_spellings"),
    ("weak_training", "A.wav,Car", "other_file_name"),
    ("weak_validation", "v.wav,Train", "unknown_label"),
    ("weak_validation", "a.wav,Car", "two_splits"),
    ("strong_validation", "x.wav,0,1,Car", "not_listed"),
    ("strong_test", ",0,1,Car", "no_filename"),
    ("strong_test", "t.wav,one,2,Car", "no_number"),
    ("strong_test", "t.wav,1,2,", "no_label"),
    ("strong_test", "t.wav,2,1,Car", "reversed"),
    ("strong_test", "t.wav,-1,1,Car", "negative"),
    ("strong_test", "t.wav,500,501,Car", "other_unit"),
    ("strong_test", "t.wav,10,11,Car", "after_end"),
    ("strong_test", "t.wav,10,10,Car", "after_end"),
    ("strong_test", "t.wav,1,2,car", "unknown_label"),
    ("strong_test", "b.wav,0,1,Car", "two_splits"),
]
HINTS = {"unknown_label": " (the nearest class: Car)", "other_file_name": " (there is audio/a.wav)"}


class TestRefused:
    def test_all_rows_at_once_up_to_a_number_by_file_and_line(self, tmp_path: Path) -> None:
        rows = {file: [*GOOD[file], "", *(row for name, row, _ in REFUSED if name == file)] for file in GOOD}
        n_more = max(MOST_SHOWN - len(REFUSED), 0) + 3
        write_folder(tmp_path, **rows | {"strong_test": [*rows["strong_test"], *["t.wav,2,1,Car"] * n_more]})
        with pytest.raises(DataError) as raised:
            listed(tmp_path)
        head, *lines = str(raised.value).split("\n  ")
        assert head == f"{tmp_path}: {len(REFUSED) + n_more} row(s) of label files to correct or remove:"
        for line, (file, row, kind) in zip(lines[:MOST_SHOWN], REFUSED, strict=False):
            text = ", ".join(next(csv.reader([row]))) + HINTS.get(kind, "")
            assert line == f"{file}.csv, line {rows[file].index(row) + 2}: {TREATMENTS[kind][1]}: {text}"
        assert lines[MOST_SHOWN:] == [f"... and {len(REFUSED) + n_more - MOST_SHOWN} more"]
        assert {each for *_, each in REFUSED} == {each for each, known in TREATMENTS.items() if known[0] == "refused"}

    def test_names_and_labels_of_another_unicode_form_are_found_out(self, tmp_path: Path) -> None:
        composed, apart = (unicodedata.normalize(form, "B\u00e4r") for form in ("NFC", "NFD"))
        write_folder(tmp_path, weak_training=[f"a.wav,{composed}", f"b.wav,{apart}", f"{composed}.wav,{composed}"])
        (tmp_path / "audio" / f"{apart}.wav").touch()
        with pytest.raises(DataError) as raised:
            listed(tmp_path)
        _, spelling, name, *_ = str(raised.value).split("\n  ")
        assert spelling.startswith(f"weak_training.csv, line 3: {TREATMENTS['two_spellings'][1]}")
        assert name.endswith(f"{composed}.wav, {composed} (there is audio/{apart}.wav)")

    def test_a_class_that_looks_like_several_is_one_if_it_is_named(self, tmp_path: Path) -> None:
        write_folder(tmp_path, weak_training=["a.wav,Car;Bus", "b.wav,Car", "c.wav,Bus"])
        assert listed(tmp_path, classes=("Car", "Bus", "Car;Bus")).classes == ("Car", "Bus", "Car;Bus")

    def test_what_cannot_be_listed_is_named(self, tmp_path: Path) -> None:
        write_folder(tmp_path)
        with pytest.raises(DataError, match="nowhere: no such folder"):
            listed(tmp_path / "nowhere")
        with pytest.raises(DataError, match="sounds: no such folder"):
            listed(tmp_path, audio="sounds")
        with pytest.raises(ParameterError, match="expected different labels, got Car, Car"):
            listed(tmp_path, classes=("Car", "Car"))
        write_folder(tmp_path, weak_training=["a.wav,", "b.wav,"])
        with pytest.raises(DataError, match="no training clip has a label"):
            listed(tmp_path)
