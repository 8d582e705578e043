"""Benchmark of the segment scores: our counts beside sed_eval's.

Conventions: both sides get the same clips, prepared before the clock starts, in the form that suits each: data frames
for ours, dictionaries grouped by clip for sed_eval. The clips are as many and as long as those of the evaluation set of
DCASE 2017 Task 4, with as many classes and two events a clip, at random.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hpsed_lib.bench.timing import Comparison
from hpsed_lib.scoring import class_counts, evaluate_by_sed_eval, event_activity, events_by_file, segment_counts

CLASSES = [f"class {index}" for index in range(17)]
SHAPE: dict[str, Any] = {"classes": CLASSES, "clip_duration": 10.0, "time_resolution": 1.0}

Counts = dict[str, dict[str, int]]  # by scope, "overall" or a class, and name


def segment_scores(*, tiny: bool) -> Comparison:
    """Counts of two event lists, overall and by class."""
    rng = np.random.default_rng(0)
    filenames = [f"{index}.wav" for index in range(60 if tiny else 1103)]
    lists = [_random_events(rng, filenames) for _ in range(2)]
    groups = [events_by_file(events) for events in lists]
    clips = [(groups[0].get(name, []), groups[1].get(name, [])) for name in filenames]

    def ours() -> Counts:
        active = [event_activity(events, filenames=filenames, **SHAPE) for events in lists]
        by_class = pd.DataFrame(class_counts(*active), index=CLASSES)
        return {"overall": segment_counts(*active), **by_class.to_dict("index")}

    def theirs() -> Counts:
        metrics = evaluate_by_sed_eval(clips, **SHAPE)
        return {"overall": metrics.overall, **metrics.class_wise}

    def agree(ours: Counts, theirs: Counts) -> bool:  # theirs has more counts
        return all(count == theirs[scope][name] for scope, counts in ours.items() for name, count in counts.items())

    return Comparison(
        f"segment scores of {len(filenames):,} clips",
        "sed_eval",
        ours,
        theirs,
        agree,
        goal=200,
        n_bytes=2 * len(filenames) * 10 * len(CLASSES),  # both sides' activity, in segments of 1 s
    )


def _random_events(rng: np.random.Generator, filenames: list[str]) -> pd.DataFrame:
    """Two events a clip on average, up to 5 s long, of random classes."""
    n_events = 2 * len(filenames)
    events = pd.DataFrame({"onset": rng.uniform(0, 10, n_events), "filename": rng.choice(filenames, n_events)})
    events["offset"] = (events.onset + rng.uniform(0.3, 5, n_events)).clip(upper=10.0)
    return events.assign(event_label=rng.choice(CLASSES, n_events))
