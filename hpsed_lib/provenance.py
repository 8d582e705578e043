"""What made a result: commit, versions, device, instruction set, and a digest of the code that computes numbers."""

from __future__ import annotations

import ast
import ctypes
import functools
import hashlib
import platform
import re
import subprocess
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from hpsed_lib import IS_PINNED
from hpsed_lib.paths import ROOT

if TYPE_CHECKING:
    import torch  # elsewhere where it is used: the launcher reads code digests, and has no need of it

PACKAGES = ("torch", "numpy", "scipy", "librosa", "sed_eval", "pandas", "papermill", "sympy", "snakemake")


def commit() -> str:
    """Commit of the code, with ``+changes`` where files differ from it; ``unknown`` outside a git checkout."""
    changes = _git("status", "--porcelain", "--", "hpsed_lib", "notebooks", "params", "workflow")
    return _git("rev-parse", "HEAD") + ("+changes" if changes not in ("", "unknown") else "")


def commit_date() -> str:
    """Day of the commit, year first; ``unknown`` outside a git checkout."""
    return _git("show", "--no-patch", "--format=%cs", "HEAD")


def _git(*arguments: str) -> str:
    try:
        asked = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return asked.stdout.strip()


def versions() -> dict[str, str]:
    """Versions of Python, of the packages that compute numbers, and of the libraries that these call."""
    import torch
    from threadpoolctl import threadpool_info

    patterns = {"mkl": r"Math Kernel Library Version ([\d.]+)", "onednn": r"MKL-DNN v([\d.]+)"}
    found = {name: re.search(pattern, torch.__config__.show()) for name, pattern in patterns.items()}
    blas = {info["version"] for info in threadpool_info() if info["internal_api"] == "openblas"}
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        **{name: match[1] for name, match in found.items() if match},
        "openblas": ", ".join(sorted(blas)),
    }


def describe_device(device: torch.device) -> dict[str, str | int | dict[str, str]]:
    """Kind and name of a device, the processor, its threads, and the instruction set that each library uses."""
    import torch

    processor = _processor_name()
    return {
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else processor,
        "processor": processor,
        "n_threads": torch.get_num_threads(),
        "instruction_set": instruction_set(),
    }


def instruction_set() -> dict[str, str]:
    """What each library that computes numbers uses: ``avx2``, ``avx512`` or another; the machine's where it is not x86.

    MKL's ``compatible`` is its one branch for all processors. Warns where a library uses more than `hpsed_lib` asked
    for: it began too early.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return {"machine": platform.machine()}
    import numpy as np
    import torch
    from threadpoolctl import threadpool_info

    features = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
    mkl = ctypes.CDLL(torch._C.__file__).mkl_serv_cbwr_get(-1) if torch.backends.mkl.is_available() else 0
    blas = [info["architecture"] for info in threadpool_info() if info["internal_api"] == "openblas"]
    is_wide = {
        "PyTorch": torch.backends.cpu.get_cpu_capability() not in ("AVX2", "DEFAULT"),
        "oneDNN": torch.ops.mkldnn._is_mkldnn_bf16_supported(),  # which takes AVX-512
        "MKL": bool(mkl) and mkl != 3,  # MKL_CBWR_COMPATIBLE in mkl_types.h
        "numpy": features["X86_V4"],
        "OpenBLAS": any(name not in ("Haswell", "Zen") for name in blas),
    }
    late = [name for name, wide in is_wide.items() if wide]
    if IS_PINNED and late:
        warnings.warn(
            f"{', '.join(late)} began before hpsed_lib was imported and are not pinned: the published numbers will "
            "not come back to the last digit; start the kernel anew and import hpsed_lib first",
            stacklevel=2,
        )
    wide, narrow = "avx512" if features["AVX512F"] else "avx2", "avx2" if features["X86_V3"] else "less than avx2"
    used = {name: wide if is_wide[name] else narrow for name in is_wide}
    return used | ({} if is_wide["MKL"] else {"MKL": "compatible"})


def setting(*packages: str) -> str:
    """One line for a notebook's first cell: versions, and the instruction set in use."""
    numbers = {"python": platform.python_version()} | {name: version(name) for name in packages}
    used = " and ".join(sorted(set(instruction_set().values()) - {"compatible"}))
    return f"{', '.join(f'{name} {number}' for name, number in numbers.items())}; instructions: {used}"


def _processor_name() -> str:
    """The processor's name; with its family and model, for virtual machines may all have one name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().partition("\n\n")[0].splitlines() if info.is_file() else []
    first = dict(re.split(r"\s*:\s*", line, maxsplit=1) for line in lines if ":" in line)
    if "model name" not in first:
        return platform.processor() or platform.machine()
    return f"{first['model name']} (family {first.get('cpu family', '?')}, model {first.get('model', '?')})"


def code_digest(files: Sequence[str], *, pooling: str = "") -> str:
    """Digest of what files of ``hpsed_lib`` do: numbers kept from one code are not taken for those of another.

    Comments, docstrings and layout do not count; nor do, for a run with the function `pooling`, the weights of others.
    """
    digest = hashlib.sha256()
    for name in files:
        of = pooling if name in ("pooling.py", "params.py") else ""
        digest.update(_code_of((ROOT / "hpsed_lib" / name).read_text(encoding="utf-8"), of))
    return digest.hexdigest()[:16]


@functools.cache
def _code_of(text: str, pooling: str) -> bytes:
    tree = ast.parse(text)
    tree.body = [node for node in tree.body if not (pooling and _is_of_others(node, pooling))]
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            texts = [line for line in body if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)]
            body[:] = [line for line in body if line not in texts]
    return ast.dump(tree).encode()


def _is_of_others(node: ast.stmt, pooling: str) -> bool:
    """Whether a statement is another pooling function, or a list of names: one more changes no run of another name."""
    targets = [*getattr(node, "targets", []), getattr(node, "target", None)]
    if any(isinstance(target, ast.Name) and target.id in ("STRUCTURES", "StructureName") for target in targets):
        return True
    name = node.name if isinstance(node, ast.FunctionDef) else ""
    return name.endswith(("_weight", "_prob")) and name.rpartition("_")[0] != pooling
