"""Soundscapes: exact labels, the level asked for, companions, and splits that share no sound."""

import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsed_lib.data.soundscapes import COMPANIONS, Event, Sound, merge_overlaps, mix
from hpsed_lib.data.synthesis import CLASSES
from hpsed_lib.params import load_experiment

SR = 16000


def mixed(
    seed: int, *, classes: tuple[str, ...] = ("low", "high"), **changes: object
) -> tuple[np.ndarray, list[Event], list[str]]:
    """One soundscape of tones of 1 s, the class "low" at 500 Hz."""

    def draw(label: str, _: np.random.Generator) -> Sound:
        tone = librosa.tone(500 if label == "low" else 4000, sr=SR, duration=1.0)
        return tone.astype(np.float32), f"source of {label}"

    params = load_experiment("quick").data.model_copy(update={"n_events": (1, 1), "cooccurrence": 0.0, **changes})
    return mix(params, draw, classes=classes, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("snr", [0.0, 10.0, 20.0, 30.0])
def test_labels_are_where_the_sound_is_at_the_ratio_asked_for(snr):
    ratios = []
    for seed in range(20):
        y, [(onset, offset, label)], sources = mixed(seed, snr=(snr, snr))
        assert sources == [f"source of {label}"]
        assert offset - onset == pytest.approx(1.0)
        assert 0 <= onset < offset <= 10
        inside = np.zeros(y.size, bool)
        inside[round(onset * SR) : round(offset * SR)] = True
        power = y.astype(float) ** 2
        ratios.append(10 * np.log10(power[inside].mean() / power[~inside].mean() - 1))
    assert np.median(ratios) == pytest.approx(snr, abs=0.5)
    assert snr == 0 or min(ratios) > snr - 1.5  # so weak an event is measured beside a background that wanders itself


def test_no_event_is_background_alone():
    drawn = [mixed(seed, n_events=(0, 1)) for seed in range(10)]
    assert {len(events) for _, events, _ in drawn} == {0, 1}
    assert all(np.isfinite(y).all() and np.abs(y).max() <= 0.91 for y, _, _ in drawn)


def test_companions_sound_at_the_same_time():
    label, companion = next(iter(COMPANIONS.items()))
    _, events, _ = mixed(0, classes=(label,), cooccurrence=1.0)
    assert {event[2] for event in events} == {label, companion}
    assert max(event[0] for event in events) < min(event[1] for event in events)
    assert set(COMPANIONS) | set(COMPANIONS.values()) <= set(CLASSES)


@given(st.lists(st.tuples(st.integers(0, 80), st.integers(1, 20), st.sampled_from("ab")), max_size=8))
def test_merging_keeps_exactly_the_active_time(drawn):
    events = [(float(onset), float(onset + duration), label) for onset, duration, label in drawn]
    before, after = (
        [(second, label) for onset, offset, label in each for second in np.arange(onset, offset)]
        for each in (events, merge_overlaps(events))
    )
    assert sorted(after) == sorted(set(before))
