"""Suppression in all images of a batch at once, for a GPU.

Article, appendix "Non-Maximum Suppression" · nms.py says what it is

For one image, `nms` asks a GPU for some fifty small operations, and waits for it again and again; with eight images the
asking takes longer than the work. Here they share it. Boxes of different images, or of different classes, are moved
apart: then they do not overlap, and one greedy pass decides for all of them.

They are moved in float64, where that changes no overlap. So an IoU that equals the threshold to the last bit of float32
may fall on the other side of it than in `nms`; nothing else can differ.
"""

from __future__ import annotations

import torch
import torchvision.ops
from torch import Tensor

from rcnn_edu.boxes import box_iou
from rcnn_edu.nms import apart, batched_nms, just_below, nms

BOXES_AT_ONCE = 32_768
"""Boxes of several images that are decided in one pass, in which every pair of them is compared."""
KEPT_AT_ONCE = 512
"""Survivors of an image with which its next boxes are compared at a time."""


def nms_of_each(boxes: Tensor, scores: Tensor, iou_threshold: float, max_kept: int) -> list[Tensor]:
    """`nms` of each image: `(B, N, 4)` and `(B, N)` → B tensors of at most `max_kept` rows, best score first.

    max_kept: at least 1. As there, a row with a NaN score or a coordinate that is not finite is never kept.
    """
    if boxes.device.type == "cpu":  # nobody waits, and small blocks stay in the cache
        return [nms(some, score, iou_threshold, max_kept) for some, score in zip(boxes, scores, strict=True)]
    return nms_together(boxes, scores, iou_threshold, max_kept)


def batched_nms_of_each(
    boxes: Tensor, scores: Tensor, classes: Tensor, image: Tensor, images: int, iou_threshold: float, max_kept: int
) -> list[Tensor]:
    """`batched_nms` of each of so many images: the rows of `boxes` `(N, 4)` that it keeps, best score first.

    scores, classes: `(N,)`; image: `(N,)` integers, which image each row belongs to.
    """
    if boxes.device.type != "cpu":
        return batched_nms_together(boxes, scores, classes, image, images, iou_threshold, max_kept)
    rows_of = [(image == number).nonzero()[:, 0] for number in range(images)]
    return [rows[batched_nms(boxes[rows], scores[rows], classes[rows], iou_threshold, max_kept)] for rows in rows_of]


def nms_together(boxes: Tensor, scores: Tensor, iou_threshold: float, max_kept: int) -> list[Tensor]:
    """`nms_of_each` in as few passes as the number of boxes allows."""
    block = 2 * max_kept
    if len(boxes) > (images := max(1, BOXES_AT_ONCE // min(block, max(1, boxes.shape[1])))):
        parts = zip(boxes.split(images), scores.split(images), strict=True)
        return [kept for some, score in parts for kept in nms_together(some, score, iou_threshold, max_kept)]

    usable = torch.isfinite(boxes).all(dim=2) & ~torch.isnan(scores)
    order = torch.where(usable, scores, -torch.inf).argsort(dim=1, descending=True, stable=True)
    usable = usable.gather(1, order)
    boxes = boxes.float().gather(1, order[:, :, None].expand(-1, -1, 4))

    # As in `nms`: block by block, best first, until every image has enough.
    kept = torch.zeros_like(usable)
    for start in range(0, boxes.shape[1], block):
        some = slice(start, start + block)
        free = usable[:, some]
        if start:
            if bool((kept.sum(dim=1) >= max_kept).all()):
                break
            free = free & _free(boxes[:, some], _best(boxes[:, :start], kept[:, :start], max_kept), iou_threshold)
        image, row = free.nonzero(as_tuple=True)
        survivors = torchvision.ops.nms(apart(boxes[image, start + row], image), -row.double(), iou_threshold)
        kept[image[survivors], start + row[survivors]] = True

    counts = kept.sum(dim=1).tolist()
    rows = order.gather(1, _first(kept, max_kept))
    return [of_image[:count] for of_image, count in zip(rows, counts, strict=True)]


def batched_nms_together(
    boxes: Tensor, scores: Tensor, classes: Tensor, image: Tensor, images: int, iou_threshold: float, max_kept: int
) -> list[Tensor]:
    """`batched_nms_of_each` in as few passes as the number of boxes allows."""
    at_once = max(1, images * BOXES_AT_ONCE // max(1, len(boxes)))  # as if all had equally many
    kept: list[Tensor] = []
    for first in range(0, images, at_once):
        count = min(at_once, images - first)
        rows = ((image >= first) & (image < first + count)).nonzero()[:, 0]
        numbers = image[rows] - first
        moved = apart(boxes[rows], classes[rows] * count + numbers)
        survivors = nms(moved, scores[rows], iou_threshold)
        survivors = survivors[numbers[survivors].argsort(stable=True)]  # image by image, the best of each first
        counts = (numbers[survivors] == torch.arange(count, device=image.device)[:, None]).sum(dim=1).tolist()
        kept += [of_image[:max_kept] for of_image in rows[survivors].split(counts)]
    return kept


def _first(mask: Tensor, count: int) -> Tensor:
    """`(B, count)`: in each row of `mask` `(B, N)` the first places that are true, then others; fewer if N is less."""
    return mask.byte().argsort(dim=1, descending=True, stable=True)[:, :count]


def _best(boxes: Tensor, kept: Tensor, count: int) -> Tensor:
    """`(B, count, 4)`: of boxes `(B, N, 4)` the first that are kept, `(B, N)`, then empty ones; fewer if N is less."""
    rows = _first(kept, count)
    best = boxes.gather(1, rows[:, :, None].expand(-1, -1, 4))
    return torch.where(kept.gather(1, rows)[:, :, None], best, 0.0)


def _free(boxes: Tensor, kept: Tensor, iou_threshold: float) -> Tensor:
    """`(B, N)` mask of the boxes `(B, N, 4)` that none of their image's `kept` `(B, K, 4)` suppresses."""
    threshold = just_below(iou_threshold, boxes.dtype)
    free = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    for some in kept.split(KEPT_AT_ONCE, dim=1):
        free &= ~(torch.vmap(box_iou)(some, boxes) > threshold).any(dim=1)
    return free
