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

STRUCTURES = ["single", "hierarchical", "appendix"]
SEEDS = 6
OUTPUTS = {
    "01_data_preparation": f'paths = ["cache/{NAME}/data.json"]',
    "03_train_variant": (
        'run = f"{pooling}-{structure}-seed{seed}"\n'
        f'paths = [f"results/{NAME}/metrics/{{run}}.json", f"cache/{NAME}/runs/{{run}}/predictions.npz"]'
    ),
}
WRITE = """
from pathlib import Path
for path in map(Path, paths):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
"""


def empty_notebooks(folder: Path) -> None:
    """Put notebooks of the same parameters, that only write their outputs, in the place of the real ones."""
    for name, outputs in OUTPUTS.items():
        path = folder / f"notebooks/{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        notebook.cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        notebook.cells.append(nbformat.v4.new_code_cell(outputs + WRITE))
        nbformat.write(notebook, path)


def seconds(folder: Path, cluster: str, targets: list[str]) -> tuple[float, float]:
    """Elapsed time and processor time of making some outputs."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--nolock"]
    command += ["--workflow-profile", f"workflow/profiles/{cluster or 'default'}"]
    command += ["--jobs" if cluster else "--cores", "2"]
    command += ["--config", f"experiment={NAME}", f"n_seeds={SEEDS}", f"cluster={cluster}", "--", *targets]
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, processor


def main(cluster: str = "") -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Project(Path(temporary), small_experiment(STRUCTURES, n_epochs=1)).folder
        empty_notebooks(folder)
        seconds(folder, "", [f"cache/{NAME}/data.json"])
        runs = [f"linear-{structure}-seed{seed}" for structure in STRUCTURES for seed in range(SEEDS)]
        targets = [f"results/{NAME}/metrics/{run}.json" for run in runs]
        elapsed, processor = seconds(folder, cluster, targets)
        elapsed_again, processor_again = seconds(folder, cluster, targets)  # nothing is left to do
        if cluster:
            shown = subprocess.run(
                ["scontrol", "--oneliner", "show", "job"], capture_output=True, text=True, check=True
            )
            times = [
                sum(int(n) * 60**i for i, n in enumerate(text.split(":")[::-1]))
                for text in re.findall(r" RunTime=([\d:]+)", shown.stdout)
            ]
            print(f"{len(times)} jobs: {sum(times) / len(times):.1f} s of a node for each run")
        else:
            print(f"{len(runs)} runs: {(processor - processor_again) / len(runs):.2f} s of a core for each run")
        print(f"{elapsed:.0f} s in all, {elapsed_again:.0f} s when nothing was left to do")


if __name__ == "__main__":
    main(*sys.argv[1:])
