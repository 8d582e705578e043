"""Experiments load strictly: every file in ``params/``, and every kind of wrong entry."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from hpsed_lib import pooling
from hpsed_lib.errors import ParameterError
from hpsed_lib.params import StructureName, known_poolings, load_experiment, run_name, with_seeds
from hpsed_lib.paths import PARAMS

FILES = sorted(PARAMS.glob("*.yaml"))
QUICK = (PARAMS / "quick.yaml").read_text(encoding="utf-8")
OWN_DECODING = "{threshold: validation, median_length: 1, minimum_gap: 0.0, minimum_duration: 0.0}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_experiment_loads(file: Path) -> None:
    experiment = load_experiment(file.stem)
    assert experiment.name == file.stem
    assert len(experiment.runs()) == len(set(experiment.runs())) > 0
    assert experiment.n_frames == 500
    assert experiment.n_output_frames == {"surrey": 500, "gccaps": 62}.get(experiment.network.kind, 125)
    assert experiment.frame_duration == pytest.approx(0.02 * (500 // experiment.n_output_frames))


def test_the_systems_of_table_3_differ_in_what_is_theirs_alone() -> None:
    def common(name: str) -> dict:
        content = load_experiment(name).model_dump(include={"data", "features", "training", "decoding", "scoring"})
        del content["training"]["learning_rate"], content["decoding"]["median_length"]
        return content

    names = [file.stem for file in FILES if file.stem.startswith("table3_")]
    assert names == ["table3_gccaps", "table3_surrey", "table3_wang"]
    for name in names:
        experiment = load_experiment(name)
        assert common(name) == common("esc10"), name
        assert experiment.decoding.median_length * experiment.frame_duration == pytest.approx(0.44, abs=0.05)
        assert experiment.network.kind == name.removeprefix("table3_")


def test_paper_has_the_printed_values() -> None:
    paper = load_experiment("paper")
    features, training = paper.features, paper.training
    assert (features.window_duration, features.hop_duration, features.n_mels) == (0.04, 0.02, 80)
    assert (training.batch_size, training.learning_rate, training.patience) == (128, 0.001, 10)
    assert (training.schedule, training.warmup_epochs) == ("constant", 0)
    assert paper.pooling.segment_lengths == (5, 5)
    assert list(paper.pooling.functions) == ["linear", "exponential", "attention"]


def test_names_are_those_of_the_pooling_module() -> None:
    assert known_poolings() == {name: pooling.has_weights(name) for name in pooling.POOLINGS}
    assert get_args(StructureName) == pooling.STRUCTURES


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size:", "batchsize:", r"training: unknown key 'batchsize'; the nearest known key is 'batch_size'"),
        ("training:\n", "trainign:\n", r"unknown key 'trainign'; the nearest known key is 'training'"),
        ("learning_rate: 0.005", "learning_rate: 5e-3", r"learning_rate.*1e-3 as text"),
        ("seed: 1903", "seed: 1903.5", r"seed.*integer.*1903.5"),
        ("n_mels: 80", "n_mels: '80'", r"n_mels.*integer"),
        ("segment_lengths: [5, 5]", "segment_lengths: [4, 5]", r"segment_lengths \[4, 5\] do not divide 125 frames"),
        ("snr: [15.0, 30.0]", "snr: [35.0, 30.0]", r"snr: must be \[lowest, highest\]"),
        ("fmin: 0.0", "fmin: 0.0\n  fmin: 1.0", r"key 'fmin' is given twice"),
        ("source: synthetic", "source: synthetik", r"synthetik.*'synthetic'"),
        ("median_length: 5", "median_length: 4", r"median_length must be odd"),
        ("[[2, 2], [2, 2], [1, 2], [1, 2]]", "[[2, 2], [2, 2]]", r"block_channels need as many block_pools"),
        ("last_pool: [1, 5]", "last_pool: [3, 5]", r"500 frames are not a multiple of the pools' 12"),
        ("    linear: {", "    linaer: {", r"unknown pooling function 'linaer'; the nearest known one is 'linear'"),
        ("    linear: {", "    linear: {file: my.py, ", r"'linear' is a pooling function .*; .* another name"),
        ("    linear: {", "    lse: {", r"'lse' gives no weights, so that its only structure is single"),
        ("    linear: {", "    my-own: {file: my.py, ", r"my-own.*should match pattern"),
        ("structures: [single,", "structures: [simple,", r"pooling.functions.linear.structures.0"),
        ("single, hierarchical, appendix]", "single, hierarchical]", r"linear: .* needs its single and its appendix"),
        ("warmup_epochs: ", "warmup_epochs: 99", r"warmup_epochs must be fewer than max_epochs"),
        ("patience: 10", "", r"training.patience: Field required"),
        ("title: ", "name: x\ntitle: ", r"unknown key 'name'"),
        ("fmax: null ", "fmax: 9000.0 ", r"fmin < fmax <= 8000 Hz"),
        ("learning_rate: 0.005", "learning_rate: .inf", r"learning_rate.*finite"),
        ("  threads: 1", "  thread: 1", r"resources: unknown key 'thread'; the nearest known key is 'threads'"),
        ("memory: 2000", "memory: 2 GB", r"resources.memory.*integer.*2 GB"),
        ("gru_units: 32", "gru_unit: 32", r"gated_crnn: unknown key 'gru_unit'; the nearest known key is 'gru_units'"),
        ("kind: gated_crnn", "kind: gated_crn", r"network: .*'gated_crn' .*'surrey'"),
        ("\nscoring:", f"\nown_decoding: {OWN_DECODING}\nscoring:", r"own_decoding.threshold: .*give a number"),
        ("cooccurrence: 0.3", "cooccurence: 0.3", r"the nearest known key is 'cooccurrence'"),
        ("seeds: 1", "seeds: 1001", r"linear.seeds.*less than or equal to 1000"),
        ("hierarchical, appendix]", "single, appendix]", r"linear.structures: must be different names"),
        ("family: [linear]", "family: [linear, linear]", r"comparison.family: must be different names"),
        ("clip_duration: 10.0", "clip_duration: 1.0e+9", r"clip_duration.*less than or equal to 3600"),
        ("batch_size: 8", f"batch_size: {10**30}", r"batch_size.*less than or equal to 1000000"),
        ("title: ", "title: 'a|b' #", r"title: String should match"),
        ("title: ", 'title: "a\\nb" #', r"title: String should match"),
        ("title: ", "title: <b>a</b> #", r"title: String should match"),
        ("title: ", "title: &a [*b, *b] #", r"not valid YAML: aliases are not read"),
        ("title: ", "title: !!python/object/apply:os.getcwd [] #", r"not valid YAML"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "wrong.yaml"
    assert old in QUICK
    file.write_text(QUICK.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ParameterError, match=f"(?s)wrong.yaml.*{message}"):
        load_experiment(file)


@pytest.mark.parametrize("content", ["- a\n- b\n", "", "title: [unclosed\n"])
def test_a_file_that_is_no_experiment_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ParameterError, match=r"broken\.yaml"):
        load_experiment(file)


def test_an_unknown_experiment_lists_the_known_ones() -> None:
    for name in ("quik", "quick" * 60):
        with pytest.raises(ParameterError, match="desed, esc10, esc50, folder, paper, quick, smoke, synthetic"):
            load_experiment(name)


def test_the_number_of_seeds_given_by_hand_is_bounded_too() -> None:
    quick = load_experiment("quick")
    assert len(with_seeds(quick, 1000).runs()) == 1000 * len(quick.pooling.variants)
    with pytest.raises(ParameterError, match=r"SEEDS must be 1 to 1000, .* got 1001"):
        with_seeds(quick, 1001)


def test_run_names_are_in_the_tables_order() -> None:
    runs = load_experiment("quick").runs()
    assert runs[:3] == [run_name("linear", structure, 0) for structure in pooling.STRUCTURES[:3]]
