"""Anchors before anything is known of the objects: those of one position, and which of all leave the photo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from rcnn_edu.draw.boxes import draw_boxes
from rcnn_edu.draw.colors import DONT_CARE, KEPT
from rcnn_edu.draw.figures import draw_image, to_numpy

_DASHES = (0, (4, 2))
DEEPEST = 0.85
"""Opacity of a cell whose anchors all lie inside the photo."""


def photo_with_margin(axes: Axes, image: Any, margin: float) -> None:
    """Show the image `(3, h, w)` with room around it: `margin` is a share of its sides. The frame is the photo's."""
    height, width = to_numpy(image).shape[1:]
    draw_image(axes, image)
    axes.add_patch(Rectangle((0, 0), width, height, fill=False, edgecolor="black", linewidth=1.2))
    axes.set(xlim=(-margin * width, (1 + margin) * width), ylim=((1 + margin) * height, -margin * height))


def draw_one_position(axes: Axes, anchors: Any, inside: Any) -> list[Artist]:
    """Outline the anchors `(K, 4)` of one position, dashed and grey where `inside` `(K,)` says that they leave."""
    boxes, stays = to_numpy(anchors).reshape(-1, 4), to_numpy(inside).astype(bool)
    leaving = draw_boxes(axes, boxes[~stays], DONT_CARE, linewidth=2.2)
    leaving[-1].set(linestyle=_DASHES)
    artists = leaving + draw_boxes(axes, boxes[stays], KEPT, linewidth=2.2)
    x, y = (boxes[:, :2] + boxes[:, 2:]).mean(axis=0) / 2
    return artists + list(
        axes.plot(x, y, "+", color="black", markersize=9, markeredgewidth=1.6, scalex=False, scaley=False)
    )


def draw_order(axes: Axes, anchors: Any, ratios: Sequence[float], scales: Sequence[float]) -> list[Artist]:
    """The anchors of one position spread out: a row for each ratio, a column for each scale, numbered as they come.

    anchors: `(ratios·scales, 4)`, ratio by ratio. All are to one scale; this sets the limits of the axes.
    """
    boxes = to_numpy(anchors).reshape(len(ratios), len(scales), 4)
    widths, heights = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    gap = 0.09 * float(widths.max(axis=0).sum())
    right = np.cumsum(widths.max(axis=0) + gap)
    down = np.cumsum(heights.max(axis=1) + gap)
    x, y = right - gap - widths.max(axis=0) / 2, down - gap - heights.max(axis=1) / 2
    axes.set(xlim=(-4 * gap, right[-1]), ylim=(down[-1], -2 * gap), aspect="equal", anchor="NW")
    artists: list[Artist] = []
    for row, column in np.ndindex(len(ratios), len(scales)):
        half = np.array([widths[row, column], heights[row, column]]) / 2
        center = np.array([x[column], y[row]])
        outline = np.concatenate([center - half, center + half])
        artists += draw_boxes(axes, outline[None], KEPT, linewidth=2.2)
        style: dict[str, Any] = {"fontsize": 10.5, "ha": "center", "va": "center"}
        artists.append(axes.text(x[column], y[row], str(row * len(scales) + column), fontweight="bold", **style))
    for column, scale in enumerate(scales):
        artists.append(axes.text(x[column], -0.4 * gap, f"× {scale:g}", fontsize=9.5, ha="center", va="bottom"))
    for row, ratio in enumerate(ratios):
        artists.append(axes.text(-0.6 * gap, y[row], f"ratio\n{ratio:g}", fontsize=9.5, ha="right", va="center"))
    return artists


def draw_all_positions(axes: Axes, inside: Any, feature_size: tuple[int, int], stride: int) -> list[Artist]:
    """Every position as a cell, the deeper in colour the more of its anchors lie inside the photo; clear if none does.

    inside: `(rows·columns·K,)` mask in the order of `grid_anchors`; feature_size: (rows, columns);
    stride: pixels of the photo per cell.
    """
    rows, columns = feature_size
    cells = np.empty((rows, columns, 4), dtype=np.uint8)
    cells[..., :3] = np.round(255 * np.array(to_rgb(KEPT)))
    cells[..., 3] = np.round(255 * DEEPEST * to_numpy(inside).astype(bool).reshape(rows, columns, -1).mean(axis=2))
    extent = (0, columns * stride, rows * stride, 0)
    return [axes.imshow(cells, extent=extent, interpolation="nearest", aspect=axes.get_aspect())]


def draw_cell(axes: Axes, row: int, column: int, stride: int) -> list[Artist]:
    """A frame round one cell, large enough to be found."""
    room = max(0, 26 - stride) / 2
    frame = Rectangle(
        (column * stride - room, row * stride - room),
        *(stride + 2 * room, stride + 2 * room),
        fill=False,
        edgecolor="black",
        linewidth=2.5,
    )
    frame.set_zorder(5)
    return [axes.add_patch(frame)]


def anchor_grid_handles() -> list[Artist]:
    """The legend of `draw_one_position` and `draw_all_positions`."""
    dot: dict[str, Any] = {"marker": "s", "markersize": 8}
    return [
        Line2D([], [], color=KEPT, linewidth=2.2, label="anchor inside the photo", **dot),
        Line2D([], [], color=DONT_CARE, linewidth=2.2, linestyle=_DASHES, label="anchor that leaves it", **dot),
        Line2D([], [], color="black", marker="+", markersize=9, linestyle="none", label="their position"),
    ]
