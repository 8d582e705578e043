"""What JupyterLab shows first, and what it saves of the notebooks in ``notebooks/``: their source.

`make lab` opens ``00_start_here``, and names `keep_source` to the server: to open and run a notebook changes nothing.
The whole notebook, outputs included, is kept in ``reproduced/lab/``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from hpsed_lib.launch.graph import SHARED
from hpsed_lib.params import Experiment
from hpsed_lib.paths import NOTEBOOKS, published_folder, read_json, replacing, results_folder


def keep_source(model: dict[str, Any], path: str, contents_manager: Any, **_: object) -> None:
    """Before a notebook of ours is saved: put it aside as it is, and save it as it is kept in the repository."""
    file = Path(contents_manager.root_dir) / path.strip("/")
    if model["type"] != "notebook" or file.resolve().parent != NOTEBOOKS or not file.with_suffix(".ipynb").is_file():
        return
    notebook = model["content"]
    if any(cell.get("outputs") for cell in notebook["cells"]):
        with replacing(results_folder("lab") / f"{file.stem}.ipynb") as temporary:
            temporary.write_text(json.dumps(notebook, indent=1), encoding="utf-8")
    kept = json.loads(file.with_suffix(".ipynb").read_text(encoding="utf-8"))
    notebook.update({name: kept[name] for name in ("metadata", "nbformat", "nbformat_minor")})
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags")
        cell["metadata"] = {"tags": tags} if tags else {}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}


def contents(experiment: Experiment) -> str:
    """A table in Markdown: every notebook, the seconds that it takes, and links to what was executed of it."""
    seconds = _seconds(experiment)
    rows = []
    for path in sorted(NOTEBOOKS.glob("*.ipynb"))[1:]:  # all but 00
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        title = "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")
        row = {"notebook": f"[{title}]({path.name})", "seconds": seconds.get(path.stem, "")}
        rows.append(row | {name: " ".join(_executed(path.stem, experiment, root)) for name, root in FOLDERS.items()})
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


FOLDERS = {"published": published_folder, "reproduced here": results_folder}


def _seconds(experiment: Experiment) -> dict[str, str]:
    """Seconds by notebook: as `make bench` measured them for ``quick``; of 03 the mean training that is published."""
    parts = pd.read_csv(published_folder("bench") / "experiment_parts.csv").set_index("part").seconds.to_dict()
    runs = [read_json(path) for path in published_folder(experiment.name).glob("metrics/*.json")]
    if runs:
        parts["03_train_variant"] = sum(run["time"]["training_seconds"] for run in runs) / len(runs)
    return {part: f"{seconds:.0f}" for part, seconds in parts.items()}


def _executed(stem: str, experiment: Experiment, root: Callable[[str], Path]) -> list[str]:
    """Links to the executed copies of a notebook; of trainings to those of the first seed."""
    shared = [Path(folder).parent.name for folder in SHARED.values()]
    folders = [root(name) / "notebooks" for name in (experiment.name, *shared, "bench")]
    found = [sorted([*folder.glob(f"{stem}*.ipynb"), *folder.glob(f"{stem}/*-seed0.ipynb")]) for folder in folders]
    return [_link(path.stem, path) for paths in found for path in paths]


def outcomes(experiment: Experiment) -> str:
    """A list in Markdown: links to the tables and figures of an experiment that are there."""
    lines = []
    for name, root in FOLDERS.items():
        files = sorted([*root(experiment.name).glob("tables/*.md"), *root(experiment.name).glob("figures/*.png")])
        lines.append(f"- {name}: " + (", ".join(_link(path.name, path) for path in files) or "nothing yet"))
    return "\n".join(lines)


def _link(text: str, path: Path) -> str:
    return f"[{text}]({os.path.relpath(path, NOTEBOOKS)})"
