"""Exercises of lesson 10: greedy suppression, suppression within each class, and the final choice of boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from rcnn_edu.boxes import box_iou
from rcnn_edu.config import DetectionConfig
from rcnn_edu.exercises.base import Exercise, Mistake
from rcnn_edu.nms import batched_nms, nms


def _greedy(boxes: Tensor, order: Tensor, iou_threshold: float) -> Tensor:
    kept: list[int] = []
    for row in order.tolist():
        if not kept or not (box_iou(boxes[row : row + 1], boxes[kept]) > iou_threshold).any():
            kept.append(row)
    return torch.tensor(kept, dtype=torch.int64)


def _rows_in_order(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return _greedy(boxes, torch.arange(len(boxes)), iou_threshold)


def _worst_first(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return _greedy(boxes, scores.argsort(stable=True), iou_threshold)


def _at_the_threshold_too(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return nms(boxes, scores, iou_threshold - 1e-4)


def _the_dead_suppress(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    order = scores.argsort(descending=True, stable=True)
    overlap = (box_iou(boxes[order], boxes[order]) > iou_threshold).triu(diagonal=1)
    return order[~overlap.any(dim=0)]


def _by_row(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return nms(boxes, scores, iou_threshold).sort().values


# A chain: 0 and 1 overlap, 1 and 2 overlap, 0 and 2 do not. Rows 3 and 4 have an IoU of exactly 1/2.
_chain = torch.tensor(
    [[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10], [40, 0, 50, 10], [40, 0, 50, 5], [70, 0, 80, 9.0]]
)

suppress = Exercise(
    "nms",
    nms,
    [
        (_chain, torch.tensor([0.9, 0.8, 0.7, 0.5, 0.6, 0.95]), 0.4),
        (_chain, torch.tensor([0.3, 0.8, 0.7, 0.5, 0.6, 0.2]), 0.5),
    ],
    [
        Mistake(_rows_in_order, "take the boxes in the order of their scores, best first, not in the order of rows"),
        Mistake(_worst_first, "begin with the best score; argsort gives the worst first unless descending=True"),
        Mistake(_at_the_threshold_too, "an IoU of exactly the threshold does not suppress: more than it does"),
        Mistake(_the_dead_suppress, "only a box that is kept suppresses others; one that was suppressed is out"),
        Mistake(_by_row, "return the kept rows best score first"),
    ],
)


def _across_classes(boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float) -> Tensor:
    return nms(boxes, scores, iou_threshold)


def _class_by_class(boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float) -> Tensor:
    kept = batched_nms(boxes, scores, classes, iou_threshold)
    return kept[classes[kept].argsort(stable=True)]


def _rows_of_the_class(boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float) -> Tensor:
    kept = [
        nms(boxes[classes == label], scores[classes == label], iou_threshold) for label in classes.unique().tolist()
    ]
    rows = torch.cat(kept)
    return rows[scores[rows].argsort(descending=True, stable=True)]


within = Exercise(
    "batched_nms",
    batched_nms,
    [
        (_chain, torch.tensor([0.9, 0.8, 0.7, 0.5, 0.6, 0.95]), torch.tensor([2, 1, 1, 1, 2, 2]), 0.3),
        (_chain, torch.tensor([0.2, 0.9, 0.3, 0.4, 0.8, 0.1]), torch.tensor([1, 1, 2, 2, 2, 1]), 0.45),
    ],
    [
        Mistake(_across_classes, "boxes of different classes do not suppress each other; this one looks at no class"),
        Mistake(_class_by_class, "right boxes, wrong order: best score first over all classes, not class after class"),
        Mistake(_rows_of_the_class, "nms on the boxes of one class counts rows within them; map back to all boxes"),
    ],
)


def _final(boxes: Tensor, scores: Tensor, classes: Tensor, config: DetectionConfig) -> Tensor:
    sure = torch.nonzero(scores > config.score_threshold)[:, 0]
    return sure[
        batched_nms(boxes[sure], scores[sure], classes[sure], config.nms_threshold, max_kept=config.max_detections)
    ]


def _no_score_threshold(boxes: Tensor, scores: Tensor, classes: Tensor, config: DetectionConfig) -> Tensor:
    return batched_nms(boxes, scores, classes, config.nms_threshold, max_kept=config.max_detections)


def _rows_of_the_sure(boxes: Tensor, scores: Tensor, classes: Tensor, config: DetectionConfig) -> Tensor:
    sure = scores > config.score_threshold
    return batched_nms(boxes[sure], scores[sure], classes[sure], config.nms_threshold, max_kept=config.max_detections)


def _best_before_suppression(boxes: Tensor, scores: Tensor, classes: Tensor, config: DetectionConfig) -> Tensor:
    best = scores.argsort(descending=True, stable=True)[: config.max_detections]
    best = best[scores[best] > config.score_threshold]
    return best[batched_nms(boxes[best], scores[best], classes[best], config.nms_threshold)]


def _best_of_each_class(boxes: Tensor, scores: Tensor, classes: Tensor, config: DetectionConfig) -> Tensor:
    everything = DetectionConfig(config.score_threshold, config.nms_threshold, max_detections=len(boxes))
    kept = _final(boxes, scores, classes, everything)
    rank = torch.tensor([int((classes[kept[:place]] == classes[row]).sum()) for place, row in enumerate(kept)])
    return kept[rank < config.max_detections]


final = Exercise(
    "final_boxes",
    _final,
    [
        (
            _chain,
            torch.tensor([0.3, 0.9, 0.8, 0.7, 0.6, 0.2]),
            torch.tensor([1, 1, 1, 2, 2, 2]),
            DetectionConfig(score_threshold=0.25, nms_threshold=0.3, max_detections=2),
        ),
        (
            _chain,
            torch.tensor([0.04, 0.9, 0.8, 0.5, 0.6, 0.55]),
            torch.tensor([1, 1, 1, 2, 2, 1]),
            DetectionConfig(score_threshold=0.05, nms_threshold=0.45, max_detections=2),
        ),
        (
            _chain,
            torch.tensor([0.1, 0.9, 0.25, 0.2, 0.8, 0.7]),
            torch.tensor([1, 2, 1, 2, 2, 2]),
            DetectionConfig(score_threshold=0.25, nms_threshold=0.3, max_detections=6),
        ),
    ],
    [
        Mistake(_no_score_threshold, "boxes whose score is not above score_threshold are left out first"),
        Mistake(_rows_of_the_sure, "rows are counted among the boxes above the threshold; map them back to all boxes"),
        Mistake(_best_before_suppression, "max_detections cuts what suppression has left, not what goes into it"),
        Mistake(_best_of_each_class, "max_detections counts over all classes of an image, not within each"),
    ],
)

EXERCISES = (suppress, within, final)
