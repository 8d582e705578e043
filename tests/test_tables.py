"""Result tables, and the committed results: in step with their metrics, their README and their notebooks."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from hpsed_lib import paths, tables
from hpsed_lib.comparison import contrasts
from hpsed_lib.errors import DataError
from hpsed_lib.launch.graph import executed_notebooks
from hpsed_lib.params import Experiment, load_experiment

ROOT = Path(__file__).parents[1]
COMMITTED = ["quick"]


def whole(n_clips: int) -> dict[str, int]:
    """What a manifest reports of clips that are all there."""
    return {"listed": n_clips, "used": n_clips, "missing": 0, "unreadable": 0}


def run(pooling: str, structure: str, error_rate: float, f_measure: float, seed: int = 0, n_clips: int = 40) -> dict:
    """Metrics of a run; every clip has 20 reference and 20 estimated activities, so that ER is 1 - F1 in the counts."""
    names = ["substitution_rate", "deletion_rate", "insertion_rate", "precision", "recall"]
    overall = {**dict.fromkeys(names, 0.25), "error_rate": error_rate, "f_measure": f_measure}
    n_tp = round(20 * f_measure)
    counts = {"Nref": 20, "Nsys": 20, "Ntp": n_tp, "Nfp": 20 - n_tp, "Nfn": 20 - n_tp, "S": 20 - n_tp, "D": 0, "I": 0}
    ranking = {"average_precision": 0.3, "roc_auc": 0.7}
    return {
        "run": f"{pooling}-{structure}-seed{seed}",
        "pooling": pooling,
        "structure": structure,
        "seed": seed,
        "threshold": 0.4,
        "test": {
            "overall": overall,
            "class_wise": {"a": {"f_measure": f_measure}},
            "clip_counts": {name: [count] * n_clips for name, count in counts.items()},
        },
        "operating_points": {"fixed": {"test": overall}, "global_error_rate": {"test": overall | {"error_rate": 0.5}}},
        "threshold_free": {
            "psds": {"scenario1": 0.1, "scenario2": 0.2},
            **{level: {"micro": ranking, "macro": ranking} for level in ("segment", "frame", "clip")},
        },
        "event_based": {"micro": {"f_measure": 0.1}},
        "tagging": {"f_measure": 0.6},
        "n_test_clips": 7,
        "best_constant_guess": 0.1234,
        "data": {"report": {"training": whole(12), "test": whole(n_clips)}, "stand_in": False},
        "commit": "0123456789abcdef",
        "commit_date": "2026-11-28",
        "history": [{"epoch": 1, "training_loss": error_rate, "validation_loss": 0.5}],
    }


METRICS = [
    run("linear", "single", 0.6, 0.4),
    run("linear", "hierarchical", 0.6, 0.4),
    run("linear", "appendix", 0.5, 0.5),
]
TWO_SEEDS = [*METRICS, run("linear", "single", 0.6, 0.2, seed=1)]
CLIPS = pd.DataFrame({"filename": [f"{index}.wav" for index in range(40)], "sources": "a\tb", "n_events": 2})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the tables of the smallest experiment come to lie."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path / "reproduced/smoke/tables"


class TestTables:
    def test_seeds_are_averaged(self) -> None:
        row = tables.table2(tables.scores(TWO_SEEDS)).set_index("structure").loc["single"]
        assert (row.f_measure, row.precision, row.error_rate) == pytest.approx((30, 25, 60))
        assert row.f_measure_sd == pytest.approx(20 / 2**0.5)
        points = tables.operating_points(TWO_SEEDS)
        assert points.loc[("linear", "single", "fixed"), "f_measure"] == pytest.approx(30)
        assert points.loc[("linear", "single", "global_error_rate"), "error_rate"] == 50
        assert tables.threshold_free(TWO_SEEDS).loc[("linear", "appendix"), "psds_scenario2"] == pytest.approx(20)
        assert tables.histories(TWO_SEEDS, pooling="linear")["single"].training_loss.to_list() == [0.6]
        assert tables.class_f_measure(TWO_SEEDS).loc["a"].to_list() == pytest.approx([30, 40, 50])

    def test_learning_curves_end_where_the_first_seed_ends(self) -> None:
        longer = run("linear", "single", 0.6, 0.4, seed=1)
        longer["history"] = [{"epoch": epoch, "training_loss": 0.8, "validation_loss": 0.7} for epoch in (1, 2)]
        curves = tables.histories([*METRICS, longer], pooling="linear")["single"]
        assert curves[["epoch", "training_loss"]].to_numpy().tolist() == [[1, pytest.approx(0.7)]]

    def test_the_papers_numbers_stand_beside_ours_with_its_decimals(self) -> None:
        paper = tables.paper_table2()
        table = tables.table2(tables.scores(METRICS), paper=paper.query("dataset == 'development'"))
        assert table.f_measure_paper.to_list() == pytest.approx([42.63, 46.46, math.nan], nan_ok=True)
        assert table.error_rate_paper[0] == pytest.approx(79)
        text = tables.formatted(table)
        assert text["ER"].to_list() == ["60.0", "60.0", "50.0"]
        assert not [name for name in text if "change" in name]
        assert tables.formatted(paper)["F1 change"].to_list()[:2] == ["", "+9.0 %"]

    def test_contrasts_are_text_without_empty_claims(self) -> None:
        metrics = [
            run("linear", structure, 0.5, f_measure, seed)
            for structure, by_seed in {"single": (0.4, 0.42, 0.4), "appendix": (0.7, 0.75, 0.75)}.items()
            for seed, f_measure in enumerate(by_seed)
        ]
        text = tables.formatted_contrasts(contrasts(tables.scores(metrics), {}, family=["linear"], equivalence=2.0))
        row = text.iloc[0]
        assert (row["F1"], row["F1 of single"], row.verdict) == ("73.3 ± 2.9", "40.7 ± 1.2", "different")
        assert row["minus single"] == "+32.7"
        assert row["other seeds"] == "+26.4 to +38.9"  # 4.303 * 2.517 / sqrt(3), of 30, 33, 35
        alone = tables.formatted_contrasts(contrasts(tables.scores(METRICS), {}, family=["linear"], equivalence=2.0))
        assert alone["minus single"].to_list() == ["+10.0", "+0.0"]
        assert alone.verdict.to_list() == ["not tested, one seed", "identical"]
        assert not {"other seeds", "Holm p"} & set(alone)
        assert tables.formatted_contrasts(contrasts(tables.scores(METRICS[:1]), {}, family=[], equivalence=2.0)).empty

    def test_every_format_is_written(self, folder) -> None:
        written = tables.write_tables(load_experiment("smoke"), METRICS, CLIPS)
        assert set(written) == {"table2", "contrasts", "scores", "intervals", "operating_points", "threshold_free"}
        markdown = " ".join((folder / "table2.md").read_text().split())  # its caption has lines
        assert "F1 12.3." in markdown
        assert "nothing about DCASE" in markdown
        assert "Made by commit 0123456789 (2026-11-28), seed 0." in markdown
        assert "Audio used: training 12 of 12 clips; test 40 of 40." in markdown
        assert "INCOMPLETE" not in markdown
        assert "One seed: nothing is said about variants" in (folder / "contrasts.md").read_text()
        assert r"\label{tab:smoke-table2}" in (folder / "table2.tex").read_text()
        assert pd.read_csv(folder / "table2.csv").f_measure_percent.to_list() == [40, 40, 50]
        assert pd.read_csv(folder / "scores.csv").threshold.to_list() == [0.4] * 3

    def test_every_table_says_what_made_it_and_which_clips_are_missing(self, folder) -> None:
        report = {"training": whole(12), "test": {"listed": 43, "used": 40, "missing": 2, "unreadable": 1}}
        metrics = [{**one, "data": {"report": report, "stand_in": False}} for one in METRICS]
        tables.write_tables(load_experiment("smoke"), metrics, CLIPS)
        columns = pd.MultiIndex.from_tuples([("test", "listed"), ("test", "share")])
        coverage = pd.DataFrame([[4, 0.5]], pd.Index(["a"], name="event_label"), columns)
        tables.write_coverage(load_experiment("smoke"), metrics, coverage)
        assert (folder / "table2.md").read_text().startswith("**INCOMPLETE TEST SET, 40 of 43 clips**\n\n|")
        for name in ("table2.md", "table2.tex", "contrasts.md"):
            text = " ".join((folder / name).read_text().split())
            assert "test 40 of 43 (2 missing, 1 unreadable)" in text
            assert "INCOMPLETE TEST SET, 40 of 43 clips" in text
        written = {path.stem: pd.read_csv(path) for path in folder.glob("*.csv")}
        assert len(written) == 8
        names = ["test_clips_used", "test_clips_listed", "experiment", "commit", "commit_date", "seeds"]
        for name, table in written.items():
            assert all(re.fullmatch(r"[a-z]\w*", column) for column in table.columns), name
            made = table[names].drop_duplicates().to_numpy().tolist()
            assert made == [[40, 43, "smoke", "0123456789abcdef", "2026-11-28", 0]], name
        assert written["coverage"].test_share_percent.to_list() == [50]
        assert written["contrasts"].query("measure == 'error_rate'").difference_points.to_list() == [-10, 0]
        assert set(written["contrasts"].verdict) == {"not tested, one seed", "identical"}

    def test_missing_runs_are_named(self, folder) -> None:
        with pytest.raises(DataError, match=r"no metrics of linear-single-seed0.*03_train_variant"):
            tables.load_metrics(load_experiment("smoke"))

    def test_the_readme_must_have_its_markers(self, tmp_path, monkeypatch) -> None:
        (tmp_path / "README.md").write_text("nothing here")
        monkeypatch.setattr(tables, "ROOT", tmp_path)
        with pytest.raises(DataError, match="lacks lines"):
            tables.update_readme()


def overfull(table: str, folder: Path) -> list[float]:
    """By how many points boxes of a LaTeX table stick out of a column of two, with the preamble that it asks for."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex; `make latex` installs it on Debian")
    preamble = [line.removeprefix("% ") for line in table.splitlines() if line.startswith("% ")]
    page = [r"\documentclass[twocolumn]{article}", *preamble, r"\begin{document}", table, r"\end{document}"]
    (folder / "page.tex").write_text("\n".join(page))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert ended.returncode == 0, ended.stdout
    return [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", ended.stdout)]


class TestLatex:
    @pytest.mark.parametrize("path", sorted(ROOT.glob("results/*/tables/*.tex")), ids=lambda path: path.stem)
    def test_published_tables_fit_one_column(self, path: Path, tmp_path: Path) -> None:
        assert max(overfull(path.read_text(), tmp_path), default=0) <= 1

    def test_so_do_the_widest(self, tmp_path: Path) -> None:
        arms = [(pooling, name) for pooling in ("linear", "exponential") for name in ("single", "appendix", "mixed")]
        metrics = [run(*arm, 1.05 + seed / 9, 0.1 + seed / 7, seed) for seed in range(3) for arm in arms]
        scores = tables.scores(metrics)
        compared = contrasts(scores, {}, family=["linear", "exponential"], equivalence=12.5)
        compared = compared.assign(low_recordings=-10.11, high_recordings=-10.1, low=-10.1, high=-10.1, p_holm=0.5)
        compared["verdict"] = "equivalent within 12.5 points"
        paper = tables.table2(scores, paper=tables.paper_table2().query("dataset == 'development'"))
        for text in (tables.formatted(paper), tables.formatted_contrasts(compared)):
            made = tables.latex(text, caption="50 % of a_b & *c*, p < 0.05", label="tab:x")
            assert max(overfull(made, tmp_path), default=0) <= 1
            assert r"50 \% of a\_b \& \emph{c}" in made
            assert "-10" not in made
        assert "$-$10.1 to $-$10.1" in made
        with pytest.raises(AssertionError, match="Undefined control sequence"):
            overfull(made.replace("{booktabs}", "{array}"), tmp_path)


@pytest.fixture(params=COMMITTED)
def committed(request) -> Experiment:
    return load_experiment(request.param)


@pytest.fixture
def metrics(committed) -> list[dict]:
    return tables.load_metrics(committed, published=True)


class TestCommittedResults:
    def test_metrics_carry_what_made_them(self, committed, metrics) -> None:
        decisive = ("data", "features", "network", "decoding", "scoring")
        now = json.loads(committed.model_dump_json())
        for run in metrics:
            assert {name: run["parameters"][name] for name in decisive} == {name: now[name] for name in decisive}
            assert re.fullmatch(r"[0-9a-f]{40}", run["commit"])
            assert len(run["data"]["checksum"]) == 64
            assert run["data"]["checksum"] == metrics[0]["data"]["checksum"]
            assert all(count["used"] == count["listed"] > 0 for count in run["data"]["report"].values())
            assert {"python", "torch", "sed_eval"} <= set(run["versions"])
            assert run["device"] in ("cpu", "cuda", "mps")
            assert run["time"]["training_seconds"] > 0
            assert len(run["history"]) >= run["best_epoch"] > 0

    def test_scores_obey_the_identities_of_the_counts(self, metrics) -> None:
        for score in (run["test"]["overall"] for run in metrics):
            errors = (score["S"] + score["D"] + score["I"]) / score["Nref"]
            assert score["error_rate"] == pytest.approx(errors)
            assert score["S"] + score["D"] == score["Nref"] - score["Ntp"]
            assert score["S"] + score["I"] == score["Nsys"] - score["Ntp"]
            assert score["f_measure"] == pytest.approx(2 * score["Ntp"] / (score["Nref"] + score["Nsys"]))

    def test_learning_from_clips_beats_every_constant_guess(self, metrics) -> None:
        """Every row of the table, that is; a single seed of a short training may fail to."""
        table = tables.table2(tables.scores(metrics))
        assert table.f_measure.min() > 100 * metrics[0]["best_constant_guess"]

    def test_single_and_hierarchical_differ_by_rounding(self, committed) -> None:
        agreement = pd.read_csv(ROOT / "results" / committed.name / "tables" / "structure_agreement.csv")
        largest = agreement.groupby(["pooling", "dtype", "structure", "step"]).largest_difference.max()
        assert set(agreement.pooling) == set(committed.pooling.functions)
        for pooling in committed.pooling.functions:
            exact = largest[pooling, "float64"]
            assert exact["hierarchical"].max() < 1e-8
            if pooling in ("max", "average"):
                assert exact["appendix"].max() < 1e-8
            else:
                assert exact["appendix", 1] > 1e-5

    def test_the_tables_are_those_of_the_metrics(self, committed, metrics, tmp_path, monkeypatch) -> None:
        published, made = (folder / committed.name / "tables" for folder in (ROOT / "results", tmp_path / "reproduced"))
        clips = pd.read_csv(published / "test_clips.csv", keep_default_na=False)
        monkeypatch.setattr(paths, "ROOT", tmp_path)
        written = tables.write_tables(committed, metrics, clips)
        read = [f"{name}.{kind}" for name in ("table2", "contrasts") for kind in ("md", "tex")]
        for name in [*read, "test_clips.csv", *(f"{name}.csv" for name in written)]:
            assert (published / name).read_text() == (made / name).read_text(), name
        assert (made / "contrasts.md").read_text().strip() in (ROOT / "README.md").read_text()

    def test_every_executed_notebook_is_there_and_clean(self, committed) -> None:
        for path in executed_notebooks(committed).values():
            text = (ROOT / path.replace("reproduced/", "results/")).read_text()
            assert len(text) < 1_000_000, path
            assert not re.search(r"/(home|root|Users|tmp|work)/", text), path
            assert "it/s]" not in text, path
            cells = nbformat.reads(text, as_version=4).cells
            assert all(cell.execution_count for cell in cells if cell.cell_type == "code"), path
            assert not any(output.output_type == "error" for cell in cells for output in cell.get("outputs", [])), path
