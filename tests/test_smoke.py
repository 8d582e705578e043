"""The smallest experiment through the real workflow: killed in mid-training, gone on with, done, and nothing twice."""

import itertools
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from held import NAME, ROOT, Project, wait_until
from test_lab import git

from hpsed_lib import paths
from hpsed_lib.bench.experiment import account
from hpsed_lib.errors import DataError
from hpsed_lib.launch import damaged

STRUCTURES = {
    "linear": ("single", "hierarchical", "appendix", "mixed"),
    "power": ("single",),
    "top_half": ("single", "appendix"),  # from a file of its own, outside the library
}
RUNS = [f"{pooling}-{structure}-seed0" for pooling, structures in STRUCTURES.items() for structure in structures]
N_EPOCHS = 12
CORES = "--cores 2"


def metrics_of(project: Project) -> dict[str, Path]:
    return {path.stem: path for path in (project.results / "metrics").glob("[!.]*.json")}


def stamps(paths: Iterable[Path]) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in paths}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The experiment, killed once and then left in peace; of the runs that were finished one at most was done again."""
    experiment = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    experiment["training"] |= {"max_epochs": N_EPOCHS, "patience": N_EPOCHS}  # long enough to be killed
    for pooling, structures in STRUCTURES.items():
        experiment["pooling"]["functions"][pooling]["structures"] = list(structures)
    project = Project(tmp_path_factory.mktemp("smoke"), experiment)
    shutil.rmtree(project.results.parent / "derivation")
    launched = project.launch(options=CORES)

    def is_in_the_middle() -> bool:
        """One run is done and another is in mid-training."""
        done = metrics_of(project)
        return bool(done) and any(0 < project.n_epochs(run) <= 6 for run in set(RUNS) - set(done))

    project.wait_until(is_in_the_middle, "a run", launched)
    launched.kill()
    launched.wait()
    wait_until(lambda: not project.processes(), seconds=10)
    finished = stamps(metrics_of(project).values())
    assert 0 < len(finished) < len(RUNS)
    project.finish(options=CORES)
    # A run is finished when its notebook is in its place; the kill may have come just before that.
    again = stamps(metrics_of(project).values())
    assert len([path for path, stamp in finished.items() if again[path] != stamp]) <= 1, project.log()
    return project


@pytest.fixture(scope="module")
def metrics(project):
    assert set(metrics_of(project)) == set(RUNS)
    return {name: json.loads(path.read_text()) for name, path in metrics_of(project).items()}


@pytest.mark.slow
def test_every_run_is_whole(metrics):
    assert any(run["time"]["resumed_after"] for run in metrics.values())
    for run in metrics.values():
        assert len(run["history"]) == N_EPOCHS
        assert run["commit"]
        score = run["test"]["overall"]
        assert 0 <= score["f_measure"] <= 1
        assert score["error_rate"] == pytest.approx((score["S"] + score["D"] + score["I"]) / score["Nref"])
        assert sum(run["test"]["clip_counts"]["Ntp"]) == score["Ntp"]
        assert 0 <= run["threshold_free"]["segment"]["micro"]["roc_auc"] <= 1
    single, hierarchical = (metrics[f"linear-{name}-seed0"]["history"] for name in ("single", "hierarchical"))
    assert single[0]["training_loss"] == pytest.approx(hierarchical[0]["training_loss"], rel=1e-3)


@pytest.mark.slow
def test_tables_and_figures(project, metrics):
    table = pd.read_csv(project.results / "tables/table2.csv")
    assert [f"{p}-{s}-seed0" for p, s in zip(table.pooling, table.structure, strict=True)] == RUNS
    for row in table.itertuples():
        overall = metrics[f"{row.pooling}-{row.structure}-seed0"]["test"]["overall"]
        assert row.error_rate_percent == pytest.approx(100 * overall["error_rate"], rel=1e-5)
        assert row.f_measure_percent == pytest.approx(100 * overall["f_measure"], rel=1e-5, abs=1e-9)
    figures = ("learning_curves", "class_scores", "figure5", "contrasts", "operating_points", "runs", "probabilities")
    for name in figures:
        assert (project.results / f"figures/{name}.png").stat().st_size > 10_000
    agreement = pd.read_csv(project.results / "tables/structure_agreement.csv")
    exact = agreement.query("dtype == 'float64' and structure == 'hierarchical'")
    other = agreement.query("dtype == 'float64' and structure == 'appendix' and step == 1")
    assert set(exact.step) == {1, 20}
    assert exact.largest_difference.max() < 1e-8
    assert other.largest_difference.max() > 1e-5


@pytest.mark.slow
def test_notebooks(project):
    assert (project.results / "tables/table2.md").read_text() in project.log(2)  # it ends by printing it
    for name in ("01_data_preparation", "07_identity_in_training", "04_result_tables", "11_findings"):
        assert f"reproduced/{NAME}/notebooks/{name}.ipynb" in project.log(2)
    assert "reproduced/derivation/notebooks/02_pooling_gradients.ipynb" in project.log(2)
    path = project.results / "notebooks/03_train_variant/linear-appendix-seed0.ipynb"
    executed = nbformat.read(path, as_version=4)
    [injected] = [cell for cell in executed.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert 'structure = "appendix"' in injected.source


@pytest.mark.slow
def test_nothing_is_done_twice(project):
    before = stamps([*project.results.parent.rglob("*.*")])
    project.finish(options=CORES)
    assert "started" not in project.log()
    assert stamps([*project.results.parent.rglob("*.*")]) == before


@pytest.mark.slow
def test_where_the_time_of_an_experiment_goes(project, metrics):
    log = project.log(1) + project.log(2)
    files = account(project.folder, NAME, log, seconds=1000.0, cores=2)
    [row] = files["experiment.csv"].to_dict("records")
    training = sum(run["time"]["training_seconds"] for run in metrics.values())
    assert (row["runs"], row["ratio"]) == (len(RUNS), pytest.approx(1000 / (training / 2)))
    parts = files["experiment_parts.csv"].set_index("part").seconds
    assert {"01_data_preparation", "02_pooling_gradients", "04_result_tables"} < set(parts.index)
    assert not set(parts.index) & set(RUNS)
    assert parts["runs: 3 Threshold, decoding, scores"] > 0
    assert parts.sum() == pytest.approx(2 * 1000)


PASSING = ("*.lock", "notebooks-in-progress/*")  # what no later launch rests on
DAMAGE = {
    "emptied": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "garbage": lambda content: b"\xff" * len(content),
}


def kept_files(project: Project) -> dict[Path, str]:
    """Every file that a later launch may rest on, and its path in the project."""
    folders = [project.cache, project.results, project.cache.with_name("basis")]
    found = [folder / name for folder in folders for name in paths.files_below(folder)]
    return {path: str(path.relative_to(project.folder)) for path in found if not any(map(path.match, PASSING))}


@pytest.mark.slow
def test_every_damaged_file_is_found_and_no_other(project, monkeypatch):
    for module in (paths, damaged):
        monkeypatch.setattr(module, "ROOT", project.folder)
    files, data = kept_files(project), project.cache / "data.json"
    assert damaged.set_aside_damaged(NAME) == []
    assert {name.split("/")[2] for name in files.values()} > {"features", "runs", "data.json", "metrics", "events"}
    whole = data.read_bytes()
    for path, name in files.items():
        content = path.read_bytes()
        for damage in DAMAGE.values():
            path.write_bytes(damage(content))
            assert damaged.set_aside_damaged(NAME) == [name]
            assert (project.folder / "cache/damaged" / name).is_file()
            path.write_bytes(content)
            data.write_bytes(whole)


@pytest.mark.slow
def test_damaged_files_are_made_anew(project):
    """One of each kind, by each damage in turn: the launch ends with the numbers of the undamaged one."""
    before, files = project.numbers(), kept_files(project)
    one_of_each = {(path.parent.parent.name, path.suffix): path for path in files}
    for path, damage in zip(one_of_each.values(), itertools.cycle(DAMAGE.values()), strict=False):
        path.write_bytes(damage(path.read_bytes()))
    project.finish(options=CORES)
    assert len(one_of_each) > 10
    for path in one_of_each.values():
        assert f"{files[path]} is damaged: it is set aside in cache/damaged/, and made anew" in project.log()
    assert project.numbers() == before


@pytest.mark.parametrize(("folder", "advice"), [("results", "git checkout"), ("reproduced", "make reproduce")])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_result_is_named_with_what_mends_it(tmp_path, monkeypatch, folder, advice, damage):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (path := tmp_path / folder / NAME / "metrics" / "linear-single-seed0.json").parent.mkdir(parents=True)
    path.write_bytes(DAMAGE[damage](b'{"run": "linear-single-seed0"}'))
    with pytest.raises(DataError, match=rf"{path} is damaged .*{advice}"):
        paths.read_json(path)


def test_what_is_changed_in_results_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(damaged, "ROOT", tmp_path)
    assert damaged.name_changed_results() == []  # no repository
    for name in ("results/paper/table2.csv", "results/quick/events/linear-single-seed0.tsv", "params/quick.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one,two")
    for command in ("init --quiet", "add .", "commit --quiet --message all"):
        git(tmp_path, *command.split())
    assert damaged.name_changed_results() == []
    (tmp_path / "params/quick.yaml").write_text("changed on purpose")
    for path in (tmp_path / "results").rglob("*.?sv"):
        content, name = path.read_bytes(), str(path.relative_to(tmp_path))
        for damage in DAMAGE.values():
            path.write_bytes(damage(content))
            assert damaged.name_changed_results() == [name]
            assert f"{name} is not as it was committed; `git checkout -- {name}`" in capsys.readouterr().err
        path.write_bytes(content)
