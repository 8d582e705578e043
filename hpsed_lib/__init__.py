"""Hierarchical pooling for weakly labelled sound event detection (arXiv:1903.11791).

Importing this package, before numpy and PyTorch, makes them use AVX2, with which the published numbers were made: with
wider instructions the last bits of a sum differ, and a training ends elsewhere. ``HPSED_NATIVE=1`` in the environment
turns that off. On a processor without AVX2 and on one of another kind nothing is done.
"""

import os
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_FLAGS = set(_CPUINFO.read_text().partition("\nflags")[2].partition("\n")[0].split()) if _CPUINFO.is_file() else set()
_WIDE = {"X86_V4": "avx512vl", "AVX512_ICL": "avx512_vbmi2", "AVX512_SPR": "avx512_fp16"}  # numpy's names, the kernel's
PINS = {
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",  # the one branch that MKL takes alike on processors of Intel and of others
    "OPENBLAS_CORETYPE": "Haswell",  # of numpy and scipy
    "NPY_DISABLE_CPU_FEATURES": " ".join(name for name, flag in _WIDE.items() if flag in _FLAGS),  # numpy's own loops
}
IS_PINNED = "avx2" in _FLAGS and os.environ.get("HPSED_NATIVE") != "1"
if IS_PINNED:
    os.environ.update(PINS)
else:
    for _name in PINS.keys() & os.environ.keys():  # from a process that was pinned
        if os.environ[_name] == PINS[_name]:
            del os.environ[_name]
