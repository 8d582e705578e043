"""Fixtures shared by the tests: a tiny experiment, and the folders of real data where there are some."""

import hpsed_lib  # noqa: F401  before all that imports numpy: it pins the instruction set

# isort: split
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import Server

from hpsed_lib import dataset, paths
from hpsed_lib.dataset import Dataset
from hpsed_lib.params import Experiment, load_experiment

os.environ.setdefault("MPLBACKEND", "agg")
# Two processes that compile librosa's functions at once spoil numba's one cache: each worker has its own, and keeps it.
if WORKER := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["NUMBA_CACHE_DIR"] = f"{tempfile.gettempdir()}/hpsed-{os.getuid()}-numba-{WORKER}"


@pytest.fixture(scope="session")
def tiny() -> Experiment:
    """The smallest experiment that goes through everything."""
    return load_experiment("smoke")


@pytest.fixture(scope="session")
def tiny_dataset(tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The smallest experiment's data, prepared in a folder of its own."""
    folder = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ROOT", folder)
        return dataset.prepare(tiny)


def real(variable: str, data: str) -> Path:
    """The folder of real data that a variable of the environment names."""
    if not (folder := os.environ.get(variable)):
        pytest.skip(f"{variable} names no folder with {data}")
    return Path(folder)


@pytest.fixture(scope="session")
def esc10_folder() -> Path:
    return real("HPSED_ESC10", "ESC-10")


@pytest.fixture(scope="session")
def dcase2017_folder() -> Path:
    return real("HPSED_DCASE2017", "the labels of DCASE 2017 Task 4")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A site of recordings on this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    yield server
    server.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes begins first, so that it is not last, and alone, where two work side by side."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
