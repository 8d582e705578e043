"""The paper's experiment at reduced width, from the real label files and stand-in audio, some of it missing."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from held import copy_project, copy_reproduced

from hpsed_lib import dataset, paths
from hpsed_lib.data.audio import write_audio
from hpsed_lib.data.dcase2017.labels import STRONG_FILES, WEAK_FILES
from hpsed_lib.data.synthesis import synthesize
from hpsed_lib.dataset import STAND_IN
from hpsed_lib.errors import DataError
from hpsed_lib.params import load_experiment

ROOT = Path(__file__).parents[1]
NARROWER = {
    "block_channels: [64, 64, 64, 64]": "block_channels: [2, 2, 2, 2]",
    "last_channels: 256": "last_channels: 4",
    "gru_units: 128": "gru_units: 4",
    "    exponential: {structures: [single, hierarchical, appendix], seeds: 1}\n": "",
    "    attention: {structures: [single, hierarchical, appendix], seeds: 1}\n": "",
    "family: [linear, exponential, attention]": "family: [linear]",
    "structures: [single, hierarchical, appendix]": "structures: [single, appendix]",
    "batch_size: 128": "batch_size: 16",
    "max_epochs: 100": "max_epochs: 2",
    "loader_workers: 4": "loader_workers: 1",
    "device: cuda": "device: cpu",
}
REMOVED, TRUNCATED, TEXT = 37, 5, 3
N_TRAINING, SR, DURATION = 120, 16000, 10.0  # Hz, s


def narrow(folder: Path, **replaced: str) -> Path:
    """The paper's parameters at reduced width."""
    text = (ROOT / "params" / "paper.yaml").read_text()
    for old, new in (NARROWER | replaced).items():
        assert old in text
        text = text.replace(old, new)
    path = folder / "paper_narrow.yaml"
    path.write_text(text)
    return path


@functools.cache
def sound(event_label: str) -> np.ndarray:
    """A synthetic sound of a class, as long as a clip."""
    y = synthesize(event_label, duration=DURATION, sr=SR, rng=np.random.default_rng(0))
    return 0.1 * y / np.abs(y).max()


@pytest.fixture(scope="module")
def audio(dcase2017_folder, tmp_path_factory):
    """Published label files, and stand-in audio for every test clip and for a slice of the training clips.

    It has published names, a synthetic sound of 0.2 s or more where a label says so (all over a training clip), and
    noise. A file named `STAND_IN` marks the folder, and every table made from it says so.
    """
    folder = tmp_path_factory.mktemp("data")
    (folder / STAND_IN).write_text("The audio in this folder was synthesised: it stands in for recordings.\n")
    (folder / "stand-in-audio").mkdir()
    names = WEAK_FILES["training"], STRONG_FILES["development"]
    for name in (*names, WEAK_FILES["development"]):
        shutil.copy(dcase2017_folder / name, folder / name)
    columns = ["filename", "onset", "offset", "event_label"]
    weak, strong = (pd.read_csv(folder / name, sep="\t", header=None, names=columns) for name in names)
    listed = weak.filename.unique()
    training = listed[np.linspace(0, len(listed) - 1, N_TRAINING).round().astype(int)]
    weak = weak[weak.filename.isin(training)].assign(onset=0.0, offset=DURATION)
    rng = np.random.default_rng(0)
    for name, events in pd.concat([weak, strong]).groupby("filename"):
        y = 0.01 * rng.standard_normal(round(SR * DURATION))
        for event in events.itertuples():
            n_samples = round(SR * min(max(event.offset - event.onset, 0.2), DURATION))
            start = min(round(SR * event.onset), len(y) - n_samples)
            y[start : start + n_samples] += sound(event.event_label)[:n_samples]
        write_audio(folder / "stand-in-audio" / f"Y{name}", np.clip(y, -1, 1), sr=SR)
    return folder


@pytest.fixture(scope="module")
def damaged(audio, tmp_path_factory):
    """The same with 37 test files removed, 5 truncated and 3 replaced by text, and which these are."""
    folder = tmp_path_factory.mktemp("damaged") / "data"
    shutil.copytree(audio, folder)
    table = pd.read_csv(folder / "groundtruth_weak_label_testing_set.csv", sep="\t", header=None)
    drawn = np.random.default_rng(0).permutation(sorted(set(table[0])))[: REMOVED + TRUNCATED + TEXT]
    removed, truncated, text = (sorted(part) for part in np.split(drawn, [REMOVED, REMOVED + TRUNCATED]))
    for name in drawn:
        path = folder / "stand-in-audio" / f"Y{name}"
        content = path.read_bytes()
        path.unlink()
        if name not in removed:
            path.write_bytes(content[: len(content) // 3] if name in truncated else b"<html>not found</html>")
    return folder, {"removed": removed, "truncated": truncated, "text": text}


@pytest.fixture
def narrow_paper(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return load_experiment(narrow(tmp_path))


@pytest.mark.slow
def test_complete_test_audio_is_the_papers_split(narrow_paper, audio):
    data = dataset.prepare(narrow_paper, data_folder=str(audio))
    counts = data.report
    assert counts["test"]["listed"] == counts["test"]["used"] == 488
    assert sum(counts[split]["listed"] for split in ("training", "validation")) == 51172
    assert sum(counts[split]["used"] for split in ("training", "validation")) == 120
    assert data.stand_in
    assert data.tuning is None
    assert (len(data.classes), data.classes[0]) == (17, "Train horn")
    assert dataset.shared_sources(narrow_paper).loc["training", "validation"] == 0


@pytest.mark.slow
def test_missing_test_audio_is_refused_by_name_and_number(narrow_paper, damaged):
    folder, names = damaged
    with pytest.raises(DataError, match=r"40 of 488 test clips .*37 missing, 3 unreadable.*incomplete_test") as caught:
        dataset.prepare(narrow_paper, data_folder=str(folder))
    assert any(name in str(caught.value) for name in names["removed"])
    manifest = dataset.read_manifest(narrow_paper).query("split == 'test'").set_index("filename")
    assert sorted(manifest.index[manifest.state == "missing"]) == names["removed"]
    assert sorted(manifest.index[manifest.state == "unreadable"]) == names["text"]
    assert sorted(manifest.index[manifest.truncated]) == names["truncated"]
    assert manifest.reason[names["text"]].str.contains("cannot be read as audio").all()
    assert not (paths.cache_folder("paper_narrow") / "data.json").exists()


@pytest.mark.slow
def test_the_papers_experiment_runs_to_a_table_that_says_what_is_missing(damaged, tmp_path):
    copy = tmp_path / "hpsed"
    copy_project(copy, "hpsed_lib", "notebooks", "params", "workflow", "results/paper")
    copy_reproduced(copy, "derivation", "paper")  # what does not depend on the experiment
    narrow(copy / "params", **{"incomplete_test: refuse": "incomplete_test: report"})
    workflow = ["hpsed_lib.launch.workflow", "paper_narrow", "--data", str(damaged[0]), "--cores", "2"]
    output = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run([sys.executable, "-m", *workflow], cwd=copy, env=environment, check=False, **output)
    assert done.returncode == 0, done.stdout
    results = copy / "reproduced" / "paper_narrow"
    text = (results / "tables" / "table2.md").read_text()
    assert text in done.stdout
    caption = " ".join(text.split())
    start = "**STAND-IN AUDIO, no recordings: these numbers mean nothing; INCOMPLETE TEST SET, 448 of 488"
    assert text.startswith(start)
    assert "test 448 of 488 (37 missing, 3 unreadable)." in caption
    assert re.search(r"training \d+ of 48,\d+ clips \(\d+,\d+ missing\)", caption)
    assert "ER (paper)" in text
    assert "STAND-IN AUDIO" in (results / "tables" / "table2.tex").read_text()
    table = pd.read_csv(results / "tables" / "table2.csv")
    assert set(zip(table.test_clips_used, table.test_clips_listed, strict=True)) == {(448, 488)}
    for run in ("linear-single-seed0", "linear-appendix-seed0"):
        metrics = json.loads((results / "metrics" / f"{run}.json").read_text())
        assert metrics["n_test_clips"] == 448
        assert metrics["data"]["report"]["test"]["truncated"] == TRUNCATED
        assert metrics["data"]["stand_in"]
        assert metrics["threshold"] == 0.5
        assert list(metrics["operating_points"]) == ["fixed"]
    coverage = pd.read_csv(results / "tables" / "coverage.csv", index_col=0)
    assert coverage.test_listed.sum() > coverage.test_used.sum()


def test_no_result_in_this_repository_was_computed_on_stand_in_audio():
    files = list((ROOT / "results").rglob("metrics/*.json"))
    assert files
    assert not [path for path in files if json.loads(path.read_text())["data"]["stand_in"]]
