"""Non-maximum suppression: of boxes that cover the same thing, keep the best.

Article, appendix "Non-Maximum Suppression" · R-CNN (arXiv 1311.2524) §2.2 · notebook 10

Take the best-scored box that is left, keep it, drop every box that overlaps it by more than a threshold; repeat.
`nms_steps` is that sentence in code, one decision at a time. `nms` gives the same result at production speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torchvision.ops
from torch import Tensor

from rcnn_edu.boxes import box_iou

BLOCK = 512
"""Boxes that `nms` decides at a time on a CPU."""


class NMSStep(NamedTuple):
    """One decision of greedy suppression; indices are rows of the boxes that went in."""

    kept: int
    """The box that this step keeps: the best-scored of those that were left."""
    suppressed: Tensor
    """`(S,)` int64: the boxes that it suppresses, best score first."""
    iou: Tensor
    """`(S,)` float: their IoU with the kept box."""
    remaining: Tensor
    """`(L,)` int64: the boxes still undecided after this step, best score first."""


def nms_steps(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Iterator[NMSStep]:
    """Greedy suppression one decision at a time, for watching; the `kept` of all steps are `nms`'s result.

    boxes: `(N, 4)`; scores: `(N,)`; iou_threshold in 0..1.
    """
    boxes = _at_least_float32(boxes)
    remaining = _best_first(boxes, scores)
    while len(remaining):
        best, others = remaining[0], remaining[1:]
        iou = box_iou(boxes[best][None], boxes[others])[0]
        overlaps = iou.double() > iou_threshold  # a float32 of 0.3 is above 0.3: compare as the fast kernel does
        remaining = others[~overlaps]
        yield NMSStep(int(best), others[overlaps], iou[overlaps], remaining)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, max_kept: int | None = None) -> Tensor:
    """Indices of the boxes that survive, best score first; of equal scores the earlier row wins.

    boxes: `(N, 4)`; scores: `(N,)`; a box that overlaps a better one by more than `iou_threshold` (IoU, 0..1) is
    suppressed. `max_kept` stops after that many survivors, which changes none of them. A row with a NaN score or a
    non-finite coordinate is never kept. Returns int64 `(K,)` on the device of `boxes`.
    """
    order = _best_first(boxes, scores)
    boxes = _at_least_float32(boxes[order])
    scores = scores[order].to(boxes.dtype)
    # Whether a box survives depends on better boxes alone, so the boxes are decided block by block, best first, until
    # there are enough: first those that an earlier survivor suppresses go, many pairs at a time, then the rest of the
    # block is left to the greedy loop.
    wanted = len(order) if max_kept is None else max_kept
    # A GPU compares all pairs of a block at once, but goes through the block's rows one by one.
    block = max(1, min(BLOCK, wanted) if boxes.device.type == "cpu" else 2 * wanted)
    kept = order.new_empty(0)
    for start in range(0, len(order), block):
        if len(kept) >= wanted:
            break
        free = torch.arange(start, min(start + block, len(order)), device=order.device)
        if len(kept):
            free = free[_free(boxes[free], boxes[kept], iou_threshold)]
        kept = torch.cat([kept, free[torchvision.ops.nms(boxes[free], scores[free], iou_threshold)]])
    return order[kept[:wanted]]


def batched_nms(
    boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float, max_kept: int | None = None
) -> Tensor:
    """`nms` within each class: boxes of different classes never suppress each other.

    classes: `(N,)` integers. Returns the kept indices over all classes, best score first.
    """
    if boxes.device.type != "cpu":  # all classes in one pass: a GPU would make Python wait once for each
        return nms(apart(boxes, classes), scores, iou_threshold, max_kept)
    survivors = [torch.empty(0, dtype=torch.int64, device=boxes.device)]
    for label in classes.unique():
        rows = torch.nonzero(classes == label)[:, 0]
        survivors.append(rows[nms(boxes[rows], scores[rows], iou_threshold)])
    kept = torch.cat(survivors).sort().values
    return kept[torch.argsort(scores[kept], descending=True, stable=True)][:max_kept]


def apart(boxes: Tensor, groups: Tensor) -> Tensor:
    """`(N, 4)` boxes in float64, those of each group moved to where no other's are; that changes no overlap within it.

    groups: `(N,)` integers from 0.
    """
    if len(boxes) == 0:
        return boxes.double()
    finite = torch.where(torch.isfinite(boxes), boxes, 0.0).double()
    return boxes.double() + (groups.double() * (finite.max() - finite.min() + 1))[:, None]


def just_below(threshold: float, dtype: torch.dtype) -> float:
    """What a number of `dtype` must be above, to be above `threshold` when it is compared in float64.

    The greedy loop compares so, and there a float32 of 0.3 is above 0.3; comparing tensors takes it for equal.
    """
    if dtype == torch.float32 and (rounded := float(np.float32(threshold))) > threshold:
        return float(np.nextafter(np.float32(rounded), np.float32(-1)))
    return threshold


def _free(boxes: Tensor, kept: Tensor, iou_threshold: float) -> Tensor:
    """`(N,)` mask of the boxes that no kept box suppresses."""
    threshold = just_below(iou_threshold, boxes.dtype)
    free = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    at_once = max(
        1, BLOCK // 2 if boxes.device.type == "cpu" else len(kept)
    )  # 512 × 256 pairs stay in a processor's cache
    for some in kept.split(at_once):
        free &= ~(box_iou(some, boxes) > threshold).any(dim=0)
    return free


def _best_first(boxes: Tensor, scores: Tensor) -> Tensor:
    """Rows in the order of their scores, ties in the order of rows; rows that are not finite are left out."""
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(f"boxes must be (N, 4) and scores (N,); got {tuple(boxes.shape)} and {tuple(scores.shape)}")
    order = torch.argsort(scores, descending=True, stable=True)
    usable = torch.isfinite(boxes).all(dim=1) & ~torch.isnan(scores)
    return order[usable[order]]


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
