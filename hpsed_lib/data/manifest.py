"""What became of every clip: which audio is there, which is not, and what each class has left of it.

Conventions: a manifest has one row per clip that the label files list, with the columns of `MANIFEST` and ``split``. A
clip is *used* if its state is ``present``; every table of results says how many are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

UNUSED = {
    "missing": ("no audio file", "takes no part in anything"),
    "unreadable": ("no decoder reads it, or no sample in it, or values not finite", "takes no part in anything"),
}
FLAGS = {
    "truncated": ("ends before its header says, is damaged from there on, or its header is unfinished", "read so far"),
    "silent": ("peak under 1/10,000 of full scale", "kept as it is"),
    "constant": ("not silent, but no sample differs from another (a DC voltage)", "kept as it is"),
    "dc_offset": ("mean of a channel above 1/100 of full scale", "kept as it is"),
    "above_full_scale": ("samples beyond -1 to 1: another scale, or a lossy decoder's overshoot", "kept as it is"),
    "cancelled": ("channels of opposite sign: their mean has under 1/100 of their power", "averaged all the same"),
    "resampled": ("another sample rate than data.sample_rate", "resampled"),
    "mixed_down": ("several channels", "averaged"),
    "padded": ("shorter than data.clip_duration", "silence added at its end"),
    "cut": ("longer than data.clip_duration", "its end cut off"),
}
"""States of clips that are not used, and flags of `hpsed_lib.data.audio.Audio`: what each is, and what was done."""
MANIFEST = {
    "filename": str,
    "state": str,  # present, missing (no file) or unreadable
    "duration": float,  # s, as it lies in the file, like the next two
    "sample_rate": float,  # Hz
    "sha256": str,
    **dict.fromkeys(FLAGS, bool),
    "reason": str,  # why it is unreadable
    "n_bytes": int,
    "modified": int,  # ns since the epoch
}
"""Columns of a manifest: every clip, and what became of it."""


def typed_manifest(manifest: pd.DataFrame) -> pd.DataFrame:
    """A manifest of text with the types of `MANIFEST`; what a clip without a recording lacks is NaN, False or 0."""
    typed = manifest.copy()
    for name, kind in MANIFEST.items():
        if kind is bool:
            typed[name] = typed[name].astype(str) == "True"
        elif kind is not str:
            typed[name] = pd.to_numeric(typed[name].replace("", "0" if kind is int else None)).astype(kind)
    return typed


def report(manifest: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Count, in each split, the clips listed, used and `UNUSED`, and those used that have each of `FLAGS`."""
    counts = {}
    for split, clips in manifest.groupby("split", sort=False):
        used = clips[clips.state == "present"]
        unused = {state: int((clips.state == state).sum()) for state in UNUSED}
        flags = {flag: int(used[flag].sum()) for flag in FLAGS}
        counts[str(split)] = {"listed": len(clips), "used": len(used)} | unused | flags
    return counts


def what_was_done(counts: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """A table of `UNUSED` and `FLAGS`: how many clips of each split each one holds for (from `report`)."""
    table = pd.DataFrame.from_dict(UNUSED | FLAGS, orient="index", columns=["what it is", "what was done"])
    return pd.DataFrame(counts).reindex(table.index).join(table)


def coverage_by_class(manifest: pd.DataFrame, weak_labels: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Clips of each class: columns (split, "listed"), (split, "used"), (split, "share"); NaN where none is listed."""
    labels = weak_labels.merge(manifest[["filename", "split", "state"]], on="filename")
    table: dict[tuple[str, str], pd.Series] = {}
    for split in manifest.split.unique():
        of_split = labels[labels.split == split]
        listed = of_split.event_label.value_counts().reindex(classes, fill_value=0)
        used = of_split.event_label[of_split.state == "present"].value_counts().reindex(classes, fill_value=0)
        table |= {(split, "listed"): listed, (split, "used"): used, (split, "share"): used / listed.where(listed > 0)}
    return pd.DataFrame(table, index=pd.Index(classes, name="event_label"))


def coverage_line(counts: Mapping[str, Mapping[str, int]]) -> str:
    """The line that stands with every table of results.

    >>> coverage_line({"training": {"listed": 1200, "used": 1200, "missing": 0, "unreadable": 0}})
    'Audio used: training 1,200 of 1,200 clips.'
    """
    parts: list[str] = []
    for split, count in counts.items():
        why = ", ".join(f"{count[state]:,} {state}" for state in UNUSED if count[state])
        unit = "" if parts else " clips"
        parts.append(f"{split} {count['used']:,} of {count['listed']:,}{unit}" + (f" ({why})" if why else ""))
    return f"Audio used: {'; '.join(parts)}."


def warning(counts: Mapping[str, Mapping[str, int]], *, stand_in: bool) -> str:
    """What must stand in the title of every table computed on these clips; nothing if all is as it should be.

    >>> warning({"test": {"listed": 488, "used": 448}}, stand_in=False)
    'INCOMPLETE TEST SET, 448 of 488 clips'
    """
    parts = ["STAND-IN AUDIO, no recordings: these numbers mean nothing"] if stand_in else []
    test = counts["test"]
    if test["used"] < test["listed"]:
        parts.append(f"INCOMPLETE TEST SET, {test['used']:,} of {test['listed']:,} clips")
    return "; ".join(parts)
