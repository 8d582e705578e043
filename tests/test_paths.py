"""Files appear whole or not at all, and results say what made them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from hpsed_lib import provenance
from hpsed_lib.paths import ROOT, replacing
from hpsed_lib.progress import LOG_VARIABLE, is_headless, track


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
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


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on file sizes stands in for the disk: the system refuses the write in the same way."""
    path = tmp_path / "checkpoint.pt"
    path.write_text("old")
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from hpsed_lib.paths import replacing\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(bytes(5000))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 1
    assert "File too large" in ended.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
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


def test_provenance_names_commit_versions_and_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = {
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        **provenance.describe_device(torch.device("cpu")),
    }
    assert json.loads(json.dumps(described)) == described
    assert described["versions"]["torch"] == torch.__version__  # type: ignore[index]
    assert described["n_threads"] == torch.get_num_threads()
    monkeypatch.setattr(provenance, "ROOT", tmp_path)  # no checkout
    assert provenance.commit() == "unknown"


def test_the_commit_says_when_files_were_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "hpsed_lib").mkdir()
    (tmp_path / "hpsed_lib" / "a.py").write_text("a = 1")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert len(provenance.commit()) == 40
    (tmp_path / "hpsed_lib" / "a.py").write_text("a = 2")
    assert provenance.commit().endswith("+changes")


def test_progress_goes_to_the_log_of_a_headless_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
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
