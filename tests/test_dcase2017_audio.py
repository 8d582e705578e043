"""The command that fills a folder with the audio of DCASE 2017 Task 4."""

from __future__ import annotations

import multiprocessing
import re
import socket
import sys
import time
import zipfile
from pathlib import Path

import pytest
from loopback import GOOD, SR, Server, clip

from hpsed_lib.data.dcase2017 import audio
from hpsed_lib.data.dcase2017.audio import main
from hpsed_lib.data.dcase2017.clips import missing, read_failures
from hpsed_lib.paths import MARK


def publish(monkeypatch: pytest.MonkeyPatch, **sets: list[str]) -> None:
    """Let label files list these clips."""
    monkeypatch.setattr(audio, "clip_names", lambda name, **_: sets[name])


def command(folder: Path, server: Server, *options: str) -> list[str]:
    fast = ["--interval", "0", "--sr"]
    return ["--data", str(folder), "--address", server.address + "{video}", *fast, str(SR), *options]


def test_archives_come_first_and_the_rest_is_fetched(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    zipped, good, dead, other = clips = [clip(video) for video in ("zipped", "good", "dead", "other")]
    server.have(good)
    publish(monkeypatch, training=clips[:3], development=[zipped], evaluation=[other])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(f"Y{zipped}", GOOD)
    arguments = command(tmp_path / "audio", server, "--archives", str(tmp_path))
    assert main([*arguments, "--no-fetch"]) == 0
    out = capsys.readouterr().out
    assert "training: 1 of 3 clips (33.3%)\ndevelopment: 1 of 1 clips (100.0%)\n  2 not asked for yet" in out
    assert server.requests == []
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "training: 2 of 3 clips (66.7%)\ndevelopment: 1 of 1 clips (100.0%)\n  1 gone: private" in out
    assert {video for _, video, _ in server.requests} == {good[:11], dead[:11]}
    have = server.count(dead)
    assert main([*arguments, "--retry", "--sets", "training", "evaluation"]) == 0
    assert "evaluation: 0 of 1" in capsys.readouterr().out
    assert server.count(dead) > have
    assert server.count(other) > 0


def test_command_says_that_it_was_turned_away(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    c = clip("busy")
    server.have(c, behaviour="403")
    publish(monkeypatch, training=[c])
    assert main(command(tmp_path, server, "--sets", "training", "--refusals", "1")) == 1
    assert "1 clips in a row were turned away" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["address=x", "interval=-1", "timeout=0", "refusals=0", "sr=0", "cookies=nowhere"])
def test_option_out_of_range_is_named(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
def test_killed_run_goes_on(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
    left = folder / f".Y{third[:-4]}.{MARK}.{socket.gethostname()}.{process.pid}.wav"
    left.write_bytes(b"RIFF")  # what a kill amid writing leaves
    server.behaviour.clear()
    counts = server.count(first), server.count(second)
    assert main(arguments) == 0
    assert (server.count(first), server.count(second)) == counts
    assert missing(folder, clips) == [second]
    assert not left.exists()
    assert "training: 2 of 3 clips (66.7%)\n  1 gone" in capsys.readouterr().out
