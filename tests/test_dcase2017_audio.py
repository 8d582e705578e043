"""Audio of DCASE 2017 Task 4: archives against zipfile and Info-ZIP, fetching against a server on loopback.

The recordings that the server has are made here, so that every section of them is known; those with a codec are made by
FFmpeg's encoders.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
import scipy.signal
import soundfile
from yt_dlp.utils import DownloadError, ExtractorError

from hpsed_lib import dcase2017_audio
from hpsed_lib.dcase2017_audio import (
    ARCHIVES,
    FAILURES,
    REASONS,
    Clip,
    Site,
    audio_path,
    classify,
    coverage,
    fetch,
    main,
    missing,
    parse_clip,
    read_clips,
    read_failures,
    read_section,
    required_bytes,
    unpack,
)
from hpsed_lib.errors import DataError, ParameterError

SR, DURATION = 8000, 60.0
PASSWORD = "DCASE_2017_evaluation_set"
rng = np.random.default_rng(0)
# Low-passed, so that a codec keeps its shape.
WAVEFORM = scipy.signal.lfilter([0.05], [1, -0.95], rng.normal(size=(round(SR * DURATION), 2)), axis=0) / 2


def encoded(y: np.ndarray = WAVEFORM, *, kind: str = "WAV", sr: int = SR) -> bytes:
    """A recording as a file that soundfile writes."""
    file = io.BytesIO()
    soundfile.write(file, y, sr, format=kind, subtype="PCM_16")
    return file.getvalue()


def compressed(container: str, codec: str, sr: int, **options: str) -> bytes:
    """The first 25 s of `WAVEFORM` as a file that FFmpeg encodes."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=sr, layout="stereo", bit_rate=128_000)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(WAVEFORM[: 25 * SR].T, dtype=np.float32), "fltp", "stereo"
        )
        frame.sample_rate = SR
        resampler = av.AudioResampler(stream.format.name, "stereo", sr, frame_size=960 if "opus" in codec else 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return file.getvalue()


def clip(video: str, start: float = 20, end: float = 30) -> Clip:
    return parse_clip(f"{video:_<11}_{start:.3f}_{end:.3f}.wav")


# ------------------------------------------------------------------------------------------------------- names


def test_clip_names_keep_leading_hyphens_and_underscores(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_bytes(
        b"-5QrBL6MzLg_60.000_70.000.wav\t60.000\t70.000\tTrain horn\r\n"
        b"_a_b_c_d_e__0.500_1.500.wav\t0\t1\tCar\r\n"
        b"-5QrBL6MzLg_60.000_70.000.wav\t60.000\t70.000\tCar\r\n\r\n"
    )
    assert read_clips(labels) == [
        Clip("-5QrBL6MzLg_60.000_70.000.wav", "-5QrBL6MzLg", 60.0, 70.0),
        Clip("_a_b_c_d_e__0.500_1.500.wav", "_a_b_c_d_e_", 0.5, 1.5),
    ]


@pytest.mark.parametrize(
    "name", ["", "abc", "abcdefghijk_1.000_2.000", "../defghijk_1.000_2.000.wav", "abcdefghijk_2.000_1.000.wav"]
)
def test_what_is_no_clip_names_its_line(tmp_path: Path, name: str) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(f"abcdefghijk_1.000_2.000.wav\tCar\n{name}\tCar\n")
    with pytest.raises(DataError, match=r"labels\.csv, line 2"):
        read_clips(labels)


def test_published_lists(dcase2017_folder: Path) -> None:
    training = read_clips(dcase2017_folder / "groundtruth_weak_label_training_set.csv")
    test = read_clips(dcase2017_folder / "groundtruth_weak_label_testing_set.csv")
    assert (len(training), len(test)) == (51172, 488)
    published = [line.split(",") for line in (dcase2017_folder / "training_set.csv").read_text().splitlines()]
    assert sorted((c.video, c.start, c.end) for c in training) == sorted(
        (video, float(start), float(end)) for video, start, end, *_ in published
    )


# ---------------------------------------------------------------------------------------------------- archives


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
SOUNDS = {c.name: encoded(rng.normal(size=500) / 9) for c in CLIPS}


def states(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*.wav")}


def test_archive_is_unpacked_flat_and_only_what_is_wanted(tmp_path: Path) -> None:
    members = {f"audio/Y{CLIPS[0].name}": SOUNDS[CLIPS[0].name], CLIPS[1].name: SOUNDS[CLIPS[1].name]}
    write_zip(tmp_path / "a.zip", {**members, f"Y{CLIPS[2].name}": b"not wanted", "README": b"text"})
    folder = tmp_path / "audio"
    assert unpack([tmp_path], folder, CLIPS[:2]) == []
    assert {path.name: path.read_bytes() for path in folder.glob("*.wav")} == {
        f"Y{c.name}": SOUNDS[c.name] for c in CLIPS[:2]
    }


def test_unpacking_again_redoes_what_is_damaged_or_missing(tmp_path: Path) -> None:
    archive, folder = tmp_path / "a.zip", tmp_path / "audio"
    write_zip(archive, {f"Y{name}": sound for name, sound in SOUNDS.items()})
    unpack([archive], folder, CLIPS)
    before = states(folder)
    unpack([archive], folder, CLIPS)
    assert states(folder) == before

    damaged, gone, whole = (audio_path(folder, c) for c in CLIPS)
    damaged.write_bytes(SOUNDS[CLIPS[0].name][:-1] + b"?")
    gone.unlink()
    unpack([archive], folder, CLIPS)
    assert {path.name: path.read_bytes() for path in folder.glob("*.wav")} == {f"Y{n}": s for n, s in SOUNDS.items()}
    assert states(folder)[whole.name] == before[whole.name]


@pytest.mark.skipif(shutil.which("zip") is None, reason="Info-ZIP is not installed")
def test_info_zip_writes_what_is_read(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "audio"
    source.mkdir()
    for name, sound in SOUNDS.items():
        (source / f"Y{name}").write_bytes(sound)
    subprocess.run(["zip", "-q", "-r", "-P", "another", tmp_path / "a.zip", "."], cwd=source, check=True)
    with pytest.raises(DataError, match=r"a\.zip: opens with none of the passwords"):
        unpack([tmp_path / "a.zip"], folder, CLIPS)
    assert unpack([tmp_path / "a.zip"], folder, CLIPS, passwords=["another"], jobs=2) == []
    assert {path.name: path.read_bytes() for path in folder.glob("*.wav")} == {f"Y{n}": s for n, s in SOUNDS.items()}


def test_no_member_leaves_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "audio"
    write_zip(tmp_path / "a.zip", {f"../../Y{CLIPS[0].name}": SOUNDS[CLIPS[0].name], "../evil.wav": b"evil"})
    unpack([tmp_path / "a.zip"], folder, CLIPS)
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {tmp_path / "a.zip", audio_path(folder, CLIPS[0]), folder / FAILURES}


def test_damaged_member_is_a_failure_and_the_others_are_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    write_zip(tmp_path / "a.zip", {f"Y{n}": s for n, s in SOUNDS.items()}, b={"CRC": lambda crc: crc ^ 1})
    (failure,) = unpack([tmp_path / "a.zip"], folder, CLIPS)
    assert (failure.clip, failure.reason) == (CLIPS[1].name, "corrupt")
    assert "CRC" in failure.detail
    assert missing(folder, CLIPS) == [CLIPS[1]]
    assert list(folder.glob(".Y*")) == []
    assert read_failures(folder) == {failure.clip: failure}
    audio_path(folder, CLIPS[1]).write_bytes(b"found elsewhere")
    assert read_failures(folder) == {}


def test_archives_that_cannot_be_used(tmp_path: Path) -> None:
    members = {f"Y{CLIPS[0].name}": SOUNDS[CLIPS[0].name]}
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
    write_zip(tmp_path / "a.zip", {f"Y{CLIPS[0].name}": b"one", f"x/Y{CLIPS[0].name}": b"other"})
    with pytest.raises(DataError, match="two different recordings of one clip"):
        unpack([tmp_path / "a.zip"], tmp_path / "audio", CLIPS)


# ----------------------------------------------------------------------------------------------------- sections


def lag(y: np.ndarray, expected: np.ndarray) -> int:
    """Samples by which `y` comes after `expected`, and a check that it is the same sound."""
    n = min(len(y), len(expected))
    y, expected = y[:n], expected[:n]
    correlation = scipy.signal.correlate(y, expected)
    assert correlation.max() > 0.9 * np.linalg.norm(y) * np.linalg.norm(expected)
    return int(scipy.signal.correlation_lags(n, n)[correlation.argmax()])


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
    container: str,
    codec: str,
    sr: int,
    options: dict[str, str],
    delay: float,
    start: float,
    codecs: Callable[..., bytes],
) -> None:
    y, native_sr = read_section(io.BytesIO(codecs(container, codec, sr, **options)), start, start + 10)
    assert native_sr == sr
    assert len(y) == 10 * sr
    expected = scipy.signal.resample_poly(WAVEFORM[: 25 * SR].mean(axis=1), sr // 100, SR // 100)
    assert abs(lag(y, expected[round(start * sr) :][: 10 * sr])) <= delay * sr


@pytest.fixture(scope="module")
def codecs() -> Callable[..., bytes]:
    """`compressed`, each file made once."""
    made: dict[str, bytes] = {}

    def get(*arguments: object, **options: str) -> bytes:
        key = repr((arguments, options))
        if key not in made:
            made[key] = compressed(*arguments, **options)
        return made[key]

    return get


# ----------------------------------------------------------------------------------------------------- fetching


class Server:
    """What the server has by video, how it behaves, and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.statuses: dict[str, list[int]] = {}  # answered before the file is
        self.behaviour: dict[str, str] = {}
        self.requests: list[tuple[float, str, str | None]] = []  # time, video, range
        self.asked = threading.Condition()
        self.closing = threading.Event()
        self.stall = 60.0  # s
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/{{video}}"

    def count(self, c: Clip) -> int:
        return sum(video == c.video for _, video, _ in self.requests)

    def wait_for(self, c: Clip) -> None:
        with self.asked:
            assert self.asked.wait_for(lambda: self.count(c) > 0, timeout=60)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        video, wanted = handler.path.strip("/"), handler.headers.get("Range")
        with self.asked:
            self.requests.append((time.monotonic(), video, wanted))
            self.asked.notify_all()
            status = statuses.pop(0) if (statuses := self.statuses.get(video)) else 200
        behaviour = self.behaviour.get(video)
        if status != 200 or video not in self.files:
            handler.send_error(status if status != 200 else 404)
            return
        file = self.files[video]
        first, last = 0, len(file) - 1
        if wanted is not None and behaviour != "no ranges":
            first, last = (int(place) for place in wanted.removeprefix("bytes=").split("-"))
            last = min(last, len(file) - 1)
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {first}-{last}/{len(file)}")
        else:
            handler.send_response(200)
        body = file[first : last + 1]
        handler.send_header("Content-Type", "text/html" if behaviour == "page" else "audio/mpeg")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        try:
            if wanted is not None and behaviour in ("stalls", "breaks off"):
                handler.wfile.write(body[:1000])
                if behaviour == "breaks off":
                    return
                self.closing.wait(self.stall)
                body = body[1000:]
            handler.wfile.write(body)
        except ConnectionError:
            pass  # who has what it wants hangs up

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    yield server
    server.close()


def site(server: Server, **changes: object) -> Site:
    values: dict[str, object] = {"address": server.address, "interval": 0.0, "backoff": 0.01, "retries": 1}
    return Site(**values | changes)


GOOD = encoded()


def have(server: Server, *clips: Clip, file: bytes = GOOD) -> None:
    server.files.update({c.video: file for c in clips})


def reason(server: Server, folder: Path, c: Clip, **changes: object) -> tuple[str, str]:
    """Why a clip cannot be had; nothing of it may be in the folder."""
    outcome = fetch([c], folder, site=site(server, **changes))
    assert (outcome.fetched, outcome.failed) == (0, 1)
    assert [path.name for path in folder.iterdir()] == [FAILURES]
    failure = read_failures(folder)[c.name]
    assert failure.reason in REASONS
    return failure.reason, failure.detail


@pytest.mark.parametrize("behaviour", ["ranges", "no ranges"])
def test_section_is_fetched_as_16_bit_mono(tmp_path: Path, server: Server, behaviour: str) -> None:
    c = clip("good", 40, 50)
    have(server, c)
    server.behaviour[c.video] = behaviour
    assert fetch([c], tmp_path, site=site(server), sr=SR) == (1, 0, 0, False)
    info = soundfile.info(audio_path(tmp_path, c))
    assert (info.subtype, info.channels, info.samplerate, info.frames) == ("PCM_16", 1, SR, 10 * SR)
    y, _ = soundfile.read(audio_path(tmp_path, c))
    np.testing.assert_allclose(y, WAVEFORM.mean(axis=1)[40 * SR : 50 * SR], atol=2 / 2**15)
    assert required_bytes([c], sr=SR) == audio_path(tmp_path, c).stat().st_size


def test_only_the_section_travels(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dcase2017_audio, "PIECE", 2**17)
    c = clip("good", 40, 50)
    have(server, c)
    fetch([c], tmp_path, site=site(server), sr=SR)
    ranges = [tuple(map(int, wanted[6:].split("-"))) for _, _, wanted in server.requests if wanted]
    assert all(last - first < 2**17 for first, last in ranges)
    assert sum(last - first + 1 for first, last in ranges) < 0.6 * len(GOOD)


def test_rate_is_the_one_asked_for(tmp_path: Path, server: Server) -> None:
    c = clip("good")
    have(server, c)
    fetch([c], tmp_path, site=site(server), sr=32000)
    assert soundfile.info(audio_path(tmp_path, c)).samplerate == 32000
    assert soundfile.info(audio_path(tmp_path, c)).frames == 320_000


def test_clip_ends_with_its_recording(tmp_path: Path, server: Server) -> None:
    c = clip("ends", 55, 65)
    have(server, c)
    assert fetch([c], tmp_path, site=site(server), sr=SR).fetched == 1
    assert soundfile.info(audio_path(tmp_path, c)).frames == 5 * SR


def test_reasons_of_recordings(tmp_path: Path, server: Server, codecs: Callable[..., bytes]) -> None:
    webm = codecs("webm", "libopus", 48000)  # its header says 25 s
    cases = {
        "toolate": (clip("toolate", 59.5, 69.5), GOOD, None, "too short", r"ends at 60\.000 s"),
        "muchtoolate": (clip("muchlater", 90, 100), GOOD, None, "too short", r"ends at 60\.000 s"),
        "breaksoff": (clip("breaksoff"), GOOD, "breaks off", "incomplete", ""),
        "cut": (clip("cut", 10, 20), webm[: len(webm) // 2], None, "incomplete", ""),
        "text": (clip("text"), b"these are words " * 5000, None, "unreadable", ""),
        "noise": (clip("noise"), rng.bytes(50_000), None, "unreadable", ""),
        "page": (clip("page"), b"<html><title>x</title><body>nothing here</body></html>", "page", "unreadable", ""),
        "silent film": (clip("film"), film(), None, "unreadable", "no audio"),
        "empty": (clip("empty"), encoded(np.zeros((0, 2))), None, "incomplete", "no sound"),
        "dead": (clip("dead"), None, None, "gone", "404"),
    }
    for name, (c, file, behaviour, expected, detail) in cases.items():
        if file is not None:
            have(server, c, file=file)
        if behaviour is not None:
            server.behaviour[c.video] = behaviour
        folder = tmp_path / name
        found = reason(server, folder, c)
        assert found[0] == expected, (name, found)
        assert re.search(detail, found[1]), (name, found)


def film() -> bytes:
    """A video without sound."""
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as output:
        stream = output.add_stream("libvpx", rate=1, width=16, height=16)
        for _ in range(60):
            output.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        output.mux(stream.encode(None))
    return file.getvalue()


def test_stalled_server_is_given_up(tmp_path: Path, server: Server) -> None:
    c = clip("stalls")
    have(server, c)
    server.behaviour[c.video] = "stalls"
    server.stall = 3  # then the rest comes, to whoever still waits
    assert reason(server, tmp_path / "audio", c, timeout=0.3)[0] == "stalled"
    assert server.count(c) == 4  # page and recording, twice


def test_refused_connection(tmp_path: Path, server: Server) -> None:
    found = site(server)
    server.close()
    fetch([clip("nobody")], tmp_path, site=found)
    assert read_failures(tmp_path)[clip("nobody").name].reason == "unreachable"


def test_busy_site_is_asked_again(tmp_path: Path, server: Server) -> None:
    c = clip("busy")
    have(server, c)
    server.statuses[c.video] = [429, 403, 503]
    assert fetch([c], tmp_path, site=site(server, retries=3), sr=SR).fetched == 1
    assert server.statuses[c.video] == []


def test_retries_end(tmp_path: Path, server: Server) -> None:
    c = clip("busy")
    have(server, c)
    server.statuses[c.video] = [429] * 9
    assert reason(server, tmp_path / "audio", c, retries=2)[0] == "refused"
    assert server.count(c) == 3


def test_what_is_there_or_gone_is_not_asked_for_again(tmp_path: Path, server: Server) -> None:
    good, dead, busy = clip("good"), clip("dead"), clip("busy")
    have(server, good, busy)
    server.statuses[busy.video] = [429, 429]
    assert fetch([good, dead, busy], tmp_path, site=site(server), sr=SR) == (1, 2, 0, False)
    counts = {c: server.count(c) for c in (good, dead, busy)}
    assert fetch([good, dead, busy], tmp_path, site=site(server), sr=SR) == (1, 0, 1, False)
    assert {c: server.count(c) > counts[c] for c in counts} == {good: False, dead: False, busy: True}
    assert list(read_failures(tmp_path)) == [dead.name]

    have(server, dead)
    assert fetch([good, dead, busy], tmp_path, site=site(server), sr=SR, retry=True) == (1, 0, 0, False)
    assert missing(tmp_path, [good, dead, busy]) == []
    assert read_failures(tmp_path) == {}


def test_site_that_refuses_everything_is_left_alone(tmp_path: Path, server: Server) -> None:
    clips = [clip(f"video{index}") for index in range(30)]
    for c in clips:
        server.statuses[c.video] = [403] * 9
    outcome = fetch(clips, tmp_path, site=site(server, refusals=5, jobs=1))
    assert outcome.stopped
    assert len(server.requests) == 5
    assert 1 <= outcome.failed < 5


def test_dead_clips_do_not_stop_the_rest(tmp_path: Path, server: Server) -> None:
    clips = [clip(f"video{index}") for index in range(12)]
    have(server, clips[-1])
    assert fetch(clips, tmp_path, site=site(server, refusals=5), sr=SR) == (1, 11, 0, False)


def test_requests_keep_their_distance(tmp_path: Path, server: Server) -> None:
    clips = [clip(f"video{index}") for index in range(4)]
    have(server, *clips)
    fetch(clips, tmp_path, site=site(server, interval=0.1, jobs=4), sr=SR)
    times = [moment for moment, _, _ in server.requests]
    # Half of it is left to the machine: the first request may have been slow to arrive.
    assert max(times) - min(times) >= 0.5 * 0.1 * (len(times) - 1)


def test_jobs_work_at_the_same_time(tmp_path: Path, server: Server) -> None:
    clips = [clip(video) for video in ("stalls", "good")]
    have(server, *clips)
    server.behaviour[clips[0].video] = "stalls"
    thread = threading.Thread(target=fetch, args=(clips, tmp_path), kwargs={"site": site(server, jobs=2), "sr": SR})
    thread.start()
    server.wait_for(clips[1])  # while the first still waits
    while missing(tmp_path, clips[1:]):
        time.sleep(0.01)
    assert missing(tmp_path, clips) == clips[:1]
    server.closing.set()
    thread.join()


def test_full_disk_is_said_beforehand_and_stops_the_run(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = clip("good")
    have(server, c)
    with monkeypatch.context() as patch:
        patch.setattr(dcase2017_audio.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
        with pytest.raises(DataError, match=r"GB are needed, 0\.0 GB are free"):
            fetch([c], tmp_path, site=site(server))
    assert server.requests == []

    def full(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"RIFF")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dcase2017_audio, "write_audio", full)
    with pytest.raises(DataError, match="No space left"):
        fetch([c], tmp_path, site=site(server))
    assert list(tmp_path.glob("*.wav")) + list(tmp_path.glob(".*.wav")) == []


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
        ("Failed to extract any player response", "unexpected"),
    ],
)
def test_what_the_site_says_has_its_reason(message: str, expected: str) -> None:
    inner = ExtractorError(message, expected=True)
    assert classify(DownloadError(f"ERROR: [youtube] {message}", (ExtractorError, inner, None))) == expected


@pytest.mark.parametrize(
    "changes",
    [{"address": "http://here"}, {"jobs": 0}, {"interval": -1.0}, {"timeout": 0.0}, {"retries": -1}, {"refusals": 0}],
)
def test_site_refuses_nonsense(changes: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=next(iter(changes))):
        Site(**changes)


def test_rate_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="sr: expected a positive rate"):
        fetch([], tmp_path, site=Site(), sr=0)


# ------------------------------------------------------------------------------------------------- command line


def write_labels(folder: Path, *clips: Clip) -> Path:
    path = folder / "labels.csv"
    path.write_text("".join(f"{c.name}\t{c.start}\t{c.end}\tCar\n" for c in clips))
    return path


def options(server: Server) -> list[str]:
    return ["--address", server.address, "--interval", "0", "--retries", "0", "--sr", str(SR), "--jobs", "1"]


@pytest.mark.slow
def test_killed_run_goes_on(tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = clips = [clip(video) for video in ("first", "dead", "third")]
    have(server, first, third)
    server.behaviour[third.video] = "stalls"
    folder, labels = tmp_path / "audio", write_labels(tmp_path, *clips)
    command = [str(labels), "--data", str(folder), *options(server)]
    process = subprocess.Popen([sys.executable, "-m", "hpsed_lib.dcase2017_audio", *command])
    server.wait_for(third)
    assert main(command) == 2
    assert f"process {process.pid} still holds" in capsys.readouterr().err
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert missing(folder, clips) == [second, third]
    assert read_failures(folder)[second.name].reason == "gone"
    left = folder / f".Y{third.name[:-4]}.{process.pid}.wav"
    left.write_bytes(b"RIFF")  # what a kill amid writing leaves
    with open(folder / FAILURES, "a") as log:
        log.write("half a row")

    server.behaviour.clear()
    counts = server.count(first), server.count(second)
    assert main(command) == 0
    assert (server.count(first), server.count(second)) == counts
    assert missing(folder, clips) == [second]
    assert not left.exists()
    assert "labels.csv: 2 of 3 clips (66.7%)\n  1 gone" in capsys.readouterr().out


def test_command_line_unpacks_first_and_fetches_the_rest(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [*CLIPS, clip("good"), clip("dead")]
    have(server, clips[3])
    write_zip(tmp_path / "a.zip", {f"Y{name}": sound for name, sound in SOUNDS.items()})
    folder, labels = tmp_path / "audio", write_labels(tmp_path, *clips)
    command = [str(labels), "--data", str(folder), "--archives", str(tmp_path), *options(server)]
    assert main([*command, "--no-fetch"]) == 0
    assert "3 of 5 clips (60.0%)\n  2 not asked for yet" in capsys.readouterr().out
    assert server.requests == []
    assert main(command) == 0
    assert "2 of 5 clips to go" in capsys.readouterr().out
    assert coverage(folder, {"all": clips}).startswith("all: 4 of 5 clips (80.0%)\n  1 gone: private")
    assert {video for _, video, _ in server.requests} == {clips[3].video, clips[4].video}


def test_command_line_says_that_it_was_turned_away(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    c = clip("busy")
    server.statuses[c.video] = [403]
    command = [str(write_labels(tmp_path, c)), "--data", str(tmp_path / "audio"), *options(server), "--refusals", "1"]
    assert main(command) == 1
    assert "1 tries in a row were turned away" in capsys.readouterr().err


def test_command_line_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.csv"), "--data", str(tmp_path / "audio")]) == 2
    assert "none.csv: cannot be read" in capsys.readouterr().err
