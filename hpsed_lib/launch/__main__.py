"""What is asked of an experiment beside its launch: ``python -m hpsed_lib.launch WHAT EXPERIMENT``, see the Makefile.

Ends with 0, with 1 if runs that are compared are not all identical, or with 2 if it cannot be done.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from hpsed_lib.errors import HpsedError
from hpsed_lib.launch.graph import last_launch
from hpsed_lib.launch.status import table
from hpsed_lib.launch.workflow import write_report
from hpsed_lib.params import load_experiment, with_seeds
from hpsed_lib.paths import ROOT


def answer(what: str, name: str, n_seeds: int | None, cores: int | None) -> int:
    """Print the answer and return the exit status."""
    if n_seeds is None:
        n_seeds = 0 if what == "plan" else last_launch(name)["n_seeds"]
    experiment = with_seeds(load_experiment(name), n_seeds)
    if what == "status":
        print(table(experiment))
        return 0
    if what == "report":
        print(os.path.relpath(write_report(name, n_seeds), ROOT))
        return 0
    from hpsed_lib.launch import plan, published, site  # here: PyTorch takes longer than all else
    from hpsed_lib.tables import update_readme

    if what == "compare":
        compared = published.compare(experiment)
        print(f"{compared.round(2).to_string(index=False)}\n{published.verdict_line(compared)}")
        return 0 if (compared.verdict == "identical").all() else 1
    if what == "plan":
        print(plan.plan_here(experiment, cores))
    elif what == "publish":
        print(f"published: {published.publish(experiment)}")
        update_readme()
    elif what == "cite":
        print(published.citation(experiment))
    else:
        print(site.build(experiment).relative_to(ROOT))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m hpsed_lib.launch")
    parser.add_argument("what", choices=["cite", "compare", "plan", "publish", "report", "site", "status"])
    parser.add_argument("experiment", help="name of a file in params/")
    parser.add_argument("--seeds", type=int, help="as in the launch (default: as in the last launch)")
    parser.add_argument("--cores", type=int, help="to plan: runs at a time (default: all cores)")
    options = parser.parse_args(arguments)
    try:
        return answer(options.what, options.experiment, options.seeds, options.cores)
    except HpsedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
