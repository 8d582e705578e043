"""What `make plan` reckons, against files that were made and numbers reckoned by hand."""

import json

import pytest

from hpsed_lib import paths
from hpsed_lib.errors import ParameterError
from hpsed_lib.launch import plan
from hpsed_lib.networks import build
from hpsed_lib.params import load_experiment, with_seeds

MEASURED = plan.Calibration(training=0.1, features=0.03, memory=1e9, n_parameters=1000)
COUNTS = {"training": 100, "validation": 10, "test": 20}


def test_time_by_hand(tiny):
    experiment = with_seeds(tiny, 3)  # 24 runs of 2 epochs
    made = plan.make_plan(experiment, MEASURED, COUNTS, at_once=5, cores=2)
    run = 2 * (100 * 0.1 + 10 * 0.04) + 30 * 0.04 + 15
    # 24 runs in fives: five times
    assert made[:4] == pytest.approx((130 * 0.03 / 2, run, 130 * 0.03 / 2 + 5 * run, 5e9))


def test_disk_is_what_the_files_take(tiny, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    counts = {split: len(getattr(tiny_dataset, split).filenames) for split in COUNTS}
    assert plan.clip_counts(tiny) == counts
    network = build(tiny.network, n_mels=80, n_classes=17)
    measured = MEASURED._replace(n_parameters=sum(parameter.numel() for parameter in network.parameters()))
    disk = plan.make_plan(tiny, measured, counts, at_once=2, cores=2).disk
    folder = tiny_dataset.training.features.path.parents[1]
    assert disk["soundscapes"] == pytest.approx(sum(path.stat().st_size for path in folder.rglob("*.wav")), rel=0.01)
    assert disk["features"] == sum(getattr(tiny_dataset, split).features[:].nbytes for split in COUNTS)
    stored = sum(tensor.nbytes for tensor in network.state_dict().values())
    # The network, the best one, and Adam's two moments; norms' statistics aside.
    assert disk["checkpoints"] / len(tiny.runs()) == pytest.approx(4 * stored, rel=0.3)


def test_counts_are_those_of_prepared_data_or_as_the_experiment_says(monkeypatch, tmp_path, tiny):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert plan.clip_counts(tiny) == {"training": 12, "validation": 6, "test": 6}
    paper = plan.clip_counts(load_experiment("paper"))
    assert (paper["training"] + paper["validation"], paper["test"]) == (51_172, 488)  # as published
    with pytest.raises(ParameterError, match="folder: its number of clips is known once notebook 01 has run"):
        plan.clip_counts(load_experiment("folder"))
    (tmp_path / "cache/smoke").mkdir(parents=True)
    report = {split: {"used": number} for split, number in COUNTS.items()}
    (tmp_path / "cache/smoke/data.json").write_text(json.dumps({"report": report}))
    assert plan.clip_counts(tiny) == COUNTS


def test_it_measures_and_warns_of_too_little(tiny, monkeypatch):
    monkeypatch.setattr(plan.psutil, "virtual_memory", lambda: type("Memory", (), {"total": 3e9}))
    measured = plan.calibrate(tiny, seconds=0)
    assert min(measured) > 0
    assert 1e7 < measured.memory < 1e11
    for memory, n_warnings in ((1e9, 0), (2.2e9, 1), (4e9, 2)):  # the experiment asks for 2.1 GB
        measured = measured._replace(memory=memory)
        made = plan.make_plan(tiny, measured, COUNTS, at_once=1, cores=2)
        lines = plan.describe(tiny, measured, made, at_once=1).splitlines()
        assert lines[0] == "smoke: 8 runs of 2 epochs, 1 at a time"
        assert [line.split(":")[0] for line in lines[7:]] == [
            "a run may take more than the experiment asks for",
            "more memory than there is here, 3.00GB",
        ][:n_warnings]


@pytest.mark.parametrize(("threads", "expected"), [(1, [1, 5, 8]), (2, [1, 2, 8])])
def test_more_threads_a_run_are_fewer_runs_at_a_time(tiny, threads, expected):
    threaded = tiny.model_copy(update={"resources": tiny.resources.model_copy(update={"threads": threads})})
    assert [plan.runs_at_once(threaded, cores)[0] for cores in (1, 5, 100)] == expected
