"""Axes put where the pixels say, for pictures of several parts of different size."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rcnn_edu.draw.figures import new_figure, to_numpy


def blank_figure(width: int, height: int) -> Figure:
    """A figure of `width` x `height` pixels with nothing on it."""
    figure, axes = new_figure(width, height)
    axes.remove()
    return figure


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes without frame or ticks whose upper left corner is `left` pixels from the left and `top` from above."""
    whole_width, whole_height = figure.get_size_inches() * figure.dpi
    bottom = whole_height - top - height
    axes = figure.add_axes((left / whole_width, bottom / whole_height, width / whole_width, height / whole_height))
    axes.set_axis_off()
    return axes


def fitted(image: Any, width: float, height: float) -> tuple[float, float]:
    """The largest (width, height) in pixels, within those given, at which the image `(3, H, W)` keeps its shape."""
    rows, columns = to_numpy(image).shape[1:]
    scale = min(width / columns, height / rows)
    return columns * scale, rows * scale
