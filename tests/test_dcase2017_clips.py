"""Clips of DCASE 2017 Task 4 by their names, against the published lists."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from hpsed_lib.data.dcase2017.clips import (
    Clip,
    audio_path,
    failure_of,
    missing,
    parse_clip,
    read_failures,
    write_failures,
)
from hpsed_lib.data.dcase2017.labels import clip_names
from hpsed_lib.errors import DataError
from hpsed_lib.paths import FAILURES

CLIP = Clip("_a_b_c_d_e__0.500_1.500.wav", "_a_b_c_d_e_", 0.5, 1.5)


def test_audio_of_the_users_own_counts_as_there(tmp_path: Path) -> None:
    names = [f"{video}_1.000_11.000.wav" for video in ("abcdefghijk", "-bcdefghijk", "Ybcdefghijk", "zbcdefghijk")]
    clips = [parse_clip(name) for name in names]
    (tmp_path / "sub" / "folder").mkdir(parents=True)
    for path in ("Yabcdefghijk", "sub/-bcdefghijk", "sub/folder/YYbcdefghijk"):
        (tmp_path / f"{path}_1.000_11.000.flac").touch()
    (tmp_path / ".Yzbcdefghijk_1.000_11.000.123.wav").touch()
    assert missing(tmp_path, clips) == [clips[3]]


def test_names_keep_leading_hyphens_and_underscores() -> None:
    name = "-5QrBL6MzLg_60.000_70.000.wav"
    assert parse_clip(name) == Clip(name, "-5QrBL6MzLg", 60.0, 70.0)
    assert parse_clip(CLIP.name) == CLIP


@pytest.mark.parametrize(
    "name", ["", "abc", "abcdefghijk_1.000_2.000", "../defghijk_1.000_2.000.wav", "abcdefghijk_2.000_1.000.wav"]
)
def test_what_is_no_clip_is_named(name: str) -> None:
    with pytest.raises(DataError, match=f"^'{name}': "):
        parse_clip(name)


@pytest.mark.parametrize(("name", "file"), [("training", "training_set.csv"), ("development", "testing_set.csv")])
def test_published_lists(dcase2017_folder: Path, name: str, file: str) -> None:
    clips = [parse_clip(clip) for clip in clip_names(name, folder=dcase2017_folder, download=False)]
    with open(dcase2017_folder / file, newline="") as published:
        rows = [(video, float(start), float(end)) for video, start, end, *_ in csv.reader(published)]
    assert sorted((clip.video, clip.start, clip.end) for clip in clips) == sorted(rows)


def test_newest_failure_of_what_is_not_there(tmp_path: Path) -> None:
    other = parse_clip("-5QrBL6MzLg_60.000_70.000.wav")
    refused, gone, stalled = (
        failure_of(CLIP, "refused", "HTTP 403"),
        failure_of(CLIP, "gone", 'removed,\n "they" say'),
        failure_of(other, "stalled", ""),
    )
    assert read_failures(tmp_path) == {}
    write_failures(tmp_path, [refused, stalled, gone])
    with open(tmp_path / FAILURES, "a") as file:
        file.write("half a row")
    assert read_failures(tmp_path) == {CLIP.name: gone, other.name: stalled}
    audio_path(tmp_path, other).touch()
    assert list(read_failures(tmp_path)) == [CLIP.name]
