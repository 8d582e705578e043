"""Label files: reading them, saying what is odd in them, and what a source of clips hands on (`Listing`).

Conventions: *weak labels* are pairs (filename, event_label), *strong labels* rows (filename, onset, offset,
event_label); times are in seconds from the clip's start. An empty label lists a clip without events. The formats are
those of `hpsed_lib.data.folder`. **Labels are never changed.** An odd row is either refused, or kept and counted: see
`TREATMENTS`. A label file is read into a table of *rows*: file, line (from 1), text (the row as it stands), kind (the
first reason to refuse it, or ""), and the row's own columns.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hpsed_lib.data.label_audit import STRONG, WEAK, label_defects
from hpsed_lib.errors import DataError
from hpsed_lib.params import ListedData

WEAK_IN_VIDEO = ["filename", "start", "end", "event_label"]  # DCASE's, without header; start and end are not used
AUDIOSET = {"# YTID": "filename", "start_seconds": "start", "end_seconds": "end", "label": "event_label"}
AUDIOSET |= {"segment_id": "filename", "start_time_seconds": "onset", "end_time_seconds": "offset"}
JOINED = ("event_labels", "positive_labels")  # DESED's and AudioSet's names of a column with labels joined by commas
ROW = ["file", "line", "text", "kind"]
REMARK = ["file", "line", "kind", "treatment", "message"]
MOST_SHOWN = 20
LATEST = 50  # clip lengths after the start: a time beyond is in another unit
MARGIN = 0.1  # s that an event may end after its recording

TREATMENTS = {
    "malformed": ("refused", "more or fewer fields than there are columns, or quotes that do not match"),
    "no_filename": ("refused", "no file name"),
    "spaces": ("refused", "file name or label that begins or ends with a space"),
    "bad_path": ("refused", "file name that is no plain path inside the audio folder, with / between folders"),
    "several_labels": ("refused", "several labels in one cell: one a row, or name it in data.classes if it is one"),
    "other_file_name": ("refused", "file name that differs from the audio file's in case or Unicode form only"),
    "no_number": ("refused", "time that is no finite number (with a decimal point, not a comma)"),
    "no_label": ("refused", "onset or offset without a label"),
    "reversed": ("refused", "onset after offset"),
    "negative": ("refused", "onset before the clip's start"),
    "other_unit": ("refused", f"time beyond {LATEST} clip lengths: milliseconds or samples? seconds are wanted"),
    "after_end": ("refused", "onset at or after the clip's end (data.clip_duration)"),
    "unknown_label": ("refused", "label that is not among the classes"),
    "two_spellings": ("refused", "label that differs from an earlier one in case, blanks or Unicode form only"),
    "two_splits": ("refused", "clip that an earlier split lists too"),
    "not_listed": ("refused", "clip with strong labels that the weak labels of its split do not list"),
    "missing_audio": ("kept", "clip without an audio file"),
    "two_files": ("kept", "clip with several audio files, of which the first is used"),
    "zero_duration": ("kept", "onset = offset: the clip has the label, but no event"),
    "past_end": ("kept", "offset after the clip's end"),
    "duplicate": ("kept", "row equal to an earlier one of its file"),
    "empty_beside_event": ("kept", "row without event of a clip that has an event in the same file"),
    "rounding": ("kept", "time a hair beside a whole millisecond, as sums of floats are: it may add a segment"),
    "overlap": ("kept", "event that begins before an earlier one of its class in its clip has ended"),
    "strong_without_weak": ("kept", "event whose class the weak labels do not name for the clip"),
    "weak_without_row": ("kept", "weak label of a clip without any strong row"),
    "shared_source": ("kept", "clip cut from a recording that an earlier split uses too"),
    "past_audio": ("kept", f"event that ends more than {MARGIN} s after its recording: it counts as it stands"),
    "same_audio": ("kept", "recording whose file equals, byte for byte, one of an earlier split"),
    "one_class": ("kept", "only one class: there is nothing to tell it from"),
    "in_every_clip": ("kept", "class that all training clips have: nothing shows what it is not"),
    "no_test_event": ("kept", "class without an event in the test clips: its scores say nothing"),
}
"""What is done with each kind of odd row, and what it is. A refused one stops the experiment; one kept counts."""


@dataclass(frozen=True)
class Listing:
    """What a source says there is, before any audio is opened.

    ``split`` is training, validation, test, or tuning: clips to choose thresholds on that are not for validation.
    ``sources`` names what the clip was cut from.
    """

    classes: tuple[str, ...]  # in the order of every array's class axis
    clips: pd.DataFrame  # columns filename, split, sources, path; in the order of the label files
    strong_labels: pd.DataFrame  # `STRONG`; of test clips, and of those to choose thresholds on where they have any
    weak_labels: pd.DataFrame  # `WEAK`; every clip's classes, none twice
    audio_folder: Path  # where the paths start; a path is "" where there is no file
    remarks: pd.DataFrame  # `REMARK`; the odd rows that are kept


def _read_records(path: Path) -> tuple[list[tuple[int, list[str], str]], str]:
    """The records of a label file (line, fields, text), and what separates fields: TABs if its first line has one.

    A malformed record has no fields, and its text says what is wrong. Of AudioSet's comments the last one, its header,
    is a record.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: label file cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected label file in UTF-8, byte {error.start} is not; save it as UTF-8") from None
    if "\0" in text:
        raise DataError(f"{path}: expected label file in UTF-8, got a binary file or another encoding")
    if not text.strip():
        raise DataError(f"{path}: label file is empty")
    first_line = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    separator = "\t" if "\t" in first_line else ","
    has_comments = text.startswith("# ")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=has_comments)
    records: list[tuple[int, list[str], str]] = []
    while True:
        line = reader.line_num + 1
        try:
            if fields := next(reader):
                records.append((line, fields, ", ".join(fields)))
        except StopIteration:
            n_comments = sum(text.startswith("# ") for _, _, text in records) if has_comments else 1
            return records[n_comments - 1 :], separator
        except csv.Error as error:
            records.append((line, [], str(error)))


def read_labels(path: Path, *, columns: Sequence[str], name: str = "") -> pd.DataFrame:
    """Read a label file into rows, and mark those to refuse whatever the classes.

    `columns` are `WEAK` or `STRONG`, and `name` is what remarks call the file, if not by its last name. Where a clip
    without events is listed, ``onset`` and ``offset`` are NaN.
    """
    records, separator = _read_records(path)
    _, header, text = records[0]
    bare = STRONG if "onset" in columns else WEAK_IN_VIDEO
    names = ["event_label" if field in JOINED else AUDIOSET.get(field, field) for field in header]
    if names == (WEAK_IN_VIDEO if header[:1] == ["# YTID"] and list(columns) == WEAK else list(columns)):
        records = records[1:]
    elif separator == "\t" and len(header) == len(bare) and header[0] != columns[0] and not _hint(header):
        names = bare
    else:
        raise DataError(
            f"{path}: expected the header {','.join(columns)} (or separated by TABs), or {' '.join(bare)} separated by "
            f"TABs without a header; its first line is {text!r}{_hint(header)}"
        )
    if not records:
        raise DataError(f"{path}: label file lists no clip")
    malformed = [len(fields) != len(names) for _, fields, _ in records]
    rows = pd.DataFrame([[name or path.name, line, text, ""] for line, _, text in records], columns=ROW)
    cells = [[""] * len(names) if bad else fields for (_, fields, _), bad in zip(records, malformed, strict=True)]
    rows[names] = pd.DataFrame(cells, dtype=str)
    rows.loc[malformed, "kind"] = "malformed"
    if header[-1] in JOINED:
        rows = rows.assign(event_label=rows.event_label.str.split(",")).explode("event_label", ignore_index=True)
    _mark_fields(rows, [column for column in names if column not in WEAK])
    if header[0] == "# YTID":  # as strong labels name it
        rows["filename"] += (1000 * rows.start).map("_{:.0f}".format)
    return rows[[*ROW, *columns]]


def _hint(header: Sequence[str]) -> str:
    """What a first line that is none of ours looks like."""
    if ";" in "".join(header[:1]):
        return "; its fields seem to be separated by ';': save it with commas or TABs, and times with a decimal point"
    if {"Selection", "Begin Time (s)"} & set(header):
        return "; this is a selection table of Raven: its file, Begin Time (s), End Time (s) and annotation are wanted"
    if len(header) == 3 and not pd.to_numeric(pd.Series(header[:2]), errors="coerce").isna().any():
        return "; this is a label track of Audacity (start, end, label): put the file's name before each of its rows"
    return ""


def _mark_fields(rows: pd.DataFrame, times: Sequence[str]) -> None:
    """Make numbers of the columns `times`, and mark the rows whose fields are to be refused."""
    mark(rows, "no_filename", rows.filename == "")
    for column in WEAK:
        mark(rows, "spaces", rows[column] != rows[column].str.strip())
    mark(rows, "bad_path", rows.filename.str.contains(r"(?:^|/)\.{0,2}(?:/|$)|\\"))
    empty = (rows[["event_label", *times]] == "").all(axis=1)
    for column in times:
        rows[column] = pd.to_numeric(rows[column], errors="coerce").astype(float)
        mark(rows, "no_number", ~np.isfinite(rows[column]) & ~empty)
    if "onset" in times:
        mark(rows, "no_label", (rows.event_label == "") & ~empty)
        mark(rows, "reversed", rows.onset > rows.offset)
        mark(rows, "negative", rows.onset < 0)


def mark_several_labels(rows: pd.DataFrame, *, classes: Sequence[str]) -> None:
    """Mark the rows of `gather` whose one label seems to be several, unless it is one of the classes."""
    labels = set(rows.event_label)

    def is_several(label: str) -> bool:
        parts = {part.strip() for part in re.split("[,;|]", label)}
        return label not in classes and bool(re.search(r"[;|]|,(?! )", label) or (len(parts) > 1 and parts <= labels))

    mark(rows, "several_labels", rows.event_label.map(is_several).astype(bool))


def folded(text: str) -> str:
    """A name without what the eye overlooks: case, Unicode form, and how many blanks there are."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def mark(rows: pd.DataFrame, kind: str, odd: pd.Series | np.ndarray) -> None:
    """Give the odd rows their kind, unless they have one."""
    rows.loc[odd & (rows.kind == ""), "kind"] = kind


def gather(weak: Mapping[str, pd.DataFrame], strong: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows of all label files, given by split, with the new columns split and labels ("weak" or "strong")."""
    tables = [rows.assign(split=split, labels="weak") for split, rows in weak.items()]
    tables += [rows.assign(split=split, labels="strong") for split, rows in strong.items()]
    return pd.concat(tables, ignore_index=True)


def _refuse_odd_rows(rows: pd.DataFrame, *, classes: Sequence[str], clip_duration: float, folder: Path) -> None:
    """Stop if any row is of a kind that is refused: the error names `MOST_SHOWN` at most."""
    mark(rows, "other_unit", rows.offset > LATEST * clip_duration)
    mark(rows, "after_end", rows.onset >= clip_duration)
    unknown = ~rows.event_label.isin([*classes, ""]) & (rows.kind == "")
    mark(rows, "unknown_label", unknown)
    for label in rows.event_label[unknown].unique():
        nearest = difflib.get_close_matches(label, classes, n=1, cutoff=0.0)
        rows.loc[unknown & (rows.event_label == label), "text"] += f" (the nearest class: {', '.join(nearest)})"
    first = rows.groupby(rows.event_label.map(folded)).event_label.transform("first")
    mark(rows, "two_spellings", rows.event_label != first)
    mark(rows, "two_splits", rows.split != rows.groupby("filename").split.transform("first"))
    refused = _remarks(rows[rows.kind != ""])
    shown = [f"{row.file}, line {row.line}: {row.message}" for row in refused[:MOST_SHOWN].itertuples()]
    if len(refused) > MOST_SHOWN:
        shown.append(f"... and {len(refused) - MOST_SHOWN} more")
    if shown:
        raise DataError("\n  ".join([f"{folder}: {len(refused)} row(s) of label files to correct or remove:", *shown]))


def draw_validation(clips: pd.DataFrame, *, share: float, seed: int) -> pd.Series:
    """The new ``split`` of `clips` (columns split and sources), some of whose training clips go to validation.

    The training clips' sources are ranked by the SHA-256 of seed and name; the first ones go, a share of all of them:
    one at least, and not the last. Neither the order of the clips nor whether their audio is there plays a part.
    """
    sources = clips.sources[clips.split == "training"].unique()
    if len(sources) < 2:
        raise DataError(f"validation_share needs two training clips from different sources, got {len(sources)}")
    ranked = sorted(sources, key=lambda source: hashlib.sha256(f"{seed} {source}".encode()).digest())
    n_drawn = min(max(round(share * len(ranked)), 1), len(ranked) - 1)
    drawn = (clips.split == "training") & clips.sources.isin(ranked[:n_drawn])
    return clips.split.mask(drawn, "validation")


def make_listing(rows: pd.DataFrame, params: ListedData, *, classes: Sequence[str], folder: Path) -> Listing:
    """List the clips and labels of `rows`: those of `gather`, with the new columns sources and files.

    ``files`` are the paths of the clip's audio files inside `folder`, of which the first is used. Without validation
    clips, these are drawn from the training clips. Rows to be refused are an error.
    """
    _refuse_odd_rows(rows, classes=classes, clip_duration=params.clip_duration, folder=folder)
    labelled = rows[rows.event_label != ""]
    strong = labelled[labelled.labels == "strong"]
    has_weak_file = labelled.split.isin(rows.split[rows.labels == "weak"])
    weak = labelled[(labelled.labels == "weak") | ~has_weak_file]
    found = [rows[rows.duplicated(["labels", "file", *STRONG])].assign(kind="duplicate")]
    has_label = (rows.event_label != "").groupby([rows.file, rows.filename]).transform("any")
    found.append(rows[(rows.event_label == "") & has_label].assign(kind="empty_beside_event"))
    beside = (strong[["onset", "offset"]] - strong[["onset", "offset"]].round(3)).abs()
    found.append(strong[((beside > 0) & (beside < 1e-6)).any(axis=1)].assign(kind="rounding"))
    named = weak[weak.split.isin(rows.split[rows.labels == "strong"])]
    listed = label_defects(strong, named, filenames=(), clip_duration=params.clip_duration)
    kinds = ("zero_duration", "overlap", "past_end", "strong_without_weak", "weak_without_row")
    found += [listed[kind].assign(kind=kind) for kind in kinds]

    clips = rows.drop_duplicates("filename").reset_index(drop=True)
    clips["path"] = [paths[0] if paths else "" for paths in clips.files]
    found.append(clips.assign(kind="missing_audio", text=clips.filename)[clips.path == ""])
    found.append(clips[clips.split != clips.groupby("sources").split.transform("first")].assign(kind="shared_source"))
    all_files = clips.filename + " as " + clips.files.str.join(", ")
    found.append(clips.assign(kind="two_files", text=all_files)[clips.files.str.len() > 1])
    if "validation" not in set(clips.split):
        clips["split"] = draw_validation(clips, share=params.validation_share, seed=params.validation_seed)
    return Listing(
        classes=tuple(classes),
        clips=clips[["filename", "split", "sources", "path"]],
        strong_labels=strong[STRONG].reset_index(drop=True),
        weak_labels=weak[WEAK].drop_duplicates(ignore_index=True),
        audio_folder=folder,
        remarks=pd.concat(map(_remarks, found), ignore_index=True),
    )


def _remarks(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that have a kind, as remarks."""
    treatment, meaning = (rows.kind.map({kind: known[n] for kind, known in TREATMENTS.items()}) for n in (0, 1))
    return rows.assign(treatment=treatment, message=meaning + ": " + rows.text)[REMARK]


def remarks_on_data(listing: Listing, manifest: pd.DataFrame) -> pd.DataFrame:
    """What only a look at all the data tells, of labels, recordings and splits (`REMARK`, belonging to no row)."""
    used = manifest[manifest.state == "present"]
    events = listing.strong_labels.merge(used[["filename", "duration", "split"]], on="filename")
    past = events[events.offset > events.duration + MARGIN][STRONG]
    found = [("past_audio", ", ".join(map(str, row))) for row in past.itertuples(index=False)]
    copies = used[used.split != used.groupby("sha256").split.transform("first")]
    found += [("same_audio", filename) for filename in copies.filename]
    training = used.filename[used.split == "training"]
    n_clips = listing.weak_labels.event_label[listing.weak_labels.filename.isin(training)].value_counts()
    found += [("one_class", label) for label in listing.classes if len(listing.classes) == 1]
    found += [("in_every_clip", label) for label in listing.classes if n_clips.get(label) == len(training)]
    tested = events.event_label[(events.split == "test") & (events.offset > events.onset)]
    found += [("no_test_event", label) for label in sorted(set(listing.classes) - set(tested))]
    return _remarks(pd.DataFrame(found, columns=["kind", "text"]).assign(file="", line=0))


def remarks_by_kind(remarks: pd.DataFrame) -> pd.DataFrame:
    """By kind of odd row: how many ``rows`` there are, their ``treatment``, and the ``first`` message."""
    kinds = remarks.groupby("kind", sort=False)
    return kinds.agg(rows=("kind", "size"), treatment=("treatment", "first"), first=("message", "first"))
