"""Launches that end early, in every way and at every moment, and the same command again: see docs/interruptions.md.

A small experiment is launched with the real command in a copy of the project. At each of four moments it is held
(tests/hold/sitecustomize.py), ended in one way, looked at, launched again, ended in the next way, and so on. What comes
out in the end is compared with what came out where nothing was disturbed. Two copies, one with a disk of its own, share
the six ways between them; together with the undisturbed one they run side by side.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
NAME = "brief"
N_TRAINING = 40  # clips: more than an entry into the journal of the features has
JOURNAL = 32  # clips of an entry
RUNS = ["linear-hierarchical-seed0", "linear-single-seed0"]
RUN = RUNS[1]  # the one that is disturbed
# Copy by copy. The full disk comes first: what a killed process left is removed by the next, and makes room.
KINDS = [["Ctrl-C", "SIGTERM", "kill the run"], ["full disk", "kill Snakemake", "kill everything"]]
N_EPOCHS = 4  # every launch that is to end in mid-epoch does one more before
MOMENTS = {
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
    },
    "before metrics": {"execution": RUN, "event": "os.rename", "path": rf"metrics/{RUN}\.json$"},
    "tables": {"execution": "04_result_tables", "event": "os.rename", "path": r"tables/table2\.csv$"},
}
MOMENTS = {name: {"skip": 0, "after": None} | moment for name, moment in MOMENTS.items()}
MOMENTS["mid-epoch"]["skip"] = 2  # a batch opens the file twice
KILLED_OF_RUN = {
    "extraction": "ipykernel_launcher",
    "mid-epoch": "hpsed_lib.execution",
    "before metrics": "ipykernel_launcher",
    "tables": "hpsed_lib.execution",
}


def small_experiment() -> dict:
    """The experiment of the smoke test with shorter clips, two variants and batches enough for a middle of an epoch."""
    content = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    content["data"] |= {"clip_duration": 2.0, "event_duration": [0.3, 1.0]}
    content["data"]["n_clips"] = {"training": N_TRAINING, "validation": 6, "test": 6}
    content["pooling"] |= {"functions": ["linear"], "structures": ["single", "hierarchical"]}
    content["training"] |= {"batch_size": 12, "max_epochs": N_EPOCHS, "patience": N_EPOCHS}
    return content


class Project:
    """A copy of the project with the small experiment, and what its launches leave behind.

    Attributes
    ----------
    folder : Path
        Where the processes of a launch see it.
    seen : Path
        Where the test sees it; another path if it lies on a disk of its own.
    notes : Path
        Folder of ``tests/hold/sitecustomize.py``; also has what the launches print.
    """

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self.folder, self.notes, self.disk, self.n_launches = folder / "disk/project", folder / "notes", disk, 0
        self.seen = disk.seen(self.folder) if disk else self.folder
        self.notes.mkdir(parents=True)
        for name in ("hpsed_lib", "notebooks", "workflow", "results/paper", "results/derivation"):
            shutil.copytree(ROOT / name, self.seen / name, ignore=shutil.ignore_patterns("__pycache__"))
        (self.seen / "params").mkdir()
        shutil.copy(ROOT / "params/quick.yaml", self.seen / "params")
        (self.seen / f"params/{NAME}.yaml").write_text(yaml.safe_dump(small_experiment(), sort_keys=False))
        for path in (self.seen / "results").rglob("*.*"):
            path.touch()  # newer than the copies of what they were made from: notebooks 02 and 05 need not run
        self.cache, self.results = self.seen / "cache" / NAME, self.seen / "results" / NAME

    def launch(self, moment: dict | None = None) -> subprocess.Popen[bytes]:
        """Start the command; with a moment it will be held there."""
        self.n_launches += 1
        (self.notes / "moment.json").write_text(json.dumps(moment or {"execution": None}))
        (self.notes / "counting").unlink(missing_ok=True)
        (self.notes / "trace").unlink(missing_ok=True)
        (self.notes / "trace").symlink_to(f"trace{self.n_launches}")
        environment = {key: value for key, value in os.environ.items() if key != "HPSED_LAUNCHER_PID"}
        environment |= {"HPSED_HOLD": str(self.notes), "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT / 'tests/hold'}"}
        command = f"cd {self.folder} && exec {sys.executable} -m hpsed_lib.workflow {NAME} --cores 1"
        with open(self.notes / f"log{self.n_launches}", "w") as log:
            return subprocess.Popen(
                [*(self.disk.enter if self.disk else []), "sh", "-c", command],
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # its own process group, as a terminal gives it
            )

    def log(self) -> str:
        return (self.notes / f"log{self.n_launches}").read_text()

    def trace(self) -> list[str]:
        """What the last launch has put in place so far."""
        return (self.notes / f"trace{self.n_launches}").read_text().splitlines()

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

    def process(self, module: str) -> psutil.Process:
        """The first of these processes that was started with ``-m module``."""
        found = [process for process in self.processes() if module in process.cmdline()]
        return min(found, key=psutil.Process.create_time)

    def wait_until(self, condition: Callable[[], object], *, seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited in vain: {what}\n{self.log()}"
            time.sleep(0.05)

    def n_epochs(self, run: str) -> int:
        path = self.cache / "runs" / run / "checkpoint.pt"
        return len(torch.load(path, weights_only=True)["history"]) if path.is_file() else 0

    def journal(self, split: str) -> int:
        """Clips in the journal of a split's features."""
        return sum(len(path.read_text().splitlines()) - 1 for path in (self.cache / "features").glob(f"{split}-*.csv"))

    def n_extracted(self, split: str) -> int:
        """Clips whose features the last launch wrote; the extraction itself opens the file once."""
        pattern = rf" open {self.folder}/cache/{NAME}/features/{split}-\w+\.npy$"
        return max(sum(bool(re.search(pattern, line)) for line in self.trace()) - 1, 0)

    def half_written(self) -> list[Path]:
        return [path for folder in (self.cache, self.results) for path in folder.rglob(".*.*.*")]

    def numbers(self) -> dict[str, str]:
        """Checksums of all that was computed."""
        found: dict[str, bytes] = {}
        for path in (self.results / "metrics").glob("*.json"):
            metrics = json.loads(path.read_text())
            kept = {key: value for key, value in metrics.items() if key not in ("time", "commit")}
            found[path.name] = json.dumps(kept).encode()
        for path in (self.cache / "runs").glob("*/predictions.npz"):
            with np.load(path) as stored:  # the archive itself holds the time of its making
                found |= {f"{path.parent.name} {split}": stored[split].tobytes() for split in stored}
        for path in [*(self.cache / "features").glob("*.npy"), *(self.results / "tables").iterdir()]:
            found[path.name] = path.read_bytes()
        for name in ("clips", "strong_labels", "weak_labels", "remarks"):
            found[name] = (self.cache / f"{name}.csv").read_bytes()
        found["manifest"] = pd.read_csv(self.cache / "manifest.csv").drop(columns="modified").to_csv().encode()
        data = json.loads((self.cache / "data.json").read_text())
        found["data"] = json.dumps({key: value for key, value in data.items() if key != "audio_folder"}).encode()
        return {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}


class Disk:
    """A file system of 64 MB at `folder` that only processes of its own mount namespace see."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        mount = f"mount -t tmpfs -o size=64m tmpfs {folder} && echo mounted && exec cat"  # until its input ends
        for options in (["--mount"], ["--user", "--map-root-user", "--mount"]):  # root's way, everybody's way
            self.holder = subprocess.Popen(
                ["unshare", *options, "sh", "-c", mount],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            if self.holder.stdout.read(8) == b"mounted\n":
                break
            self.holder.wait()
        self.is_there = self.holder.poll() is None
        inside = [option for option in options if option != "--map-root-user"]
        self.enter = ["nsenter", f"--target={self.holder.pid}", *inside, "--"]
        self.filler = self.seen(folder / "filler")

    def seen(self, path: Path) -> Path:
        """Where a process outside sees a path of the disk."""
        return Path(f"/proc/{self.holder.pid}/root{path}")

    def fill(self, *, room: int = 0) -> None:
        """Leave so many bytes and no more."""
        with open(self.filler, "ab", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            file.truncate(file.tell() - room)

    def close(self) -> None:
        self.holder.kill()
        self.holder.communicate()


def end(project: Project, launched: subprocess.Popen[bytes], kind: str, moment: str) -> None:
    """End a held launch in one way."""
    if kind == "Ctrl-C":
        os.killpg(launched.pid, signal.SIGINT)
    elif kind == "SIGTERM":
        launched.send_signal(signal.SIGTERM)
    elif kind == "kill the run":
        project.process(KILLED_OF_RUN[moment]).kill()
    elif kind == "kill Snakemake":
        project.process("snakemake").kill()
    elif kind == "kill everything":
        for process in project.processes():
            process.kill()
    else:
        project.disk.fill()
        (project.notes / "held").unlink()


def check_message(project: Project, launched: subprocess.Popen[bytes], kind: str, moment: str) -> None:
    """What the launcher says in its end, and its status."""
    log, name = project.log(), MOMENTS[moment]["execution"]
    status, message = {
        "Ctrl-C": (130, "^stopped; the same command goes on from here$"),
        "SIGTERM": (143, "^stopped; the same command goes on from here$"),
        "kill the run": (1, f"^  not run, or ended from outside: .*{name}"),
        "kill Snakemake": (1, f"^  not run, or ended from outside: .*{name}"),
        "kill everything": (-signal.SIGKILL, ""),
        "full disk": (1, rf"^\[{name}\] .*{project.folder}/.*: No space left on device; make room"),
    }[kind]
    if kind == "kill the run" and KILLED_OF_RUN[moment] == "ipykernel_launcher":
        message = rf"^  {name} failed in cell .*: DeadKernelError"
    assert launched.returncode == status, log
    assert re.search(message, log, flags=re.MULTILINE), log
    assert "Traceback" not in log, log


def check_cell(project: Project, kind: str, moment: str) -> None:
    """Launch, hold at the moment, end it in this way, look at what is left."""
    held_at = MOMENTS[moment]
    if (kind, moment) == ("full disk", "before metrics"):  # once a metrics file is to be moved it needs no more room
        held_at = held_at | {"path": rf"{RUN}/predictions\.npz$"}
    n_epochs = project.n_epochs(RUN)
    launched = project.launch(held_at)
    held = project.notes / "held"
    project.wait_until(lambda: held.exists() or launched.poll() is not None, seconds=200, what=moment)
    assert launched.poll() is None, project.log()

    metrics = project.results / f"metrics/{RUN}.json"
    if moment == "extraction":
        project.wait_until(lambda: project.journal("training") == JOURNAL, seconds=20, what="journal")
        if project.n_launches > 1:
            assert project.n_extracted("test") == 0
            assert project.n_extracted("training") < N_TRAINING - JOURNAL
    elif moment == "mid-epoch":
        assert project.n_epochs(RUN) == n_epochs + 1
        assert not metrics.exists()
    elif moment == "before metrics":
        assert project.n_epochs(RUN) == N_EPOCHS
        assert not metrics.exists()
    else:
        assert (project.results / "tables/scores.csv").is_file()
        assert not (project.results / "tables/table2.csv").exists()

    end(project, launched, kind, moment)
    launched.wait(timeout=120)
    check_message(project, launched, kind, moment)
    project.wait_until(lambda: not project.processes(), seconds=10, what="processes are left")
    held.unlink(missing_ok=True)
    if kind == "full disk":
        assert project.half_written() == []
        again = project.launch()
        assert again.wait(timeout=60) == 2
        assert re.fullmatch(rf"error: .*/cache/{NAME}/.*: No space left on device; make room .*\n", project.log())
        project.disk.filler.unlink()


def interrupt(project: Project, cells: dict[tuple[str, str], Future]) -> None:
    """Every cell in turn; after one that fails the others cannot be what they are meant to be."""
    error: BaseException | None = None
    for (kind, moment), cell in cells.items():
        try:
            if error is None:
                check_cell(project, kind, moment)
        except BaseException as raised:
            error = raised
        if error is None:
            cell.set_result(None)
        else:
            cell.set_exception(error)
    if error is not None:
        raise error


def finish(project: Project) -> Project:
    """The command in peace."""
    launched = project.launch()
    assert launched.wait(timeout=300) == 0, project.log()
    return project


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """Everything, under way."""
    matrix = Matrix(tmp_path_factory.mktemp("interruptions"))
    yield matrix
    matrix.close()


class Matrix:
    """The copies of the project, side by side.

    Attributes
    ----------
    cells : list of dict of Future, by (kind, moment)
        Of each disturbed copy.
    ends : list of Future of Project
        The disturbed copies in the end, and the undisturbed one.
    disk : Disk
        The second copy's own, if it could be had.
    """

    def __init__(self, folder: Path) -> None:
        self.disk = Disk(folder / "1/disk")
        disks = [None, self.disk if self.disk.is_there else None, None]
        self.cells: list[dict[tuple[str, str], Future]] = [
            {(kind, moment): Future() for moment in MOMENTS for kind in kinds if kind != "full disk" or disk}
            for kinds, disk in zip(KINDS, disks, strict=False)
        ]
        self.projects = []
        for number, disk in enumerate(disks):
            (folder / str(number)).mkdir(exist_ok=True)
            self.projects.append(Project(folder / str(number), disk))
        self.pool = ThreadPoolExecutor(len(self.projects))
        self.ends = [
            self.pool.submit(self._work, project, cells)
            for project, cells in zip(self.projects, [*self.cells, {}], strict=True)
        ]

    @staticmethod
    def _work(project: Project, cells: dict[tuple[str, str], Future]) -> Project:
        interrupt(project, cells)
        return finish(project)

    def close(self) -> None:
        for project in self.projects:
            for process in project.processes():
                process.kill()
        self.pool.shutdown()
        self.disk.close()


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", [kind for kinds in KINDS for kind in kinds])
def test_interrupted(matrix: Matrix, kind: str, moment: str) -> None:
    cells = next(cells for kinds, cells in zip(KINDS, matrix.cells, strict=True) if kind in kinds)
    if (kind, moment) not in cells:
        pytest.skip("a disk of its own needs mount namespaces, of root or of users")
    cells[kind, moment].result(timeout=1800)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(KINDS)), ids=[", ".join(kinds) for kinds in KINDS])
def test_numbers_are_those_of_the_undisturbed_experiment(matrix: Matrix, number: int) -> None:
    project, reference = matrix.ends[number].result(timeout=1800), matrix.ends[-1].result(timeout=1800)
    numbers = project.numbers()
    assert numbers == reference.numbers()
    assert {f"{run}.json" for run in RUNS} | {f"{run} test" for run in RUNS} | {"table2.csv", "data"} <= set(numbers)

    n_resumed = len([cell for cell in matrix.cells[number] if cell[1] == "mid-epoch"])
    metrics = json.loads((project.results / f"metrics/{RUN}.json").read_text())
    assert metrics["time"]["resumed_after"] == list(range(1, n_resumed + 1))
    for run in RUNS:  # no epoch twice
        assert project.n_put(f"cache/{NAME}/runs/{run}/checkpoint.pt") == N_EPOCHS
    once = [f"cache/{NAME}/data.json", f"results/{NAME}/tables/structure_agreement.csv"]
    once += [f"results/{NAME}/metrics/{run}.json" for run in RUNS]
    assert {path: project.n_put(path) for path in once} == dict.fromkeys(once, 1)
    assert project.half_written() == []


def test_a_checkpoint_that_does_not_fit(tmp_path: Path) -> None:
    """torch.save speaks of a full disk in words of its own."""
    disk = Disk(tmp_path / "disk")
    try:
        if not disk.is_there:
            pytest.skip("a disk of its own needs mount namespaces, of root or of users")
        disk.fill(room=1 << 16)
        path = tmp_path / "disk/checkpoint.pt"
        code = (
            "import torch; from pathlib import Path; from hpsed_lib.paths import replacing\n"
            f"with replacing(Path({str(path)!r})) as temporary: torch.save(torch.zeros(1 << 16), temporary)"
        )
        ended = subprocess.run(
            [*disk.enter, sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert f"DataError: {path}: No space left on device; make room" in ended.stderr
        assert [file.name for file in disk.seen(path.parent).iterdir()] == ["filler"]
    finally:
        disk.close()
