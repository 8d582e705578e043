"""Published archives of DCASE 2017 Task 4: one that Info-ZIP encrypted, and others in every situation."""

from __future__ import annotations

import base64
import zipfile
from pathlib import Path

import pytest
from loopback import clip

from hpsed_lib.data.dcase2017 import archives as dcase2017_archives
from hpsed_lib.data.dcase2017.archives import ARCHIVES, unpack
from hpsed_lib.data.dcase2017.clips import audio_path, failure_of, missing, read_failures, write_failures
from hpsed_lib.errors import DataError
from hpsed_lib.paths import FAILURES

CLIPS = [clip(video) for video in "abc"]
SOUNDS = {c: f"sound {c[0]}".encode() for c in CLIPS}
# zip -X -P DCASE_2017_evaluation_set a.zip Y*.wav, of SOUNDS
ENCRYPTED = base64.b64decode(
    "UEsDBAoACQAAAAAAIUpYUWqzEwAAAAcAAAAeAAAAWWFfX19fX19fX19fXzIwLjAwMF8zMC4wMDAud2F2xoaXaG1WbhB7y/gcKOE1VL3nT1BL"
    "BwhYUWqzEwAAAAcAAABQSwMECgAJAAAAAAAhSuIAYyoTAAAABwAAAB4AAABZYl9fX19fX19fX19fMjAuMDAwXzMwLjAwMC53YXZHFojw9r1O"
    "AW8Xl3oNP99gOtl2UEsHCOIAYyoTAAAABwAAAFBLAwQKAAkAAAAAACFKdDBkXRMAAAAHAAAAHgAAAFljX19fX19fX19fX18yMC4wMDBfMzAu"
    "MDAwLndhdqvFUp56Gu2Rzz8NZ58HzTRO9a9QSwcIdDBkXRMAAAAHAAAAUEsBAh4DCgAJAAAAAAAhSlhRarMTAAAABwAAAB4AAAAAAAAAAQAA"
    "AKSBAAAAAFlhX19fX19fX19fX18yMC4wMDBfMzAuMDAwLndhdlBLAQIeAwoACQAAAAAAIUriAGMqEwAAAAcAAAAeAAAAAAAAAAEAAACkgV8A"
    "AABZYl9fX19fX19fX19fMjAuMDAwXzMwLjAwMC53YXZQSwECHgMKAAkAAAAAACFKdDBkXRMAAAAHAAAAHgAAAAAAAAABAAAApIG+AAAAWWNf"
    "X19fX19fX19fXzIwLjAwMF8zMC4wMDAud2F2UEsFBgAAAAADAAMA5AAAAB0BAAAAAA=="
)


def write_zip(path: Path, members: dict[str, bytes], *, aes: bool = False) -> None:
    """Write an archive, or one whose directory says that it is encrypted with AES."""
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
            if aes:
                file.getinfo(name).compress_type, file.getinfo(name).flag_bits = 99, 1


def unpacked(folder: Path) -> dict[str, bytes]:
    return {path.name.removeprefix("Y"): path.read_bytes() for path in folder.glob("*.wav")}


def test_archive_is_unpacked_flat_and_only_what_is_missing(tmp_path: Path) -> None:
    wanted = {f"../../Y{CLIPS[0]}": SOUNDS[CLIPS[0]], CLIPS[1]: SOUNDS[CLIPS[1]]}
    write_zip(tmp_path / "a.zip", wanted | {f"Y{CLIPS[2]}": b"not wanted", "README": b"text", "../evil.wav": b"evil"})
    folder = tmp_path / "deep" / "audio"
    folder.mkdir(parents=True)
    audio_path(folder, CLIPS[1]).write_bytes(b"the user's own")
    unpack([tmp_path], folder, CLIPS[:2])
    assert unpacked(folder) == {CLIPS[0]: SOUNDS[CLIPS[0]], CLIPS[1]: b"the user's own"}
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {tmp_path / "a.zip", folder / FAILURES, *(audio_path(folder, c) for c in CLIPS[:2])}


def test_what_info_zip_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(ENCRYPTED)
    unpack([tmp_path / "a.zip"], tmp_path / "audio", CLIPS)
    assert unpacked(tmp_path / "audio") == SOUNDS
    assert read_failures(tmp_path / "audio") == {}
    monkeypatch.setattr(dcase2017_archives, "PASSWORDS", ("another",))
    with pytest.raises(DataError, match=r"a\.zip: opens with none of the passwords another"):
        unpack([tmp_path / "a.zip"], tmp_path / "other", CLIPS)


def test_damaged_member_is_a_failure_and_the_others_are_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    write_zip(tmp_path / "a.zip", {f"Y{c}": sound for c, sound in SOUNDS.items()})
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"sound b", b"noise b"))
    unpack([tmp_path / "a.zip"], folder, CLIPS)
    [failure] = read_failures(folder).values()
    assert (failure.clip, failure.reason) == (CLIPS[1], "corrupt")
    assert "CRC" in failure.detail
    assert missing(folder, CLIPS) == [CLIPS[1]]
    assert list(folder.glob(".Y*")) == []


def test_archives_that_cannot_be_used(tmp_path: Path) -> None:
    good, [published] = {f"Y{CLIPS[0]}": SOUNDS[CLIPS[0]]}, ARCHIVES
    (tmp_path / "text").write_text("no zip file")
    write_zip(tmp_path / "aes", good, aes=True)
    write_zip(tmp_path / published, good)
    write_zip(tmp_path / "twice", good | {f"x/Y{CLIPS[0]}": b"other"})
    (tmp_path / "truncated").write_bytes((tmp_path / published).read_bytes()[:-30])
    for name, message in {
        "text": "not a whole zip file",
        "truncated": "not a whole zip file",
        "aes": "AES.*7z",
        published: "MD5 is .* not 676b0b4a.* fetch it again from https://",
        "twice": "two different recordings of one clip",
        "none": "expected a zip file, or a folder",
    }.items():
        with pytest.raises(DataError, match=f"{name}: .*{message}"):
            unpack([tmp_path / name], tmp_path / "audio", CLIPS)


def test_failures_of_what_is_not_there(tmp_path: Path) -> None:
    first, second = clips = ["_a_b_c_d_e__0.500_1.500.wav", "-5QrBL6MzLg_60.000_70.000.wav"]
    assert read_failures(tmp_path) == {}
    failures = {clip: failure_of(clip, "gone", 'removed,\n "they" say') for clip in clips}
    write_failures(tmp_path, failures)
    assert read_failures(tmp_path) == failures
    assert failures[first].detail == 'removed, "they" say'
    audio_path(tmp_path, second).touch()
    assert list(read_failures(tmp_path)) == [first]
