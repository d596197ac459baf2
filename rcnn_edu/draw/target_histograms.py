"""Histograms of the four regression targets, as they are and divided by `target_std`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rcnn_edu.draw.colors import FOREGROUND, KEPT
from rcnn_edu.draw.figures import new_figure, to_numpy

NAMES = ("tx", "ty", "tw", "th")
REACH = 4.0
"""The axes go from −4 to 4; what lies beyond is counted in the outermost bar."""

_BINS = np.linspace(-REACH, REACH, 41)


def histogram_axes(titles: Sequence[str]) -> tuple[Figure, list[list[Axes]]]:
    """A column of four axes for each title, a row for each coefficient; a shaded band from −1 to 1 in each."""
    width, height = 960, 430
    figure, blank = new_figure(width, height)
    blank.remove()
    columns = []
    across = (width - 60) / len(titles)
    for number, title in enumerate(titles):
        column = []
        for row, name in enumerate(NAMES):
            left, bottom = 50 + number * across, height - 30 - 90 * (row + 1)
            axes = figure.add_axes((left / width, bottom / height, (across - 35) / width, 76 / height))
            axes.set(xlim=(-REACH, REACH), ylim=(0, 1), yticks=[])
            axes.set_ylabel(name, fontsize=11, rotation=0, ha="right", va="center")
            axes.axvspan(-1, 1, color=KEPT, alpha=0.18, linewidth=0)
            axes.spines[["top", "right", "left"]].set_visible(False)
            axes.tick_params(labelsize=9, labelbottom=row == len(NAMES) - 1)
            column.append(axes)
        column[0].set_title(title, fontsize=10.5, loc="left")
        columns.append(column)
    return figure, columns


def draw_histograms(column: Sequence[Axes], values: Any) -> list[Artist]:
    """How many of the values `(N, 4)` lie in each bar, and above the tallest their standard deviation."""
    artists: list[Artist] = []
    for axes, numbers in zip(column, to_numpy(values).T, strict=True):
        counts, _ = np.histogram(numbers.clip(-REACH, REACH), _BINS)
        heights = 0.78 * counts / counts.max()
        artists.append(axes.stairs(heights, _BINS, fill=True, color=FOREGROUND))
        text = f"std {numbers.std(ddof=1):.2f}"
        artists.append(axes.text(REACH, 1.0, text, fontsize=10, ha="right", va="top"))
    return artists
