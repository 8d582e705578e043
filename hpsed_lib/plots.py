"""Figures of the notebooks. The functions draw on the axes they are given and return them; none shows or saves.

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

LINE_STYLES = {"single": "-", "hierarchical": "--", "appendix": ":", "mixed": "-."}
"""How each structure is drawn, in every figure."""
LABEL_BOX = {"facecolor": "white", "alpha": 0.6, "linewidth": 0, "pad": 1}


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


def structure_colors() -> dict[str, tuple]:
    """The colour of each structure, in every figure."""
    return dict(zip(LINE_STYLES, sns.color_palette("colorblind", len(LINE_STYLES)), strict=True))


def plot_spectrogram(features: np.ndarray, *, hop_duration: float, ax: Axes) -> Axes:
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
    return ax


def plot_events(events: pd.DataFrame, *, clip_duration: float, ax: Axes) -> Axes:
    """Draw events (onset, offset, event_label; seconds) as bars, one row per label."""
    labels = sorted(events.event_label.unique(), reverse=True)
    for onset, offset, label in events[["onset", "offset", "event_label"]].itertuples(index=False):
        ax.barh(labels.index(label), offset - onset, left=onset, height=0.6, color="0.35")
    ax.set(yticks=range(len(labels)), yticklabels=labels, xlim=(0, clip_duration), xlabel="time (s)")
    ax.set_ylim(-0.7, len(labels) - 0.3)
    return ax


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
            bars = [
                (event.onset, event.offset - event.onset) for event in events[events.event_label == label].itertuples()
            ]
            ax.broken_barh(
                bars, (top - below * height, 0.25 * height), facecolor=color, edgecolor="black", linewidth=0.5
            )
        ax.text(0.1, top - 0.05 * height, label, va="top", size="small", color="black", bbox=LABEL_BOX)
    handles = [
        Patch(facecolor="white", edgecolor="black", label="reference"),
        Patch(color="deepskyblue", label="detected"),
    ]
    ax.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize="small", frameon=False)
    return ax


def plot_class_balance(weak_targets: dict[str, np.ndarray], classes: Sequence[str], *, ax: Axes) -> Axes:
    """Draw how many clips of each split hold each class; arrays are (clips, classes) of 0 and 1."""
    counts = pd.DataFrame({split: target.sum(0) for split, target in weak_targets.items()}, index=list(classes))
    counts.plot.barh(ax=ax, width=0.8)
    ax.invert_yaxis()
    ax.set(xlabel="clips in which the class sounds", ylabel="")
    ax.legend(title="split")
    return ax


def plot_thresholds(curve: pd.DataFrame, *, chosen: float, ax: Axes) -> Axes:
    """Draw F1 over every threshold that makes a difference on the tuning clips, and the chosen one.

    A `curve` (threshold, f_measure; from `hpsed_lib.runs.finish_run`) without rows says that there were no such clips.
    """
    ax.plot(curve.threshold, 100 * curve.f_measure)
    ax.axvline(chosen, color="0.4", linestyle="--", label=f"chosen: {chosen:g}")
    ax.set(xlabel="threshold", ylabel="F1 on the tuning clips (%)", xlim=(0, 1))
    if curve.empty:
        ax.set(title="no clips to choose a threshold on: the experiment gives it", yticks=[])
    ax.legend()
    return ax


def plot_learning_curves(histories: dict[str, pd.DataFrame], *, ax: Axes) -> Axes:
    """Draw the validation loss of each structure over epochs; training loss thin."""
    colors = structure_colors()
    for structure, history in histories.items():
        style: dict[str, Any] = {"color": colors[structure], "linestyle": LINE_STYLES[structure]}
        ax.plot(history.epoch, history.validation_loss, label=structure, **style)
        ax.plot(history.epoch, history.training_loss, linewidth=0.8, alpha=0.7, **style)
    ax.set(xlabel="epoch", ylabel="loss (A-1)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(title="validation (thick), training (thin)", fontsize="small", title_fontsize="small", loc="upper right")
    return ax


def plot_frame_predictions(
    frame_probs: dict[str, np.ndarray],
    reference: pd.DataFrame,
    *,
    thresholds: dict[str, float],
    frame_duration: float,
    ax: Axes,
) -> Axes:
    """Draw one class's frame probabilities (frames,) under each structure, over its reference events, shaded.

    Thin lines are the thresholds; `reference` has the columns onset and offset, in seconds, as is `frame_duration`.
    """
    colors = structure_colors()
    for onset, offset in reference[["onset", "offset"]].itertuples(index=False):
        ax.axvspan(onset, offset, color="0.85", zorder=0)
    for structure, frame_prob in frame_probs.items():
        style: dict[str, Any] = {"color": colors[structure], "linestyle": LINE_STYLES[structure]}
        time = (np.arange(len(frame_prob)) + 0.5) * frame_duration
        ax.plot(time, frame_prob, label=structure, **style)
        ax.axhline(thresholds[structure], linewidth=0.6, **style)
    ax.set(ylim=(-0.02, 1.02), xlim=(0, len(frame_prob) * frame_duration), xlabel="time (s)", ylabel="frame_prob")
    return ax


def plot_class_scores(class_scores: pd.DataFrame, *, ax: Axes) -> Axes:
    """Draw F1 of each class (rows) for each run (columns), in percent."""
    sns.heatmap(
        class_scores, annot=True, fmt=".0f", cmap="cividis", vmin=0, vmax=100, ax=ax, cbar_kws={"label": "F1 (%)"}
    )
    ax.set(xlabel="", ylabel="")
    ax.tick_params(axis="x", labelrotation=60)
    return ax


def figure5(experiment: Experiment, dataset: Dataset, metrics: list[dict]) -> Figure:
    """Figure 5's view: every system's frame probabilities for one test event, under its spectrogram and events.

    Of several seeds in `metrics` the first is drawn.
    """
    filename, label = event_to_show(dataset.test)
    events = dataset.test.strong_labels.query("filename == @filename")
    runs = {(run["pooling"], run["structure"]): run for run in reversed(metrics)}  # the first seed comes last
    names = experiment.pooling.functions
    figure, axes = plt.subplots(
        2 + len(names),
        1,
        figsize=(8.4, 3.4 + 1.4 * len(names)),
        height_ratios=[2.2, 1] + [1.3] * len(names),
        sharex=True,
    )
    plot_spectrogram(
        dataset.test.features[dataset.test.filenames.index(filename)],
        hop_duration=experiment.features.hop_duration,
        ax=axes[0],
    )
    plot_events(events, clip_duration=experiment.data.clip_duration, ax=axes[1])
    for ax, pooling in zip(axes[2:], names, strict=True):
        shown = {structure: runs[pooling, structure] for structure in experiment.pooling.functions[pooling].structures}
        plot_frame_predictions(
            {name: np.array(run["example"]["frame_prob"]) for name, run in shown.items()},
            events.query("event_label == @label"),
            thresholds={name: run["threshold"] for name, run in shown.items()},
            frame_duration=experiment.frame_duration,
            ax=ax,
        ).set(title=f"{pooling}: {label}")
    for ax in axes[:-1]:
        ax.set_xlabel("")
    axes[0].set(title=f"test clip {filename}")
    axes[2].legend(loc="upper right", ncols=3, fontsize="small")
    return figure


def plot_contrasts(compared: pd.DataFrame, *, equivalence: float, ax: Axes) -> Axes:
    """Draw each arm's difference in F1 from ``single`` with its intervals; filled where the verdict is ``different``.

    Parameters
    ----------
    compared : DataFrame
        From `hpsed_lib.comparison.contrasts`.
    equivalence : float
        Points, shaded.
    """
    if compared.empty:
        ax.set(title="no variant to compare with single", xticks=[], yticks=[])
        return ax
    rows = compared[(compared.measure == "f_measure") & (compared.role != "identical")].reset_index(drop=True)
    ax.axvspan(-equivalence, equivalence, color="0.92", zorder=0)
    ax.axvline(0, color="0.4", linewidth=0.8)
    for place, row in rows.iterrows():
        color = structure_colors()[row.structure.split(" = ")[0]]
        ax.plot([row.low_recordings, row.high_recordings], [place, place], color=color, linewidth=5, alpha=0.3)
        ax.plot([row.low, row.high], [place, place], color=color, linewidth=2)
        ax.plot(row.difference, place, "o", color=color, mfc=color if row.verdict == "different" else "white")
    labels = rows.pooling + ": " + rows.structure + " (" + rows.role + ")"
    ax.set(yticks=range(len(rows)), yticklabels=labels, ylim=(len(rows) - 0.5, -0.5))
    ax.set_xlabel("F1 minus F1 of single (points); thin: 95 % over seeds, wide: over recordings")
    return ax


POINT_MARKERS = {"fixed": "x", "global_f_measure": "o", "global_error_rate": "s"}
"""How each operating point is drawn."""


def plot_operating_points(points: pd.DataFrame, *, pooling: str, ax: Axes) -> Axes:
    """Draw F1 against error rate at each of one pooling function's `hpsed_lib.tables.operating_points`."""
    colors = structure_colors()
    for (structure, name), row in points.loc[pooling].iterrows():
        style: dict[str, Any] = {"markerfacecolor": "none", "color": colors[structure], "linestyle": "none"}
        ax.plot(row.error_rate, row.f_measure, marker=POINT_MARKERS[name], **style)
    ax.set(title=pooling, xlabel="ER (%)", ylabel="F1 (%)")
    return ax


def operating_point_legend(structures: Sequence[str]) -> list[Line2D]:
    """Handles for a legend of `plot_operating_points`: marker by operating point, colour by structure."""
    markers = [Line2D([], [], color="0.3", marker=m, linestyle="none", label=name) for name, m in POINT_MARKERS.items()]
    return markers + [Line2D([], [], color=structure_colors()[name], linewidth=3, label=name) for name in structures]


def plot_runs(scores: pd.DataFrame, *, measure: str, ax: Axes) -> Axes:
    """Draw every run as a dot, arm by arm, and each arm's mean with Student's 95 % interval over seeds.

    `scores` is `hpsed_lib.tables.scores`, `measure` one of its columns, in percent.
    """
    arms = scores.assign(arm=scores.pooling + " " + scores.structure)
    names = list(dict.fromkeys(arms.arm))
    for place, (_, runs) in enumerate(arms.groupby("arm", sort=False)):
        color, values = structure_colors()[runs.structure.iloc[0]], runs[measure].to_numpy()
        spread = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
        ax.plot(values, place + spread, "o", color=color, markersize=4, alpha=0.6, linestyle="none")
        if len(values) > 1:
            half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
            ax.errorbar(values.mean(), place, xerr=half, color="0.15", capsize=4, fmt="|", markersize=14)
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    ax.set_xlabel("F1 (%); dot: one run, bar: mean and its 95 % interval over seeds")
    return ax


def plot_probabilities(shares: pd.DataFrame, *, pooling: str, where: str, ax: Axes) -> Axes:
    """Draw how the frame probabilities of one pooling function's arms are distributed in one place.

    `shares` is `hpsed_lib.findings.probabilities`; the axis is logarithmic, for most frames lie near 0.
    """
    for structure, bins in shares.query("pooling == @pooling and `where` == @where").groupby("structure", sort=False):
        style: dict[str, Any] = {"color": structure_colors()[structure], "linestyle": LINE_STYLES[structure]}
        ax.stairs(bins.share, [*bins.low, 1.0], label=structure, linewidth=1.6, **style)
    ax.set(yscale="log", xlim=(0, 1), xlabel="frame_prob", ylabel="share of frames", title=f"{pooling}, {where}")
    return ax


def plot_directions(looked: pd.DataFrame, *, ax: Axes) -> Axes:
    """Draw the share of frames that each training pushes up, over its epochs (`hpsed_lib.theory.directions`)."""
    for structure, rows in looked.groupby("trained_as", sort=False):
        style: dict[str, Any] = {"color": structure_colors()[str(structure)], "linestyle": LINE_STYLES[str(structure)]}
        ax.plot(rows.epoch, 100 * rows.up, label=structure, **style)
    ax.set(xlabel="epoch", ylabel="frames pushed up (%)", ylim=(-3, 103))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax
