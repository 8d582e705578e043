"""The audio of DCASE 2017 Task 4 out of the zip files that were published.

Conventions: names of clips and files are those of `clips`. A member of an archive is a clip's by the last part of its
name, with or without the leading ``Y``, whatever folder of the archive it lies in.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from joblib import delayed

from hpsed_lib.data.dcase2017.clips import audio_path, failure_of, missing, read_failures, require_space, write_failures
from hpsed_lib.errors import DataError
from hpsed_lib.paths import replacing
from hpsed_lib.progress import in_parallel

BLOCK = 2**20  # bytes

# The one published archive whose MD5 is known, and where it is.
PUBLISHED = "DCASE_2017_evaluation_set_audio_files.zip"
ADDRESS = f"https://dl.dropboxusercontent.com/s/bbgqfd47cudwe9y/{PUBLISHED}"
MD5 = "676b0b4a956db2445b16d7b13522808b"
PASSWORDS = ("DCASE_2017_training_set", "DCASE_2017_testing_set", "DCASE_2017_evaluation_set")

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


def unpack(archives: Iterable[Path], folder: Path, clips: Sequence[str]) -> None:
    """Unpack the clips that are not in `folder` and are in zip files, encrypted or not, or in folders of such files.

    A clip whose member is damaged gets into the folder's list of failures; an archive that cannot be used is an error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in archives:
        zips = sorted(path.rglob("*.zip")) if path.is_dir() else [path]
        if not zips or not all(archive.is_file() for archive in zips):
            raise DataError(f"{path}: expected a zip file, or a folder with some")
        for archive in zips:
            _unpack_archive(archive, folder, missing(folder, clips))


def _unpack_archive(archive: Path, folder: Path, clips: Sequence[str]) -> None:
    members = _members(archive, clips)
    if not members:
        return
    if archive.name == PUBLISHED:
        with open(archive, "rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != MD5:
            raise DataError(f"{archive}: its MD5 is {found}, not {MD5} as published; fetch it again from {ADDRESS}")
    require_space(folder, sum(info.file_size for info in members.values()))
    password = _find_password(archive, members.values())
    calls = [
        delayed(_unpack_member)(archive, info.filename, audio_path(folder, clip), password)
        for clip, info in members.items()
    ]
    errors = in_parallel(calls, total=len(calls), description=f"unpacking {archive.name}", batch_size=8)
    failures = read_failures(folder)
    for clip, error in zip(members, errors, strict=True):
        if error is not None:
            failures[clip] = failure_of(clip, "corrupt", f"{archive}, {members[clip].filename}: {error}")
    write_failures(folder, failures)


def _members(archive: Path, clips: Sequence[str]) -> dict[str, zipfile.ZipInfo]:
    """Members by the clip they hold; only their last name counts, so that none can be written outside the folder."""
    try:
        with zipfile.ZipFile(archive) as file:
            infos = file.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{archive}: not a whole zip file ({error}); fetch it again") from error
    wanted = {f"Y{clip}": clip for clip in clips} | {clip: clip for clip in clips}
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        clip = wanted.get(info.filename.rsplit("/", 1)[-1])
        if clip is None:
            continue
        other = found.setdefault(clip, info)
        if (other.CRC, other.file_size) != (info.CRC, info.file_size):
            raise DataError(f"{archive}: holds two different recordings of one clip, {other.filename}, {info.filename}")
    return found


def _find_password(archive: Path, infos: Iterable[zipfile.ZipInfo]) -> bytes | None:
    """Find the password by unpacking the smallest encrypted members, one of which may be damaged."""
    encrypted = sorted((info for info in infos if info.flag_bits & 1), key=lambda info: info.file_size)
    if not encrypted:
        return None
    with zipfile.ZipFile(archive) as file:
        for password, info in itertools.product(PASSWORDS, encrypted[:3]):
            try:
                file.read(info, pwd=password.encode())
            except _DAMAGED:
                continue  # one wrong password in 256 passes the archive's own check and shows as damage
            return password.encode()
    raise DataError(
        f"{archive}: opens with none of the passwords {', '.join(PASSWORDS)}; if you have another, or if it is "
        f"encrypted with AES, use 7-Zip: 7z e -pPASSWORD {archive.name} -oFOLDER, where FOLDER is the one to be filled"
    )


def _unpack_member(archive: Path, member: str, path: Path, password: bytes | None) -> str | None:
    """Unpack one member; what is wrong with it, or None."""
    try:
        with (
            zipfile.ZipFile(archive) as file,
            file.open(member, pwd=password) as source,
            replacing(path) as temporary,
            open(temporary, "wb") as target,
        ):
            shutil.copyfileobj(source, target, BLOCK)
    except _DAMAGED as error:
        return str(error) or type(error).__name__
    return None
