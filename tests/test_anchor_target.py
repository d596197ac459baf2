"""Anchor target layer: labels against a triple loop, the article's rules one by one, and the sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import generator, jittered, random_boxes
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rcnn_edu.anchor_target import AnchorTargets, anchor_targets, inside_image, label_anchors
from rcnn_edu.anchors import base_anchors, grid_anchors
from rcnn_edu.boxes import decode_boxes
from rcnn_edu.config import AnchorTargetConfig

Box = tuple[int, int, int, int]
SIZE = (20, 30)  # height, width

# Few whole-number coordinates: ties, touching boxes and thresholds met exactly are common.
POINT = st.tuples(st.integers(-1, 8), st.integers(-1, 8)).map(lambda p: (4 * p[0], 3 * p[1]))
BOX: st.SearchStrategy[Box] = st.tuples(POINT, st.integers(1, 4), st.integers(1, 4)).map(
    lambda b: (b[0][0], b[0][1], b[0][0] + 4 * b[1], b[0][1] + 3 * b[2])
)


def iou_by_hand(a: Box, b: Box) -> np.float32:
    """Intersection over union of proper boxes; whole numbers, so that only the division rounds."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return np.float32(width * height) / np.float32(union)


def labels_by_loop(anchors: list[Box], objects: list[Box], config: AnchorTargetConfig) -> list[int]:
    """The article's rules, anchor by anchor and object by object."""
    height, width = SIZE
    border = 1000 if config.allowed_border is None else config.allowed_border
    inside = [
        x1 >= -border and y1 >= -border and x2 <= width + border and y2 <= height + border for x1, y1, x2, y2 in anchors
    ]
    labels = []
    for row, anchor in enumerate(anchors):
        if not inside[row] or not objects:
            labels.append(0 if inside[row] else -1)
            continue
        best = max(iou_by_hand(anchor, gt) for gt in objects)
        foreground = best >= np.float32(config.positive_overlap)
        for gt in objects:
            mine = iou_by_hand(anchor, gt)
            rivals = [iou_by_hand(other, gt) for k, other in enumerate(anchors) if inside[k]]
            foreground = foreground or (mine > 0 and mine == max(rivals))
        background = best < np.float32(config.negative_overlap)
        labels.append(1 if foreground else 0 if background else -1)
    return labels


def tensor(boxes: list[Box]) -> Tensor:
    """Boxes as a `(N, 4)` float32 tensor."""
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def labels_of(anchors: list[Box], objects: list[Box], config: AnchorTargetConfig = AnchorTargetConfig()) -> list[int]:
    """Labels before sampling."""
    return label_anchors(tensor(anchors), tensor(objects), SIZE, config)[0].tolist()


def scene() -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Anchors on a grid, and objects of which each has many foreground anchors."""
    size = (128, 160)
    anchors = grid_anchors((16, 20), 8, base_anchors(8, (0.5, 1, 2), (2, 4, 6)))
    objects = torch.tensor([[10.0, 10, 50, 40], [60, 20, 90, 100], [100, 70, 150, 110], [20, 60, 44, 84]])
    return torch.cat([anchors, jittered(objects, 60, 1)]), objects, size


# --- labels ------------------------------------------------------------------------------------------------------


@given(
    st.lists(BOX, min_size=1, max_size=10),
    st.lists(BOX, max_size=4),
    st.sampled_from([(0.7, 0.3), (0.5, 0.5), (0.5, 0.25), (1.0, 0.0), (0.0, 0.0)]),
    st.sampled_from([0, 2, 3, 4, None]),
)
def test_labels_are_those_of_the_loop(
    anchors: list[Box], objects: list[Box], overlaps: tuple[float, float], border: int | None
) -> None:
    config = AnchorTargetConfig(positive_overlap=overlaps[0], negative_overlap=overlaps[1], allowed_border=border)
    labels, max_iou, matched_gt = label_anchors(tensor(anchors), tensor(objects), SIZE, config)
    assert labels.dtype == matched_gt.dtype == torch.int64
    assert labels.tolist() == labels_by_loop(anchors, objects, config)
    for row, anchor in enumerate(anchors):
        overlap = [float(iou_by_hand(anchor, gt)) for gt in objects]
        assert max_iou[row].item() == max(overlap, default=0.0)
        if objects:
            assert overlap[matched_gt[row]] == max(overlap)
        else:
            assert matched_gt[row] == -1


def test_all_anchors_that_tie_for_best_are_foreground() -> None:
    # Both overlap the object by 20/180 and nothing does better; the third misses it.
    assert labels_of([(0, 0, 10, 10), (16, 0, 26, 10), (0, 10, 10, 20)], [(8, 0, 18, 10)]) == [1, 1, 0]


def test_an_object_that_no_anchor_touches_has_no_best_anchor() -> None:
    assert labels_of([(0, 0, 10, 10), (12, 0, 20, 10)], [(22, 12, 30, 20)]) == [0, 0]
    assert labels_of([(0, 0, 10, 10), (12, 0, 20, 10)], [(22, 12, 30, 20), (0, 0, 10, 10)]) == [1, 0]


def test_the_best_anchor_is_foreground_though_its_overlap_is_that_of_background() -> None:
    # IoU 4/(100 + 36 − 4) = 0.03 is below 0.3, but nobody has more.
    assert labels_of([(0, 0, 10, 10), (20, 10, 30, 20)], [(8, 8, 14, 14)]) == [1, 0]


def test_anchors_that_leave_the_image_are_ignored_and_do_not_compete() -> None:
    outside, inside = (-1, 0, 10, 10), (0, 0, 8, 10)
    # The one outside overlaps the object by 100/110, the one inside by 80/100; the latter is its best.
    assert labels_of([outside, inside, (20, 0, 30, 10)], [(0, 0, 10, 10)]) == [-1, 1, 0]
    config = AnchorTargetConfig(positive_overlap=0.95)
    assert labels_of([outside, inside], [(0, 0, 10, 10)], config) == [-1, 1]


@pytest.mark.parametrize(
    ("anchor", "label"),
    [
        ((0, 0, 30, 20), 0),  # the whole image
        ((20, 10, 30, 20), 0),
        ((-1, 0, 5, 5), -1),
        ((0, -1, 5, 5), -1),
        ((25, 0, 31, 5), -1),
        ((0, 15, 5, 21), -1),
    ],
)
def test_an_anchor_on_the_border_is_inside(anchor: Box, label: int) -> None:
    assert labels_of([anchor], []) == [label]
    assert inside_image(tensor([anchor]), SIZE).tolist() == [label == 0]


def test_anchors_may_leave_the_image_as_far_as_is_allowed() -> None:
    anchors: list[Box] = [(-3, 0, 7, 10), (20, 10, 30, 23), (-50, -50, 60, 60)]
    for border, labels in ((0, [-1, -1, -1]), (2.9, [-1, -1, -1]), (3, [0, 0, -1]), (None, [0, 0, 0])):
        assert labels_of(anchors, [], AnchorTargetConfig(allowed_border=border)) == labels
    # And out there they compete: the one that leaves the image is the object's best.
    both: list[Box] = [(-1, 0, 10, 10), (0, 0, 8, 10)]
    config = AnchorTargetConfig(positive_overlap=0.95, allowed_border=None)
    assert labels_of(both, [(0, 0, 10, 10)], config) == [1, -1]


@pytest.mark.parametrize(("rows", "label"), [(8, 1), (7, 1), (6, -1), (4, -1), (3, -1), (2, 0)])
def test_an_overlap_of_exactly_0_7_is_foreground_and_of_exactly_0_3_is_not_background(rows: int, label: int) -> None:
    # The object covers rows/10 of the second anchor; the first anchor is the object, so no other is its best.
    gt = (0, 0, 10, rows)
    assert labels_of([gt, (0, 0, 10, 10)], [gt]) == [1, label]


def test_without_anchors_there_are_no_targets() -> None:
    for objects in ([], [(0, 0, 5, 5)]):
        result = anchor_targets(torch.zeros(0, 4), tensor(objects).reshape(-1, 4), SIZE)
        assert [value.shape for value in result] == [(0,), (0, 4), (0,), (0,)]


def test_an_image_without_objects_has_only_background() -> None:
    result = anchor_targets(tensor([(0, 0, 9, 9), (-5, 0, 9, 9), (5, 5, 9, 9)]), torch.zeros(0, 4), SIZE)
    assert result.labels.tolist() == [0, -1, 0]
    assert result.matched_gt.tolist() == [-1, -1, -1]
    assert not result.targets.any()
    assert not result.max_iou.any()


def test_each_anchors_target_is_the_object_that_it_overlaps_most() -> None:
    anchors, objects, size = scene()
    result = anchor_targets(anchors, objects, size)
    assert result.targets.dtype == torch.float32
    decoded = decode_boxes(anchors, result.targets)
    torch.testing.assert_close(decoded, objects[result.matched_gt], atol=1e-3, rtol=0)


# --- sampling ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fg_fraction", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("batch_size", [1, 5, 64, 256, 5000])
def test_sampling_keeps_as_many_of_each_as_it_may(batch_size: int, fg_fraction: float) -> None:
    anchors, objects, size = scene()
    config = AnchorTargetConfig(batch_size=batch_size, fg_fraction=fg_fraction)
    before, _, _ = label_anchors(anchors, objects, size, config)
    available_foreground, available_background = int((before == 1).sum()), int((before == 0).sum())
    assert available_foreground > 200
    assert available_background > 200

    after = anchor_targets(anchors, objects, size, config, generator()).labels
    foreground = min(available_foreground, int(fg_fraction * batch_size))
    assert (after == 1).sum() == foreground
    assert (after == 0).sum() == min(available_background, batch_size - foreground)
    assert (before[after == 1] == 1).all()
    assert (before[after == 0] == 0).all()
    assert ((after == -1) | (after == before)).all()


def test_few_foreground_anchors_leave_their_room_to_background() -> None:
    anchors = grid_anchors((16, 20), 8, base_anchors(8, (0.5, 1, 2), (2,)))
    labels = anchor_targets(anchors, torch.tensor([[60.0, 60, 75, 77]]), (128, 160)).labels
    assert (labels == 1).sum() == 1
    assert (labels == 0).sum() == 255


def test_sampling_changes_nothing_but_labels() -> None:
    anchors, objects, size = scene()
    _, max_iou, matched_gt = label_anchors(anchors, objects, size)
    result = anchor_targets(anchors, objects, size, AnchorTargetConfig(batch_size=10))
    assert torch.equal(result.max_iou, max_iou)
    assert torch.equal(result.matched_gt, matched_gt)


def test_the_generator_decides_the_sample_and_the_global_state_is_not_touched() -> None:
    anchors, objects, size = scene()
    before = torch.get_rng_state()

    def sample(seed: int) -> AnchorTargets:
        return anchor_targets(anchors, objects, size, AnchorTargetConfig(batch_size=32), generator(seed))

    assert torch.equal(sample(1).labels, sample(1).labels)
    assert not torch.equal(sample(1).labels, sample(2).labels)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_anchor_is_sampled_equally_often() -> None:
    anchors = random_boxes(30, SIZE)
    source, config = generator(3), AnchorTargetConfig(batch_size=6)
    counts = torch.zeros(30)
    for _ in range(1000):
        counts += anchor_targets(anchors, torch.zeros(0, 4), SIZE, config, source).labels == 0
    assert counts.sum() == 6000
    # 200 each; 29 degrees of freedom: a fair choice passes 65 once in ten thousand times
    assert 5 < float(((counts - 200) ** 2 / 200).sum()) < 65


def test_anchors_and_objects_are_left_alone() -> None:
    anchors, objects, size = scene()
    before = anchors.clone(), objects.clone()
    anchor_targets(anchors, objects, size)
    assert torch.equal(anchors, before[0])
    assert torch.equal(objects, before[1])
