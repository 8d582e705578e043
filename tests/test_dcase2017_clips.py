"""Clips of DCASE 2017 Task 4 in a folder: which are there, and why others are not."""

from __future__ import annotations

from pathlib import Path

from hpsed_lib.data.dcase2017.clips import audio_path, failure_of, missing, read_failures, write_failures


def test_audio_of_the_users_own_counts_as_there(tmp_path: Path) -> None:
    clips = [f"{video}_1.000_11.000.wav" for video in ("abcdefghijk", "-bcdefghijk", "Ybcdefghijk", "zbcdefghijk")]
    (tmp_path / "sub" / "folder").mkdir(parents=True)
    for path in ("Yabcdefghijk", "sub/-bcdefghijk", "sub/folder/YYbcdefghijk"):
        (tmp_path / f"{path}_1.000_11.000.flac").touch()
    (tmp_path / ".Yzbcdefghijk_1.000_11.000.123.wav").touch()
    assert missing(tmp_path, clips) == [clips[3]]


def test_failures_of_what_is_not_there(tmp_path: Path) -> None:
    first, second = clips = ["_a_b_c_d_e__0.500_1.500.wav", "-5QrBL6MzLg_60.000_70.000.wav"]
    assert read_failures(tmp_path) == {}
    failures = {clip: failure_of(clip, "gone", 'removed,\n "they" say') for clip in clips}
    write_failures(tmp_path, failures)
    assert read_failures(tmp_path) == failures
    assert failures[first].detail == 'removed, "they" say'
    audio_path(tmp_path, second).touch()
    assert list(read_failures(tmp_path)) == [first]
