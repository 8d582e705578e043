"""How long our counts take beside sed_eval's: ``python -m hpsed_lib.bench``, or ``make bench``.

Conventions: both sides of a comparison get the same clips, prepared before the clock starts, in the form that suits
each: data frames and arrays for ours, dictionaries grouped by clip for sed_eval. They must agree on every count before
anything is timed. Then they run in turn, the first of one pair last in the next, so that a machine that grows slower or
faster meets both alike; each pair gives one ratio.

The clips are as many and as long as those of the evaluation set of DCASE 2017 Task 4, with as many classes and two
events a clip, at random.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from hpsed_lib import provenance
from hpsed_lib.decoding import decode, smooth, to_events
from hpsed_lib.errors import HpsedError, ParameterError
from hpsed_lib.params import Decoding
from hpsed_lib.paths import replacing, results_folder
from hpsed_lib.scoring import (
    class_counts,
    class_threshold_counts,
    evaluate_by_sed_eval,
    event_activity,
    segment_activity,
    segment_counts,
    threshold_curve,
)

N_CLIPS, N_CLASSES, N_FRAMES, CLIP_DURATION, TIME_RESOLUTION = 1103, 17, 125, 10.0, 1.0
FRAME_DURATION = CLIP_DURATION / N_FRAMES  # s
CLASSES = [f"class {index}" for index in range(N_CLASSES)]
SHAPE: dict[str, Any] = {"classes": CLASSES, "clip_duration": CLIP_DURATION, "time_resolution": TIME_RESOLUTION}
DECODING = Decoding(threshold=0.5, median_length=5, minimum_gap=0.2, minimum_duration=0.2)
THRESHOLDS = np.arange(100) / 100


class Comparison(NamedTuple):
    """Two ways to the same counts, as functions to be timed."""

    task: str
    peer: str  # what stands beside ours
    ours: Callable[[], dict]
    theirs: Callable[[], dict]


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


def segment_scores(n_clips: int) -> Comparison:
    """Counts of two event lists, overall and by class."""
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
    )


def threshold_sweep(n_clips: int) -> Comparison:
    """Counts at 100 thresholds from frame probabilities, against sed_eval's at a single one."""
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
        by_class = class_threshold_counts(score, reference_activity, thresholds=THRESHOLDS)
        overall = {name: int(curve[name].iloc[place]) for name in ("Nref", "Nsys", "Ntp", "Nfp", "Nfn", "S", "D", "I")}
        return {"overall": overall, **_by_label({name: count[place] for name, count in by_class.items()})}

    active = decode(frame_prob, threshold=THRESHOLDS[place], params=DECODING, frame_duration=FRAME_DURATION)
    estimated = to_events(active, filenames=filenames, classes=CLASSES, frame_duration=FRAME_DURATION)
    return Comparison(
        f"{len(THRESHOLDS)} thresholds, from the frame probabilities of {n_clips:,} clips",
        "sed_eval, one threshold, from events",
        ours,
        _sed_eval(reference, estimated, filenames=filenames),
    )


COMPARISONS = {"segment_scores": segment_scores, "threshold_sweep": threshold_sweep}


def _by_label(counts: dict[str, np.ndarray]) -> dict[str, dict[str, int]]:
    """Counts of each class, by its label."""
    return {label: {name: int(count[index]) for name, count in counts.items()} for index, label in enumerate(CLASSES)}


def _sed_eval(
    reference: pd.DataFrame, estimated: pd.DataFrame, *, filenames: Sequence[str]
) -> Callable[[], dict[str, dict]]:
    """sed_eval's counts of two event lists, which are grouped here and not when it is timed."""
    groups = [
        {name: group.to_dict("records") for name, group in events.groupby("filename")}
        for events in (reference, estimated)
    ]
    clips = [(groups[0].get(name, []), groups[1].get(name, [])) for name in filenames]

    def theirs() -> dict[str, dict]:
        metrics = evaluate_by_sed_eval(clips, **SHAPE)
        return {"overall": metrics.overall, **metrics.class_wise}

    return theirs


def require_agreement(comparison: Comparison) -> None:
    """Refuse to time what does not count the same.

    Raises
    ------
    HpsedError
        A count that both have differs.
    """
    ours, theirs = comparison.ours(), comparison.theirs()
    for scope, counts in ours.items():
        expected = {name: theirs[scope][name] for name in counts}
        if counts != expected:
            raise HpsedError(f"{comparison.task}, {scope}: {counts} against {expected} ({comparison.peer})")


def time_pairs(comparison: Comparison, *, n_pairs: int) -> pd.DataFrame:
    """Time both sides in turn.

    Parameters
    ----------
    comparison : Comparison
    n_pairs : int
        At least 5: fewer say nothing about the spread.

    Returns
    -------
    DataFrame with columns task, peer, pair, ours, theirs, ratio
        Seconds; ``ratio = theirs / ours``.
    """
    if n_pairs < 5:
        raise ParameterError(f"n_pairs must be 5 or more, got {n_pairs}")
    require_agreement(comparison)  # both have run once before the clock starts
    rows = []
    for pair in range(n_pairs):
        seconds = {}
        for side in ("ours", "theirs") if pair % 2 == 0 else ("theirs", "ours"):
            start = time.perf_counter()
            getattr(comparison, side)()
            seconds[side] = time.perf_counter() - start
        rows.append({"task": comparison.task, "peer": comparison.peer, "pair": pair, **seconds})
    return pd.DataFrame(rows).assign(ratio=lambda pairs: pairs.theirs / pairs.ours)


def summarise(pairs: pd.DataFrame) -> pd.DataFrame:
    """Median times in ms, and median, smallest and largest ratio, of each comparison."""
    return (
        pairs.groupby(["task", "peer"], sort=False)
        .agg(
            pairs=("pair", "size"),
            ours=("ours", "median"),
            theirs=("theirs", "median"),
            ratio=("ratio", "median"),
            smallest=("ratio", "min"),
            largest=("ratio", "max"),
        )
        .reset_index()
        .assign(ours=lambda table: 1000 * table.ours, theirs=lambda table: 1000 * table.theirs)
        .rename(columns={"ours": "ours (ms)", "theirs": "theirs (ms)"})
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m hpsed_lib.bench", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--tiny", action="store_true", help="60 clips instead of 1,103: shows that it works, not how fast"
    )
    parser.add_argument("--pairs", type=int, default=7, help="times that both sides run (default: 7)")
    parser.add_argument("--output", type=Path, help="folder of the two files (default: results/bench)")
    options = parser.parse_args(arguments)
    n_clips = 60 if options.tiny else N_CLIPS
    pairs = pd.concat([time_pairs(make(n_clips), n_pairs=options.pairs) for make in COMPARISONS.values()])

    machine = provenance.describe_device(torch.device("cpu"))
    versions = provenance.versions()
    made_by = ", ".join(f"{name} {versions[name]}" for name in ("python", "numpy", "pandas", "scipy", "sed_eval"))
    text = (
        f"{summarise(pairs).to_markdown(index=False, floatfmt='.3g')}\n\n"
        f"Ratio: theirs / ours, of runs in turn; median, smallest and largest pair. {N_CLASSES} classes, clips of "
        f"{CLIP_DURATION:g} s, segments of {TIME_RESOLUTION:g} s.\n"
        f"{machine['device_name']}; {made_by}; commit {provenance.commit()}.\n"
    )
    folder = options.output or results_folder("bench")
    for name, content in (("scoring.csv", pairs.to_csv(index=False, float_format="%.6g")), ("scoring.md", text)):
        with replacing(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
