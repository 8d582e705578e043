"""What scheduling costs: the experiment's runs with a notebook that does nothing but write its outputs.

``.venv/bin/python tests/overhead.py`` measures a local launch,
``tests/slurm/cluster .venv/bin/python tests/overhead.py slurm`` one on a cluster of this machine's own. It prints
seconds for each run, on a machine that does nothing else: everything around a training, from Snakemake's decision to
the executed notebook in its place, the start of the notebook's kernel included.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from held import NAME, Project, small_experiment

from hpsed_lib.launch.workflow import snakemake_command

STRUCTURES = ["single", "hierarchical", "appendix"]
SEEDS = 6
RUN = "{pooling}-{structure}-seed{seed}"
OUTPUTS = {
    "01_data_preparation": f'["cache/{NAME}/data.json"]',
    "03_train_variant": f'[f"reproduced/{NAME}/metrics/{RUN}.json", f"cache/{NAME}/runs/{RUN}/predictions.npz"]',
}
WRITE = """
from pathlib import Path
for path in map(Path, {}):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
"""


def empty_notebooks(folder: Path) -> None:
    """Put notebooks of the same parameters, that only write their outputs, in the place of the real ones."""
    for name, outputs in OUTPUTS.items():
        path = folder / f"notebooks/{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        notebook.cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        notebook.cells.append(nbformat.v4.new_code_cell(WRITE.replace("{}", outputs)))
        nbformat.write(notebook, path)


def seconds(folder: Path, cluster: str, targets: list[str]) -> tuple[float, float]:
    """Elapsed time and processor time of making some outputs."""
    command = [*snakemake_command(NAME, SEEDS, {}, cluster, "--jobs" if cluster else "--cores", "2"), "--", *targets]
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(cluster: str = "") -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Project(Path(temporary), small_experiment(STRUCTURES, n_epochs=1)).folder
        empty_notebooks(folder)
        seconds(folder, "", [f"cache/{NAME}/data.json"])
        runs = [f"linear-{structure}-seed{seed}" for structure in STRUCTURES for seed in range(SEEDS)]
        targets = [f"reproduced/{NAME}/metrics/{run}.json" for run in runs]
        elapsed, processor = seconds(folder, cluster, targets)
        elapsed_again, processor_again = seconds(folder, cluster, targets)  # nothing is left to do
        of_a_run = f"{(processor - processor_again) / len(runs):.2f} s of a core"
        if cluster:
            shown = subprocess.check_output(["scontrol", "--oneliner", "show", "job"], text=True)
            times = [
                3600 * int(h) + 60 * int(m) + int(s) for h, m, s in re.findall(r" RunTime=(\d+):(\d+):(\d+)", shown)
            ]
            of_a_run = f"{sum(times) / len(times):.1f} s of a node"
        print(f"{len(runs)} runs: {of_a_run} for each run")
        print(f"{elapsed:.0f} s in all, {elapsed_again:.0f} s when nothing was left to do")


if __name__ == "__main__":
    main(*sys.argv[1:])
