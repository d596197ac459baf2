"""Every candidate region by its overlap with an object and its objectness, and which of them are used how often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from rcnn_edu.draw.colors import BACKGROUND, DONT_CARE, FOREGROUND, OBJECT
from rcnn_edu.draw.figures import to_numpy

_AREA = 16.0  # square points of a region that is used once


def overlap_axes(axes: Axes) -> None:
    """Prepare axes for `draw_bands` and `draw_regions`: IoU to the right, objectness up."""
    axes.set(xlim=(-0.02, 1.03), ylim=(-0.03, 1.16), yticks=np.linspace(0, 1, 6))
    axes.set_xlabel("IoU with the object that it overlaps most", fontsize=10)
    axes.set_ylabel("objectness", fontsize=10)


def draw_bands(axes: Axes, bg_threshold_lo: float, bg_threshold_hi: float, fg_threshold: float) -> list[Artist]:
    """The two ranges of IoU that are used, named at the top."""
    artists: list[Artist] = []
    ranges = (
        (bg_threshold_lo, bg_threshold_hi, BACKGROUND, "background"),
        (fg_threshold, 1.03, FOREGROUND, "foreground"),
    )
    for low, high, color, name in ranges:
        artists.append(axes.axvspan(low, high, color=color, alpha=0.12, linewidth=0))
        middle = min((low + high) / 2, 0.9)  # clear of the edge
        artists.append(axes.text(middle, 1.1, name, color=color, fontsize=10, ha="center", va="center"))
    return artists


def draw_regions(axes: Axes, iou: Any, objectness: Any, times: Any, foreground: Any) -> list[Artist]:
    """A dot for each of N regions: grey if not used, else in the colour of its kind; its area grows with how often.

    iou, objectness: `(N,)`; times: `(N,)` how often each is used; foreground: `(N,)` mask.
    """
    x, y, count = to_numpy(iou), to_numpy(objectness), to_numpy(times)
    green = to_numpy(foreground).astype(bool)
    artists: list[Artist] = []
    for chosen, color in (
        (count == 0, DONT_CARE),
        ((count > 0) & ~green, BACKGROUND),
        ((count > 0) & green, FOREGROUND),
    ):
        area = np.where(count[chosen] > 0, _AREA * count[chosen], 7.0)
        style: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.5, "alpha": 0.85}
        artists.append(axes.scatter(x[chosen], y[chosen], area, c=color, **style))
    return artists


def region_handles() -> Sequence[Line2D]:
    """The legend of `draw_regions`."""
    dot: dict[str, Any] = {"linestyle": "none", "marker": "o", "markeredgecolor": "white", "markersize": 8}
    return [
        Line2D([], [], color=OBJECT, linewidth=2.5, label="object"),
        Line2D([], [], color=FOREGROUND, label="foreground RoI", **dot),
        Line2D([], [], color=BACKGROUND, label="background RoI (larger: repeated)", **dot),
        Line2D([], [], color=DONT_CARE, label="not in this sample", **dot),
    ]
