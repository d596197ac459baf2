"""The labels of all anchors over the photo: a dot or a marker for each, since outlines of thousands would hide it."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from rcnn_edu.draw.boxes import draw_boxes
from rcnn_edu.draw.colors import BACKGROUND, DONT_CARE, FOREGROUND, OBJECT
from rcnn_edu.draw.figures import to_numpy

STRIDE = 16  # pixels of the photo per cell of the grid


def draw_anchor_labels(
    axes: Axes, anchors: Any, labels: Any, best_of_object: Any, inside: Any, feature_size: tuple[int, int]
) -> list[Artist]:
    """The label of every anchor inside the photo: dots where background and don't care are, markers for foreground.

    anchors: `(A, 4)` as `grid_anchors` orders them; labels: `(A,)` 1, 0, -1; best_of_object: `(A,)` mask of type A;
    inside: `(A,)` mask of the anchors inside the photo; feature_size: (rows, columns) of the grid.
    The anchors of one position share their centre, so each cell is divided: in the article's case into 3 x 3 dots,
    a row for each ratio and a column for each scale. Foreground of type A has a star at its centre, type B a disc.
    """
    values = to_numpy(labels)
    background = _dots(axes, np.where(to_numpy(inside), values, 1), feature_size)
    return [background, *draw_foreground(axes, anchors, labels, best_of_object)]


def draw_sampled_labels(axes: Axes, anchors: Any, labels: Any, best_of_object: Any) -> list[Artist]:
    """The few anchors that enter the loss, each by a marker at its centre; arguments as in `draw_anchor_labels`."""
    x, y = _centers(anchors, to_numpy(labels) == 0)
    style: dict[str, Any] = {
        "marker": "o",
        "markersize": 4.5,
        "markerfacecolor": BACKGROUND,
        "markeredgecolor": "white",
    }
    background = axes.plot(x, y, linestyle="none", markeredgewidth=0.6, scalex=False, scaley=False, **style)
    return [*background, *draw_foreground(axes, anchors, labels, best_of_object)]


def draw_foreground(axes: Axes, anchors: Any, labels: Any, best_of_object: Any) -> list[Artist]:
    """A disc at the centre of each foreground anchor of type B, and over them a star for each of type A."""
    artists: list[Artist] = []
    foreground, best = to_numpy(labels) == 1, to_numpy(best_of_object).astype(bool)
    for chosen, marker, size in ((foreground & ~best, "o", 4.5), (foreground & best, "*", 9.0)):
        style: dict[str, Any] = {
            "marker": marker,
            "markersize": size,
            "markerfacecolor": FOREGROUND,
            "markeredgecolor": "white",
        }
        x, y = _centers(anchors, chosen)
        artists += axes.plot(x, y, linestyle="none", markeredgewidth=0.5, scalex=False, scaley=False, **style)
    return artists


def draw_best_anchors(axes: Axes, anchors: Any, iou: Any) -> list[Artist]:
    """For each object the anchor that overlaps it most, dashed; iou: `(A, G)`."""
    boxes = to_numpy(anchors)[to_numpy(iou).argmax(axis=0)]
    artists = draw_boxes(axes, boxes, FOREGROUND, linewidth=1.4)
    artists[-1].set(linestyle=(0, (4, 2)))
    return artists


def anchor_label_handles() -> list[Artist]:
    """The legend of `draw_anchor_labels`."""
    star: dict[str, Any] = {"linestyle": "none", "markerfacecolor": FOREGROUND, "markeredgecolor": "white"}
    return [
        Line2D([], [], color=OBJECT, linewidth=2.5, label="object"),
        Line2D([], [], color=FOREGROUND, linewidth=1.4, linestyle=(0, (4, 2)), label="its best anchor"),
        Line2D([], [], marker="*", markersize=13, label="foreground, type A", **star),
        Line2D([], [], marker="o", markersize=8, label="foreground, type B", **star),
        Patch(color=BACKGROUND, label="background"),
        Patch(color=DONT_CARE, label="don't care"),
    ]


def _centers(anchors: Any, chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(2, N) x and y of the centres of the chosen anchors."""
    boxes = to_numpy(anchors)[chosen]
    return (boxes[:, :2] + boxes[:, 2:]).T / 2


def _dots(axes: Axes, values: NDArray[np.int64], feature_size: tuple[int, int]) -> Artist:
    """Background (0) and don't care (-1) as one image with a pixel for each anchor; other values stay clear."""
    rows, columns = feature_size
    per_position = len(values) // (rows * columns)
    down = round(per_position**0.5)  # ratios, if there are as many as scales
    while per_position % down:
        down -= 1
    grid = values.reshape(rows, columns, down, per_position // down).transpose(0, 2, 1, 3).reshape(rows * down, -1)
    colors = np.zeros((*grid.shape, 4), dtype=np.uint8)
    for value, color, opacity in ((0, BACKGROUND, 0.5), (-1, DONT_CARE, 1.0)):
        colors[grid == value] = np.round(255 * np.array(to_rgba(color, opacity)))
    extent = (0, columns * STRIDE, rows * STRIDE, 0)
    return axes.imshow(colors, extent=extent, interpolation="nearest", aspect=axes.get_aspect())
