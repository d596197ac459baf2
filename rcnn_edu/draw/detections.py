"""What the detector found in an image, beside what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from rcnn_edu.boxes import box_iou
from rcnn_edu.draw.boxes import draw_boxes
from rcnn_edu.draw.colors import KEPT, OBJECT
from rcnn_edu.draw.figures import draw_image, new_figure, to_numpy, to_png
from rcnn_edu.draw.label_tags import draw_tag


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
    kept = to_numpy(detections["scores"]) >= score_threshold
    boxes, labels, scores = (to_numpy(detections[key])[kept] for key in ("boxes", "labels", "scores"))
    tags = [f"{classes[int(label) - 1]} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    if targets is None:
        return artists + draw_boxes(axes, boxes, KEPT, tags, fontsize=fontsize)
    objects, names = to_numpy(targets["boxes"]).reshape(-1, 4), to_numpy(targets["labels"])
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
