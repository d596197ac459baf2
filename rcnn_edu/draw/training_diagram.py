"""The layers of Faster R-CNN in training: what each hands on, and the four losses that come of it.

Article "Layers of R-CNN" (its diagram) and "Training".
"""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rcnn_edu.draw.colors import FOREGROUND, OBJECT
from rcnn_edu.draw.flow import LAYER, PLAIN, Box, draw_arrow, draw_block, flow_figure, middle

_WIDTH, _HEIGHT = 960, 316
_BLOCK_WIDTH, _BLOCK_HEIGHT, _GAP = 125, 66, 11
_TOPS = (10, 124, 238)

# name: (column, row, fill, edge)
_PLACES: dict[str, tuple[int, int, str, str]] = {
    "photo": (0, 0, PLAIN, "#555555"),
    "head": (1, 0, LAYER, "#555555"),
    "RPN": (2, 0, LAYER, "#555555"),
    "proposal layer": (3, 0, PLAIN, "#555555"),
    "proposal target layer": (4, 0, PLAIN, "#555555"),
    "crop pooling": (5, 0, PLAIN, "#555555"),
    "classifier": (6, 0, LAYER, "#555555"),
    "anchors": (2, 1, PLAIN, "#555555"),
    "anchor target layer": (2, 2, PLAIN, "#555555"),
    "objects": (3, 2, PLAIN, OBJECT),
    "RPN loss": (1, 2, PLAIN, FOREGROUND),
    "classifier loss": (6, 2, PLAIN, FOREGROUND),
}

_ARROWS = (
    *(("photo", "right", "head", "left"), ("head", "right", "RPN", "left"), ("RPN", "right", "proposal layer", "left")),
    ("proposal layer", "right", "proposal target layer", "left"),
    ("proposal target layer", "right", "crop pooling", "left"),
    ("crop pooling", "right", "classifier", "left"),
    ("anchors", "right", "proposal layer", "bottom"),
    ("anchors", "bottom", "anchor target layer", "top"),
    ("objects", "left", "anchor target layer", "right"),
    ("objects", "top", "proposal target layer", "bottom"),
    ("anchor target layer", "left", "RPN loss", "right"),
    ("RPN", "bottom left", "RPN loss", "top"),
    ("proposal target layer", "bottom right", "classifier loss", "left"),
    ("classifier", "bottom", "classifier loss", "top"),
)


def training_diagram(numbers: Mapping[str, str]) -> tuple[Figure, Axes]:
    """Twelve blocks and what flows between them; the features' own way to crop pooling runs above them.

    numbers: for each block what it gives, up to two lines.
    """
    figure, axes = flow_figure(_WIDTH, _HEIGHT + 14)
    for name, (_, _, fill, edge) in _PLACES.items():
        draw_block(axes, _box(name), f"{name}\n{numbers[name]}", fill, edge, fontsize=7.6)
    for start, out, end, into in _ARROWS:
        draw_arrow(axes, _side(start, out), _side(end, into))
    (x1, y1), (x2, y2) = _side("head", "top"), _side("crop pooling", "top")
    axes.plot([x1, x1, x2, x2], [y1, 8, 8, y1 - 8], color="#333333", linewidth=1.2, scalex=False, scaley=False)
    draw_arrow(axes, (x2, 8), (x2, y2))
    return figure, axes


def _box(name: str) -> Box:
    column, row, _, _ = _PLACES[name]
    left, top = 8 + column * (_BLOCK_WIDTH + _GAP), _TOPS[row] + 14
    return left, top, left + _BLOCK_WIDTH, top + _BLOCK_HEIGHT


def _side(name: str, side: str) -> tuple[float, float]:
    """Where an arrow leaves or enters: the middle of a side, or the bottom near a corner."""
    x1, _, x2, y2 = box = _box(name)
    near_corners = {"bottom left": (x1 + 12, y2), "bottom right": (x2 - 30, y2)}
    return near_corners.get(side) or middle(box, side)
