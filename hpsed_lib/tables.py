"""Result tables: from the runs' metrics files to Table 2's layout and the table of contrasts, as CSV, Markdown, LaTeX.

Conventions: rates are fractions; precision, recall and F1 are in percent, as in the paper. Each column is a mean over
seeds, so that a row's F1 is not exactly that of its precision and recall. What can be said about differences stands in
the table of contrasts (`hpsed_lib.comparison`) and nowhere else; relative changes are the paper's own only.
"""

from __future__ import annotations

import json
import re
import textwrap
from typing import Any

import pandas as pd

from hpsed_lib.comparison import arms, contrasts, recording_weights, resampled_scores
from hpsed_lib.data.label_audit import label_report, weak_labels
from hpsed_lib.data.manifest import coverage_line, warning
from hpsed_lib.dataset import Dataset, read_table
from hpsed_lib.errors import DataError
from hpsed_lib.params import Dcase2017Data, Experiment
from hpsed_lib.paths import ROOT, published_folder, replacing, results_folder
from hpsed_lib.runs import load_events

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
    "f_measure_sd": "± seeds",
    "f_measure_fixed": "F1 at 0.5",
    "f_measure_fixed_sd": "± seeds ",
    "error_rate_change": "ER change",
    "f_measure_change": "F1 change",
    "error_rate_paper": "ER (paper)",
    "f_measure_paper": "F1 (paper)",
}

POINTS = ("fixed", "global_f_measure", "global_error_rate")
"""Thresholds: 0.5, and those with the best F1 and ER on the tuning clips (`hpsed_lib.runs.operating_points`)."""


def load_metrics(experiment: Experiment, *, published: bool = False) -> list[dict]:
    """The metrics files of every run of an experiment, reproduced or published, in the order of the tables.

    Raises
    ------
    DataError
        A run has none: notebook 03 has not run for it.
    """
    folder = (published_folder if published else results_folder)(experiment.name) / "metrics"
    missing = [run for run in experiment.runs() if not (folder / f"{run}.json").is_file()]
    if missing:
        raise DataError(f"{folder}: no metrics of {', '.join(missing)}; run notebook 03_train_variant for them")
    return [json.loads((folder / f"{run}.json").read_text()) for run in experiment.runs()]


def scores(metrics: list[dict]) -> pd.DataFrame:
    """One row per run: its threshold and test scores (sed_eval, micro-averaged), those of `MEASURES` among them."""
    return pd.DataFrame(
        [
            {
                "pooling": run["pooling"],
                "structure": run["structure"],
                "seed": run["seed"],
                "threshold": run["threshold"],
                **{name: run["test"]["overall"][name] for name in RATES},
                **{name: 100 * run["test"]["overall"][name] for name in PERCENTAGES},
                "f_measure_fixed": 100 * run["operating_points"]["fixed"]["test"]["f_measure"],
                "segment_ap": 100 * run["threshold_free"]["segment"]["micro"]["average_precision"],
            }
            for run in metrics
        ]
    )


def table2(run_scores: pd.DataFrame, *, paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 2's layout: every pooling function with each structure, means over seeds, and of F1 the seeds' deviation.

    The `paper`'s rows for the same clips, if given, stand beside ours.
    """
    groups = run_scores.groupby(["pooling", "structure"], sort=False)
    table = groups[[*RATES, *PERCENTAGES, "f_measure_fixed"]].mean()
    table.insert(0, "n_seeds", groups.size())
    for name in ("f_measure", "f_measure_fixed"):
        table[f"{name}_sd"] = groups[name].std()
    if paper is not None:
        theirs = paper.set_index(["pooling", "structure"])[["error_rate", "f_measure"]].add_suffix("_paper")
        table = table.join(theirs)
    return table.reset_index()


def label_effects(experiment: Experiment, dataset: Dataset, run: dict) -> pd.DataFrame:
    """What is odd in the test clips' labels, and what removing it would do to one run's score (`label_report`)."""
    names: dict[str, Any] = {"filenames": dataset.test.filenames, "classes": dataset.classes}
    return label_report(
        dataset.test.strong_labels,
        weak_labels(dataset.test.weak_target, **names),
        **names,
        clip_duration=experiment.data.clip_duration,
        time_resolution=experiment.scoring.time_resolution,
        estimated=load_events(experiment, run["run"]),
    )


def paper_table2() -> pd.DataFrame:
    """The paper's Table 2 as printed; rates are fractions, precision, recall, F1 and changes percent."""
    return pd.read_csv(published_folder("paper") / "table2.csv")


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text, with the paper's headings and its number of decimals."""
    text = table[[name for name in ("dataset", "pooling", "structure", "n_seeds") if name in table]]
    text = text.rename(columns={"n_seeds": "seeds"})
    for name, heading in HEADINGS.items():
        if name in table:
            pattern = "{:+.1f} %" if name.endswith("_change") else "{:.1f}" if name.endswith("_sd") else "{:.2f}"
            text[heading] = [pattern.format(value) if pd.notna(value) else "" for value in table[name]]
    return text


def formatted_contrasts(table: pd.DataFrame) -> pd.DataFrame:
    """The contrasts of F1 as text: one row each, with the interval over seeds, and what can be said."""

    def both(mean: float, sd: float) -> str:
        return f"{mean:.1f}" + (f" ± {sd:.1f}" if pd.notna(sd) else "")

    def interval(row: pd.Series, suffix: str = "") -> str:
        low, high = row[f"low{suffix}"], row[f"high{suffix}"]
        return f" ({low:+.1f} to {high:+.1f})" if pd.notna(low) else ""

    if table.empty:
        return pd.DataFrame()
    fixed = table[table.measure == "f_measure_fixed"].set_index(["pooling", "structure"])
    rows = []
    for _, row in table[table.measure == "f_measure"].iterrows():
        at_half = fixed.loc[(row.pooling, row.structure)]
        rows.append(
            {
                "pooling": row.pooling,
                "structure": row.structure,
                "seeds": row.n_seeds,
                "F1": both(row["mean"], row.sd),
                "F1 of single": both(row.reference_mean, row.reference_sd),
                "difference (95 %)": f"{row.difference:+.1f}{interval(row)}",
                "other recordings": interval(row, "_recordings").strip(" ()"),
                "at threshold 0.5": f"{at_half.difference:+.1f}{interval(at_half)}",
                "Holm p": f"{row.p_holm:.3f}" if pd.notna(row.p_holm) else "",
                "verdict": row.verdict,
            }
        )
    return pd.DataFrame(rows)


def operating_points(metrics: list[dict]) -> pd.DataFrame:
    """Test scores at each of `POINTS`, averaged over seeds; precision, recall, F1 in percent.

    Returns
    -------
    DataFrame indexed by (pooling, structure, point) with columns error_rate, precision, recall, f_measure
    """
    rows = [
        {"pooling": run["pooling"], "structure": run["structure"], "point": name}
        | {"error_rate": run["operating_points"][name]["test"]["error_rate"]}
        | {measure: 100 * run["operating_points"][name]["test"][measure] for measure in PERCENTAGES}
        for run in metrics
        for name in POINTS
        if name in run["operating_points"]
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
    rows = [
        {
            "pooling": run["pooling"],
            "structure": run["structure"],
            **{f"PSDS {name}": area for name, area in run["threshold_free"]["psds"].items()},
            "segment AP": run["threshold_free"]["segment"]["micro"]["average_precision"],
            "segment ROC AUC": run["threshold_free"]["segment"]["micro"]["roc_auc"],
            "frame mAP": run["threshold_free"]["frame"]["macro"]["average_precision"],
            "clip mAP": run["threshold_free"]["clip"]["macro"]["average_precision"],
            "event F1": run["event_based"]["micro"]["f_measure"],
            "tagging F1": run["tagging"]["f_measure"],
        }
        for run in metrics
    ]
    return pd.DataFrame(rows).groupby(["pooling", "structure"], sort=False).mean()


def tested_clips(experiment: Experiment, dataset: Dataset) -> pd.DataFrame:
    """Test clips in the order of the counts: filename, sources (recordings, separated by tabs), n_events."""
    clips = read_table(experiment, "clips").set_index("filename").loc[dataset.test.filenames, ["sources"]]
    n_events = dataset.test.strong_labels.filename.value_counts()
    return clips.assign(n_events=n_events.reindex(clips.index, fill_value=0)).reset_index()


def write_tables(experiment: Experiment, metrics: list[dict], clips: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Write an experiment's ``tables/`` and return those that are data frames, by name.

    ``table2`` and ``contrasts`` (csv, md, tex) are to be read; ``scores.csv`` has one row per run, ``intervals.csv``
    what `hpsed_lib.comparison.arms` returns, ``operating_points.csv`` and ``threshold_free.csv`` what the functions of
    these names do, ``test_clips.csv`` the `tested_clips` that the intervals over recordings rest on.
    """
    data, report = experiment.data, metrics[0]["data"]["report"]
    family, equivalence = experiment.comparison.family, experiment.comparison.equivalence
    paper = paper_table2().query("dataset == @data.test_set") if isinstance(data, Dcase2017Data) else None
    run_scores, resampled = scores(metrics), resampled_scores(metrics, recording_weights(clips.sources.to_list()))
    written = {
        "table2": table2(run_scores, paper=paper),
        "contrasts": contrasts(run_scores, resampled, family=family, equivalence=equivalence),
        "scores": run_scores,
        "intervals": arms(run_scores, resampled),
        "operating_points": operating_points(metrics).reset_index(),
        "threshold_free": threshold_free(metrics).reset_index(),
    }
    on = {"test_clips_used": report["test"]["used"], "test_clips_listed": report["test"]["listed"]}
    on |= {"experiment": experiment.name, "made_by": made_by(metrics)}
    outputs = {
        f"{name}.csv": table.assign(**on).to_csv(index=False, float_format="%.6g") for name, table in written.items()
    }
    outputs["test_clips.csv"] = clips.to_csv(index=False)
    title = warning(report, stand_in=metrics[0]["data"]["stand_in"])
    for name, text, how_to_read in (
        ("table2", formatted(written["table2"]), HOW_TO_READ_TABLE2),
        ("contrasts", formatted_contrasts(written["contrasts"]), _how_to_read_contrasts(experiment, clips)),
    ):
        caption = f"{describe(experiment, metrics)} {how_to_read}"
        wrapped = textwrap.fill(caption, width=120, break_long_words=False, break_on_hyphens=False)
        table = text.to_markdown(index=False, disable_numparse=True)
        outputs[f"{name}.md"] = "\n\n".join([*([f"**{title}**"] if title else []), table, wrapped]) + "\n"
        outputs[f"{name}.tex"] = text.to_latex(
            index=False, caption=caption.translate(LATEX), label=f"tab:{experiment.name}-{name}", escape=True
        ).replace("±", r"$\pm$")
    for name, content in outputs.items():
        with replacing(results_folder(experiment.name) / "tables" / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return written


def write_coverage(experiment: Experiment, coverage: pd.DataFrame) -> pd.DataFrame:
    """Write ``tables/coverage.csv`` (`coverage_by_class`, one row per class) and return it."""
    with replacing(results_folder(experiment.name) / "tables" / "coverage.csv") as temporary:
        flat = coverage.set_axis([f"{split}_{name}" for split, name in coverage.columns], axis=1)
        flat.to_csv(temporary, float_format="%.6g")
    return coverage


def describe(experiment: Experiment, metrics: list[dict]) -> str:
    """What a reader must know of an experiment to read its tables."""
    threshold = experiment.decoding.threshold
    tuned_on = "development" if experiment.data.source == "dcase2017" else "validation"
    rule = f"chosen for each run on the {tuned_on} clips" if threshold == "validation" else f"{threshold}"
    counts = metrics[0]["data"]["report"]
    title = warning(counts, stand_in=metrics[0]["data"]["stand_in"])
    return (
        f"{title}{'. ' if title else ''}`{experiment.name}`: {experiment.title}. Segment-based, "
        f"{experiment.scoring.time_resolution:g} s, micro-averaged over {metrics[0]['n_test_clips']} test clips "
        f"(sed_eval); threshold {rule}. Best constant guess: F1 {100 * metrics[0]['best_constant_guess']:.2f}. "
        f"{coverage_line(counts)} Made by {made_by(metrics)}."
        + ("" if experiment.data.source == "dcase2017" else " These scores say nothing about DCASE 2017 Task 4.")
    )


def made_by(metrics: list[dict]) -> str:
    """Commits, their days, and seeds of the runs, in words."""
    commits = sorted({f"commit {run['commit'][:10]} ({run.get('commit_date', 'no date')})" for run in metrics})
    seeds = sorted({run["seed"] for run in metrics})
    return f"{', '.join(commits)}, seed{'s'[: len(seeds) > 1]} {', '.join(map(str, seeds))}"


HOW_TO_READ_TABLE2 = (
    "Precision, recall and F1 in percent, column by column the mean over seeds; ±: standard deviation over seeds. "
    "Differences: see the table of contrasts."
)


def _how_to_read_contrasts(experiment: Experiment, clips: pd.DataFrame) -> str:
    family, within = experiment.comparison.family, experiment.comparison.equivalence
    sources = {name for text in clips.sources for name in text.split("\t") if name}
    on = f"{clips.n_events.sum():,} events, {len(sources):,} sources, {len(clips):,} clips"
    if all(run.endswith("-seed0") for run in experiment.runs()):
        return f"F1 in percent, on {on}. One seed: nothing is said about variants, and nothing is tested."
    return (
        f"F1 in percent, ± standard deviation over seeds; differences to single in points, paired by seed, with "
        f"Student's 95 % interval, for this test set ({on}); *other recordings*: its 95 % interval if the test "
        f"recordings were others, for these networks (bootstrap). *same method*: one algorithm, trained twice: the "
        f"ruler. Tested: appendix against single of {', '.join(family)}, tuned F1 (paired t test, Holm; "
        f"equivalent: two one-sided tests, ±{within:g} points)."
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
    made = [
        {
            name: run.get(name, "not recorded")
            for name in ("commit", "device", "device_name", "n_threads", "instruction_set")
        }
        | run["versions"]
        | {"data SHA-256": run["data"]["checksum"]}
        for run in metrics
    ]
    table = pd.DataFrame(made).astype(str).melt(var_name="what").groupby(["what", "value"], sort=False).size()
    minutes = sum(run["time"]["training_seconds"] for run in metrics) / 60
    table["training, all runs", f"{minutes:.1f} min"] = len(metrics)
    return table.rename("runs").reset_index()


README_TABLE = re.compile(r"(<!-- (\w+): start, written by make readme -->\n).*?(<!-- \2: end -->)", flags=re.DOTALL)


def update_readme() -> str:
    """README.md with the published contrasts of experiments between their markers; writes and returns it."""
    path = ROOT / "README.md"

    def with_table(found: re.Match) -> str:
        table = (published_folder(found[2]) / "tables" / "contrasts.md").read_text(encoding="utf-8")
        return f"{found[1]}\n{table}\n{found[3]}"

    text, n_tables = README_TABLE.subn(with_table, path.read_text(encoding="utf-8"))
    if n_tables == 0:
        raise DataError(f"{path}: lacks lines such as <!-- quick: start, written by make readme --> and its end")
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


if __name__ == "__main__":
    update_readme()
    print(ROOT / "README.md")
