"""What was reproduced beside what is published, and what may be published."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from test_provenance import needs_avx512

from hpsed_lib import paths
from hpsed_lib.errors import DataError
from hpsed_lib.launch import published
from hpsed_lib.launch.graph import executed_notebooks
from hpsed_lib.params import Experiment, load_experiment, with_seeds

ROOT = Path(__file__).parents[1]
RUN = "linear-single-seed{}"
MADE_BY = {
    "data": {"checksum": "d"},
    "device": "cpu",
    "device_name": "a processor",
    "processor": "a processor",
    "instruction_set": {"PyTorch": "avx2", "numpy": "avx2"},
    "n_threads": 1,
    "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
    "commit": "c" * 40,
    "commit_date": "2026-11-28",
}


def one_arm(experiment: Experiment) -> Experiment:
    functions = {"linear": experiment.pooling.functions["linear"].model_copy(update={"structures": ("single",)})}
    return experiment.model_copy(update={"pooling": experiment.pooling.model_copy(update={"functions": functions})})


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """One arm of three seeds, in an empty folder."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return with_seeds(one_arm(load_experiment("quick")), 3)


def metrics(experiment: Experiment, seed: int, f_measure: float, **changed: object) -> dict:
    variant = {"run": RUN.format(seed), "pooling": "linear", "structure": "single", "seed": seed}
    made = {"parameters": experiment.model_dump(mode="json"), "time": {"training_seconds": 10.0 + seed}, **MADE_BY}
    return {**variant, "test": {"overall": {"f_measure": f_measure}}, **made, **changed}


def write(folder: Path, *runs: dict) -> None:
    (folder / "metrics").mkdir(parents=True, exist_ok=True)
    for run in runs:
        (folder / "metrics" / f"{run['run']}.json").write_text(json.dumps(run))


class TestCitation:
    def test_the_published_runs_are_cited_where_there_are_some(self, experiment: Experiment) -> None:
        write(paths.results_folder("quick"), *(metrics(experiment, seed, 0.5, commit="e" * 40) for seed in range(3)))
        assert "note = {experiment quick, commit eeeeeeeeee (2026-11-28), seeds 0, 1, 2}," in published.citation(
            experiment
        )
        write(paths.published_folder("quick"), *(metrics(experiment, seed, 0.5) for seed in range(3)))
        entries, _, sentence = published.citation(experiment).rpartition("\n")
        assert entries.startswith("@software{hpsed,\n  author = {{The hpsed authors}},\n  title = {hpsed: ")
        assert "author = {He, Ke-Xin and Shen, Yu-Han and Zhang, Wei-Qiang},\n" in entries
        assert "year = {2019}" in entries
        made = "experiment quick, commit cccccccccc (2026-11-28), seeds 0, 1, 2"
        assert f"hpsed 0.1.0~\\cite{{hpsed}}, {made} ({experiment.title})" in sentence

    def test_both_files_say_what_the_package_says(self) -> None:
        cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
        zenodo = json.loads((ROOT / ".zenodo.json").read_text())
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert cff["version"] == zenodo["version"] == project["version"]
        assert cff["license"] == zenodo["license"] == project["license"]
        assert str(cff["date-released"]) == zenodo["publication_date"]
        for ours, theirs in (("title", "title"), ("abstract", "description"), ("keywords", "keywords")):
            assert cff[ours] == zenodo[theirs]
        assert [author["name"] for author in cff["authors"]] == [one["name"] for one in zenodo["creators"]]
        assert cff["references"][0]["url"].endswith(
            zenodo["related_identifiers"][0]["identifier"].removeprefix("arXiv:")
        )


SCORES = (0.60, 0.62, 0.65)


class TestCompare:
    def compared(self, experiment: Experiment, *runs: dict) -> list[tuple[str, str]]:
        write(paths.published_folder("quick"), *(metrics(experiment, s, f) for s, f in enumerate(SCORES)))
        write(paths.results_folder("quick"), *runs)
        table = published.compare(experiment)
        self.line = published.verdict_line(table)
        return list(zip(table.verdict, table.reason, strict=True))

    def test_times_commits_and_machines_aside_all_is_identical(self, experiment: Experiment) -> None:
        other = {"time": {"training_seconds": 99.0}, "commit": "e" * 40, "processor": "another", "commit_date": "later"}
        own = [metrics(experiment, s, f, **other) for s, f in enumerate(SCORES)]
        assert self.compared(experiment, *own) == [("identical", "")] * 3
        assert self.line == "3 of 3 runs identical to the published ones"

    def test_what_differs_first_is_named_and_what_is_within_reach_is_compatible(self, experiment: Experiment) -> None:
        wide = {"instruction_set": {"PyTorch": "avx512", "numpy": "avx2"}, "versions": {"torch": "2.14.0"}}
        own = [
            metrics(experiment, 0, 0.61, **wide),
            metrics(experiment, 1, 0.3, n_threads=2),
            metrics(experiment, 2, 0.65),
        ]
        assert self.compared(experiment, *own) == [
            ("compatible", "instruction set, PyTorch: avx512 here, avx2 published"),
            ("different", "n threads: 2 here, 1 published"),
            ("identical", ""),
        ]
        assert self.line.startswith("1 of 3 runs identical to the published ones, 1 compatible, 1 different; first")

    def test_the_bound_is_the_prediction_interval(self, experiment: Experiment) -> None:
        """Mean 62.33, sd 2.517, t 4.303: 62.33 +- 4.303 * 2.517 * sqrt(4 / 3) = 49.83 to 74.84."""
        within, beyond = (metrics(experiment, s, f) for s, f in enumerate((0.499, 0.498)))
        verdicts = self.compared(experiment, within, beyond, metrics(experiment, 2, 0.748))
        assert [verdict for verdict, _ in verdicts] == ["compatible", "different", "compatible"]
        assert verdicts[0][1] == "nothing that is recorded"

    def test_what_is_not_published_is_said(self, experiment: Experiment) -> None:
        write(paths.results_folder("quick"), metrics(experiment, 0, 0.6))
        shown = published.compare(with_seeds(experiment, 1))
        assert "none of these runs is published" in published.verdict_line(shown)


class TestPublish:
    @pytest.fixture
    def made(self, experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
        write(paths.results_folder("quick"), *(metrics(experiment, s, f) for s, f in enumerate(SCORES)))
        for path in executed_notebooks(experiment).values():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text("executed")
        old = tmp_path / "results/quick/metrics/an-old-run.json"
        for path in (old, tmp_path / "results/paper/table2.csv"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("old")
        return experiment

    def test_it_takes_the_place_of_what_was_there(self, made: Experiment, tmp_path: Path) -> None:
        published.publish(made)
        results = tmp_path / "results"
        assert sorted(path.stem for path in (results / "quick/metrics").iterdir()) == [RUN.format(s) for s in range(3)]
        assert (results / "derivation/notebooks/02_pooling_gradients.ipynb").is_file()
        assert (results / "paper/table2.csv").read_text() == "old"  # the paper's own, which nothing here makes
        assert (published.compare(made).verdict == "identical").all()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("commit", "e" * 40),
            ("n_threads", 2),
            ("data", {"checksum": "x"}),
            ("parameters", {"training": {"max_epochs": 99}}),
        ],
    )
    def test_what_is_mixed_is_refused(self, made: Experiment, name: str, value: object) -> None:
        write(paths.results_folder("quick"), metrics(made, 1, 0.62, **{name: value}))
        with pytest.raises(DataError, match=f"not of one piece: {name} of linear-single-seed1"):
            published.publish(made)
        assert [path.name for path in (paths.published_folder("quick") / "metrics").iterdir()] == ["an-old-run.json"]

    def test_what_is_incomplete_or_in_no_commit_is_refused(self, made: Experiment, tmp_path: Path) -> None:
        changes = [metrics(made, s, f, commit="c" * 40 + "+changes") for s, f in enumerate(SCORES)]
        write(paths.results_folder("quick"), *changes)
        with pytest.raises(DataError, match="code that is in no commit"):
            published.publish(made)
        (tmp_path / executed_notebooks(made)[RUN.format(1)]).unlink()
        with pytest.raises(DataError, match=r"incomplete.*seed1.ipynb: run `make reproduce`"):
            published.publish(made)


TRAIN = """
import sys
from pathlib import Path
from hpsed_lib import dataset, paths, runs, training
from hpsed_lib.params import load_experiment
paths.ROOT = Path(sys.argv[1])
chosen = load_experiment("smoke")
chosen = chosen.model_copy(update={"training": chosen.training.model_copy(update={"max_epochs": 2})})
data, variant = dataset.prepare(chosen), {"pooling": "linear", "structure": "single", "seed": 0}
runs.finish_run(chosen, data, training.train(chosen, data, **variant, folder=paths.ROOT), **variant)
"""
ANY = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "MKL_CBWR": "AVX512"}
ANY |= {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "SkylakeX"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "expected"),
    [(ANY, ""), pytest.param({"HPSED_NATIVE": "1"}, "instruction set", marks=needs_avx512)],
    ids=["whatever the environment asks for", "without the pin"],
)
def test_a_run_anew_is_identical_or_the_reason_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    for target, variables in (("results", {}), ("reproduced", environment)):
        command = [sys.executable, "-c", TRAIN, str(tmp_path / "made")]
        subprocess.run(command, env={**os.environ, **variables}, capture_output=True, check=True)
        (tmp_path / "made/reproduced").rename(tmp_path / target)
        shutil.rmtree(tmp_path / "made")
    [row] = published.compare(one_arm(load_experiment("smoke"))).to_dict("records")
    assert (row["verdict"] == "identical") == (expected == "")
    assert row["reason"].startswith(expected)
