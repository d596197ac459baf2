"""Anchor target layer: which anchors the RPN learns from, and what each should predict.

Article "Anchor Target Layer" · Faster R-CNN (arXiv 1506.01497) §3.1.2 · notebook 05

    A  anchors on the image's grid          labels   1 foreground   0 background   −1 don't care
    G  ground-truth objects                 targets  the coefficients that turn an anchor into its object

An anchor is foreground when it is the best anchor of some object (type A: no object goes without), or when it overlaps
some object by at least 0.7 (type B). It is background when its best overlap is below 0.3. Everything between, and every
anchor that leaves the image (by more than `allowed_border`), is "don't care". Of the labelled ones 256 enter the loss,
at most half of them foreground; the surplus, chosen at random, is turned into don't care.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rcnn_edu.boxes import box_iou, encode_boxes
from rcnn_edu.config import AnchorTargetConfig
from rcnn_edu.sampling import keep_at_random, random_keys

FOREGROUND, BACKGROUND, DONT_CARE = 1, 0, -1


class AnchorTargets(NamedTuple):
    """What the RPN should say at each anchor of one image."""

    labels: Tensor
    """`(A,)` int64: 1 foreground, 0 background, −1 don't care."""
    targets: Tensor
    """`(A, 4)` float32: coefficients from anchor to `matched_gt`; zeros in an image without objects."""
    max_iou: Tensor
    """`(A,)` float32: IoU with the object that the anchor overlaps most; 0 without objects."""
    matched_gt: Tensor
    """`(A,)` int64: row of that object; −1 without objects."""


class AnchorLabels(NamedTuple):
    """What each anchor of one image is, before sampling; the fields of `AnchorTargets` that chance does not touch."""

    labels: Tensor
    max_iou: Tensor
    matched_gt: Tensor


def anchor_targets(
    anchors: Tensor,
    gt_boxes: Tensor,
    image_size: tuple[int, int],
    config: AnchorTargetConfig = AnchorTargetConfig(),
    generator: torch.Generator | None = None,
) -> AnchorTargets:
    """Labels and regression targets of one image's anchors, after sampling.

    anchors: `(A, 4)`; gt_boxes: `(G, 4)`, G may be 0; image_size: (height, width); all in pixels of the resized image.
    """
    inside = inside_image(anchors, image_size, config.allowed_border)
    keys = random_keys((2, len(anchors)), anchors.device, generator)
    return sampled_targets(anchors, gt_boxes, inside, keys, config)


def sampled_targets(
    anchors: Tensor, gt_boxes: Tensor, inside: Tensor, keys: Tensor, config: AnchorTargetConfig
) -> AnchorTargets:
    """`anchor_targets` as a function of what it draws: keys `(2, A)`, uniform in [0, 1).

    inside: `(A,)` mask of the anchors that may be labelled. Empty boxes among `gt_boxes` change nothing.
    """
    labels, max_iou, matched_gt = _labels(anchors, gt_boxes, inside, config)

    most_foreground = int(config.fg_fraction * config.batch_size)
    foreground = keep_at_random(labels == FOREGROUND, most_foreground, most_foreground, keys[0])
    room = config.batch_size - foreground.sum()
    background = keep_at_random(labels == BACKGROUND, config.batch_size, room, keys[1])

    labels = torch.where(foreground, FOREGROUND, torch.where(background, BACKGROUND, DONT_CARE))
    targets = encode_boxes(anchors, gt_boxes[matched_gt]) if len(gt_boxes) else torch.zeros_like(anchors)
    return AnchorTargets(labels, targets, max_iou, matched_gt)


def label_anchors(
    anchors: Tensor,
    gt_boxes: Tensor,
    image_size: tuple[int, int],
    config: AnchorTargetConfig = AnchorTargetConfig(),
) -> AnchorLabels:
    """The labels before sampling, for pictures of them: each field is `(A,)`, as in `AnchorTargets`."""
    return _labels(anchors, gt_boxes, inside_image(anchors, image_size, config.allowed_border), config)


def _labels(anchors: Tensor, gt_boxes: Tensor, inside: Tensor, config: AnchorTargetConfig) -> AnchorLabels:
    if len(gt_boxes) == 0 or len(anchors) == 0:
        max_iou = anchors.new_zeros(len(anchors))
        matched_gt = torch.full_like(inside, -1, dtype=torch.int64)
        return AnchorLabels(torch.where(inside, BACKGROUND, DONT_CARE), max_iou, matched_gt)

    iou = box_iou(anchors, gt_boxes)
    max_iou, matched_gt = iou.max(dim=1)
    foreground = best_of_an_object(iou, inside) | (max_iou >= config.positive_overlap)
    background = max_iou < config.negative_overlap
    labels = torch.where(foreground, FOREGROUND, torch.where(background, BACKGROUND, DONT_CARE))
    return AnchorLabels(torch.where(inside, labels, DONT_CARE), max_iou, matched_gt)


def best_of_an_object(iou: Tensor, inside: Tensor) -> Tensor:
    """`(A,)` mask of type A: anchors inside the image that no other overlaps some object more, ties included.

    iou: `(A, G)`; inside: `(A,)` boolean. An object that no anchor touches has no best anchor: its best IoU is 0, and
    without that condition every anchor that misses it would tie for best (the original code's slip).
    """
    iou = iou * inside[:, None]
    best = iou.amax(dim=0)
    best = torch.where(best > 0, best, torch.inf)
    # `(iou == best).any(dim=1)` in numbers, which are faster than masks, and without another matrix.
    return inside & (iou.sub_(best).amax(dim=1) >= 0)


def inside_image(anchors: Tensor, image_size: tuple[int, int], border: float | None = 0.0) -> Tensor:
    """`(A,)` mask of the anchors inside an image of (height, width) pixels that has so many more around it.

    border: in pixels; none: every anchor counts as inside.
    """
    height, width = image_size
    border = math.inf if border is None else border
    x1, y1, x2, y2 = anchors.unbind(dim=1)
    return (x1 >= -border) & (y1 >= -border) & (x2 <= width + border) & (y2 <= height + border)
