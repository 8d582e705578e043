"""The smallest experiment through the real workflow: killed in mid-training, gone on with, done, and nothing twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch

from hpsed_lib.bench.experiment import parts_of_all, sections_of_a_run

ROOT = Path(__file__).parents[1]
RUNS = [f"{p}-{s}-seed0" for p in ("linear", "power") for s in ("single", "hierarchical", "appendix", "mixed")]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose smallest experiment trains long enough to be killed."""
    folder = tmp_path_factory.mktemp("copy") / "hpsed"
    for name in ("hpsed_lib", "notebooks", "params", "workflow", "results/paper"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    params = folder / "params" / "smoke.yaml"
    text = params.read_text()
    assert "max_epochs: 2" in text
    params.write_text(text.replace("max_epochs: 2", "max_epochs: 12").replace("patience: 10", "patience: 12"))
    return folder


def start(folder: Path, log: Path) -> subprocess.Popen:
    with open(log, "w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "hpsed_lib.launch.workflow", "smoke", "--cores", "2"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def metrics_of(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in (folder / "results" / "smoke" / "metrics").glob("[!.]*.json")}


def n_epochs(checkpoint: Path) -> int:
    return len(torch.load(checkpoint, weights_only=True)["history"])


@pytest.mark.slow
def test_a_killed_experiment_goes_on_and_ends_with_its_table(copy: Path, tmp_path: Path) -> None:
    launched = start(copy, tmp_path / "first.log")
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and launched.poll() is None:
        # one run is done and another is in mid-training
        checkpoints = (copy / "cache" / "smoke" / "runs").glob("*/checkpoint.pt")
        waiting = [path for path in checkpoints if path.parent.name not in metrics_of(copy)]
        if metrics_of(copy) and any(n_epochs(path) <= 6 for path in waiting):
            break
        time.sleep(0.1)
    assert launched.poll() is None, (tmp_path / "first.log").read_text()
    launched.send_signal(signal.SIGKILL)
    launched.wait()
    finished = {name: path.stat().st_mtime_ns for name, path in metrics_of(copy).items()}
    assert 0 < len(finished) < len(RUNS)

    again = start(copy, tmp_path / "second.log")
    status = again.wait(timeout=600)
    log = (tmp_path / "second.log").read_text()
    assert status == 0, log
    assert set(metrics_of(copy)) == set(RUNS)
    notebooks = copy / "results" / "smoke" / "notebooks" / "03_train_variant"
    # A run is finished when its notebook is in its place; the kill may have come just before that.
    redone = [name for name, stamp in finished.items() if metrics_of(copy)[name].stat().st_mtime_ns != stamp]
    assert len(redone) <= 1, log
    metrics = {name: json.loads(path.read_text()) for name, path in metrics_of(copy).items()}
    assert any(run["time"]["resumed_after"] for run in metrics.values()), log

    for run in metrics.values():
        assert len(run["history"]) == 12
        assert run["commit"]
        score = run["test"]["overall"]
        assert 0 <= score["f_measure"] <= 1
        assert score["error_rate"] == pytest.approx((score["S"] + score["D"] + score["I"]) / score["Nref"])
        assert sum(run["test"]["clip_counts"]["Ntp"]) == score["Ntp"]
        assert 0 <= run["threshold_free"]["segment"]["micro"]["roc_auc"] <= 1
    same = [
        [metrics[f"{pooling}-{structure}-seed0"]["history"] for structure in ("single", "hierarchical")]
        for pooling in ("linear", "power")
    ]
    for single, hierarchical in same:
        assert single[0]["training_loss"] == pytest.approx(hierarchical[0]["training_loss"], rel=1e-3)

    table = pd.read_csv(copy / "results" / "smoke" / "tables" / "table2.csv")
    assert [f"{p}-{s}-seed0" for p, s in zip(table.pooling, table.structure, strict=True)] == RUNS
    for row in table.itertuples():
        overall = metrics[f"{row.pooling}-{row.structure}-seed0"]["test"]["overall"]
        assert row.error_rate == pytest.approx(overall["error_rate"], rel=1e-5)
        assert row.f_measure == pytest.approx(100 * overall["f_measure"], rel=1e-5, abs=1e-9)
    assert (copy / "results" / "smoke" / "tables" / "table2.md").read_text() in log  # it ends by printing it
    for name in ("01_data_preparation", "07_identity_in_training", "04_result_tables"):
        assert f"results/smoke/notebooks/{name}.ipynb" in log
    assert "results/derivation/notebooks/02_pooling_gradients.ipynb" in log
    assert (copy / "results" / "smoke" / "figures" / "power.png").is_file()  # one seed: it says that there is no curve
    for name in ("learning_curves", "class_scores", "figure5", "differences", "operating_points"):
        assert (copy / "results" / "smoke" / "figures" / f"{name}.png").stat().st_size > 10_000

    agreement = pd.read_csv(copy / "results" / "smoke" / "tables" / "structure_agreement.csv")
    exact = agreement.query("dtype == 'float64' and structure == 'hierarchical'")
    other = agreement.query("dtype == 'float64' and structure == 'appendix' and step == 1")
    assert set(exact.step) == {1, 20}
    assert exact.largest_difference.max() < 1e-8
    assert other.largest_difference.max() > 1e-5

    executed = nbformat.read(notebooks / "linear-appendix-seed0.ipynb", as_version=4)
    [injected] = [cell for cell in executed.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert 'structure = "appendix"' in injected.source

    stamps = {path: path.stat().st_mtime_ns for path in (copy / "results").rglob("*.*")}
    assert start(copy, tmp_path / "third.log").wait(timeout=120) == 0
    assert "started" not in (tmp_path / "third.log").read_text()
    assert stamps == {path: path.stat().st_mtime_ns for path in (copy / "results").rglob("*.*")}

    # What the benchmark says of a whole experiment: where its time went.
    log = (tmp_path / "first.log").read_text() + log
    sections = sections_of_a_run(copy, list(metrics.values())[:2], os.environ | {"PYTHONPATH": str(copy)})
    assert list(sections)[-1] == "3 Threshold, decoding, scores"
    assert all(seconds > 0 for seconds in sections.values())
    parts = parts_of_all(log, list(metrics.values()), sections)
    assert {"01_data_preparation", "02_pooling_gradients", "04_result_tables"} < set(parts)
    assert parts["runs: 3 Threshold, decoding, scores"] == len(RUNS) * sections["3 Threshold, decoding, scores"]
    assert not set(parts) & set(RUNS)
