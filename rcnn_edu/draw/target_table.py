"""The article's table of regression targets, expanded per class, with the inside weights beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rcnn_edu.draw.figures import draw_image, new_figure, to_numpy

_WIDTH, _PHOTO, _TABLE, _GAP = 960, 320, 285, 22
_HEAD, _ROWS, _FOOT = 26, 330, 92


def target_tables(
    image: Any, targets: Any, inside_weights: Any, classes: Sequence[str], largest: float = 3.0
) -> tuple[Figure, Axes, tuple[Axes, Axes]]:
    """A figure with the photo `(3, H, W)` and both tables `(R, 4·C)`; returns it, the photo's axes and the tables'.

    classes: C names, background first; each has four columns. Targets beyond ±largest get the darkest colour.
    """
    height = _HEAD + _ROWS + _FOOT
    figure, blank = new_figure(_WIDTH, height)
    blank.remove()
    rows, columns = to_numpy(image).shape[1:]
    photo_height = min(_PHOTO * rows / columns, _ROWS)
    photo_width = photo_height * columns / rows
    top = height - _HEAD
    bottom = (top - photo_height) / height
    photo = figure.add_axes((0, bottom, photo_width / _WIDTH, photo_height / height))
    draw_image(photo, image)

    tables = []
    names = (("targets", targets, "RdGy", -largest), ("inside_weights", inside_weights, "Greys", 0.0))
    for number, (name, values, colormap, lowest) in enumerate(names):
        left = _PHOTO + 44 + number * (_TABLE + _GAP)
        axes = figure.add_axes((left / _WIDTH, _FOOT / height, _TABLE / _WIDTH, _ROWS / height))
        table = to_numpy(values)
        highest = largest if lowest else 1.0
        axes.imshow(table, cmap=colormap, aspect="auto", interpolation="nearest", vmin=lowest, vmax=highest)
        axes.set_xticks([4 * index + 1.5 for index in range(len(classes))], classes, rotation=90, fontsize=8)
        axes.set_xticks([4 * index - 0.5 for index in range(1, len(classes))], minor=True)
        axes.grid(which="minor", axis="x", color="#cccccc", linewidth=0.4)
        axes.tick_params(which="minor", length=0)
        axes.tick_params(labelsize=8, length=2, labelleft=number == 0)
        axes.set_title(f"{name} {table.shape[0]} × {table.shape[1]}", fontsize=10.5, loc="left", pad=5)
        tables.append(axes)
    return figure, photo, (tables[0], tables[1])


def draw_row(tables: Sequence[Axes], row: int, label: int, color: str) -> list[Artist]:
    """A line across both tables at `row`, and a frame round the four cells of the class `label`."""
    artists: list[Artist] = []
    for axes in tables:
        artists.append(axes.axhline(row, color=color, linewidth=1.2))
        frame = Rectangle((4 * label - 0.8, row - 1.8), 4.6, 3.6, fill=False, edgecolor=color, linewidth=2)
        artists.append(axes.add_patch(frame))
    return artists
