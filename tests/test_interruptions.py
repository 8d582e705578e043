"""Launches that end early, in every way and at every moment, and the same command again: see docs/interruptions.md.

A small experiment is launched with the real command in a copy of the project. At each of four moments it is held
(tests/hold/sitecustomize.py), ended in one way, looked at, launched again, ended in the next way, and so on. What comes
out in the end is compared with what came out where nothing was disturbed. Two copies, one with a disk of its own, share
the six ways between them; together with the undisturbed one they run side by side.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from held import JOURNAL, MOMENTS, N_TRAINING, NAME, ROOT, RUN, Disk, Project, small_experiment

STRUCTURES = ["single", "hierarchical"]
RUNS = [f"linear-{structure}-seed0" for structure in STRUCTURES]
N_EPOCHS = 4  # every launch that is to end in mid-epoch does one more before
# Copy by copy. The full disk comes first: what a killed process left is removed by the next, and makes room.
KINDS = [["Ctrl-C", "SIGTERM", "kill the run"], ["full disk", "kill Snakemake", "kill everything"]]
KILLED_OF_RUN = {
    "extraction": "ipykernel_launcher",
    "mid-epoch": "hpsed_lib.launch.execution",
    "before metrics": "ipykernel_launcher",
    "tables": "hpsed_lib.launch.execution",
}


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
        project.hold_at(None)


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
    project.wait_until(project.is_held, seconds=200, what=moment, launched=launched)

    project.check_held(moment, n_epochs=n_epochs + 1 if moment == "mid-epoch" else N_EPOCHS)
    if moment == "extraction" and project.n_launches > 1:
        assert project.n_extracted("test") == 0
        assert project.n_extracted("training") < N_TRAINING - JOURNAL

    end(project, launched, kind, moment)
    launched.wait(timeout=120)
    check_message(project, launched, kind, moment)
    project.wait_until(lambda: not project.processes(), seconds=10, what="processes are left")
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
            self.projects.append(Project(folder / str(number), small_experiment(STRUCTURES, N_EPOCHS), disk))
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
