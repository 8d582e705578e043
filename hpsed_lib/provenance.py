"""What made a result: commit, package versions, device, and a digest of the code that computes numbers."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from hpsed_lib.paths import ROOT

PACKAGES = ("torch", "numpy", "scipy", "librosa", "sed_eval", "pandas", "papermill", "sympy", "snakemake")


def commit() -> str:
    """Commit of the code, with ``+changes`` where files differ from it; ``unknown`` outside a git checkout."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--", "hpsed_lib", "notebooks", "params", "workflow"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.strip() + ("+changes" if changes.strip() else "")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def describe_device(device: torch.device) -> dict[str, str | int]:
    """Kind and name of a device, and the number of CPU threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor_name()
    return {"device": device.type, "device_name": name, "n_threads": torch.get_num_threads()}


def _processor_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def code_digest(modules: Sequence[str]) -> str:
    """Digest of files of ``hpsed_lib``: numbers kept from one code are not taken for those of another."""
    digest = hashlib.sha256()
    for name in modules:
        digest.update((ROOT / "hpsed_lib" / name).read_bytes())
    return digest.hexdigest()[:16]
