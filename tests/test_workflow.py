"""What starts and describes the workflow: the launcher's parts, the Makefile, the pins. No experiment is run here."""

import fcntl
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

from hpsed_lib import workflow
from hpsed_lib.errors import DataError
from hpsed_lib.params import load_experiment

ROOT = Path(__file__).resolve().parents[1]


def normal(name: str) -> str:
    """Name of a package as the index compares it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with a copy of the library and the parameters, so that cache and results land there."""
    shutil.copytree(ROOT / "hpsed_lib", tmp_path / "hpsed_lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "params", tmp_path / "params")
    return tmp_path


def launch(bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the launcher of the copied bundle to its end."""
    command = [sys.executable, "-m", "hpsed_lib.workflow", *arguments]
    return subprocess.run(command, cwd=bundle, capture_output=True, text=True, timeout=60)


class TestLauncher:
    def test_unknown_experiment_is_one_line(self, bundle):
        ended = launch(bundle, "quik")
        assert ended.returncode == 2
        assert ended.stderr.startswith("error: no experiment 'quik'")
        assert len(ended.stderr.splitlines()) == 1

    def test_missing_data_folder_is_one_line(self, bundle):
        ended = launch(bundle, "quick", "--data", "nowhere")
        assert ended.returncode == 2
        assert ended.stderr == "error: no folder nowhere: expected the folder of the recordings\n"

    def test_second_launcher_gives_up(self, bundle):
        module = bundle / "hpsed_lib/workflow.py"
        module.write_text(module.read_text().replace("PATIENCE = 10.0", "PATIENCE = 0.5"))
        lock = bundle / "cache/quick/workflow.lock"
        lock.parent.mkdir(parents=True)
        with open(lock, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write("4711")
            file.flush()
            ended = launch(bundle, "quick")
        assert ended.returncode == 2
        assert "process 4711 is running this experiment; waiting" in ended.stderr
        assert "process 4711 still holds cache/quick/workflow.lock" in ended.stderr

    def test_every_execution_has_its_notebook(self):
        experiment = load_experiment("quick")
        paths = workflow.executed_notebooks(experiment)
        assert len(paths) == len(experiment.runs()) + 5
        run = experiment.runs()[0]
        assert paths[run] == f"results/quick/notebooks/03_train_variant/{run}.ipynb"
        assert paths["02_pooling_gradients"] == "results/derivation/notebooks/02_pooling_gradients.ipynb"
        assert paths["05_paper_audit"] == "results/paper/notebooks/05_paper_audit.ipynb"

    @pytest.mark.parametrize(
        ("name", "folder"), [("05_paper_audit", "cache"), ("04_result_tables", "cache/quick")], ids=["shared", "own"]
    )
    def test_a_failed_notebook_is_reported(self, tmp_path, monkeypatch, capsys, name, folder):
        monkeypatch.setattr(workflow, "cache_folder", lambda experiment: tmp_path / "cache" / experiment)
        message = tmp_path / folder / "notebooks-in-progress" / f"{name}.failed.txt"
        message.parent.mkdir(parents=True)
        message.write_text("failed in cell 3: ValueError\n")
        workflow.report_failure(load_experiment("quick"), since=0.0)
        assert f"{name} failed in cell 3: ValueError" in capsys.readouterr().err


class TestDataSource:
    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path, monkeypatch):
        monkeypatch.setattr(workflow, "cache_folder", lambda name: tmp_path / "cache" / name)

    def test_nothing_given(self):
        source = workflow.data_source("toy", None, download=False)
        assert source == {"data_folder": "", "download": False, "fingerprint": ""}

    def test_folder_is_remembered_and_its_changes_are_seen(self, tmp_path):
        folder = tmp_path / "recordings"
        folder.mkdir()
        (folder / "a.wav").write_bytes(b"a")
        first = workflow.data_source("toy", folder, download=False)
        assert not Path(first["data_folder"]).is_absolute()  # it stands in the executed notebook
        assert (ROOT / first["data_folder"]).resolve() == folder.resolve()
        assert workflow.data_source("toy", None, download=False) == first
        (folder / "b.wav").write_bytes(b"b")
        changed = workflow.data_source("toy", None, download=False)
        assert changed["fingerprint"] != first["fingerprint"]
        shutil.rmtree(folder)
        assert workflow.data_source("toy", None, download=False) == changed

    def test_missing_folder(self, tmp_path):
        with pytest.raises(DataError, match=r"no folder .*nowhere"):
            workflow.data_source("toy", tmp_path / "nowhere", download=False)


def test_library_of_follows_imports(tmp_path, monkeypatch):
    library = tmp_path / "hpsed_lib"
    library.mkdir()
    (library / "model.py").write_text("from hpsed_lib.pooling import linear\nimport numpy\n")
    (library / "pooling.py").write_text("def linear():\n    from hpsed_lib import errors\n")
    for name in ("errors", "plots", "unused"):
        (library / f"{name}.py").write_text("")
    code = "%matplotlib inline\nimport hpsed_lib.plots\nfrom hpsed_lib.model import Network"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbformat.write(notebook, tmp_path / "toy.ipynb")
    monkeypatch.setattr(workflow, "ROOT", tmp_path)
    expected = ["hpsed_lib/errors.py", "hpsed_lib/model.py", "hpsed_lib/pooling.py"]
    assert workflow.library_of("toy.ipynb", without=["plots"]) == expected


class TestInstallation:
    lock = (ROOT / "requirements.lock").read_text()
    pins = tuple(line for line in lock.splitlines() if line and not line.startswith("#"))

    def test_everything_is_pinned_by_name(self):
        for pin in self.pins:
            assert re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", pin), pin

    def test_lock_has_every_dependency(self):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = {normal(name) for name in project["dependencies"] + project["optional-dependencies"]["dev"]}
        assert wanted <= {normal(pin) for pin in self.pins}

    def test_conda_environment_takes_the_lock(self):
        environment = yaml.safe_load((ROOT / "environment.yml").read_text())
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        python, pip, from_pip = environment["dependencies"]
        assert pip == "pip"
        assert from_pip == {"pip": ["--requirement requirements.lock", "--editable ."]}
        assert python == f"python{project['requires-python']}"


class TestMakefile:
    def test_help_lists_every_target_and_variable(self):
        if shutil.which("make") is None:
            pytest.skip("no make here")
        shown = subprocess.run(["make", "-C", ROOT], capture_output=True, text=True, check=True).stdout
        content = (ROOT / "Makefile").read_text()
        targets = re.search(r"^\.PHONY: (.+)$", content, flags=re.MULTILINE)[1].split()
        variables = re.findall(r"^(\w+) \?=", content, flags=re.MULTILINE)
        assert {"reproduce", "test"} <= set(targets)
        for name in targets + variables:
            assert re.search(rf"^  {name} +\S", shown, flags=re.MULTILINE), name
