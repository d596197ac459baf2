"""Detections and targets of a whole dataset, checked and laid end to end: what `metrics` computes on.

Boxes are x1, y1, x2, y2 in pixels, labels 1..num_classes - 1, and N counts the boxes of all images together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """The boxes of all images, one after the other."""

    image: Ints
    """(N,) index of the image."""
    boxes: Floats
    """(N, 4)."""
    labels: Ints
    """(N,)."""
    values: Floats
    """(N,) scores of detections; of objects, 1 for difficult and 0 for others."""

    def take(self, order: Ints) -> Rows:
        """The rows `order`, in that order."""
        return Rows(self.image[order], self.boxes[order], self.labels[order], self.values[order])


def gather(
    detections: Sequence[Mapping[str, Any]], targets: Sequence[Mapping[str, Any]], num_classes: int
) -> tuple[Rows, Rows]:
    """The rows of the detections and of the objects; see `metrics.voc_ap` for the arguments.

    Tensors on a GPU are copied once, not image by image. Raises `ValueError` for what `metrics.voc_ap` names.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; it must be 2 or more: background and one class at least")
    if len(detections) != len(targets):
        raise ValueError(f"detections of {len(detections)} images, but targets of {len(targets)}")
    found = _gather("detections", detections, "scores", num_classes)
    return found, _gather("targets", targets, "difficult", num_classes)


def _gather(what: str, images: Sequence[Mapping[str, Any]], extra: str, num_classes: int) -> Rows:
    """`extra` is the third key, of which `difficult` may be missing (all False)."""
    counts: list[int] = []
    columns: list[Floats] = []
    for key in ("boxes", "labels", extra):
        if key == "difficult":
            images = [image if key in image else {key: [False] * n} for image, n in zip(images, counts, strict=True)]
        if missing := [index for index, image in enumerate(images) if key not in image]:
            raise ValueError(f"{what} of image {missing[0]} have no '{key}'")
        values = [image[key] for image in images]
        # Whole columns at a time, so that thousands of images are checked in milliseconds.
        shapes = [value.shape if hasattr(value, "shape") else np.shape(value) for value in values]
        counts = counts or [shape[0] if shape else 0 for shape in shapes]
        expected = [(count, 4) if key == "boxes" else (count,) for count in counts]
        for index in [i for i, shape in enumerate(shapes) if shape != expected[i]]:
            if counts[index] or shapes[index][:1] != (0,):  # no boxes: (0,) is as good as (0, 4)
                shape = tuple(shapes[index])
                raise ValueError(f"{what} of image {index}: '{key}' has shape {shape}, not {expected[index]}")
        columns.append(_concatenate([value for value, count in zip(values, counts, strict=True) if count]))
    boxes, labels, extras = columns
    image_of = np.repeat(np.arange(len(images)), np.array(counts, dtype=np.int64))
    boxes = boxes.reshape(-1, 4)
    for key, rows, good, rule in (
        ("boxes", boxes, np.isfinite(boxes).all(axis=1), "finite"),
        ("labels", labels, np.isin(labels, np.arange(1, num_classes)), f"in 1..{num_classes - 1}"),
        (extra, extras, np.isfinite(extras), "finite"),
    ):
        if not good.all():
            bad = int(np.argmin(good))
            held = np.array2string(rows[bad], precision=4)
            raise ValueError(f"{what} of image {image_of[bad]}: '{key}' holds {held}; it must be {rule}")
    return Rows(image_of, boxes, labels.astype(np.int64), extras)


def _concatenate(values: list[Any]) -> Floats:
    if not values:
        return np.zeros(0)
    if all(isinstance(value, torch.Tensor) for value in values):
        return _to_numpy(torch.cat(values))
    arrays = [_to_numpy(value) if isinstance(value, torch.Tensor) else value for value in values]
    return np.concatenate(arrays).astype(np.float64)


def _to_numpy(tensor: torch.Tensor) -> Floats:
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:  # the one type here that numpy does not have
        tensor = tensor.float()
    return tensor.numpy().astype(np.float64)
