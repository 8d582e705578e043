"""Reproduce one experiment: ``python -m hpsed_lib.launch.workflow EXPERIMENT``, the command behind ``make reproduce``.

Snakemake decides what has to run and runs it; this module starts it, lets nothing outlive its own end, however that
comes, and says at the end what came out. The same command again goes on where the last one stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from hpsed_lib.errors import DataError, ExecutionError, HpsedError, ParameterError
from hpsed_lib.launch import slurm
from hpsed_lib.launch.damaged import name_changed_results, set_aside_damaged
from hpsed_lib.launch.gpus import runs_on_gpus, visible_gpus
from hpsed_lib.launch.graph import executed_notebooks, last_launch
from hpsed_lib.launch.status import statuses
from hpsed_lib.params import Experiment, load_experiment, require_available, with_seeds
from hpsed_lib.paths import FAILURES, ROOT, cache_folder, files_below, naming_full_disk, replacing, results_folder
from hpsed_lib.processes import end_with_launcher, kill_family, only_one

Source = dict[str, str | bool]  # see `data_source`
PROFILES = ROOT / "workflow" / "profiles"
PATIENCE = 10.0  # s to wait for a launcher that may be about to end


def data_source(experiment: str, data: Path | None, *, download: bool) -> Source:
    """Where the recordings come from: what is given now, or what was given the last time.

    Beside ``data_folder`` and ``download`` a ``fingerprint`` of the folder's files (paths, sizes, times), whose change
    makes Snakemake prepare the data again; hidden files, and the list of what could not be fetched, do not count. A
    folder that is no longer there keeps its fingerprint: what has been made from it stays valid.
    """
    source = last_launch(experiment)["source"]
    if data is not None:
        if not data.expanduser().is_dir():
            raise DataError(f"no folder {data}: expected the folder of the recordings")
        source["data_folder"] = os.path.relpath(data.expanduser(), ROOT)  # the kernels work there
    elif download and load_experiment(experiment).data.source == "esc10":
        source |= {"data_folder": "", "fingerprint": ""}  # ESC-10 is fetched; labels are fetched into a folder given
    source["download"] = download or source["download"]
    folder = ROOT / str(source["data_folder"])
    if source["data_folder"] and folder.is_dir():
        listing = []
        for name in files_below(folder):
            if not Path(name).name.startswith(".") and Path(name).name != FAILURES:
                with contextlib.suppress(FileNotFoundError):  # it went away just now
                    stat = (folder / name).stat()
                    listing.append(f"{name} {stat.st_size} {stat.st_mtime_ns}")
        source["fingerprint"] = hashlib.sha256("\n".join(listing).encode()).hexdigest()[:16]
    return source


def available_cores() -> int:
    """Number of processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def snakemake_command(experiment: str, n_seeds: int, source: Source, cluster: str, *options: str) -> list[str]:
    """Snakemake's command line, whose ``--config`` the Snakefile reads."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--nolock"]
    command += ["--workflow-profile", f"workflow/profiles/{cluster or 'default'}", *options]
    settings = {"experiment": experiment, "n_seeds": n_seeds, "cluster": cluster}
    # As lists of one: Snakemake takes quotes away, and YAML would see a number or a comment in a folder's name.
    settings |= {key: json.dumps([value]) for key, value in source.items()}
    return [*command, "--config", *(f"{key}={value}" for key, value in settings.items())]


def reproduce(experiment: str, source: Source, n_seeds: int = 0, cluster: str = "", cores: int | None = None) -> int:
    """Run Snakemake until it ends and return its exit status; nothing of it is left when this function is left.

    `cluster` is a folder in ``workflow/profiles``; without it everything runs here, as many runs at a time as there
    are `cores`.
    """
    if cluster:
        options = ["--slurm-jobname-prefix", slurm.job_prefix(experiment), *(["--jobs", str(cores)] if cores else [])]
    else:
        options = ["--cores", str(cores or available_cores()), "--resources", f"gpu={runs_on_gpus()}"]
    command = snakemake_command(experiment, n_seeds, source, cluster, *options)
    # A local launch ends what is left on a cluster, where it can; each run's lock keeps it from doubling anyway.
    left_there = last_launch(experiment)["cluster"] and shutil.which("squeue") is not None
    if (cluster or left_there) and (n_jobs := slurm.cancel_jobs(experiment)):
        print(f"cancelled {n_jobs} jobs that an earlier launch had left; their runs go on from here", file=sys.stderr)
    with replacing(cache_folder(experiment) / "launch.json") as temporary:
        launch = {"n_seeds": n_seeds, "cluster": cluster, "source": source}
        temporary.write_text(json.dumps(launch, indent=1) + "\n", encoding="utf-8")
    if cluster:
        print(f"how far it is, from another terminal: make status EXPERIMENT={experiment}", file=sys.stderr)
    # Its own session: Ctrl-C reaches this process only, which then ends everything at once.
    launched = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        return launched.wait()
    finally:
        if launched.poll() is None:
            kill_family(psutil.Process(launched.pid))
        if cluster or left_there:
            slurm.cancel_jobs(experiment)


def write_report(name: str, n_seeds: int) -> Path:
    """Have Snakemake write its report of what is there, one HTML file that needs no network, and return its path."""
    if not (results_folder(name) / "tables" / "table2.md").is_file():
        raise DataError(f"no results of {name}: run `make reproduce EXPERIMENT={name}` first")
    path, source = cache_folder(name) / "report.html", data_source(name, None, download=False)
    command = snakemake_command(name, n_seeds, source, "", "--cores", "1", "--report", str(path))
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ended.returncode != 0:
        raise ExecutionError(f"Snakemake cannot write a report of {name}:\n{ended.stderr.strip()}")
    return path


def report_success(experiment: Experiment) -> None:
    """Print the table of results, where the executed notebooks are, and whether what is published came back."""
    from hpsed_lib.launch.published import compare, verdict_line  # here: SciPy and PyTorch take longer than all else

    print("\n" + (results_folder(experiment.name) / "tables" / "table2.md").read_text(encoding="utf-8"))
    print("\n  ".join(["Executed notebooks:", *executed_notebooks(experiment).values()]))
    print(verdict_line(compare(experiment)))


def report_failure(experiment: Experiment) -> None:
    """Print what has failed, and what is left to do."""
    lines, unfinished = [f"\nexperiment {experiment.name} is not complete"], []
    for execution in statuses(experiment):
        if execution.failure:
            lines.append(f"  {execution.name} " + execution.failure.replace("\n", "\n    "))
        elif execution.state != "done":
            unfinished.append(execution.name)
    if unfinished:
        lines.append(f"  not run, or ended from outside: {', '.join(unfinished)}")
    lines.append("The same command goes on from here; what is finished is not done again.")
    print("\n".join(lines), file=sys.stderr)


def _stop(signal_number: int, _frame: object) -> None:
    print("stopped; the same command goes on from here", file=sys.stderr)
    raise SystemExit(128 + signal_number)


def _checked(options: argparse.Namespace) -> Experiment:
    """The experiment that is asked for, if it can be launched like this."""
    if Path(options.experiment).name != options.experiment or options.experiment.endswith((".yaml", ".yml")):
        raise ParameterError(f"{options.experiment}: give the name of a file in params/, without folder and ending")
    experiment = with_seeds(load_experiment(options.experiment), options.seeds)
    clusters = [path.parent.name for path in PROFILES.glob("*/config.yaml") if path.parent.name != "default"]
    if options.cluster and options.cluster not in clusters:
        raise ParameterError(f"no cluster {options.cluster!r} in workflow/profiles/; there: {', '.join(clusters)}")
    if options.cores is not None and options.cores < 1:
        raise ParameterError(f"CORES must be 1 or more, got {options.cores}")
    if any(own.file for own in experiment.pooling.functions.values()):
        from hpsed_lib.networks.own_pooling import pooling_function  # PyTorch, which no other launch needs

        for name in experiment.pooling.functions:
            pooling_function(experiment, name)
    return experiment


def _require_all(experiment: Experiment, options: argparse.Namespace, source: Source) -> None:
    """Refuse an experiment that lacks its data, its GPU or both, and name all that it lacks."""
    lacks = []
    if not options.cluster and experiment.training.device == "cuda" and not visible_gpus():
        lacks.append("training.device is 'cuda', and there is no GPU here; set it to auto or cpu")
    if options.data or not (cache_folder(experiment.name) / "data.json").is_file():
        try:
            require_available(experiment, data_folder=str(source["data_folder"]), download=bool(source["download"]))
        except DataError as error:
            lacks.append(str(error))
    if lacks:
        raise ParameterError("\nerror: ".join(lacks))


def main() -> int:
    """Command line; returns 0, 1 if something failed, or 2 if the experiment could not be started."""
    parser = argparse.ArgumentParser(prog="python -m hpsed_lib.launch.workflow", description="Reproduce an experiment.")
    parser.add_argument("experiment", help="name of a file in params/")
    parser.add_argument("--data", type=Path, help="folder of recordings; remembered until another one is given")
    parser.add_argument("--download", action="store_true", help="fetch the recordings if they are not there")
    parser.add_argument("--seeds", type=int, default=0, help="train seeds 0 to SEEDS - 1, not the experiment's own")
    parser.add_argument("--cluster", default="", help="run on the Slurm cluster of this folder in workflow/profiles/")
    parser.add_argument("--cores", type=int, help="runs at a time (default: all cores; on a cluster, see its profile)")
    options = parser.parse_args()
    end_with_launcher()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)

    def waiting(holder: str) -> None:
        print(f"process {holder} is running this experiment; waiting {PATIENCE:.0f} s for its end", file=sys.stderr)

    try:
        experiment = _checked(options)
        lock = cache_folder(experiment.name) / "workflow.lock"
        with naming_full_disk(lock), only_one(lock, waiting, patience=PATIENCE):
            set_aside_damaged(experiment.name)
            name_changed_results()
            source = data_source(experiment.name, options.data, download=options.download)
            _require_all(experiment, options, source)
            status = reproduce(experiment.name, source, options.seeds, options.cluster, options.cores)
    except HpsedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if status != 0:
        report_failure(experiment)
        return 1
    report_success(experiment)
    return 0


if __name__ == "__main__":
    sys.exit(main())
