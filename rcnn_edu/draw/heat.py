"""A map of numbers as colour over a photo, or on its own: the larger, the less transparent."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from rcnn_edu.draw.figures import to_numpy


def draw_heat(
    axes: Axes, values: Any, extent: tuple[float, float, float, float], color: str, opacity: float = 0.85
) -> Artist:
    """Colour each cell of `values` `(rows, columns)`: clear at 0 and below, `opacity` at 1 and above.

    extent: left, right, bottom and top of the map in the units of the axes, whose limits must be set and stay.
    """
    numbers = to_numpy(values)
    if numbers.ndim != 2:
        raise ValueError(f"a map has rows and columns; this one has shape {numbers.shape}")
    colors = np.zeros((*numbers.shape, 4), dtype=np.uint8)
    colors[..., :3] = np.round(255 * np.array(to_rgba(color))[:3])
    colors[..., 3] = np.round(255 * opacity * numbers.clip(0, 1))
    limits = axes.get_xlim(), axes.get_ylim()
    image = axes.imshow(colors, extent=extent, interpolation="nearest", aspect=axes.get_aspect())
    axes.set(xlim=limits[0], ylim=limits[1])
    return image


def strength(features: Any) -> Any:
    """How much a feature map `(C, H, W)` says at each place: the channels' root mean square over its maximum, 0..1."""
    squares = (to_numpy(features).astype(np.float64) ** 2).mean(axis=0)
    largest = squares.max()
    return np.sqrt(squares / largest) if largest > 0 else squares
