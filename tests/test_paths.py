"""Files appear whole or not at all, and progress goes where it is looked for."""

import os
import socket
import subprocess
import time

import pytest

from hpsed_lib.paths import replacing
from hpsed_lib.progress import LOG_VARIABLE, is_headless, track


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "folder" / "metrics.json"
    with replacing(path) as temporary:
        temporary.write_text("old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        interrupted()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]  # nothing half-written stays


def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(tmp_path):
    path = tmp_path / "metrics.json"
    gone = subprocess.Popen(["true"])
    gone.wait()
    here = socket.gethostname()
    abandoned, used = (tmp_path / f".metrics.unfinished.{here}.{pid}.json" for pid in (gone.pid, os.getppid()))
    elsewhere, lost = (tmp_path / f".{name}.unfinished.else.where.1.json" for name in ("metrics", "scores"))
    other, somebodys = tmp_path / ".metrics.json", tmp_path / f".metrics.{here}.{gone.pid}.json"
    for file in (abandoned, used, elsewhere, lost, other, somebodys):
        file.touch()
    for file in (used, lost, other, somebodys):  # a day and a minute ago
        os.utime(file, times=(time.time() - 86460,) * 2)
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert set(tmp_path.iterdir()) == {path, used, elsewhere, other, somebodys}


def test_progress_goes_to_the_log_of_a_headless_run(tmp_path, monkeypatch, capsys):
    log = tmp_path / "progress.log"
    log.touch()
    monkeypatch.setenv(LOG_VARIABLE, str(log))
    assert is_headless()
    assert list(track(range(5), description="counting")) == [0, 1, 2, 3, 4]
    assert "counting: 100%" in log.read_text()
    assert capsys.readouterr() == ("", "")
    monkeypatch.delenv(LOG_VARIABLE)
    assert list(track(iter([1, 2]), description="counting", total=2)) == [1, 2]
    assert "counting" in capsys.readouterr().err
