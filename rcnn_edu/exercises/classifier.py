"""Exercises of lesson 09: the mean over space, the loss of the true class only, and the final boxes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnn_edu.boxes import clip_boxes, decode_boxes
from rcnn_edu.classifier import ClassifierLoss, classifier_loss, detections, mean_over_space
from rcnn_edu.config import DetectionConfig
from rcnn_edu.exercises.base import Exercise, Mistake
from rcnn_edu.nms import batched_nms, nms
from rcnn_edu.proposal_target import ProposalTargets
from rcnn_edu.rpn_loss import smooth_l1


def _largest(described: Tensor) -> Tensor:
    return described.amax(dim=(2, 3))


def _over_channels(described: Tensor) -> Tensor:
    return described.mean(dim=1)


def _one_axis(described: Tensor) -> Tensor:
    return described.mean(dim=3)


def _flattened(described: Tensor) -> Tensor:
    return described.flatten(1)


_described = [torch.arange(24.0).reshape(2, 3, 2, 2) ** 2, torch.arange(18.0).reshape(1, 2, 3, 3) ** 2]

mean = Exercise(
    "mean_over_space",
    mean_over_space,
    [(_described[0],), (_described[1],)],
    [
        Mistake(_largest, "this is the maximum; the article's fc7 is the mean over the places"),
        Mistake(_over_channels, "this averages the channels away; average the two axes of space, which come last"),
        Mistake(_one_axis, "one axis of space is left; average over both, height and width"),
        Mistake(_flattened, "every place is kept, in one long vector; average over the places, one number a channel"),
    ],
)

_Loss = tuple[Tensor, Tensor]


def _loss(class_scores: Tensor, coefficients: Tensor, labels: Tensor, targets: Tensor) -> ClassifierLoss:
    unused = torch.zeros_like(labels)
    wanted = ProposalTargets(targets, labels, targets, unused.float(), unused)
    return classifier_loss(class_scores, coefficients, wanted)


def _regression(
    rows: Callable[[Tensor, Tensor], Tensor], total: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[Tensor, Tensor, Tensor, Tensor], _Loss]:
    """A loss whose boxes are those that `rows` says, and whose costs `(R, ·, 4)` are added up as `total` says."""

    def loss(class_scores: Tensor, coefficients: Tensor, labels: Tensor, targets: Tensor) -> _Loss:
        mask = rows(labels, torch.arange(class_scores.shape[1]))  # (R, C)
        cost = smooth_l1(coefficients.unflatten(1, (-1, 4)) - targets[:, None], sigma=1.0)
        return F.cross_entropy(class_scores, labels), total(torch.where(mask[:, :, None], cost, 0.0), labels)

    return loss


def _over_regions(cost: Tensor, labels: Tensor) -> Tensor:
    return cost.sum() / len(labels)


def _own(labels: Tensor, classes: Tensor) -> Tensor:
    return (labels[:, None] == classes) & (labels[:, None] > 0)


_random = torch.Generator().manual_seed(0)
_labels = torch.tensor([2, 1, 0, 0, 2])
_targets = torch.where(_labels[:, None] > 0, torch.randn(5, 4, generator=_random), 0.0)
_outputs = torch.randn(5, 3, generator=_random), torch.randn(5, 12, generator=_random)

loss = Exercise(
    "classifier_loss",
    _loss,
    [(*_outputs, _labels, _targets), (_outputs[0][2:], _outputs[1][2:], _labels[2:], _targets[2:])],
    [
        Mistake(
            _regression(lambda labels, classes: (labels[:, None] > 0).expand(-1, len(classes)), _over_regions),
            "all classes' coefficients pay here; only the four of the region's own class may",
        ),
        Mistake(
            _regression(lambda labels, classes: labels[:, None] == classes, _over_regions),
            "background regions pay for a box here; they have none, so where the label is 0 the cost is 0",
        ),
        Mistake(
            _regression(
                lambda labels, classes: (labels[:, None] - 1 == classes) & (labels[:, None] > 0), _over_regions
            ),
            "these are the columns of the class before: background has columns 0 to 3, class c has 4c to 4c + 3",
        ),
        Mistake(
            _regression(_own, lambda cost, labels: cost.sum() / (labels > 0).sum()),
            "divide by the number of regions, background included, not by that of the foreground",
        ),
        Mistake(
            _regression(_own, lambda cost, labels: cost.sum() / (4 * len(labels))),
            "the four coefficients of a region are summed, not averaged; only the regions are averaged over",
        ),
    ],
    part=tuple,
)

_Found = tuple[Tensor, Tensor]


def _detect(
    class_scores: Tensor, coefficients: Tensor, rois: Tensor, image_size: tuple[int, int], config: DetectionConfig
) -> _Found:
    found = detections(class_scores, coefficients, rois, image_size, config)
    return found.boxes, found.labels


def _not_scaled(
    class_scores: Tensor, coefficients: Tensor, rois: Tensor, image_size: tuple[int, int], config: DetectionConfig
) -> _Found:
    found = detections(class_scores, coefficients, rois, image_size, config, target_std=(1, 1, 1, 1))
    return found.boxes, found.labels


def _all_boxes(
    class_scores: Tensor, coefficients: Tensor, rois: Tensor, image_size: tuple[int, int], config: DetectionConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes `(R·C, 4)`, labels and scores of every region and class, background included."""
    std = torch.tensor([0.1, 0.1, 0.2, 0.2]).repeat(class_scores.shape[1])
    boxes = clip_boxes(decode_boxes(rois, coefficients * std), image_size).reshape(-1, 4)
    labels = torch.arange(class_scores.shape[1]).repeat(len(rois))
    return boxes, labels, class_scores.softmax(dim=1).flatten()


def _best_class_only(
    class_scores: Tensor, coefficients: Tensor, rois: Tensor, image_size: tuple[int, int], config: DetectionConfig
) -> _Found:
    boxes, labels, scores = _all_boxes(class_scores, coefficients, rois, image_size, config)
    best = (labels == class_scores.argmax(dim=1).repeat_interleave(class_scores.shape[1])) & (labels > 0)
    boxes, labels, scores = boxes[best], labels[best], scores[best]
    kept = batched_nms(boxes, scores, labels, config.nms_threshold, config.max_detections)
    return boxes[kept], labels[kept]


def _with_background(
    class_scores: Tensor, coefficients: Tensor, rois: Tensor, image_size: tuple[int, int], config: DetectionConfig
) -> _Found:
    boxes, labels, scores = _all_boxes(class_scores, coefficients, rois, image_size, config)
    sure = scores > config.score_threshold
    boxes, labels, scores = boxes[sure], labels[sure], scores[sure]
    kept = batched_nms(boxes, scores, labels, config.nms_threshold, config.max_detections)
    return boxes[kept], labels[kept]


def _nms_across_classes(
    class_scores: Tensor, coefficients: Tensor, rois: Tensor, image_size: tuple[int, int], config: DetectionConfig
) -> _Found:
    boxes, labels, scores = _all_boxes(class_scores, coefficients, rois, image_size, config)
    sure = (scores > config.score_threshold) & (labels > 0)
    boxes, labels, scores = boxes[sure], labels[sure], scores[sure]
    kept = nms(boxes, scores, config.nms_threshold, config.max_detections)
    return boxes[kept], labels[kept]


def _class_before(
    class_scores: Tensor, coefficients: Tensor, rois: Tensor, image_size: tuple[int, int], config: DetectionConfig
) -> _Found:
    return _detect(class_scores, coefficients.roll(4, dims=1), rois, image_size, config)


_rois = torch.tensor([[10, 10, 50, 50], [12, 10, 52, 50], [60, 20, 90, 80], [14, 10, 54, 50], [5, 60, 25, 95.0]])
_scores = torch.tensor([[0.0, 3.0, 2.5], [0.0, 2.0, 0.0], [1.0, -3.0, 2.0], [0.0, 1.0, 2.2], [0.0, 1.5, 1.4]])
_moves = torch.tensor(
    [
        *([0.5, 0, 0, 0, 1, 0, 0, 1, 0, 1, 1, 0], [0, 0.5, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        *(
            [0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 1],
            [0, 0, 0, 0, 0, 1, 0, 0, 0, -1, 0, 0],
            [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0.0],
        ),
    ]
)

final = Exercise(
    "detections",
    _detect,
    [
        (_scores, _moves, _rois, (100, 100), DetectionConfig()),
        (_scores, _moves, _rois, (70, 80), DetectionConfig(score_threshold=0.3, nms_threshold=0.95)),
        (_scores, _moves, _rois, (100, 100), DetectionConfig(max_detections=3)),
    ],
    [
        Mistake(_not_scaled, "the coefficients are normalised; multiply them by target_std before decoding"),
        Mistake(_best_class_only, "a region may count for several classes: each above the threshold has its own box"),
        Mistake(_with_background, "class 0 is background, which nobody wants to see: leave it out"),
        Mistake(_nms_across_classes, "suppress within each class: a box of another class may lie at the same place"),
        Mistake(_class_before, "these are the boxes of the class before: class c has the columns 4c to 4c + 3"),
    ],
    part=lambda result: tuple(result)[:2],
)

EXERCISES = (mean, loss, final)
