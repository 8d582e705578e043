"""Notebooks under plain papermill: typed, quiet, and clear about what they do not take."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"


def papermill(notebook: Path, folder: Path, *arguments: str) -> tuple[str, list]:
    """What papermill says, and the outputs of the notebook that it leaves; the library is that of this checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
    environment |= {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder / "ipython")}
    command = [sys.executable, "-m", "papermill", str(notebook), "out.ipynb", "--no-progress-bar", *arguments]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    cells = nbformat.read(folder / "out.ipynb", as_version=4).cells
    return ended.stderr, [output for cell in cells for output in cell.get("outputs", [])]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", "seven", "parameter 'seed' expects int, 0 or above, got 'seven'"),
        ("seed", "7.5", "parameter 'seed' expects int, 0 or above, got 7.5"),
        ("seed", "-1", "parameter 'seed' expects int, 0 or above, got -1"),
        ("pooling", "3", "parameter 'pooling' expects str, got 3"),
        ("sed", "3", "unknown parameter 'sed'; the nearest known one is 'seed'"),
    ],
)
def test_one_clear_error(tmp_path: Path, name: str, value: str, message: str) -> None:
    said, outputs = papermill(NOTEBOOKS / "03_train_variant.ipynb", tmp_path, "-p", name, value)
    [error] = [output for output in outputs if output.output_type == "error"]
    assert (error.ename, error.traceback) == ("ParameterError", [f"ParameterError: {message}"])
    assert said.rstrip().endswith(f"ParameterError: {message}")


CELLS = """
from hpsed_lib.notebook import check_parameters
check_parameters()
from hpsed_lib.progress import track
print(sum(track(range(1000), description="epoch")), seed)
""".strip()


@pytest.mark.slow
def test_a_right_call_is_quiet(tmp_path: Path) -> None:
    v4 = nbformat.v4
    declared = v4.new_code_cell("seed: int = 0", metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    made = v4.new_notebook(cells=[declared, v4.new_code_cell(CELLS)], metadata={"kernelspec": kernel})
    nbformat.write(made, tmp_path / "toy.ipynb")
    said, outputs = papermill(tmp_path / "toy.ipynb", tmp_path, "-p", "seed", "7")
    assert "Error" not in said
    assert [(output.name, output.text) for output in outputs] == [("stdout", "499500 7\n")]


@pytest.mark.slow
def test_the_first_notebook_links_to_what_is_there(tmp_path: Path) -> None:
    said, outputs = papermill(NOTEBOOKS / "00_start_here.ipynb", tmp_path, "-p", "experiment", "quick")
    assert "Error" not in said
    shown = "".join(output.data["text/markdown"] for output in outputs if "data" in output)
    links = re.findall(r"\]\((.+?)\)", shown)
    assert len([link for link in links if link.startswith("../results/quick/")]) > 10
    assert all((NOTEBOOKS / link).is_file() for link in links)
