"""Execute one notebook headlessly: ``python -m hpsed_lib.launch.execution NOTEBOOK OUTPUT -p key value ...``.

The executed copy appears at OUTPUT only when every cell has run, free of times, host paths and random ids, so that two
executions of the same thing are the same bytes. Until then, and after a failure, it lies in
``cache/<experiment>/notebooks-in-progress/`` with the lock, the progress log and the failure message of the same name.

Conventions: relative paths are relative to the root of this repository, which is also the kernel's working directory.
Nothing heavy is imported here: the kernel does the work.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from hpsed_lib.errors import DataError, ExecutionError, HpsedError
from hpsed_lib.launch.gpus import take_gpu
from hpsed_lib.paths import ROOT, cache_folder, naming_full_disk, replacing
from hpsed_lib.processes import end_with_launcher, only_one
from hpsed_lib.progress import LOG_VARIABLE, use_large_pages

PROGRESS_INTERVAL = 10.0  # s between two lines of one run
THREAD_VARIABLES = [f"{library}_NUM_THREADS" for library in ("MKL", "NUMBA", "NUMEXPR", "OMP", "OPENBLAS")]
THREAD_VARIABLES += ["VECLIB_MAXIMUM_THREADS"]


def read_parameters(notebook: Path, given: Mapping[str, str]) -> dict[str, Any]:
    """Parameters, given as text, in the types annotated in the notebook's cell tagged ``parameters``.

    What does not fit stays as it is: the notebook refuses it (`hpsed_lib.notebook.check_parameters`).
    """
    import papermill

    declared = papermill.inspect_notebook(notebook)
    is_text = {name: declared.get(name, {}).get("inferred_type_name") == "str" for name in given}
    return {name: text if is_text[name] else yaml.safe_load(text) for name, text in given.items()}


def _show_progress(log: Path, say: Callable[[str], None]) -> None:
    """Pass on the newest line of a log, lines ending in a newline or a carriage return, every PROGRESS_INTERVAL."""
    with open(log, encoding="utf-8", errors="replace", newline="\n") as file:
        while True:
            time.sleep(PROGRESS_INTERVAL)
            lines = [line.strip() for line in re.split(r"[\r\n]", file.read()) if line.strip()]
            if lines:
                say(lines[-1])


def _stripped(notebook: Any) -> str:
    """An executed notebook without times, random ids, this machine's folders and the temporary names of its cells."""
    import nbformat

    for name in ("papermill", "jupytext"):
        notebook.metadata.pop(name, None)
    for index, cell in enumerate(notebook.cells):
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = f"cell-{index}"
    # Anchored and bounded: pictures are megabytes of text without a space.
    text = re.sub(r"(?<![^\s\"'(])[^\s\"'(]{0,300}/ipykernel_\d+/\d+\.py", "cell", nbformat.writes(notebook))
    return text.replace(f"{ROOT}/", "") + "\n"


def _describe_failure(kept: Path, error: Exception) -> str:
    """Say where and why an execution failed, from the notebook that papermill kept."""
    import nbformat

    cells = nbformat.read(kept, as_version=4).cells if kept.is_file() else []
    begun = [cell for cell in cells if cell.metadata.get("papermill", {}).get("start_time")]  # the last one failed
    begun = [cell for cell in begun if "injected-parameters" not in cell.metadata.get("tags", [])]
    text = "\n".join(cell.source for cell in begun if cell.cell_type == "markdown")
    headings = re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)
    place = f"in cell {len(begun)}" if begun else "before the first cell"
    place += f' under "{headings[-1]}"' if headings else ""
    why = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}"
    return f"failed {place}: {why}\nkept: {os.path.relpath(kept, ROOT)}"


def execute(notebook: Path, output: Path, given: Mapping[str, str], *, threads: int, gpu: bool) -> None:
    """Execute a notebook, in a process that does nothing else, and put the executed copy at `output`.

    The output's stem is the name of the run: label of its lines on standard error and stem of its files in progress.
    Each numerical library of the kernel has so many `threads`; with `gpu` it waits for a GPU that no other run has,
    and sees this one only. If a cell fails or the kernel dies it is an `ExecutionError`.
    """
    name = output.stem
    say = partial(_say, name)
    folder = cache_folder(Path(given.get("experiment", "")).stem) / "notebooks-in-progress"
    with only_one(folder / f"{name}.lock", lambda pid: say(f"process {pid} executes this run; waiting for its end")):
        failure, log = folder / f"{name}.failed.txt", folder / f"{name}.log"
        failure.unlink(missing_ok=True)
        log.write_text("", encoding="utf-8")
        try:
            values = read_parameters(notebook, given)
            if gpu:
                take_gpu(lambda: say("waits for a GPU"))
            started = time.monotonic()
            threading.Thread(target=_show_progress, args=(log, say), daemon=True).start()
            say("started")
            os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))  # the kernel inherits all these
            os.environ |= {LOG_VARIABLE: str(log), "PYTHONHASHSEED": "0"}
            os.environ["IPYTHONDIR"] = str(ROOT / "cache" / "ipython")  # not the start-up files of whoever runs this
            use_large_pages()
            _execute(notebook, output, values, folder / f"{name}.ipynb")
            say(f"done in {time.monotonic() - started:.0f} s")
        except HpsedError as error:
            with contextlib.suppress(DataError), replacing(failure) as temporary:  # a full disk takes no message
                temporary.write_text(f"{error}\n", encoding="utf-8")
            raise


def _execute(notebook: Path, output: Path, values: dict[str, Any], kept: Path) -> None:
    import papermill

    options = {"kernel_name": "python3", "cwd": ROOT, "coalesce_streams": True, "progress_bar": False}
    options["extra_arguments"] = ["--log-level=CRITICAL"]  # of the kernel, not of the cells
    try:
        with naming_full_disk(kept):
            executed = papermill.execute_notebook(notebook, kept, values, **options)
    except DataError:
        raise
    except Exception as error:  # a failed cell, a dead kernel: all end the run in the same way
        raise ExecutionError(_describe_failure(kept, error)) from error
    with replacing(output) as temporary:
        temporary.write_text(_stripped(executed), encoding="utf-8")
    kept.unlink()


def _say(name: str, line: str) -> None:
    print(f"[{name}] {line}", file=sys.stderr, flush=True)


def main() -> int:
    """Command line; returns 0, or 1 if the execution failed."""
    parser = argparse.ArgumentParser(prog="python -m hpsed_lib.launch.execution", description="Execute one notebook.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path, help="where the executed copy is put once every cell has run")
    parser.add_argument("--threads", type=int, default=1, help="threads of each numerical library (default: 1)")
    parser.add_argument("--gpu", action="store_true", help="take a GPU that no other run has, if there is any")
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"))
    options = parser.parse_args()
    end_with_launcher()
    # jsonschema imports this where it is there, to check addresses that no notebook holds: 2.5 s, before every run.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    given = dict(options.parameter)
    try:
        with naming_full_disk(options.output):
            execute(options.notebook, options.output, given, threads=options.threads, gpu=options.gpu)
    except HpsedError as error:
        for line in str(error).splitlines():
            _say(options.output.stem, line)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
