"""Figures of the notebooks. The functions draw on the axes they are given; none shows or saves.

Times are in seconds, levels in dB. Colours are seaborn's colour-blind palette; structures differ in line style as well,
so that a figure reads in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy import stats

from hpsed_lib.dataset import Dataset
from hpsed_lib.params import Experiment
from hpsed_lib.paths import replacing
from hpsed_lib.runs import event_to_show

_LINES = {"single": "-", "hierarchical": "--", "appendix": ":", "mixed": "-."}
STYLES: dict[str, dict[str, Any]] = {
    structure: {"color": color, "linestyle": line}
    for (structure, line), color in zip(_LINES.items(), sns.color_palette("colorblind", len(_LINES)), strict=True)
}
"""How each structure is drawn, in every figure."""
POINT_MARKERS = {"fixed": "x", "global_f_measure": "o", "global_error_rate": "s"}
"""How each operating point is drawn."""


def use_style() -> None:
    """Set the one style of every figure: a palette that colour-blind readers can tell apart, 100 dots per inch."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind", font_scale=0.8)
    plt.rcParams.update({"figure.dpi": 100, "savefig.dpi": 100, "figure.constrained_layout.use": True})


def grid(n_panels: int) -> tuple[Figure, list[Axes]]:
    """A figure of panels that share their y axis, at most three in a row, so that their text stays legible."""
    n_rows, n_columns = -(-n_panels // 3), min(n_panels, 3)
    size = (3.4 * n_columns, 0.4 + 3.2 * n_rows)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, sharey=True, squeeze=False)
    for ax in axes.flat[n_panels:]:
        ax.remove()
    return figure, list(axes.flat[:n_panels])


def save(figure: Figure, path: Path) -> None:
    """Write a figure to a file, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary)


def plot_spectrogram(features: np.ndarray, *, hop_duration: float, ax: Axes) -> None:
    """Draw a log-mel spectrogram, (frames, n_mels) in dB."""
    image = ax.imshow(
        features.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        interpolation="nearest",  # a smoothed picture takes half as many bytes again
        extent=(0, len(features) * hop_duration, 0, features.shape[1]),
        vmin=np.percentile(features, 5),
    )
    ax.figure.colorbar(image, ax=ax, label="level (dB)", pad=0.01)
    ax.set(xlabel="time (s)", ylabel="mel band")
    ax.grid(False)


def plot_events(events: pd.DataFrame, *, clip_duration: float, ax: Axes) -> None:
    """Draw events (onset, offset, event_label; seconds) as bars, one row per label."""
    labels = sorted(events.event_label.unique(), reverse=True)
    rows = events.event_label.map(labels.index)
    ax.barh(rows, events.offset - events.onset, left=events.onset, height=0.6, color="0.35")
    ax.set(yticks=range(len(labels)), yticklabels=labels, xlim=(0, clip_duration), xlabel="time (s)")
    ax.set_ylim(-0.7, len(labels) - 0.3)


def plot_detections(
    features: np.ndarray, reference: pd.DataFrame, estimated: pd.DataFrame, *, hop_duration: float, ax: Axes
) -> Axes:
    """Draw a clip's reference events and a run's detections, a pair of rows per label, over its spectrogram."""
    plot_spectrogram(features, hop_duration=hop_duration, ax=ax)
    labels = sorted({*reference.event_label, *estimated.event_label})
    height = features.shape[1] / max(len(labels), 4)
    for row, label in enumerate(labels):
        top = features.shape[1] - row * height
        for events, color, below in ((reference, "white", 0.55), (estimated, "deepskyblue", 0.85)):
            own = events[events.event_label == label]
            bars = list(zip(own.onset, own.offset - own.onset, strict=True))
            place = (top - below * height, 0.25 * height)
            ax.broken_barh(bars, place, facecolor=color, edgecolor="black", linewidth=0.5)
        box = {"facecolor": "white", "alpha": 0.6, "linewidth": 0, "pad": 1}
        ax.text(0.1, top - 0.05 * height, label, va="top", size="small", color="black", bbox=box)
    drawn = [
        Patch(facecolor="white", edgecolor="black", label="reference"),
        Patch(color="deepskyblue", label="detected"),
    ]
    ax.legend(handles=drawn, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize="small", frameon=False)
    return ax


def plot_class_balance(weak_targets: dict[str, np.ndarray], classes: Sequence[str], *, ax: Axes) -> None:
    """Draw how many clips of each split hold each class; arrays are (clips, classes) of 0 and 1."""
    counts = pd.DataFrame({split: target.sum(0) for split, target in weak_targets.items()}, index=list(classes))
    counts.plot.barh(ax=ax, width=0.8)
    ax.invert_yaxis()
    ax.set(xlabel="clips in which the class sounds", ylabel="")
    ax.legend(title="split")


def plot_thresholds(curve: pd.DataFrame, *, chosen: float, ax: Axes) -> None:
    """Draw F1 over every threshold that makes a difference on the tuning clips, and the chosen one.

    A `curve` (threshold, f_measure; from `hpsed_lib.runs.finish_run`) without rows says that there were no such clips.
    """
    ax.plot(curve.threshold, 100 * curve.f_measure)
    ax.axvline(chosen, color="0.4", linestyle="--", label=f"chosen: {chosen:g}")
    ax.set(xlabel="threshold", ylabel="F1 on the tuning clips (%)", xlim=(0, 1))
    if curve.empty:
        ax.set(title="no clips to choose a threshold on: the experiment gives it", yticks=[])
    ax.legend()


def plot_learning_curves(histories: dict[str, pd.DataFrame], *, ax: Axes) -> Axes:
    """Draw the validation loss of each structure over epochs; training loss thin."""
    for structure, history in histories.items():
        ax.plot(history.epoch, history.validation_loss, label=structure, **STYLES[structure])
        ax.plot(history.epoch, history.training_loss, linewidth=0.8, alpha=0.7, **STYLES[structure])
    ax.set(xlabel="epoch", ylabel="loss (A-1)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(title="validation (thick), training (thin)", fontsize="small", title_fontsize="small", loc="upper right")
    return ax


def plot_class_scores(class_scores: pd.DataFrame, *, ax: Axes) -> None:
    """Draw F1 of each class (rows) for each run (columns), in percent."""
    colors = {"cmap": "cividis", "vmin": 0, "vmax": 100, "cbar_kws": {"label": "F1 (%)"}}
    sns.heatmap(class_scores, annot=True, fmt=".0f", ax=ax, **colors)
    ax.set(xlabel="", ylabel="")
    ax.tick_params(axis="x", labelrotation=60)


def figure5(experiment: Experiment, dataset: Dataset, metrics: list[dict]) -> Figure:
    """Figure 5's view: every system's frame probabilities for one test event, under its spectrogram and events.

    Shaded: the reference events of the class; thin lines: thresholds. Of several seeds in `metrics` the first is drawn.
    """
    filename, label = event_to_show(dataset.test)
    events = dataset.test.strong_labels.query("filename == @filename")
    runs = {(run["pooling"], run["structure"]): run for run in reversed(metrics)}  # the first seed comes last
    functions = experiment.pooling.functions
    size, heights = (8.4, 3.4 + 1.4 * len(functions)), [2.2, 1] + [1.3] * len(functions)
    figure, axes = plt.subplots(len(heights), 1, figsize=size, height_ratios=heights, sharex=True)
    features = dataset.test.features[dataset.test.filenames.index(filename)]
    plot_spectrogram(features, hop_duration=experiment.features.hop_duration, ax=axes[0])
    plot_events(events, clip_duration=experiment.data.clip_duration, ax=axes[1])
    for ax, pooling in zip(axes[2:], functions, strict=True):
        for event in events.query("event_label == @label").itertuples():
            ax.axvspan(event.onset, event.offset, color="0.85", zorder=0)
        for structure in functions[pooling].structures:
            run = runs[pooling, structure]
            frame_prob = run["example"]["frame_prob"]
            time = (np.arange(len(frame_prob)) + 0.5) * experiment.frame_duration
            ax.plot(time, frame_prob, label=structure, **STYLES[structure])
            ax.axhline(run["threshold"], linewidth=0.6, **STYLES[structure])
        ax.set(ylim=(-0.02, 1.02), ylabel="frame_prob", title=f"{pooling}: {label}")
    for ax in axes[:2]:
        ax.set_xlabel("")
    axes[-1].set(xlim=(0, len(frame_prob) * experiment.frame_duration), xlabel="time (s)")
    axes[0].set(title=f"test clip {filename}")
    axes[2].legend(loc="upper right", ncols=3, fontsize="small")
    return figure


def plot_contrasts(compared: pd.DataFrame, *, equivalence: float, ax: Axes) -> None:
    """Draw each arm's difference in F1 from ``single`` with its intervals; filled where the verdict is ``different``.

    `compared` is of `hpsed_lib.comparison.contrasts`; shaded are differences within `equivalence` points.
    """
    if compared.empty:
        ax.set(title="no variant to compare with single", xticks=[], yticks=[])
        return
    rows = compared[(compared.measure == "f_measure") & (compared.role != "identical")].reset_index(drop=True)
    ax.axvspan(-equivalence, equivalence, color="0.92", zorder=0)
    ax.axvline(0, color="0.4", linewidth=0.8)
    for place, row in rows.iterrows():
        color = STYLES[row.structure.split(" = ")[0]]["color"]
        ax.plot([row.low_recordings, row.high_recordings], [place, place], color=color, linewidth=5, alpha=0.3)
        ax.plot([row.low, row.high], [place, place], color=color, linewidth=2)
        ax.plot(row.difference, place, "o", color=color, mfc=color if row.verdict == "different" else "white")
    labels = rows.pooling + ": " + rows.structure + " (" + rows.role + ")"
    ax.set(yticks=range(len(rows)), yticklabels=labels, ylim=(len(rows) - 0.5, -0.5))
    ax.set_xlabel("F1 minus F1 of single (points); thin: 95 % over seeds, wide: over recordings")


def plot_operating_points(points: pd.DataFrame, *, pooling: str, ax: Axes) -> Axes:
    """Draw F1 against error rate at each of one pooling function's `hpsed_lib.tables.operating_points`."""
    for (structure, name), row in points.loc[pooling].iterrows():
        style = {"marker": POINT_MARKERS[name], "markerfacecolor": "none", "color": STYLES[structure]["color"]}
        ax.plot(row.error_rate, row.f_measure, linestyle="none", **style)
    ax.set(title=pooling, xlabel="ER (%)", ylabel="F1 (%)")
    return ax


def operating_point_legend(structures: Sequence[str]) -> list[Line2D]:
    """Handles for a legend of `plot_operating_points`: marker by operating point, colour by structure."""
    markers = [Line2D([], [], color="0.3", marker=m, linestyle="none", label=name) for name, m in POINT_MARKERS.items()]
    return markers + [Line2D([], [], color=STYLES[name]["color"], linewidth=3, label=name) for name in structures]


def plot_runs(scores: pd.DataFrame, *, measure: str, ax: Axes) -> None:
    """Draw every run as a dot, arm by arm, and each arm's mean with Student's 95 % interval over seeds.

    `scores` is `hpsed_lib.tables.scores`, `measure` one of its columns, in percent.
    """
    arms = dict(iter(scores.groupby(["pooling", "structure"], sort=False)))
    for place, ((_, structure), runs) in enumerate(arms.items()):
        values, n = runs[measure].to_numpy(), len(runs)
        spread = np.linspace(-0.18, 0.18, n) if n > 1 else np.zeros(1)
        color = STYLES[structure]["color"]
        ax.plot(values, place + spread, "o", color=color, markersize=4, alpha=0.6, linestyle="none")
        if n > 1:
            half = stats.t.ppf(0.975, n - 1) * stats.sem(values)
            ax.errorbar(values.mean(), place, xerr=half, color="0.15", capsize=4, fmt="|", markersize=14)
    ax.set(yticks=range(len(arms)), yticklabels=map(" ".join, arms), ylim=(len(arms) - 0.5, -0.5))
    ax.set_xlabel("F1 (%); dot: one run, bar: mean and its 95 % interval over seeds")


def plot_probabilities(shares: pd.DataFrame, *, pooling: str, where: str, ax: Axes) -> Axes:
    """Draw how the frame probabilities of one pooling function's arms are distributed in one place.

    `shares` is `hpsed_lib.findings.probabilities`; the axis is logarithmic, for most frames lie near 0.
    """
    for structure, bins in shares.query("pooling == @pooling and `where` == @where").groupby("structure", sort=False):
        ax.stairs(bins.share, [*bins.low, 1.0], label=structure, linewidth=1.6, **STYLES[structure])
    ax.set(yscale="log", xlim=(0, 1), xlabel="frame_prob", ylabel="share of frames", title=f"{pooling}, {where}")
    return ax


def plot_directions(looked: pd.DataFrame, *, ax: Axes) -> None:
    """Draw the share of frames that each training pushes up, over its epochs (`hpsed_lib.theory.directions`)."""
    for structure, rows in looked.groupby("trained_as", sort=False):
        ax.plot(rows.epoch, 100 * rows.up, label=structure, **STYLES[structure])
    ax.set(xlabel="epoch", ylabel="frames pushed up (%)", ylim=(-3, 103))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
