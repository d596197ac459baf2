"""Two boxes of one object drawn at one size however many pixels it has, with the pixels as a grid behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from rcnn_edu.draw.boxes import draw_boxes
from rcnn_edu.draw.colors import KEPT, OBJECT
from rcnn_edu.draw.figures import to_numpy

MARGIN = 0.15
"""Room around the object, as a share of its side."""
FINEST = 70
"""Pixels along the side beyond which the grid would be one grey."""


def magnified_axes(axes: Axes) -> None:
    """Prepare axes for `draw_magnified`: the object's side is 1, whatever it is in pixels."""
    axes.set(xlim=(-MARGIN, 1 + MARGIN), ylim=(1 + MARGIN, -MARGIN), aspect="equal")
    axes.set_axis_off()


def draw_magnified(axes: Axes, side: float, box: Any) -> list[Artist]:
    """The object (0, 0, side, side) and another `box` `(4,)` in the same pixels, on the grid of pixels."""
    artists: list[Artist] = []
    if side <= FINEST:
        margin = MARGIN * side
        ticks = np.arange(np.ceil(-margin), np.floor(side + margin) + 1) / side
        ends = np.array([-MARGIN, 1 + MARGIN])
        lines = [[(tick, end) for end in ends] for tick in ticks] + [[(end, tick) for end in ends] for tick in ticks]
        grid = LineCollection(lines, colors="#CCCCCC", linewidths=0.7)
        artists.append(axes.add_collection(grid, autolim=False))
    artists += draw_boxes(axes, np.array([[0.0, 0, 1, 1]]), OBJECT, linewidth=2.5)
    artists += draw_boxes(axes, to_numpy(box)[None] / side, KEPT, linewidth=2.5)
    return artists
