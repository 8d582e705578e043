"""The notebooks' two forms are one thing, and hold explanation rather than logic."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import jupytext
import nbformat
import pytest

from hpsed_lib.launch.execution import read_parameters
from hpsed_lib.launch.graph import SHARED

FOLDER = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(FOLDER.glob("*.py"))


def test_every_source_has_its_notebook() -> None:
    assert [path.stem[:2] for path in SOURCES] == [f"{number:02d}" for number in range(12)]
    assert [path.stem for path in sorted(FOLDER.glob("*.ipynb"))] == [path.stem for path in SOURCES]


@pytest.fixture(params=SOURCES, ids=lambda path: path.stem)
def source(request: pytest.FixtureRequest) -> Path:
    return request.param


def content(notebook: nbformat.NotebookNode) -> list[tuple]:
    return [(cell.cell_type, cell.source.strip(), tuple(cell.metadata.get("tags", []))) for cell in notebook.cells]


def test_the_pair_is_in_step(source: Path) -> None:
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert content(jupytext.read(source)) == content(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


def test_cells_are_small_and_hold_no_definitions(source: Path) -> None:
    for cell in jupytext.read(source).cells:
        if cell.cell_type == "code":
            lines = [
                line for line in cell.source.splitlines() if line.strip() and not line.startswith(("import", "from"))
            ]
            assert len(lines) <= 15, cell.source
            tree = ast.parse(cell.source)
            assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.While) for node in ast.walk(tree))


def test_parameters_are_annotated_literals_and_explained(source: Path) -> None:
    cells = [cell for cell in jupytext.read(source).cells if "parameters" in cell.metadata.get("tags", [])]
    if source.stem in (*SHARED, "06_performance"):  # the same for every experiment
        assert cells == []
        return
    [cell] = cells
    for statement, line in zip(ast.parse(cell.source).body, cell.source.splitlines(), strict=True):
        assert isinstance(statement, ast.AnnAssign)
        assert isinstance(statement.value, ast.Constant)
        assert "  # " in line
    assert read_parameters(source.with_suffix(".ipynb"), {"experiment": "quick"}) == {"experiment": "quick"}


def test_parameters_are_checked_at_once(source: Path) -> None:
    cells = jupytext.read(source).cells
    at = [index for index, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    checks = [index for index, cell in enumerate(cells) if "check_parameters()" in cell.source]
    assert checks == [index + 1 for index in at]


def test_formulas_stay_on_their_line(source: Path) -> None:
    """One that runs over two lines of a block quote shows the second line's ``>``."""
    for cell in jupytext.read(source).cells:
        if cell.cell_type == "markdown":
            inline = re.sub(r"\$\$.*?\$\$", "", cell.source, flags=re.DOTALL)
            assert all(line.count("$") % 2 == 0 for line in inline.splitlines()), cell.source


def test_the_first_code_cell_pins_the_instruction_set_and_prints_versions(source: Path) -> None:
    """Before numpy or PyTorch are imported: later would be too late."""
    first = next(cell for cell in jupytext.read(source).cells if cell.cell_type == "code")
    assert first.source.startswith("from hpsed_lib.provenance import setting\n\nprint(setting(")
