"""Figures of the notebooks. The functions draw on the axes they are given and return them; none shows or saves.

Times are in seconds, levels in dB. Colours are seaborn's colour-blind palette; structures differ in line style as well,
so that a figure reads in grey.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from hpsed_lib.dataset import Dataset, Split
from hpsed_lib.params import Experiment
from hpsed_lib.paths import replacing
from hpsed_lib.runs import load_predictions

if TYPE_CHECKING:
    from hpsed_lib.theory.dynamics import Flow

LINE_STYLES = {"single": "-", "hierarchical": "--", "appendix": ":", "mixed": "-."}
"""How each structure is drawn, in every figure."""


def use_style() -> None:
    """Set the one style of every figure: a palette that colour-blind readers can tell apart, 100 dots per inch."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind", font_scale=0.8)
    plt.rcParams.update({"figure.dpi": 100, "savefig.dpi": 100, "figure.constrained_layout.use": True})


def save(figure: Figure, path: Path) -> None:
    """Write a figure to a file, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary)


def plot_loss_gradients(
    frame_prob: npt.ArrayLike,
    target: int,
    *,
    pooling: str,
    ax: Axes,
    attention: npt.ArrayLike | None = None,
    segment_lengths: Sequence[int] = (5, 5),
    quantity: str = "dL/dx",
    structures: Sequence[str] = ("single", "appendix"),
) -> Axes:
    """Draw the gradient of the loss at each frame of one clip, one line per structure.

    Parameters
    ----------
    frame_prob : array-like, shape (frames,)
        Probability of one class in each frame.
    target : {0, 1}
        The clip's label.
    pooling : str
        Pooling function (Table 1).
    attention : array-like, shape (frames,), optional
        Non-negative weights; used by attention pooling only.
    segment_lengths : sequence of int
        Frames per segment of each stage before the last.
    quantity : {"dL/dx", "dL/dw"}
        Which gradient; "dL/dw" for attention pooling only.
    structures : sequence of str
        Structures to draw; ``hierarchical`` has the gradient of ``single``.

    References
    ----------
    Eqs. A-1 to A-3 and Table A-1; its two columns differ in the prediction that stands beside -y.
    """
    from hpsed_lib.theory import dynamics  # it brings SymPy, which takes as long to import as a notebook's start

    frames = np.arange(1, np.size(frame_prob) + 1)
    for structure in structures:
        gradient = dynamics.loss_gradient(
            frame_prob,
            target,
            pooling=pooling,
            structure=structure,
            quantity=quantity,
            segment_lengths=segment_lengths,
            attention=attention,
        )
        style, color = LINE_STYLES[structure], structure_colors()[structure]
        ax.plot(frames, gradient, style, color=color, label=structure, linewidth=1.8)
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    symbol = "x" if quantity == "dL/dx" else "w"
    ax.set(title=f"{pooling}, $t = {target}$", xlabel="frame $i$", ylabel=rf"$\partial L\,/\,\partial {symbol}_i$")
    ax.set_xlim(1, frames[-1])
    return ax


PUSHES = {
    (1, 1): ("both up", "#0173b2", ""),
    (1, -1): ("single up, appendix down", "#de8f05", "///"),
    (-1, 1): ("single down, appendix up", "#ece133", "..."),
    (-1, -1): ("both down", "0.75", ""),
}
"""How a plane of `plot_push_regions` is filled, by the signs of the two gradients: name, colour, hatch."""


def plot_push_regions(
    *, pooling: str, y: float, ax: Axes, quantity: str = "dy/dx_i", sharpness: float = 1.0, n_points: int = 200
) -> Axes:
    """Draw which frames of a positive clip are pushed up and which down, by x_i and the segment's prediction.

    Parameters
    ----------
    y : float
        The clip's probability.
    quantity : {"dy/dx_i", "dy/dw_i"}
    sharpness : float
        Of power pooling and autopool.
    n_points : int
        Points of the grid along each axis.

    References
    ----------
    Table A-1, two stages. In a negative clip every direction is the other one.
    """
    from hpsed_lib.theory import dynamics

    grid = np.linspace(0, 1, n_points + 2)[1:-1]
    x, segment = np.meshgrid(grid, grid)
    pushes = [dynamics.push(pooling, stop_gradient=stop, quantity=quantity) for stop in (False, True)]
    signs = [np.broadcast_to(np.sign(pull(x, segment, y, sharpness)), x.shape) for pull in pushes]
    for (single, appendix), (_, color, hatch) in PUSHES.items():
        region = ((signs[0] == single) & (signs[1] == appendix)).astype(float)
        if region.any():
            ax.contourf(x, segment, region, levels=[0.5, 1.5], colors=[color], hatches=[hatch])
    ax.axvline(y, color="0.2", linewidth=0.8, linestyle=":")
    ax.axhline(y, color="0.2", linewidth=0.8, linestyle=":")
    ax.set(title=pooling if quantity == "dy/dx_i" else f"{pooling}, weights", xlabel="$x_i$", ylabel=r"$\hat x_j$")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    return ax


def push_legend() -> list[Patch]:
    """Handles for a legend of `plot_push_regions`."""
    return [Patch(facecolor=color, hatch=hatch, edgecolor="0.2", label=name) for name, color, hatch in PUSHES.values()]


def plot_flow(flow: Flow, *, segment_length: int, ax: Axes) -> Axes:
    """Draw how the frames of a clip move along a gradient flow, coloured by their segment.

    Parameters
    ----------
    segment_length : int
        Frames per segment.
    """
    colors = sns.color_palette("colorblind")
    for frame, path in enumerate(flow.frame_prob.T):
        segment, place = divmod(frame, segment_length)
        label = f"segment {segment + 1}" if place == 0 else None
        ax.plot(flow.time[1:], path[1:], color=colors[segment], linestyle=["-", "--"][segment % 2], label=label)
    ax.plot(flow.time[1:], flow.clip_prob[1:], color="0.2", linewidth=2.2, linestyle=":", label="$y$")
    ax.set(xscale="log", ylim=(-0.02, 1.02), xlabel="time", ylabel="$x_i$")
    return ax


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

    Parameters
    ----------
    curve : DataFrame with columns threshold, f_measure
        From `hpsed_lib.runs.finish_run`; without rows there were no clips to choose on, and the plot says so.
    chosen : float
        Threshold of the run.
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
    """Draw one class's frame probabilities under each structure, over its reference events.

    Parameters
    ----------
    frame_probs : dict of np.ndarray, shape (frames,)
        By structure.
    reference : DataFrame with columns onset, offset
        The class's events in the clip, in seconds; shaded.
    thresholds : dict of float
        By structure; drawn as thin lines.
    frame_duration : float
        Seconds per frame.
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


def event_to_show(split: Split, *, shortest: float = 1.0, longest: float = 4.0) -> tuple[str, str]:
    """The first clip, and class, with one event of that class, `shortest` to `longest` seconds long.

    Returns
    -------
    filename, event_label : str
        The very first event where no clip has such a one.
    """
    events = split.strong_labels
    alone = events.groupby(["filename", "event_label"]).onset.transform("size") == 1
    fitting = events[alone & (events.offset - events.onset).between(shortest, longest)]
    first = (fitting if len(fitting) else events).iloc[0]
    return first.filename, first.event_label


def figure5(experiment: Experiment, dataset: Dataset, metrics: list[dict]) -> Figure:
    """Figure 5's view: every system's frame probabilities for one test event, under its spectrogram and events.

    Parameters
    ----------
    metrics : list of dict
        The runs' metrics; of several seeds the first is drawn.
    """
    filename, label = event_to_show(dataset.test)
    clip, column = dataset.test.filenames.index(filename), dataset.classes.index(label)
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
    plot_spectrogram(dataset.test.features[clip], hop_duration=experiment.features.hop_duration, ax=axes[0])
    plot_events(events, clip_duration=experiment.data.clip_duration, ax=axes[1])
    for ax, pooling in zip(axes[2:], names, strict=True):
        shown = {structure: runs[pooling, structure] for structure in experiment.pooling.structures}
        plot_frame_predictions(
            {name: load_predictions(experiment, run["run"])["test"][clip, :, column] for name, run in shown.items()},
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


def plot_audit(audit: pd.DataFrame, *, ax: Axes) -> Axes:
    """Draw which checks each row of the paper's Table 2 passes.

    Parameters
    ----------
    audit : DataFrame
        From `hpsed_lib.theory.audit.audit`.

    One cell per row and check with the residual in units of what rounding allows, coloured up to 3; hatched and in bold
    where the check fails, empty where there is none.
    """
    names = audit.dataset + " " + audit.pooling + " " + audit.structure
    rows, checks = names.unique(), audit.identity.unique()
    table = audit.assign(row=names).pivot(index="row", columns="identity", values=["units", "holds"])
    units = table["units"].reindex(index=rows, columns=checks).astype(float)
    holds = table["holds"].reindex(index=rows, columns=checks)
    colours = {"cmap": "PuOr", "vmin": -3, "vmax": 3, "linewidths": 1, "linecolor": "white"}
    label = "residual or widening (units of what rounding allows)"
    sns.heatmap(units, ax=ax, cbar_kws={"label": label, "extend": "both", "shrink": 0.8}, **colours)
    for (row, column), value in np.ndenumerate(units.to_numpy()):
        if np.isfinite(value):
            failed = not holds.iat[row, column]
            text = f"{abs(value):.1f}" if abs(value) < 0.05 else f"{value:.1f}"  # no -0.0
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5} if failed else None
            weight = "bold" if failed else "normal"
            ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", weight=weight, bbox=box, color="black")
            if failed:
                ax.add_patch(
                    Rectangle((column, row), 1, 1, facecolor="none", edgecolor="black", hatch="///", linewidth=0)
                )
    ax.set(xlabel="check (hatched: fails)", ylabel="row of Table 2")
    ax.tick_params(axis="x", labelrotation=45)
    plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    return ax


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
    """Draw F1 against error rate at each operating point of one pooling function, one colour per structure.

    Parameters
    ----------
    points : DataFrame
        From `hpsed_lib.tables.operating_points`.
    """
    colors = structure_colors()
    for (structure, name), row in points.loc[pooling].iterrows():
        style: dict[str, Any] = {"markerfacecolor": "none", "color": colors[structure], "linestyle": "none"}
        ax.plot(row.error_rate, row.f_measure, marker=POINT_MARKERS[name], **style)
    ax.set(title=pooling, xlabel="ER", ylabel="F1 (%)")
    return ax


def operating_point_legend(structures: Sequence[str]) -> list[Line2D]:
    """Handles for a legend of `plot_operating_points`: marker by operating point, colour by structure."""
    markers = [Line2D([], [], color="0.3", marker=m, linestyle="none", label=name) for name, m in POINT_MARKERS.items()]
    return markers + [Line2D([], [], color=structure_colors()[name], linewidth=3, label=name) for name in structures]


def plot_ratios(pairs: pd.DataFrame, *, ax: Axes) -> Axes:
    """Draw how many times faster each task is than its peer: every pair a dot, the median a bar, the goal a cross.

    Parameters
    ----------
    pairs : DataFrame
        From `hpsed_lib.bench.timing.time_pairs`.
    """
    tasks = list(dict.fromkeys(zip(pairs.task, pairs.peer, strict=True)))
    for row, (task, peer) in enumerate(tasks):
        of_task = pairs[(pairs.task == task) & (pairs.peer == peer)]
        ax.plot(of_task.ratio, [row] * len(of_task), "o", color="C0", alpha=0.4, markersize=4)
        ax.plot(of_task.ratio.median(), row, "|", color="C0", markersize=16, markeredgewidth=2.5)
        ax.plot(of_task.goal.iloc[0], row, "x", color="C1", markersize=8, markeredgewidth=2)
    ax.axvline(1, color="0.6", linewidth=1)
    ax.set(xscale="log", xlabel="their time / our time", yticks=range(len(tasks)), ylim=(len(tasks) - 0.5, -0.5))
    ax.set_yticklabels([f"{task}\nbeside {peer}" for task, peer in tasks], fontsize="small")
    handles = [
        Line2D([], [], marker="o", linestyle="", color="C0", alpha=0.4, label="a pair"),
        Line2D([], [], marker="|", linestyle="", color="C0", markersize=12, markeredgewidth=2.5, label="median"),
        Line2D([], [], marker="x", linestyle="", color="C1", markeredgewidth=2, label="goal"),
    ]
    ax.legend(handles=handles, fontsize="small")
    return ax


def plot_parts(parts: pd.DataFrame, *, ax: Axes) -> Axes:
    """Draw what each task's time is made of: a bar for each task, its largest parts named.

    Parameters
    ----------
    parts : DataFrame with columns task, part, share
        From `hpsed_lib.bench.timing.largest_parts`; shares in percent.
    """
    tasks = list(dict.fromkeys(parts.task))
    for row, task in enumerate(tasks):
        left = 0.0
        for number, part in enumerate(parts[parts.task == task].itertuples()):
            color = "0.88" if part.part == "everything else" else ("C0", max(0.75 - 0.1 * number, 0.15))
            ax.barh(row, part.share, left=left, edgecolor="w", color=color)
            name = part.part.removeprefix("aten::")
            if len(name) < 1.1 * part.share:  # it fits
                ax.text(left + part.share / 2, row, name, ha="center", va="center", fontsize="x-small")
            left += part.share
    ax.set(xlim=(0, 100), xlabel="share of the time (%)", yticks=range(len(tasks)), ylim=(len(tasks) - 0.5, -0.5))
    ax.set_yticklabels([textwrap.fill(task, 36) for task in tasks], fontsize="x-small")
    return ax
