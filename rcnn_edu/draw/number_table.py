"""A table of numbers whose cells are filled by what the numbers mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection


def table_frame(axes: Axes, rows: Sequence[str], columns: Sequence[str], fontsize: float = 9.5) -> None:
    """Prepare axes for `draw_cells`: a name for each row at the left, and for each column above; one unit a cell."""
    axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, fontsize=fontsize)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, fontsize=fontsize)
    axes.tick_params(left=False, bottom=False, top=False, labelbottom=False, labeltop=True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_cells(
    axes: Axes, texts: Sequence[Sequence[str]], fills: Sequence[Sequence[str]], fontsize: float = 9.5
) -> list[Artist]:
    """Fill and write the cells of a `table_frame`; texts and fills: a row of strings and of colours for each row.

    Raises `ValueError` when the two have not the same cells.
    """
    cells = [(row, column) for row, line in enumerate(texts) for column in range(len(line))]
    if [len(line) for line in texts] != [len(line) for line in fills]:
        raise ValueError("every cell needs a text and a fill")
    corners = [[(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)] for y, x in cells]
    colors = [fills[row][column] for row, column in cells]
    patches = PolyCollection(corners, facecolors=colors, edgecolors="white", linewidths=2)
    artists: list[Artist] = [axes.add_collection(patches, autolim=False)]
    for row, column in cells:
        if texts[row][column]:
            artists.append(
                axes.text(
                    column + 0.5, row + 0.5, texts[row][column], fontsize=fontsize, ha="center", va="center",
                    parse_math=False,
                )
            )  # fmt: skip
    return artists
