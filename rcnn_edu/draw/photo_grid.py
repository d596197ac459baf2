"""The same photo several times in rows and columns, with room round each for boxes that leave it."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rcnn_edu.draw.figures import draw_image, new_figure, to_numpy
from rcnn_edu.draw.layout import GAP


def photo_grid(
    image: Any, rows: int, columns: int, width: int, margin: float, right: int = 0, head: int = 24, foot: int = 34
) -> tuple[Figure, list[Axes]]:
    """A figure of `width` pixels with the image `(3, H, W)` in `rows` x `columns`, and the axes of each, row by row.

    margin: pixels of the image that are shown blank beyond each of its borders; right: pixels of the figure left free
    at its right for a plot; head: room above each for `draw_title`; foot: room below all for `foot_legend`.
    """
    image_height, image_width = to_numpy(image).shape[1:]
    cell = (width - right - GAP * (columns - 1)) / columns
    cell_height = cell * (image_height + 2 * margin) / (image_width + 2 * margin)
    height = round(rows * (head + cell_height) + foot)
    figure, blank = new_figure(width, height)
    blank.remove()
    every = []
    for row in range(rows):
        for column in range(columns):
            bottom = height - (row + 1) * (head + cell_height)
            axes = figure.add_axes((column * (cell + GAP) / width, bottom / height, cell / width, cell_height / height))
            draw_image(axes, image)
            axes.set(xlim=(-margin, image_width + margin), ylim=(image_height + margin, -margin))
            axes.add_patch(Rectangle((0, 0), image_width, image_height, fill=False, edgecolor="black", linewidth=0.8))
            every.append(axes)
    return figure, every
