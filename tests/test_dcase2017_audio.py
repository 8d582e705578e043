"""The audio of DCASE 2017 Task 4: out of archives, and from a server on loopback with recordings of known sound."""

import base64
import csv
import functools
import io
import multiprocessing
import re
import shutil
import sys
import time
import zipfile
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

from hpsed_lib.data.dcase2017 import archives, audio, fetching
from hpsed_lib.data.dcase2017.archives import PUBLISHED, unpack
from hpsed_lib.data.dcase2017.audio import main
from hpsed_lib.data.dcase2017.clips import REASONS, audio_path, failure_of, missing, read_failures, write_failures
from hpsed_lib.data.dcase2017.fetching import Site, classify, fetch, read_section
from hpsed_lib.data.dcase2017.labels import clip_names
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


def test_archive_is_unpacked_flat_and_only_what_is_missing(tmp_path):
    wanted = {f"../../Y{CLIPS[0]}": SOUNDS[CLIPS[0]], CLIPS[1]: SOUNDS[CLIPS[1]]}
    write_zip(tmp_path / "a.zip", wanted | {f"Y{CLIPS[2]}": b"not wanted", "README": b"text", "../evil.wav": b"evil"})
    folder = tmp_path / "deep" / "audio"
    folder.mkdir(parents=True)
    audio_path(folder, CLIPS[1]).write_bytes(b"the user's own")
    unpack([tmp_path], folder, CLIPS[:2])
    assert unpacked(folder) == {CLIPS[0]: SOUNDS[CLIPS[0]], CLIPS[1]: b"the user's own"}
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {tmp_path / "a.zip", folder / FAILURES, *(audio_path(folder, c) for c in CLIPS[:2])}


def test_what_info_zip_encrypted(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(ENCRYPTED)
    unpack([tmp_path / "a.zip"], tmp_path / "audio", CLIPS)
    assert unpacked(tmp_path / "audio") == SOUNDS
    assert read_failures(tmp_path / "audio") == {}
    monkeypatch.setattr(archives, "PASSWORDS", ("another",))
    with pytest.raises(DataError, match=r"a\.zip: opens with none of the passwords another"):
        unpack([tmp_path / "a.zip"], tmp_path / "other", CLIPS)


def test_damaged_member_is_a_failure_and_the_others_are_unpacked(tmp_path):
    folder = tmp_path / "audio"
    write_zip(tmp_path / "a.zip", {f"Y{c}": sound for c, sound in SOUNDS.items()})
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"sound b", b"noise b"))
    unpack([tmp_path / "a.zip"], folder, CLIPS)
    [failure] = read_failures(folder).values()
    assert (failure.clip, failure.reason, "CRC" in failure.detail) == (CLIPS[1], "corrupt", True)
    assert missing(folder, CLIPS) == [CLIPS[1]]
    assert list(folder.glob(".Y*")) == []


def test_archives_that_cannot_be_used(tmp_path):
    good = {f"Y{CLIPS[0]}": SOUNDS[CLIPS[0]]}
    (tmp_path / "text").write_text("no zip file")
    write_zip(tmp_path / "aes", good, aes=True)
    write_zip(tmp_path / PUBLISHED, good)
    write_zip(tmp_path / "twice", good | {f"x/Y{CLIPS[0]}": b"other"})
    (tmp_path / "truncated").write_bytes((tmp_path / PUBLISHED).read_bytes()[:-30])
    for name, message in {
        "text": "not a whole zip file",
        "truncated": "not a whole zip file",
        "aes": "AES.*7z",
        PUBLISHED: "MD5 is .* not 676b0b4a.* fetch it again from https://",
        "twice": "two different recordings of one clip",
        "none": "expected a zip file, or a folder",
    }.items():
        with pytest.raises(DataError, match=f"{name}: .*{message}"):
            unpack([tmp_path / name], tmp_path / "audio", CLIPS)


def test_failures_of_what_is_not_there(tmp_path):
    first, second = clips = ["_a_b_c_d_e__0.500_1.500.wav", "-5QrBL6MzLg_60.000_70.000.wav"]
    assert read_failures(tmp_path) == {}
    failures = {clip: failure_of(clip, "gone", 'removed,\n "they" say') for clip in clips}
    write_failures(tmp_path, failures)
    assert read_failures(tmp_path) == failures
    assert failures[first].detail == 'removed, "they" say'
    audio_path(tmp_path, second).touch()
    assert list(read_failures(tmp_path)) == [first]


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
def test_section_is_cut_to_the_sample(kind, start, end):
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
def test_section_of_a_compressed_recording_begins_in_time(container, codec, sr, options, delay, start):
    y, native_sr = read_section(io.BytesIO(compressed(container, codec, sr, **options)), start, start + 10)
    assert (native_sr, len(y)) == (sr, 10 * sr)
    whole = scipy.signal.resample_poly(WAVEFORM[: 25 * SR].mean(axis=1), sr // 100, SR // 100)
    expected = whole[round(start * sr) :][: 10 * sr]
    correlation = scipy.signal.correlate(y, expected)
    assert correlation.max() > 0.9 * np.linalg.norm(y) * np.linalg.norm(expected)  # the same sound
    assert abs(scipy.signal.correlation_lags(y.size, y.size)[correlation.argmax()]) <= delay * sr


def test_parts_of_published_names(dcase2017_folder):
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
    tmp_path, server, monkeypatch, start, sr, seconds, behaviour
):
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


def test_reasons_of_recordings(tmp_path, server):
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


def test_site_that_refuses_everything_is_left_alone_and_dead_clips_stop_nothing(tmp_path, server):
    clips = [clip(f"video{index}") for index in range(12)]
    server.have(clips[-1])
    assert not fetch(clips, tmp_path / "dead", site=site(server, refusals=5))
    assert missing(tmp_path / "dead", clips) == clips[:-1]
    server.requests.clear()
    server.have(*clips, behaviour="403")
    assert fetch(clips, tmp_path / "refused", site=site(server, refusals=5))
    assert len(server.requests) == len(read_failures(tmp_path / "refused")) == 5


def test_pages_keep_their_distance_and_a_recording_that_opens_later_is_waited_for(tmp_path, server, monkeypatch):
    clips = [clip("first"), clip("second")]
    server.have(*clips)
    original, opens = YoutubeDL.extract_info, time.time() + 1.5
    monkeypatch.setattr(YoutubeDL, "extract_info", lambda *a, **k: original(*a, **k) | {"available_at": opens})
    fetch(clips, tmp_path, site=site(server, interval=0.5))
    assert min(when for when, _, wanted in server.requests if wanted) >= opens
    pages = [when for when, _, wanted in server.requests if not wanted]
    sounds = [when for when, video, wanted in server.requests if wanted and video == clips[0][:11]]
    assert pages[1] >= max(sounds) + 0.4


def test_full_disk_is_said_beforehand_and_stops_the_run(tmp_path, server, monkeypatch):
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
def test_what_the_site_says_has_its_reason(message, expected):
    inner = ExtractorError(message, expected=True)
    error = DownloadError(f"ERROR: [youtube] {message}", (ExtractorError, inner, None))
    assert classify(error) == (expected, str(error))


def publish(monkeypatch: pytest.MonkeyPatch, **sets: list[str]) -> None:
    """Let label files list these clips."""
    monkeypatch.setattr(audio, "clip_names", lambda name, **_: sets[name])


def command(folder: Path, server: Server, *options: str) -> list[str]:
    address = ["--address", server.address + "{video}"]
    return ["--data", str(folder), *address, "--interval", "0", "--sr", str(SR), *options]


def test_archives_come_first_and_the_rest_is_fetched(tmp_path, server, monkeypatch, capsys):
    zipped, good, dead, other = clips = [clip(video) for video in ("zipped", "good", "dead", "other")]
    server.have(good)
    publish(monkeypatch, training=clips[:3], development=[zipped], evaluation=[other])
    write_zip(tmp_path / "a.zip", {f"Y{zipped}": GOOD})
    arguments = command(tmp_path / "audio", server, "--archives", str(tmp_path))
    assert main([*arguments, "--no-fetch"]) == 0
    said = "training: 1 of 3 clips (33.3%)\ndevelopment: 1 of 1 clips (100.0%)\n  2 not asked for yet"
    assert said in capsys.readouterr().out
    assert server.requests == []
    assert main(arguments) == 0
    said = "training: 2 of 3 clips (66.7%)\ndevelopment: 1 of 1 clips (100.0%)\n  1 gone: private"
    assert said in capsys.readouterr().out
    assert {video for _, video, _ in server.requests} == {good[:11], dead[:11]}
    have = server.count(dead)
    assert main([*arguments, "--retry", "--sets", "training", "evaluation"]) == 0
    assert "evaluation: 0 of 1" in capsys.readouterr().out
    assert server.count(dead) > have
    assert server.count(other) > 0


def test_command_says_that_it_was_turned_away(tmp_path, server, monkeypatch, capsys):
    c = clip("busy")
    server.have(c, behaviour="403")
    publish(monkeypatch, training=[c])
    arguments = command(tmp_path, server, "--sets", "training", "--refusals", "1")
    assert main(arguments) == 1
    assert "1 clips in a row were turned away" in capsys.readouterr().err
    server.have(c)
    assert main(arguments) == 0
    assert "training: 1 of 1 clips" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["address=x", "interval=-1", "timeout=0", "refusals=0", "sr=0", "cookies=nowhere"])
def test_option_out_of_range_is_named(option, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--data", str(tmp_path / "audio"), f"--{option}"])
    assert f"error: --{option.split('=')[0]}: " in capsys.readouterr().err
    assert not (tmp_path / "audio").exists()


def in_own_process(clips: list[str], arguments: list[str]) -> None:
    """The command, with these clips in the label files."""
    with pytest.MonkeyPatch.context() as patch:
        publish(patch, training=clips)
        main(arguments)


@pytest.mark.slow
def test_killed_run_goes_on(tmp_path, server, monkeypatch, capsys):
    first, second, third = clips = [clip(video) for video in ("first", "dead", "third")]
    server.have(first)
    server.have(third, behaviour="stalls")
    publish(monkeypatch, training=clips)
    folder = tmp_path / "audio"
    arguments = command(folder, server, "--sets", "training")
    # A fork need not import everything again; elsewhere than on Linux it is not safe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    process = context.Process(target=in_own_process, args=(clips, arguments))
    process.start()
    while server.count(third) < 2:  # its page, and its sound
        time.sleep(0.01)
    assert main(arguments) == 2
    assert re.search(rf"process {process.pid} on .* still holds .*{folder.name}/\.audio\.lock", capsys.readouterr().err)
    process.kill()
    process.join()
    assert missing(folder, clips) == [second, third]
    assert read_failures(folder)[second].reason == "gone"
    server.behaviour.clear()
    n_requests = len(server.requests)
    assert main(arguments) == 0
    assert {video for _, video, _ in server.requests[n_requests:]} == {third[:11]}
    assert missing(folder, clips) == [second]
    assert "training: 2 of 3 clips (66.7%)\n  1 gone" in capsys.readouterr().out
