"""How pictures are laid out: photos side by side under their titles, and one legend at the foot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from numpy.typing import NDArray

from rcnn_edu.draw.figures import draw_image, new_figure, to_numpy

HEAD, FOOT, GAP = 26, 34, 8
"""Pixels above a photo for its title, below for the legend, and between two photos."""


def photo_row(
    image: Any, count: int = 1, width: int = 960, head: int = HEAD, foot: int = FOOT
) -> tuple[Figure, list[Axes]]:
    """A figure with the image `(3, H, W)` `count` times side by side, and the axes of each; sides are in pixels.

    head: room above for `draw_title`; foot: room below for `foot_legend`; 0 for none.
    """
    rows, columns = to_numpy(image).shape[1:]
    cell = (width - GAP * (count - 1)) / count
    photo_height = cell * rows / columns
    height = round(head + photo_height + foot)
    figure, blank = new_figure(width, height)
    blank.remove()
    every = [
        figure.add_axes((index * (cell + GAP) / width, foot / height, cell / width, photo_height / height))
        for index in range(count)
    ]
    for axes in every:
        draw_image(axes, image)
    return figure, every


def photo_and_plot(
    image: Any,
    width: int = 960,
    photo_share: float = 0.56,
    margins: tuple[int, int, int, int] = (70, 10, 20, 44),
    foot: int = 0,
) -> tuple[Figure, Axes, Axes]:
    """A figure with the image `(3, H, W)` at the left and the axes of a plot at the right.

    photo_share: the photo's part of the width; margins: pixels left, above, right and below of the plot, where its
    ticks and labels go; foot: pixels below both for `foot_legend`. Set the plot's limits before anything moves in it.
    """
    rows, columns = to_numpy(image).shape[1:]
    photo_width = round(width * photo_share)
    photo_height = photo_width * rows / columns
    height = round(HEAD + photo_height + foot)
    figure, blank = new_figure(width, height)
    blank.remove()
    photo = figure.add_axes((0, foot / height, photo_width / width, photo_height / height))
    draw_image(photo, image)
    left, above, right, below = margins
    plot = figure.add_axes(
        (
            (photo_width + left) / width,
            (foot + below) / height,
            (width - photo_width - left - right) / width,
            (photo_height - above - below) / height,
        )
    )
    plot.spines[["top", "right"]].set_visible(False)
    plot.tick_params(labelsize=9)
    return figure, photo, plot


def draw_title(axes: Axes, text: str, fontsize: float = 10.5) -> Text:
    """A line above the axes, at their left end. Unlike `set_title` it may change from frame to frame."""
    return axes.text(
        0.004,
        1.0,
        text + "\n",
        transform=axes.transAxes,
        fontsize=fontsize,
        linespacing=0.45,
        va="bottom",
        clip_on=False,
    )


def faded(image: Any, paleness: float = 0.35) -> NDArray[np.float32]:
    """The image `(3, H, W)`, uint8 or in 0..1, grey and pale, so that colours drawn on it stand out; in 0..1.

    paleness: how far every pixel goes towards white; 1 leaves nothing of the photo.
    """
    pixels = to_numpy(image)
    pixels = pixels / np.float32(255) if pixels.dtype == np.uint8 else pixels.astype(np.float32)
    grey = np.tensordot(np.array([0.299, 0.587, 0.114], dtype=np.float32), pixels, axes=1)
    return np.broadcast_to(paleness + (1 - paleness) * grey, pixels.shape)


def foot_legend(figure: Figure, handles: Sequence[Artist], fontsize: float = 10) -> Legend:
    """One line at the foot of the figure that says what each colour and marker is."""
    return figure.legend(
        handles=list(handles),
        loc="lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=fontsize,
        handlelength=1.4,
        columnspacing=1.6,
        borderaxespad=0.3,
    )
