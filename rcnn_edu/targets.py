"""Ground truth as it enters the model: checked while it is still on the CPU, where a look costs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Target = Mapping[str, Tensor]


def check_targets(targets: Sequence[Target], num_classes: int, names: Sequence[str] | None = None) -> None:
    """Raise `ValueError` for the first box or label that cannot be trained on, naming image, object and value.

    targets: per image `{"boxes": (G, 4), "labels": (G,)}` in pixels; num_classes counts background; names: what to
    call the images in the message, by default their place in the batch. Tensors on another device are not looked at:
    that would make it wait.
    """
    for position, target in enumerate(targets):
        image = f"image {names[position] if names else position}"
        for key in ("boxes", "labels"):
            if key not in target:
                raise ValueError(f'{image}: its target has no "{key}"; give {{"boxes": (G, 4), "labels": (G,)}}')
        boxes, labels = target["boxes"], target["labels"]
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"{image}: boxes must be (G, 4); they are {tuple(boxes.shape)}; use (0, 4) for no objects")
        if labels.shape != boxes.shape[:1]:
            raise ValueError(f"{image}: {len(boxes)} boxes, but labels of shape {tuple(labels.shape)}")
        if boxes.device.type == "cpu" and len(boxes):
            _check_boxes(boxes, image)
        if labels.device.type == "cpu" and len(labels):
            _check_labels(labels, num_classes, image)


def _check_boxes(boxes: Tensor, image: str) -> None:
    finite = torch.isfinite(boxes).all(dim=1)
    proper = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    if bool((finite & proper).all()):
        return
    row = int((~(finite & proper)).nonzero()[0])
    x1, y1, x2, y2 = boxes[row].tolist()
    what = "is inverted" if x2 < x1 or y2 < y1 else "is empty"
    if not finite[row]:
        what = "is not finite"
    raise ValueError(
        f"{image}, object {row}: box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) {what}; x1 < x2 and y1 < y2 in pixels are needed"
    )


def _check_labels(labels: Tensor, num_classes: int, image: str) -> None:
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"{image}: labels must be integers; they are {labels.dtype}")
    outside = (labels < 1) | (labels >= num_classes)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise ValueError(
            f"{image}, object {row}: label {int(labels[row])} is outside 1…{num_classes - 1}; 0 is kept for background"
        )
