"""What made a result: commit, versions, device, instruction set, and a digest of the code that computes numbers."""

from __future__ import annotations

import ctypes
import hashlib
import platform
import re
import subprocess
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_info

from hpsed_lib import IS_PINNED
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
    """Versions of Python, of the packages that compute numbers, and of the libraries that these call."""
    built = torch.__config__.show()
    called = {"mkl": r"Math Kernel Library Version ([\d.]+)", "onednn": r"MKL-DNN v([\d.]+)"}
    found = {name: re.search(pattern, built) for name, pattern in called.items()}
    blas = {info["version"] for info in threadpool_info() if info["internal_api"] == "openblas"}
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        **{name: match[1] for name, match in found.items() if match},
        "openblas": ", ".join(sorted(blas)),
    }


def describe_device(device: torch.device) -> dict[str, str | int | dict[str, str]]:
    """Kind and name of a device, the processor, its threads, and the instruction set that each library uses."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor_name()
    return {
        "device": device.type,
        "device_name": name,
        "processor": _processor_name(),
        "n_threads": torch.get_num_threads(),
        "instruction_set": instruction_set(),
    }


def instruction_set() -> dict[str, str]:
    """What each library that computes numbers uses: ``avx2``, ``avx512`` or another; the machine's where it is not x86.

    Warns where a library uses more than AVX2 although `hpsed_lib` asked for it: it was imported too late.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return {"machine": platform.machine()}
    features = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
    mkl = ctypes.CDLL(torch._C.__file__).mkl_serv_cbwr_get(-1) if torch.backends.mkl.is_available() else 0
    blas = [info["architecture"] for info in threadpool_info() if info["internal_api"] == "openblas"]
    is_wide = {
        "PyTorch": torch.backends.cpu.get_cpu_capability() not in ("AVX2", "DEFAULT"),
        "oneDNN": torch.ops.mkldnn._is_mkldnn_bf16_supported(),  # which takes AVX-512
        "MKL": features["AVX512F"] and mkl != 10,  # MKL_CBWR_AVX2 in mkl_types.h
        "numpy": features["X86_V4"],
        "OpenBLAS": any(name not in ("Haswell", "Zen") for name in blas),
    }
    late = [name for name, wide in is_wide.items() if wide]
    if IS_PINNED and late:
        warnings.warn(
            f"{', '.join(late)} began before hpsed_lib was imported and use more than AVX2: the published numbers will "
            "not come back to the last digit; start the kernel anew and import hpsed_lib first",
            stacklevel=2,
        )
    narrow = "avx2" if features["X86_V3"] else "less than avx2"
    return {name: "avx512" if wide else narrow for name, wide in is_wide.items()}


def setting(*packages: str) -> str:
    """One line for a notebook's first cell: versions, and the instruction set in use."""
    numbers = {"python": platform.python_version()} | {name: version(name) for name in packages}
    used = " and ".join(sorted(set(instruction_set().values())))
    return f"{', '.join(f'{name} {number}' for name, number in numbers.items())}; instructions: {used}"


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
