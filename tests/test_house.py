"""Imports run one way through the library: what stands lower knows nothing of what stands on it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

LIBRARY = Path(__file__).parents[1] / "hpsed_lib"
FLOORS = [  # from the ground up; a module may import those below it and, without a circle, those beside it
    {"errors", "paths", "provenance", "processes", "progress", "notebook"},
    {"params", "pooling", "scoring"},
    {"data"},
    {"features"},
    {"dataset", "networks", "decoding"},
    {"training"},
    {"runs"},
    {"comparison", "tables", "findings", "plots", "theory", "launch"},
    {"bench"},
]


def imports() -> dict[str, set[str]]:
    """Modules of the library that each one imports, anywhere in its code, by name without ``hpsed_lib``."""
    paths = {".".join(path.relative_to(LIBRARY).with_suffix("").parts): path for path in LIBRARY.rglob("*.py")}
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        imported = [node for node in nodes if isinstance(node, ast.ImportFrom)]
        named = {f"{node.module}.{alias.name}".partition(".")[2] for node in imported for alias in node.names}
        found[name] = (named | {each.rpartition(".")[0] for each in named}) & paths.keys()
    return found


def test_imports_run_one_way_and_in_no_circle():
    floor = {part: height for height, parts in enumerate(FLOORS) for part in parts} | {"__init__": -1}
    height = {name: floor[name.partition(".")[0]] for name in imports()}
    assert [(name, each) for name, others in imports().items() for each in others if height[each] > height[name]] == []
    assert len(tuple(TopologicalSorter(imports()).static_order())) == len(height) > 40
