"""Figures of notebook 06, drawn as `hpsed_lib.plots` says."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D


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
