"""Figures of notebooks 02 and 05, drawn as `hpsed_lib.plots` says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from hpsed_lib.plots import STYLES
from hpsed_lib.theory import dynamics


def plot_loss_gradients(
    frame_prob: npt.ArrayLike,
    target: int,
    *,
    pooling: str,
    ax: Axes,
    quantity: str = "dL/dx",
    structures: Sequence[str] = ("single", "appendix"),
    **options: Any,
) -> Axes:
    """Draw the gradient of the loss at each frame of one clip, one line per structure: `loss_gradient`, with options.

    The two columns of Table A-1 differ in the prediction that stands beside -y; ``hierarchical`` is as ``single``.
    """
    frames = np.arange(1, np.size(frame_prob) + 1)
    options |= {"pooling": pooling, "quantity": quantity}
    for structure in structures:
        gradient = dynamics.loss_gradient(frame_prob, target, structure=structure, **options)
        ax.plot(frames, gradient, label=structure, linewidth=1.8, **STYLES[structure])
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


def plot_push_regions(*, pooling: str, y: float, ax: Axes, quantity: str = "dy/dx_i", sharpness: float = 1.0) -> Axes:
    """Draw which frames of a positive clip are pushed up and which down, by x_i and the segment's prediction.

    Table A-1, two stages. In a negative clip every direction is the other.
    """
    grid = np.linspace(0, 1, 202)[1:-1]
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


def plot_flow(flow: dynamics.Flow, *, segment_length: int, ax: Axes) -> Axes:
    """Draw how the frames of a clip move along a gradient flow, coloured by their segment."""
    colors = sns.color_palette("colorblind")
    for frame, path in enumerate(flow.frame_prob.T):
        segment, place = divmod(frame, segment_length)
        label = f"segment {segment + 1}" if place == 0 else None
        ax.plot(flow.time[1:], path[1:], color=colors[segment], linestyle=["-", "--"][segment % 2], label=label)
    ax.plot(flow.time[1:], flow.clip_prob[1:], color="0.2", linewidth=2.2, linestyle=":", label="$y$")
    ax.set(xscale="log", ylim=(-0.02, 1.02), xlabel="time", ylabel="$x_i$")
    return ax


def plot_audit(audit: pd.DataFrame, *, ax: Axes) -> Axes:
    """Draw which checks each row of the paper's Table 2 passes, from `hpsed_lib.theory.audit.audit`.

    One cell per row and check with the residual in units of what rounding allows, coloured up to 3; hatched and in bold
    where the check fails, empty where there is none.
    """
    names = audit.dataset + " " + audit.pooling + " " + audit.structure
    rows, checks = names.unique(), audit.identity.unique()
    table = audit.assign(row=names).pivot(index="row", columns="identity", values=["units", "holds"])
    units = table["units"].reindex(index=rows, columns=checks).astype(float)
    holds = table["holds"].reindex(index=rows, columns=checks)
    colours = {"cmap": "PuOr", "vmin": -3, "vmax": 3, "linewidths": 1, "linecolor": "white"}
    bar = {"label": "residual or widening (units of what rounding allows)", "extend": "both", "shrink": 0.8}
    numbers = units.round(1) + 0.0  # no -0.0
    sns.heatmap(units, annot=numbers, fmt=".1f", annot_kws={"color": "black"}, ax=ax, cbar_kws=bar, **colours)
    for text in ax.texts:
        column, row = map(int, text.get_position())
        if not holds.iat[row, column]:
            text.set(weight="bold", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})
            ax.add_patch(Rectangle((column, row), 1, 1, facecolor="none", edgecolor="black", hatch="///", linewidth=0))
    ax.set(xlabel="check (hatched: fails)", ylabel="row of Table 2")
    ax.tick_params(axis="x", labelrotation=45)
    plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    return ax
