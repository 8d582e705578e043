"""What made a result: the instruction set whatever the environment asks for, versions, digests of code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hpsed_lib
from hpsed_lib import provenance

FLAGS = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
needs_avx2 = pytest.mark.skipif(" avx2" not in FLAGS, reason="a processor without AVX2: nothing is pinned")
needs_avx512 = pytest.mark.skipif(" avx512f" not in FLAGS, reason="a processor with nothing wider than AVX2")
PINNED = {"avx2", "compatible"}
SAY = "import json, sys; from hpsed_lib import provenance; json.dump(provenance.instruction_set(), sys.stdout)"


def instructions(code: str = SAY, **environment: str) -> tuple[set[str], str]:
    """What the libraries of a process of its own use, and what it said on standard error."""
    variables = {name: value for name, value in os.environ.items() if name not in hpsed_lib.PINS} | environment
    ended = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    return set(json.loads(ended.stdout).values()), ended.stderr


@needs_avx2
class TestInstructionSet:
    def test_these_tests_have_it(self):
        assert set(provenance.instruction_set().values()) == PINNED
        assert "instructions: avx2" in provenance.setting("torch")

    def test_every_library_uses_it_whatever_the_environment_says(self):
        environment = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX", "MKL_CBWR": "AVX512"}
        environment |= {"OPENBLAS_CORETYPE": "SkylakeX", "NPY_DISABLE_CPU_FEATURES": ""}
        assert instructions() == instructions(**environment) == (PINNED, "")

    @needs_avx512
    def test_it_can_be_turned_off_and_a_pinned_parent_does_not_matter(self):
        assert instructions(HPSED_NATIVE="1") == ({"avx512"}, "")
        assert instructions(HPSED_NATIVE="1", **hpsed_lib.PINS) == ({"avx512"}, "")

    @needs_avx512
    def test_what_began_too_early_is_named(self):
        found, said = instructions(f"import numpy, torch; torch.ones(9).exp(); {SAY}")
        assert found > {"avx512"}
        assert "PyTorch" in said
        assert "numpy" in said
        assert "import hpsed_lib first" in said


def test_a_device_is_described_with_all_that_a_difference_may_come_from():
    described = provenance.describe_device(torch.device("cpu"))
    assert described["device"] == "cpu"
    assert described["n_threads"] == torch.get_num_threads()
    assert described["device_name"] == described["processor"] != ""
    versions = provenance.versions()
    assert {"torch", "numpy", "openblas"} <= set(versions)
    assert versions["torch"] == torch.__version__
    assert json.loads(json.dumps(described | versions)) == described | versions


def test_the_commit_says_when_files_were_changed(tmp_path, monkeypatch):
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "hpsed_lib").mkdir()
    (tmp_path / "hpsed_lib" / "a.py").write_text("a = 1")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert len(provenance.commit()) == 40
    (tmp_path / "hpsed_lib" / "a.py").write_text("a = 2")
    assert provenance.commit().endswith("+changes")
    monkeypatch.setattr(provenance, "ROOT", tmp_path.parent)  # no checkout
    assert provenance.commit() == "unknown"
