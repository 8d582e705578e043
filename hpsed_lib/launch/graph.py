"""What the graph of an experiment is made of: its executions, what each rests on, and how it was last launched."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from hpsed_lib.params import Experiment, Network
from hpsed_lib.paths import ROOT, cache_folder, read_json, replacing
from hpsed_lib.provenance import code_digest

SHARED = {  # executions that are the same for every experiment, and where they end up
    "02_pooling_gradients": "reproduced/derivation/notebooks",
    "05_paper_audit": "reproduced/paper/notebooks",
}


def executed_notebooks(experiment: Experiment) -> dict[str, str]:
    """Name of every execution of an experiment, and where its notebook ends up, relative to the root."""
    folder = f"reproduced/{experiment.name}/notebooks"
    paths = {"01_data_preparation": f"{folder}/01_data_preparation.ipynb"}
    paths |= {run: f"{folder}/03_train_variant/{run}.ipynb" for run in experiment.runs()}
    paths |= {name: f"{folder}/{name}.ipynb" for name in ("07_identity_in_training", "04_result_tables", "11_findings")}
    return paths | {name: f"{shared_folder}/{name}.ipynb" for name, shared_folder in SHARED.items()}


def library_of(notebook: str, *, without: Sequence[str] = ()) -> list[str]:
    """Files of ``hpsed_lib``, relative to it, that a notebook imports, directly or through others.

    Modules named in `without`, or in folders named there, cannot change what the notebook computes.
    """
    found: set[str] = set()
    waiting = set(_imported(_code_of(notebook)))
    while waiting:
        module = waiting.pop()
        stem = ROOT / module.replace(".", "/")
        path = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
        file = path.relative_to(ROOT / "hpsed_lib").as_posix()
        left_out = any(module == name or module.startswith(f"{name}.") for name in without)
        if file not in found and not left_out and path.is_file():
            found.add(file)
            waiting.update(_imported(path.read_text(encoding="utf-8")))
    return sorted(found)


def other_networks(experiment: Experiment) -> list[str]:
    """Modules of the networks that an experiment does not use."""
    kinds = [get_args(section.model_fields["kind"].annotation)[0] for section in get_args(Network)]
    return [f"hpsed_lib.networks.{kind}" for kind in kinds if kind != experiment.network.kind]


def _code_of(notebook: str) -> str:
    """A notebook's code cells; of what JupyterLab writes beside them when it saves, nothing."""
    # As JSON: importing nbformat takes longer than all the rest of reading the graph, in every job of a cluster again.
    cells = json.loads((ROOT / notebook).read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))


def basis(
    notebook: str, settings: dict[str, Any], folder: str, *, without: Sequence[str] = (), pooling: str = ""
) -> str:
    """Write what an execution rests on beside its data, if that has changed, and return the file's path.

    As a rule's input this one file, of the notebook's name in `folder`, stands for the notebook's code, the library's
    (`hpsed_lib.provenance.code_digest`) and the settings that it reads: their change makes the rule run again.
    Snakemake sees that even after a job of a cluster that ended when no launcher was there to take notes of it.
    """
    rests_on = {
        "notebook": hashlib.sha256(_code_of(notebook).encode()).hexdigest()[:16],
        "library": {file: code_digest([file], pooling=pooling) for file in library_of(notebook, without=without)},
        "settings": settings,
    }
    path = ROOT / folder / f"{Path(notebook).stem}.json"
    text = json.dumps(rests_on, indent=1) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return path.relative_to(ROOT).as_posix()


@functools.cache
def _imported(code: str) -> frozenset[str]:
    """Modules of ``hpsed_lib`` named in the import statements of a piece of code."""
    names: list[str] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    # A name may be a module or a module's content, so that its parent is named too; what is no file falls away.
    names = [name for name in names if name.startswith("hpsed_lib.")]
    return frozenset(names) | {name.rpartition(".")[0] for name in names}


def last_launch(experiment: str) -> dict[str, Any]:
    """Last launch's ``n_seeds``, 0 for its own, ``cluster``, empty for none, and ``source``, see `data_source`."""
    memory = cache_folder(experiment) / "launch.json"
    never = {"n_seeds": 0, "cluster": "", "source": {"data_folder": "", "download": False, "fingerprint": ""}}
    return never | read_json(memory) if memory.is_file() else never
