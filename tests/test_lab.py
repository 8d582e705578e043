"""JupyterLab's own server: what opening, running and saving a notebook of ours leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from held import ROOT, copy_project, wait_until

HOOK = "--ContentsManager.pre_save_hook=hpsed_lib.launch.lab.keep_source"


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@contextlib.contextmanager
def running_lab(*options: str, folder: Path = ROOT) -> Iterator[str]:
    """Address of a JupyterLab that serves a folder, with the library that lies there; its token is ``t``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lab = [sys.executable, "-m", "jupyterlab", *options, "--no-browser", "--allow-root", f"--port={port}"]
    environment = {**os.environ, "PYTHONPATH": str(folder), "JUPYTER_TOKEN": "t", "PYTHONDONTWRITEBYTECODE": "1"}
    server = subprocess.Popen(lab, cwd=folder, env=environment, stderr=subprocess.DEVNULL, text=True)
    address = f"http://127.0.0.1:{port}/"

    def answers() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}api", timeout=30):
            return True
        return False

    try:
        wait_until(answers, seconds=60)
        yield address
    finally:
        server.terminate()
        server.communicate()


@pytest.mark.slow
def test_a_notebook_that_was_run_and_saved_is_as_it_was(tmp_path: Path) -> None:
    copy_project(tmp_path, "hpsed_lib", "notebooks")
    shutil.copy(ROOT / ".gitignore", tmp_path)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "all")

    def contents(name: str, model: dict | None = None) -> dict:
        body = json.dumps({key: model[key] for key in ("type", "format", "content")}).encode() if model else None
        address, method = f"{server}api/contents/{name}", "PUT" if model else "GET"
        asked = urllib.request.Request(address, body, {"Authorization": "token t"}, method=method)
        with contextlib.suppress(OSError), urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)
        return {}

    with running_lab(HOOK, folder=tmp_path) as server:
        for name in ("01_data_preparation.ipynb", "03_train_variant.ipynb"):
            model = contents(f"notebooks/{name}")
            model["content"]["metadata"]["kernelspec"]["display_name"] = "Python 3 (ipykernel)"  # as a kernel says
            model["content"]["metadata"]["language_info"] = {"name": "python", "version": "3.99"}
            for cell in model["content"]["cells"]:
                if cell["cell_type"] == "code":
                    cell |= {"outputs": [{"output_type": "stream", "name": "stdout", "text": "7"}]}
                    cell["execution_count"] = 3
                    cell["metadata"]["execution"] = {"iopub.status.busy": "now"}
            assert contents(f"notebooks/{name}", model)
            kept = json.loads((tmp_path / "reproduced/lab" / name).read_text())
            assert any(cell.get("outputs") for cell in kept["cells"])
        assert git(tmp_path, "status", "--porcelain") == ""
        changed = contents("notebooks/01_data_preparation.ipynb")
        changed["content"]["cells"][0]["source"] += "\nMore."  # what a person writes does come in, in both forms
        contents("notebooks/01_data_preparation.ipynb", changed)
        assert {line.split(".")[-1] for line in git(tmp_path, "status", "--porcelain").splitlines()} == {"ipynb", "py"}
