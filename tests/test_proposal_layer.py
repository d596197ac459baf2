"""Proposal layer: against a loop over anchors in Python's numbers."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import random_boxes
from torch import Tensor

from rcnn_edu.anchors import base_anchors, grid_anchors
from rcnn_edu.boxes import encode_boxes
from rcnn_edu.config import ProposalConfig
from rcnn_edu.proposal_layer import Proposals, propose

SIZE = (96, 128)


def decode_by_hand(anchor: list[float], coefficients: list[float]) -> list[float]:
    """One anchor moved and resized by its four coefficients."""
    x1, y1, x2, y2 = anchor
    tx, ty, tw, th = coefficients
    width, height = x2 - x1, y2 - y1
    x, y = x1 + width / 2 + tx * width, y1 + height / 2 + ty * height
    width *= math.exp(min(tw, math.log(1000 / 16)))
    height *= math.exp(min(th, math.log(1000 / 16)))
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def iou_by_hand(a: list[float], b: list[float]) -> float:
    """Intersection over union of two proper boxes."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def propose_by_loop(
    objectness: Tensor, coefficients: Tensor, anchors: Tensor, config: ProposalConfig
) -> tuple[list[list[float]], list[float], int]:
    """Boxes, scores and the number of rows that are not finite, one anchor at a time."""
    rows, bad = [], 0
    for row in range(len(anchors)):
        numbers = [float(objectness[row]), *coefficients[row].tolist()]
        if all(map(math.isfinite, numbers)):
            rows.append(row)
        else:
            bad += 1
    rows.sort(key=lambda row: -float(objectness[row]))
    candidates = []
    for row in rows[: config.pre_nms_top_n]:
        x1, y1, x2, y2 = decode_by_hand(anchors[row].tolist(), coefficients[row].tolist())
        x1, x2 = (min(max(x, 0), SIZE[1]) for x in (x1, x2))
        y1, y2 = (min(max(y, 0), SIZE[0]) for y in (y1, y2))
        if x2 > x1 and y2 > y1 and x2 - x1 >= config.min_size and y2 - y1 >= config.min_size:
            candidates.append(([x1, y1, x2, y2], float(objectness[row])))
    kept: list[tuple[list[float], float]] = []
    for box, score in candidates:
        if all(iou_by_hand(better, box) <= config.nms_threshold for better, _ in kept):
            kept.append((box, score))
    kept = kept[: config.post_nms_top_n]
    return [box for box, _ in kept], [score for _, score in kept], bad


def rpn_output(spread: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct scores, coefficients and anchors of a 96×128 image; many boxes leave it."""
    anchors = grid_anchors((6, 8), 16, base_anchors(16, (0.5, 1, 2), (1, 2, 4)))
    return torch.randperm(len(anchors)) / len(anchors), torch.randn(len(anchors), 4) * spread, anchors


def assert_same(found: Proposals, expected: tuple[list[list[float]], list[float], int]) -> None:
    """Boxes to a thousandth of a pixel, scores and count exactly."""
    boxes, scores, bad = expected
    assert found.scores.tolist() == scores
    torch.testing.assert_close(found.boxes, torch.tensor(boxes).reshape(-1, 4), atol=1e-3, rtol=0)
    assert int(found.non_finite) == bad


@pytest.mark.parametrize(
    "config",
    [
        ProposalConfig(),
        ProposalConfig(6000, 300),
        ProposalConfig(100, 50),
        ProposalConfig(100, 5),
        ProposalConfig(1, 300),
        ProposalConfig(432, 20),
        ProposalConfig(200, 100, nms_threshold=0.3),
        ProposalConfig(200, 100, nms_threshold=1.0),
        ProposalConfig(300, 100, min_size=16),
        ProposalConfig(300, 100, min_size=60),
    ],
)
def test_proposals_are_those_of_the_loop(config: ProposalConfig) -> None:
    objectness, coefficients, anchors = rpn_output()
    found = propose(objectness, coefficients, anchors, SIZE, config)
    assert len(found.boxes) > 0
    assert_same(found, propose_by_loop(objectness, coefficients, anchors, config))


def test_rows_that_are_not_finite_are_dropped_and_counted() -> None:
    objectness, coefficients, anchors = rpn_output()
    objectness[torch.randperm(432)[:20]] = torch.tensor([math.nan, math.inf, -math.inf, math.nan]).repeat(5)
    rows, columns = torch.randperm(432)[:30], torch.randint(0, 4, (30,))
    coefficients[rows, columns] = torch.tensor([math.nan, math.inf, -math.inf]).repeat(10)
    config = ProposalConfig(300, 50)
    expected = propose_by_loop(objectness, coefficients, anchors, config)
    assert 30 <= expected[2] <= 50
    found = propose(objectness, coefficients, anchors, SIZE, config)
    assert_same(found, expected)
    assert found.non_finite.shape == ()
    assert found.non_finite.dtype == torch.int64


def test_rows_that_are_not_finite_take_no_place_among_the_best() -> None:
    objectness, coefficients, anchors = rpn_output()
    objectness[:400] = math.nan
    found = propose(objectness, coefficients, anchors, SIZE, ProposalConfig(32, 32, nms_threshold=1.0))
    expected = propose_by_loop(objectness, coefficients, anchors, ProposalConfig(432, 32, nms_threshold=1.0))
    assert_same(found, expected)


def test_the_best_are_chosen_before_small_boxes_are_dropped() -> None:
    anchors = torch.tensor([[-40.0, 0, -10, 30], [0, 0, 30, 30]])
    scores = torch.tensor([0.9, 0.8])
    assert len(propose(scores, torch.zeros(2, 4), anchors, SIZE, ProposalConfig(1, 10)).boxes) == 0
    assert len(propose(scores, torch.zeros(2, 4), anchors, SIZE, ProposalConfig(2, 10)).boxes) == 1


@pytest.mark.parametrize(("min_size", "kept"), [(9.5, 1), (10, 1), (10.001, 0)])
def test_a_side_of_exactly_min_size_is_kept(min_size: float, kept: int) -> None:
    anchor = torch.tensor([[0.0, 0, 10, 40]])
    config = ProposalConfig(min_size=min_size)
    assert len(propose(torch.ones(1), torch.zeros(1, 4), anchor, SIZE, config).boxes) == kept


def test_boxes_outside_the_image_leave_nothing() -> None:
    anchors = random_boxes(20) + 500
    found = propose(torch.rand(20), torch.zeros(20, 4), anchors, SIZE)
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == (0,)
    assert int(found.non_finite) == 0


def test_when_nothing_is_finite_nothing_is_proposed_and_all_are_counted() -> None:
    found = propose(torch.full((7,), math.nan), torch.zeros(7, 4), random_boxes(7), SIZE)
    assert found.boxes.shape == (0, 4)
    assert int(found.non_finite) == 7


def test_no_anchors_give_no_proposals() -> None:
    found = propose(torch.zeros(0), torch.zeros(0, 4), torch.zeros(0, 4), SIZE)
    assert found.boxes.shape == (0, 4)
    assert int(found.non_finite) == 0


def test_coefficients_that_overflow_give_no_box_that_is_not_finite() -> None:
    coefficients = torch.tensor([[3e38, 0, 0, 0], [-3e38, 3e38, 0, 0], [0, 0, 3e38, -3e38], [0, 0, 3e38, 3e38]])
    found = propose(torch.rand(4), coefficients, random_boxes(4, SIZE), SIZE)
    assert torch.isfinite(found.boxes).all()
    assert len(found.boxes) == 1  # the last one fills the image; the others left it or have no height


def test_perfect_coefficients_propose_the_objects_themselves() -> None:
    anchors = random_boxes(3, SIZE, smallest=20)
    objects = torch.tensor([[0.0, 0, 30, 40], [50, 50, 90, 96], [100, 0, 128, 20]])
    found = propose(torch.tensor([0.2, 0.9, 0.5]), encode_boxes(anchors, objects), anchors, SIZE)
    torch.testing.assert_close(found.boxes, objects[[1, 2, 0]], atol=1e-3, rtol=0)


def test_coordinates_have_a_gradient_and_scores_have_none() -> None:
    objectness, coefficients, anchors = rpn_output(spread=0.05)
    objectness.requires_grad_()
    coefficients.requires_grad_()
    found = propose(objectness, coefficients, anchors, SIZE, ProposalConfig(50, 10))
    assert not found.scores.requires_grad
    (gradient,) = torch.autograd.grad(found.boxes.sum(), coefficients)
    assert 0 < (gradient != 0).any(dim=1).sum() <= 10  # rows that were not proposed pay nothing


def test_bfloat16_goes_in_and_float32_comes_out() -> None:
    objectness, coefficients, anchors = rpn_output()
    found = propose(objectness.bfloat16(), coefficients.bfloat16(), anchors, SIZE)
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert len(found.boxes) > 0
