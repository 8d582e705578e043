"""Published archives of DCASE 2017 Task 4 against zipfile and Info-ZIP."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from loopback import clip

from hpsed_lib.data.dcase2017.archives import ARCHIVES, PASSWORDS, unpack
from hpsed_lib.data.dcase2017.clips import audio_path, missing, read_failures
from hpsed_lib.errors import DataError
from hpsed_lib.paths import FAILURES

PASSWORD = PASSWORDS[2]


def encrypt(data: bytes, password: str, crc: int) -> bytes:
    """PKWARE's traditional encryption (APPNOTE 6.1), which zipfile reads and does not write."""
    table = [zlib.crc32(bytes([byte]), 0xFFFFFFFF) ^ 0xFFFFFFFF for byte in range(256)]
    keys = [0x12345678, 0x23456789, 0x34567890]

    def advance(byte: int) -> None:
        keys[0] = table[(keys[0] ^ byte) & 255] ^ keys[0] >> 8
        keys[1] = ((keys[1] + (keys[0] & 255)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = table[(keys[2] ^ keys[1] >> 24) & 255] ^ keys[2] >> 8

    for byte in password.encode():
        advance(byte)
    encrypted = bytearray()
    for byte in bytes(11) + bytes([crc >> 24]) + data:
        k = keys[2] | 2
        encrypted.append(byte ^ (k * (k ^ 1) >> 8 & 255))
        advance(byte)
    return bytes(encrypted)


def write_zip(path: Path, members: dict[str, bytes], *, password: str = PASSWORD, **changes: dict[str, int]) -> None:
    """Write an encrypted archive; `changes` replace what the directory says of a member, by its last letter."""
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            crc = zlib.crc32(data)
            file.writestr(name, encrypt(data, password, crc))
            info = file.getinfo(name)
            info.flag_bits |= 1
            info.CRC, info.file_size = crc, len(data)
            for key, value in changes.get(Path(name).stem[1], {}).items():
                setattr(info, key, value(crc) if callable(value) else value)


CLIPS = [clip(video) for video in "abc"]
SOUNDS = {c: np.random.default_rng(index).bytes(1000) for index, c in enumerate(CLIPS)}


def unpacked(folder: Path) -> dict[str, bytes]:
    return {path.name.removeprefix("Y"): path.read_bytes() for path in folder.glob("*.wav")}


def test_archive_is_unpacked_flat_and_only_what_is_missing(tmp_path: Path) -> None:
    members = {f"audio/Y{CLIPS[0]}": SOUNDS[CLIPS[0]], CLIPS[1]: SOUNDS[CLIPS[1]]}
    write_zip(tmp_path / "a.zip", {**members, f"Y{CLIPS[2]}": b"not wanted", "README": b"text"})
    folder = tmp_path / "audio"
    unpack([tmp_path], folder, CLIPS[:2])
    assert unpacked(folder) == {c: SOUNDS[c] for c in CLIPS[:2]}
    audio_path(folder, CLIPS[0]).unlink()
    audio_path(folder, CLIPS[1]).write_bytes(b"the user's own")
    unpack([tmp_path], folder, CLIPS[:2])
    assert unpacked(folder) == {CLIPS[0]: SOUNDS[CLIPS[0]], CLIPS[1]: b"the user's own"}


@pytest.mark.skipif(shutil.which("zip") is None, reason="Info-ZIP is not installed")
def test_info_zip_writes_what_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    for name, sound in SOUNDS.items():
        (tmp_path / f"Y{name}").write_bytes(sound)
    for name, password in (("a.zip", PASSWORD), ("b.zip", "another")):
        subprocess.run(["zip", "-q", "-P", password, name, *(f"./Y{c}" for c in CLIPS)], cwd=tmp_path, check=True)
    unpack([tmp_path / "a.zip"], folder, CLIPS, jobs=2)
    assert unpacked(folder) == SOUNDS
    assert read_failures(folder) == {}
    with pytest.raises(DataError, match=r"b\.zip: opens with none of the passwords"):
        unpack([tmp_path / "b.zip"], tmp_path / "other", CLIPS)


def test_no_member_leaves_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "audio"
    write_zip(tmp_path / "a.zip", {f"../../Y{CLIPS[0]}": SOUNDS[CLIPS[0]], "../evil.wav": b"evil"})
    unpack([tmp_path / "a.zip"], folder, CLIPS)
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {tmp_path / "a.zip", audio_path(folder, CLIPS[0]), folder / FAILURES}


def test_damaged_member_is_a_failure_and_the_others_are_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    write_zip(tmp_path / "a.zip", {f"Y{n}": s for n, s in SOUNDS.items()}, b={"CRC": lambda crc: crc ^ 1})
    unpack([tmp_path / "a.zip"], folder, CLIPS)
    [failure] = read_failures(folder).values()
    assert (failure.clip, failure.reason) == (CLIPS[1], "corrupt")
    assert "CRC" in failure.detail
    assert missing(folder, CLIPS) == [CLIPS[1]]
    assert list(folder.glob(".Y*")) == []


def test_archives_that_cannot_be_used(tmp_path: Path) -> None:
    members = {f"Y{CLIPS[0]}": SOUNDS[CLIPS[0]]}
    text, truncated, aes, published = (tmp_path / name for name in ("t.zip", "u.zip", "v.zip", next(iter(ARCHIVES))))
    text.write_text("no zip file")
    write_zip(truncated, members)
    truncated.write_bytes(truncated.read_bytes()[:-30])
    write_zip(aes, members, a={"compress_type": 99})
    write_zip(published, members)
    folder = tmp_path / "audio"
    for archive, message in (
        (text, "not a whole zip file"),
        (truncated, "not a whole zip file"),
        (aes, "AES.*7z"),
        (published, "MD5 is .* not 676b0b4a.* fetch it again from https://"),
        (tmp_path / "none", "expected a zip file, or a folder"),
    ):
        with pytest.raises(DataError, match=f"{archive.name}: .*{message}"):
            unpack([archive], folder, CLIPS)


def test_two_recordings_of_one_clip_are_an_error(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {f"Y{CLIPS[0]}": b"one", f"x/Y{CLIPS[0]}": b"other"})
    with pytest.raises(DataError, match="two different recordings of one clip"):
        unpack([tmp_path / "a.zip"], tmp_path / "audio", CLIPS)
