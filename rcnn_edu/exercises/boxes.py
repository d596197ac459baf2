"""Exercises of lesson 03: IoU, encode, decode."""

from __future__ import annotations

import torch
from torch import Tensor

from rcnn_edu.boxes import box_area, box_iou, decode_boxes, encode_boxes
from rcnn_edu.exercises.base import Exercise, Mistake

_ONE = torch.tensor([0.0, 0.0, 1.0, 1.0])


def _sides_of_overlap(a: Tensor, b: Tensor) -> Tensor:
    """`(N, M, 2)`, negative where two boxes lie apart."""
    return torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2])


def _no_clamp(a: Tensor, b: Tensor) -> Tensor:
    shared = _sides_of_overlap(a, b).prod(dim=2)
    return shared / (box_area(a)[:, None] + box_area(b)[None] - shared)


def _sum_of_areas(a: Tensor, b: Tensor) -> Tensor:
    shared = _sides_of_overlap(a, b).clamp(min=0).prod(dim=2)
    return shared / (box_area(a)[:, None] + box_area(b)[None])


def _share_of_first(a: Tensor, b: Tensor) -> Tensor:
    return _sides_of_overlap(a, b).clamp(min=0).prod(dim=2) / box_area(a)[:, None]


def _iou_plus_one(a: Tensor, b: Tensor) -> Tensor:
    return box_iou(a + _ONE, b + _ONE)


def _paired(a: Tensor, b: Tensor) -> Tensor:
    return box_iou(a, b).diagonal()


_a = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 30], [0, 0, 4, 8]])
_b = torch.tensor([[5.0, 0, 15, 10], [50, 50, 60, 70], [20, 20, 40, 30], [0, 0, 10, 10]])

iou = Exercise(
    "box_iou",
    box_iou,
    [(_a, _b), (_b, _b[:2])],
    [
        Mistake(
            _no_clamp,
            "two boxes that lie apart in both directions have two negative sides, whose product is positive: "
            "clamp the sides of the intersection at 0",
        ),
        Mistake(_sum_of_areas, "what both cover is counted twice: union = area of a + area of b − intersection"),
        Mistake(_share_of_first, "divide by the union, not by the area of a: IoU is the same seen from either box"),
        Mistake(_iou_plus_one, 'no "+1": the width of a half-open box is x2 − x1'),
        Mistake(_paired, "every pair is asked for: (N, M), not the first with the first, the second with the second"),
    ],
)


def _from_corners(references: Tensor, targets: Tensor) -> Tensor:
    shift = (targets[:, :2] - references[:, :2]) / (references[:, 2:] - references[:, :2])
    return torch.cat([shift, encode_boxes(references, targets)[:, 2:]], dim=1)


def _swapped(references: Tensor, targets: Tensor) -> Tensor:
    return encode_boxes(targets, references)


def _by_target_size(references: Tensor, targets: Tensor) -> Tensor:
    return torch.cat([-encode_boxes(targets, references)[:, :2], encode_boxes(references, targets)[:, 2:]], dim=1)


def _no_log(references: Tensor, targets: Tensor) -> Tensor:
    coefficients = encode_boxes(references, targets)
    return torch.cat([coefficients[:, :2], coefficients[:, 2:].exp()], dim=1)


def _encode_plus_one(references: Tensor, targets: Tensor) -> Tensor:
    return encode_boxes(references + _ONE, targets + _ONE)


_references = torch.tensor([[0.0, 0, 10, 20], [30, 10, 50, 30]])
_targets = torch.tensor([[5.0, 10, 25, 30], [30, 20, 40, 60]])

encode = Exercise(
    "encode_boxes",
    encode_boxes,
    [(_references, _targets)],
    [
        Mistake(
            _from_corners,
            "tx and ty are the article's, shifts of the top-left corner; its code, and ours, shifts centres",
        ),
        Mistake(_swapped, "these coefficients turn the targets into the references: swap the two"),
        Mistake(
            _by_target_size, "divide the shift by the reference's width and height: the target's are not known yet"
        ),
        Mistake(
            _no_log, "tw and th are logarithms of the ratio, so that twice and half as wide are ±0.69, not 2 and 0.5"
        ),
        Mistake(_encode_plus_one, 'no "+1": the width of a half-open box is x2 − x1'),
    ],
)


def _no_limit(references: Tensor, coefficients: Tensor) -> Tensor:
    size = references[:, 2:] - references[:, :2]
    center = references[:, :2] + size / 2 + coefficients[:, :2] * size
    half = coefficients[:, 2:].exp() * size / 2
    return torch.cat([center - half, center + half], dim=1)


def _whole_size(references: Tensor, coefficients: Tensor) -> Tensor:
    boxes = decode_boxes(references, coefficients)
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes + torch.cat([-size, size], dim=1) / 2


def _no_exp(references: Tensor, coefficients: Tensor) -> Tensor:
    size = references[:, 2:] - references[:, :2]
    center = references[:, :2] + size / 2 + coefficients[:, :2] * size
    half = (1 + coefficients[:, 2:]) * size / 2
    return torch.cat([center - half, center + half], dim=1)


def _shift_in_pixels(references: Tensor, coefficients: Tensor) -> Tensor:
    size = references[:, 2:] - references[:, :2]
    return decode_boxes(references, torch.cat([coefficients[:, :2] / size, coefficients[:, 2:]], dim=1))


def _center_and_size(references: Tensor, coefficients: Tensor) -> Tensor:
    boxes = decode_boxes(references, coefficients)
    return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1)


_coefficients = torch.tensor([[0.5, 0.25, 6.0, 0.0], [-0.25, 1.0, -0.6931, 6.0]])

decode = Exercise(
    "decode_boxes",
    decode_boxes,
    [(_references, _coefficients)],
    [
        Mistake(_no_limit, "clamp tw and th at log(1000/16) before the exponential: 6 would grow a box 403 times"),
        Mistake(_whole_size, "the box is twice too large: from the centre to a side is half the width"),
        Mistake(_no_exp, "the new width is exp(tw) times the old one, not 1 + tw times"),
        Mistake(_shift_in_pixels, "tx and ty are shares of the reference's width and height, not pixels: multiply"),
        Mistake(_center_and_size, "this is centre and size: return the corners x1, y1, x2, y2"),
    ],
)

EXERCISES = (iou, encode, decode)
