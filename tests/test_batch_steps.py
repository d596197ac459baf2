"""The steps for a whole batch: each image gets what the step for one image gives it, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from conftest import generator, jittered, random_boxes
from torch import Tensor

from rcnn_edu.anchor_target import anchor_targets
from rcnn_edu.anchors import base_anchors, grid_anchors
from rcnn_edu.backbone import feature_size
from rcnn_edu.batch_steps import (
    Anchors,
    Objects,
    all_anchors,
    all_objects,
    all_rpn_losses,
    detect_all,
    label_all,
    propose_all,
    sample_all,
)
from rcnn_edu.classifier import ClassifierOutput, detections
from rcnn_edu.config import AnchorTargetConfig, DetectionConfig, ProposalConfig, ProposalTargetConfig
from rcnn_edu.proposal_layer import propose
from rcnn_edu.proposal_target import proposal_targets
from rcnn_edu.rpn import RPNOutput
from rcnn_edu.rpn_loss import rpn_loss

Size = tuple[int, int]
SIZES = [(120, 160), (96, 176), (128, 100), (120, 160)]  # one is tallest, another widest
OBJECTS = [3, 0, 1, 7]
BASE = base_anchors(16, (0.5, 1.0, 2.0), (1.0, 2.0, 4.0))
STD = (0.1, 0.1, 0.2, 0.2)

batches = pytest.mark.parametrize(
    ("sizes", "counts"),
    [(SIZES, OBJECTS), (SIZES[:1], [2]), (SIZES[1:2], [0]), (SIZES, [0, 0, 0, 0]), ([SIZES[0]] * 3, [1, 5, 0])],
    ids=["mixed", "one", "one without objects", "none with objects", "all of one size"],
)


def rpn_output(sizes: Sequence[Size]) -> RPNOutput:
    """Random maps for a batch of these images."""
    rows, columns = (max(side) for side in zip(*map(feature_size, sizes), strict=True))
    scores = torch.randn(len(sizes), 2 * len(BASE), rows, columns, requires_grad=True)
    return RPNOutput(scores, (torch.randn(len(sizes), 4 * len(BASE), rows, columns) * 0.3).requires_grad_())


def anchors_of(output: RPNOutput, sizes: Sequence[Size]) -> Anchors:
    """All anchors of the batch."""
    return all_anchors(output, BASE, 16, sizes, [feature_size(size) for size in sizes])


def objects_of(sizes: Sequence[Size], counts: Sequence[int]) -> tuple[Objects, list[Tensor], list[Tensor]]:
    """Random objects: padded, and image by image."""
    boxes = [random_boxes(count, size, smallest=12) for size, count in zip(sizes, counts, strict=True)]
    labels = [torch.randint(1, 6, (count,)) for count in counts]
    return all_objects(boxes, labels, torch.ones(len(sizes), 4)), boxes, labels


def own_rows(exist: Tensor, values: Tensor) -> Tensor:
    """An image's own of the rows of a batch's grid."""
    return values[exist]


@batches
def test_anchors_are_those_of_each_images_own_grid(sizes: list[Size], counts: list[int]) -> None:
    output = rpn_output(sizes)
    anchors = anchors_of(output, sizes)
    for image, size in enumerate(sizes):
        exist, cells = anchors.exist[image], feature_size(size)
        scores, coefficients = output.of_image(image, cells)
        assert torch.equal(own_rows(exist, anchors.boxes), grid_anchors(cells, 16, BASE))
        assert torch.equal(own_rows(exist, anchors.class_scores[image]), scores)
        assert torch.equal(own_rows(exist, anchors.coefficients[image]), coefficients)


@batches
@pytest.mark.parametrize("border", [0.0, None])
def test_labels_and_losses_are_those_of_each_image_alone(
    sizes: list[Size], counts: list[int], border: float | None
) -> None:
    config = AnchorTargetConfig(batch_size=64, allowed_border=border)
    output, (objects, boxes, _) = rpn_output(sizes), objects_of(sizes, counts)
    anchors = anchors_of(output, sizes)
    found = label_all(anchors, objects, config, [generator(i) for i in range(len(sizes))])
    losses = all_rpn_losses(anchors, found, 3.0)
    total = torch.zeros(())
    for image, size in enumerate(sizes):
        exist, cells = anchors.exist[image], feature_size(size)
        expected = anchor_targets(grid_anchors(cells, 16, BASE), boxes[image], size, config, generator(image))
        assert torch.equal(own_rows(exist, found.labels[image]), expected.labels)
        assert (found.labels[image][~exist] == -1).all()
        torch.testing.assert_close(own_rows(exist, found.max_iou[image]), expected.max_iou)
        foreground = expected.labels == 1
        assert foreground.any() == bool(counts[image])
        for one, other in ((found.targets, expected.targets), (found.matched_gt, expected.matched_gt)):
            assert torch.equal(own_rows(exist, one[image])[foreground], other[foreground])
        alone = rpn_loss(*output.of_image(image, cells), expected, 3.0)
        torch.testing.assert_close(losses.classification[image], alone.classification)
        torch.testing.assert_close(losses.regression[image], alone.regression)
        total = total + alone.classification + alone.regression
    expected_gradients = torch.autograd.grad(total, list(output), retain_graph=True)
    gradients = torch.autograd.grad(torch.stack(list(losses)).sum(), list(output))
    for one, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(one, other)


@batches
@pytest.mark.parametrize("kept", [30, 5000])
def test_proposals_are_those_of_each_image_alone(sizes: list[Size], counts: list[int], kept: int) -> None:
    config = ProposalConfig(pre_nms_top_n=kept * 3, post_nms_top_n=kept, min_size=6)
    output = rpn_output(sizes)
    with torch.no_grad():
        output.class_scores[0, :, 2, 3] = torch.nan  # a diverging network is left out here too
    anchors = anchors_of(output, sizes)
    for image, found in enumerate(propose_all(anchors, config)):
        cells = feature_size(sizes[image])
        scores, coefficients = (one.detach() for one in output.of_image(image, cells))
        objectness = scores.softmax(dim=1)[:, 1]
        expected = propose(objectness, coefficients, grid_anchors(cells, 16, BASE), sizes[image], config)
        assert 0 < len(found) <= kept
        torch.testing.assert_close(found, expected.boxes)
        assert not found.requires_grad
    assert all(found.requires_grad for found in propose_all(anchors, config, differentiable=True))


@batches
@pytest.mark.parametrize("append_gt", [True, False])
def test_samples_are_those_of_each_image_alone(sizes: list[Size], counts: list[int], append_gt: bool) -> None:
    config = ProposalTargetConfig(batch_size=24, append_gt=append_gt)
    objects, boxes, labels = objects_of(sizes, counts)
    near = [jittered(some, 4, pixels=6).view(-1, 2, 2).sort(dim=1).values.flatten(1) for some in boxes]
    proposals = [torch.cat([random_boxes(20 + 9 * i), some]) for i, some in enumerate(near)]
    found = sample_all(proposals, objects, config, [generator(i) for i in range(len(sizes))])
    for image, one in enumerate(found):
        alone = proposal_targets(proposals[image], boxes[image], labels[image], config, generator(image))
        for part, other in zip(one[:4], alone[:4], strict=True):
            torch.testing.assert_close(part, other)
        foreground = alone.labels > 0
        assert foreground.any() == bool(counts[image])
        assert torch.equal(one.matched_gt[foreground], alone.matched_gt[foreground])


def test_an_image_with_nothing_to_sample_from_gives_no_rois_and_the_others_theirs() -> None:
    config = ProposalTargetConfig(batch_size=8, append_gt=False)
    objects, boxes, labels = objects_of(SIZES[:2], [2, 1])
    proposals = [torch.zeros(0, 4), random_boxes(30)]
    empty, full = sample_all(proposals, objects, config, [generator(0), generator(1)])
    assert len(empty.rois) == len(empty.labels) == 0
    alone = proposal_targets(proposals[1], boxes[1], labels[1], config, generator(1))
    assert all(torch.equal(one, other) for one, other in zip(full, alone, strict=True))


@pytest.mark.parametrize("counts", [[40, 0, 25], [0, 0, 0], [30]])
def test_detections_are_those_of_each_image_alone(counts: list[int]) -> None:
    sizes, config = SIZES[: len(counts)], DetectionConfig(score_threshold=0.1, max_detections=10)
    rois = [random_boxes(count, size) for count, size in zip(counts, sizes, strict=True)]
    output = ClassifierOutput(torch.randn(sum(counts), 6) * 2, torch.randn(sum(counts), 24))
    found = detect_all(output, rois, sizes, config, STD)
    parts = zip(output.class_scores.split(counts), output.coefficients.split(counts), strict=True)
    for one, of_image, boxes, size in zip(found, parts, rois, sizes, strict=True):
        expected = detections(*of_image, boxes, size, config, STD)
        assert len(one.boxes) == min(len(expected.boxes), 10)
        assert (len(one.boxes) > 0) == (len(boxes) > 0)
        for part, other in zip(one, expected, strict=True):
            torch.testing.assert_close(part, other)


def test_some_images_of_a_batch() -> None:
    output, (objects, _, _) = rpn_output(SIZES), objects_of(SIZES, OBJECTS)
    some = anchors_of(output, SIZES).of(slice(1, 3))
    assert some.cells == [feature_size(size) for size in SIZES[1:3]]
    assert len(some.exist) == len(some.class_scores) == len(some.image_sizes) == 2
    assert objects.of(slice(1, 3)).counts == OBJECTS[1:3]
