"""The audio of DCASE 2017 Task 4, clip by clip, from where it was uploaded.

Conventions: names of clips and files are those of `hpsed_lib.data.dcase2017.clips`. What is fetched becomes mono,
16 bit, 44.1 kHz unless another rate is asked for, as it was published. A clip is shorter than its section where the
recording ends first, as 10,000 of the published ones are. Less than `MINIMUM_DURATION` is not kept, and neither is a
clip that ends before both its section and its recording do.

Only the bytes around the section travel: every request for sound asks for a range of at most `PIECE` bytes. All
requests keep a distance in time, those for pages included.

Tested against a server on loopback, with recordings encoded for the tests and with messages as yt-dlp words them. Never
run against YouTube.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import librosa
import numpy as np
import soundfile
from yt_dlp import YoutubeDL
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError, IncompleteRead, TransportError
from yt_dlp.utils import GeoRestrictedError, UnsupportedError, YoutubeDLError

from hpsed_lib.data.audio import write_audio
from hpsed_lib.data.dcase2017.clips import (
    Clip,
    Failure,
    audio_path,
    failure_of,
    missing,
    read_failures,
    require_space,
    write_failures,
)
from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.paths import FAILURES, replacing
from hpsed_lib.progress import track

YOUTUBE = "https://www.youtube.com/watch?v={video}"
SR = 44100  # Hz
MINIMUM_DURATION = 1.0  # s, the shortest clip that was published
TOLERANCE = 0.2  # s between what a recording promises and what comes out of it: encoders pad and trim
PREROLL = 0.5  # s decoded before a section, so that the decoder has settled where it begins
PIECE = 2**20  # bytes

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


def required_bytes(clips: Iterable[Clip], *, sr: int) -> int:
    """Most that the audio of these clips can take on disk."""
    return sum(44 + 2 * round((clip.end - clip.start) * sr) for clip in clips)


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
                    return failure_of(clip, reason, error)
            self._sleep(self._site.backoff * 2**attempt)
        self._count("fetched")
        _save(audio_path(folder, clip), y, native_sr=native_sr, sr=sr)
        return None

    def _section(self, clip: Clip) -> tuple[np.ndarray, int]:
        downloader = self._downloader()
        info = downloader.extract_info(self._site.address.replace("{video}", clip.video), download=False)
        if "url" not in info:
            raise _UnusableError("unreadable", "no single recording at this address")
        self._sleep((info.get("available_at") or 0) - time.time())  # some recordings open some seconds after their page
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


def fetch(clips: Iterable[Clip], folder: Path, *, site: Site, sr: int = SR, retry: bool = False) -> bool:
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
    bool
        Whether the site turned everything away, so that the rest was not asked for.

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
    failures = read_failures(folder)
    todo = [
        clip
        for clip in missing(folder, clips)
        if retry or clip.name not in failures or failures[clip.name].reason not in FINAL
    ]
    require_space(folder, required_bytes(todo, sr=sr))
    # Rewritten first: a row that a kill has cut short would swallow the next one.
    write_failures(folder, failures.values())

    fetcher = _Fetcher(site)
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
    finally:
        fetcher.stop.set()
        pool.shutdown(cancel_futures=True)
    write_failures(folder, read_failures(folder).values())
    return fetcher.turned_away
