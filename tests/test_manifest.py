"""Counts of clips against plain loops; what a table must say about the audio that it was computed on."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from hpsed_lib.data.manifest import FLAGS, MANIFEST, coverage_by_class, coverage_line, report, typed_manifest, warning

CLASSES = ("Bus", "Car", "Train horn")
STATES = ("present", "missing", "unreadable")


def drawn_manifest() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    rows, labels = [], []
    for index in range(200):
        name, state = f"{index}.wav", str(rng.choice(STATES, p=[0.7, 0.2, 0.1]))
        flags = {flag: str(bool(rng.random() < 0.3)) if state == "present" else "" for flag in FLAGS}
        split = str(rng.choice(["training", "test"]))
        rows.append(dict.fromkeys(MANIFEST, "") | {"filename": name, "state": state, "split": split} | flags)
        labels += [{"filename": name, "event_label": label} for label in CLASSES[:2] if rng.random() < 0.5]
    return typed_manifest(pd.DataFrame(rows)), pd.DataFrame(labels)


def test_counts_are_those_of_a_plain_loop() -> None:
    manifest, labels = drawn_manifest()
    table, counts = coverage_by_class(manifest, labels, CLASSES), report(manifest)
    assert (set(counts), list(table.index)) == ({"training", "test"}, list(CLASSES))
    for split, count in counts.items():
        rows = [row for row in manifest.to_dict("records") if row["split"] == split]
        assert count["listed"] == len(rows)
        for state, name in (("present", "used"), ("missing", "missing"), ("unreadable", "unreadable")):
            assert count[name] == sum(row["state"] == state for row in rows) > 0
        for flag in FLAGS:
            assert count[flag] == sum(row[flag] for row in rows) > 0
        for label in CLASSES:
            names = set(labels.filename[labels.event_label == label])
            states = [row["state"] for row in rows if row["filename"] in names]
            assert table.loc[label, (split, "listed")] == len(states)
            assert table.loc[label, (split, "used")] == states.count("present")
    assert np.isnan(table.loc["Train horn", ("test", "share")])


def test_the_line_names_what_is_left_out_and_why() -> None:
    counts = {"training": {"listed": 51172, "used": 300, "missing": 50872, "unreadable": 0}}
    counts |= {"test": {"listed": 488, "used": 448, "missing": 37, "unreadable": 3}}
    assert coverage_line(counts) == (
        "Audio used: training 300 of 51,172 clips (50,872 missing); test 448 of 488 (37 missing, 3 unreadable)."
    )


def test_a_title_warns_of_missing_test_clips_and_of_audio_that_stands_in() -> None:
    assert warning({"test": {"listed": 5, "used": 5}}, stand_in=False) == ""
    assert re.match("STAND-IN AUDIO.*, 4 of 5 clips$", warning({"test": {"listed": 5, "used": 4}}, stand_in=True))
