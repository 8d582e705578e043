"""Result tables: from the runs' metrics files to Table 2's layout and the table of contrasts, as CSV, Markdown, LaTeX.

Conventions: every score is in percent, the error rate and its parts too, and a difference of scores in points; in CSV
the names of columns say so (`with_units`). Metrics files hold fractions. Each column is a mean over seeds, so that a
row's F1 is not exactly that of its precision and recall. What can be said about differences stands in the table of
contrasts (`hpsed_lib.comparison`) and nowhere else; relative changes are the paper's own only.
"""

from __future__ import annotations

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
from hpsed_lib.paths import ROOT, published_folder, read_json, replacing, results_folder
from hpsed_lib.runs import load_events

RATES = ["substitution_rate", "deletion_rate", "insertion_rate", "error_rate"]
PERCENTAGES = ["precision", "recall", "f_measure"]
SCORES = [*RATES, *PERCENTAGES]
HEADINGS = {
    "substitution_rate": "Sub.",
    "deletion_rate": "Del.",
    "insertion_rate": "Ins.",
    "error_rate": "ER",
    "precision": "Pre.",
    "recall": "Rec.",
    "f_measure": "F1",
    "f_measure_fixed": "F1 at 0.5",
    "error_rate_change": "ER change",
    "f_measure_change": "F1 change",
    "error_rate_paper": "ER (paper)",
    "f_measure_paper": "F1 (paper)",
}
LATEX = str.maketrans({"`": "", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "±": r"$\pm$"})
PREAMBLE = "".join(f"% \\usepackage{name}\n" for name in ("[T1]{fontenc}", "{booktabs}", "{tabularx}"))
"""What the LaTeX tables need."""
POINTS = {"fixed": "at 0.5", "global_f_measure": "at best F1", "global_error_rate": "at best ER"}
"""Thresholds: 0.5, and those with the best F1 and ER on the tuning clips (`hpsed_lib.runs.operating_points`)."""
_ARM = ["pooling", "structure"]


def load_metrics(experiment: Experiment, *, published: bool = False) -> list[dict]:
    """The metrics files of every run of an experiment, reproduced or published, in the order of the tables.

    A `DataError` names the runs that have none.
    """
    folder = (published_folder if published else results_folder)(experiment.name) / "metrics"
    missing = [run for run in experiment.runs() if not (folder / f"{run}.json").is_file()]
    if missing:
        raise DataError(f"{folder}: no metrics of {', '.join(missing)}; run notebook 03_train_variant for them")
    return [read_json(folder / f"{run}.json") for run in experiment.runs()]


def scores(metrics: list[dict]) -> pd.DataFrame:
    """One row per run: its threshold and test scores (sed_eval, micro-averaged), those of `MEASURES` among them."""
    names = {f"test.overall.{name}": name for name in SCORES}
    names["operating_points.fixed.test.f_measure"] = "f_measure_fixed"
    names["threshold_free.segment.micro.average_precision"] = "segment_ap"
    flat = pd.json_normalize(metrics)
    return flat[[*_ARM, "seed", "threshold"]].join(100 * flat[list(names)].rename(columns=names))


def table2(run_scores: pd.DataFrame, *, paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 2's layout: every pooling function with each structure, means over seeds, and of F1 the seeds' deviation.

    The `paper`'s rows for the same clips, if given, stand beside ours.
    """
    groups = run_scores.groupby(_ARM, sort=False)
    table = groups[[*SCORES, "f_measure_fixed"]].mean()
    table.insert(0, "n_seeds", groups.size())
    table = table.join(groups[["f_measure", "f_measure_fixed"]].std().add_suffix("_sd"))
    if paper is not None:
        table = table.join(paper.set_index(_ARM)[["error_rate", "f_measure"]].add_suffix("_paper"))
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
    """The paper's Table 2, all in percent; in its file, as printed, rates are fractions."""
    table = pd.read_csv(published_folder("paper") / "table2.csv")
    return table.assign(**{name: 100 * table[name] for name in RATES})


def with_units(table: pd.DataFrame) -> pd.DataFrame:
    """The same with units in its columns' names: ``_percent`` for a score, ``_points`` for a difference of scores.

    >>> list(with_units(pd.DataFrame({"n_seeds": [1], "threshold": [0.4], "f_measure": [66.7]})))
    ['n_seeds', 'threshold', 'f_measure_percent']
    """
    scored = table.select_dtypes("float").columns.difference(["threshold", "p_value", "p_holm", "p_equivalence"])
    differences = scored[scored.str.match("difference|low|high")] if "difference" in table else ()
    return table.rename(columns={name: f"{name}_{'points' if name in differences else 'percent'}" for name in scored})


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text: the paper's headings, one decimal, ± the seeds' standard deviation where there is one."""
    text = table.filter(["dataset", *_ARM, "n_seeds"]).rename(columns={"n_seeds": "seeds"})
    for name, heading in HEADINGS.items():
        if name in table:
            text[heading] = _text(table[name], "{:+.1f} %" if name.endswith("_change") else "{:.1f}")
        if f"{name}_sd" in table:
            text[heading] += _text(table[f"{name}_sd"], " ± {:.1f}")
    return text


def _text(numbers: pd.Series, pattern: str) -> pd.Series:
    """Numbers as text; where there is none, none."""
    text = ["" if pd.isna(number) else pattern.format(number) for number in numbers]
    return pd.Series(text, numbers.index, dtype=str)


def formatted_contrasts(table: pd.DataFrame) -> pd.DataFrame:
    """The contrasts of F1 as text: one row each, with its intervals, and what can be said; no column is empty."""
    if table.empty:
        return pd.DataFrame()
    tuned, fixed = (table[table.measure == name].set_index(_ARM) for name in ("f_measure", "f_measure_fixed"))
    columns = {
        "seeds": tuned.n_seeds,
        "F1": _text(tuned["mean"], "{:.1f}") + _text(tuned.sd, " ± {:.1f}"),
        "F1 of single": _text(tuned.reference_mean, "{:.1f}") + _text(tuned.reference_sd, " ± {:.1f}"),
        "minus single": _text(tuned.difference, "{:+.1f}"),
        "other seeds": _text(tuned.low, "{:+.1f}") + _text(tuned.high, " to {:+.1f}"),
        "other recordings": _text(tuned.low_recordings, "{:+.1f}") + _text(tuned.high_recordings, " to {:+.1f}"),
        "at threshold 0.5": _text(fixed.difference, "{:+.1f}"),
        "Holm p": _text(tuned.p_holm, "{:.3f}"),
        "verdict": tuned.verdict,
    }
    text = pd.DataFrame(columns).reset_index()
    return text.loc[:, (text != "").any()]


def latex(text: pd.DataFrame, *, caption: str, label: str) -> str:
    """A text table in LaTeX as wide as a column of the page: a line for each pooling function, its structures below.

    Comments at its top are the lines that the preamble needs. Left out is what a narrow column has no room for: parts
    of the error rate; of the contrasts both scores and the difference at 0.5; the number of seeds (see caption).
    """
    left_out = ["F1", "F1 of single", "at threshold 0.5"] if "minus single" in text else ["Sub.", "Del.", "Ins."]
    columns = text.columns.drop(["pooling", "seeds", *left_out], errors="ignore")
    rows: list[list[str]] = []
    for pooling, group in text.groupby("pooling", sort=False) if len(text) else ():
        rows += [[rf"\makebox[0pt][l]{{{_latex_text(f'*{pooling}*')}}}", *[""] * (len(columns) - 1)]]
        rows += [[_latex_text(value) for value in row] for row in group[columns].to_numpy()]
    kinds = [r">{\raggedright\arraybackslash}X" if name in ("structure", "verdict") else "r" for name in columns]
    headings = ["\\shortstack{" + _latex_text(name).replace(" ", r"\\") + "}" for name in columns]
    format_ = {"index": False, "column_format": f"@{{}}{''.join(kinds)}@{{}}"}
    made = pd.DataFrame(rows, columns=headings).to_latex(caption=_latex_text(caption), label=label, **format_)
    narrow = "\\scriptsize\n\\setlength{\\tabcolsep}{1.2pt}\n\\begin{tabularx}{\\columnwidth}"
    return PREAMBLE + made.replace(r"\begin{tabular}", narrow).replace(r"\end{tabular}", r"\end{tabularx}")


def _latex_text(text: str) -> str:
    """Text with LaTeX's own characters, emphasis and minus signs."""
    text = re.sub(r"\*(.+?)\*", r"\\emph{\1}", text.translate(LATEX)).replace(r" $\pm$ ", r"$\pm$")
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", text)


def operating_points(metrics: list[dict]) -> pd.DataFrame:
    """Error rate, precision, recall and F1 at each of `POINTS`, by (pooling, structure, point), averaged over seeds."""
    rows = [
        {"pooling": run["pooling"], "structure": run["structure"], "point": name}
        | {measure: 100 * run["operating_points"][name]["test"][measure] for measure in SCORES[-4:]}
        for run in metrics
        for name in POINTS
        if name in run["operating_points"]
    ]
    return pd.DataFrame(rows).groupby([*_ARM, "point"], sort=False).mean()


def threshold_free(metrics: list[dict]) -> pd.DataFrame:
    """Scores beside the segment-based ones in percent, by (pooling, structure), averaged over seeds.

    PSDS of both scenarios, average precision and area under the ROC curve of segments (micro), mean average precision
    of frames and clips (macro), event-based F1 and the F1 of audio tagging at 0.5.
    """
    names = {
        "threshold_free.psds.scenario1": "psds_scenario1",
        "threshold_free.psds.scenario2": "psds_scenario2",
        "threshold_free.segment.micro.average_precision": "segment_ap",
        "threshold_free.segment.micro.roc_auc": "segment_roc_auc",
        "threshold_free.frame.macro.average_precision": "frame_map",
        "threshold_free.clip.macro.average_precision": "clip_map",
        "event_based.micro.f_measure": "event_f_measure",
        "tagging.f_measure": "tagging_f_measure",
    }
    flat = pd.json_normalize(metrics).groupby(_ARM, sort=False)
    return 100 * flat[list(names)].mean().rename(columns=names)


def tested_clips(experiment: Experiment, dataset: Dataset) -> pd.DataFrame:
    """Test clips in the order of the counts: filename, sources (recordings, separated by tabs), n_events."""
    clips = read_table(experiment, "clips").set_index("filename").loc[dataset.test.filenames, ["sources"]]
    n_events = dataset.test.strong_labels.filename.value_counts()
    return clips.assign(n_events=n_events.reindex(clips.index, fill_value=0)).reset_index()


def write_tables(experiment: Experiment, metrics: list[dict], clips: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Write an experiment's ``tables/`` and return those that are data frames, by name.

    ``table2`` and ``contrasts`` (csv, md, tex) are to be read; ``scores.csv`` has one row per run, ``intervals.csv``
    what `hpsed_lib.comparison.arms` returns, ``operating_points.csv`` and ``threshold_free.csv`` what the functions of
    these names do, ``test_clips.csv`` the `tested_clips` that the intervals over recordings rest on. Every CSV has the
    columns of `origin`.
    """
    data, comparison = experiment.data, experiment.comparison
    paper = paper_table2().query("dataset == @data.test_set") if isinstance(data, Dcase2017Data) else None
    run_scores, resampled = scores(metrics), resampled_scores(metrics, recording_weights(clips.sources.to_list()))
    compared = contrasts(run_scores, resampled, family=comparison.family, equivalence=comparison.equivalence)
    written = {
        "table2": table2(run_scores, paper=paper),
        "contrasts": compared,
        "scores": run_scores,
        "intervals": arms(run_scores, resampled),
        "operating_points": operating_points(metrics).reset_index(),
        "threshold_free": threshold_free(metrics).reset_index(),
    }
    outputs = {
        f"{name}.csv": with_units(table).assign(**origin(experiment, metrics)).to_csv(index=False, float_format="%.6g")
        for name, table in (written | {"test_clips": clips}).items()
    }
    heading = f"**{title}**\n\n" if (title := _warning(metrics)) else ""
    how_to_read_table2 = (
        "All scores, the error rate too, in percent, column by column the mean over seeds; ±: standard deviation over "
        "seeds. Differences: see the table of contrasts."
    )
    for name, text, how_to_read in (
        ("table2", formatted(written["table2"]), how_to_read_table2),
        ("contrasts", formatted_contrasts(compared), _how_to_read_contrasts(experiment, clips)),
    ):
        caption = f"{describe(experiment, metrics)} {how_to_read}"
        wrapped = textwrap.fill(caption, width=120, break_long_words=False, break_on_hyphens=False)
        outputs[f"{name}.md"] = f"{heading}{text.to_markdown(index=False, disable_numparse=True)}\n\n{wrapped}\n"
        outputs[f"{name}.tex"] = latex(text, caption=caption, label=f"tab:{experiment.name}-{name}")
    for name, content in outputs.items():
        with replacing(results_folder(experiment.name) / "tables" / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return written


def write_coverage(experiment: Experiment, metrics: list[dict], coverage: pd.DataFrame) -> pd.DataFrame:
    """Write ``tables/coverage.csv`` (`coverage_by_class`, one row per class, shares in percent) and return it."""
    flat = coverage.set_axis([f"{split}_{name}" for split, name in coverage.columns], axis=1)
    shares = {name: 100 * flat[name] for name in flat.select_dtypes("float")}
    with replacing(results_folder(experiment.name) / "tables" / "coverage.csv") as temporary:
        with_units(flat.assign(**shares, **origin(experiment, metrics))).to_csv(temporary, float_format="%.6g")
    return coverage


def origin(experiment: Experiment, metrics: list[dict]) -> dict[str, Any]:
    """Columns that every table carries: test clips, experiment and, separated by blanks, commits, their days, seeds."""
    test = metrics[0]["data"]["report"]["test"]
    columns = {"test_clips_used": test["used"], "test_clips_listed": test["listed"], "experiment": experiment.name}
    made = {"commit": "commit", "commit_date": "commit_date", "seeds": "seed"}
    return columns | {
        column: " ".join(dict.fromkeys(str(run.get(name, "unknown")) for run in metrics))
        for column, name in made.items()
    }


def _warning(metrics: list[dict]) -> str:
    """What must stand above every table: clips are missing, or stand in for others."""
    return warning(metrics[0]["data"]["report"], stand_in=metrics[0]["data"]["stand_in"])


def describe(experiment: Experiment, metrics: list[dict]) -> str:
    """What a reader must know of an experiment to read its tables."""
    is_dcase = experiment.data.source == "dcase2017"
    chosen = f"chosen for each run on the {'development' if is_dcase else 'validation'} clips"
    rule = chosen if experiment.decoding.threshold == "validation" else experiment.decoding.threshold
    beginning = f"{title}. " if (title := _warning(metrics)) else ""
    return (
        f"{beginning}`{experiment.name}`: {experiment.title}. Segment-based, {experiment.scoring.time_resolution:g} s, "
        f"micro-averaged over {metrics[0]['n_test_clips']} test clips (sed_eval); threshold {rule}. "
        f"Best constant guess: F1 {100 * metrics[0]['best_constant_guess']:.1f}. "
        f"{coverage_line(metrics[0]['data']['report'])} Made by {made_by(metrics)}."
        + ("" if is_dcase else " These scores say nothing about DCASE 2017 Task 4.")
    )


def made_by(metrics: list[dict]) -> str:
    """Commits, their days, and seeds of the runs, in words."""
    commits = sorted({f"commit {run['commit'][:10]} ({run.get('commit_date', 'no date')})" for run in metrics})
    seeds = sorted({run["seed"] for run in metrics})
    return f"{', '.join(commits)}, seed{'s'[: len(seeds) > 1]} {', '.join(map(str, seeds))}"


def _how_to_read_contrasts(experiment: Experiment, clips: pd.DataFrame) -> str:
    family, within = experiment.comparison.family, experiment.comparison.equivalence
    sources = {name for text in clips.sources for name in text.split("\t") if name}
    text = (
        f"F1 in percent, on {clips.n_events.sum():,} events, {len(sources):,} sources, {len(clips):,} clips; "
        "differences to single in points; *other recordings*: 95 % interval if the test recordings were others, for "
        "these networks (bootstrap). *Same method*: one algorithm, trained twice: the ruler. "
    )
    if all(run.endswith("-seed0") for run in experiment.runs()):
        return text + "One seed: nothing is said about variants, and nothing is tested."
    return text + (
        "±: standard deviation over seeds; *other seeds*: Student's 95 % interval, paired by seed, for this test set. "
        f"Tested: appendix against single of {', '.join(family)}, tuned F1 (paired t test, Holm; equivalent: two "
        f"one-sided tests, ±{within:g} points)."
    )


def histories(metrics: list[dict], *, pooling: str) -> dict[str, pd.DataFrame]:
    """Learning curves of one pooling function by structure, averaged over seeds as far as every seed was trained."""
    runs = [run for run in metrics if run["pooling"] == pooling]
    table = pd.concat([pd.DataFrame(run["history"]).assign(structure=run["structure"]) for run in runs])
    epochs = table.groupby(["structure", "epoch"], sort=False)
    n_runs = epochs.size()
    shared = epochs.mean()[n_runs == n_runs.groupby("structure").transform("max")].reset_index("epoch")
    return dict(iter(shared.groupby("structure", sort=False)))


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
    names = ("commit", "device", "device_name", "n_threads", "instruction_set")
    made = [
        {name: run.get(name, "not recorded") for name in names}
        | run["versions"]
        | {"data SHA-256": run["data"]["checksum"]}
        for run in metrics
    ]
    table = pd.DataFrame(made).astype(str).melt(var_name="what").groupby(["what", "value"], sort=False).size()
    minutes = sum(run["time"]["training_seconds"] for run in metrics) / 60
    table["training, all runs", f"{minutes:.1f} min"] = len(metrics)
    return table.rename("runs").reset_index()


def update_readme() -> None:
    """Put the published contrasts of experiments between their markers in README.md."""
    path = ROOT / "README.md"
    markers = r"(<!-- (\w+): start, written by make readme -->\n).*?(<!-- \2: end -->)"

    def with_table(found: re.Match) -> str:
        table = (published_folder(found[2]) / "tables" / "contrasts.md").read_text(encoding="utf-8")
        return f"{found[1]}\n{table}\n{found[3]}"

    text, n_tables = re.subn(markers, with_table, path.read_text(encoding="utf-8"), flags=re.DOTALL)
    if n_tables == 0:
        raise DataError(f"{path}: lacks lines such as <!-- quick: start, written by make readme --> and its end")
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    update_readme()
    print(ROOT / "README.md")
