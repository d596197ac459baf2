"""Gradient norm by batch size, and the loss over the first steps: what a sum in place of a mean does to training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rcnn_edu.draw.figures import new_figure

_STYLES = {"mean": ("black", "o-"), "sum": ("#777777", "s--")}


def gradient_and_loss_axes(
    sizes: Sequence[int], norms: Mapping[str, Sequence[float]], largest: float
) -> tuple[Figure, Axes, Axes]:
    """Left: the gradient norms of "mean" and "sum" over batch `sizes`. Right: axes for losses from 0 to `largest`."""
    width, height = 960, 380
    figure, blank = new_figure(width, height)
    blank.remove()
    left = figure.add_axes((70 / width, 50 / height, 385 / width, 295 / height))
    right = figure.add_axes((540 / width, 50 / height, 395 / width, 295 / height))
    for name, values in norms.items():
        color, style = _STYLES[name]
        left.plot(sizes, values, style, color=color, linewidth=2, label=f"{name} over the sampled anchors")
    left.set_yscale("log")
    left.set(xlim=(0, sizes[-1] * 1.08), xticks=list(sizes))
    low, high = left.get_ylim()
    left.set_ylim(low, high * 3)
    left.set_xlabel("batch_size", fontsize=10)
    left.set_title("norm of the RPN's gradient", fontsize=10.5, loc="left")
    left.legend(frameon=False, fontsize=9.5, loc="upper left")
    right.set(xlim=(-0.2, 5.4), ylim=(0, largest * 1.05))
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_xlabel("steps of SGD on this photo", fontsize=10)
    right.set_title("RPN loss (mean of the sampled anchors)", fontsize=10.5, loc="left")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
        axes.grid(alpha=0.2)
    return figure, left, right


def draw_batch_size(
    left: Axes, right: Axes, batch_size: int, norms: Sequence[float], losses: Sequence[Sequence[float]]
) -> list[Artist]:
    """A ring round both norms at this batch size, and the losses step by step, first of the mean, then of the sum."""
    artists: list[Artist] = []
    for (color, style), norm, history in zip(_STYLES.values(), norms, losses, strict=True):
        ring: dict[str, Any] = {
            "markersize": 13,
            "markerfacecolor": "none",
            "markeredgecolor": color,
            "markeredgewidth": 2,
        }
        artists += left.plot([batch_size], [norm], "o", scalex=False, scaley=False, **ring)
        artists += right.plot(history, style, color=color, linewidth=2, scalex=False, scaley=False)
    return artists
