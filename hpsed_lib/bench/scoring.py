"""Benchmarks of the segment scores: our counts beside sed_eval's.

Conventions: both sides get the same clips, prepared before the clock starts, in the form that suits each: data frames
and arrays for ours, dictionaries grouped by clip for sed_eval. The clips are as many and as long as those of the
evaluation set of DCASE 2017 Task 4, with as many classes and two events a clip, at random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hpsed_lib.bench.timing import Comparison, Work
from hpsed_lib.decoding import decode, smooth, to_events
from hpsed_lib.params import Decoding
from hpsed_lib.scoring import (
    class_counts,
    evaluate_by_sed_eval,
    event_activity,
    events_by_file,
    segment_activity,
    segment_counts,
    threshold_curve,
)

N_CLIPS, TINY = 1103, 60
N_CLASSES, N_FRAMES, N_SEGMENTS, CLIP_DURATION, TIME_RESOLUTION = 17, 125, 10, 10.0, 1.0
FRAME_DURATION = CLIP_DURATION / N_FRAMES  # s
CLASSES = [f"class {index}" for index in range(N_CLASSES)]
SHAPE: dict[str, Any] = {"classes": CLASSES, "clip_duration": CLIP_DURATION}
DECODING = Decoding(threshold=0.5, median_length=5, minimum_gap=0.2, minimum_duration=0.2)
THRESHOLD = 0.5  # of them, at which both sides are compared
THRESHOLDS = np.arange(100) / 100
COUNTS = ["Nref", "Nsys", "Ntp", "Nfp", "Nfn", "S", "D", "I"]

Counts = dict[str, dict[str, int]]  # by scope, "overall" or a class, and name


def random_events(rng: np.random.Generator, *, filenames: Sequence[str]) -> pd.DataFrame:
    """Two events a clip on average, up to 5 s long, of random classes."""
    n_events = 2 * len(filenames)
    onset = rng.uniform(0, CLIP_DURATION, n_events)
    return pd.DataFrame(
        {
            "filename": rng.choice(filenames, n_events),
            "onset": onset,
            "offset": np.minimum(onset + rng.uniform(0.3, 5, n_events), CLIP_DURATION),
            "event_label": rng.choice(CLASSES, n_events),
        }
    )


def segment_scores(*, tiny: bool) -> Comparison:
    """Counts of two event lists, overall and by class."""
    n_clips = TINY if tiny else N_CLIPS
    rng = np.random.default_rng(0)
    filenames = [f"{index}.wav" for index in range(n_clips)]
    lists = [random_events(rng, filenames=filenames) for _ in range(2)]

    def ours() -> Counts:
        active = [
            event_activity(events, filenames=filenames, time_resolution=TIME_RESOLUTION, **SHAPE) for events in lists
        ]
        by_class = pd.DataFrame(class_counts(*active), index=CLASSES)
        return {"overall": segment_counts(*active), **by_class.to_dict("index")}

    return Comparison(
        f"segment scores of {n_clips:,} clips",
        "sed_eval",
        ours,
        _sed_eval(*lists, filenames=filenames),
        _agree,
        goal=200,
        work=Work(n_bytes=2 * n_clips * N_SEGMENTS * N_CLASSES),  # both sides' activity
    )


def threshold_search(*, tiny: bool) -> Comparison:
    """Counts at 100 thresholds, for all classes together, against decoding and sed_eval at one of them, times 100."""
    n_clips = TINY if tiny else N_CLIPS
    rng = np.random.default_rng(1)
    filenames = [f"{index}.wav" for index in range(n_clips)]
    reference, sounding = (random_events(rng, filenames=filenames) for _ in range(2))
    active = event_activity(sounding, filenames=filenames, time_resolution=FRAME_DURATION, **SHAPE)
    frame_prob = 0.4 * active.astype(np.float32) + 0.6 * rng.random(active.shape, dtype=np.float32)
    reference_activity = event_activity(reference, filenames=filenames, time_resolution=TIME_RESOLUTION, **SHAPE)

    def ours() -> Counts:
        graded = smooth(frame_prob, params=DECODING, frame_duration=FRAME_DURATION)
        score = segment_activity(
            graded, frame_duration=FRAME_DURATION, n_segments=N_SEGMENTS, time_resolution=TIME_RESOLUTION
        )
        curve = threshold_curve(score, reference_activity, thresholds=THRESHOLDS).set_index("threshold")
        return {"overall": curve.loc[THRESHOLD, COUNTS].to_dict()}

    def theirs() -> Counts:
        active = decode(frame_prob, threshold=THRESHOLD, params=DECODING, frame_duration=FRAME_DURATION)
        estimated = to_events(active, filenames=filenames, classes=CLASSES, frame_duration=FRAME_DURATION)
        return _sed_eval(reference, estimated, filenames=filenames)()

    return Comparison(
        f"counts at {len(THRESHOLDS)} thresholds, from frame probabilities of {n_clips:,} clips",
        f"decoding and sed_eval at each (1 of {len(THRESHOLDS)} timed)",
        ours,
        theirs,
        _agree,
        goal=10_000,
        work=Work(n_bytes=frame_prob.nbytes),
        scale=len(THRESHOLDS),
    )


def _sed_eval(reference: pd.DataFrame, estimated: pd.DataFrame, *, filenames: Sequence[str]) -> Callable[[], Counts]:
    """sed_eval's counts of two event lists, which are grouped here, in the form that suits it."""
    groups = [events_by_file(events) for events in (reference, estimated)]
    clips = [(groups[0].get(name, []), groups[1].get(name, [])) for name in filenames]

    def theirs() -> Counts:
        metrics = evaluate_by_sed_eval(clips, time_resolution=TIME_RESOLUTION, **SHAPE)
        return {"overall": metrics.overall, **metrics.class_wise}

    return theirs


def _agree(ours: Counts, theirs: Counts) -> bool:
    """Every count of ours is theirs; they have more."""
    return all(count == theirs[scope][name] for scope, counts in ours.items() for name, count in counts.items())
