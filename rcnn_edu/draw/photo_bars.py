"""Photos in a row, and below each a bar for every way of doing something: the same ways for all photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rcnn_edu.draw.bars import bar_rows
from rcnn_edu.draw.figures import draw_image, to_numpy
from rcnn_edu.draw.layout import FOOT, HEAD, draw_title
from rcnn_edu.draw.pixel_layout import axes_at, blank_figure

LABELS, COLUMN, GAP = 250, 165, 10
PHOTO_HEIGHT = 88


def photo_bars(
    images: Sequence[Any], titles: Sequence[str], ways: Sequence[str], most: float, bar_height: int
) -> tuple[Figure, list[Axes]]:
    """A figure with room for `foot_legend`, and for each photo the axes of its bars, as `draw_bars` wants them.

    images: `(3, H, W)` each; titles: one for each, above it; ways: names of the bars, at the left; most: the largest
    value that fits; bar_height: pixels from one bar to the next.
    """
    top, high = HEAD + PHOTO_HEIGHT + 8, bar_height * len(ways)
    figure = blank_figure(LABELS + (COLUMN + GAP) * len(images), top + high + FOOT + 2)
    plots = []
    for index, (image, title) in enumerate(zip(images, titles, strict=True)):
        left = LABELS + (COLUMN + GAP) * index
        rows, columns = to_numpy(image).shape[1:]
        width = min(COLUMN, round(PHOTO_HEIGHT * columns / rows))
        photo = axes_at(figure, left, HEAD, width, width * rows / columns)
        draw_image(photo, image)
        draw_title(photo, title)
        plot = axes_at(figure, left, top, COLUMN, high)
        plot.set_axis_on()
        plot.spines[["top", "right", "bottom"]].set_visible(False)
        bar_rows(plot, list(ways) if index == 0 else [""] * len(ways), most)
        plot.tick_params(labelsize=10.5, bottom=False, labelbottom=False)
        plots.append(plot)
    return figure, plots
