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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from joblib import Parallel, delayed

from hpsed_lib.data.dcase2017.clips import (
    Clip,
    Failure,
    audio_path,
    failure_of,
    read_failures,
    require_space,
    write_failures,
)
from hpsed_lib.errors import DataError
from hpsed_lib.paths import replacing
from hpsed_lib.progress import track

BATCH = 16  # members of an archive per task
BLOCK = 2**20  # bytes

# Published archives by file name: their address and MD5.
ARCHIVES = {
    "DCASE_2017_evaluation_set_audio_files.zip": (
        "https://dl.dropboxusercontent.com/s/bbgqfd47cudwe9y/DCASE_2017_evaluation_set_audio_files.zip",
        "676b0b4a956db2445b16d7b13522808b",
    )
}
PASSWORDS = ("DCASE_2017_training_set", "DCASE_2017_testing_set", "DCASE_2017_evaluation_set")

_AES = 99  # compression method that a zip file declares for WinZip's AES


def unpack(archives: Iterable[Path], folder: Path, clips: Iterable[Clip], *, jobs: int = 1) -> list[Failure]:
    """Unpack the clips that are in zip files, encrypted or not.

    A clip that is there with the right length and CRC-32 is not unpacked again.

    Parameters
    ----------
    archives : iterable of Path
        Zip files, and folders of them.
    folder : Path
        Where the audio goes.
    clips : iterable of Clip
        What is wanted; other members are left alone.
    jobs : int
        Processes: decryption takes its time.

    Returns
    -------
    list of Failure
        One for every clip whose member is damaged; they are in the folder's list of failures too.

    Raises
    ------
    DataError
        There is no zip file, one is not what was published, none of `PASSWORDS` opens it, it is encrypted with AES, or
        the disk is too small.
    """
    wanted = {clip.name: clip for clip in clips}
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for path in archives:
        zips = sorted(path.rglob("*.zip")) if path.is_dir() else [path]
        if not zips or not all(archive.is_file() for archive in zips):
            raise DataError(f"{path}: expected a zip file, or a folder with some")
        for archive in zips:
            failures += _unpack_archive(archive, folder, wanted, jobs)
    write_failures(folder, (read_failures(folder) | {failure.clip: failure for failure in failures}).values())
    return failures


def _unpack_archive(archive: Path, folder: Path, wanted: Mapping[str, Clip], jobs: int) -> list[Failure]:
    members = _members(archive, wanted)
    todo = [(info, clip) for info, clip in members if not _is_there(audio_path(folder, clip), info)]
    if not todo:
        return []
    _require_published(archive)
    require_space(folder, sum(info.file_size for info, _ in todo))
    password = _find_password(archive, [info for info, _ in todo])
    tasks = [(info.filename, audio_path(folder, clip)) for info, clip in todo]
    batches = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(_unpack_members)(archive, tasks[first : first + BATCH], password)
        for first in range(0, len(tasks), BATCH)
    )
    errors = track(itertools.chain.from_iterable(batches), description=f"unpacking {archive.name}", total=len(tasks))
    return [
        failure_of(clip, "corrupt", f"{archive}, {info.filename}: {error}")
        for (info, clip), error in zip(todo, errors, strict=True)
        if error is not None
    ]


def _members(archive: Path, wanted: Mapping[str, Clip]) -> list[tuple[zipfile.ZipInfo, Clip]]:
    """Members that are wanted clips; only their last name counts, so that none can be written outside the folder."""
    try:
        with zipfile.ZipFile(archive) as file:
            infos = file.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{archive}: not a whole zip file ({error}); fetch it again") from error
    found: dict[str, tuple[zipfile.ZipInfo, Clip]] = {}
    for info in infos:
        last = info.filename.rsplit("/", 1)[-1]
        clip = wanted.get(last) or wanted.get(last.removeprefix("Y"))
        if clip is None:
            continue
        if info.compress_type == _AES:
            raise DataError(
                f"{archive}: encrypted with AES, which needs another tool, 7-Zip for one: "
                f"7z e {archive.name} -oFOLDER, where FOLDER is the one to be filled"
            )
        other = found.setdefault(clip.name, (info, clip))[0]
        if (other.CRC, other.file_size) != (info.CRC, info.file_size):
            raise DataError(f"{archive}: holds two different recordings of one clip, {other.filename}, {info.filename}")
    return list(found.values())


def _is_there(path: Path, info: zipfile.ZipInfo) -> bool:
    if not path.is_file() or path.stat().st_size != info.file_size:
        return False
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            crc = zlib.crc32(block, crc)
    return crc == info.CRC


def _require_published(archive: Path) -> None:
    """Compare an archive that has a published name with what was published."""
    if archive.name not in ARCHIVES:
        return
    address, expected = ARCHIVES[archive.name]
    with open(archive, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != expected:
        raise DataError(f"{archive}: its MD5 is {found}, not {expected} as published; fetch it again from {address}")


def _find_password(archive: Path, infos: Sequence[zipfile.ZipInfo]) -> bytes | None:
    """Find the password by unpacking the smallest encrypted members, one of which may be damaged."""
    encrypted = sorted((info for info in infos if info.flag_bits & 1), key=lambda info: info.file_size)
    if not encrypted:
        return None
    with zipfile.ZipFile(archive) as file:
        for password, info in itertools.product(PASSWORDS, encrypted[:3]):
            try:
                file.read(info, pwd=password.encode())
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError):
                continue  # one wrong password in 256 passes the archive's own check and shows as damage
            return password.encode()
    raise DataError(
        f"{archive}: opens with none of the passwords {', '.join(PASSWORDS)}; if you have another, use another tool: "
        f"7z e -pPASSWORD {archive.name} -oFOLDER, where FOLDER is the one to be filled"
    )


def _unpack_members(archive: Path, tasks: Sequence[tuple[str, Path]], password: bytes | None) -> list[str | None]:
    """Unpack some members; for each, what is wrong with it."""
    errors: list[str | None] = []
    with zipfile.ZipFile(archive) as file:
        for member, path in tasks:
            try:
                with (
                    file.open(member, pwd=password) as source,
                    replacing(path) as temporary,
                    open(temporary, "wb") as target,
                ):
                    shutil.copyfileobj(source, target, BLOCK)
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
                errors.append(str(error) or type(error).__name__)
            else:
                errors.append(None)
    return errors
