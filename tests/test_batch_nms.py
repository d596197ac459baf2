"""Suppression for a whole batch: each image keeps what it would keep alone. The GPU's form, run on a CPU."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from conftest import jittered, random_boxes
from hypothesis import given
from hypothesis import strategies as st
from test_nms import SCORED, THRESHOLD, IntBox, greedy
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is beside the package, not in it

from benchmarks.operations import Operations
from rcnn_edu import batch_nms
from rcnn_edu import nms as nms_module
from rcnn_edu.batch_nms import batched_nms_of_each, batched_nms_together, nms_of_each, nms_together
from rcnn_edu.nms import batched_nms, nms

Rows = list[tuple[IntBox, float]]


def crowds(images: int, boxes: int = 120) -> tuple[Tensor, Tensor]:
    """`(images, boxes, 4)` in clusters, at another place in each image, with scores, ties among them."""
    some = [jittered(random_boxes(boxes // 10, smallest=30), 10, pixels=9) for _ in range(images)]
    return torch.stack(some), (torch.rand(images, boxes) * 60).round() / 60


def in_float64(boxes: Tensor, scores: Tensor, threshold: float, max_kept: int) -> list[list[int]]:
    """What `nms` keeps of each image by itself, compared in float64 as the batch is."""
    return [nms(some.double(), score, threshold, max_kept).tolist() for some, score in zip(boxes, scores, strict=True)]


def as_lists(kept: list[Tensor]) -> list[list[int]]:
    assert all(one.dtype == torch.int64 for one in kept)
    return [one.tolist() for one in kept]


@given(st.lists(SCORED, min_size=1, max_size=4), THRESHOLD, st.integers(1, 4), st.integers(1, 3), st.integers(1, 12))
def test_each_image_keeps_what_the_greedy_loop_keeps(
    images: list[Rows], threshold: float, max_kept: int, kept_at_once: int, boxes_at_once: int
) -> None:
    most = max(map(len, images))
    # What is missing in shorter images cannot be kept: a score of NaN.
    boxes = torch.tensor([[box for box, _ in rows] + [(0, 0, 9, 9)] * (most - len(rows)) for rows in images])
    scores = torch.tensor([[score for _, score in rows] + [math.nan] * (most - len(rows)) for rows in images])
    with mock.patch.multiple(batch_nms, KEPT_AT_ONCE=kept_at_once, BOXES_AT_ONCE=boxes_at_once):
        kept = nms_together(
            boxes.view(len(images), most, 4).float(), scores.view(len(images), most), threshold, max_kept
        )
    expected = [greedy([box for box, _ in rows], [score for _, score in rows], threshold) for rows in images]
    assert as_lists(kept) == [rows[:max_kept] for rows in expected]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("max_kept", [1, 7, 25, 1000])
@pytest.mark.parametrize("images", [1, 3])
def test_each_image_keeps_what_it_keeps_alone(threshold: float, max_kept: int, images: int) -> None:
    boxes, scores = crowds(images)
    scores[:, ::7] = torch.nan
    boxes[0, 5], boxes[-1, 6, 2], boxes[0, 8, 0] = torch.nan, torch.inf, -torch.inf
    scores[0, 9], scores[-1, 10] = torch.inf, -torch.inf
    kept = as_lists(nms_together(boxes, scores, threshold, max_kept))
    assert kept == in_float64(boxes, scores, threshold, max_kept)
    assert kept == as_lists(nms_of_each(boxes, scores, threshold, max_kept))  # no tie with the threshold here
    assert len({tuple(rows) for rows in kept}) == images


def test_an_image_whose_survivors_come_late_gets_them_and_the_others_theirs() -> None:
    best = torch.tensor([0.0, 0, 10, 10])
    row = torch.arange(60)[:, None] * 20 + best
    late = torch.cat([best.expand(57, 4), row[1:4]])  # rounds and rounds of duplicates
    none = torch.zeros(60, 4) + torch.nan
    kept = nms_together(torch.stack([row, late, none]), torch.linspace(1, 0, 60).expand(3, -1), 0.5, 4)
    assert as_lists(kept) == [[0, 1, 2, 3], [0, 57, 58, 59], []]


def test_boxes_far_out_stay_apart() -> None:
    boxes, scores = crowds(3)
    boxes += torch.tensor([-5e5, 0.0, 3e5])[:, None, None].round()
    assert as_lists(nms_together(boxes, scores, 0.5, 20)) == in_float64(boxes, scores, 0.5, 20)


def test_more_images_are_no_more_operations() -> None:
    boxes, scores = crowds(1)
    classes, counts = torch.randint(1, 4, (boxes.shape[1],)), []
    for images in (2, 8):
        image = torch.arange(images).repeat_interleave(boxes.shape[1])
        # A processor's small blocks are not what is counted here: a GPU takes all boxes in one.
        with mock.patch.object(nms_module, "BLOCK", 10_000), Operations() as operations:
            nms_together(boxes.expand(images, -1, -1), scores.expand(images, -1), 0.5, 20)
            batched_nms_together(
                boxes.expand(images, -1, -1).flatten(0, 1), scores.repeat(1, images)[0], classes.repeat(images), image,
                images, 0.5, 20,
            )  # fmt: skip
        counts.append(operations.by_name.total())
    assert counts[0] == counts[1] > 20


@pytest.mark.parametrize(("images", "boxes"), [(0, 5), (3, 0)])
def test_nothing_keeps_nothing(images: int, boxes: int) -> None:
    for form in (nms_together, nms_of_each):
        assert as_lists(form(torch.zeros(images, boxes, 4), torch.zeros(images, boxes), 0.5, 3)) == [[]] * images


# --- by class ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boxes_at_once", [32_768, 130, 1])
@pytest.mark.parametrize("max_kept", [1, 9, 1000])
def test_each_image_keeps_what_it_keeps_alone_class_by_class(max_kept: int, boxes_at_once: int) -> None:
    images = 5
    boxes, scores, classes = random_boxes(300, smallest=60), (torch.rand(300) * 90).round(), torch.randint(1, 4, (300,))
    image = torch.randint(0, images, (300,))
    image[image == 2] = 3  # the third has none
    scores[::11] = torch.nan
    with mock.patch.object(batch_nms, "BOXES_AT_ONCE", boxes_at_once):
        kept = as_lists(batched_nms_together(boxes, scores, classes, image, images, 0.3, max_kept))
    for number, found in enumerate(kept):
        rows = (image == number).nonzero()[:, 0]
        alone = rows[batched_nms(boxes[rows].double(), scores[rows], classes[rows], 0.3, max_kept)]
        assert found == alone.tolist()
        assert (len(found) == 0) == (number == 2)
    assert kept == as_lists(batched_nms_of_each(boxes, scores, classes, image, images, 0.3, max_kept))


def test_no_boxes_of_any_image_keep_none() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    for form in (batched_nms_together, batched_nms_of_each):
        assert as_lists(form(torch.zeros(0, 4), torch.zeros(0), none, none, 2, 0.5, 3)) == [[], []]
