"""Outlines of boxes, with labels, and of anchors by what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, PolyCollection

from rcnn_edu.draw.colors import BACKGROUND, DONT_CARE, FOREGROUND
from rcnn_edu.draw.figures import to_numpy
from rcnn_edu.draw.label_tags import draw_tag


def draw_boxes(
    axes: Axes,
    boxes: Any,
    color: str,
    labels: Sequence[str] | None = None,
    linewidth: float = 2.0,
    alpha: float = 1.0,
    fontsize: float = 9.0,
) -> list[Artist]:
    """Outline boxes `(N, 4)`, in pixels, and tag each with its label.

    Tags are put at a corner of their box, where they stay inside the axes and clear of tags that are there already.
    linewidth and fontsize are in points, alpha is in 0..1. Returns what was added, in drawing order.
    Raises `ValueError` when there are not N labels.
    """
    outlines = to_numpy(boxes).reshape(-1, 4)
    if labels is not None and len(labels) != len(outlines):
        raise ValueError(f"{len(labels)} labels for {len(outlines)} boxes")
    corners = list(outlines[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
    artists: list[Artist] = []
    # A pale edge under thick lines keeps them apart from a photo of about their colour.
    halo = [("white", linewidth + 1.6, alpha * 0.6)] if linewidth >= 1.5 else []
    for edge, width, opacity in [*halo, (color, linewidth, alpha)]:
        lines = PolyCollection(corners, facecolors="none", edgecolors=edge, linewidths=width, alpha=opacity)
        artists.append(axes.add_collection(lines, autolim=False))
    for box, label in zip(outlines, labels or (), strict=False):
        artists.append(draw_tag(axes, box, label, color, fontsize))
    return artists


def draw_labelled_anchors(axes: Axes, anchors: Any, labels: Any, limit: int = 60) -> list[Artist]:
    """Outline anchors `(A, 4)` by their labels `(A,)`: 1 foreground, 0 background, -1 don't care.

    Every foreground anchor is drawn, on top and with a dot at its centre. Of background and don't care at most
    `limit` each are drawn, spaced evenly over the list: thousands of outlines would hide the photo. More than 20
    foreground anchors are drawn with thin lines for the same reason.
    """
    boxes, values = to_numpy(anchors).reshape(-1, 4), to_numpy(labels).reshape(-1)
    if len(boxes) != len(values):
        raise ValueError(f"{len(values)} labels for {len(boxes)} anchors")
    artists: list[Artist] = []
    for value, color, linewidth, alpha in ((-1, DONT_CARE, 0.7, 0.4), (0, BACKGROUND, 0.9, 0.55)):
        chosen = np.flatnonzero(values == value)
        if len(chosen) > limit:
            chosen = chosen[np.linspace(0, len(chosen) - 1, limit).astype(int)]
        artists += draw_boxes(axes, boxes[chosen], color, linewidth=linewidth, alpha=alpha)
    foreground = boxes[values == 1]
    few = len(foreground) <= 20
    artists += draw_boxes(axes, foreground, FOREGROUND, linewidth=2.0 if few else 0.8, alpha=1.0 if few else 0.5)
    centres = (foreground[:, :2] + foreground[:, 2:]) / 2
    dots = EllipseCollection(
        *(5.0, 5.0, 0.0),  # points
        units="points",
        offsets=centres,
        offset_transform=axes.transData,
        facecolors=FOREGROUND,
        edgecolors="white",
        linewidths=0.6,
    )
    return [*artists, axes.add_collection(dots, autolim=False)]
