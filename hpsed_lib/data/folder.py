"""Anyone's data: a folder with audio files and label files.

Label files are text in UTF-8, separated by commas or TABs, and their first line is the header:

- weak labels: ``filename,event_label``, one label a row, so a clip with two classes has two rows; or DESED's
  ``filename,event_labels``, with commas between a clip's labels;
- strong labels: ``filename,onset,offset,event_label``; one event a row, times in seconds from the clip's start.

DCASE's and AudioSet's own files are read as they are. DCASE's are separated by TABs, without a header; for weak labels
these are filename, start and end of the clip in its video (not used), and label. AudioSet's clips are called
``<YouTube id>_<start in ms>``, and their labels are its ids (``/m/09x0r``). A clip without events has one row with its
file name and nothing else (``silence.wav,`` or ``silence.wav,,,``). File names start at the audio folder, with ``/``
between folders, and include the extension; one without is that of an audio file anywhere in the data folder, with any
extension and perhaps a leading Y. A label with a comma stands in double quotes where commas separate.

Training and validation clips are those of the weak label files, test clips those of the strong one, whose events are
also their weak labels. Strong labels of the validation clips are there to choose thresholds on; without a weak label
file of these clips, they list them too. What is odd is refused or remarked on: see `hpsed_lib.data.labels.TREATMENTS`.
"""

from __future__ import annotations

import posixpath
from pathlib import Path

import pandas as pd

from hpsed_lib.data.dcase2017.labels import audio_files
from hpsed_lib.data.label_audit import STRONG, WEAK
from hpsed_lib.data.labels import Listing, folded, gather, make_listing, mark, mark_several_labels, read_labels
from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.params import FolderData
from hpsed_lib.paths import files_below


def list_folder(params: FolderData, *, folder: Path) -> Listing:
    """List the clips and labels of a folder; without given classes, they are the training clips' labels, sorted."""
    for needed in (folder, *(folder / name for name in params.audio_folders.values())):
        if not needed.is_dir():
            raise DataError(f"{needed}: no such folder; expected one with audio files and label files")
    weak, strong = (
        {split: read_labels(folder / name, columns=columns, name=name) for split, name in files if name}
        for files, columns in ((params.weak_labels, WEAK), (params.strong_labels, STRONG))
    )
    if "validation" in strong and "validation" in weak:
        mark(strong["validation"], "not_listed", ~strong["validation"].filename.isin(weak["validation"].filename))

    rows = gather(weak, strong)
    mark_several_labels(rows, classes=params.classes or ())
    good = (rows.kind == "") & (rows.split == "training")
    classes = params.classes or tuple(sorted(set(rows.event_label[good]) - {""}))
    if not classes and (rows.kind == "").all():
        raise DataError(
            f"{folder / params.weak_labels.training}: no training clip has a label, so there are no classes"
        )
    if len(set(classes)) < len(classes):
        raise ParameterError(f"data.classes: expected different labels, got {', '.join(classes)}")
    _find_audio(rows, params.audio_folders, folder)
    rows["sources"] = rows.filename
    return make_listing(rows, params, classes=classes, folder=folder)


def _find_audio(rows: pd.DataFrame, audio_folders: dict[str, str], folder: Path) -> None:
    """Add the column files, and mark the rows whose file is called nearly like that."""
    present = files_below(folder)
    named = zip(rows.split, rows.filename, strict=True)
    path = pd.Series([posixpath.normpath(f"{audio_folders[split]}/{filename}") for split, filename in named])
    bare = rows.filename[~rows.filename.str.contains(r"\.\w+$")].unique().tolist()
    of_bare, there = audio_files(bare, present), set(present)
    rows["files"] = [
        of_bare.get(name, [file] if file in there else []) for name, file in zip(rows.filename, path, strict=True)
    ]
    nearly = path.map(folded).map({folded(file): file for file in present})
    mark(rows, "other_file_name", ~rows.files.astype(bool) & nearly.notna())
    rows.loc[rows.kind == "other_file_name", "text"] += " (there is " + nearly + ")"
