"""What JupyterLab saves of the notebooks in ``notebooks/``: their source. To open and run one changes nothing.

`make lab` names `keep_source` to the server. The whole notebook, outputs included, is kept in ``reproduced/lab/``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hpsed_lib.paths import NOTEBOOKS, replacing, results_folder


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
