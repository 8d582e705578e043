"""What `make plan` reckons, against files that were made and numbers reckoned by hand."""

import dataclasses
import json

import pytest
import torch

from hpsed_lib import paths
from hpsed_lib.errors import ParameterError
from hpsed_lib.launch import plan
from hpsed_lib.network import GatedCRNN
from hpsed_lib.params import load_experiment, with_seeds

MEASURED = plan.Calibration("cpu", training=0.1, prediction=0.02, features=0.03, memory=1e9, n_parameters=1000)
COUNTS = {"training": 100, "validation": 10, "test": 20}


def test_time_by_hand(tiny):
    experiment = with_seeds(tiny, 3)  # 24 runs of 2 epochs
    made = plan.make_plan(experiment, MEASURED, COUNTS, at_once=5, cores=2)
    run = 2 * (100 * 0.1 + 10 * 0.02) + 30 * 0.02 + plan.RUN_OVERHEAD
    assert made.run == pytest.approx(run)
    assert made.data == pytest.approx(130 * 0.03 / 2)
    assert made.total == pytest.approx(made.data + 5 * run)  # 24 runs in fives: five times
    assert made.memory == pytest.approx(5e9)


def test_disk_is_what_the_files_take(tiny, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    counts = {split: len(getattr(tiny_dataset, split).filenames) for split in COUNTS}
    assert plan.clip_counts(tiny) == counts
    network = GatedCRNN(tiny.network, n_mels=80, n_classes=17, mean=tiny_dataset.mean, std=tiny_dataset.std)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    made = plan.make_plan(tiny, plan.Calibration("cpu", 0.1, 0.1, 0.1, 1e9, n_parameters), counts, at_once=2, cores=2)
    folder = tiny_dataset.training.features.path.parents[1]
    sounds = sum(path.stat().st_size for path in folder.rglob("*.wav"))
    assert made.disk["soundscapes"] == pytest.approx(sounds, rel=0.01)
    arrays = [getattr(tiny_dataset, split).features[:] for split in COUNTS]
    assert made.disk["features"] == sum(array.nbytes for array in arrays)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.zeros(2, 500, 80))[0].sum().backward()
    optimizer.step()
    path = tmp_path / "checkpoint.pt"
    torch.save(
        {"network": network.state_dict(), "best": network.state_dict(), "optimizer": optimizer.state_dict()}, path
    )
    stored = sum(tensor.nbytes for tensor in network.state_dict().values())
    assert made.disk["checkpoints"] / len(tiny.runs()) == pytest.approx(4 * stored, rel=0.3)  # norms' statistics aside
    assert made.disk["checkpoints"] / len(tiny.runs()) < path.stat().st_size


def test_counts_of_prepared_data_come_first(monkeypatch, tmp_path, tiny):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert plan.clip_counts(tiny) == {"training": 12, "validation": 6, "test": 6}
    prepared = tmp_path / "cache/smoke/data.json"
    prepared.parent.mkdir(parents=True)
    prepared.write_text(json.dumps({"report": {split: {"used": number} for split, number in COUNTS.items()}}))
    assert plan.clip_counts(tiny) == COUNTS


def test_counts_that_nobody_knows(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    counts = plan.clip_counts(load_experiment("paper"))
    assert counts["training"] + counts["validation"] == 51_172  # as published
    assert counts["test"] == 488
    with pytest.raises(ParameterError, match="folder: its number of clips is known once notebook 01 has run"):
        plan.clip_counts(load_experiment("folder"))


def test_calibration_and_its_description(tiny, monkeypatch):
    measured = plan.calibrate(tiny, seconds=0)
    assert measured.device == "cpu"
    assert min(measured.prediction, measured.training, measured.features) > 0
    assert 1e7 < measured.memory < 1e11
    made = plan.make_plan(tiny, measured, COUNTS, at_once=2, cores=2)
    shown = plan.describe(tiny, measured, made, n_processes=2)
    assert shown.startswith("smoke: 8 runs of 2 epochs, 2 at a time\n")
    assert "measured on" in shown
    assert "params/smoke.yaml asks for 30 min and 2.1 GB each" in shown
    assert "CORES=" not in shown
    assert "a run may take more" not in shown
    hungry = dataclasses.replace(measured, memory=2.2e9)
    assert "a run may take more than params/smoke.yaml asks for" in plan.describe(tiny, hungry, made, n_processes=2)
    monkeypatch.setattr(plan.psutil, "virtual_memory", lambda: type("Memory", (), {"total": 3e9}))
    large = plan.make_plan(tiny, MEASURED, COUNTS, at_once=8, cores=8)
    assert plan.describe(tiny, MEASURED, large, n_processes=8).endswith(
        "more memory than there is here, 3.0 GB: CORES=3 would fit"
    )
    gigantic = dataclasses.replace(MEASURED, memory=4e9)
    assert plan.describe(tiny, gigantic, large, n_processes=8).endswith("here, 3.0 GB: not even one run fits")


def test_more_threads_a_run_are_fewer_runs_at_a_time(tiny):
    threaded = tiny.model_copy(update={"resources": tiny.resources.model_copy(update={"threads": 2})})
    assert [plan._at_once(tiny, cores)[0] for cores in (1, 5, 100)] == [1, 5, 8]
    assert [plan._at_once(threaded, cores)[0] for cores in (1, 5, 100)] == [1, 2, 8]
