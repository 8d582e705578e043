"""Result tables: from the runs' metrics files to Table 2's layout, as CSV, Markdown and LaTeX.

Conventions: rates are fractions; precision, recall and F1 are in percent, as in the paper. A change is relative to
``single`` of the same pooling function, in percent; a falling error rate has a negative change. Intervals are 95 %
bootstrap intervals, and no change stands without a mark that says whether it can be told from none
(`hpsed_lib.comparison`).
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from hpsed_lib.comparison import (
    counts_from_metrics,
    paired_comparisons,
    power_curve,
    score_intervals,
    seed_differences,
    seeds_needed,
    structure_pairs,
)
from hpsed_lib.data.label_audit import label_report, weak_labels
from hpsed_lib.data.manifest import coverage_line, warning
from hpsed_lib.dataset import Dataset
from hpsed_lib.errors import DataError
from hpsed_lib.params import Dcase2017Data, Experiment
from hpsed_lib.paths import ROOT, replacing, results_folder
from hpsed_lib.runs import estimated_events, load_predictions

RATES = ["substitution_rate", "deletion_rate", "insertion_rate", "error_rate"]
LATEX = str.maketrans({"`": "", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#"})
PERCENTAGES = ["precision", "recall", "f_measure"]
HEADINGS = {
    "substitution_rate": "Sub.",
    "deletion_rate": "Del.",
    "insertion_rate": "Ins.",
    "error_rate": "ER",
    "error_rate_interval": "ER, 95 %",
    "precision": "Pre.",
    "recall": "Rec.",
    "f_measure": "F1",
    "f_measure_interval": "F1, 95 %",
    "error_rate_change": "ER change",
    "f_measure_change": "F1 change",
    "error_rate_paper": "ER (paper)",
    "f_measure_paper": "F1 (paper)",
}

POINTS = ("fixed", "global_f_measure", "global_error_rate")
"""Thresholds: 0.5, and those with the best F1 and ER on the tuning clips (`hpsed_lib.runs.operating_points`)."""

MARKS = {
    "better": "*",
    "worse": "*",
    "not distinguishable": "≈",
    "these networks differ, variants not tested": "†",
    "these networks not distinguishable, variants not tested": "≈",
}
"""What stands behind a change, by the verdict of `hpsed_lib.comparison.paired_comparisons`."""


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


def table2(
    run_scores: pd.DataFrame,
    *,
    paper: pd.DataFrame | None = None,
    intervals: pd.DataFrame | None = None,
    compared: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Table 2's layout: every pooling function with each structure, and the change from ``single``.

    Parameters
    ----------
    run_scores : DataFrame
        From `scores`; several seeds are averaged.
    paper : DataFrame, optional
        The paper's rows for the same clips, to stand beside ours.
    intervals : DataFrame, optional
        From `hpsed_lib.comparison.score_intervals`.
    compared : DataFrame, optional
        From `comparisons`.

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
    if intervals is not None:
        of_variants = intervals[intervals.seed.isna()]
        for name, rows in of_variants.groupby("measure"):
            ends = rows.set_index(["pooling", "structure"])[["low", "high"]]
            table[f"{name}_low"], table[f"{name}_high"] = ends.low, ends.high
    if compared is not None:
        for name, rows in compared.groupby("measure"):
            table[f"{name}_verdict"] = rows.set_index(["pooling", "structure"]).verdict
    if paper is not None:
        theirs = paper.set_index(["pooling", "structure"])[["error_rate", "f_measure"]].add_suffix("_paper")
        table = table.join(theirs)
    return table


def label_effects(experiment: Experiment, dataset: Dataset, run: dict) -> pd.DataFrame:
    """What is odd in the test clips' labels, and what removing it would do to one run's score.

    Parameters
    ----------
    run : dict
        The run's metrics.

    Returns
    -------
    DataFrame
        From `hpsed_lib.data.label_audit.label_report`.
    """
    frame_prob = load_predictions(experiment, run["run"])["test"]
    return label_report(
        dataset.test.strong_labels,
        weak_labels(dataset.test.weak_target, filenames=dataset.test.filenames, classes=dataset.classes),
        filenames=dataset.test.filenames,
        classes=dataset.classes,
        clip_duration=experiment.data.clip_duration,
        time_resolution=experiment.scoring.time_resolution,
        estimated=estimated_events(experiment, dataset, dataset.test, frame_prob, threshold=run["threshold"]),
    )


def paper_table2() -> pd.DataFrame:
    """The paper's Table 2 as printed; rates are fractions, precision, recall, F1 and changes percent."""
    return pd.read_csv(ROOT / "results" / "paper" / "table2.csv")


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text, with the paper's headings and its number of decimals."""
    text = pd.DataFrame(index=table.index)
    for name, heading in HEADINGS.items():
        measure = name.removesuffix("_interval").removesuffix("_change")
        if name.endswith("_interval") and f"{measure}_low" in table:
            decimals = 2 if measure == "error_rate" else 1
            ends = zip(table[f"{measure}_low"], table[f"{measure}_high"], strict=True)
            text[heading] = [f"{low:.{decimals}f} to {high:.{decimals}f}" for low, high in ends]
        elif name in table:
            pattern = "{:+.1f} %" if name.endswith("_change") else "{:.2f}"
            text[heading] = [pattern.format(value) if pd.notna(value) else "" for value in table[name]]
        if name.endswith("_change") and heading in text and f"{measure}_verdict" in table:
            marks = table[f"{measure}_verdict"].map(MARKS).fillna("")
            text[heading] = [f"{value} {mark}".strip() for value, mark in zip(text[heading], marks, strict=True)]
    return text.reset_index()


def comparisons(metrics: list[dict]) -> pd.DataFrame:
    """Every variant against ``single`` of its pooling function; no row where there is no such pair."""
    counts = counts_from_metrics(metrics)
    pairs = structure_pairs(counts)
    columns = ["pooling", "structure", "measure", "difference", "low", "high", "p_clips", "p_seeds", "p_adjusted"]
    return paired_comparisons(counts, pairs) if pairs else pd.DataFrame(columns=[*columns, "verdict"])


def seed_study(metrics: list[dict]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How many seeds it would take to see the paper's smallest claimed gain in F1, for each comparison with ``single``.

    Parameters
    ----------
    metrics : list of dict
        Of two seeds or more; with one the tables have no rows.

    Returns
    -------
    needed : DataFrame with columns pooling, structure, gain, bound, sd, n_seeds
    curves : DataFrame with columns pooling, structure, gain, bound, sd, n_seeds, power
        See `hpsed_lib.comparison.seeds_needed` and `power_curve`.
    """
    counts = counts_from_metrics(metrics)
    differences = seed_differences(counts, structure_pairs(counts)).query("measure == 'f_measure'")
    gain = claimed_gain()
    needed, curves = [], []
    for (pooling, structure), rows in differences.groupby(["pooling", "structure"], sort=False):
        if len(rows) > 1:
            keys = {"pooling": pooling, "structure": structure, "gain": gain}
            needed.append(seeds_needed(rows.difference.to_numpy(), gain=gain).assign(**keys))
            curves.append(power_curve(rows.difference.to_numpy(), gain=gain).assign(**keys))
    columns = ["pooling", "structure", "gain", "bound", "sd", "n_seeds"]
    curves = [curve for curve in curves if len(curve)]  # one without rows would make objects of the others' numbers
    nothing = pd.DataFrame(columns=[*columns, "power"])
    return (
        pd.concat(needed, ignore_index=True)[columns] if needed else nothing[columns],
        pd.concat(curves, ignore_index=True)[nothing.columns] if curves else nothing,
    )


def claimed_gain() -> float:
    """The smallest gain in F1, in points, that the paper's Table 2 prints for ``hierarchical`` over ``single``."""
    f_measure = paper_table2().set_index(["dataset", "pooling", "structure"]).f_measure.unstack("structure")
    return float((f_measure["hierarchical"] - f_measure["single"]).min())


def operating_points(metrics: list[dict]) -> pd.DataFrame:
    """Test scores of every variant at each of `POINTS`, averaged over seeds; precision, recall, F1 in percent.

    Returns
    -------
    DataFrame indexed by (pooling, structure, point) with columns error_rate, precision, recall, f_measure
    """
    rows = [
        {
            "pooling": run["pooling"],
            "structure": run["structure"],
            "point": name,
            "error_rate": point["test"]["error_rate"],
            **{measure: 100 * point["test"][measure] for measure in PERCENTAGES},
        }
        for run in metrics
        for name, point in run["operating_points"].items()
        if name in POINTS
    ]
    return pd.DataFrame(rows).groupby(["pooling", "structure", "point"], sort=False).mean()


def threshold_free(metrics: list[dict]) -> pd.DataFrame:
    """Scores beside the segment-based ones, averaged over seeds, as fractions.

    Returns
    -------
    DataFrame indexed by (pooling, structure)
        PSDS of both scenarios, average precision and area under the ROC curve of segments (micro), mean average
        precision of frames and clips (macro), event-based F1 and the F1 of audio tagging at 0.5.
    """
    rows = []
    for run in metrics:
        free = run["threshold_free"]
        rows.append(
            {
                "pooling": run["pooling"],
                "structure": run["structure"],
                **{f"PSDS {name}": area for name, area in free["psds"].items()},
                "segment AP": free["segment"]["micro"]["average_precision"],
                "segment ROC AUC": free["segment"]["micro"]["roc_auc"],
                "frame mAP": free["frame"]["macro"]["average_precision"],
                "clip mAP": free["clip"]["macro"]["average_precision"],
                "event F1": run["event_based"]["micro"]["f_measure"],
                "tagging F1": run["tagging"]["f_measure"],
            }
        )
    return pd.DataFrame(rows).groupby(["pooling", "structure"], sort=False).mean()


def write_table2(experiment: Experiment, metrics: list[dict]) -> pd.DataFrame:
    """Write ``tables/table2.{csv,md,tex}`` and the tables behind it and beside it; return the table.

    ``scores.csv`` has one row per run, ``intervals.csv`` every interval, ``comparisons.csv`` every difference with its
    tests, ``operating_points.csv`` and ``threshold_free.csv`` what `operating_points` and `threshold_free` return.

    Parameters
    ----------
    metrics : list of dict
        From `load_metrics`.

    Returns
    -------
    DataFrame
        From `table2`.
    """
    folder = results_folder(experiment.name) / "tables"
    run_scores = scores(metrics)
    data = experiment.data
    paper = paper_table2().query("dataset == @data.test_set") if isinstance(data, Dcase2017Data) else None
    intervals, compared = score_intervals(counts_from_metrics(metrics)), comparisons(metrics)
    table = table2(run_scores, paper=paper, intervals=intervals, compared=compared if len(compared) else None)
    text = formatted(table)
    counts = metrics[0]["data"]["report"]
    on = {"test_clips_used": counts["test"]["used"], "test_clips_listed": counts["test"]["listed"]}
    caption = describe(experiment, metrics)
    wrapped = textwrap.fill(caption, width=120, break_long_words=False, break_on_hyphens=False)
    title = warning(counts, stand_in=metrics[0]["data"]["stand_in"])
    outputs = {
        "scores.csv": run_scores.assign(**on).to_csv(index=False, float_format="%.6g"),
        "intervals.csv": intervals.assign(**on).to_csv(index=False, float_format="%.6g"),
        "comparisons.csv": compared.assign(**on).to_csv(index=False, float_format="%.6g"),
        "operating_points.csv": operating_points(metrics).assign(**on).to_csv(float_format="%.6g"),
        "threshold_free.csv": threshold_free(metrics).assign(**on).to_csv(float_format="%.6g"),
        "table2.csv": table.assign(**on).to_csv(float_format="%.6g"),
        "table2.md": (f"**{title}**\n\n" if title else "")
        + f"{text.to_markdown(index=False, disable_numparse=True)}\n\n{wrapped}\n",
        "table2.tex": text.to_latex(
            index=False, caption=caption.translate(LATEX), label=f"tab:{experiment.name}", escape=True
        ).translate({ord("≈"): r"$\approx$", ord("†"): r"$\dagger$"}),
    }
    for name, content in outputs.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return table


def write_coverage(experiment: Experiment, coverage: pd.DataFrame) -> pd.DataFrame:
    """Write ``tables/coverage.csv`` (`coverage_by_class`, one row per class) and return it."""
    with replacing(results_folder(experiment.name) / "tables" / "coverage.csv") as temporary:
        flat = coverage.set_axis([f"{split}_{name}" for split, name in coverage.columns], axis=1)
        flat.to_csv(temporary, float_format="%.6g")
    return coverage


ONE_SEED = (
    "one seed, so that no variant is tested against another, only the trained networks",
    "≈: these two networks cannot be told apart by these clips; †: they can, which another training may reverse.",
)
SEVERAL_SEEDS = "≈: not distinguishable from single; *: different from single (Holm-adjusted p < 0.05)."


def describe(experiment: Experiment, metrics: list[dict]) -> str:
    """What a reader must know to read the table, in a few sentences."""
    n_seeds = len(experiment.training.seeds)
    threshold = experiment.decoding.threshold
    tuned_on = "development" if experiment.data.source == "dcase2017" else "validation"
    rule = f"chosen for each run on the {tuned_on} clips" if threshold == "validation" else f"{threshold}"
    seeds, marks = ONE_SEED if n_seeds == 1 else (f"mean of {n_seeds} seeds", SEVERAL_SEEDS)
    meaning = "" if experiment.data.source == "dcase2017" else " These scores say nothing about DCASE 2017 Task 4."
    counts = metrics[0]["data"]["report"]
    title = warning(counts, stand_in=metrics[0]["data"]["stand_in"])
    return (
        f"{title}{'. ' if title else ''}`{experiment.name}`: {experiment.title}. "
        f"Segment-based, {experiment.scoring.time_resolution:g} s, "
        f"micro-averaged over {metrics[0]['n_test_clips']} test clips (sed_eval); "
        f"threshold {rule}; {seeds}. Precision, recall and F1 "
        f"in percent; changes are relative to single. Intervals: 95 %, bootstrap over "
        f"{'clips' if n_seeds == 1 else 'clips and seeds'}. {marks} "
        f"Best constant guess: F1 {100 * metrics[0]['best_constant_guess']:.2f}. {coverage_line(counts)}{meaning}"
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


def update_readme() -> str:
    """README.md with the experiments' and the benchmark's tables between their markers; writes and returns it."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for name in ("quick", "esc10", "bench"):
        start, end = README_START.format(name=name), README_END.format(name=name)
        if start not in text or end not in text:
            raise DataError(f"{path}: lacks the lines {start!r} and {end!r}")
        table_file = "ratios.md" if name == "bench" else "tables/table2.md"
        table = (results_folder(name) / table_file).read_text(encoding="utf-8")
        head, tail = text.split(start)[0], text.split(end)[1]
        text = f"{head}{start}\n\n{table}\n{end}{tail}"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


if __name__ == "__main__":
    update_readme()
    print(Path(ROOT / "README.md"))
