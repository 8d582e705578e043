"""A small experiment in a copy of the project, and launches of it that are held at an exact moment.

For the tests that end launches in every way, here (test_interruptions.py) and on a cluster (slurm/killed_sweep.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import psutil
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
NAME = "brief"
N_TRAINING = 40  # clips: more than an entry into the journal of the features has
JOURNAL = 32  # clips of an entry
RUN = "linear-single-seed0"  # the one that is disturbed
MOMENTS = {  # see hold/sitecustomize.py
    "extraction": {
        "execution": "01_data_preparation",
        "event": "open",
        "path": r"soundscapes/training/00037\.wav$",
        "after": r"features/training-\w+\.csv$",
    },
    "mid-epoch": {
        "execution": RUN,
        "event": "open",
        "path": r"features/training-\w+\.npy$",
        "after": r"/checkpoint\.pt$",
        "skip": 2,  # a batch opens the file twice
    },
    "before metrics": {"execution": RUN, "event": "os.rename", "path": rf"metrics/{RUN}\.json$"},
    "tables": {"execution": "04_result_tables", "event": "os.rename", "path": r"tables/threshold_free\.csv$"},
}


def copy_project(folder: Path, *parts: str) -> None:
    """Copy folders of this project into another folder, so that cache and results land there."""
    for part in parts:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))


def copy_reproduced(folder: Path, *names: str) -> None:
    """Put what is published there as if it had been reproduced, newer than all it rests on: it need not run again."""
    for name in names:
        shutil.copytree(ROOT / "results" / name, folder / "reproduced" / name)
    for path in (folder / "reproduced").rglob("*.*"):
        os.utime(path, (time.time() + 60,) * 2)


def wait_until(condition: Callable[[], object], *, seconds: float, what: Callable[[], str] = str) -> None:
    """Wait for a condition, and fail with `what` if it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what()}"
        time.sleep(0.05)


def small_experiment(structures: Sequence[str], n_epochs: int) -> dict:
    """The experiment of the smoke test with shorter clips, one function and batches enough for a middle of an epoch."""
    content = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    content["data"] |= {"clip_duration": 2.0, "event_duration": [0.3, 1.0]}
    content["data"]["n_clips"] = {"training": N_TRAINING, "validation": 6, "test": 6}
    content["pooling"] |= {"functions": {"linear": {"structures": list(structures), "seeds": 1}}}
    content["comparison"]["family"] = ["linear"] if "appendix" in structures else []
    content["training"] |= {"batch_size": 12, "max_epochs": n_epochs, "patience": n_epochs}
    return content


class Disk:
    """A file system of 64 MB at `folder` that only processes of its own mount namespace see."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.is_there, self.filler = False, folder / "filler"
        mount = f"mount -t tmpfs -o size=64m tmpfs {folder} && echo mounted && exec cat"  # until its input ends
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        for options in (["--mount"], ["--user", "--map-root-user", "--mount"]):  # root's way, everybody's way
            if shutil.which("unshare") and not self.is_there:  # not on macOS
                self.holder = subprocess.Popen(["unshare", *options, "sh", "-c", mount], **pipes)
                self.is_there = self.holder.stdout.read(8) == b"mounted\n"
                inside = [option for option in options if option != "--map-root-user"]
                self.enter = ["nsenter", f"--target={self.holder.pid}", *inside, "--"]

    def seen(self, path: Path) -> Path:
        """Where a process outside sees a path of the disk."""
        return Path(f"/proc/{self.holder.pid}/root{path}")

    def fill(self, *, room: int = 0) -> None:
        """Leave so many bytes and no more."""
        with open(self.seen(self.filler), "ab", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            file.truncate(file.tell() - room)

    def close(self) -> None:
        if self.is_there:
            self.holder.kill()
            self.holder.communicate()


class Project:
    """A copy of the project with an experiment, and what its launches leave behind.

    A launch sees it in `folder`, the test in `seen`; `notes` is the folder of ``tests/hold/sitecustomize.py``, and has
    what the launches print.
    """

    def __init__(self, folder: Path, experiment: dict, disk: Disk | None = None) -> None:
        self.folder, self.notes, self.disk, self.n_launches = folder / "disk/project", folder / "notes", disk, 0
        self.seen = disk.seen(self.folder) if disk else self.folder
        self.cache, self.results = self.seen / "cache" / NAME, self.seen / "reproduced" / NAME
        self.notes.mkdir(parents=True)
        copy_project(self.seen, "hpsed_lib", "notebooks", "params", "workflow", "results/paper")
        (self.seen / f"params/{NAME}.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False))
        copy_reproduced(self.seen, "derivation", "paper")

    def hold_at(self, moment: dict | None) -> None:
        """Let every process that starts from now on be held at a moment, if it is one of that execution."""
        (self.notes / "moment.json").write_text(json.dumps(moment or {"execution": None}))
        for name in ("counting", "held"):
            (self.notes / name).unlink(missing_ok=True)

    def is_held(self) -> bool:
        """Whether a process is, or was when it was ended."""
        return (self.notes / "held").exists()

    def launch(self, moment: dict | None = None, *, options: str = "--cores 1") -> subprocess.Popen[bytes]:
        """Start the command with these options, in a process group as a terminal gives it; a moment holds it there."""
        self.n_launches += 1
        self.hold_at(moment)
        (self.notes / "trace").unlink(missing_ok=True)
        (self.notes / "trace").symlink_to(f"trace{self.n_launches}")
        environment = {key: value for key, value in os.environ.items() if key != "HPSED_LAUNCHER_PID"}
        environment |= {"HPSED_HOLD": str(self.notes), "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT / 'tests/hold'}"}
        command = f"cd {self.folder} && exec {sys.executable} -m hpsed_lib.launch.workflow {NAME} {options}"
        command = [*(self.disk.enter if self.disk else []), "sh", "-c", command]
        with open(self.notes / f"log{self.n_launches}", "w") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            return subprocess.Popen(command, env=environment, start_new_session=True, **streams)

    def fill_disk(self) -> None:
        """Fill the disk and let what is held go on."""
        self.disk.fill()
        self.hold_at(None)

    def finish(self, *, options: str = "--cores 1") -> Project:
        """Launch in peace."""
        assert self.launch(options=options).wait(timeout=600) == 0, self.log()
        return self

    def log(self, number: int | None = None) -> str:
        """What a launch has printed, the last one without a number."""
        return (self.notes / f"log{number or self.n_launches}").read_text()

    def n_put(self, path: str) -> int:
        """How often all launches together have put a file in place."""
        lines = "".join(trace.read_text() for trace in self.notes.glob("trace[0-9]*")).splitlines()
        return sum(line.endswith(f" os.rename {self.folder / path}") for line in lines)

    def processes(self) -> list[psutil.Process]:
        """Every process that descends from a launch, whoever its parent is now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get("HPSED_HOLD") == str(self.notes)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def kill(self, module: str | None = None) -> None:
        """Kill every process, or the first that was started with ``-m module``."""
        found = [process for process in self.processes() if module is None or module in process.cmdline()]
        for process in sorted(found, key=psutil.Process.create_time)[: 1 if module else None]:
            process.kill()

    def wait_until(self, condition: Callable[[], object], what: str, launched: subprocess.Popen[bytes]) -> None:
        """Wait for a condition, no longer than the launch lasts."""

        def met_or_ended() -> object:
            return condition() or launched.poll() is not None

        wait_until(met_or_ended, seconds=400, what=lambda: f"{what}\n{self.log()}")
        assert launched.poll() is None, f"ended before: {what}\n{self.log()}"

    def n_epochs(self, run: str) -> int:
        path = self.cache / "runs" / run / "checkpoint.pt"
        return len(torch.load(path, weights_only=True)["history"]) if path.is_file() else 0

    def check_held(self, moment: str, *, n_epochs: int | None) -> None:
        """What is to be there at the moment is, and no more; so many epochs of the run, if it is about those."""
        if moment == "extraction":
            [journal] = (self.cache / "features").glob("training-*.csv")
            wait_until(lambda: len(journal.read_text().splitlines()) == 1 + JOURNAL, seconds=20)
        elif moment == "tables":
            assert (self.results / "tables/table2.csv").is_file()
            assert not (self.results / "tables/threshold_free.csv").exists()
        else:
            assert self.n_epochs(RUN) == n_epochs
            assert not (self.results / f"metrics/{RUN}.json").exists()

    def check_end(self, reference: Project, structures: Sequence[str], n_epochs: int) -> None:
        """The numbers are those of an undisturbed project, and nothing was done twice."""
        runs, numbers = [f"linear-{structure}-seed0" for structure in structures], self.numbers()
        assert numbers == reference.numbers()
        assert {"table2.csv", "data.json", *(f"{run}.{kind}" for run in runs for kind in ("json", "tsv"))} <= set(
            numbers
        )
        once = [f"cache/{NAME}/data.json", f"reproduced/{NAME}/tables/structure_agreement.csv"]
        once += [f"reproduced/{NAME}/metrics/{run}.json" for run in runs]
        expected = dict.fromkeys(once, 1) | {f"cache/{NAME}/runs/{run}/checkpoint.pt": n_epochs for run in runs}
        assert {path: self.n_put(path) for path in expected} == expected

    def n_extracted(self, split: str) -> int:
        """Clips whose features the last launch wrote; the extraction itself opens the file once."""
        pattern = rf" open {self.folder}/cache/{NAME}/features/{split}-\w+\.npy$"
        trace = (self.notes / f"trace{self.n_launches}").read_text()
        return max(len(re.findall(pattern, trace, flags=re.MULTILINE)) - 1, 0)

    def half_written(self) -> list[Path]:
        return [path for folder in (self.cache, self.results) for path in folder.rglob(".*.unfinished.*")]

    def numbers(self) -> dict[str, str]:
        """Checksums of all that was computed; what is half-written has none."""
        found: dict[str, bytes] = {}
        for path in [self.cache / "data.json", *(self.results / "metrics").glob("[!.]*.json")]:
            content = json.loads(path.read_text())
            for key in ("time", "commit", "commit_date", "audio_folder"):
                content.pop(key, None)
            found[path.name] = json.dumps(content).encode()
        files = [*(self.cache / "features").glob("[!.]*.npy"), *(self.results / "tables").glob("[!.]*")]
        files += (self.results / "events").glob("[!.]*.tsv")
        files += [self.cache / f"{name}.csv" for name in ("clips", "strong_labels", "weak_labels", "remarks")]
        found |= {path.name: path.read_bytes() for path in files}
        found["manifest"] = pd.read_csv(self.cache / "manifest.csv").drop(columns="modified").to_csv().encode()
        return {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}
