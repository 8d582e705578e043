"""What starts and describes the workflow: the launcher's parts, the Makefile, the pins. No experiment is run here."""

import argparse
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from held import copy_project, copy_reproduced
from snakemake.cli import parse_config
from test_slurm import play

from hpsed_lib import paths
from hpsed_lib.errors import ParameterError
from hpsed_lib.launch import graph, status, workflow
from hpsed_lib.params import load_experiment, run_settings, with_seeds

ROOT = Path(__file__).resolve().parents[1]


def normal(name: str) -> str:
    """Name of a package as the index compares it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


@pytest.fixture
def bundle(tmp_path):
    """A copy of the project without results of its own."""
    copy_project(tmp_path, "hpsed_lib", "params", "workflow", "notebooks", "results/paper", "results/quick")
    return tmp_path


def run(bundle: Path, status: int, *command: str) -> tuple[str, str]:
    """What a module says in a copied bundle."""
    command = [sys.executable, "-m", *command]
    ended = subprocess.run(command, cwd=bundle, capture_output=True, text=True, timeout=60)
    assert ended.returncode == status, ended.stdout + ended.stderr
    return ended.stdout, ended.stderr


def launch(bundle: Path, status: int, *arguments: str) -> tuple[str, str]:
    return run(bundle, status, "hpsed_lib.launch.workflow", *arguments)


def dry_run(bundle: Path, experiment: str, n_seeds: int, cluster: str) -> str:
    """What Snakemake would run."""
    command = workflow.snakemake_command(experiment, n_seeds, {}, cluster, "--cores", "1", "--dry-run")[2:]
    return "".join(run(bundle, 0, *command, "--quiet", "host", "rules"))


COUNT = """
import contextlib, cProfile, io, json, pstats

from hpsed_lib.launch.status import statuses
from hpsed_lib.params import load_experiment, with_seeds
from snakemake.cli import main

def n_calls(function):
    profile, said = cProfile.Profile(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        profile.runcall(function)
    return pstats.Stats(profile).total_calls

def dry_run(n_seeds):
    options = "--snakefile workflow/Snakefile --workflow-profile workflow/profiles/default --nolock --cores 1 --dry-run"
    return lambda: main([*options.split(), "--config", "experiment=smoke", f"n_seeds={n_seeds}"])

smoke = load_experiment("smoke")
n_calls(dry_run(1))  # the first one imports
for n_seeds in (5, 10, 20):  # 40, 80 and 160 runs
    print(json.dumps([n_calls(dry_run(n_seeds)), n_calls(lambda: statuses(with_seeds(smoke, n_seeds)))]))
"""


class TestLauncher:
    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (["quik"], "no experiment 'quik': .*"),
            (["params/quick.yaml"], "params/quick.yaml: give the name of a file in params/, without folder and ending"),
            (["quick", "--data", "nowhere"], "no folder nowhere: expected the folder of the recordings"),
            (["quick", "--cluster", "slurn"], "no cluster 'slurn' in workflow/profiles/; there: slurm"),
            (["quick", "--cores", "0"], "CORES must be 1 or more, got 0"),
        ],
    )
    def test_what_cannot_be_launched_is_one_line(self, bundle, arguments, error):
        assert re.fullmatch(f"error: {error}\n", launch(bundle, 2, *arguments)[1])

    def test_second_launcher_gives_up(self, bundle):
        module = bundle / "hpsed_lib/launch/workflow.py"
        module.write_text(module.read_text().replace("PATIENCE = 10.0", "PATIENCE = 0.5"))
        lock = bundle / "cache/quick/workflow.lock"
        lock.parent.mkdir(parents=True)
        with open(lock, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write("4711")
            file.flush()
            errors = launch(bundle, 2, "quick")[1]
        assert "process 4711 is running this experiment; waiting" in errors
        assert "process 4711 still holds cache/quick/workflow.lock" in errors

    def test_what_failed_and_what_was_ended_is_reported(self, tmp_path, monkeypatch, capsys):
        for module in (paths, status):
            monkeypatch.setattr(module, "ROOT", tmp_path)
        for traces in ("cache/notebooks-in-progress", "cache/quick/notebooks-in-progress"):
            (tmp_path / traces).mkdir(parents=True)
        failed, ended = "05_paper_audit", "04_result_tables"  # of all experiments, and of this one
        (tmp_path / f"cache/notebooks-in-progress/{failed}.failed.txt").write_text("failed in cell 3: ValueError\n")
        (tmp_path / f"cache/quick/notebooks-in-progress/{ended}.log").touch()
        experiment = load_experiment("quick")
        workflow.report_failure(experiment)
        printed = capsys.readouterr().err
        assert f"  {failed} failed in cell 3: ValueError\n" in printed
        unfinished = printed.split("not run, or ended from outside: ")[1].splitlines()[0].split(", ")
        assert set(unfinished) == set(graph.executed_notebooks(experiment)) - {failed}
        assert ended in unfinished

    @pytest.mark.parametrize(
        ("experiment", "cluster", "n_seeds", "n_runs"),
        [("smoke", "slurm", 3, 24), ("quick", "", 1, 4)],
    )
    def test_seeds_add_runs_and_nothing_else(self, bundle, experiment, cluster, n_seeds, n_runs):
        jobs = dict(re.findall(r"^(\w+) +(\d+)$", dry_run(bundle, experiment, n_seeds, cluster), flags=re.MULTILINE))
        assert jobs == {
            **dict.fromkeys(("all", "audit", "data", "findings", "gradients", "identity", "tables"), "1"),
            "train": str(n_runs),
            "total": str(n_runs + 7),
        }

    def test_work_for_a_sweep_grows_in_proportion_to_its_runs(self, bundle, monkeypatch):
        """Function calls are counted, not seconds."""
        monkeypatch.setenv("PYTHONPATH", str(bundle))
        monkeypatch.setenv("PYTHONHASHSEED", "0")
        counted = subprocess.run([sys.executable, "-c", COUNT], cwd=bundle, capture_output=True, text=True, check=True)
        for first, second, third in zip(*map(json.loads, counted.stdout.splitlines()), strict=True):
            # in proportion to n log n it would be 2.3, to n squared 4
            assert third - second == pytest.approx(2 * (second - first), rel=0.1)

    def test_nothing_is_done_again_for_other_memory_or_run_time(self, bundle):
        params = bundle / "params/smoke.yaml"

        def bases(**resources: int) -> dict[str, int]:
            text = params.read_text()
            for key, value in resources.items():
                text, n_changes = re.subn(rf"( {key}:) *\d+", rf"\1 {value}", text)
                assert n_changes == 1
            params.write_text(text)
            dry_run(bundle, "smoke", 0, "")
            folder = bundle / "cache/smoke/basis"
            return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.json")}

        before = bases()
        assert len(before) == 7
        assert bases(memory=1, run_time=1) == before
        after = bases(threads=2)
        changed = {name for name in before if after[name] != before[name]}
        assert changed == {f"{name}/03_train_variant.json" for name in ("linear", "power", "top_half")}

    def test_report_of_what_was_reproduced(self, bundle):
        assert "no results of quick: run `make" in run(bundle, 2, "hpsed_lib.launch", "report", "quick")[1]
        copy_reproduced(bundle, "quick", "derivation", "paper")
        assert run(bundle, 0, "hpsed_lib.launch", "report", "quick")[0] == "cache/quick/report.html\n"
        report = (bundle / "cache/quick/report.html").read_text()
        for name in ("learning_curves.png", "table2.csv", "Best constant guess"):
            assert name in report
        assert not re.findall(r'(?:src|href)="?https?://[^"]+\.(?:js|css)', report)  # it is read without a network, too


class TestLaunch:
    """What a launch hands over to Snakemake, and remembers; `true` plays Snakemake."""

    @pytest.fixture(autouse=True)
    def _launches(self, tmp_path, monkeypatch):
        monkeypatch.setattr(paths, "ROOT", tmp_path)
        monkeypatch.setattr(workflow.sys, "executable", "true")

    @pytest.mark.parametrize(
        ("visible", "shared", "expected"), [("", "1", "gpu=1"), ("0,1,2", "1", "gpu=3"), ("0,1", "2", "gpu=4")]
    )
    def test_as_many_runs_at_a_time_as_there_are_gpus(self, tmp_path, monkeypatch, visible, shared, expected):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setenv("HPSED_RUNS_PER_GPU", shared)
        snakemake = play(tmp_path / "snakemake", f'echo "$@" > {tmp_path}/arguments')
        monkeypatch.setattr(workflow.sys, "executable", snakemake)
        assert workflow.reproduce("toy", {}) == 0
        assert f" --resources {expected} " in (tmp_path / "arguments").read_text()

    def test_folder_is_remembered_and_its_changes_are_seen(self, tmp_path):
        folder = tmp_path / "recordings"
        folder.mkdir()
        (folder / "a.wav").write_bytes(b"a")
        none = {"data_folder": "", "download": False, "fingerprint": ""}
        first = workflow.data_source("esc10", folder, download=False)
        assert not Path(first["data_folder"]).is_absolute()  # it stands in the executed notebook
        assert (ROOT / first["data_folder"]).resolve() == folder.resolve()
        assert graph.last_launch("esc10") == {"n_seeds": 0, "cluster": "", "source": none}  # nothing was launched
        assert workflow.reproduce("esc10", first, n_seeds=5) == 0
        assert graph.last_launch("esc10") == {"n_seeds": 5, "cluster": "", "source": first}
        assert workflow.data_source("esc10", None, download=False) == first
        (folder / "b.wav").write_bytes(b"b")
        changed = workflow.data_source("esc10", None, download=False)
        assert changed["fingerprint"] != first["fingerprint"]
        workflow.reproduce("esc10", changed)
        shutil.rmtree(folder)
        assert workflow.data_source("esc10", None, download=False) == changed
        fetched = workflow.data_source("esc10", None, download=True)  # it undoes a wrong folder
        assert fetched == none | {"download": True}
        workflow.reproduce("esc10", fetched)
        assert workflow.data_source("esc10", None, download=False) == fetched

    @pytest.mark.parametrize("folder", ["a #2", "1e3", "true", "é: 'x'", ""])
    def test_a_folders_name_reaches_snakemake_as_it_is(self, folder):
        source = {"data_folder": folder, "download": False, "fingerprint": "012"}
        command = workflow.snakemake_command("quick", 2, source, "")
        config = parse_config(command[command.index("--config") + 1 :])
        assert config["data_folder"] == [folder]
        assert (config["fingerprint"], config["experiment"], config["n_seeds"]) == (["012"], "quick", 2)

    def test_all_that_an_experiment_lacks_is_named_at_once(self, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        source, options = {"data_folder": "", "download": False}, argparse.Namespace(cluster="", data=None)
        with pytest.raises(ParameterError, match=r"(?s)there is no GPU here.*give DATA="):
            workflow._require_all(load_experiment("paper"), options, source)


class TestSeeds:
    def test_seeds_replace_those_of_the_experiment(self):
        experiment = load_experiment("quick")
        more = with_seeds(experiment, 5)
        assert more.runs()[:5] == [f"linear-single-seed{seed}" for seed in range(5)]
        assert len(more.runs()) == 5 * len(experiment.pooling.variants)
        assert more.model_copy(update={"pooling": experiment.pooling}) == experiment
        assert with_seeds(experiment, 0) is experiment
        with pytest.raises(ParameterError, match=r"SEEDS must be 1 to 1000, .* got -1"):
            with_seeds(experiment, -1)

    @pytest.mark.parametrize(
        ("section", "key", "is_same"),
        [
            ("pooling", "functions", True),
            ("resources", "memory", True),
            ("resources", "run_time", True),
            ("pooling", "segment_lengths", False),
            ("training", "max_epochs", False),
            ("data", "seed", False),
            ("resources", "threads", False),  # it changes the last bits
        ],
    )
    def test_settings_of_a_run_are_those_that_change_it(self, section, key, is_same):
        parameters = load_experiment("quick").model_dump(mode="json")
        other = {**parameters, section: {**parameters[section], key: None}}
        assert (run_settings(other) == run_settings(parameters)) == is_same


class TestInstallation:
    lock = (ROOT / "requirements.lock").read_text()
    pins = tuple(line for line in lock.splitlines() if line and not line.startswith("#"))

    def test_every_dependency_is_pinned(self):
        assert [pin for pin in self.pins if not re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", pin)] == []
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

    @pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
    def test_the_conda_environment_is_used_where_it_is_active(self, tmp_path):
        shutil.copy(ROOT / "Makefile", tmp_path)  # without a .venv beside it
        active = {"CONDA_DEFAULT_ENV": "hpsed", "CONDA_PREFIX": "/conda/envs/hpsed", "PATH": os.environ["PATH"]}
        for file in ("requirements.lock", "pyproject.toml"):
            (tmp_path / file).touch()
        for name, where in (("hpsed", "/conda/envs/hpsed/bin/"), ("base", ".venv/bin/")):
            command = ["make", "--dry-run", "compare"]
            given = active | {"CONDA_DEFAULT_ENV": name}
            shown = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, check=True).stdout
            assert f"{where}python -m hpsed_lib.launch compare" in shown
            assert ("-m venv .venv" in shown) == (name == "base")
