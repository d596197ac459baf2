"""Exercises of lesson 04: maps to rows, clipping at the border, and the whole layer."""

from __future__ import annotations

import torch
from torch import Tensor

from rcnn_edu.boxes import clip_boxes, decode_boxes
from rcnn_edu.config import ProposalConfig
from rcnn_edu.exercises.base import Exercise, Mistake
from rcnn_edu.nms import nms
from rcnn_edu.proposal_layer import propose
from rcnn_edu.rpn import RPNOutput


def _of_image(class_scores: Tensor, feature_size: tuple[int, int]) -> Tensor:
    output = RPNOutput(class_scores[None], class_scores.repeat(2, 1, 1)[None])
    return output.of_image(0, feature_size)[0]


def _only_reshaped(class_scores: Tensor, feature_size: tuple[int, int]) -> Tensor:
    return class_scores.reshape(-1, 2)


def _columns_first(class_scores: Tensor, feature_size: tuple[int, int]) -> Tensor:
    return class_scores.permute(2, 1, 0).reshape(-1, 2)


def _backgrounds_first(class_scores: Tensor, feature_size: tuple[int, int]) -> Tensor:
    return class_scores.unflatten(0, (2, -1)).permute(2, 3, 1, 0).reshape(-1, 2)


def _anchors_first(class_scores: Tensor, feature_size: tuple[int, int]) -> Tensor:
    return class_scores.unflatten(0, (-1, 2)).permute(0, 2, 3, 1).reshape(-1, 2)


# Two anchors a cell, on 2 × 3 and on 1 × 2 cells; each score says where it comes from.
_maps = [torch.arange(float(4 * h * w)).reshape(4, h, w) for h, w in ((2, 3), (1, 2))]

rows = Exercise(
    "of_image",
    _of_image,
    [(_maps[0], (2, 3)), (_maps[1], (1, 2))],
    [
        Mistake(_only_reshaped, "reshape alone mixes neighbours of one channel; bring the channels to the end first"),
        Mistake(_columns_first, "grid_anchors goes along a row of the grid first: permute to (h, w, channels)"),
        Mistake(
            _backgrounds_first,
            "here the two scores of an anchor lie side by side; all backgrounds and then all foregrounds is the order "
            "of the article's code",
        ),
        Mistake(_anchors_first, "the anchors of one cell follow each other: the cell counts before the anchor"),
    ],
)


def _swapped(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    return clip_boxes(boxes, (image_size[1], image_size[0]))


def _last_pixel(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    return clip_boxes(boxes, (image_size[0] - 1, image_size[1] - 1))


def _only_below_zero(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    return boxes.clamp(min=0)


def _dropped(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    height, width = image_size
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return boxes[(x1 >= 0) & (y1 >= 0) & (x2 <= width) & (y2 <= height)]


_leaving = torch.tensor(
    [[-8, 5, 30, 40], [20, 30, 70, 130], [90, -20, 130, 20], [10, 10, 20, 20], [70, 90, 120, 120.0]]
)

clipped = Exercise(
    "clip_boxes",
    clip_boxes,
    [(_leaving, (100, 80)), (_leaving, (60, 120))],
    [
        Mistake(_swapped, "image_size is (height, width): clamp x to the width and y to the height"),
        Mistake(_last_pixel, "boxes are half-open: the right border is at the width itself, not at width - 1"),
        Mistake(_only_below_zero, "this clamps at 0 only; the right and the lower border count as well"),
        Mistake(
            _dropped, "only lesson 05 leaves out the anchors that leave the image; here boxes are cut, none is dropped"
        ),
    ],
)

_Result = tuple[Tensor, Tensor]


def _layer(
    objectness: Tensor, coefficients: Tensor, anchors: Tensor, image_size: tuple[int, int], config: ProposalConfig
) -> _Result:
    found = propose(objectness, coefficients, anchors, image_size, config)
    return found.boxes, found.scores


def _not_clipped(
    objectness: Tensor, coefficients: Tensor, anchors: Tensor, image_size: tuple[int, int], config: ProposalConfig
) -> _Result:
    return _layer(objectness, coefficients, anchors, (10**6, 10**6), config)


def _suppressed_as_anchors(
    objectness: Tensor, coefficients: Tensor, anchors: Tensor, image_size: tuple[int, int], config: ProposalConfig
) -> _Result:
    scores, best = objectness.topk(min(config.pre_nms_top_n, len(objectness)))
    kept = nms(anchors[best], scores, config.nms_threshold)[: config.post_nms_top_n]
    return clip_boxes(decode_boxes(anchors[best], coefficients[best]), image_size)[kept], scores[kept]


def _cut_before_nms(
    objectness: Tensor, coefficients: Tensor, anchors: Tensor, image_size: tuple[int, int], config: ProposalConfig
) -> _Result:
    few = ProposalConfig(config.post_nms_top_n, config.post_nms_top_n, config.nms_threshold)
    return _layer(objectness, coefficients, anchors, image_size, few)


def _filtered_by_score(
    objectness: Tensor, coefficients: Tensor, anchors: Tensor, image_size: tuple[int, int], config: ProposalConfig
) -> _Result:
    likely = objectness >= 0.5
    return _layer(objectness[likely], coefficients[likely], anchors[likely], image_size, config)


def _not_decoded(
    objectness: Tensor, coefficients: Tensor, anchors: Tensor, image_size: tuple[int, int], config: ProposalConfig
) -> _Result:
    return _layer(objectness, torch.zeros_like(coefficients), anchors, image_size, config)


def _empty_stay(
    objectness: Tensor, coefficients: Tensor, anchors: Tensor, image_size: tuple[int, int], config: ProposalConfig
) -> _Result:
    scores, best = objectness.topk(min(config.pre_nms_top_n, len(objectness)))
    boxes = clip_boxes(decode_boxes(anchors[best], coefficients[best]), image_size)
    kept = nms(boxes, scores, config.nms_threshold)[: config.post_nms_top_n]
    return boxes[kept], scores[kept]


_anchors = torch.tensor(
    [
        *([0, 0, 40, 40], [2, 0, 42, 40], [50, 50, 90, 90], [54, 50, 94, 90]),
        *([-20, 60, 20, 100], [110, 10, 150, 50], [30, 60, 50, 80], [60, 0, 100, 40.0]),
    ]
)
_objectness = torch.tensor([0.9, 0.95, 0.8, 0.7, 0.6, 0.85, 0.3, 0.2])
_coefficients = torch.zeros(8, 4)
_coefficients[:4] = torch.tensor([[0, 0, 0.2, 0], [0, 0, 0, 0], [0.1, 0, 0, 0.1], [0.75, 0, 0, 0.0]])

whole = Exercise(
    "propose",
    propose,
    [
        (_objectness, _coefficients, _anchors, (100, 100), ProposalConfig(7, 3, 0.7)),
        (_objectness, _coefficients, _anchors, (100, 120), ProposalConfig(8, 6, 0.7)),
        (_objectness, _coefficients, _anchors, (100, 120), ProposalConfig(6, 6, 0.5)),
        (_objectness, _coefficients, _anchors, (50, 120), ProposalConfig(8, 8, 0.95)),
    ],
    [
        Mistake(_not_decoded, "these are anchors; decode_boxes moves each by its four coefficients first"),
        Mistake(_not_clipped, "some boxes leave the image; clip them before NMS, which compares what is left of them"),
        Mistake(_suppressed_as_anchors, "NMS has compared the anchors; decode and clip first, then suppress"),
        Mistake(_cut_before_nms, "the best post_nms_top_n are taken after NMS; before it, take pre_nms_top_n"),
        Mistake(
            _filtered_by_score, "no score is too low: an object may have no better one; the two top_n are the limit"
        ),
        Mistake(_empty_stay, "a box that clipping leaves without width or height is no proposal; drop it before NMS"),
    ],
    part=lambda result: result[0] if isinstance(result, tuple) else result,
)

EXERCISES = (rows, clipped, whole)
