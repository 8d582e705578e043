"""Label files against the csv module and plain loops."""

from __future__ import annotations

import csv
import hashlib
import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsed_lib.data.label_audit import STRONG, WEAK
from hpsed_lib.data.labels import TREATMENTS, draw_validation, read_labels, read_records, shared_sources
from hpsed_lib.errors import DataError

word = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=6)
name = word.map(lambda text: text.replace("/", "-").replace("\\", "-") + ".wav")
onset = st.floats(0, 1e6, allow_nan=False)
strong_row = st.tuples(name, onset, onset, word).map(lambda r: [r[0], *sorted(r[1:3]), r[3]])


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


class TestReading:
    @settings(max_examples=40, deadline=None)
    @given(
        rows=st.lists(strong_row, min_size=1, max_size=6),
        separator=st.sampled_from(",\t"),
        end=st.sampled_from(["\n", "\r\n"]),
        encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
        quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    )
    def test_what_the_csv_module_writes_is_read_to_the_last_bit(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        rows: list[list],
        separator: str,
        end: str,
        encoding: str,
        quoting: int,
    ) -> None:
        path = tmp_path_factory.mktemp("written") / "strong.csv"
        with open(path, "w", encoding=encoding, newline="") as file:
            writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
            writer.writerows([STRONG, *rows])
        read = read_labels(path, name="s.csv", columns=STRONG)
        assert read[STRONG].to_numpy().tolist() == rows
        assert read.line.tolist() == list(range(2, len(rows) + 2))
        assert set(read.file) == {"s.csv"}
        assert set(read.kind) == {""}

    @settings(max_examples=25, deadline=None)
    @given(pairs=st.lists(st.tuples(name, word).map(list), min_size=1, max_size=6))
    def test_weak_labels_with_and_without_a_header_are_the_same(
        self, tmp_path_factory: pytest.TempPathFactory, pairs: list[list[str]]
    ) -> None:
        folder = tmp_path_factory.mktemp("written")
        with open(folder / "header.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([WEAK, *pairs])
        with open(folder / "bare.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t").writerows([one, "30.000", "40.000", label] for one, label in pairs)
        for form, first_line in (("header", 2), ("bare", 1)):
            read = read_labels(folder / f"{form}.csv", name="w", columns=WEAK)
            assert read[WEAK].to_numpy().tolist() == pairs
            assert read.line.min() == first_line

    def test_bare_carriage_returns_blank_lines_and_line_breaks_in_quotes(self, tmp_path: Path) -> None:
        content = 'filename,event_label\r\ra.wav,Car\r\r\r"b\nc.wav",Bus\rd.wav,"Horn, loud"\r'
        read = read_labels(write(tmp_path / "weak.csv", content), name="weak.csv", columns=WEAK)
        assert read[["line", *WEAK]].to_numpy().tolist() == [
            [3, "a.wav", "Car"],
            [6, "b\nc.wav", "Bus"],
            [8, "d.wav", "Horn, loud"],
        ]

    def test_the_separator_is_that_of_the_first_line_that_is_not_blank(self, tmp_path: Path) -> None:
        path = write(tmp_path / "weak.csv", "\n\r\na,b.wav\t0\t10\tHorn, loud\n")
        read = read_labels(path, name="weak.csv", columns=WEAK)
        assert read[["line", *WEAK]].to_numpy().tolist() == [[3, "a,b.wav", "Horn, loud"]]

    def test_clips_without_events_have_no_times(self, tmp_path: Path) -> None:
        path = write(tmp_path / "strong.csv", "a.wav\t\t\t\nb.wav\t0\t1\tCar\n")
        read = read_labels(path, name="strong.csv", columns=STRONG)
        assert read.kind.tolist() == ["", ""]
        assert math.isnan(read.onset[0])
        assert read.event_label.tolist() == ["", "Car"]
        weak = write(tmp_path / "weak.csv", "a.wav\t30.0\t40.0\t\nb.wav\t\t\t\n")
        assert read_labels(weak, name="weak.csv", columns=WEAK).kind.tolist() == ["", ""]

    @pytest.mark.parametrize(
        ("row", "kind"),
        [
            ("a.wav,0,1", "malformed"),
            ("a.wav,0,1,Car,", "malformed"),
            ('a.wav,0,1,"Car" horn', "malformed"),
            (" , , , ", "spaces"),
            (",0,1,Car", "no_filename"),
            ("a.wav ,0,1,Car", "spaces"),
            ("a.wav,0,1,\u00a0Car", "spaces"),
            ("../a.wav,0,1,Car", "bad_path"),
            ("x/../a.wav,0,1,Car", "bad_path"),
            ("./a.wav,0,1,Car", "bad_path"),
            ("/a.wav,0,1,Car", "bad_path"),
            ("x//a.wav,0,1,Car", "bad_path"),
            ("x/,0,1,Car", "bad_path"),
            ("x\\a.wav,0,1,Car", "bad_path"),
            ("..,0,1,Car", "bad_path"),
            ("a.wav,zero,1,Car", "no_number"),
            ("a.wav,0,,Car", "no_number"),
            ("a.wav,0,nan,Car", "no_number"),
            ("a.wav,0,inf,Car", "no_number"),
            ("a.wav,0,1e400,Car", "no_number"),
            ("a.wav,0,1_0,Car", "no_number"),
            ("a.wav,,,Car", "no_number"),
            ("a.wav,0,1,", "no_label"),
            ("a.wav,2,1,Car", "reversed"),
            ("a.wav,-1,1,Car", "negative"),
            ("a.wav,-1,-2,Car", "reversed"),
            ("x/y.z/..a.wav,0,1,Car", ""),
            ("-a b_c.wav,0.5,0.5,Car", ""),
            ("a.wav,-0.0,1e1,Car", ""),
        ],
    )
    def test_a_row_has_the_first_kind_that_fits(self, tmp_path: Path, row: str, kind: str) -> None:
        path = write(
            tmp_path / "strong.csv", f"filename,onset,offset,event_label\nb.wav,0,1,Car\n{row}\nc.wav,0,1,Car\n"
        )
        read = read_labels(path, name="strong.csv", columns=STRONG)
        assert read.kind.tolist() == ["", kind, ""]
        assert read.line.tolist() == [2, 3, 4]

    def test_an_open_quote_takes_the_rest_of_the_file_with_it(self, tmp_path: Path) -> None:
        path = write(tmp_path / "weak.csv", 'filename,event_label\na.wav,"Car\nb.wav,Bus\n')
        read = read_labels(path, name="weak.csv", columns=WEAK)
        assert read[["line", "kind"]].to_numpy().tolist() == [[2, "malformed"]]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b"\xef\xbb\xbf\r\n \n", "is empty"),
            (b"filename,event_label\n", "lists no clip"),
            (b"filename,event_label\n\n\n", "lists no clip"),
            (b"RIFF\x24\0\0\0WAVEfmt ", "binary file"),
            ("filename,event_label\na.wav,Z\u00fcge\n".encode("latin-1"), "byte 28 is not; save it as UTF-8"),
            ("filename,event_label\na.wav,Car\n".encode("utf-16"), "UTF-8"),
            (b"file,label\na.wav,Car\n", r"expected the header filename,event_label .*its first line is 'file, label'"),
            (b"filename,onset,offset,event_label\na.wav,0,1,Car\n", "expected the header filename,event_label"),
            (b"filename\tonset\toffset\tevent_label\na.wav\t0\t1\tCar\n", "expected the header"),
            (b"a.wav,30,40,Car\n", "expected the header"),
            (b"a.wav\tCar\n", "filename start end event_label separated by TABs"),
            (b'"open,event_label\na.wav,Car\n', "expected the header"),
        ],
    )
    def test_what_is_no_label_file_is_one_clear_error(self, tmp_path: Path, content: bytes, message: str) -> None:
        path = write(tmp_path / "weak.csv", content)
        with pytest.raises(DataError, match=message) as raised:
            read_labels(path, name="weak.csv", columns=WEAK)
        assert str(raised.value).startswith(str(path))

    def test_missing_files_and_folders_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"nowhere\.csv: label file cannot be read \(No such file"):
            read_records(tmp_path / "nowhere.csv")
        with pytest.raises(DataError, match=r"cannot be read \(Is a directory"):
            read_records(tmp_path)

    def test_the_published_files_are_read_as_plain_loops_do(self, dcase2017_folder: Path) -> None:
        for path in sorted(dcase2017_folder.glob("groundtruth_*_label_*_set.csv")):
            columns = STRONG if "strong" in path.name else WEAK
            expected = [line.split("\t") for line in path.read_text().splitlines()]
            read = read_labels(path, name=path.name, columns=columns)
            assert read.filename.tolist() == [row[0] for row in expected]
            assert read.event_label.tolist() == [row[3] for row in expected]
            assert read.line.tolist() == list(range(1, len(expected) + 1))
            assert set(read.kind) == {""}
            if "onset" in columns:
                times = [[float(row[1]), float(row[2])] for row in expected]
                assert read[["onset", "offset"]].to_numpy().tolist() == times


class TestTreatments:
    def test_every_kind_is_refused_or_kept(self) -> None:
        treatments, meanings = zip(*TREATMENTS.values(), strict=True)
        assert set(treatments) == {"refused", "kept"}
        assert len(set(meanings)) == len(meanings)


def clips_of(sources: list[str], split: str = "training") -> pd.DataFrame:
    table = pd.DataFrame({"sources": sources, "split": split})
    return table.assign(file="f", line=range(len(table)), text=table.sources)


class TestDraw:
    @settings(max_examples=25, deadline=None)
    @given(
        sources=st.lists(st.sampled_from("abcdefghij"), min_size=2, max_size=30).filter(lambda s: len(set(s)) > 1),
        share=st.floats(0.01, 0.99),
        seed=st.integers(0, 9),
        random=st.randoms(use_true_random=False),
    )
    def test_sources_stay_together_and_order_plays_no_part(
        self, sources: list[str], share: float, seed: int, random: object
    ) -> None:
        ranked = sorted(set(sources), key=lambda source: hashlib.sha256(f"{seed} {source}".encode()).hexdigest())
        n_drawn = max(1, min(len(ranked) - 1, round(share * len(ranked))))
        expected = {source: "validation" if source in ranked[:n_drawn] else "training" for source in sources}
        for _ in range(2):
            drawn = draw_validation(clips_of(sources), share=share, seed=seed)
            assert drawn.tolist() == [expected[source] for source in sources]
            random.shuffle(sources)  # type: ignore[attr-defined]

    def test_other_splits_are_left_alone(self) -> None:
        clips = pd.concat([clips_of(list("abcd")), clips_of(list("efgh"), "test")], ignore_index=True)
        drawn = draw_validation(clips, share=0.5, seed=0)
        assert drawn[4:].tolist() == ["test"] * 4
        assert sorted(drawn[:4]) == ["training", "training", "validation", "validation"]

    def test_a_test_clip_of_a_drawn_source_stays_a_test_clip(self) -> None:
        clips = pd.concat([clips_of(list("abcd")), clips_of(list("abcd"), "test")], ignore_index=True)
        drawn = draw_validation(clips, share=0.5, seed=0)
        assert drawn[4:].tolist() == ["test"] * 4

    def test_the_seed_decides(self) -> None:
        sources = [str(number) for number in range(100)]
        drawn = {tuple(draw_validation(clips_of(sources), share=0.1, seed=seed)) for seed in range(5)}
        assert len(drawn) == 5

    def test_one_source_cannot_be_split(self) -> None:
        with pytest.raises(DataError, match="two training clips from different sources, got 1"):
            draw_validation(clips_of(["a", "a"]), share=0.5, seed=0)


def test_sources_in_two_splits_are_remarked_on() -> None:
    clips = pd.concat([clips_of(list("aab")), clips_of(list("bcc"), "test")], ignore_index=True)
    remarks = shared_sources(clips)
    assert remarks[["line", "kind", "treatment"]].to_numpy().tolist() == [[0, "shared_source", "kept"]]
    assert remarks.message.str.endswith(": b").all()
