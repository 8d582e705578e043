"""Anyone's folder of data: what is listed, what is refused, and that no label changes."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsed_lib.data.folder import list_folder
from hpsed_lib.data.label_audit import STRONG, WEAK
from hpsed_lib.data.labels import MOST_SHOWN, REMARK, TREATMENTS, Listing
from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.params import FolderData

WEAK_HEADER, STRONG_HEADER = ",".join(WEAK), ",".join(STRONG)


def parameters(
    *,
    validation: bool = True,
    strong_validation: bool = False,
    classes: tuple[str, ...] | None = None,
    audio: str = ".",
) -> FolderData:
    return FolderData.model_validate(
        {
            "source": "folder",
            "sample_rate": 16000,
            "clip_duration": 10.0,
            "validation_share": 0.5,
            "validation_seed": 1,
            "incomplete_test": "refuse",
            "audio": audio,
            "classes": classes,
            "weak_labels": {"training": "training.csv", "validation": "validation.csv" if validation else None},
            "strong_labels": {"validation": "tuning.csv" if strong_validation else None, "test": "test.csv"},
        }
    )


def write_folder(folder: Path, **rows: list[str]) -> Path:
    """Label files of a good folder; a file's rows can be given instead."""
    folder.mkdir(parents=True, exist_ok=True)
    good = {
        "training": ["a.wav,Car", "a.wav,Bus", "b.wav,Bus", "c.wav,"],
        "validation": ["v.wav,Car", "w.wav,"],
        "tuning": ["v.wav,1,2,Car", "w.wav,,,"],
        "test": ["t.wav,0,4,Car", "t.wav,3.5,3.5,Bus", "u.wav,,,"],
    }
    for stem, content in (good | rows).items():
        header = WEAK_HEADER if stem in ("training", "validation") else STRONG_HEADER
        (folder / f"{stem}.csv").write_text("\n".join([header, *content]) + "\n", encoding="utf-8")
    for clip in "abcvwtu":
        (folder / f"{clip}.wav").touch()
    return folder


def kinds(listing: Listing) -> list[tuple[str, int, str]]:
    return [(row.file, row.line, row.kind) for row in listing.remarks.itertuples()]


class TestListing:
    def test_a_good_folder(self, tmp_path: Path) -> None:
        listing = list_folder(parameters(strong_validation=True), folder=write_folder(tmp_path))
        assert listing.classes == ("Bus", "Car")
        assert listing.audio_folder == tmp_path
        assert listing.clips.to_numpy().tolist() == [
            [f"{clip}.wav", split, f"{clip}.wav", f"{clip}.wav"]
            for split, clips in (("training", "abc"), ("validation", "vw"), ("test", "tu"))
            for clip in clips
        ]
        assert listing.strong_labels[STRONG].to_numpy().tolist() == [
            ["v.wav", 1.0, 2.0, "Car"],
            ["t.wav", 0.0, 4.0, "Car"],
            ["t.wav", 3.5, 3.5, "Bus"],
        ]
        assert set(map(tuple, listing.weak_labels.to_numpy().tolist())) == {
            ("a.wav", "Car"),
            ("a.wav", "Bus"),
            ("b.wav", "Bus"),
            ("v.wav", "Car"),
            ("t.wav", "Car"),
            ("t.wav", "Bus"),
        }
        assert kinds(listing) == [("test.csv", 3, "zero_duration")]
        assert listing.remarks.columns.tolist() == REMARK

    def test_audio_in_its_own_folder(self, tmp_path: Path) -> None:
        write_folder(tmp_path, test=["x/t.flac,0,1,Car", "u.wav,0,1,Car"])
        (tmp_path / "audio" / "x").mkdir(parents=True)
        (tmp_path / "audio" / "x" / "t.flac").touch()
        listing = list_folder(parameters(audio="audio"), folder=tmp_path)
        assert listing.audio_folder == tmp_path / "audio"
        assert [path for path in listing.clips.path if path] == ["x/t.flac"]
        assert (listing.remarks.kind == "missing_audio").sum() == 6

    def test_validation_clips_are_drawn_where_no_file_lists_them(self, tmp_path: Path) -> None:
        names = [f"{number}.wav" for number in range(10)]
        params = parameters(validation=False, classes=("Car", "Bus"))
        write_folder(tmp_path, training=[f"{name},Car" for name in names])
        listing = list_folder(params, folder=tmp_path)
        splits = dict(zip(listing.clips.filename, listing.clips.split, strict=True))
        assert Counter(splits[name] for name in names) == {"training": 5, "validation": 5}
        assert splits["t.wav"] == "test"
        (tmp_path / "training.csv").write_text(
            "\n".join([WEAK_HEADER, *(f"{name},Car" for name in reversed(names))]) + "\n"
        )
        again = list_folder(params, folder=tmp_path).clips
        assert dict(zip(again.filename, again.split, strict=True)) == splits

    def test_given_classes_keep_their_order_and_need_no_example(self, tmp_path: Path) -> None:
        listing = list_folder(parameters(classes=("Train", "Car", "Bus")), folder=write_folder(tmp_path))
        assert listing.classes == ("Train", "Car", "Bus")

    @settings(max_examples=20, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["t.wav", "u.wav"]),
                st.integers(0, 19).map(lambda n: n / 2),
                st.integers(0, 8).map(lambda n: n / 2),
                st.sampled_from(["Car", "Bus"]),
            ),
            min_size=1,
            max_size=8,
        )
    )
    def test_no_label_changes_and_odd_ones_are_counted(
        self, tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple]
    ) -> None:
        rows = [(name, onset, onset + duration, label) for name, onset, duration, label in drawn]
        folder = write_folder(tmp_path_factory.mktemp("data"))
        with open(folder / "test.csv", "w", newline="") as file:
            csv.writer(file).writerows([STRONG, *rows])
        listing = list_folder(parameters(), folder=folder)
        assert [tuple(row) for row in listing.strong_labels.to_numpy().tolist()] == rows
        weak = [tuple(row) for row in listing.weak_labels.to_numpy().tolist() if row[0] in ("t.wav", "u.wav")]
        assert set(weak) == {(row[0], row[3]) for row in rows}
        assert len(weak) == len(set(weak))

        expected = Counter({"missing_audio": 0})
        for number, row in enumerate(rows):
            expected["zero_duration"] += row[1] == row[2]
            expected["past_end"] += row[2] > 10
            expected["duplicate"] += row in rows[:number]
        found = Counter(kind for _, _, kind in kinds(listing))
        assert {kind: found[kind] for kind in expected} == dict(expected)
        for file, line, kind in kinds(listing):
            name, onset, offset, _ = rows[line - 2]
            assert file == "test.csv"
            assert kind != "past_end" or offset > 10
            assert kind != "zero_duration" or onset == offset
            assert kind != "duplicate" or rows[line - 2] in rows[: line - 2]
            assert name in listing.clips.filename.tolist()


class TestKept:
    def test_every_kind_that_is_kept(self, tmp_path: Path) -> None:
        write_folder(
            tmp_path,
            training=["a.wav,Car", "b.wav,Bus", "a.wav,Car", "c.wav,", "c.wav,", "gone.wav,Car"],
            validation=["v.wav,Car", "w.wav,Bus"],
            tuning=["v.wav,1,2,Bus", "w.wav,,,"],
            test=["t.wav,0,4,Car", "t.wav,3,12,Car", "t.wav,5,5,Bus", "t.wav,0,4,Car", "u.wav,,,", "u.wav,,,"],
        )
        listing = list_folder(parameters(strong_validation=True), folder=tmp_path)
        assert sorted(kinds(listing)) == [
            ("test.csv", 3, "overlap"),
            ("test.csv", 3, "past_end"),
            ("test.csv", 4, "zero_duration"),
            ("test.csv", 5, "duplicate"),
            ("test.csv", 7, "duplicate"),
            ("training.csv", 4, "duplicate"),
            ("training.csv", 6, "duplicate"),
            ("training.csv", 7, "missing_audio"),
            ("tuning.csv", 2, "strong_without_weak"),
            ("validation.csv", 2, "weak_without_row"),
            ("validation.csv", 3, "weak_without_row"),
        ]
        assert set(listing.remarks.treatment) == {"kept"}
        assert len(listing.strong_labels) == 5
        message = listing.remarks.message[listing.remarks.kind == "past_end"].item()
        assert message == f"{TREATMENTS['past_end'][1]}: t.wav, 3, 12, Car"
        found = set(listing.remarks.kind)
        only_dcase = {"two_files", "shared_source"}
        assert found | only_dcase == {kind for kind, (treatment, _) in TREATMENTS.items() if treatment == "kept"}

    def test_thresholds_on_clips_without_any_event(self, tmp_path: Path) -> None:
        write_folder(tmp_path, tuning=["v.wav,,,", "w.wav,,,"], test=["t.wav,,,"])
        listing = list_folder(parameters(strong_validation=True), folder=tmp_path)
        assert listing.strong_labels.empty
        assert kinds(listing) == [("validation.csv", 2, "weak_without_row")]


class TestRefused:
    @pytest.mark.parametrize(
        ("file", "row", "kind"),
        [
            ("training", "a.wav", "malformed"),
            ("test", ",0,1,Car", "no_filename"),
            ("training", "a.wav, Car", "spaces"),
            ("training", "../a.wav,Car", "bad_path"),
            ("test", "t.wav,one,2,Car", "no_number"),
            ("test", "t.wav,1,2,", "no_label"),
            ("test", "t.wav,2,1,Car", "reversed"),
            ("test", "t.wav,-1,1,Car", "negative"),
            ("test", "t.wav,10,11,Car", "after_end"),
            ("test", "t.wav,10,10,Car", "after_end"),
            ("test", "t.wav,1,2,car", "unknown_label"),
            ("validation", "v.wav,Train", "unknown_label"),
            ("validation", "a.wav,Car", "two_splits"),
            ("test", "b.wav,0,1,Car", "two_splits"),
            ("tuning", "x.wav,0,1,Car", "not_listed"),
        ],
    )
    def test_file_and_line_are_named(self, tmp_path: Path, file: str, row: str, kind: str) -> None:
        write_folder(tmp_path)
        with open(tmp_path / f"{file}.csv", "a") as opened:
            opened.write(f"\n{row}\n")
        line = len((tmp_path / f"{file}.csv").read_text().splitlines())
        with pytest.raises(DataError) as raised:
            list_folder(parameters(strong_validation=True), folder=tmp_path)
        shown = row.replace(",", ", ")
        head, one = str(raised.value).split("\n")
        assert head == f"{tmp_path}: 1 row(s) of label files to correct or remove:"
        assert one.startswith(f"  {file}.csv, line {line}: {TREATMENTS[kind][1]}: {shown}")
        assert TREATMENTS[kind][0] == "refused"

    def test_every_kind_that_is_refused_is_tried_above(self) -> None:
        [tried] = [mark for mark in type(self).test_file_and_line_are_named.pytestmark if mark.name == "parametrize"]
        assert {kind for _, _, kind in tried.args[1]} == {
            kind for kind, (treatment, _) in TREATMENTS.items() if treatment == "refused"
        }

    def test_an_unknown_label_comes_with_the_nearest_class(self, tmp_path: Path) -> None:
        write_folder(tmp_path, test=["t.wav,0,1,Cra", "t.wav,0,1,Car"])
        with pytest.raises(DataError, match=r"line 2: label .*: t\.wav, 0, 1, Cra \(the nearest class: Car\)$"):
            list_folder(parameters(), folder=tmp_path)

    def test_all_rows_at_once_up_to_a_number(self, tmp_path: Path) -> None:
        write_folder(
            tmp_path,
            training=["a.wav,Car", *["../a.wav,Car"] * 3],
            test=["t.wav,0,1,Car", *["t.wav,2,1,Car"] * MOST_SHOWN],
        )
        with pytest.raises(DataError) as raised:
            list_folder(parameters(), folder=tmp_path)
        lines = str(raised.value).split("\n")
        assert f"{MOST_SHOWN + 3} row(s)" in lines[0]
        assert [line.split(":")[0].strip() for line in lines[1:-1]] == [
            *(f"training.csv, line {number}" for number in (3, 4, 5)),
            *(f"test.csv, line {number}" for number in range(3, MOST_SHOWN)),
        ]
        assert lines[-1].strip() == "... and 3 more"

    def test_a_label_file_that_is_missing(self, tmp_path: Path) -> None:
        write_folder(tmp_path)
        (tmp_path / "validation.csv").unlink()
        with pytest.raises(DataError, match=r"validation\.csv: label file cannot be read"):
            list_folder(parameters(), folder=tmp_path)

    def test_a_folder_that_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="nowhere: no such folder"):
            list_folder(parameters(), folder=tmp_path / "nowhere")
        with pytest.raises(DataError, match="audio: no such folder"):
            list_folder(parameters(audio="audio"), folder=write_folder(tmp_path))

    def test_classes_there_must_be_and_different_ones(self, tmp_path: Path) -> None:
        write_folder(tmp_path, training=["a.wav,", "b.wav,"])
        with pytest.raises(DataError, match="no training clip has a label"):
            list_folder(parameters(), folder=tmp_path)
        with pytest.raises(ParameterError, match="expected different labels, got Car, Car"):
            list_folder(parameters(classes=("Car", "Car")), folder=tmp_path)
