"""The audio of DCASE 2017 Task 4, clip by clip, from where it was uploaded.

Conventions: names of clips and files are those of `hpsed_lib.data.dcase2017.clips`. What is fetched becomes mono,
16 bit, 44.1 kHz unless another rate is asked for, as it was published. A clip is shorter than its section where the
recording ends first, as 10,000 of the published ones are. One under `MINIMUM_DURATION` is not kept, and neither is one
that ends before both its section and its recording do.

yt-dlp reads the pages, with its own pauses and retries; FFmpeg reads the sound from the address that they name, no more
of it than the section and what is asked for with it (`PIECE`). Never run against YouTube: tested on loopback.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import librosa
import numpy as np
from pydantic import Field, FilePath
from yt_dlp import YoutubeDL

from hpsed_lib.data.audio import write_audio
from hpsed_lib.data.dcase2017.clips import audio_path, failure_of, missing, read_failures, require_space, write_failures
from hpsed_lib.params import Section
from hpsed_lib.paths import replacing
from hpsed_lib.progress import track

YOUTUBE = "https://www.youtube.com/watch?v={video}"
MINIMUM_DURATION = 1.0  # s, the shortest clip that was published
TOLERANCE = 0.2  # s between what a recording promises and what comes out of it: encoders pad and trim
PREROLL = 0.5  # s decoded before a section, so that the decoder has settled where it begins
PIECE = 2**19  # bytes of a request for sound

FINAL = {"gone", "restricted", "too short"}  # not asked for again unless wanted
TURNED_AWAY = {"refused", "unreachable", "stalled", "unexpected"}  # many in a row, and the next will fare no better

# What a site answers, in words of its own, of yt-dlp or of FFmpeg; the first that is found counts.
_ANSWERS = {
    "(http error|server returned) (403|429)": "refused",
    "(http error|server returned) (404|410)": "gone",
    "(http error|server returned) [45]": "unreachable",
    "timed out|immediate exit": "stalled",
    "input/output error|IncompleteRead": "incomplete",
    "TransportError": "unreachable",
    r"unsupported url\b|operation not permitted": "unreadable",
    "requested format": "unexpected",
    r"not a bot\b|rate-limited|captcha|too many requests|try again later": "refused",
    "private video|video is private": "gone",
    r"(country|geo|sign in|log in|age|members-only|join this channel|premium|payment|purchase)\b": "restricted",
    "removed|deleted|terminated|closed|unavailable|not available|no longer available|does not exist|copyright": "gone",
}


class Site(Section):
    """Where clips are fetched, how politely, and at which rate they are kept."""

    address: str = Field(YOUTUBE, pattern=r"\{video\}", description="of a video, with {video} for its id")
    interval: float = Field(3.0, ge=0, description="seconds of pause before a page is asked for")
    timeout: float = Field(30.0, gt=0, description="seconds before a request is given up")
    refusals: int = Field(20, ge=1, description="clips turned away in a row, after which nothing more is asked")
    sr: int = Field(44100, ge=1, description="rate of what is fetched, in Hz")
    cookies: FilePath | None = Field(None, description="cookies in Netscape's format, for videos with a login")


def _parts(clip: str) -> tuple[str, float, float]:
    """Video, start and end in s, from the name of a clip."""
    video, start, end = clip.removesuffix(".wav").rsplit("_", 2)
    return video, float(start), float(end)


class _UnusableError(Exception):
    """The clip cannot be cut out of what came of its recording: a reason, and a detail."""


def read_section(file: Any, start: float, end: float, **opening: Any) -> tuple[np.ndarray, int]:
    """Decode a section (in s) of a recording, anything that FFmpeg reads; `opening` goes to `av.open`.

    ``y`` is (samples,), the mean of the channels, float32, at the recording's own rate, which comes with it in Hz; it
    is shorter than the section where the recording ends first.
    """
    with av.open(file, **opening) as container:
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
        resampler, begin, pieces = av.AudioResampler(format="fltp"), np.inf, []
        for frame in container.decode(stream):
            if frame.time >= origin + end:
                break
            # Only the first time counts: the others are rounded, in WebM to a millisecond, and would leave gaps.
            begin = min(begin, frame.time)
            pieces += [part.to_ndarray().mean(axis=0) for part in resampler.resample(frame)]
    if not pieces:
        raise _UnusableError("incomplete", "no sound came")
    y = np.concatenate(pieces)
    offset = round((origin + start - begin) * sr)
    y = y[max(offset, 0) :][: round((end - start) * sr)]
    promised = min(end, last) - start
    if offset < -TOLERANCE * sr or len(y) / sr < promised - TOLERANCE:
        raise _UnusableError("incomplete", f"{len(y) / sr:.3f} s came, {promised:.3f} s were promised")
    if not np.isfinite(y).all():
        raise _UnusableError("unreadable", "holds values that are not finite")
    return y, sr


def classify(error: Exception) -> tuple[str, str]:
    """The reason, one of `REASONS`, that an error of yt-dlp or of FFmpeg stands for, and its words."""
    if isinstance(error, _UnusableError):
        return error.args
    detail = (isinstance(error, av.FFmpegError) and error.strerror) or str(error)  # FFmpeg's has the address as well
    for words, reason in _ANSWERS.items():
        if re.search(rf"\b({words})", detail, re.IGNORECASE):
            return reason, detail
    if isinstance(error, OSError):
        return "unreachable", detail
    return "unreadable" if isinstance(error, av.FFmpegError) else "unexpected", detail


def _downloader(site: Site) -> YoutubeDL:
    return YoutubeDL(
        {
            "format": "ba[protocol~='^https?$']/b[protocol~='^https?$']",
            "noplaylist": True,
            "sleep_interval_requests": site.interval,
            "socket_timeout": site.timeout,
            "cookiefile": None if site.cookies is None else str(site.cookies),
            "color": "never",  # its messages go into a file
            "logger": logging.Logger("yt-dlp", logging.CRITICAL),  # silent: its exceptions say the same
            "extractor_args": {"youtube": {"skip": ["hls", "dash", "translated_subs"]}},  # requests saved
        }
    )


def _section(downloader: YoutubeDL, clip: str, site: Site) -> tuple[np.ndarray, int]:
    """The sound of a clip and its own rate, from its video's page and the address that stands there."""
    video, start, end = _parts(clip)
    info = downloader.extract_info(site.address.replace("{video}", video), download=False)
    if "url" not in info:
        raise _UnusableError("unreadable", "no single recording at this address")
    time.sleep(max((info.get("available_at") or 0) - time.time(), 0))  # some open some seconds after their page
    headers = {**info.get("http_headers", {}), "Cookie": downloader.cookiejar.get_cookie_header(info["url"])}
    options = {
        "headers": "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value),
        "request_size": str(PIECE),
    }
    return read_section(info["url"], start, end, options=options, timeout=site.timeout)


def fetch(clips: Iterable[str], folder: Path, *, site: Site, retry: bool = False) -> bool:
    """Fetch the clips that are not in `folder`, and write down in `FAILURES` why others are not.

    Those that failed for a `FINAL` reason are asked for again only with `retry`. Returns whether the site turned
    everything away, so that the rest was not asked for. A full disk is an error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failures = read_failures(folder)
    known = set() if retry else {clip for clip, failure in failures.items() if failure.reason in FINAL}
    todo = [clip for clip in missing(folder, clips) if clip not in known]
    require_space(folder, sum(44 + 2 * round((end - start) * site.sr) for _, start, end in map(_parts, todo)))

    downloader, n_refusals = _downloader(site), 0
    for clip in track(todo, description="fetching"):
        try:
            y, native_sr = _section(downloader, clip, site)
        except Exception as error:  # an extractor meets pages nobody thought of, and raises anything
            failures[clip] = failure_of(clip, *classify(error))
            write_failures(folder, failures)
            n_refusals = n_refusals + 1 if failures[clip].reason in TURNED_AWAY else 0
            if n_refusals == site.refusals:
                return True
            continue
        n_refusals = 0
        y = librosa.resample(y, orig_sr=native_sr, target_sr=site.sr)
        with replacing(audio_path(folder, clip)) as temporary:
            write_audio(temporary, y, sr=site.sr)
    write_failures(folder, read_failures(folder))  # without those that are there by now
    return False
