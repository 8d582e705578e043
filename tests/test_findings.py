"""What lies behind an experiment's F1, against plain loops and numpy."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from hpsed_lib import findings


def events(rng: np.random.Generator, *, apart: bool) -> pd.DataFrame:
    """Events of two classes in two clips; `apart`: those of one class and clip do not overlap."""
    rows = []
    for filename, label in itertools.product(("a.wav", "b.wav"), ("dog", "rain")):
        times = np.sort(rng.choice(41, size=2 * rng.integers(0, 4), replace=False)) / 10
        pairs = [*zip(times[::2], times[1::2], strict=True)]
        pairs += [] if apart or not pairs else [(pairs[0][0], pairs[0][1] + 0.5)]
        rows += [(filename, onset, offset, label) for onset, offset in pairs]
    return pd.DataFrame(rows, columns=["filename", "onset", "offset", "event_label"])


@pytest.mark.parametrize("seed", range(20))
def test_coverage_is_what_a_fine_grid_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, estimated = events(rng, apart=False), events(rng, apart=True)
    grid = np.arange(0, 5, 0.05) + 0.025  # of half a tenth: every bound lies between two points
    found: dict[int, list[float]] = {index: [] for index in range(len(findings.LENGTHS) - 1)}
    for event in reference.itertuples():
        own = estimated[(estimated.filename == event.filename) & (estimated.event_label == event.event_label)]
        inside = (grid > event.onset) & (grid < event.offset)
        detected = np.zeros(len(grid), dtype=bool)
        for other in own.itertuples():
            detected |= (grid > other.onset) & (grid < other.offset)
        length = round(event.offset - event.onset, 6)
        [group] = [i for i in found if findings.LENGTHS[i] < length <= findings.LENGTHS[i + 1]]
        found[group].append(float((inside & detected).sum() / inside.sum()))
    table = findings.coverage_by_length(reference, estimated)
    assert table.n_events.tolist() == [len(values) for values in found.values()]
    for covered, values in zip(table.covered, found.values(), strict=True):
        assert (np.isnan(covered) and not values) or covered == pytest.approx(np.mean(values), abs=1e-9)


def run(structure: str, seed: int, losses: list[float], inside: int) -> dict:
    counts = [0] * 20
    counts[inside] = 5
    return {
        "pooling": "linear",
        "structure": structure,
        "seed": seed,
        "best_epoch": 1 + int(np.argmin(losses)),
        "history": [{"epoch": 1 + epoch, "validation_loss": loss} for epoch, loss in enumerate(losses)],
        "frame_prob_counts": {"inside": counts, "beside": [5] * 20, "absent": [100] + [0] * 19},
    }


def test_a_training_that_still_falls_is_counted() -> None:
    flat, falling = [0.5, 0.2, 0.25, 0.198, 0.3], [0.5, 0.4, 0.43, 0.36, 0.34]
    single = [run("single", seed, losses, 3) for seed, losses in enumerate((flat, falling))]
    table = findings.trainings([*single, run("appendix", 0, [0.3, 0.3, 0.3, 0.2], 3)])
    assert table.n_still_falling.tolist() == [1, 1]
    assert table.n_runs.tolist() == [2, 1]
    expected = (1 - 0.99 ** (1 / 3) + 1 - 0.85 ** (1 / 3)) / 2
    assert table.late_gain.iloc[0] == pytest.approx(expected)
    assert np.isnan(findings.late_gain([{"validation_loss": 1.0}]))


def test_probabilities_of_an_arms_runs_are_put_together() -> None:
    table = findings.probabilities([run("single", 0, [1.0], 3), run("single", 1, [1.0], 19)])
    inside = table[table["where"] == "inside"].set_index("low").share
    assert inside[inside > 0].to_dict() == pytest.approx({0.15: 0.5, 0.95: 0.5})
    assert table.groupby("where").share.sum().to_dict() == pytest.approx({"inside": 1, "beside": 1, "absent": 1})


def test_detections_stand_beside_the_reference() -> None:
    reference = pd.DataFrame({"filename": "a", "onset": [0.0, 5.0], "offset": [0.5, 9.0], "event_label": "dog"})
    half = reference.assign(offset=[0.25, 7.0])
    table = findings.detections(reference, {("linear", "single"): [reference, half]})
    assert table.n_events.tolist() == [2, 2]
    assert table.median_length.tolist() == pytest.approx([2.25, 1.25])
    covered = table.loc[("linear", "single")].filter(like="covered").dropna()
    assert covered.to_dict() == pytest.approx({"covered (0.0, 1.0]": 0.75, "covered (3.0, inf]": 0.75})
