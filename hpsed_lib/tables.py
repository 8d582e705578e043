"""Result tables: from the runs' metrics files to Table 2's layout, as CSV, Markdown and LaTeX.

Conventions: rates are fractions; precision, recall and F1 are in percent, as in the paper. A change is relative to
``single`` of the same pooling function, in percent; a falling error rate has a negative change.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from hpsed_lib.errors import DataError
from hpsed_lib.params import Experiment
from hpsed_lib.paths import ROOT, replacing, results_folder

RATES = ["substitution_rate", "deletion_rate", "insertion_rate", "error_rate"]
LATEX = str.maketrans({"`": "", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#"})
PERCENTAGES = ["precision", "recall", "f_measure"]
HEADINGS = {
    "substitution_rate": "Sub.",
    "deletion_rate": "Del.",
    "insertion_rate": "Ins.",
    "error_rate": "ER",
    "precision": "Pre.",
    "recall": "Rec.",
    "f_measure": "F1",
    "error_rate_change": "ER change",
    "f_measure_change": "F1 change",
    "error_rate_paper": "ER (paper)",
    "f_measure_paper": "F1 (paper)",
}


def load_metrics(experiment: Experiment) -> list[dict]:
    """The metrics files of every run of an experiment, in the order of the tables.

    Raises
    ------
    DataError
        A run has none: notebook 03 has not run for it.
    """
    folder = results_folder(experiment.name) / "metrics"
    missing = [run for run in experiment.runs() if not (folder / f"{run}.json").is_file()]
    if missing:
        raise DataError(f"{folder}: no metrics of {', '.join(missing)}; run notebook 03_train_variant for them")
    return [json.loads((folder / f"{run}.json").read_text()) for run in experiment.runs()]


def scores(metrics: list[dict]) -> pd.DataFrame:
    """One row per run: pooling, structure, seed, threshold, test scores (sed_eval, micro-averaged)."""
    return pd.DataFrame(
        [
            {
                "pooling": run["pooling"],
                "structure": run["structure"],
                "seed": run["seed"],
                "threshold": run["threshold"],
                **{name: run["test"]["overall"][name] for name in RATES},
                **{name: 100 * run["test"]["overall"][name] for name in PERCENTAGES},
            }
            for run in metrics
        ]
    )


def table2(run_scores: pd.DataFrame, *, paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 2's layout: every pooling function with each structure, and the change from ``single``.

    Parameters
    ----------
    run_scores : DataFrame
        From `scores`; several seeds are averaged.
    paper : DataFrame, optional
        The paper's rows for the same clips, to stand beside ours.

    Returns
    -------
    DataFrame indexed by (pooling, structure)
    """
    table = run_scores.groupby(["pooling", "structure"], sort=False)[RATES + PERCENTAGES].mean()
    for name in ("error_rate", "f_measure"):
        single = table[name].xs("single", level="structure") if "single" in run_scores.structure.values else None
        if single is not None:
            base = table.index.get_level_values("pooling").map(single.replace(0, np.nan))
            table[f"{name}_change"] = (100 * (table[name] / base - 1)).where(
                table.index.get_level_values("structure") != "single"
            )
    if paper is not None:
        theirs = paper.set_index(["pooling", "structure"])[["error_rate", "f_measure"]].add_suffix("_paper")
        table = table.join(theirs)
    return table


def paper_table2() -> pd.DataFrame:
    """The paper's Table 2 as printed; rates are fractions, precision, recall, F1 and changes percent."""
    return pd.read_csv(ROOT / "results" / "paper" / "table2.csv")


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text, with the paper's headings and its number of decimals."""
    text = pd.DataFrame(index=table.index)
    for name, heading in HEADINGS.items():
        if name in table:
            pattern = "{:+.1f} %" if name.endswith("_change") else "{:.2f}"
            text[heading] = [pattern.format(value) if pd.notna(value) else "" for value in table[name]]
    return text.reset_index()


def write_table2(experiment: Experiment, metrics: list[dict]) -> pd.DataFrame:
    """Write ``tables/scores.csv`` (one row per run) and ``tables/table2.{csv,md,tex}``; return the table.

    Parameters
    ----------
    experiment : Experiment
    metrics : list of dict
        From `load_metrics`.

    Returns
    -------
    DataFrame
        From `table2`.
    """
    folder = results_folder(experiment.name) / "tables"
    run_scores = scores(metrics)
    paper = paper_table2().query("dataset == 'development'") if experiment.data.source == "dcase2017" else None
    table = table2(run_scores, paper=paper)
    text = formatted(table)
    caption = describe(experiment, metrics)
    outputs = {
        "scores.csv": run_scores.to_csv(index=False, float_format="%.6g"),
        "table2.csv": table.to_csv(float_format="%.6g"),
        "table2.md": f"{text.to_markdown(index=False, disable_numparse=True)}\n\n{caption}\n",
        "table2.tex": text.to_latex(
            index=False, caption=caption.translate(LATEX), label=f"tab:{experiment.name}", escape=True
        ),
    }
    for name, content in outputs.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return table


def describe(experiment: Experiment, metrics: list[dict]) -> str:
    """What a reader must know to read the table, in a few sentences."""
    n_seeds = len(experiment.training.seeds)
    threshold = experiment.decoding.threshold
    rule = "chosen for each run on the validation clips" if threshold == "validation" else f"{threshold}"
    seeds = "one seed, so that differences between rows are not tested" if n_seeds == 1 else f"mean of {n_seeds} seeds"
    meaning = "" if experiment.data.source == "dcase2017" else " These scores say nothing about DCASE 2017 Task 4."
    return (
        f"`{experiment.name}`: {experiment.title}. Segment-based, {experiment.scoring.time_resolution:g} s, "
        f"micro-averaged over {metrics[0]['n_test_clips']} test clips (sed_eval); "
        f"threshold {rule}; {seeds}. Precision, recall and F1 "
        f"in percent; changes are relative to single. Best constant guess: F1 "
        f"{100 * metrics[0]['best_constant_guess']:.2f}.{meaning}"
    )


def histories(metrics: list[dict], *, pooling: str) -> dict[str, pd.DataFrame]:
    """Learning curves of one pooling function by structure, averaged over seeds as far as every seed was trained."""
    frames: dict[str, list[pd.DataFrame]] = {}
    for run in metrics:
        if run["pooling"] == pooling:
            frames.setdefault(run["structure"], []).append(pd.DataFrame(run["history"]))
    shared = {name: min(len(history) for history in group) for name, group in frames.items()}
    return {
        name: pd.concat(group).groupby("epoch", as_index=False).mean().head(shared[name])
        for name, group in frames.items()
    }


def class_f_measure(metrics: list[dict]) -> pd.DataFrame:
    """F1 in percent, classes by pooling and structure, averaged over seeds."""
    rows = [
        {"event_label": label, "variant": f"{run['pooling']} {run['structure']}", "f_measure": 100 * score["f_measure"]}
        for run in metrics
        for label, score in run["test"]["class_wise"].items()
    ]
    return pd.DataFrame(rows).groupby(["event_label", "variant"], sort=False).f_measure.mean().unstack()


def provenance(metrics: list[dict]) -> pd.DataFrame:
    """What made the numbers: commit, device, versions, data checksum and time, and how many runs share each."""
    rows = []
    for name in ("commit", "device", "device_name", "n_threads"):
        for value, count in pd.Series([str(run[name]) for run in metrics]).value_counts().items():
            rows.append({"what": name, "value": value, "runs": count})
    for package in metrics[0]["versions"]:
        for value, count in pd.Series([run["versions"][package] for run in metrics]).value_counts().items():
            rows.append({"what": package, "value": value, "runs": count})
    for value, count in pd.Series([run["data"]["checksum"] for run in metrics]).value_counts().items():
        rows.append({"what": "data SHA-256", "value": value, "runs": count})
    seconds = sum(run["time"]["training_seconds"] for run in metrics)
    rows.append({"what": "training, all runs", "value": f"{seconds / 60:.1f} min", "runs": len(metrics)})
    return pd.DataFrame(rows)


README_START, README_END = "<!-- {name}: start, written by make readme -->", "<!-- {name}: end -->"


def update_readme(names: tuple[str, ...] = ("quick", "esc10")) -> str:
    """README.md with the experiments' tables between their markers; writes it and returns it."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for name in names:
        start, end = README_START.format(name=name), README_END.format(name=name)
        if start not in text or end not in text:
            raise DataError(f"{path}: lacks the lines {start!r} and {end!r}")
        table = (results_folder(name) / "tables" / "table2.md").read_text(encoding="utf-8")
        head, tail = text.split(start)[0], text.split(end)[1]
        text = f"{head}{start}\n\n{table}\n{end}{tail}"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


if __name__ == "__main__":
    update_readme()
    print(Path(ROOT / "README.md"))
