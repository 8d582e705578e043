"""The benchmark: both sides come to the same, and what it writes. No time is asserted."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from hpsed_lib.bench import experiment as bench_experiment
from hpsed_lib.bench import memory as bench_memory
from hpsed_lib.bench.__main__ import comparisons, main
from hpsed_lib.bench.timing import (
    Comparison,
    Work,
    floor,
    largest_parts,
    peaks,
    require_agreement,
    summarise,
    time_pairs,
)
from hpsed_lib.errors import HpsedError, ParameterError


def test_it_runs_tiny_and_writes_its_tables(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    main(["--tiny", "--pairs", "5", "--output", str(tmp_path)])
    pairs = pd.read_csv(tmp_path / "bench.csv")
    assert len(pairs) == 5 * len(comparisons())
    assert (pairs.ratio > 0).all()
    text = (tmp_path / "bench.md").read_text()
    assert text.strip() in capsys.readouterr().out
    assert all(task in text for task in pairs.task)
    assert (tmp_path / "bench.png").stat().st_size > 10_000
    assert len((tmp_path / "ratios.md").read_text().splitlines()) == 2 + len(comparisons())
    profile = pd.read_csv(tmp_path / "profile.csv")
    assert set(profile.task) == set(pairs.task)
    assert profile.groupby("task").share.sum().round().eq(100).all()


@pytest.mark.parametrize(
    ("name", "scope", "n_scopes"), [("segment_scores", "class 3", 18), ("threshold_search", "overall", 1)]
)
def test_both_sides_count_something_and_a_difference_is_an_error(name: str, scope: str, n_scopes: int) -> None:
    comparison = comparisons()[name](tiny=True)
    counts = comparison.ours()
    assert counts["overall"]["Ntp"] > 0
    assert len(counts) == n_scopes
    require_agreement(comparison)
    wrong = {**counts, scope: {**counts[scope], "Nsys": counts[scope]["Nsys"] + 1}}
    with pytest.raises(HpsedError, match=scope):
        require_agreement(comparison._replace(ours=lambda: wrong))


@pytest.mark.parametrize("name", ["log_mel_files", "training_step_quick", "pooling_appendix"])
def test_values_that_differ_are_an_error(name: str) -> None:
    comparison = comparisons()[name](tiny=True)
    value = comparison.ours()
    assert comparison.agree(value, value)
    with pytest.raises(HpsedError, match="differ"):
        require_agreement(comparison._replace(ours=lambda: value + 0.01 * abs(value)))


def test_the_summary_is_of_ratios_of_pairs() -> None:
    pairs = pd.DataFrame(
        {
            "task": "t",
            "peer": "p",
            "goal": 2.0,
            "floor": 0.5,
            "pair": [0, 1, 2],
            "ours": [1.0, 2.0, 4.0],
            "theirs": [3.0, 2.0, 8.0],
        }
    ).assign(ratio=[3.0, 1.0, 2.0])
    [row] = summarise(pairs).to_dict("records")
    assert row == {
        "task": "t",
        "peer": "p",
        "pairs": 3,
        "floor (ms)": 500.0,
        "ours (ms)": 2000.0,
        "theirs (ms)": 3000.0,
        "ratio": 2.0,
        "smallest": 1.0,
        "largest": 3.0,
        "goal": 2.0,
    }


def nothing(task: str = "t") -> Comparison:
    return Comparison(task, "p", lambda: 1, lambda: 1, lambda ours, theirs: True, 1.0, Work(), lambda ours: {})


def test_fewer_than_five_pairs_are_refused() -> None:
    with pytest.raises(ParameterError, match="5 or more"):
        time_pairs(nothing(), n_pairs=4)


def test_a_side_that_is_a_time_is_not_run_and_one_that_stands_for_many_counts_for_all() -> None:
    pairs = time_pairs(nothing()._replace(theirs=2.0, scale=100.0), n_pairs=5)
    assert pairs.theirs.tolist() == [200.0] * 5


def test_the_floor_is_the_longer_of_arithmetic_and_traffic() -> None:
    assert min(peaks(1)) > 0
    arithmetic, traffic = floor(Work(1e9)), floor(Work(n_bytes=1e9))
    assert floor(Work(1e9, 1e9)) == max(arithmetic, traffic)
    assert floor(Work(2e9)) == pytest.approx(2 * arithmetic)


def test_parts_are_shares_and_the_small_ones_are_put_together() -> None:
    comparison = nothing()._replace(parts=lambda ours: {"a": 1.0, "b": 6.0, "c": 2.0, "d": 1.0})
    parts = largest_parts(comparison, n_parts=2)
    assert parts.part.tolist() == ["b", "c", "everything else"]
    assert parts.share.tolist() == [60.0, 20.0, 20.0]


def test_operations_of_a_training_step_are_those_of_its_layers() -> None:
    comparison = comparisons()["training_step_quick"](tiny=True)
    # By hand, for one clip: convolutions (2, 8, 8, 8 gated; 32), forward and two products backward, none for the input.
    maps = {500 * 80: [(1, 4), (2, 4)], 250 * 40: [(2, 16), (8, 16)], 125 * 20: [(8, 16)] * 2, 125 * 10: [(8, 16)] * 2}
    maps[125 * 5] = [(8, 32)]
    products = sum(9 * n * a * b for n, layers in maps.items() for a, b in layers)
    first = 9 * 500 * 80 * 4
    convolutions = 2 * (3 * products - first)
    # GRU and dense layers add a little.
    assert convolutions < comparison.work.operations < 1.3 * convolutions


def test_memory_is_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    bench_memory.main(["--clips", "20", "40", "--output", str(tmp_path)])
    table = pd.read_csv(tmp_path / "memory.csv")
    assert table.clips.tolist() == [20, 40, 20, 40]
    assert table.task.nunique() == 2
    assert table["peak (MB)"].between(50, 5000).all()


def test_a_whole_experiment_is_timed_in_a_copy_against_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(command: list[str], *, cwd: Path, **_: object) -> SimpleNamespace:
        assert command[1:] == ["-m", "hpsed_lib.launch.workflow", "quick", "--cores", "2"]
        assert (cwd / "workflow" / "Snakefile").is_file()
        assert not (cwd / "reproduced" / "quick").exists()
        (cwd / "reproduced" / "quick" / "metrics").mkdir(parents=True)
        for run, seconds in enumerate((10, 20, 30)):
            (cwd / "reproduced" / "quick" / "metrics" / f"{run}.json").write_text(
                json.dumps({"run": f"run{run}", "time": {"training_seconds": seconds}})
            )
        done = [f"[run{run}] done in {seconds + 12} s" for run, seconds in enumerate((10, 20, 30))]
        return SimpleNamespace(returncode=0, stderr="\n".join(["[01_data] started", "[01_data] done in 7 s", *done]))

    monkeypatch.setattr(bench_experiment, "available_cores", lambda: 2)
    monkeypatch.setattr(bench_experiment, "subprocess", SimpleNamespace(run=launch))
    monkeypatch.setattr(bench_experiment, "sections_of_a_run", lambda *_: {"scores": 4.0, "figures": 1.0})
    bench_experiment.main(["--output", str(tmp_path)])
    [row] = pd.read_csv(tmp_path / "experiment.csv").to_dict("records")
    assert (row["runs"], row["cores"], row["training / cores"]) == (3, 2, 30.0)
    assert 0 <= row["all in all"] < 30
    seconds = pd.read_csv(tmp_path / "experiment_parts.csv", index_col="part").seconds
    assert seconds["training"] == 60
    assert seconds["01_data"] == 7
    assert seconds["runs: scores"] == 3 * 4
    assert seconds["runs: start and end of their processes"] == 3 * 12 - 3 * 4 - 3 * 1
    assert seconds.sum() == pytest.approx(2 * row["all in all"], abs=0.2)
    failed = subprocess.CompletedProcess([], 1, "", "no space")
    monkeypatch.setattr(bench_experiment, "subprocess", SimpleNamespace(run=lambda *_, **__: failed))
    with pytest.raises(HpsedError, match="quick failed: no space"):
        bench_experiment.main(["--output", str(tmp_path)])
