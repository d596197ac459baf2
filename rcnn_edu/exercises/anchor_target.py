"""Exercises of lesson 05: which anchors count, which are type A, and what each is labelled."""

from __future__ import annotations

import torch
from torch import Tensor

from rcnn_edu.anchor_target import best_of_an_object, inside_image, label_anchors
from rcnn_edu.boxes import box_iou
from rcnn_edu.config import AnchorTargetConfig
from rcnn_edu.exercises.base import Exercise, Mistake


def _swapped(anchors: Tensor, image_size: tuple[int, int]) -> Tensor:
    return inside_image(anchors, (image_size[1], image_size[0]))


def _open_border(anchors: Tensor, image_size: tuple[int, int]) -> Tensor:
    height, width = image_size
    x1, y1, x2, y2 = anchors.unbind(dim=1)
    return (x1 > 0) & (y1 > 0) & (x2 < width) & (y2 < height)


def _by_center(anchors: Tensor, image_size: tuple[int, int]) -> Tensor:
    height, width = image_size
    x, y = ((anchors[:, :2] + anchors[:, 2:]) / 2).unbind(dim=1)
    return (x >= 0) & (y >= 0) & (x <= width) & (y <= height)


_anchors = torch.tensor(
    [
        *([0, 0, 40, 40], [50, 0, 90, 40], [-10, 10, 30, 50], [20, 50, 60, 75]),
        *([10, 10, 60, 50], [30, -5, 60, 30.0]),
    ]
)

inside = Exercise(
    "inside_image",
    inside_image,
    [(_anchors, (50, 100)), (_anchors, (100, 60))],
    [
        Mistake(_swapped, "image_size is (height, width): x2 must stay within the width, y2 within the height"),
        Mistake(_open_border, "an anchor may touch the border: x1 = 0 and x2 = width are inside, boxes are half-open"),
        Mistake(_by_center, "the whole anchor must lie inside the image, all four sides of it, not only its centre"),
    ],
)


def _first_of_ties(iou: Tensor, inside: Tensor) -> Tensor:
    masked = torch.where(inside[:, None], iou, 0.0)
    best, row = masked.max(dim=0)
    return torch.zeros_like(inside).index_fill(0, row[best > 0], True)


def _zero_counts(iou: Tensor, inside: Tensor) -> Tensor:
    masked = torch.where(inside[:, None], iou, 0.0)
    return (masked == masked.amax(dim=0)).any(dim=1) & inside


def _best_object(iou: Tensor, inside: Tensor) -> Tensor:
    masked = torch.where(inside[:, None], iou, 0.0)
    best = masked.amax(dim=1, keepdim=True)
    return ((masked == best) & (best > 0)).any(dim=1)


def _outside_counts(iou: Tensor, inside: Tensor) -> Tensor:
    return best_of_an_object(iou, torch.ones_like(inside))


_iou = torch.tensor([[0.6, 0.0], [0.6, 0.1], [0.2, 0.3], [0.8, 0.0], [0.0, 0.0]])
_untouched = torch.tensor([[0.0, 0.5], [0.0, 0.4], [0.0, 0.0]])
_hardly = torch.tensor([[0.0, 0.05], [0.9, 0.0]])
_inside = torch.tensor([True, True, True, False, True])

type_a = Exercise(
    "best_of_an_object",
    best_of_an_object,
    [(_iou, _inside), (_untouched, torch.ones(3, dtype=torch.bool)), (_hardly, torch.ones(2, dtype=torch.bool))],
    [
        Mistake(_first_of_ties, "ties count: every anchor with the object's best IoU is type A"),
        Mistake(_zero_counts, "an object that no anchor touches has no best anchor; ask for an IoU above 0"),
        Mistake(_best_object, "this is the best object of each anchor; type A is the best anchor of each object"),
        Mistake(_outside_counts, "an anchor that leaves the image cannot be the best; mask it before the maximum"),
    ],
)


def _labels(foreground: Tensor, background: Tensor, inside: Tensor) -> Tensor:
    labels = torch.where(foreground, 1, torch.where(background, 0, -1))
    return torch.where(inside, labels, -1)


def _no_type_a(
    anchors: Tensor, gt_boxes: Tensor, image_size: tuple[int, int], config: AnchorTargetConfig
) -> tuple[Tensor, Tensor, Tensor]:
    max_iou, matched = box_iou(anchors, gt_boxes).max(dim=1)
    inside = inside_image(anchors, image_size)
    labels = _labels(max_iou >= config.positive_overlap, max_iou < config.negative_overlap, inside)
    return labels, max_iou, matched


def _background_last(
    anchors: Tensor, gt_boxes: Tensor, image_size: tuple[int, int], config: AnchorTargetConfig
) -> tuple[Tensor, Tensor, Tensor]:
    labels, max_iou, matched = label_anchors(anchors, gt_boxes, image_size, config)
    low = (max_iou < config.negative_overlap) & inside_image(anchors, image_size)
    return torch.where(low, 0, labels), max_iou, matched


def _outside_labelled(
    anchors: Tensor, gt_boxes: Tensor, image_size: tuple[int, int], config: AnchorTargetConfig
) -> tuple[Tensor, Tensor, Tensor]:
    iou = box_iou(anchors, gt_boxes)
    max_iou, matched = iou.max(dim=1)
    everywhere = torch.ones_like(max_iou, dtype=torch.bool)
    foreground = best_of_an_object(iou, everywhere) | (max_iou >= config.positive_overlap)
    return _labels(foreground, max_iou < config.negative_overlap, everywhere), max_iou, matched


# The best anchor of the last object but one leaves the image. The last anchor overlaps the last object by exactly 1/4.
_objects = torch.tensor([[10, 10, 50, 50], [70, 70, 80, 80], [60, 0, 100, 80], [0, 60, 30, 90], [35, 85, 45, 95.0]])
_around = torch.tensor(
    [
        *([12, 10, 50, 50], [20, 10, 60, 50], [60, 60, 100, 100], [60, 0, 100, 40]),
        *([40, 40, 80, 80], [-4, 10, 36, 50], [90, 0, 130, 40], [-5, 60, 30, 90], [0, 50, 40, 90]),
        *([35, 85, 45, 100], [30, 80, 50, 100.0]),
    ]
)

labels = Exercise(
    "label_anchors",
    label_anchors,
    [
        (_around, _objects, (100, 100), AnchorTargetConfig()),
        (_around, _objects, (100, 200), AnchorTargetConfig(0.6, 0.25)),
    ],
    [
        Mistake(_no_type_a, "some objects get no foreground anchor; add type A, the best anchor of each object"),
        Mistake(_background_last, "foreground wins: a type A anchor stays 1 even if its IoU is below negative_overlap"),
        Mistake(_outside_labelled, "anchors that leave the image are -1, whatever they overlap"),
    ],
    part=lambda result: result[0] if isinstance(result, tuple) else result,
)

EXERCISES = (inside, type_a, labels)
