"""The region proposal network as a diagram, its maps drawn from one image's own numbers."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rcnn_edu.draw.colors import PROPOSAL
from rcnn_edu.draw.figures import to_numpy
from rcnn_edu.draw.flow import draw_arrow, draw_block, draw_text, flow_figure
from rcnn_edu.draw.heat import draw_heat, strength

MAP_WIDTH = 150


def rpn_diagram(features: Any, hidden: Any, objectness: Any, growth: Any) -> tuple[Figure, Axes]:
    """Features → 3×3 convolution → two 1×1 convolutions, each map shown; a grid of (h, w) cells throughout.

    features: `(C, h, w)`; hidden: `(D, h, w)` after the ReLU; objectness: `(K, h, w)` in 0..1; growth: `(h, w)` in
    0..1, how far the best anchor of each cell is to be moved or resized. Both are shown by their largest anchor.
    """
    figure, axes = flow_figure(960, 348)
    channels, rows, columns = to_numpy(features).shape
    width, anchors = to_numpy(hidden).shape[0], to_numpy(objectness).shape[0]
    height = MAP_WIDTH * rows / columns
    middle, above, below = 174, 82, 262

    def shown(left: float, center: float, values: Any, color: str, title: str, shape: str) -> None:
        top = center - height / 2
        extent = (left, left + MAP_WIDTH, top + height, top)
        axes.add_artist(_frame(extent))
        draw_heat(axes, values, extent, color, opacity=1.0).set_zorder(2)
        draw_text(axes, (left + MAP_WIDTH / 2, top - 13), title)
        draw_text(axes, (left + MAP_WIDTH / 2, top + height + 13), shape)

    shown(10, middle, strength(features), "black", "features", f"{channels} × {rows} × {columns}")
    draw_arrow(axes, (164, middle), (178, middle))
    draw_block(axes, (180, middle - 42, 306, middle + 42), f"rpn_net\n3×3 convolution\nReLU\n{channels} → {width}")
    draw_arrow(axes, (306, middle), (320, middle))
    shown(322, middle, strength(hidden), "black", "after the ReLU", f"{width} × {rows} × {columns}")

    heads = (
        (above, "rpn_cls_score_net", 2, to_numpy(objectness).max(axis=0), "objectness", "two scores", PROPOSAL),
        (below, "rpn_bbox_pred_net", 4, growth, "how far boxes move", "four coefficients", "black"),
    )
    for center, name, per_anchor, values, title, what, color in heads:
        draw_arrow(axes, (478, middle), (514, center))
        text = f"{name}\n1×1 convolution\n{width} → {per_anchor} · {anchors}"
        draw_block(axes, (516, center - 34, 650, center + 34), text)
        draw_arrow(axes, (650, center), (672, center))
        total = rows * columns * anchors
        shape = f"{per_anchor * anchors} × {rows} × {columns}"
        shown(676, center, values, color, title, shape)
        note = f"{what}\nfor each of the {anchors}\nanchors of a cell:\n{total:,} × {per_anchor}"
        draw_text(axes, (840, center), note, align="left")
    return figure, axes


def _frame(extent: tuple[float, float, float, float]) -> Rectangle:
    left, right, bottom, top = extent
    return Rectangle((left, top), right - left, bottom - top, facecolor="white", edgecolor="#555555", linewidth=0.8)
