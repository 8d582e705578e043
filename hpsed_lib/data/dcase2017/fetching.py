"""The audio of DCASE 2017 Task 4, clip by clip, from where it was uploaded.

Conventions: names of clips and files are those of `hpsed_lib.data.dcase2017.clips`. What is fetched becomes mono,
16 bit, 44.1 kHz unless another rate is asked for, as it was published. A clip is shorter than its section where the
recording ends first, as 10,000 of the published ones are. One under `MINIMUM_DURATION` is not kept, and neither is one
that ends before both its section and its recording do.

Only the bytes around the section travel: every request for sound asks for a range of at most `PIECE` bytes. All
requests keep a distance in time, those for pages included. Never run against YouTube: tested on loopback.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import av
import librosa
import numpy as np
from pydantic import Field, FilePath
from yt_dlp import YoutubeDL
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError, IncompleteRead, TransportError
from yt_dlp.utils import DownloadCancelled, YoutubeDLError

from hpsed_lib.data.audio import write_audio
from hpsed_lib.data.dcase2017.clips import (
    Failure,
    audio_path,
    failure_of,
    missing,
    read_failures,
    require_space,
    write_failures,
)
from hpsed_lib.params import Section
from hpsed_lib.paths import replacing
from hpsed_lib.progress import track

YOUTUBE = "https://www.youtube.com/watch?v={video}"
MINIMUM_DURATION = 1.0  # s, the shortest clip that was published
TOLERANCE = 0.2  # s between what a recording promises and what comes out of it: encoders pad and trim
PREROLL = 0.5  # s decoded before a section, so that the decoder has settled where it begins
PIECE = 2**19  # bytes

FINAL = {"gone", "restricted", "too short"}  # not asked for again unless wanted
PASSING = {"refused", "unreachable", "stalled", "incomplete"}  # worth another try at once
TURNED_AWAY = {"refused", "unreachable", "stalled", "unexpected"}  # many in a row, and the next will fare no better

# What a site answers in words, through yt-dlp; the first that is found counts.
_ANSWERS = {
    "unsupported url": "unreadable",
    "requested format": "unexpected",
    "not a bot|rate-limited|captcha|too many requests|try again later": "refused",
    "private video|video is private": "gone",
    "country|geo|sign in|log in|age|members-only|join this channel|premium|payment|purchase": "restricted",
    "removed|deleted|terminated|closed|unavailable|not available|no longer available|does not exist|copyright": "gone",
}


class Site(Section):
    """Where clips are fetched, how politely, and at which rate they are kept."""

    address: str = Field(YOUTUBE, pattern=r"\{video\}", description="of a video, with {video} for its id")
    jobs: int = Field(4, ge=1, description="clips at a time")
    interval: float = Field(2.0, ge=0, description="seconds between the starts of two requests, over all jobs")
    timeout: float = Field(30.0, gt=0, description="seconds without a byte before a request is given up")
    retries: int = Field(3, ge=0, description="further tries of a clip, where another may help")
    backoff: float = Field(10.0, ge=0, description="seconds before the first of them, doubling with each")
    refusals: int = Field(20, ge=1, description="tries turned away in a row, after which nothing more is asked")
    sr: int = Field(44100, ge=1, description="rate of what is fetched, in Hz")
    cookies: FilePath | None = Field(None, description="cookies in Netscape's format, for videos with a login")


def _parts(clip: str) -> tuple[str, float, float]:
    """Video, start and end in s, from the name of a clip."""
    video, start, end = clip.removesuffix(".wav").rsplit("_", 2)
    return video, float(start), float(end)


class _UnusableError(Exception):
    """A recording came, or part of it, and the clip cannot be cut out of it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _RemoteFile:
    """A file behind an address, read in ranges of `PIECE` bytes, or at once if the server has no ranges."""

    def __init__(self, urlopen: Callable[[Request], Any], url: str, headers: dict[str, str]) -> None:
        self._urlopen, self._url, self._headers = urlopen, url, headers
        self._position = 0
        self._size: int | None = None
        self._piece, self._begin = b"", 0  # what came last, and its place in the file

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            self._require_piece()
            offset += self._size or 0
        elif whence == io.SEEK_CUR:
            offset += self._position
        self._position = offset
        return offset

    def read(self, n: int) -> bytes:
        self._require_piece()
        first = self._position - self._begin
        data = self._piece[first : first + n]
        self._position += len(data)
        return data

    def _require_piece(self) -> None:
        """Ask for the bytes from where we are, unless they are at hand or the file is at its end."""
        at_hand = self._begin <= self._position < self._begin + len(self._piece)
        if at_hand or (self._size is not None and self._position >= self._size):
            return
        ranges = {"Range": f"bytes={self._position}-{self._position + PIECE - 1}", "Accept-Encoding": "identity"}
        with contextlib.closing(self._urlopen(Request(self._url, headers={**self._headers, **ranges}))) as response:
            self._piece = response.read()
        match = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range", ""))
        self._begin, self._size = (self._position, int(match[1])) if match else (0, len(self._piece))


def read_section(file: Any, start: float, end: float) -> tuple[np.ndarray, int]:
    """Decode a section (in s) of a recording, anything that FFmpeg reads.

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
        last = (container.duration or np.inf) / av.time_base
        if stream.duration is not None:
            last = float(stream.duration * stream.time_base)
        if last - start < MINIMUM_DURATION:
            raise _UnusableError("too short", f"the recording ends at {last:.3f} s, the section begins at {start:g} s")
        if start > PREROLL:
            container.seek(int((origin + start - PREROLL) * av.time_base))
        sr = stream.codec_context.sample_rate
        begin, y = _decode(container, stream, until=origin + end)
    offset = round((origin + start - begin) * sr)
    y = y[max(offset, 0) :][: round((end - start) * sr)]
    promised = min(end, last) - start
    if offset < -TOLERANCE * sr or len(y) / sr < promised - TOLERANCE:
        raise _UnusableError("incomplete", f"{len(y) / sr:.3f} s came, {promised:.3f} s were promised")
    if not np.isfinite(y).all():
        raise _UnusableError("unreadable", "holds values that are not finite")
    return y, sr


def _decode(container: Any, stream: Any, *, until: float) -> tuple[float, np.ndarray]:
    """Decode up to a time in s; the time of the first sample, and the mean of the channels."""
    resampler = av.AudioResampler(format="fltp")
    begin, pieces = np.inf, []
    for frame in container.decode(stream):
        if frame.time >= until:
            break
        # Only the first time counts: the others are rounded, in WebM to a millisecond, and would leave gaps.
        begin = min(begin, frame.time)
        pieces += [part.to_ndarray().mean(axis=0) for part in resampler.resample(frame)]
    if not pieces:
        raise _UnusableError("incomplete", "no sound came")
    return begin, np.concatenate(pieces)


def classify(error: Exception) -> str:
    """The reason, one of `REASONS`, that an error of yt-dlp, of the network or of FFmpeg stands for."""
    cause: BaseException | None = error
    while cause is not None:  # yt-dlp wraps what it meets
        match cause:
            case _UnusableError():
                return cause.reason
            case HTTPError():
                return {403: "refused", 429: "refused", 404: "gone", 410: "gone"}.get(cause.status, "unreachable")
            case IncompleteRead():
                return "incomplete"
            case av.FFmpegError():
                return "unreadable"
            case TransportError() | OSError():
                return "stalled" if "timed out" in str(cause).lower() else "unreachable"
        cause = cause.__context__
    if isinstance(error, YoutubeDLError):
        for words, reason in _ANSWERS.items():
            if re.search(rf"\b({words})\b", str(error), re.IGNORECASE):
                return reason
    return "unexpected"


class _PacedDownloader(YoutubeDL):
    """yt-dlp, waiting for its turn before each request, whichever part of it makes it."""

    wait_for_turn: Callable[[], None]

    def urlopen(self, req: Any) -> Any:
        self.wait_for_turn()
        return super().urlopen(req)


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

    def fetch(self, clip: str, folder: Path) -> Failure | None:
        """Fetch one clip; why it could not be had, or None."""
        for attempt in itertools.count():
            try:
                y, native_sr = self._section(clip)
                break
            except DownloadCancelled:
                raise
            except Exception as error:  # an extractor meets pages nobody thought of, and raises anything
                reason = classify(error)
                self._count(reason)
                if attempt == self._site.retries or reason not in PASSING or self.turned_away:
                    return failure_of(clip, reason, error)
            self._sleep(self._site.backoff * 2**attempt)
        self._count("fetched")
        y = librosa.resample(y, orig_sr=native_sr, target_sr=self._site.sr)
        with replacing(audio_path(folder, clip)) as temporary:
            write_audio(temporary, y, sr=self._site.sr)
        return None

    def _section(self, clip: str) -> tuple[np.ndarray, int]:
        video, start, end = _parts(clip)
        downloader = self._downloader()
        info = downloader.extract_info(self._site.address.replace("{video}", video), download=False)
        if "url" not in info:
            raise _UnusableError("unreadable", "no single recording at this address")
        self._sleep((info.get("available_at") or 0) - time.time())  # some recordings open some seconds after their page
        file = _RemoteFile(downloader.urlopen, info["url"], info.get("http_headers", {}))
        return read_section(file, start, end)

    def _downloader(self) -> YoutubeDL:
        """This thread's own: they keep state."""
        if not hasattr(self._own, "downloader"):
            options = {
                "format": "ba[protocol~='^https?$']/b[protocol~='^https?$']",
                "noplaylist": True,
                "socket_timeout": self._site.timeout,
                "extractor_retries": 0,
                "cookiefile": None if self._site.cookies is None else str(self._site.cookies),
                "color": "never",  # its messages go into a file
                "logger": logging.Logger("yt-dlp", logging.CRITICAL),  # silent: its exceptions say the same
                "extractor_args": {"youtube": {"skip": ["hls", "dash", "translated_subs"]}},  # requests saved
            }
            self._own.downloader = _PacedDownloader(options)
            self._own.downloader.wait_for_turn = self._wait_for_turn
        return self._own.downloader

    def _wait_for_turn(self) -> None:
        with self._lock:
            turn = max(time.monotonic(), self._next_turn)
            self._next_turn = turn + self._site.interval
        self._sleep(turn - time.monotonic())

    def _sleep(self, duration: float) -> None:
        if self.stop.wait(max(duration, 0)):
            raise DownloadCancelled

    def _count(self, result: str) -> None:
        with self._lock:
            self._refusals = self._refusals + 1 if result in TURNED_AWAY else 0
            if self._refusals >= self._site.refusals:
                self.turned_away = True
                self.stop.set()


def fetch(clips: Iterable[str], folder: Path, *, site: Site, retry: bool = False) -> bool:
    """Fetch the clips that are not in `folder`, and write down in `FAILURES` why others are not.

    Those that failed for a `FINAL` reason are asked for again only with `retry`. Returns whether the site turned
    everything away, so that the rest was not asked for.

    Raises
    ------
    DataError
        The disk is full, or will be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failures = read_failures(folder)
    known = set() if retry else {clip for clip, failure in failures.items() if failure.reason in FINAL}
    todo = [clip for clip in missing(folder, clips) if clip not in known]
    require_space(folder, sum(44 + 2 * round((end - start) * site.sr) for _, start, end in map(_parts, todo)))

    fetcher = _Fetcher(site)
    pool = ThreadPoolExecutor(site.jobs)
    futures = [pool.submit(fetcher.fetch, clip, folder) for clip in todo]
    try:
        for future in track(as_completed(futures), description="fetching", total=len(futures)):
            failure = future.result()
            if failure is not None:
                failures[failure.clip] = failure
                write_failures(folder, failures)
    except DownloadCancelled:
        pass  # turned away
    finally:
        fetcher.stop.set()
        pool.shutdown(cancel_futures=True)
    write_failures(folder, read_failures(folder))  # without those that are there by now
    return fetcher.turned_away
