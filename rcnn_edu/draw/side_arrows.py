"""Arrows at the four sides of a box: which way, and how far, each side would move."""

from __future__ import annotations

from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch

from rcnn_edu.draw.figures import to_numpy


def draw_side_arrows(axes: Axes, box: Any, moves: Any, color: str = "black") -> list[Artist]:
    """An arrow from the middle of each side of `box` (4,) along that side's move in `moves` (4,).

    Both are x1, y1, x2, y2 in the axes' units; a move is added to its coordinate. Moves under a unit are not drawn.
    """
    x1, y1, x2, y2 = to_numpy(box).reshape(4).tolist()
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    across, down = (1, 0), (0, 1)
    sides = [((x1, middle_y), across), ((middle_x, y1), down), ((x2, middle_y), across), ((middle_x, y2), down)]
    artists: list[Artist] = []
    for ((x, y), (unit_x, unit_y)), move in zip(sides, to_numpy(moves).reshape(4).tolist(), strict=True):
        if abs(move) < 1:
            continue
        arrow = FancyArrowPatch(
            (x, y),
            (x + move * unit_x, y + move * unit_y),
            arrowstyle="-|>",
            mutation_scale=16,
            linewidth=2.6,
            color=color,
            shrinkA=0,
            shrinkB=0,
            zorder=4,
        )
        artists.append(axes.add_patch(arrow))
    return artists
