"""The audio of DCASE 2017 Task 4: out of the published archives, and the rest clip by clip from where it was uploaded.

``python -m hpsed_lib.dcase2017_audio``, or ``make dcase2017-audio``.

Conventions: a clip is named as in the label files, ``<video>_<start>_<end>.wav``, start and end in seconds of the
video; its audio is the file ``Y<clip>`` in one flat folder, as it was published: mono, 16 bit, 44.1 kHz unless another
rate is asked for. A file with that name is whole: it was checked before it got the name. What cannot be had is a row of
`FAILURES` in that folder (clip, reason, detail, time in UTC), the newest of each clip; `REASONS` lists them.

A clip is shorter than its section where the recording ends first, as 10,000 of the published ones are. Less than
`MINIMUM_DURATION` is not kept, and neither is a clip that ends before both its section and its recording do. Only the
bytes around the section travel: every request for sound asks for a range of at most `PIECE` bytes.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import itertools
import re
import shutil
import sys
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import av
import librosa
import numpy as np
import soundfile
from joblib import Parallel, delayed
from yt_dlp import YoutubeDL
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError, IncompleteRead, TransportError
from yt_dlp.utils import GeoRestrictedError, UnsupportedError, YoutubeDLError

from hpsed_lib.audio import write_audio
from hpsed_lib.errors import DataError, HpsedError, ParameterError
from hpsed_lib.paths import replacing
from hpsed_lib.progress import track

FAILURES = "failures.csv"
LOCK = ".audio.lock"
YOUTUBE = "https://www.youtube.com/watch?v={video}"
SR = 44100  # Hz
MINIMUM_DURATION = 1.0  # s, the shortest clip that was published
TOLERANCE = 0.2  # s between what a recording promises and what comes out of it: encoders pad and trim
PREROLL = 0.5  # s decoded before a section, so that the decoder has settled where it begins
PIECE = 2**20  # bytes
BATCH = 16  # members of an archive per task
DETAIL_LENGTH = 300  # characters

# Published archives by file name: their address and MD5.
ARCHIVES = {
    "DCASE_2017_evaluation_set_audio_files.zip": (
        "https://dl.dropboxusercontent.com/s/bbgqfd47cudwe9y/DCASE_2017_evaluation_set_audio_files.zip",
        "676b0b4a956db2445b16d7b13522808b",
    )
}
PASSWORDS = ("DCASE_2017_training_set", "DCASE_2017_testing_set", "DCASE_2017_evaluation_set")

REASONS = {
    "gone": "private, removed, or never there",
    "restricted": "needs a login, an age or a country",
    "too short": "the recording ends before the section, or less than a second into it",
    "refused": "the site turned us away (HTTP 403, 429, a check for robots)",
    "unreachable": "no connection, or an error of the server",
    "stalled": "no byte came for too long",
    "incomplete": "ends before it says",
    "unreadable": "no audio in it, or damaged",
    "corrupt": "damaged in the archive",
    "unexpected": "anything else; a newer yt-dlp may know more",
}
FINAL = {"gone", "restricted", "too short"}  # not asked for again unless wanted
PASSING = {"refused", "unreachable", "stalled", "incomplete"}  # worth another try at once
TURNED_AWAY = {"refused", "unreachable", "stalled", "unexpected"}  # many in a row, and the next will fare no better

# What YouTube answers in words, through yt-dlp; the first that is found counts.
_ANSWERS = [
    ("unexpected", "requested format"),
    ("refused", "not a bot|rate-limited|captcha|too many requests|try again later"),
    ("gone", "private video|video is private"),
    ("restricted", "country|sign in|log in|age|members-only|join this channel|premium|payment|purchase"),
    (
        "gone",
        "removed|deleted|terminated|closed|unavailable|not available|no longer available|does not exist|copyright",
    ),
]
_CLIP = re.compile(r"(?P<video>[\w-]{11})_(?P<start>\d+\.\d{3})_(?P<end>\d+\.\d{3})\.wav", re.ASCII)
_AES = 99  # compression method that a zip file declares for WinZip's AES


class Clip(NamedTuple):
    """A section of a video."""

    name: str  # as in the label files
    video: str
    start: float  # s
    end: float  # s


class Failure(NamedTuple):
    """Why a clip is not there."""

    clip: str
    reason: str  # one of REASONS
    detail: str
    time: str  # UTC


@dataclass(frozen=True)
class Site:
    """Where clips are fetched, and how politely."""

    address: str = YOUTUBE  # of the page or the file of a video
    jobs: int = 4  # clips at a time
    interval: float = 2.0  # s from the start of one request to the start of the next, over all jobs
    timeout: float = 30.0  # s without a byte
    retries: int = 3  # further tries of a clip, where another may help
    backoff: float = 10.0  # s before the first of them; doubles with each
    refusals: int = 20  # tries turned away in a row, then no further request is made
    cookies: Path | None = None  # in Netscape's format, for a site that wants a login

    def __post_init__(self) -> None:
        if "{video}" not in self.address:
            raise ParameterError(f"address: expected one with {{video}} in it, got {self.address!r}")
        for name, smallest in (("jobs", 1), ("retries", 0), ("refusals", 1), ("interval", 0), ("backoff", 0)):
            if getattr(self, name) < smallest:
                raise ParameterError(f"{name}: expected {smallest} or more, got {getattr(self, name)}")
        if self.timeout <= 0:
            raise ParameterError(f"timeout: expected more than 0 s, got {self.timeout}")
        if self.cookies is not None and not self.cookies.is_file():
            raise DataError(f"{self.cookies}: no such file; expected cookies in Netscape's format")


class Outcome(NamedTuple):
    """What came of fetching."""

    fetched: int
    failed: int
    skipped: int  # known to be out of reach, not asked for
    stopped: bool  # the site turned everything away, so that the rest was not asked for


def parse_clip(name: str) -> Clip:
    """Take a clip's name apart.

    Raises
    ------
    DataError
        It is not ``<video>_<start>_<end>.wav``, or it ends before it begins.

    Examples
    --------
    >>> parse_clip("-E0sh_RxAbo_30.000_40.000.wav")
    Clip(name='-E0sh_RxAbo_30.000_40.000.wav', video='-E0sh_RxAbo', start=30.0, end=40.0)
    """
    match = _CLIP.fullmatch(name)
    if match is None:
        raise DataError(f"{name!r}: expected the name of a clip, as in -E0shPRxAbo_30.000_40.000.wav")
    clip = Clip(name, match["video"], float(match["start"]), float(match["end"]))
    if clip.end <= clip.start:
        raise DataError(f"{name!r}: ends before it begins")
    return clip


def read_clips(labels: Path) -> list[Clip]:
    """List the clips of a label file, each once, in its order.

    Parameters
    ----------
    labels : Path
        A TAB-separated file with the clip's name in the first column (``groundtruth_weak_label_training_set.csv``).

    Raises
    ------
    DataError
        The file is missing, or a line does not begin with a clip's name.
    """
    try:
        lines = labels.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{labels}: cannot be read ({error})") from error
    clips: dict[str, Clip] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                clip = parse_clip(line.split("\t")[0].strip())
            except DataError as error:
                raise DataError(f"{labels}, line {number}: {error}") from None
            clips[clip.name] = clip
    return list(clips.values())


def audio_path(folder: Path, clip: Clip) -> Path:
    """Where the audio of a clip is, or will be."""
    return folder / f"Y{clip.name}"


def missing(folder: Path, clips: Iterable[Clip]) -> list[Clip]:
    """Clips without a file in `folder`."""
    there = {path.name for path in folder.glob("Y*.wav")}
    return [clip for clip in clips if audio_path(folder, clip).name not in there]


def required_bytes(clips: Iterable[Clip], *, sr: int) -> int:
    """Most that the audio of these clips can take on disk."""
    return sum(44 + 2 * round((clip.end - clip.start) * sr) for clip in clips)


def require_space(folder: Path, n_bytes: int) -> None:
    """Refuse to begin what cannot end.

    Raises
    ------
    DataError
        The disk of `folder` has less than `n_bytes` left.
    """
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise DataError(
            f"{folder}: up to {n_bytes / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; "
            "name a folder on another disk, fewer label files or a lower rate"
        )


# ---------------------------------------------------------------------------------------------------- failures


def read_failures(folder: Path) -> dict[str, Failure]:
    """Why clips are not in a folder: the newest failure of each that is not there by now, by the clip's name."""
    path = folder / FAILURES
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) == len(Failure._fields)]  # a kill may leave half a row
    return {row[0]: Failure(*row) for row in rows[1:] if not (folder / f"Y{row[0]}").is_file()}


def _write_failures(folder: Path, failures: Iterable[Failure]) -> None:
    with replacing(folder / FAILURES) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([Failure._fields, *failures])


def _failure(clip: Clip, reason: str, detail: object) -> Failure:
    text = " ".join(str(detail).split())[:DETAIL_LENGTH]
    return Failure(clip.name, reason, text, datetime.now(UTC).isoformat(timespec="seconds"))


# ---------------------------------------------------------------------------------------------------- archives


def unpack(
    archives: Iterable[Path], folder: Path, clips: Iterable[Clip], *, passwords: Sequence[str] = (), jobs: int = 1
) -> list[Failure]:
    """Unpack the clips that are in zip files, encrypted or not.

    A clip is found by its name, with or without the leading ``Y``, in whatever folder of the archive it lies. One that
    is there with the right length and CRC-32 is not unpacked again.

    Parameters
    ----------
    archives : iterable of Path
        Zip files, and folders of them.
    folder : Path
        Where the audio goes.
    clips : iterable of Clip
        What is wanted; other members are left alone.
    passwords : sequence of str
        To be tried before `PASSWORDS`.
    jobs : int
        Processes: decryption takes its time.

    Returns
    -------
    list of Failure
        One for every clip whose member is damaged.

    Raises
    ------
    DataError
        There is no zip file, one is not what was published, no password opens it, it is encrypted with AES, or the disk
        is too small.
    """
    wanted = {clip.name: clip for clip in clips}
    folder.mkdir(parents=True, exist_ok=True)
    found = [
        failure
        for archive in _find_archives(archives)
        for failure in _unpack_archive(archive, folder, wanted, [*passwords, *PASSWORDS], jobs)
    ]
    _write_failures(folder, (read_failures(folder) | {failure.clip: failure for failure in found}).values())
    return found


def _find_archives(paths: Iterable[Path]) -> list[Path]:
    found = []
    for path in paths:
        zips = sorted(path.rglob("*.zip")) if path.is_dir() else [path]
        if not zips or not all(archive.is_file() for archive in zips):
            raise DataError(f"{path}: expected a zip file, or a folder with some")
        found += zips
    return found


def _unpack_archive(
    archive: Path, folder: Path, wanted: dict[str, Clip], passwords: Sequence[str], jobs: int
) -> Iterator[Failure]:
    members = _members(archive, wanted)
    todo = [(info, clip) for info, clip in members if not _is_there(audio_path(folder, clip), info)]
    if not todo:
        return
    _require_published(archive)
    require_space(folder, sum(info.file_size for info, _ in todo))
    password = _find_password(archive, [info for info, _ in todo], passwords)
    tasks = [(info.filename, audio_path(folder, clip)) for info, clip in todo]
    batches = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(_unpack_members)(archive, tasks[first : first + BATCH], password)
        for first in range(0, len(tasks), BATCH)
    )
    errors = track(itertools.chain.from_iterable(batches), description=f"unpacking {archive.name}", total=len(tasks))
    for (info, clip), error in zip(todo, errors, strict=True):
        if error is not None:
            yield _failure(clip, "corrupt", f"{archive}, {info.filename}: {error}")


def _members(archive: Path, wanted: dict[str, Clip]) -> list[tuple[zipfile.ZipInfo, Clip]]:
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
        while block := file.read(PIECE):
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


def _find_password(archive: Path, infos: Sequence[zipfile.ZipInfo], passwords: Sequence[str]) -> bytes | None:
    """Find the password by unpacking the smallest encrypted members, one of which may be damaged."""
    encrypted = sorted((info for info in infos if info.flag_bits & 1), key=lambda info: info.file_size)
    if not encrypted:
        return None
    with zipfile.ZipFile(archive) as file:
        for password, info in itertools.product(passwords, encrypted[:3]):
            try:
                file.read(info, pwd=password.encode())
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError):
                continue  # one wrong password in 256 passes the archive's own check and shows as damage
            return password.encode()
    raise DataError(f"{archive}: opens with none of the passwords {', '.join(passwords)}; name another one")


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
                    shutil.copyfileobj(source, target, PIECE)
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
                errors.append(str(error) or type(error).__name__)
            else:
                errors.append(None)
    return errors


# ---------------------------------------------------------------------------------------------------- fetching


class _UnusableError(Exception):
    """A recording came, or part of it, and the clip cannot be cut out of it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _StoppedError(Exception):
    """No further request is to be made."""


class _Quiet:
    """Where yt-dlp's messages go: its exceptions say the same."""

    def debug(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...


class _RemoteFile:
    """A file behind an address, read in ranges of at most `PIECE` bytes, from a server that has ranges or not."""

    def __init__(self, urlopen: Callable[[Request], Any], url: str, headers: dict[str, str]) -> None:
        self._urlopen, self._url, self._headers = urlopen, url, headers
        self._response: Any = None
        self._position = 0
        self._piece_end = 0
        self._size: int | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            if self._size is None:
                raise _UnusableError("unreadable", "the server does not say how long the file is")
            offset += self._size
        elif whence == io.SEEK_CUR:
            offset += self._position
        if offset != self._position:
            self.close()
            self._position = offset
        return offset

    def read(self, n: int) -> bytes:
        while self._size is None or self._position < self._size:
            if self._response is None:
                self._open()
            data = self._response.read(n)
            self._position += len(data)
            if data:
                return data
            self.close()
            if self._size is None:
                break
            if self._position < self._piece_end:
                raise _UnusableError("incomplete", f"{self._position} of {self._size} bytes came")
        return b""

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _open(self) -> None:
        ranges = {"Range": f"bytes={self._position}-{self._position + PIECE - 1}", "Accept-Encoding": "identity"}
        self._response = self._urlopen(Request(self._url, headers={**self._headers, **ranges}))
        match = re.fullmatch(r"bytes \d+-(\d+)/(\d+)", self._response.headers.get("Content-Range", ""))
        if match is not None:
            self._piece_end, self._size = int(match[1]) + 1, int(match[2])
            return
        length = self._response.headers.get("Content-Length")
        self._size = None if length is None else int(length)
        self._piece_end = self._size or 0
        before = self._position  # the whole file comes, from its beginning
        while before > 0 and (data := self._response.read(min(before, PIECE))):
            before -= len(data)


def read_section(file: Any, start: float, end: float) -> tuple[np.ndarray, int]:
    """Decode a section of a recording.

    Parameters
    ----------
    file : file-like or str
        Anything that FFmpeg reads.
    start, end : float
        Seconds from the beginning of the recording.

    Returns
    -------
    y : np.ndarray, shape (samples,)
        Mean of the channels, float32; shorter than the section where the recording ends first.
    sr : int
        The recording's own rate, in Hz.
    """
    with av.open(file) as container:
        if not container.streams.audio:
            raise _UnusableError("unreadable", "no audio in it")
        stream = container.streams.audio[0]
        origin = (container.start_time or 0) / av.time_base
        last = _duration(container, stream)
        if last - start < MINIMUM_DURATION:
            raise _UnusableError("too short", f"the recording ends at {last:.3f} s, the section begins at {start:g} s")
        if start > PREROLL:
            container.seek(int((origin + start - PREROLL) * av.time_base))
        sr = stream.codec_context.sample_rate
        begin, y = _decode(container, stream, until=origin + end)
    offset = round((origin + start - begin) * sr)
    if offset < -TOLERANCE * sr:
        raise _UnusableError("incomplete", f"the sound begins at {begin - origin:.3f} s")
    y = y[max(offset, 0) :][: round((end - start) * sr)]
    if len(y) / sr < min(end, last) - start - TOLERANCE:
        raise _UnusableError("incomplete", f"{len(y) / sr:.3f} s came, {min(end, last) - start:.3f} s were promised")
    if not np.isfinite(y).all():
        raise _UnusableError("unreadable", "holds values that are not finite")
    return y, sr


def _duration(container: Any, stream: Any) -> float:
    """Length of a recording in seconds; infinite where it does not say."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    return np.inf if container.duration is None else container.duration / av.time_base


def _decode(container: Any, stream: Any, *, until: float) -> tuple[float, np.ndarray]:
    """Decode up to a time in s; the time of the first sample, and the mean of the channels."""
    resampler = av.AudioResampler(format="fltp")
    begin, pieces = np.inf, [np.zeros(0, dtype=np.float32)]
    for frame in container.decode(stream):
        if frame.time is None:
            raise _UnusableError("unreadable", "its sound has no times")
        if frame.time >= until:
            break
        # Only the first time counts: the others are rounded, in WebM to a millisecond, and would leave gaps.
        begin = min(begin, frame.time)
        pieces += [part.to_ndarray().mean(axis=0) for part in resampler.resample(frame)]
    if begin == np.inf:
        raise _UnusableError("incomplete", "no sound came")
    return begin, np.concatenate(pieces)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was made from, in yt-dlp's ways and in Python's."""
    while error is not None:
        yield error
        exc_info = getattr(error, "exc_info", None)
        inner = exc_info[1] if exc_info else None
        causes = (inner, getattr(error, "cause", None), error.__cause__)
        error = next((cause for cause in causes if isinstance(cause, BaseException) and cause is not error), None)


def classify(error: Exception) -> str:
    """The reason, one of `REASONS`, that an error of yt-dlp, of the network or of FFmpeg stands for."""
    for cause in _causes(error):
        if isinstance(cause, _UnusableError):
            return cause.reason
        if isinstance(cause, GeoRestrictedError):
            return "restricted"
        if isinstance(cause, UnsupportedError):
            return "unreadable"
        if isinstance(cause, HTTPError):
            return {403: "refused", 429: "refused", 404: "gone", 410: "gone"}.get(cause.status, "unreachable")
        if isinstance(cause, IncompleteRead):
            return "incomplete"
        if isinstance(cause, TransportError | OSError) and not isinstance(cause, av.FFmpegError):
            return "stalled" if "timed out" in str(cause).lower() else "unreachable"
        if isinstance(cause, av.FFmpegError):
            return "unreadable"
    if isinstance(error, YoutubeDLError):
        for reason, pattern in _ANSWERS:
            if re.search(rf"\b({pattern})\b", str(error), re.IGNORECASE):
                return reason
    return "unexpected"


class _Fetcher:
    """What all jobs share: whose turn it is, how often the site turned them away, and whether to go on."""

    def __init__(self, site: Site) -> None:
        self.stop = threading.Event()
        self.turned_away = False  # too often
        self._site = site
        self._lock = threading.Lock()
        self._next_turn = 0.0
        self._refusals = 0
        self._own = threading.local()

    def fetch(self, clip: Clip, folder: Path, sr: int) -> Failure | None:
        """Fetch one clip; why it could not be had, or None."""
        for attempt in itertools.count():
            try:
                y, native_sr = self._section(clip)
                break
            except _StoppedError:
                raise
            except Exception as error:  # an extractor meets pages nobody thought of, and raises anything
                reason = classify(error)
                self._count(reason)
                if attempt == self._site.retries or reason not in PASSING or self.turned_away:
                    return _failure(clip, reason, error)
            self._sleep(self._site.backoff * 2**attempt)
        self._count("fetched")
        _save(audio_path(folder, clip), y, native_sr=native_sr, sr=sr)
        return None

    def _section(self, clip: Clip) -> tuple[np.ndarray, int]:
        downloader = self._downloader()
        info = downloader.extract_info(self._site.address.replace("{video}", clip.video), download=False)
        if "url" not in info:
            raise _UnusableError("unreadable", "no single recording at this address")
        file = _RemoteFile(downloader.urlopen, info["url"], info.get("http_headers", {}))
        try:
            return read_section(file, clip.start, clip.end)
        finally:
            file.close()

    def _downloader(self) -> YoutubeDL:
        """This thread's own: they keep state."""
        if not hasattr(self._own, "downloader"):
            self._own.downloader = _PacedDownloader(
                {
                    "format": "ba[protocol~='^https?$']/b[protocol~='^https?$']",
                    "noplaylist": True,
                    "socket_timeout": self._site.timeout,
                    "extractor_retries": 0,
                    "cookiefile": None if self._site.cookies is None else str(self._site.cookies),
                    "color": "never",  # its messages go into a file
                    "logger": _Quiet(),
                    "extractor_args": {"youtube": {"skip": ["hls", "dash", "translated_subs"]}},  # requests saved
                },
                self._wait_for_turn,
            )
        return self._own.downloader

    def _wait_for_turn(self) -> None:
        with self._lock:
            turn = max(time.monotonic(), self._next_turn)
            self._next_turn = turn + self._site.interval
        self._sleep(turn - time.monotonic())

    def _sleep(self, duration: float) -> None:
        if self.stop.wait(max(duration, 0)):
            raise _StoppedError

    def _count(self, result: str) -> None:
        with self._lock:
            self._refusals = self._refusals + 1 if result in TURNED_AWAY else 0
            if self._refusals >= self._site.refusals:
                self.turned_away = True
                self.stop.set()


class _PacedDownloader(YoutubeDL):
    """yt-dlp, waiting for its turn before each request, whichever part of it makes it."""

    def __init__(self, options: dict[str, Any], wait_for_turn: Callable[[], None]) -> None:
        self._wait_for_turn = wait_for_turn
        super().__init__(options)

    def urlopen(self, req: Any) -> Any:
        self._wait_for_turn()
        return super().urlopen(req)


def _save(path: Path, y: np.ndarray, *, native_sr: int, sr: int) -> None:
    """Write a clip that is whole, and read back that it is."""
    y = librosa.resample(y, orig_sr=native_sr, target_sr=sr)
    try:
        with replacing(path) as temporary:
            write_audio(temporary, y, sr=sr)
            if soundfile.info(temporary).frames != len(y):
                raise DataError(f"{path}: {len(y)} samples were written, others are there; is the disk full?")
    except (OSError, soundfile.LibsndfileError) as error:
        raise DataError(f"{path}: cannot be written ({error})") from error


def fetch(clips: Iterable[Clip], folder: Path, *, site: Site, sr: int = SR, retry: bool = False) -> Outcome:
    """Fetch the clips that are not in `folder`, and write down in `FAILURES` why others are not.

    Parameters
    ----------
    clips : iterable of Clip
        What is wanted.
    folder : Path
        Where the audio goes.
    site : Site
        Where it comes from.
    sr : int
        Sample rate of the files, in Hz.
    retry : bool
        Ask again for clips that failed for a `FINAL` reason.

    Returns
    -------
    Outcome

    Raises
    ------
    DataError
        The disk is full, or will be.
    ParameterError
        `sr` is not positive.
    """
    if sr <= 0:
        raise ParameterError(f"sr: expected a positive rate in Hz, got {sr}")
    folder.mkdir(parents=True, exist_ok=True)
    absent = missing(folder, clips)
    failures = read_failures(folder)
    todo = [clip for clip in absent if retry or clip.name not in failures or failures[clip.name].reason not in FINAL]
    require_space(folder, required_bytes(todo, sr=sr))
    # Rewritten first: a row that a kill has cut short would swallow the next one.
    _write_failures(folder, failures.values())

    fetcher, n_failed = _Fetcher(site), 0
    pool = ThreadPoolExecutor(site.jobs)
    try:
        futures = [pool.submit(fetcher.fetch, clip, folder, sr) for clip in todo]
        with open(folder / FAILURES, "a", encoding="utf-8", newline="") as log:
            for future in track(as_completed(futures), description="fetching", total=len(futures)):
                try:
                    failure = future.result()
                except _StoppedError:
                    break
                if failure is not None:
                    csv.writer(log).writerow(failure)
                    log.flush()
                    n_failed += 1
    finally:
        fetcher.stop.set()
        pool.shutdown(cancel_futures=True)
    _write_failures(folder, read_failures(folder).values())
    n_fetched = len(absent) - len(missing(folder, absent))
    return Outcome(n_fetched, n_failed, len(absent) - len(todo), fetcher.turned_away)


# ------------------------------------------------------------------------------------------------ command line


def coverage(folder: Path, clips: Mapping[str, Sequence[Clip]]) -> str:
    """Say how many clips of each list are there, and why the others are not.

    Parameters
    ----------
    folder : Path
        Folder of the audio.
    clips : dict of sequence of Clip
        Lists of clips by their names.

    Returns
    -------
    str
        One line per list, then one per reason.
    """
    lines, reasons = [], Counter[str]()
    failures = read_failures(folder)
    for name, listed in clips.items():
        absent = missing(folder, listed)
        n_there = len(listed) - len(absent)
        lines.append(f"{name}: {n_there:,} of {len(listed):,} clips ({n_there / max(len(listed), 1):.1%})")
        reasons.update(failures[clip.name].reason if clip.name in failures else "" for clip in absent)
    for reason, count in reasons.most_common():
        lines.append(f"  {count:,} {reason}: {REASONS[reason]}" if reason else f"  {count:,} not asked for yet")
    if failures:
        lines.append(f"Every clip that failed, with its reason: {folder / FAILURES}")
    return "\n".join(lines)


def _sweep(folder: Path) -> None:
    """Remove what killed runs have left; only for who holds the lock."""
    for path in itertools.chain(folder.glob(".Y*.wav"), folder.glob(".failures.*.csv")):
        path.unlink()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hpsed_lib.dcase2017_audio",
        description="Fill a folder with the audio of DCASE 2017 Task 4; run it again to go on.",
    )
    parser.add_argument("labels", nargs="+", type=Path, help="label files that name the clips in their first column")
    parser.add_argument("--data", type=Path, required=True, help="folder to fill")
    parser.add_argument("--archives", nargs="+", type=Path, default=[], help="published zip files, or folders of them")
    parser.add_argument("--password", action="append", default=[], help="of an archive, if it is not the published one")
    parser.add_argument("--no-fetch", action="store_true", help="only unpack, and say what is there")
    parser.add_argument("--retry", action="store_true", help="ask again for clips known to be out of reach")
    parser.add_argument("--sr", type=int, default=SR, help="rate of what is fetched, in Hz (default: %(default)s)")
    for name, text in (
        ("address", "of a video, with {video} for its id"),
        ("jobs", "clips at a time"),
        ("interval", "seconds between the starts of two requests"),
        ("timeout", "seconds without a byte before a request is given up"),
        ("retries", "further tries of a clip"),
        ("backoff", "seconds before the first of them, doubling with each"),
        ("refusals", "tries turned away in a row, after which nothing more is asked"),
    ):
        default = getattr(Site, name)
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{text} (default: %(default)s)")
    parser.add_argument("--cookies", type=Path, help="file of cookies in Netscape's format, for videos with a login")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 0, 1 if the site turned everything away, or 2 if it could not begin or go on."""
    options = _parser().parse_args(arguments)
    from hpsed_lib.execution import only_one  # here: it brings what notebooks need, which every process would load

    try:
        site = Site(**{name: getattr(options, name) for name in Site.__dataclass_fields__})
        lists = {labels.name: read_clips(labels) for labels in options.labels}
        clips = list({clip.name: clip for listed in lists.values() for clip in listed}.values())
        options.data.mkdir(parents=True, exist_ok=True)
        with only_one(options.data / LOCK, lambda pid: None, patience=0):
            _sweep(options.data)
            stopped = _fill(options, clips, site)
    except (HpsedError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(coverage(options.data, lists))
    if stopped:
        print(
            f"error: {site.refusals} tries in a row were turned away, so that nothing more was asked. Wait some hours, "
            "then run the same command again, with a longer --interval, with --cookies or after an update of yt-dlp.",
            file=sys.stderr,
        )
    return int(stopped)


def _fill(options: argparse.Namespace, clips: Sequence[Clip], site: Site) -> bool:
    """Unpack, then fetch; whether the site turned everything away."""
    if options.archives:
        unpack(options.archives, options.data, clips, passwords=options.password, jobs=options.jobs)
    if options.no_fetch:
        return False
    absent = missing(options.data, clips)
    n_bytes, free = required_bytes(absent, sr=options.sr), shutil.disk_usage(options.data).free
    print(f"{len(absent):,} of {len(clips):,} clips to go: {n_bytes / 1e9:.1f} GB at most, {free / 1e9:.1f} GB free")
    return fetch(absent, options.data, site=site, sr=options.sr, retry=options.retry).stopped


if __name__ == "__main__":
    sys.exit(main())
