"""A channel of a feature map or of a crop in greys, and the points at which crop pooling reads it.

Axes show cells: the centre of cell (row, column) is at y = row, x = column, as `rois / stride` counts them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from rcnn_edu.draw.figures import to_numpy


def cell_axes(axes: Axes, feature_size: tuple[int, int]) -> None:
    """Set the limits for a map of (rows, columns) cells."""
    rows, columns = feature_size
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))


def draw_map(axes: Axes, values: Any, darkest: float, brightest: float, pale: float = 0.0) -> list[Artist]:
    """One channel `(rows, columns)`, a grey for each cell: black at `darkest`, white at `brightest`.

    pale: how much of the black is taken away, 0..1, so that colours drawn over it stand out.
    The axes' limits are those of `cell_axes`.
    """
    channel = to_numpy(values).astype(np.float64)
    rows, columns = channel.shape
    grey = ((channel - darkest) / max(brightest - darkest, 1e-9)).clip(0, 1)
    shown = axes.imshow(
        pale + (1 - pale) * grey,
        cmap="gray",
        vmin=0,
        vmax=1,
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
        interpolation="nearest",
        aspect=axes.get_aspect(),
    )
    return [shown]


def draw_points(axes: Axes, x: Any, y: Any, color: str, size: float = 5.0) -> list[Artist]:
    """A dot at each crossing of the columns x `(m,)` and the rows y `(n,)`; size is in points."""
    across, down = np.meshgrid(to_numpy(x), to_numpy(y))
    return draw_dots(axes, np.stack([across, down], axis=-1), color, size)


def draw_dots(axes: Axes, points: Any, color: str, size: float = 5.0) -> list[Artist]:
    """A dot at each of the points `(..., 2)`; small ones have no white edge."""
    flat = to_numpy(points).reshape(-1, 2)
    edge = 0.8 if size >= 3 else 0.0
    dots = axes.plot(
        flat[:, 0],
        flat[:, 1],
        linestyle="none",
        marker="o",
        markersize=size,
        markerfacecolor=color,
        markeredgecolor="white",
        markeredgewidth=edge,
        scalex=False,
        scaley=False,
    )
    return list(dots)


def draw_mesh(axes: Axes, points: Any, color: str, linewidth: float = 1.2) -> list[Artist]:
    """Lines along the rows and the columns of a grid of points `(n, m, 2)`, however it is bent."""
    grid = to_numpy(points)
    lines = LineCollection([*grid, *grid.swapaxes(0, 1)], colors=color, linewidths=linewidth)
    return [axes.add_collection(lines, autolim=False)]
