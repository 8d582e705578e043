"""Hold a process of a launch at an exact moment, and take notes of the files that it puts in place.

Python imports a module of this name when it starts, so with this folder in PYTHONPATH every process of a launch has an
audit hook: no code of the library knows of it. Without ``HPSED_HOLD``, a folder, nothing happens. In that folder lie

- ``moment.json``: the notebook's name (``execution``), an audit ``event``, a regular expression for its ``path``, how
  many such events pass before in one process (``skip``, if any), and after which ``os.replace`` they count (``after``;
  without it at once; any process of the execution may do it, which ``counting`` then says to the others);
- ``held``: there while a process is held; the process goes on when it is removed;
- ``trace``: a line (notebook, event, path) for each file replaced and each opening of features to write into them.
"""

import contextlib
import json
import os
import re
import sys
import time

FOLDER = os.environ.get("HPSED_HOLD")


def _install(folder: str) -> None:
    moment = {"execution": None}
    with contextlib.suppress(FileNotFoundError), open(f"{folder}/moment.json", encoding="utf-8") as file:
        moment = json.load(file)
    trace = os.open(f"{folder}/trace", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    n = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal n
        if event not in ("open", "os.rename"):
            return
        path = arguments[1] if event == "os.rename" else arguments[0]
        if not isinstance(path, str | os.PathLike) or not os.path.isabs(path := os.fspath(path)):
            return
        execution = os.path.basename(os.environ.get("HPSED_PROGRESS_LOG", "")).removesuffix(".log")
        if execution == moment["execution"]:
            after = moment.get("after")
            counts = after is None or os.path.exists(f"{folder}/counting")
            if event == moment["event"] and counts and re.search(moment["path"], path):
                n += 1
                if n == moment.get("skip", 0) + 1:
                    _hold(folder)
            if event == "os.rename" and after and re.search(after, path):
                os.close(os.open(f"{folder}/counting", os.O_CREAT))
        if event == "os.rename" or (path.endswith(".npy") and "+" in (arguments[1] or "")):
            os.write(trace, f"{execution} {event} {path}\n".encode())

    sys.addaudithook(hook)


def _hold(folder: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(f"{folder}/held", os.O_CREAT | os.O_EXCL))
        while os.path.exists(f"{folder}/held"):
            time.sleep(0.02)


if FOLDER:
    _install(FOLDER)
