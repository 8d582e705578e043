"""Headless execution of notebooks, with small notebooks written here and run in a copy of the library."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from hpsed_lib.errors import ParameterError
from hpsed_lib.launch.execution import read_parameters

LIBRARY = Path(__file__).resolve().parents[1] / "hpsed_lib"
PARAMETERS = """
experiment: str = "toy"
seed: int = 0  # of everything
rate: float = 0.5
fast: bool = False
sizes: list = [1, 2]
""".strip()


def write_notebook(path: Path, *cells: str) -> Path:
    """Write a notebook: text cells start with ``#`` and a blank, the first other cell takes the parameters."""
    v4 = nbformat.v4
    made = [v4.new_markdown_cell(cell) if cell.startswith("#") else v4.new_code_cell(cell) for cell in cells]
    first = next(cell for cell in made if cell.cell_type == "code")
    first.metadata["tags"] = ["parameters"]
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(v4.new_notebook(cells=made, metadata={"kernelspec": kernel}), path)
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with a copy of the library, so that cache and results land there."""
    shutil.copytree(LIBRARY, tmp_path / "hpsed_lib", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def start(bundle: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start the command line of the module in the copied bundle."""
    command = [sys.executable, "-m", "hpsed_lib.launch.execution", "toy.ipynb", "results/toy.ipynb", *arguments]
    given = {key: value for key, value in os.environ.items() if key != "HPSED_LAUNCHER_PID"}
    return subprocess.Popen(command, cwd=bundle, env=given | environment, stderr=subprocess.PIPE, text=True)


def run(bundle: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and standard error of one execution."""
    process = start(bundle, *arguments)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def wait_until(condition, *, seconds: float = 30.0) -> None:
    """Wait for a condition, and fail if it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.fixture
def sleeping(bundle: Path) -> Path:
    """A bundle whose notebook writes its kernel's id and then sleeps."""
    code = "import os, pathlib, time\npathlib.Path('kernel').write_text(str(os.getpid()))\ntime.sleep(60)"
    write_notebook(bundle / "toy.ipynb", PARAMETERS, code)
    return bundle


def kernel_of(bundle: Path) -> int:
    """Id of the kernel that runs the sleeping notebook."""
    wait_until(lambda: (bundle / "kernel").is_file() and (bundle / "kernel").read_text())
    return int((bundle / "kernel").read_text())


class TestParameters:
    def test_values_take_the_annotated_types(self, tmp_path):
        notebook = write_notebook(tmp_path / "toy.ipynb", PARAMETERS)
        given = {"experiment": "7", "seed": "3", "rate": "1e-3", "fast": "true", "sizes": "[4]"}
        values = read_parameters(notebook, given)
        assert values == {"experiment": "7", "seed": 3, "rate": 0.001, "fast": True, "sizes": [4]}

    def test_undeclared_parameter_names_the_nearest(self, tmp_path):
        notebook = write_notebook(tmp_path / "toy.ipynb", PARAMETERS)
        with pytest.raises(ParameterError, match=r"declares no parameter 'sed'; the nearest one is 'seed'"):
            read_parameters(notebook, {"sed": "1"})

    @pytest.mark.parametrize(
        ("name", "text", "kind"),
        [("seed", "1.5", "int"), ("rate", "high", "float"), ("fast", "perhaps", "bool"), ("sizes", "3", "list")],
    )
    def test_mistyped_parameter_is_refused(self, tmp_path, name, text, kind):
        notebook = write_notebook(tmp_path / "toy.ipynb", PARAMETERS)
        with pytest.raises(ParameterError, match=rf"parameter '{name}' expects {kind}, got '{text}'"):
            read_parameters(notebook, {name: text})

    def test_nothing_runs_after_a_wrong_parameter(self, bundle):
        write_notebook(bundle / "toy.ipynb", PARAMETERS, "open('ran', 'w')")
        status, errors = run(bundle, "-p", "experiment", "toy", "-p", "seed", "one")
        assert status == 2
        assert "expects int, got 'one'" in errors
        assert "Traceback" not in errors
        assert not (bundle / "ran").exists()
        assert "expects int" in (bundle / "cache/toy/notebooks-in-progress/toy.failed.txt").read_text()


class TestOutcome:
    def test_two_executions_are_the_same_bytes(self, bundle):
        code = "import os, warnings\nwarnings.warn('careful')\nprint(seed, os.environ['OMP_NUM_THREADS'], os.getcwd())"
        write_notebook(bundle / "toy.ipynb", PARAMETERS, code)
        contents = []
        for _ in range(2):
            status, errors = run(bundle, "-p", "experiment", "toy", "-p", "seed", "5")
            assert status == 0, errors
            contents.append((bundle / "results/toy.ipynb").read_bytes())
        assert contents[0] == contents[1]
        notebook = json.loads(contents[0])
        assert "papermill" not in contents[0].decode()
        assert "cell:2: UserWarning: careful" in str(notebook["cells"][-1]["outputs"])
        assert f"5 1 {bundle}" in str(notebook["cells"][-1]["outputs"])
        assert not (bundle / "cache/toy/notebooks-in-progress/toy.ipynb").exists()

    def test_failed_cell_is_named_and_kept(self, bundle):
        cells = ["# Title", PARAMETERS, "# 2.1 Losses\ntext", "print('before')", "raise ValueError('too loud')"]
        write_notebook(bundle / "toy.ipynb", *cells)
        status, errors = run(bundle, "-p", "experiment", "toy")
        expected = 'failed in cell 5 (In [4]) under "2.1 Losses": ValueError: too loud'
        assert status == 1
        assert f"[toy] {expected}" in errors
        assert not (bundle / "results/toy.ipynb").exists()
        kept = bundle / "cache/toy/notebooks-in-progress/toy.ipynb"
        assert f"kept: {kept.relative_to(bundle)}" in errors
        assert "too loud" in kept.read_text()
        assert kept.with_suffix(".failed.txt").read_text().startswith(expected)

    def test_a_run_sees_the_gpu_that_is_its_own_and_no_other(self, bundle):
        write_notebook(bundle / "toy.ipynb", PARAMETERS, "import os\nprint(os.environ['CUDA_VISIBLE_DEVICES'])")
        process = start(bundle, "--gpu", CUDA_VISIBLE_DEVICES="5,6", SLURM_JOB_ID="", TMPDIR=str(bundle))
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        [output] = nbformat.read(bundle / "results" / "toy.ipynb", as_version=4).cells[-1].outputs
        assert output.text.strip() == "5"

    def test_dead_kernel_is_a_failure(self, bundle):
        write_notebook(bundle / "toy.ipynb", PARAMETERS, "# Memory", "import os\nos.kill(os.getpid(), 9)")
        status, errors = run(bundle)
        assert status == 1
        assert "failed in cell 3" in errors
        assert "DeadKernelError" in errors

    def test_progress_is_shown_while_it_runs(self, bundle):
        code = (
            "import os, time\nopen(os.environ['HPSED_PROGRESS_LOG'], 'a').write('\\repoch 1\\repoch 2')\ntime.sleep(2)"
        )
        write_notebook(bundle / "toy.ipynb", PARAMETERS, code)
        module = bundle / "hpsed_lib/launch/execution.py"
        module.write_text(module.read_text().replace("PROGRESS_INTERVAL = 10.0", "PROGRESS_INTERVAL = 0.5"))
        status, errors = run(bundle, "--name", "run-a")
        assert status == 0
        assert errors.count("[run-a] epoch 2\n") == 1
        assert "epoch 1" not in errors


class TestProcesses:
    def test_same_run_waits_for_the_other(self, bundle):
        write_notebook(bundle / "toy.ipynb", PARAMETERS)
        lock = bundle / "cache/notebooks-in-progress/toy.lock"
        lock.parent.mkdir(parents=True)
        with open(lock, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write("4711")
            file.flush()
            process = start(bundle)
            assert "process 4711 executes this run; waiting" in process.stderr.readline()
            assert process.poll() is None
        assert process.wait(timeout=60) == 0
        process.stderr.close()

    def test_killed_runner_leaves_no_kernel(self, sleeping):
        process = start(sleeping)
        kernel = kernel_of(sleeping)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        wait_until(lambda: not psutil.pid_exists(kernel), seconds=10)

    def test_runner_ends_with_its_launcher(self, sleeping):
        launcher = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        process = start(sleeping, HPSED_LAUNCHER_PID=str(launcher.pid))
        kernel = kernel_of(sleeping)
        assert process.poll() is None
        launcher.kill()
        launcher.wait()
        process.communicate(timeout=10)
        assert process.returncode == 1
        wait_until(lambda: not psutil.pid_exists(kernel), seconds=10)
