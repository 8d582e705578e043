"""The benchmark: both sides come to the same, and what it writes. No time is asserted."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from hpsed_lib.bench import Comparison, comparisons, main, require_agreement, summarise, time_pairs
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


@pytest.mark.parametrize("name", ["segment_scores", "threshold_sweep"])
def test_both_sides_count_something_and_a_difference_is_an_error(name: str) -> None:
    comparison = comparisons()[name](tiny=True)
    counts = comparison.ours()
    assert counts["overall"]["Ntp"] > 0
    assert len(counts) == 1 + 17
    require_agreement(comparison)
    wrong = {**counts, "class 3": {**counts["class 3"], "Nsys": counts["class 3"]["Nsys"] + 1}}
    with pytest.raises(HpsedError, match="class 3"):
        require_agreement(comparison._replace(ours=lambda: wrong))


@pytest.mark.parametrize("name", ["log_mel_files", "training_step_quick", "pooling_appendix"])
def test_values_that_differ_are_an_error(name: str) -> None:
    comparison = comparisons()[name](tiny=True)
    value = comparison.ours()
    assert comparison.difference(value, value) == ""
    with pytest.raises(HpsedError, match="differ"):
        require_agreement(comparison._replace(ours=lambda: value + 0.01 * abs(value)))


def test_the_summary_is_of_ratios_of_pairs() -> None:
    pairs = pd.DataFrame(
        {"task": "t", "peer": "p", "goal": 2.0, "pair": [0, 1, 2], "ours": [1.0, 2.0, 4.0], "theirs": [3.0, 2.0, 8.0]}
    ).assign(ratio=[3.0, 1.0, 2.0])
    [row] = summarise(pairs).to_dict("records")
    assert row == {
        "task": "t",
        "peer": "p",
        "pairs": 3,
        "ours (ms)": 2000.0,
        "theirs (ms)": 3000.0,
        "ratio": 2.0,
        "smallest": 1.0,
        "largest": 3.0,
        "goal": 2.0,
    }


def test_fewer_than_five_pairs_are_refused() -> None:
    comparison = Comparison("t", "p", lambda: 1, lambda: 1, lambda ours, theirs: "", 1.0)
    with pytest.raises(ParameterError, match="5 or more"):
        time_pairs(comparison, n_pairs=4)
