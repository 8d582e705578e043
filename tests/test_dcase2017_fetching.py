"""Fetching the audio of DCASE 2017 Task 4 from a server on loopback.

The recordings that the server has are made here, so that every section of them is known; those with a codec are made by
FFmpeg's encoders.
"""

from __future__ import annotations

import csv
import functools
import io
import re
import shutil
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import scipy.signal
import soundfile
from loopback import GOOD, SR, WAVEFORM, Server, clip, encoded
from yt_dlp import YoutubeDL
from yt_dlp.utils import DownloadError, ExtractorError

from hpsed_lib.data.dcase2017 import fetching
from hpsed_lib.data.dcase2017.clips import REASONS, audio_path, missing, read_failures
from hpsed_lib.data.dcase2017.fetching import Site, classify, fetch, read_section
from hpsed_lib.data.dcase2017.labels import clip_names
from hpsed_lib.errors import DataError
from hpsed_lib.paths import FAILURES


@functools.cache
def compressed(container: str, codec: str, sr: int, **options: str) -> bytes:
    """The first 25 s of `WAVEFORM` as a file that FFmpeg encodes."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=sr, layout="stereo", bit_rate=128_000)
        y = np.ascontiguousarray(WAVEFORM[: 25 * SR].T, dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(y, "fltp", "stereo")
        frame.sample_rate = SR
        resampler = av.AudioResampler(stream.format.name, "stereo", sr, frame_size=960 if "opus" in codec else 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(("start", "end"), [(0, 10), (0.25, 1.5), (20, 30), (33.333, 43.333), (52, 62)])
@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_section_is_cut_to_the_sample(kind: str, start: float, end: float) -> None:
    file = encoded(kind=kind)
    y, sr = read_section(io.BytesIO(file), start, end)
    whole, _ = soundfile.read(io.BytesIO(file))
    assert sr == SR
    np.testing.assert_allclose(y, whole.mean(axis=1)[round(start * SR) : round(end * SR)], atol=1e-6)


@pytest.mark.parametrize(
    ("container", "codec", "sr", "options", "delay"),
    [
        # The encoder's delay of 1,024 samples is not told by these files.
        ("mp4", "aac", 44100, {}, 0.024),
        ("mp4", "aac", 44100, {"movflags": "dash+frag_keyframe", "frag_duration": "5000000"}, 0.024),
        ("webm", "libopus", 48000, {}, 0.001),
    ],
)
@pytest.mark.parametrize("start", [0, 7.777, 14])
def test_section_of_a_compressed_recording_begins_in_time(
    container: str, codec: str, sr: int, options: dict[str, str], delay: float, start: float
) -> None:
    y, native_sr = read_section(io.BytesIO(compressed(container, codec, sr, **options)), start, start + 10)
    assert (native_sr, len(y)) == (sr, 10 * sr)
    whole = scipy.signal.resample_poly(WAVEFORM[: 25 * SR].mean(axis=1), sr // 100, SR // 100)
    expected = whole[round(start * sr) :][: 10 * sr]
    correlation = scipy.signal.correlate(y, expected)
    assert correlation.max() > 0.9 * np.linalg.norm(y) * np.linalg.norm(expected)  # the same sound
    assert abs(scipy.signal.correlation_lags(y.size, y.size)[correlation.argmax()]) <= delay * sr


def test_parts_of_published_names(dcase2017_folder: Path) -> None:
    for name, file in (("training", "training_set.csv"), ("development", "testing_set.csv")):
        clips = clip_names(name, folder=dcase2017_folder, download=False)
        with open(dcase2017_folder / file, newline="") as published:
            rows = [(video, float(start), float(end)) for video, start, end, *_ in csv.reader(published)]
        assert sorted(map(fetching._parts, clips)) == sorted(rows)


def site(server: Server, **changes: Any) -> Site:
    return Site(**{"address": server.address + "{video}", "interval": 0.0, "sr": SR} | changes)


@pytest.mark.parametrize(
    ("start", "sr", "seconds", "behaviour"),
    [(40, SR, 10, ""), (40, SR, 10, "no ranges"), (55, SR, 5, ""), (20, 32000, 10, "")],
)
def test_section_is_fetched_as_16_bit_mono_at_the_rate_asked_for(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, start: int, sr: int, seconds: int, behaviour: str
) -> None:
    """It ends with its recording, and with ranges little more than it travels."""
    monkeypatch.setattr(fetching, "PIECE", 2**17)
    c = clip("good", start, start + 10)
    server.have(c, behaviour=behaviour)
    assert not fetch([c], tmp_path, site=site(server, sr=sr))
    assert read_failures(tmp_path) == {}
    info = soundfile.info(audio_path(tmp_path, c))
    assert (info.subtype, info.channels, info.samplerate, info.frames) == ("PCM_16", 1, sr, seconds * sr)
    y, _ = soundfile.read(audio_path(tmp_path, c))
    if sr == SR:
        np.testing.assert_allclose(y, WAVEFORM.mean(axis=1)[start * SR :][: seconds * SR], atol=2 / 2**15)
    ranges = [tuple(map(int, wanted[6:].split("-"))) for _, _, wanted in server.requests if wanted]
    assert all(last - first < 2**17 for first, last in ranges)
    assert sum(last - first + 1 for first, last in ranges) < 0.6 * len(GOOD)


def test_reasons_of_recordings(tmp_path: Path, server: Server) -> None:
    webm = compressed("webm", "libopus", 48000)  # its header says 25 s
    for c, file, behaviour, expected, detail in (
        (clip("toolate", 59.5, 69.5), GOOD, "", "too short", r"ends at 60\.000 s"),
        (clip("muchlater", 90, 100), GOOD, "", "too short", r"ends at 60\.000 s"),
        (clip("breaksoff"), GOOD, "breaks off", "incomplete", ""),
        (clip("stalls"), GOOD, "stalls", "stalled", ""),
        (clip("cut", 10, 20), webm[: len(webm) // 2], "", "incomplete", "s were promised"),
        (clip("text"), b"these are words " * 5000, "", "unreadable", ""),
        (clip("noise"), np.random.default_rng(0).bytes(50_000), "", "unreadable", ""),
        (clip("page"), b"<html><title>x</title><body>nothing</body></html>", "page", "unreadable", ""),
        (clip("words"), b"1\n00:00:00,000 --> 00:01:00,000\nsubtitles\n", "", "unreadable", "no audio"),
        (clip("empty"), encoded(np.zeros((0, 2))), "", "incomplete", "no sound"),
        (clip("dead"), GOOD, "404", "gone", "404"),
        (clip("busy"), GOOD, "429", "refused", "429"),
        (clip("private"), GOOD, "403", "refused", "403"),
        (clip("broken"), GOOD, "503", "unreachable", "503"),
        (clip("down"), GOOD, "", "unreachable", "refused"),
    ):
        server.have(c, file=file, behaviour=behaviour)
        if "down" in c:
            server.close()
        fetch([c], tmp_path / c, site=site(server, timeout=0.5))
        assert [path.name for path in (tmp_path / c).iterdir()] == [FAILURES]
        failure = read_failures(tmp_path / c)[c]
        assert failure.reason == expected in REASONS, failure
        assert re.search(detail, failure.detail), failure


def test_what_is_there_or_gone_is_not_asked_for_again(tmp_path: Path, server: Server) -> None:
    good, dead, busy = clips = [clip("good"), clip("dead"), clip("busy")]
    server.have(good)
    server.have(busy, behaviour="429")
    fetch(clips, tmp_path, site=site(server))
    assert missing(tmp_path, clips) == [dead, busy]
    counts = {c: server.count(c) for c in clips}
    server.have(busy)
    fetch(clips, tmp_path, site=site(server))
    assert {c: server.count(c) > counts[c] for c in counts} == {good: False, dead: False, busy: True}
    assert list(read_failures(tmp_path)) == [dead]

    server.have(dead)
    fetch(clips, tmp_path, site=site(server), retry=True)
    assert missing(tmp_path, clips) == []
    assert read_failures(tmp_path) == {}


def test_site_that_refuses_everything_is_left_alone_and_dead_clips_stop_nothing(tmp_path: Path, server: Server) -> None:
    clips = [clip(f"video{index}") for index in range(12)]
    server.have(clips[-1])
    assert not fetch(clips, tmp_path / "dead", site=site(server, refusals=5))
    assert missing(tmp_path / "dead", clips) == clips[:-1]
    server.requests.clear()
    server.have(*clips, behaviour="403")
    assert fetch(clips, tmp_path / "refused", site=site(server, refusals=5))
    assert len(server.requests) == len(read_failures(tmp_path / "refused")) == 5


def test_pages_keep_their_distance_and_a_recording_that_opens_later_is_waited_for(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [clip("first"), clip("second")]
    server.have(*clips)
    original, opens = YoutubeDL.extract_info, time.time() + 1.5
    monkeypatch.setattr(YoutubeDL, "extract_info", lambda *a, **k: original(*a, **k) | {"available_at": opens})
    fetch(clips, tmp_path, site=site(server, interval=0.5))
    assert min(when for when, _, wanted in server.requests if wanted) >= opens
    pages = [when for when, _, wanted in server.requests if not wanted]
    sounds = [when for when, video, wanted in server.requests if wanted and video == clips[0][:11]]
    assert pages[1] >= max(sounds) + 0.4


def test_full_disk_is_said_beforehand_and_stops_the_run(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = clip("good")
    server.have(c)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "write_audio", full)
    with pytest.raises(DataError, match="No space left"):
        fetch([c], tmp_path, site=site(server))
    assert list(tmp_path.iterdir()) == []
    n_requests = len(server.requests)
    free = 44 + 2 * 10 * SR - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, free))
    with pytest.raises(DataError, match=r"GB are needed, 0\.0 GB are free"):
        fetch([c], tmp_path, site=site(server))
    assert len(server.requests) == n_requests


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Private video. Sign in if you've been granted access to this video", "gone"),
        ("Video unavailable. This video has been removed by the uploader", "gone"),
        ("This video is no longer available because the YouTube account associated with it was terminated.", "gone"),
        ("Video unavailable. This video contains content from X, who has blocked it on copyright grounds", "gone"),
        ("Sign in to confirm you're not a bot. Use --cookies-from-browser or --cookies", "refused"),
        ("This content isn't available, try again later. The current session has been rate-limited", "refused"),
        ("Sign in to confirm your age. This video may be inappropriate for some users.", "restricted"),
        ("Join this channel to get access to members-only content like this video", "restricted"),
        ("The uploader has not made this video available in your country", "restricted"),
        ("Requested format is not available. Use --list-formats for a list of available formats", "unexpected"),
        ("This video is not available from your location due to geo restriction", "restricted"),
        ("Unsupported URL: http://127.0.0.1/private%20video", "unreadable"),
        ("Failed to extract any player response", "unexpected"),
    ],
)
def test_what_the_site_says_has_its_reason(message: str, expected: str) -> None:
    inner = ExtractorError(message, expected=True)
    error = DownloadError(f"ERROR: [youtube] {message}", (ExtractorError, inner, None))
    assert classify(error) == (expected, str(error))
