"""Two boxes: what they share, and the two moves, shift and growth, that turn one into the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import FancyArrowPatch

from rcnn_edu.draw.colors import PROPOSAL
from rcnn_edu.draw.figures import to_numpy

NAMES = ("tx", "ty", "tw", "th")
SHORTEST = 6.0
"""Pixels of the photo below which an arrow is left out: its head would be longer than itself."""


def fill_box(axes: Axes, box: Any, color: str, alpha: float, hatch: str | None = None) -> list[Artist]:
    """Shade the area of a box `(4,)`; a box without area shows nothing. hatch: matplotlib's pattern."""
    x1, y1, x2, y2 = to_numpy(box).tolist()
    if x2 <= x1 or y2 <= y1:
        return []
    corners = [[(x1, y1), (x2, y1), (x2, y2), (x1, y2)]]
    area = PolyCollection(corners, facecolors=color, edgecolors="black" if hatch else "none", linewidths=0)
    area.set(alpha=alpha, hatch=hatch)
    return [axes.add_collection(area, autolim=False)]


def intersection(a: Any, b: Any) -> Any:
    """The box `(4,)` that two boxes `(4,)` share; inverted if they share nothing."""
    first, second = to_numpy(a), to_numpy(b)
    return np.concatenate([np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])])


def draw_shift_and_growth(axes: Axes, reference: Any, target: Any) -> list[Artist]:
    """What the four coefficients do, in two moves: shift the centre by (tx, ty), then grow to both sides by (tw, th).

    reference, target: `(4,)` boxes in pixels. Between the two moves lies the shifted reference, dotted.
    """
    x1, y1, x2, y2 = to_numpy(reference).tolist()
    u1, v1, u2, v2 = to_numpy(target).tolist()
    start, end = ((x1 + x2) / 2, (y1 + y2) / 2), ((u1 + u2) / 2, (v1 + v2) / 2)
    half_width, half_height = (x2 - x1) / 2, (y2 - y1) / 2
    left, top, right, bottom = end[0] - half_width, end[1] - half_height, end[0] + half_width, end[1] + half_height
    corners = [[(left, top), (right, top), (right, bottom), (left, bottom)]]
    ghost = PolyCollection(corners, facecolors="none", edgecolors=PROPOSAL, linewidths=1.8, linestyles=(0, (1, 1.5)))
    artists: list[Artist] = [axes.add_collection(ghost, autolim=False)]
    artists += axes.plot(*start, "o", color="black", markersize=4, scalex=False, scaley=False)
    # The growth arrows leave the middle of each side, a little off, so that the shift does not run over them.
    level, column = end[1] + half_height / 3, end[0] + half_width / 3
    moves = (
        ("tx", start, (end[0], start[1])),
        ("ty", (end[0], start[1]), end),
        ("tw", (right, level), (u2, level)),
        ("", (left, level), (u1, level)),
        ("th", (column, bottom), (column, v2)),
        ("", (column, top), (column, v1)),
    )
    for name, tail, head in moves:
        artists += _arrow(axes, tail, head, name)
    return artists


def coefficient_rows(axes: Axes, largest: float = 2.0) -> None:
    """Prepare axes for `draw_coefficients`: a row for each of the four, and a line at 0."""
    axes.set(xlim=(-largest * 1.15, largest * 1.15), ylim=(3.6, -0.6))
    axes.set_yticks(range(4), NAMES, fontsize=12)
    axes.tick_params(left=False)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.grid(axis="x", alpha=0.3)


def draw_coefficients(axes: Axes, coefficients: Sequence[float]) -> list[Artist]:
    """The four as arrows from 0, each with its number above; an arrow too long for the axes ends at their edge."""
    artists: list[Artist] = []
    low, high = axes.get_xlim()
    for row, value in enumerate(coefficients):
        end = min(max(value, low), high)
        if abs(end) > 0.04 * high:
            artists += _arrow(axes, (0, row), (end, row), "", linewidth=3.0)
        else:
            artists += axes.plot(end, row, "o", color="black", markersize=6, scalex=False, scaley=False)
        side = 0.03 * high if value >= 0 else -0.03 * high
        align = "left" if value >= 0 else "right"
        artists.append(axes.text(side, row - 0.2, f"{value:.2f}", fontsize=11, ha=align, va="bottom"))
    return artists


def _arrow(
    axes: Axes, tail: tuple[float, float], head: tuple[float, float], name: str, linewidth: float = 2.0
) -> list[Artist]:
    """A black arrow with its name beside the middle; none if it would be too short to see on a photo."""
    photo = axes.get_ylim()[0] > 10  # pixels downwards, not rows of numbers
    length = abs(head[0] - tail[0]) + abs(head[1] - tail[1])
    if photo and length < SHORTEST:
        return []
    style: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 6 + 4 * linewidth, "shrinkA": 0, "shrinkB": 0}
    arrow = FancyArrowPatch(tail, head, color="black", linewidth=linewidth, zorder=3, **style)
    artists: list[Artist] = [axes.add_patch(arrow)]
    if name:
        flat = tail[1] == head[1]
        middle = (tail[0] + head[0]) / 2, (tail[1] + head[1]) / 2
        patch = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        artists.append(
            axes.annotate(
                *(name, middle),
                xytext=(0, 6) if flat else (7, 0),
                textcoords="offset points",
                fontsize=10,
                fontweight="bold",
                ha="center" if flat else "left",
                va="bottom" if flat else "center",
                bbox=patch,
                annotation_clip=True,
                zorder=4,
            )
        )
    return artists
