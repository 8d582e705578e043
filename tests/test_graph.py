"""What the graph of an experiment is made of."""

import json

import pytest
from held import copy_project

from hpsed_lib import provenance
from hpsed_lib.launch import graph
from hpsed_lib.params import load_experiment


@pytest.fixture
def library(tmp_path, monkeypatch):
    """The library in a copy of the project that can be changed."""
    copy_project(tmp_path, "hpsed_lib", "notebooks")
    for module in (graph, provenance):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path / "hpsed_lib"


@pytest.mark.usefixtures("library")
def test_library_of_follows_imports_into_folders():
    found = graph.library_of("notebooks/02_pooling_gradients.ipynb", without=["hpsed_lib.plots"])
    assert {"__init__.py", "errors.py", "pooling.py", "theory/__init__.py", "theory/three_ways.py"} < set(found)
    assert not {"plots.py", "training.py", "launch/graph.py"} & set(found)


def test_a_basis_is_written_again_only_when_it_changes(library):
    def written(settings: dict) -> tuple[int, dict]:
        path = graph.ROOT / graph.basis("notebooks/02_pooling_gradients.ipynb", settings, "cache")
        assert path == graph.ROOT / "cache/02_pooling_gradients.json"
        return path.stat().st_ino, json.loads(path.read_text())

    first = written({"rate": 1})
    assert written({"rate": 1}) == first  # not even touched: its place is taken by no other file
    other_settings = written({"rate": 2})
    assert other_settings[1] == {**first[1], "settings": {"rate": 2}}
    (library / "pooling.py").write_text("a = 2\n")
    assert written({"rate": 2})[1]["library"] != other_settings[1]["library"]


class TestWhatARunRestsOn:
    @pytest.fixture
    def digest(self, library):
        """The basis of runs with linear softmax, and a way to change a file of the library."""

        def changed(file: str = "pooling.py", old: str = "", new: str = "", pooling: str = "linear") -> str:
            path = library / file
            text = path.read_text()
            assert old in text
            path.write_text(text.replace(old, new, 1))
            out = ["hpsed_lib.plots", "hpsed_lib.data", *graph.other_networks(load_experiment("quick"))]
            basis = graph.basis("notebooks/03_train_variant.ipynb", {}, "cache", without=out, pooling=pooling)
            return (graph.ROOT / basis).read_text()

        return changed

    def test_other_functions_docstrings_plots_and_data_sources_do_not_count(self, digest):
        before = digest()
        assert digest("scoring.py", '"""Detection scores', '"""Detection scores, said otherwise') == before
        assert digest("plots.py", "import", "# drawn otherwise\nimport") == before
        assert digest("networks/wang.py", "padding=2", "padding=3") == before
        assert digest("data/synthesis.py", "def ", "def another() -> None: ...\n\n\ndef ") == before
        for name in ("cubic_weight", "cubic_prob"):
            assert (
                digest("pooling.py", "KINDS = ", f"def {name}(frame_prob):\n    return frame_prob**3\n\n\nKINDS = ")
                == before
            )
        assert digest("pooling.py", '"mixed")', '"mixed", "another")') == before
        assert digest("params.py", '"mixed"]', '"mixed", "another"]') == before

    @pytest.mark.parametrize(
        ("file", "old", "new", "pooling"),
        [
            ("pooling.py", "    return frame_prob\n", "    return 2 * frame_prob\n", "linear"),
            ("pooling.py", "    return frame_prob.exp()\n", "    return (2 * frame_prob).exp()\n", "exponential"),
            ("pooling.py", "share * x", "x * share", "linear"),
            ("training.py", "1e-7", "1e-6", "linear"),
            ("networks/base.py", "padding=1", "padding=2", "linear"),
            ("networks/gated_crnn.py", "padding=1", "padding=2", "linear"),
            ("networks/gru.py", "1 - y.square()", "1 - y * y", "linear"),
            ("networks/__init__.py", "n_mels=n_mels", "n_mels=2 * n_mels", "linear"),
        ],
    )
    def test_what_the_run_executes_does(self, digest, file, old, new, pooling):
        assert digest(pooling=pooling) != digest(file, old, new, pooling)
