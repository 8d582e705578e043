"""What starts and describes the workflow: the launcher's parts, the Makefile, the pins. No experiment is run here."""

import fcntl
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from hpsed_lib import paths
from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.launch import graph, status, workflow
from hpsed_lib.params import load_experiment, run_settings, with_seeds

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
    command = [sys.executable, "-m", "hpsed_lib.launch.workflow", *arguments]
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
        module = bundle / "hpsed_lib/launch/workflow.py"
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

    @pytest.mark.parametrize(
        ("name", "folder"), [("05_paper_audit", "cache"), ("04_result_tables", "cache/quick")], ids=["shared", "own"]
    )
    def test_a_failed_notebook_is_reported(self, tmp_path, monkeypatch, capsys, name, folder):
        monkeypatch.setattr(paths, "ROOT", tmp_path)
        message = tmp_path / folder / "notebooks-in-progress" / f"{name}.failed.txt"
        message.parent.mkdir(parents=True)
        message.write_text("failed in cell 3: ValueError\n")
        workflow.report_failure(load_experiment("quick"), since=0.0)
        printed = capsys.readouterr().err
        assert f"{name} failed in cell 3: ValueError" in printed
        # The results of this checkout are there, but nothing was made here.
        unfinished = printed.split("not run, or ended from outside: ")[1].splitlines()[0].split(", ")
        assert set(unfinished) == set(graph.executed_notebooks(load_experiment("quick"))) - {name} - set(graph.SHARED)

    def test_a_notebook_that_was_ended_is_named_although_an_older_one_is_there(self, tmp_path, monkeypatch, capsys):
        for module in (workflow, status):
            monkeypatch.setattr(module, "cache_folder", lambda experiment: tmp_path / "cache" / experiment)
        log = tmp_path / "cache/notebooks-in-progress/02_pooling_gradients.log"
        log.parent.mkdir(parents=True)
        log.touch()
        workflow.report_failure(load_experiment("quick"), since=0.0)
        assert re.search("^  not run, or ended from outside: .*, 02_pooling_gradients$", capsys.readouterr().err, re.M)

    def test_unknown_cluster_names_those_there_are(self, bundle):
        shutil.copytree(ROOT / "workflow", bundle / "workflow")
        ended = launch(bundle, "quick", "--cluster", "slurn")
        assert ended.returncode == 2
        assert ended.stderr == "error: no cluster 'slurn' in workflow/profiles/; there: slurm\n"

    @pytest.mark.parametrize(
        ("experiment", "cluster", "n_seeds", "n_runs"),
        [("smoke", "", 3, 24), ("smoke", "slurm", 3, 24), ("quick", "", 1, 9)],
    )
    def test_seeds_add_runs_and_nothing_else(self, bundle, experiment, cluster, n_seeds, n_runs):
        for folder in ("workflow", "notebooks", "results/paper", "results/quick"):
            shutil.copytree(ROOT / folder, bundle / folder)
        ended = launch(bundle, experiment, "--seeds", str(n_seeds), "--cluster", cluster, "--dry-run")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        jobs = dict(re.findall(r"^(\w+) +(\d+)$", ended.stdout + ended.stderr, flags=re.MULTILINE))
        assert jobs == {
            **dict.fromkeys(("all", "audit", "data", "gradients", "identity", "tables"), "1"),
            "train": str(n_runs),
            "total": str(n_runs + 6),
        }
        assert not (bundle / f"cache/{experiment}/launch.json").exists()  # a dry run is no launch

    def test_nothing_is_done_again_for_other_memory_or_run_time(self, bundle):
        for folder in ("workflow", "notebooks", "results/paper"):
            shutil.copytree(ROOT / folder, bundle / folder)
        params = bundle / "params/smoke.yaml"

        def bases(**resources: int) -> dict[str, int]:
            text = params.read_text()
            for key, value in resources.items():
                text, n_changes = re.subn(rf"( {key}:) *\d+", rf"\1 {value}", text)
                assert n_changes == 1
            params.write_text(text)
            ended = launch(bundle, "smoke", "--dry-run")
            assert ended.returncode == 0, ended.stdout + ended.stderr
            return {path.stem: path.stat().st_mtime_ns for path in (bundle / "cache/smoke/basis").iterdir()}

        before = bases()
        assert len(before) == 4
        assert bases(memory=1, run_time=1) == before
        after = bases(threads=2)
        assert {name for name in before if after[name] != before[name]} == {"03_train_variant"}

    def test_report_of_results_that_came_with_the_repository(self, bundle):
        ended = launch(bundle, "quick", "--report")
        assert ended.returncode == 2
        assert ended.stderr == "error: no results of quick: run `make reproduce EXPERIMENT=quick` first\n"
        for folder in ("workflow", "notebooks", "results"):
            shutil.copytree(ROOT / folder, bundle / folder)
        ended = launch(bundle, "quick", "--report")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert ended.stdout == "cache/quick/report.html\n"
        report = (bundle / ended.stdout.strip()).read_text()
        for name in ("learning_curves.png", "table2.csv", "Best constant guess"):
            assert name in report
        assert not re.findall(r'(?:src|href)="?https?://[^"]+\.(?:js|css)', report)  # it is read without a network, too

    @pytest.mark.parametrize(
        ("visible", "shared", "expected"), [("", "1", "gpu=1"), ("0,1,2", "1", "gpu=3"), ("0,1", "2", "gpu=4")]
    )
    def test_as_many_runs_at_a_time_as_there_are_gpus(self, tmp_path, monkeypatch, visible, shared, expected):
        commands = []

        class Ended:
            def __init__(self, command, **_):
                commands.append(command)

            def wait(self):
                return 0

            poll = wait

        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setenv("HPSED_RUNS_PER_GPU", shared)
        monkeypatch.setattr(paths, "ROOT", tmp_path)
        monkeypatch.setattr(workflow.subprocess, "Popen", Ended)
        assert workflow.reproduce("toy", {}) == 0
        assert commands[0][commands[0].index("--resources") + 1] == expected

    def test_a_launch_is_remembered(self, tmp_path, monkeypatch):
        monkeypatch.setattr(paths, "ROOT", tmp_path)
        nowhere = {"data_folder": "", "download": False, "fingerprint": ""}
        assert graph.last_launch("toy") == {"n_seeds": 0, "cluster": "", "source": nowhere}
        monkeypatch.setattr(workflow.sys, "executable", "true")
        assert workflow.reproduce("toy", nowhere | {"download": True}, n_seeds=5, dry_run=True) == 0
        assert graph.last_launch("toy")["n_seeds"] == 0
        assert workflow.reproduce("toy", nowhere | {"download": True}, n_seeds=5) == 0
        assert graph.last_launch("toy") == {"n_seeds": 5, "cluster": "", "source": nowhere | {"download": True}}
        assert workflow.data_source("toy", None, download=False)["download"]


class TestSeeds:
    def test_seeds_replace_those_of_the_experiment(self):
        experiment = load_experiment("quick")
        more = with_seeds(experiment, 5)
        assert more.training.seeds == (0, 1, 2, 3, 4)
        assert more.runs()[:5] == [f"linear-single-seed{seed}" for seed in range(5)]
        assert more.model_copy(update={"training": experiment.training}) == experiment
        assert with_seeds(experiment, 0) is experiment

    def test_fewer_than_no_seeds(self):
        with pytest.raises(ParameterError, match=r"SEEDS must be 1 or more, .* got -1"):
            with_seeds(load_experiment("quick"), -1)

    def test_settings_of_a_run_are_those_that_change_it(self):
        parameters = load_experiment("quick").model_dump(mode="json")
        for section, key in (
            ("pooling", "functions"),
            ("pooling", "structures"),
            ("training", "seeds"),
            ("resources", "memory"),
            ("resources", "run_time"),
        ):
            other = {**parameters, section: {**parameters[section], key: []}}
            assert run_settings(other) == run_settings(parameters)
        for section, key in (
            ("pooling", "segment_lengths"),
            ("training", "max_epochs"),
            ("data", "seed"),
            ("resources", "threads"),  # it changes the last bits
        ):
            other = {**parameters, section: {**parameters[section], key: None}}
            assert run_settings(other) != run_settings(parameters)


class TestDataSource:
    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path, monkeypatch):
        monkeypatch.setattr(paths, "ROOT", tmp_path)
        monkeypatch.setattr(workflow.sys, "executable", "true")

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
        assert workflow.data_source("toy", None, download=False)["data_folder"] == ""  # nothing was launched with it
        workflow.reproduce("toy", first)
        assert workflow.data_source("toy", None, download=False) == first
        (folder / "b.wav").write_bytes(b"b")
        changed = workflow.data_source("toy", None, download=False)
        assert changed["fingerprint"] != first["fingerprint"]
        workflow.reproduce("toy", changed)
        shutil.rmtree(folder)
        assert workflow.data_source("toy", None, download=False) == changed

    def test_missing_folder(self, tmp_path):
        with pytest.raises(DataError, match=r"no folder .*nowhere"):
            workflow.data_source("toy", tmp_path / "nowhere", download=False)


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
