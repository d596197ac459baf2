"""Horizontal bars with their values written at the end."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes


def bar_rows(axes: Axes, names: Sequence[str], largest: float) -> None:
    """Prepare axes for `draw_bars`: a row for each name, the first on top, and values from 0 to `largest`."""
    axes.set(xlim=(0, largest * 1.12), ylim=(len(names) - 0.5, -0.5))  # the rest is room for the number
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(left=False)


def draw_bars(
    axes: Axes, values: Sequence[float], colors: Sequence[str], texts: Sequence[str], thickness: float = 0.6
) -> list[Artist]:
    """A bar for each row of `bar_rows`, with its text at the end; thickness is a share of the row."""
    bars = axes.barh(range(len(values)), list(values), height=thickness, color=list(colors))
    gap = axes.get_xlim()[1] * 0.01
    written = [
        axes.text(value + gap, row, text, fontsize=9.5, va="center", parse_math=False)
        for row, (value, text) in enumerate(zip(values, texts, strict=True))
    ]
    return [*bars, *written]
