"""Launches that end early, in every way and at every moment, and the same command again: see docs/interruptions.md.

A small experiment is launched with the real command in a copy of the project. At each of four moments it is held
(tests/hold/sitecustomize.py), ended in one way, looked at, launched again, ended in the next way, and so on. What comes
out in the end is compared with what came out where nothing was disturbed. Two copies, one with a disk of its own, share
the six ways between them; together with the undisturbed one they run side by side.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from held import JOURNAL, MOMENTS, N_TRAINING, NAME, ROOT, RUN, Disk, Project, small_experiment, wait_until

STRUCTURES = ["single", "hierarchical"]
N_EPOCHS = 4  # every launch that is to end in mid-epoch does one more before
# Copy by copy. The full disk comes first: what a killed process left is removed by the next, and makes room.
COURSES = [["Ctrl-C", "SIGTERM", "kill the run"], ["full disk", "kill Snakemake", "kill everything"]]
KERNEL, EXECUTOR = "ipykernel_launcher", "hpsed_lib.launch.execution"
KILLED_OF_RUN = {"extraction": KERNEL, "mid-epoch": EXECUTOR, "before metrics": KERNEL, "tables": EXECUTOR}


def end(project: Project, launched: subprocess.Popen[bytes], kind: str, moment: str) -> None:
    """End a held launch in one way, and look at its status and at what it says in its end."""
    name, of_run = MOMENTS[moment]["execution"], KILLED_OF_RUN[moment]
    stopped, outside = "^stopped; the same command goes on", f"^  not run, or ended from outside: .*{name}"
    dead = rf"^  {name} failed in cell .*: DeadKernelError"
    full = rf"^\[{name}\] .*{project.folder}/.*: No space left on device; make room"
    ways = {  # what is done, the exit status, and what the launch says
        "Ctrl-C": (lambda: os.killpg(launched.pid, signal.SIGINT), 130, stopped),
        "SIGTERM": (launched.terminate, 143, stopped),
        "kill the run": (lambda: project.kill(of_run), 1, dead if of_run == KERNEL else outside),
        "kill Snakemake": (lambda: project.kill("snakemake"), 1, outside),
        "kill everything": (project.kill, -signal.SIGKILL, ""),
        "full disk": (project.fill_disk, 1, full),
    }
    act, status, says = ways[kind]
    act()
    assert launched.wait(timeout=120) == status, project.log()
    assert re.search(says, project.log(), flags=re.MULTILINE), project.log()
    assert "Traceback" not in project.log()
    wait_until(lambda: not project.processes(), seconds=10, what=lambda: "processes are left")


def interrupt(project: Project, kind: str, moment: str) -> None:
    """Launch, hold at the moment, end it in this way, look at what is left."""
    held_at = MOMENTS[moment]
    if (kind, moment) == ("full disk", "before metrics"):  # once a metrics file is to be moved it needs no more room
        held_at = held_at | {"path": rf"events/{RUN}\.tsv$"}
    n_epochs = project.n_epochs(RUN)
    launched = project.launch(held_at)
    project.wait_until(project.is_held, moment, launched)
    project.check_held(moment, n_epochs=n_epochs + 1 if moment == "mid-epoch" else N_EPOCHS)
    if moment == "extraction" and project.n_launches > 1:
        assert project.n_extracted("test") == 0
        assert project.n_extracted("training") < N_TRAINING - JOURNAL
    end(project, launched, kind, moment)
    if kind == "full disk":
        assert project.half_written() == []
        assert project.launch().wait(timeout=60) == 2
        assert re.fullmatch(rf"error: .*/cache/{NAME}/.*: No space left on device; make room .*\n", project.log())
        project.disk.seen(project.disk.filler).unlink()


def interrupt_all(project: Project, kinds: list[str]) -> Project:
    """Every way at every moment in turn, then the command in peace."""
    for moment in MOMENTS:
        for kind in kinds:
            try:
                interrupt(project, kind, moment)
            except BaseException as error:
                error.add_note(f"{kind}, {moment}")
                raise
    return project.finish()


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """The disturbed copies and the undisturbed one, under way."""
    folder, experiment = tmp_path_factory.mktemp("interruptions"), small_experiment(STRUCTURES, N_EPOCHS)
    with contextlib.closing(Disk(folder / "1/disk")) as disk, ThreadPoolExecutor() as pool:
        disks = [None, disk if disk.is_there else None, None]
        projects = [Project(folder / str(number), experiment, each) for number, each in enumerate(disks)]
        courses = [[kind for kind in kinds if kind != "full disk" or disk.is_there] for kinds in [*COURSES, []]]
        yield [pool.submit(interrupt_all, *course) for course in zip(projects, courses, strict=True)]
        for project in projects:
            project.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(COURSES)), ids=[", ".join(kinds) for kinds in COURSES])
def test_numbers_are_those_of_the_undisturbed_experiment(ends, number):
    project, reference = ends[number].result(timeout=1800), ends[-1].result(timeout=1800)
    project.check_end(reference, STRUCTURES, N_EPOCHS)
    n_resumed = len([kind for kind in COURSES[number] if kind != "full disk" or project.disk])
    metrics = json.loads((project.results / f"metrics/{RUN}.json").read_text())
    assert metrics["time"]["resumed_after"] == list(range(1, n_resumed + 1))
    assert project.half_written() == []
    if n_resumed < len(COURSES[number]):
        pytest.skip("all but the full disk: a disk of its own needs mount namespaces, of root or of users")


def test_a_checkpoint_that_does_not_fit(tmp_path):
    """torch.save speaks of a full disk in words of its own."""
    with contextlib.closing(Disk(tmp_path / "disk")) as disk:
        if not disk.is_there:
            pytest.skip("a disk of its own needs mount namespaces, of root or of users")
        disk.fill(room=1 << 16)
        path = tmp_path / "disk/checkpoint.pt"
        code = (
            "import torch; from pathlib import Path; from hpsed_lib.paths import replacing\n"
            f"with replacing(Path({str(path)!r})) as temporary: torch.save(torch.zeros(1 << 16), temporary)"
        )
        command = [*disk.enter, sys.executable, "-c", code]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert f"DataError: {path}: No space left on device; make room" in ended.stderr
        assert [file.name for file in disk.seen(path.parent).iterdir()] == ["filler"]
