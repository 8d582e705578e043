"""Files that are kept from launch to launch: one that was damaged in between is found, set aside and made anew."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from hpsed_lib.launch.graph import SHARED
from hpsed_lib.paths import NOTES, ROOT, digest, files_below


def set_aside_damaged(experiment: str) -> list[str]:
    """Move every file that is not as it was written to ``cache/damaged/``, say so, and return their paths.

    With one of the data goes ``data.json``, so that the data is prepared again; trainings go on from their checkpoints.
    """
    cache, shared = f"cache/{experiment}", [str(Path(folder).parent) for folder in SHARED.values()]
    damaged = []
    for folder in (cache, f"reproduced/{experiment}", "cache/basis", *shared):
        for name in files_below(ROOT / NOTES / folder):
            file, noted = ROOT / folder / name, (ROOT / NOTES / folder / name).read_text(encoding="utf-8").split()
            if noted and file.is_file() and digest(file) not in noted:
                damaged.append(f"{folder}/{name}")
    others = (f"{cache}/runs/", f"{cache}/basis/", f"{cache}/notebooks-in-progress/", f"{cache}/launch.json")
    for name in damaged:
        print(f"{name} is damaged: it is set aside in cache/damaged/, and made anew", file=sys.stderr)
        target = ROOT / "cache" / "damaged" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(ROOT / name, target)
        if name.startswith(f"{cache}/") and not name.startswith(others):
            (ROOT / cache / "data.json").unlink(missing_ok=True)
    return damaged


def name_changed_results() -> list[str]:
    """Name the files in ``results/``, where no run writes, that are not as committed, and return their paths."""
    if not shutil.which("git"):
        return []
    command = ["git", "diff", "--name-only", "--relative", "HEAD", "--", "results"]
    changed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    for name in changed:
        print(f"{name} is not as it was committed; `git checkout -- {name}` brings it back", file=sys.stderr)
    return changed
