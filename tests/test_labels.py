"""Label files against the csv module and plain loops."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from random import Random

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsed_lib.data.label_audit import STRONG, WEAK
from hpsed_lib.data.labels import draw_validation, read_labels
from hpsed_lib.errors import DataError

word = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=6)
name = word.map(lambda text: text.replace("/", "-").replace("\\", "-") + ".wav")
times = st.lists(st.floats(0, 1e6), min_size=2, max_size=2).map(sorted)


def read(folder: Path, content: str | bytes, columns: list[str] = WEAK) -> pd.DataFrame:
    """What is read from a file of this content."""
    (folder / "labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels(folder / "labels.csv", name="l", columns=columns)


class TestReading:
    @settings(max_examples=40, deadline=None)
    @given(
        drawn=st.lists(st.tuples(name, times, word), min_size=1, max_size=6),
        columns=st.sampled_from([STRONG, WEAK]),
        form=st.sampled_from(["header", "tabs", "bare"]),
        end=st.sampled_from(["\n", "\r\n"]),
        encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
        quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    )
    def test_what_the_csv_module_writes_is_read_to_the_last_bit(
        self, tmp_path_factory: pytest.TempPathFactory, drawn, columns, form, end, encoding, quoting
    ) -> None:
        bare = [[clip, onset, offset, label] for clip, (onset, offset), label in drawn]
        rows = bare if columns == STRONG else [[clip, label] for clip, _, label in drawn]
        folder = tmp_path_factory.mktemp("written")
        with open(folder / "labels.csv", "w", encoding=encoding, newline="") as file:
            separator = "," if form == "header" else "\t"
            writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
            writer.writerows(bare if form == "bare" else [columns, *rows])
        found = read_labels(folder / "labels.csv", name="l", columns=columns)
        assert found[columns].to_numpy().tolist() == rows
        first = 1 if form == "bare" else 2
        assert found.line.tolist() == list(range(first, len(rows) + first))
        assert (set(found.file), set(found.kind)) == ({"l"}, {""})

    @pytest.mark.parametrize(
        ("content", "rows"),
        [
            (  # bare carriage returns, blank lines, a line break in quotes
                'filename,event_label\r\ra.wav,Car\r\r\r"b\nc.wav",Bus\rd.wav,"Horn, loud"\r',
                [[3, "", "a.wav", "Car"], [6, "", "b\nc.wav", "Bus"], [8, "", "d.wav", "Horn, loud"]],
            ),
            ("\n\r\na,b.wav\t0\t10\tHorn, loud\n", [[3, "", "a,b.wav", "Horn, loud"]]),
            ("a.wav\t30.0\t40.0\t\nb.wav\t\t\t\n", [[1, "", "a.wav", ""], [2, "", "b.wav", ""]]),
            ('filename,event_label\na.wav,"Car\nb.wav,Bus\n', [[2, "malformed", "", ""]]),  # the quote takes the rest
        ],
    )
    def test_blank_lines_quotes_and_clips_without_events(self, tmp_path: Path, content: str, rows: list[list]) -> None:
        assert read(tmp_path, content)[["line", "kind", *WEAK]].to_numpy().tolist() == rows

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
            *((f"{path},0,1,Car", "bad_path") for path in ("../a.wav", "x/../a.wav", "./a.wav", "/a.wav", "x//a.wav")),
            *((f"{path},0,1,Car", "bad_path") for path in ("x/", "x\\a.wav", "..")),
            ("a.wav,zero,1,Car", "no_number"),
            *((f"a.wav,0,{time},Car", "no_number") for time in ("", "nan", "inf", "1e400", "1_0")),
            ("a.wav,,,Car", "no_number"),
            ("a.wav,0,1,", "no_label"),
            ("a.wav,2,1,Car", "reversed"),
            ("a.wav,-1,1,Car", "negative"),
            ("a.wav,-1,-2,Car", "reversed"),
            ("x/y.z/..a.wav,0,1,Car", ""),
            ("-a b_c.wav,0.5,0.5,Car", ""),
            ("a.wav,-0.0,1e1,Car", ""),
            ("a.wav,,,", ""),
        ],
    )
    def test_a_row_has_the_first_kind_that_fits(self, tmp_path: Path, row: str, kind: str) -> None:
        found = read(tmp_path, f"{','.join(STRONG)}\nb.wav,0,1,Car\n{row}\nc.wav,0,1,Car\n", STRONG)
        assert found.kind.tolist() == ["", kind, ""]
        assert found.line.tolist() == [2, 3, 4]
        assert row != "a.wav,,," or found.loc[1, ["onset", "offset"]].isna().all()  # a clip without events

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"\xef\xbb\xbf\r\n \n", "is empty"),
            (b"filename,event_label\n", "lists no clip"),
            (b"RIFF\x24\0\0\0WAVEfmt ", "binary file"),
            ("filename,event_label\na.wav,Z\u00fcge\n".encode("latin-1"), "byte 28 is not; save it as UTF-8"),
            ("filename,event_label\na.wav,Car\n".encode("utf-16"), "UTF-8"),
            (b"file,label\na.wav,Car\n", r"expected the header filename,event_label .*its first line is 'file, label'"),
            (b"filename,onset,offset,event_label\na.wav,0,1,Car\n", "expected the header filename,event_label"),
            (b"a.wav,30,40,Car\n", "expected the header"),
            (b"a.wav\tCar\n", "filename start end event_label separated by TABs"),
            (b'"open,event_label\na.wav,Car\n', "expected the header"),
            (b"filename;event_label\na.wav;Car\n", "separated by ';': save it with commas or TABs"),
            (b"Selection\tView\tChannel\tBegin Time (s)\n1\tW\t1\t0.5\n", r"Raven: .*Begin Time \(s\)"),
            (b"0.5\t1.25\tCar\n", r"label track of Audacity \(start, end, label\)"),
        ],
    )
    def test_what_is_no_label_file_is_one_clear_error(self, tmp_path: Path, content: bytes, message: str) -> None:
        with pytest.raises(DataError, match=message) as raised:
            read(tmp_path, content)
        assert str(raised.value).startswith(str(tmp_path / "labels.csv"))

    def test_labels_joined_in_a_cell_are_a_row_each_where_the_header_says_so(self, tmp_path: Path) -> None:
        desed = "filename\tevent_labels\nYa_1.wav\tSpeech,Cat\nc.wav\t\n"
        audioset = "# Segments created Sun Mar  5\n# YTID, start_seconds, end_seconds, positive_labels\n"
        audioset += '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n'
        for content, rows in (
            (desed, [[2, "Ya_1.wav", "Speech", ""], [2, "Ya_1.wav", "Cat", ""], [3, "c.wav", "", ""]]),
            (audioset, [[3, "--PJHxphWEs_30000", "/m/09x0r", ""], [3, "--PJHxphWEs_30000", "/t/dd00088", ""]]),
        ):
            assert read(tmp_path, content)[["line", *WEAK, "kind"]].to_numpy().tolist() == rows

    def test_missing_files_and_folders_are_named(self, tmp_path: Path) -> None:
        for name, why in (("nowhere.csv", "No such file"), (".", "Is a directory")):
            with pytest.raises(DataError, match=rf"label file cannot be read \({why}"):
                read_labels(tmp_path / name, columns=WEAK)

    def test_the_published_files_are_read_as_plain_loops_do(self, dcase2017_folder: Path) -> None:
        for path in sorted(dcase2017_folder.glob("groundtruth_*_label_*_set.csv")):
            columns = STRONG if "strong" in path.name else WEAK
            lines = [line.split("\t") for line in path.read_text().splitlines()]
            expected = [[clip, float(onset), float(offset), label] for clip, onset, offset, label in lines]
            found = read_labels(path, name=path.name, columns=columns)
            assert found[columns].to_numpy().tolist() == [[row[STRONG.index(c)] for c in columns] for row in expected]
            assert found.line.tolist() == list(range(1, len(expected) + 1))
            assert set(found.kind) == {""}


source_and_split = st.tuples(st.sampled_from("abcdefghij"), st.sampled_from(["training", "training", "test"]))


@settings(max_examples=40, deadline=None)
@given(
    drawn=st.lists(source_and_split, max_size=30),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
    random=st.randoms(use_true_random=False),
)
def test_sources_are_drawn_by_their_names_alone(
    drawn: list[tuple[str, str]], share: float, seed: int, random: Random
) -> None:
    """The same sources in any order; a test clip of a drawn one stays a test clip."""
    sources = {source for source, split in drawn if split == "training"}
    ranked = sorted(sources, key=lambda source: hashlib.sha256(f"{seed} {source}".encode()).hexdigest())
    first = ranked[: max(1, min(len(ranked) - 1, round(share * len(ranked))))]
    for _ in range(2):
        clips = pd.DataFrame(drawn, columns=["sources", "split"])
        if len(sources) < 2:
            with pytest.raises(DataError, match=f"two training clips from different sources, got {len(sources)}"):
                draw_validation(clips, share=share, seed=seed)
            return
        expected = ["validation" if source in first and split == "training" else split for source, split in drawn]
        assert draw_validation(clips, share=share, seed=seed).tolist() == expected
        random.shuffle(drawn)
