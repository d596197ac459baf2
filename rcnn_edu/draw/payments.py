"""What each anchor pays: a disc at its centre, with an area in proportion."""

from __future__ import annotations

from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from rcnn_edu.draw.figures import to_numpy


def draw_payments(
    axes: Axes, boxes: Any, payments: Any, color: str, area: float = 200.0, smallest: float = 5.0
) -> list[Artist]:
    """A disc for each box `(N, 4)`, at its centre; payments: `(N,)`, 0 or more.

    area: square points of a disc that pays 1, so that discs of two pictures compare; smallest: square points added to
    each, so that one that pays nothing is still seen. Those that pay most are drawn first, and hide nobody.
    """
    corners, amounts = to_numpy(boxes).reshape(-1, 4), to_numpy(payments).reshape(-1)
    order = (-amounts).argsort(kind="stable")
    x, y = ((corners[order, :2] + corners[order, 2:]) / 2).T
    discs = axes.scatter(
        *(x, y, smallest + area * amounts[order]), c=color, alpha=0.75, edgecolors="white", linewidths=0.6, zorder=3
    )
    return [discs]
