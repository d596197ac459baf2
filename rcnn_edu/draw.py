"""Pictures of boxes: pure functions that draw on a matplotlib axes, and never touch pyplot.

Axes show pixels: x to the right, y down, one unit a pixel, and boxes are x1, y1, x2, y2 as everywhere else.
Nothing that is drawn here changes the limits of the axes, except `draw_image`, which sets them to the image.
The colours are told apart by readers of any colour vision, and mean the same in every picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from rcnn_edu.boxes import box_iou
from rcnn_edu.label_tags import draw_tag
from rcnn_edu.loss_curves import plot_losses

__all__ = [
    "BACKGROUND",
    "DONT_CARE",
    "FOREGROUND",
    "KEPT",
    "OBJECT",
    "PROPOSAL",
    "detection_grid",
    "draw_boxes",
    "draw_detections",
    "draw_image",
    "draw_labelled_anchors",
    "new_figure",
    "plot_losses",
    "to_array",
    "to_png",
]

OBJECT = "#0072B2"
FOREGROUND = "#009E73"
BACKGROUND = "#D55E00"
DONT_CARE = "#999999"
PROPOSAL = "#CC79A7"
KEPT = "#E69F00"


def new_figure(width: int, height: int, dpi: float = 100) -> tuple[Figure, Axes]:
    """A figure of `width` x `height` pixels and an axes that fills it, without frame or ticks.

    `dpi` sets how large text and lines come out, not how many pixels there are.
    """
    # Canvases round down: where inches times dpi falls short of the pixels, the next floating point number does not.
    inches = [side / dpi if side / dpi * dpi >= side else np.nextafter(side / dpi, side) for side in (width, height)]
    figure = Figure(figsize=(inches[0], inches[1]), dpi=dpi)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    return figure, axes


def to_array(figure: Figure) -> NDArray[np.uint8]:
    """The drawn figure, uint8 `(height, width, 3)`."""
    canvas: Any = figure.canvas if isinstance(figure.canvas, FigureCanvasAgg) else FigureCanvasAgg(figure)
    canvas.draw()
    pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return pixels


def to_png(figure: Figure, path: str | Path) -> None:
    """Write the figure to a PNG file, with the pixels of `to_array`."""
    figure.savefig(path, format="png")


def draw_image(axes: Axes, image: Any) -> list[Artist]:
    """Show an image, uint8 or float in 0..1, `(3, H, W)`, and set the limits to it: x 0..W, y H..0.

    Raises `ValueError` for another shape.
    """
    pixels = _to_numpy(image)
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"image has shape {pixels.shape}; it must be (3, H, W)")
    if pixels.dtype != np.uint8:
        pixels = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
    height, width = pixels.shape[1:]
    shown = axes.imshow(pixels.transpose(1, 2, 0), extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return [shown]


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
    outlines = _to_numpy(boxes).reshape(-1, 4)
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
    boxes, values = _to_numpy(anchors).reshape(-1, 4), _to_numpy(labels).reshape(-1)
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


def draw_detections(
    axes: Axes,
    image: Any,
    detections: Mapping[str, Any],
    classes: Sequence[str],
    targets: Mapping[str, Any] | None = None,
    score_threshold: float = 0.5,
    fontsize: float = 9.0,
) -> list[Artist]:
    """An image, its objects if known, and its detections with class and score.

    detections: `boxes` (D, 4), `labels` (D,) in 1..C, `scores` (D,); shown from `score_threshold` on.
    targets: `boxes` (G, 4), `labels` (G,); an object is named only where it was missed, that is, where no shown
    detection of its class has an IoU of 0.5 or more with it. classes: C names, without background.
    """
    artists = draw_image(axes, image)
    kept = _to_numpy(detections["scores"]) >= score_threshold
    boxes, labels, scores = (_to_numpy(detections[key])[kept] for key in ("boxes", "labels", "scores"))
    tags = [f"{classes[int(label) - 1]} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    if targets is None:
        return artists + draw_boxes(axes, boxes, KEPT, tags, fontsize=fontsize)
    objects, names = _to_numpy(targets["boxes"]).reshape(-1, 4), _to_numpy(targets["labels"])
    artists += draw_boxes(axes, objects, OBJECT, linewidth=3.5)
    artists += draw_boxes(axes, boxes, KEPT, tags, fontsize=fontsize)
    overlaps = box_iou(torch.as_tensor(objects).float(), torch.as_tensor(boxes).float().reshape(-1, 4)).numpy()
    found = ((overlaps >= 0.5) & (names[:, None] == labels)).any(axis=1)
    for box, name in zip(objects[~found], names[~found], strict=True):
        artists.append(draw_tag(axes, box, classes[int(name) - 1], OBJECT, fontsize))
    return artists


def detection_grid(
    items: Sequence[tuple[Any, Mapping[str, Any], Mapping[str, Any] | None]],
    classes: Sequence[str],
    path: str | Path,
    columns: int = 4,
    score_threshold: float = 0.5,
) -> None:
    """Write a contact sheet: one cell an item `(image, detections, targets or None)`, as `draw_detections` has them."""
    columns = max(1, min(columns, len(items)))
    rows = -(-len(items) // columns)
    cell_width, cell_height, gap, foot = 360, 280, 8, 34 if columns > 1 else 58
    width, height = columns * cell_width, rows * cell_height + foot
    figure, frame = new_figure(width, height)
    for index, (image, detections, targets) in enumerate(items):
        left, top = index % columns * cell_width + gap / 2, index // columns * cell_height + gap / 2
        place = left / width, 1 - (top + cell_height - gap) / height
        axes = figure.add_axes((*place, (cell_width - gap) / width, (cell_height - gap) / height))
        draw_detections(axes, image, detections, classes, targets, score_threshold, fontsize=8.0)
    handles = [
        Patch(color=OBJECT, label="object, named where missed"),
        Patch(color=KEPT, label=f"detected, score {score_threshold:g} or more"),
    ]
    frame.legend(handles=handles, loc="lower center", ncols=min(columns, 2), frameon=False, fontsize=11)
    to_png(figure, path)


def _to_numpy(values: Any) -> NDArray[Any]:
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    return np.asarray(values.float() if values.dtype == torch.bfloat16 else values)  # numpy has no bfloat16
