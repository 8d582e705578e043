"""What `make plan` reckons, against files that were made and numbers reckoned by hand."""

import json

import pytest
import torch

from hpsed_lib import paths
from hpsed_lib.errors import ParameterError
from hpsed_lib.launch import plan
from hpsed_lib.network import GatedCRNN
from hpsed_lib.params import load_experiment, with_seeds

MEASURED = plan.Calibration(training=0.1, features=0.03, memory=1e9, n_parameters=1000)
COUNTS = {"training": 100, "validation": 10, "test": 20}


def test_time_by_hand(tiny):
    experiment = with_seeds(tiny, 3)  # 24 runs of 2 epochs
    made = plan.make_plan(experiment, MEASURED, COUNTS, at_once=5, cores=2)
    run = 2 * (100 * 0.1 + 10 * 0.04) + 30 * 0.04 + 15
    assert made.run == pytest.approx(run)
    assert made.data == pytest.approx(130 * 0.03 / 2)
    assert made.total == pytest.approx(made.data + 5 * run)  # 24 runs in fives: five times
    assert made.memory == pytest.approx(5e9)


def test_disk_is_what_the_files_take(tiny, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    counts = {split: len(getattr(tiny_dataset, split).filenames) for split in COUNTS}
    assert plan.clip_counts(tiny) == counts
    network = GatedCRNN(tiny.network, n_mels=80, n_classes=17, mean=tiny_dataset.mean, std=tiny_dataset.std)
    measured = MEASURED._replace(n_parameters=sum(parameter.numel() for parameter in network.parameters()))
    disk = plan.make_plan(tiny, measured, counts, at_once=2, cores=2).disk
    folder = tiny_dataset.training.features.path.parents[1]
    assert disk["soundscapes"] == pytest.approx(sum(path.stat().st_size for path in folder.rglob("*.wav")), rel=0.01)
    assert disk["features"] == sum(getattr(tiny_dataset, split).features[:].nbytes for split in COUNTS)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.zeros(2, 500, 80))[0].sum().backward()
    optimizer.step()
    weights, path = network.state_dict(), tmp_path / "checkpoint.pt"
    torch.save({"network": weights, "best": weights, "optimizer": optimizer.state_dict()}, path)
    stored = sum(tensor.nbytes for tensor in weights.values())
    assert disk["checkpoints"] / len(tiny.runs()) == pytest.approx(4 * stored, rel=0.3)  # norms' statistics aside
    assert disk["checkpoints"] / len(tiny.runs()) < path.stat().st_size


def test_counts_are_those_of_prepared_data_or_as_the_experiment_says(monkeypatch, tmp_path, tiny):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert plan.clip_counts(tiny) == {"training": 12, "validation": 6, "test": 6}
    paper = plan.clip_counts(load_experiment("paper"))
    assert (paper["training"] + paper["validation"], paper["test"]) == (51_172, 488)  # as published
    with pytest.raises(ParameterError, match="folder: its number of clips is known once notebook 01 has run"):
        plan.clip_counts(load_experiment("folder"))
    prepared = tmp_path / "cache/smoke/data.json"
    prepared.parent.mkdir(parents=True)
    prepared.write_text(json.dumps({"report": {split: {"used": number} for split, number in COUNTS.items()}}))
    assert plan.clip_counts(tiny) == COUNTS


def test_calibration(tiny):
    measured = plan.calibrate(tiny, seconds=0)
    assert min(measured) > 0
    assert 1e7 < measured.memory < 1e11


MORE = "a run may take more than params/smoke.yaml asks for: see its resources"


@pytest.mark.parametrize(
    ("memory", "at_once", "warnings"),
    [
        (1e9, 2, []),
        (2.2e9, 1, [MORE]),
        (1e9, 8, ["more memory than there is here, 3.0 GB: CORES=3 would fit"]),
        (4e9, 1, [MORE, "more memory than there is here, 3.0 GB: not even one run fits"]),
    ],
)
def test_description_warns_of_too_little(tiny, monkeypatch, memory, at_once, warnings):
    monkeypatch.setattr(plan.psutil, "virtual_memory", lambda: type("Memory", (), {"total": 3e9}))
    measured = MEASURED._replace(memory=memory)
    made = plan.make_plan(tiny, measured, COUNTS, at_once=at_once, cores=2)
    lines = plan.describe(tiny, measured, made, at_once=at_once, n_processes=2).splitlines()
    assert lines[0] == f"smoke: 8 runs of 2 epochs, {at_once} at a time"
    assert lines[4].endswith("params/smoke.yaml asks for 30 min and 2.1 GB each")
    assert lines[5].startswith("measured on ")
    assert lines[7:] == warnings


@pytest.mark.parametrize(("threads", "expected"), [(1, [1, 5, 8]), (2, [1, 2, 8])])
def test_more_threads_a_run_are_fewer_runs_at_a_time(tiny, threads, expected):
    threaded = tiny.model_copy(update={"resources": tiny.resources.model_copy(update={"threads": threads})})
    assert [plan._at_once(threaded, cores)[0] for cores in (1, 5, 100)] == expected
