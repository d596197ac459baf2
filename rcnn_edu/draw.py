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
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from rcnn_edu.label_tags import draw_tag

OBJECT = "#0072B2"
FOREGROUND = "#009E73"
BACKGROUND = "#D55E00"
DONT_CARE = "#999999"
PROPOSAL = "#CC79A7"
KEPT = "#E69F00"

_LOSSES = {  # name in the records: name in words, colour; the RPN's two are blues, the classifier's two oranges
    "rpn_classification": ("RPN: object or not", "#0072B2"),
    "rpn_regression": ("RPN: box coefficients", "#56B4E9"),
    "classification": ("classifier: which class", "#D55E00"),
    "regression": ("classifier: box coefficients", "#E69F00"),
}
_PRECISIONS = {"map_area": ("area under the curve", "#009E73"), "map_11point": ("11 points (VOC 2007)", "#CC79A7")}


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
    canvas = figure.canvas if isinstance(figure.canvas, FigureCanvasAgg) else FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


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
    corners = outlines[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    artists: list[Artist] = []
    # A pale edge under thick lines keeps them apart from a photo of about their colour.
    halo = [("white", linewidth + 1.6, alpha * 0.6)] if linewidth >= 1.5 else []
    for edge, width, opacity in [*halo, (color, linewidth, alpha)]:
        lines = PolyCollection(corners, facecolors="none", edgecolors=edge, linewidths=width, alpha=opacity)
        artists.append(axes.add_collection(lines, autolim=False))
    for box, label in zip(outlines, labels or (), strict=False):
        artists.append(draw_tag(axes, box, label, color, fontsize))
    return artists


def draw_labelled_anchors(axes: Axes, anchors: Any, labels: Any, limit: int = 250) -> list[Artist]:
    """Outline anchors `(A, 4)` by their labels `(A,)`: 1 foreground, 0 background, -1 don't care.

    Every foreground anchor is drawn, on top. Of background and don't care at most `limit` each, spaced evenly
    over the list, and the fainter the more there are: thousands of outlines would hide the photo.
    """
    boxes, values = _to_numpy(anchors).reshape(-1, 4), _to_numpy(labels).reshape(-1)
    if len(boxes) != len(values):
        raise ValueError(f"{len(values)} labels for {len(boxes)} anchors")
    artists: list[Artist] = []
    for value, color, linewidth, strength in ((-1, DONT_CARE, 0.5, 0.5), (0, BACKGROUND, 0.9, 0.9)):
        chosen = np.flatnonzero(values == value)
        if len(chosen) > limit:
            chosen = chosen[np.linspace(0, len(chosen) - 1, limit).astype(int)]
        alpha = strength * min(1.0, (12 / max(len(chosen), 1)) ** 0.5)
        artists += draw_boxes(axes, boxes[chosen], color, linewidth=linewidth, alpha=alpha)
    return artists + draw_boxes(axes, boxes[values == 1], FOREGROUND, linewidth=2.0)


def draw_detections(
    axes: Axes,
    image: Any,
    detections: Mapping[str, Any],
    classes: Sequence[str],
    targets: Mapping[str, Any] | None = None,
    score_threshold: float = 0.5,
) -> list[Artist]:
    """An image, its objects if known, and its detections with class and score.

    detections: `boxes` (D, 4), `labels` (D,) in 1..C, `scores` (D,); shown from `score_threshold` on.
    targets: `boxes` (G, 4), and `labels` (G,). classes: C names, without background.
    """
    artists = draw_image(axes, image)
    kept = _to_numpy(detections["scores"]) >= score_threshold
    found = [_to_numpy(detections[key])[kept] for key in ("boxes", "labels", "scores")]
    tags = [f"{classes[int(label) - 1]} {score:.2f}" for label, score in zip(*found[1:], strict=True)]
    if targets is not None:
        artists += draw_boxes(axes, targets["boxes"], OBJECT, linewidth=3.5)
    artists += draw_boxes(axes, found[0], KEPT, tags)
    if targets is not None:  # after the detections, which have first choice of place for their tags
        names = [classes[int(label) - 1] for label in _to_numpy(targets["labels"])]
        boxes = _to_numpy(targets["boxes"]).reshape(-1, 4)
        artists += [draw_tag(axes, box, name, OBJECT, 9.0) for box, name in zip(boxes, names, strict=True)]
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
    rows = max(1, -(-len(items) // columns))
    cell_width, cell_height, gap, foot = 360, 280, 8, 34
    width, height = max(columns, 2) * cell_width, rows * cell_height + foot
    figure, frame = new_figure(width, height)
    for index, (image, detections, targets) in enumerate(items):
        left, top = index % columns * cell_width + gap / 2, index // columns * cell_height + gap / 2
        place = left / width, 1 - (top + cell_height - gap) / height
        axes = figure.add_axes((*place, (cell_width - gap) / width, (cell_height - gap) / height))
        draw_detections(axes, image, detections, classes, targets, score_threshold)
    handles = [Patch(color=OBJECT, label="object"), Patch(color=KEPT, label=f"detected, score {score_threshold:g} or more")]
    frame.legend(handles=handles, loc="lower center", ncols=2, frameon=False, fontsize=11, borderaxespad=0.3)
    to_png(figure, path)


def plot_losses(records: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write the curves of a training run: its four losses, and mAP where it was evaluated.

    records: the lines of metrics.jsonl; those with losses have `step` and the losses by name, those of an
    evaluation `step`, `map_area` and `map_11point`. Missing and non-finite values are gaps.
    """
    precisions = {key: _series(records, key) for key in _PRECISIONS}
    panels = 2 if any(len(steps) for steps, _ in precisions.values()) else 1
    figure = Figure(figsize=(5.5 * panels + 1.5, 4.5), dpi=100)
    left, *right = np.atleast_1d(figure.subplots(1, panels))
    smooth = {}
    for key, (words, color) in _LOSSES.items():
        steps, values = _series(records, key)
        smooth[key] = _smoothed(values)
        left.plot(steps, values, color=color, alpha=0.2, linewidth=0.8)
        last = f"  {smooth[key][-1]:.3f}" if len(values) else ""
        left.plot(steps, smooth[key], color=color, linewidth=2, label=words + last)
    left.set(title="Losses: lower is better", xlabel="step", ylabel="loss")
    ends = np.concatenate(list(smooth.values()))
    if len(ends) and ends.min() > 0 and ends.max() > 20 * ends.min():
        left.set_yscale("log")
        left.yaxis.set_major_formatter("{x:g}")
    else:
        left.set_ylim(bottom=0)
    for axes in right:
        for key, (steps, values) in precisions.items():
            words, color = _PRECISIONS[key]
            axes.plot(steps, values, "o-", color=color, label=f"{words}  {values[-1]:.3f}" if len(values) else words)
        axes.set(title="mAP on validation: higher is better", xlabel="step", ylim=(0, 1))
    for axes in (left, *right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.tight_layout()
    to_png(figure, path)


def _series(records: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], NDArray[np.float64]]:
    """Steps, rising, and the finite values of `key` at them; of two records of a step the later counts."""
    found = {record["step"]: record[key] for record in records if record.get(key) is not None}
    steps = sorted(step for step, value in found.items() if np.isfinite(value))
    return steps, np.array([found[step] for step in steps], dtype=np.float64)


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Moving average, centred, over about a twentieth of the run; shorter towards the ends."""
    half = len(values) // 40
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    average: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return average


def _to_numpy(values: Any) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
