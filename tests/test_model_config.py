"""Every number of the configuration reaches the step that it is for: the model against the steps called by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import generator, tiny_config
from torch import Tensor

from rcnn_edu.anchor_target import anchor_targets
from rcnn_edu.anchors import base_anchors, grid_anchors
from rcnn_edu.classifier import classifier_loss, detections
from rcnn_edu.config import Config
from rcnn_edu.crop_pooling import crop_pool
from rcnn_edu.model import FasterRCNN
from rcnn_edu.preprocessing import preprocess
from rcnn_edu.proposal_layer import propose
from rcnn_edu.proposal_target import proposal_targets
from rcnn_edu.rpn_loss import rpn_loss

SIZE, CELLS = (64, 96), (4, 6)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(3, *SIZE, generator=generator(1))


def changed(config: Config, field: str, value: Any) -> Config:
    """`config` with another value of a field, as in "anchors.scales"."""
    name, _, inner = field.partition(".")
    return replace(config, **{name: replace(getattr(config, name), **{inner: value}) if inner else value})


def seen_by(model: FasterRCNN, config: Config, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features `(1, C, h, w)`, and class scores, coefficients and anchors of the one image."""
    pixels, scale = preprocess(image, config.preprocessing)
    assert scale == 1
    features = model.head(pixels[None])
    scores, coefficients = model.rpn(features).of_image(0, CELLS)
    base = base_anchors(config.anchors.base_size, config.anchors.ratios, config.anchors.scales)
    return features, scores, coefficients, grid_anchors(CELLS, 16, base)


def losses_by_hand(model: FasterRCNN, config: Config, image: Tensor, boxes: Tensor, labels: Tensor) -> list[float]:
    features, scores, coefficients, anchors = seen_by(model, config, image)
    source = generator(5)
    wanted = anchor_targets(anchors, boxes, SIZE, config.anchor_target, source)
    rpn = rpn_loss(scores, coefficients, wanted, config.rpn_sigma)
    proposals = propose(scores.softmax(dim=1)[:, 1], coefficients, anchors, SIZE, config.proposals)
    sampled = proposal_targets(proposals.boxes, boxes, labels, config.proposal_target, source)
    pooling = config.crop_pooling
    crops = crop_pool(features, [sampled.rois], output_size=pooling.output_size, mode=pooling.mode)
    output = model.classifier(crops)
    loss = classifier_loss(output.class_scores, output.coefficients, sampled, config.classifier_sigma)
    return [value.item() for value in (*rpn, *loss)]


def boxes_by_hand(model: FasterRCNN, config: Config, image: Tensor) -> Tensor:
    features, scores, coefficients, anchors = seen_by(model, config, image)
    proposals = propose(scores.softmax(dim=1)[:, 1], coefficients, anchors, SIZE, config.test_proposals)
    pooling = config.crop_pooling
    crops = crop_pool(features, [proposals.boxes], output_size=pooling.output_size, mode=pooling.mode)
    output = model.classifier(crops)
    std = config.proposal_target.target_std
    found = detections(output.class_scores, output.coefficients, proposals.boxes, SIZE, config.detection, std)
    return torch.cat([found.boxes, found.labels[:, None], found.scores[:, None]], dim=1)


def model_of(config: Config) -> FasterRCNN:
    """The same weights for every configuration that has the same layers; boxes move, and classes are told apart."""
    torch.manual_seed(0)
    model = FasterRCNN(config)
    for layer in (model.rpn.rpn_cls_score_net, model.rpn.rpn_bbox_pred_net, model.classifier.cls_score_net):
        torch.nn.init.normal_(layer.weight, std=0.3)
    torch.nn.init.normal_(model.classifier.bbox_pred_net.weight, std=0.5)
    return model


@torch.no_grad()
def near_proposals(config: Config, image: Tensor) -> Tensor:
    """Four objects, each a little smaller than a proposal: what is foreground then depends on the numbers."""
    _, scores, coefficients, anchors = seen_by(model_of(config), config, image)
    found = propose(scores.softmax(dim=1)[:, 1], coefficients, anchors, SIZE, config.proposals).boxes[[0, 4, 8, 12]]
    sides = (found[:, 2:] - found[:, :2]).repeat(1, 2)
    return found + 0.12 * sides * torch.tensor([1, 0.5, -0.5, -1])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("anchors.base_size", 12),
        ("anchors.ratios", (0.4, 1.1, 2.5)),
        ("anchors.scales", (1.5, 2.5, 4.0)),
        ("anchor_target.positive_overlap", 0.3),
        ("anchor_target.negative_overlap", 0.1),
        ("anchor_target.batch_size", 16),
        ("anchor_target.fg_fraction", 0.05),
        ("anchor_target.allowed_border", None),
        ("rpn_sigma", 1.0),
        ("proposals.pre_nms_top_n", 20),
        ("proposals.post_nms_top_n", 5),
        ("proposals.nms_threshold", 0.2),
        ("proposals.min_size", 30.0),
        ("proposal_target.batch_size", 12),
        ("proposal_target.fg_fraction", 1.0),
        ("proposal_target.fg_threshold", 0.8),
        ("proposal_target.bg_threshold_hi", 0.15),
        ("proposal_target.bg_threshold_lo", 0.3),
        ("proposal_target.target_std", (1.0, 0.5, 0.3, 0.4)),
        ("proposal_target.append_gt", False),
        ("crop_pooling.output_size", 5),
        ("crop_pooling.mode", "align"),
        ("classifier_sigma", 3.0),
    ],
)
def test_a_number_of_training_reaches_its_step(image: Tensor, field: str, value: object) -> None:
    before = tiny_config()
    config = changed(before, field, value)
    boxes, labels = near_proposals(before, image), torch.tensor([1, 2, 3, 1])
    model = model_of(config).train()
    losses = model.losses([image], [{"boxes": boxes, "labels": labels}], seeds=[5])
    by_hand = losses_by_hand(model, config, image, boxes, labels)
    assert [loss.item() for loss in losses.values()] == pytest.approx(by_hand, rel=1e-4, abs=1e-6)
    assert by_hand != pytest.approx(losses_by_hand(model, before, image, boxes, labels), rel=1e-3), "it does not matter"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("anchors.scales", (1.5, 2.5, 4.0)),
        ("test_proposals.pre_nms_top_n", 8),
        ("test_proposals.post_nms_top_n", 3),
        ("test_proposals.nms_threshold", 0.2),
        ("test_proposals.min_size", 40.0),
        ("crop_pooling.output_size", 5),
        ("crop_pooling.mode", "align"),
        ("proposal_target.target_std", (1.0, 0.5, 0.3, 0.4)),
        ("detection.score_threshold", 0.4),
        ("detection.nms_threshold", 0.8),
        ("detection.max_detections", 3),
    ],
)
@torch.no_grad()
def test_a_number_of_inference_reaches_its_step(image: Tensor, field: str, value: object) -> None:
    before = tiny_config()
    config = changed(before, field, value)
    model = model_of(config).eval()
    (found,) = model.detect([image])
    rows = torch.cat([found["boxes"], found["labels"][:, None], found["scores"][:, None]], dim=1)
    by_hand = boxes_by_hand(model, config, image)
    assert len(by_hand) > 0
    torch.testing.assert_close(rows, by_hand, atol=1e-3, rtol=1e-4)
    default = boxes_by_hand(model, before, image)
    assert default.shape != by_hand.shape or (default - by_hand).abs().max() > 1e-2, "it does not matter"


def test_the_rpn_is_as_wide_as_the_article_s() -> None:
    config = Config(backbone="resnet50", pretrained=False)
    assert FasterRCNN(config).rpn.rpn_net.out_channels == 512
    assert FasterRCNN(replace(config, rpn_channels=40)).rpn.rpn_net.out_channels == 40
