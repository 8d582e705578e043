"""Anyone's data: a folder with audio files and label files.

Label files are text in UTF-8, separated by commas or TABs, and their first line is the header:

- weak labels: ``filename,event_label``; one label a row, so a clip with two classes has two rows;
- strong labels: ``filename,onset,offset,event_label``; one event a row, times in seconds from the clip's start.

DCASE's own files are read as they are: separated by TABs, without a header; for weak labels these are filename, start
and end of the clip in its video (not used), and label. A clip without events has one row with its file name and nothing
else (``silence.wav,`` or ``silence.wav,,,``). File names start at the audio folder, with ``/`` between folders, and
include the extension. A label with a comma stands in double quotes where commas separate.

Training and validation clips are those of the weak label files, test clips those of the strong one, whose events are
also their weak labels. Strong labels of the validation clips are there to choose thresholds on. What is odd is refused
or remarked on: see `hpsed_lib.data.labels.TREATMENTS`.
"""

from __future__ import annotations

import os
from pathlib import Path

from hpsed_lib.data.label_audit import STRONG, WEAK
from hpsed_lib.data.labels import Listing, draw_validation, gather, make_listing, mark, read_labels, refuse_odd_rows
from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.params import FolderData


def list_folder(params: FolderData, *, folder: Path) -> Listing:
    """List the clips and labels of a folder; a clip's source is its file name.

    Without a label file of validation clips, these are drawn from the training clips (`draw_validation`). Without
    classes, they are the labels of the training clips, sorted.
    """
    audio_folder = folder / params.audio
    for needed in (folder, audio_folder):
        if not needed.is_dir():
            raise DataError(f"{needed}: no such folder; expected one with audio files and label files")
    weak, strong = (
        {split: read_labels(folder / name, columns=columns, name=name) for split, name in files if name}
        for files, columns in ((params.weak_labels, WEAK), (params.strong_labels, STRONG))
    )
    if "validation" in strong:
        mark(strong["validation"], "not_listed", ~strong["validation"].filename.isin(weak["validation"].filename))

    training = weak["training"]
    classes = params.classes or tuple(sorted(set(training.event_label[training.kind == ""]) - {""}))
    if not classes:
        raise DataError(
            f"{folder / params.weak_labels.training}: no training clip has a label, so there are no classes"
        )
    if len(set(classes)) < len(classes):
        raise ParameterError(f"data.classes: expected different labels, got {', '.join(classes)}")
    rows = gather(weak, strong)
    refuse_odd_rows(rows, classes=classes, clip_duration=params.clip_duration, folder=folder)

    clips = rows.drop_duplicates("filename").reset_index(drop=True)
    clips["sources"] = clips.filename
    clips["path"] = [name if os.path.isfile(os.path.join(audio_folder, name)) else "" for name in clips.filename]
    if "validation" not in weak:
        clips["split"] = draw_validation(clips, share=params.validation_share, seed=params.validation_seed)
    return make_listing(rows, clips, classes=classes, clip_duration=params.clip_duration, audio_folder=audio_folder)
