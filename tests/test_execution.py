"""Headless execution of notebooks, with small notebooks written here and run in a copy of the library."""

import fcntl
import json
import os
import signal
import subprocess
import sys

import nbformat
import psutil
import pytest
from held import copy_project, wait_until

from hpsed_lib.launch.execution import read_parameters

PARAMETERS = """
experiment: str = "toy"
seed: int = 0  # of everything
rate: float = 0.5
fast: bool = False
""".strip()


class Bundle:
    """A folder with a copy of the library, where cache and results land, and with a notebook.

    Text cells of the notebook start with ``#`` and a blank, the first other cell takes the parameters.
    """

    def __init__(self, folder):
        self.folder = folder
        self.notebook, self.output = folder / "toy.ipynb", folder / "results/toy.ipynb"
        self.traces = folder / "cache/toy/notebooks-in-progress"
        self.kept = self.traces / "toy.ipynb"

    def write(self, *cells):
        v4 = nbformat.v4
        made = [v4.new_markdown_cell(cell) if cell.startswith("# ") else v4.new_code_cell(cell) for cell in cells]
        made.insert(0, v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}))
        kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
        nbformat.write(v4.new_notebook(cells=made, metadata={"kernelspec": kernel}), self.notebook)

    def start(self, *options, **environment):
        command = [sys.executable, "-m", "hpsed_lib.launch.execution", "toy.ipynb", "results/toy.ipynb"]
        command += ["-p", "experiment", "toy", *options]
        given = {key: value for key, value in os.environ.items() if key != "HPSED_LAUNCHER_PID"} | environment
        return subprocess.Popen(command, cwd=self.folder, env=given, stderr=subprocess.PIPE, text=True)

    def run(self, *options, status=0, **environment):
        """What one execution says."""
        process = self.start(*options, **environment)
        errors = process.communicate(timeout=60)[1]
        assert process.returncode == status, errors
        assert "Traceback" not in errors
        return errors


@pytest.fixture
def bundle(tmp_path):
    copy_project(tmp_path, "hpsed_lib")
    return Bundle(tmp_path)


def test_values_take_the_annotated_types_and_the_notebook_sees_the_others(bundle):
    bundle.write()
    given = {"experiment": "7", "seed": "3", "rate": "0.5", "fast": "True", "sed": "x"}
    assert read_parameters(bundle.notebook, given) == given | {"seed": 3, "rate": 0.5, "fast": True}
    assert read_parameters(bundle.notebook, {"seed": "seven"}) == {"seed": "seven"}


def test_two_executions_are_the_same_bytes(bundle):
    bundle.write(
        "import os, warnings\nwarnings.warn('careful')\nprint(seed, os.environ['OMP_NUM_THREADS'], os.getcwd())"
    )
    contents = []
    for _ in range(2):
        bundle.run("-p", "seed", "5")
        contents.append(bundle.output.read_text())
    assert contents[0] == contents[1]
    assert "papermill" not in contents[0]
    outputs = str(json.loads(contents[0])["cells"][-1]["outputs"])
    assert "cell:2: UserWarning: careful" in outputs
    assert f"5 1 {bundle.folder}" in outputs
    assert not bundle.kept.exists()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("raise ValueError('too loud')", "ValueError: too loud\n"),
        ("import os\nos.kill(os.getpid(), 9)", "DeadKernelError: "),
    ],
)
def test_failed_cell_is_named_and_kept(bundle, code, error):
    bundle.write("# 2.1 Losses\ntext", "print('before')", code)
    errors = bundle.run(status=1)
    message = (bundle.traces / "toy.failed.txt").read_text()
    assert message.startswith(f'failed in cell 4 under "2.1 Losses": {error}')
    assert message.endswith(f"kept: {bundle.kept.relative_to(bundle.folder)}\n")
    assert errors.endswith("".join(f"[toy] {line}\n" for line in message.splitlines()))
    assert not bundle.output.exists()
    assert "before" in bundle.kept.read_text()


def test_a_run_sees_the_gpu_that_is_its_own_and_no_other(bundle):
    bundle.write("import os\nprint('sees', os.environ['CUDA_VISIBLE_DEVICES'])")
    bundle.run("--gpu", CUDA_VISIBLE_DEVICES="5,6", SLURM_JOB_ID="", TMPDIR=str(bundle.folder))
    assert "sees 5\\n" in bundle.output.read_text()


def test_progress_is_shown_while_it_runs(bundle):
    code = "import os, time\nopen(os.environ['HPSED_PROGRESS_LOG'], 'a').write('\\repoch 1\\repoch 2')\ntime.sleep(2)"
    bundle.write(code)
    module = bundle.folder / "hpsed_lib/launch/execution.py"
    module.write_text(module.read_text().replace("PROGRESS_INTERVAL = 10.0", "PROGRESS_INTERVAL = 0.5"))
    errors = bundle.run()
    assert errors.count("[toy] epoch 2\n") == 1
    assert "epoch 1" not in errors


def test_same_run_waits_for_the_other(bundle):
    bundle.write()
    bundle.traces.mkdir(parents=True)
    with open(bundle.traces / "toy.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("4711")
        file.flush()
        process = bundle.start()
        assert "process 4711 executes this run; waiting" in process.stderr.readline()
        assert process.poll() is None
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize("killed", ["runner", "launcher"])
def test_a_kernel_ends_with_its_runner_and_the_runner_with_its_launcher(bundle, killed):
    bundle.write("import os, time\nopen('kernel', 'w').write(str(os.getpid()))\ntime.sleep(60)")
    launcher = subprocess.Popen(["sleep", "60"])
    runner = bundle.start(HPSED_LAUNCHER_PID=str(launcher.pid))
    written = bundle.folder / "kernel"
    wait_until(lambda: written.is_file() and written.read_text(), seconds=30)
    assert runner.poll() is None
    {"runner": runner, "launcher": launcher}[killed].kill()
    launcher.kill()
    launcher.wait()
    runner.communicate(timeout=10)
    assert runner.returncode == (-signal.SIGKILL if killed == "runner" else 1)
    wait_until(lambda: not psutil.pid_exists(int(written.read_text())), seconds=10)
