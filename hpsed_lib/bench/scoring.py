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

from hpsed_lib.bench.timing import Comparison, Work, parts_by_function
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

TINY = 60  # clips, to show that it works
N_CLIPS, N_CLASSES, N_FRAMES, CLIP_DURATION, TIME_RESOLUTION = 1103, 17, 125, 10.0, 1.0
FRAME_DURATION = CLIP_DURATION / N_FRAMES  # s
CLASSES = [f"class {index}" for index in range(N_CLASSES)]
SHAPE: dict[str, Any] = {"classes": CLASSES, "clip_duration": CLIP_DURATION, "time_resolution": TIME_RESOLUTION}
DECODING = Decoding(threshold=0.5, median_length=5, minimum_gap=0.2, minimum_duration=0.2)
THRESHOLDS = np.arange(100) / 100


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
    reference, estimated = (random_events(rng, filenames=filenames) for _ in range(2))

    def ours() -> dict:
        active = [event_activity(events, filenames=filenames, **SHAPE) for events in (reference, estimated)]
        return {"overall": segment_counts(*active), **_by_label(class_counts(*active))}

    return Comparison(
        f"segment scores of {n_clips:,} clips",
        "sed_eval",
        ours,
        _sed_eval(reference, estimated, filenames=filenames),
        _difference,
        goal=200,
        work=Work(
            operations=0,
            n_bytes=2 * n_clips * round(CLIP_DURATION / TIME_RESOLUTION) * N_CLASSES,  # both sides' activity
            threads=1,
        ),
        parts=lambda: parts_by_function(ours),
    )


def threshold_search(*, tiny: bool) -> Comparison:
    """Counts at 100 thresholds, for all classes together, against decoding and sed_eval at each of them.

    One of the 100 stands for all of sed_eval's side.
    """
    n_clips = TINY if tiny else N_CLIPS
    rng = np.random.default_rng(1)
    filenames = [f"{index}.wav" for index in range(n_clips)]
    reference = random_events(rng, filenames=filenames)
    sounding = event_activity(
        random_events(rng, filenames=filenames),
        filenames=filenames,
        classes=CLASSES,
        clip_duration=CLIP_DURATION,
        time_resolution=FRAME_DURATION,
    )
    frame_prob = 0.4 * sounding.astype(np.float32) + 0.6 * rng.random(sounding.shape, dtype=np.float32)
    reference_activity = event_activity(reference, filenames=filenames, **SHAPE)
    place = THRESHOLDS.tolist().index(DECODING.threshold)

    def ours() -> dict:
        graded = smooth(frame_prob, params=DECODING, frame_duration=FRAME_DURATION)
        score = segment_activity(
            graded,
            frame_duration=FRAME_DURATION,
            n_segments=reference_activity.shape[1],
            time_resolution=TIME_RESOLUTION,
        )
        curve = threshold_curve(score, reference_activity, thresholds=THRESHOLDS)
        overall = {name: int(curve[name].iloc[place]) for name in ("Nref", "Nsys", "Ntp", "Nfp", "Nfn", "S", "D", "I")}
        return {"overall": overall}

    def theirs() -> dict[str, dict]:
        active = decode(frame_prob, threshold=THRESHOLDS[place], params=DECODING, frame_duration=FRAME_DURATION)
        estimated = to_events(active, filenames=filenames, classes=CLASSES, frame_duration=FRAME_DURATION)
        return _sed_eval(reference, estimated, filenames=filenames)()

    return Comparison(
        f"counts at {len(THRESHOLDS)} thresholds, from frame probabilities of {n_clips:,} clips",
        f"decoding and sed_eval at each (1 of {len(THRESHOLDS)} timed)",
        ours,
        theirs,
        _difference,
        goal=10_000,
        work=Work(operations=0, n_bytes=frame_prob.nbytes, threads=1),
        parts=lambda: parts_by_function(ours),
        scale=len(THRESHOLDS),
    )


def _by_label(counts: dict[str, np.ndarray]) -> dict[str, dict[str, int]]:
    """Counts of each class, by its label."""
    return {label: {name: int(count[index]) for name, count in counts.items()} for index, label in enumerate(CLASSES)}


def _sed_eval(
    reference: pd.DataFrame, estimated: pd.DataFrame, *, filenames: Sequence[str]
) -> Callable[[], dict[str, dict]]:
    """sed_eval's counts of two event lists, which are grouped here, in the form that suits it."""
    groups = [events_by_file(events) for events in (reference, estimated)]
    clips = [(groups[0].get(name, []), groups[1].get(name, [])) for name in filenames]

    def theirs() -> dict[str, dict]:
        metrics = evaluate_by_sed_eval(clips, **SHAPE)
        return {"overall": metrics.overall, **metrics.class_wise}

    return theirs


def _difference(ours: dict[str, dict], theirs: dict[str, dict]) -> str:
    """The first counts that both have and that differ; nothing if there are none."""
    for scope, counts in ours.items():
        expected = {name: theirs[scope][name] for name in counts}
        if counts != expected:
            return f"{scope}: {counts} against {expected}"
    return ""
