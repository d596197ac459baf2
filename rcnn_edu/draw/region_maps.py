"""A region's numbers as they pass the tail: its crop, what layer4 makes of it, and the vector at the end."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rcnn_edu.draw.figures import draw_image, new_figure, to_numpy
from rcnn_edu.draw.heat import draw_heat, strength
from rcnn_edu.draw.layout import HEAD

_PHOTO, _MAP, _FOOT = 440, 128, 34


def region_figure(image: Any, width: int = 960) -> tuple[Figure, Axes, list[Axes], Axes]:
    """The photo `(3, H, W)` with three square maps below it, and at the right the axes of a plot of class names."""
    rows, columns = to_numpy(image).shape[1:]
    photo_height = min(_PHOTO * rows / columns, 330)
    photo_width = photo_height * columns / rows
    height = round(HEAD + photo_height + HEAD + _MAP + _FOOT)
    figure, blank = new_figure(width, height)
    blank.remove()
    bottom = height - HEAD - photo_height
    photo = figure.add_axes((0, bottom / height, photo_width / width, photo_height / height))
    draw_image(photo, image)
    maps = []
    for index in range(3):
        left = 2 + index * (_PHOTO - _MAP - 4) / 2
        axes = figure.add_axes((left / width, _FOOT / height, _MAP / width, _MAP / height))
        axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[], aspect="equal")
        maps.append(axes)
    plot = figure.add_axes(
        ((_PHOTO + 110) / width, (_FOOT + 40) / height, (width - _PHOTO - 120) / width, (height - _FOOT - 70) / height)
    )
    plot.spines[["top", "right"]].set_visible(False)
    plot.tick_params(labelsize=9)
    return figure, photo, maps, plot


def draw_region_maps(maps: list[Axes], crop: Any, described: Any, fc7: Any) -> list[Artist]:
    """crop `(C, n, n)` and described `(D, m, m)`: the channels' strength; fc7 `(D,)`: its numbers in 32 columns."""
    vector = np.abs(to_numpy(fc7))
    padded = np.zeros(-(-len(vector) // 32) * 32)
    padded[: len(vector)] = vector / max(float(vector.max()), 1e-12)
    every = (strength(crop), strength(described), padded.reshape(-1, 32))
    return [
        draw_heat(axes, values, (0, 1, 1, 0), "black", opacity=1.0) for axes, values in zip(maps, every, strict=True)
    ]
