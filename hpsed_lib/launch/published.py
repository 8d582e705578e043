"""Reproduced beside published results, for ``make compare``, ``make publish`` and ``make cite``.

``results/`` is published and cited, and no run writes there; what is run comes to lie in ``reproduced/``, in the same
layout. `compare` sets the two side by side, `publish` puts a complete and consistent experiment in the other's place,
`citation` says how to cite one.

A run is *identical* if every number of its metrics file is, *compatible* if its tuned F1 lies in the 95 % prediction
interval for one more seed of the published arm, and else *different*.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from scipy import stats

from hpsed_lib.errors import DataError
from hpsed_lib.launch.graph import SHARED, executed_notebooks
from hpsed_lib.params import Experiment, run_settings
from hpsed_lib.paths import ROOT, published_folder, read_json, results_folder
from hpsed_lib.tables import LATEX, load_metrics, made_by

MADE_WITH = ("parameters", "own_pooling", "data", "device", "instruction_set", "n_threads", "versions", "commit")
MADE_BY = (*MADE_WITH, "processor")  # in the order in which a difference is explained
NOT_COMPARED = (*MADE_BY, "commit_date", "device_name", "time")


def compare(experiment: Experiment) -> pd.DataFrame:
    """Every reproduced run beside the published one of its name.

    Returns
    -------
    DataFrame with columns run, pooling, structure, seed, published, reproduced, verdict, reason
        Tuned F1 in percent; ``verdict`` is ``identical``, ``compatible``, ``different`` or ``not published``;
        ``reason`` names the first thing in the provenance that differs where the numbers do.
    """
    paths = {run: published_folder(experiment.name) / "metrics" / f"{run}.json" for run in experiment.runs()}
    published = {run: read_json(path) for run, path in paths.items() if path.is_file()}
    by_arm: dict[tuple[str, str], list[float]] = {}
    for one in published.values():
        by_arm.setdefault((one["pooling"], one["structure"]), []).append(_f_measure(one))
    rows = []
    for own in load_metrics(experiment):
        row = {name: own[name] for name in ("run", "pooling", "structure", "seed")}
        row |= {"published": math.nan, "reproduced": _f_measure(own), "verdict": "not published", "reason": ""}
        if theirs := published.get(own["run"]):
            row |= {"published": _f_measure(theirs), "verdict": "identical"}
            if any(own.get(name) != theirs.get(name) for name in {*own, *theirs} - {*NOT_COMPARED}):
                low, high = _where_one_more_would_lie(by_arm[own["pooling"], own["structure"]])
                row["verdict"] = "compatible" if low <= row["reproduced"] <= high else "different"
                row["reason"] = _first_difference(own, theirs)
        rows.append(row)
    return pd.DataFrame(rows)


def _f_measure(metrics: dict) -> float:
    return 100 * metrics["test"]["overall"]["f_measure"]


def _where_one_more_would_lie(values: Sequence[float]) -> tuple[float, float]:
    """95 % prediction interval of one more value; NaN if there is one only."""
    known = pd.Series(values)
    return stats.t.interval(0.95, len(known) - 1, known.mean(), known.std() * math.sqrt(1 + 1 / len(known)))


def _made_by(metrics: dict, name: str) -> Any:
    if name == "parameters":
        return run_settings(metrics["parameters"])
    return metrics["data"]["checksum"] if name == "data" else metrics.get(name, "not recorded")


def _first_difference(own: dict, theirs: dict) -> str:
    """The first of `MADE_BY` in which two runs differ, in words."""
    for name in MADE_BY:
        here, there, where = _made_by(own, name), _made_by(theirs, name), [name.replace("_", " ")]
        while isinstance(here, dict) and isinstance(there, dict) and here != there:
            key = min(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
            here, there, where = here.get(key), there.get(key), [*where, str(key)]
        if here != there:
            return f"{', '.join(where)}: {here} here, {there} published"
    return "nothing that is recorded"


def verdict_line(compared: pd.DataFrame) -> str:
    """One line for the terminal.

    >>> verdict_line(pd.DataFrame({"verdict": ["identical", "identical"], "reason": ["", ""]}))
    '2 of 2 runs identical to the published ones'
    """
    if (compared.verdict == "not published").all():
        return "none of these runs is published: nothing to compare with"
    counts, reasons = compared.verdict.value_counts(), compared.reason[compared.reason != ""]
    line = f"{counts.get('identical', 0)} of {len(compared)} runs identical to the published ones"
    line += "".join(f", {count} {name}" for name, count in counts.items() if name != "identical")
    return line + (f"; first difference: {reasons.mode()[0]}" if len(reasons) else "")


def publish(experiment: Experiment) -> Path:
    """Put what was reproduced of an experiment in the place of what is published; return the folder.

    Of the executed trainings those of seed 0 are published; the others' numbers, events and curves are in their files.

    Raises
    ------
    DataError
        It is incomplete, or of several commits, parameters or data sets; the message says which runs.
    """
    root = results_folder("").parent
    missing = [path for path in executed_notebooks(experiment).values() if not (root / path).is_file()]
    if missing:
        raise DataError(f"{experiment.name} is incomplete, there is no {', '.join(missing[:3])}: run `make reproduce`")
    metrics = load_metrics(experiment)
    now = {"parameters": experiment.model_dump(mode="json")}
    for name in MADE_WITH:
        others = [run["run"] for run in metrics if _made_by(run, name) != _made_by(metrics[0] | now, name)]
        if others:
            raise DataError(f"{experiment.name} is not of one piece: {name} of {', '.join(others[:5])} differ")
    if "+changes" in metrics[0]["commit"] or metrics[0]["commit"] == "unknown":
        raise DataError(f"{experiment.name} was made by code that is in no commit ({metrics[0]['commit']})")
    left_out = [f"{run}.ipynb" for run in experiment.runs() if not run.endswith("-seed0")]  # megabytes of the same
    for name in (experiment.name, *{Path(folder).parent.name for folder in SHARED.values()}):
        target = published_folder(name)
        fresh = target.with_name(f".{name}.unfinished")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(results_folder(name), fresh, ignore=shutil.ignore_patterns(".*", *left_out))
        for printed in ("table2.csv", "table3.csv", "mlms8.json"):  # the paper's own, which nothing here makes
            if (target / printed).is_file():
                shutil.copy2(target / printed, fresh / printed)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    return published_folder(experiment.name)


def citation(experiment: Experiment) -> str:
    """How to cite an experiment's numbers: BibTeX of this repository and of the paper, and the sentence to write.

    Of the published runs; where there are none, of the reproduced ones.
    """
    is_published = (published_folder(experiment.name) / "metrics").is_dir()
    metrics = load_metrics(experiment, published=is_published)
    ours = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    [paper] = ours["references"]
    made = f"experiment {experiment.name}, {made_by(metrics)}"
    ours |= {"year": ours["date-released"].year, "note": made}
    bibtex = []
    for key, entry in (("software{hpsed", ours), ("article{he2019hierarchical", paper)):
        fields = [f"author = {{{_authors(entry)}}}"]
        names = ("title", "year", "version", "journal", "url", "note")
        fields += [f"{name} = {{{entry[name]}}}" for name in names if name in entry]
        bibtex.append(f"@{key},\n" + "".join(f"  {field},\n" for field in fields) + "}\n")
    sentence = (
        f"The scores are those of hpsed {ours['version']}~\\cite{{hpsed}}, {made} ({experiment.title}); the method is "
        "that of He et al.~\\cite{he2019hierarchical}."
    )
    return "\n".join([*bibtex, sentence]).translate(LATEX)


def _authors(entry: dict) -> str:
    """Authors as BibTeX has them; in braces of its own what is no person's name."""
    names = (
        f"{{{author['name']}}}" if "name" in author else f"{author['family-names']}, {author['given-names']}"
        for author in entry["authors"]
    )
    return " and ".join(names)
