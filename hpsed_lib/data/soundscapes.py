"""Soundscapes with exact labels: events mixed over coloured background noise at drawn signal-to-noise ratios.

Conventions: a soundscape is a mono WAV of ``clip_duration`` seconds. Strong labels (times in seconds from the clip's
start) are exact, because we placed the events; overlapping events of one class are one. Weak labels follow from them.
Every draw comes from a generator seeded with (seed, split, clip): a clip is the same whatever was made before it.
Splits share no source sound: synthetic events are drawn anew for each clip, recorded ones come from the folds of their
split. The clip table names what each is made from (a seed, a Freesound recording), so that a shared one would show.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import delayed

from hpsed_lib.data import synthesis
from hpsed_lib.data.audio import write_audio
from hpsed_lib.data.label_audit import STRONG, WEAK
from hpsed_lib.data.labels import REMARK, Listing
from hpsed_lib.data.recordings import Recording, cut_event
from hpsed_lib.errors import DataError
from hpsed_lib.params import SPLITS, RecordedData, Soundscapes, SyntheticData
from hpsed_lib.paths import replacing
from hpsed_lib.progress import in_parallel

COMPANIONS = {label: companion for label, (_, _, companion) in synthesis.SOUND_MODELS.items() if companion}


Event = tuple[float, float, str]  # onset, offset, event_label
Sound = tuple[np.ndarray, str]  # a waveform, and a name for where it came from


def synthetic_event(event_label: str, rng: np.random.Generator, *, params: SyntheticData) -> Sound:
    """An event from the sound model of its class, named by the seed it is made from."""
    _, typical, _ = synthesis.SOUND_MODELS[event_label]
    low, high = np.clip(typical, *params.event_duration)
    seed = int(rng.integers(2**63))
    own_rng = np.random.default_rng(seed)
    y = synthesis.synthesize(event_label, duration=own_rng.uniform(low, high), sr=params.sample_rate, rng=own_rng)
    return y, f"{seed:016x}"


def recorded_event(
    event_label: str, rng: np.random.Generator, *, params: RecordedData, recordings: list[Recording], split: str
) -> Sound:
    """An event cut from a recording of its class in the split's folds.

    Drawn is a source, then one of the files cut from it: every source counts alike, however many files it has.
    """
    folds = params.folds[split]
    candidates = [one for one in recordings if one.event_label == event_label and one.fold in folds]
    place = {source: rng.random() for source in sorted({one.source for one in candidates})}
    shuffled = [candidates[index] for index in rng.permutation(len(candidates))]
    for recording in sorted(shuffled, key=lambda one: place[one.source]):
        y = cut_event(recording, duration=params.event_duration, sr=params.sample_rate, rng=rng)
        if y is not None:
            return y, recording.source
    raise DataError(
        f"no recording of {event_label!r} in folds {list(folds)} has an event of {params.event_duration[0]} s or more"
    )


def merge_overlaps(events: list[Event]) -> list[Event]:
    """Unite events of one class that overlap or touch, ordered by onset.

    >>> merge_overlaps([(3.0, 4.0, "a"), (0.0, 2.0, "a"), (1.0, 2.5, "a"), (1.0, 2.0, "b")])
    [(0.0, 2.5, 'a'), (1.0, 2.0, 'b'), (3.0, 4.0, 'a')]
    """
    merged: list[Event] = []
    for onset, offset, label in sorted(events, key=lambda event: (event[2], event[0])):
        if merged and merged[-1][2] == label and onset <= merged[-1][1]:
            onset, earlier, _ = merged.pop()
            offset = max(offset, earlier)
        merged.append((onset, offset, label))
    return sorted(merged)


def mix(
    params: Soundscapes,
    draw_event: Callable[[str, np.random.Generator], Sound],
    *,
    classes: tuple[str, ...],
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[Event], list[str]]:
    """Make one soundscape: ``y``, its peak at 0.9 at most, its events, of all classes alike, and their sources."""
    sr = params.sample_rate
    n_samples = round(params.clip_duration * sr)
    y = synthesis.colored_noise(n_samples, exponent=rng.uniform(*params.background_exponent), rng=rng)
    events, sources = [], []
    n_events = rng.integers(*params.n_events, endpoint=True)
    for label in rng.choice(classes, size=n_events).tolist():
        sound, source = draw_event(label, rng)
        length = min(len(sound), n_samples)
        start = int(rng.integers(n_samples - length + 1))
        placed = [(label, sound, source, start)]
        companion = COMPANIONS.get(label)
        if isinstance(params, SyntheticData) and companion and rng.random() < params.cooccurrence:
            sound, source = draw_event(companion, rng)
            latest = n_samples - min(len(sound), n_samples)
            placed.append((companion, sound, source, min(int(rng.integers(start, start + length)), latest)))
        for name, sound, source, begin in placed:
            piece = sound[: n_samples - begin]
            level = 10 ** (rng.uniform(*params.snr) / 20)  # the background's RMS is 1
            y[begin : begin + len(piece)] += piece * (level / (np.sqrt(np.mean(piece**2)) + 1e-9))
            events.append((begin / sr, (begin + len(piece)) / sr, name))
            sources.append(source)
    # A drawn loudness for the whole clip, so that level says nothing about content.
    y *= rng.uniform(0.2, 0.9) / np.abs(y).max()
    return y, merge_overlaps(events), sources


def _make_clip(
    params: SyntheticData | RecordedData,
    recordings: list[Recording],
    classes: tuple[str, ...],
    split: str,
    index: int,
    folder: Path,
) -> tuple[dict[str, str], list[tuple[str, float, float, str]]]:
    """Make one clip, write its WAV, return its rows of the clip table and of the strong labels."""
    rng = np.random.default_rng([params.seed, SPLITS.index(split), index])
    if isinstance(params, SyntheticData):
        draw_event = partial(synthetic_event, params=params)
    else:
        draw_event = partial(recorded_event, params=params, recordings=recordings, split=split)
    y, events, sources = mix(params, draw_event, classes=classes, rng=rng)
    filename = f"{split}/{index:05d}.wav"
    audio = io.BytesIO()
    write_audio(audio, y, sr=params.sample_rate)
    path = folder / filename
    if not path.is_file() or path.read_bytes() != audio.getvalue():  # else its features need not be made again
        with replacing(path) as temporary:
            temporary.write_bytes(audio.getvalue())
    clip = {"filename": filename, "split": split, "sources": "\t".join(sources), "path": filename}
    return clip, [(filename, *event) for event in events]


def make_soundscapes(params: SyntheticData | RecordedData, *, recordings: list[Recording], folder: Path) -> Listing:
    """Make every soundscape of an experiment, in parallel, as ``<split>/<number>.wav`` in a folder.

    Events are cut from the recordings, whose labels are then the classes; there are none for synthetic data.
    """
    classes = tuple(sorted({recording.event_label for recording in recordings})) or synthesis.CLASSES
    calls = [
        delayed(_make_clip)(params, recordings, classes, split, index, folder)
        for split in SPLITS
        for index in range(getattr(params.n_clips, split))
    ]
    rows = list(in_parallel(calls, total=len(calls), description="soundscapes", batch_size=8))
    strong = pd.DataFrame([label for _, labels in rows for label in labels], columns=STRONG)
    return Listing(
        classes=classes,
        clips=pd.DataFrame([clip for clip, _ in rows]),
        strong_labels=strong,
        weak_labels=strong[WEAK].drop_duplicates(),
        audio_folder=folder,
        remarks=pd.DataFrame(columns=REMARK),
    )
