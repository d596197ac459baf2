"""Diagrams of a network: blocks for what computes, arrows between them, in pixels of the picture, y down."""

from __future__ import annotations

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from rcnn_edu.draw.figures import new_figure

Point = tuple[float, float]
Box = tuple[float, float, float, float]

LAYER = "#E6E6E6"
"""Fill of a block that has weights."""
PLAIN = "#FFFFFF"
"""Fill of a block that has none."""


def flow_figure(width: int, height: int) -> tuple[Figure, Axes]:
    """An empty picture of `width` x `height` pixels, and its axes, whose units are its pixels."""
    figure, axes = new_figure(width, height)
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure, axes


def draw_block(
    axes: Axes, box: Box, text: str, fill: str = LAYER, edge: str = "#555555", fontsize: float = 9.5
) -> list[Artist]:
    """A rounded block with its text in the middle; box: x1, y1, x2, y2."""
    x1, y1, x2, y2 = box
    patch = FancyBboxPatch(
        (x1, y1), x2 - x1, y2 - y1, boxstyle="round,pad=0,rounding_size=5", facecolor=fill, edgecolor=edge
    )
    axes.add_artist(patch)
    written = axes.text(
        (x1 + x2) / 2, (y1 + y2) / 2, text, fontsize=fontsize, ha="center", va="center", linespacing=1.35
    )
    return [patch, written]


def draw_arrow(axes: Axes, start: Point, end: Point, bend: str = "arc3") -> Artist:
    """An arrow from `start` to `end`; bend: matplotlib's connection style, such as "angle,angleA=0,angleB=90"."""
    arrow = FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=11, linewidth=1.2, color="#333333", connectionstyle=bend,
        shrinkA=0, shrinkB=0,
    )  # fmt: skip
    axes.add_artist(arrow)
    return arrow


def draw_text(axes: Axes, place: Point, text: str, fontsize: float = 9.5, align: str = "center") -> Artist:
    """Text whose middle (`align` "center"), or left or right end, is at `place`."""
    return axes.text(*place, text, fontsize=fontsize, ha=align, va="center", linespacing=1.35, parse_math=False)


def middle(box: Box, side: str) -> Point:
    """The middle of a block's side: "top", "bottom", "left" or "right"."""
    x1, y1, x2, y2 = box
    return {
        "top": ((x1 + x2) / 2, y1),
        "bottom": ((x1 + x2) / 2, y2),
        "left": (x1, (y1 + y2) / 2),
        "right": (x2, (y1 + y2) / 2),
    }[side]
