"""The numbers that a network gets for pixels: how they are distributed, and how they look as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor

from rcnn_edu.draw.figures import to_numpy

BINS = 64
_STYLES: tuple[tuple[str, Any, float], ...] = (
    ("#000000", "solid", 1.6),
    ("#555555", (0, (5, 2)), 1.6),
    ("#888888", (0, (1, 1.2)), 2.0),
)


def value_axes(axes: Axes, smallest: float, largest: float, ticks: Sequence[float]) -> None:
    """Prepare axes for `draw_histograms`: values from `smallest` to `largest`, and a line where they are 0."""
    axes.set_axis_on()
    axes.set(xlim=(smallest, largest), ylim=(0, 1.05))
    axes.set_xticks(list(ticks))
    axes.set_yticks([])
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.axvline(0, color="#BBBBBB", linewidth=1.0, zorder=0)


def draw_histograms(axes: Axes, values: Tensor) -> list[Artist]:
    """How often each value occurs, a line for each of the three channels of `(3, h, w)`, in the order they come.

    The bins divide the limits of the axes; the tallest bin of all reaches 1.
    """
    smallest, largest = axes.get_xlim()
    counts = np.stack([torch.histc(channel, BINS, smallest, largest).numpy() for channel in values.flatten(1)])
    heights = counts / max(1.0, counts.max())
    centers = smallest + (largest - smallest) * (np.arange(BINS) + 0.5) / BINS
    artists: list[Artist] = []
    for line, (color, dashes, width) in zip(heights, _STYLES, strict=True):
        artists += axes.plot(
            centers,
            line,
            color=color,
            linestyle=dashes,
            linewidth=width,
            scalex=False,
            scaley=False,
        )
    return artists


def channel_handles(names: Sequence[str] = ("first channel", "second channel", "third channel")) -> list[Artist]:
    """The legend of `draw_histograms`."""
    return [
        Line2D([], [], color=color, linestyle=dashes, linewidth=width, label=name)
        for name, (color, dashes, width) in zip(names, _STYLES, strict=True)
    ]


def signed_picture(values: Any, channels: Sequence[int] = (0, 1, 2)) -> NDArray[np.float32]:
    """Values around 0, `(3, h, w)`, as a picture in 0..1: 0 is middle grey, the value furthest from it black or white.

    channels: which of the three are red, green and blue.
    """
    pixels = to_numpy(values).astype(np.float32)[list(channels)]
    furthest = max(float(np.abs(pixels).max()), 1e-6)
    picture: NDArray[np.float32] = 0.5 + 0.5 * pixels / np.float32(furthest)
    return picture
