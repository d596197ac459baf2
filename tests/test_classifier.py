"""Classification layer: the two linear layers, the loss against a loop, detections against a loop over classes."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from conftest import jittered, random_boxes
from torch import Tensor, nn

from rcnn_edu.classifier import Classifier, Detections, classifier_loss, detections
from rcnn_edu.config import DetectionConfig
from rcnn_edu.proposal_target import ProposalTargets

SIZE = (120, 160)
STD = (0.1, 0.1, 0.2, 0.2)


class Halve(nn.Module):
    """A tail: average pooling over 2×2."""

    out_channels = 6

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 2)


class Flatten(nn.Module):
    """A tail that gives vectors, as VGG's does."""

    out_channels = 24

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def loss_by_loop(class_scores: Tensor, coefficients: Tensor, targets: ProposalTargets, sigma: float) -> list[float]:
    """Cross-entropy and smooth L1 of the true class's four, one RoI at a time; both over the number of RoIs."""
    classification = regression = 0.0
    for row, label in enumerate(targets.labels.tolist()):
        scores = class_scores[row].tolist()
        classification += math.log(sum(map(math.exp, scores))) - scores[label]
        if label == 0:
            continue
        for k in range(4):
            x = abs(float(coefficients[row, 4 * label + k] - targets.targets[row, k]))
            regression += 0.5 * (sigma * x) ** 2 if x < 1 / sigma**2 else x - 0.5 / sigma**2
    return [classification / len(targets.labels), regression / len(targets.labels)]


def targets_of(labels: Tensor, targets: Tensor) -> ProposalTargets:
    """Sampled RoIs with these labels and coefficients; the loss looks at nothing else."""
    rows = len(labels)
    return ProposalTargets(random_boxes(rows), labels, targets, torch.zeros(rows), torch.zeros_like(labels))


def iou_by_hand(a: list[float], b: list[float]) -> float:
    """Intersection over union of two proper boxes."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def detect_by_loop(
    class_scores: Tensor, coefficients: Tensor, rois: Tensor, config: DetectionConfig
) -> list[tuple[float, int, list[float]]]:
    """(score, label, box) of each detection, best first: class by class, region by region."""
    found = []
    for label in range(1, class_scores.shape[1]):
        candidates = []
        for row, (x1, y1, x2, y2) in enumerate(rois.tolist()):
            scores = class_scores[row].tolist()
            score = math.exp(scores[label]) / sum(map(math.exp, scores))
            if score <= config.score_threshold:
                continue
            own = coefficients[row, 4 * label : 4 * label + 4].tolist()
            tx, ty, tw, th = (coefficient * std for coefficient, std in zip(own, STD, strict=True))
            width, height = (x2 - x1) * math.exp(tw), (y2 - y1) * math.exp(th)
            x, y = (x1 + x2) / 2 + tx * (x2 - x1), (y1 + y2) / 2 + ty * (y2 - y1)
            left, right = (min(max(v, 0), SIZE[1]) for v in (x - width / 2, x + width / 2))
            top, bottom = (min(max(v, 0), SIZE[0]) for v in (y - height / 2, y + height / 2))
            if right > left and bottom > top:
                candidates.append((score, label, [left, top, right, bottom]))
        kept: list[tuple[float, int, list[float]]] = []
        for one in sorted(candidates, key=lambda c: -c[0]):
            if all(iou_by_hand(one[2], better[2]) <= config.nms_threshold for better in kept):
                kept.append(one)
        found += kept
    return sorted(found, key=lambda c: -c[0])[: config.max_detections]


def assert_same(found: Detections, expected: list[tuple[float, int, list[float]]]) -> None:
    """Labels exactly, scores to 1e-6, boxes to a thousandth of a pixel."""
    assert found.labels.tolist() == [label for _, label, _ in expected]
    assert found.scores.tolist() == pytest.approx([score for score, _, _ in expected], abs=1e-6)
    boxes = torch.tensor([box for _, _, box in expected]).reshape(-1, 4)
    torch.testing.assert_close(found.boxes, boxes, atol=1e-3, rtol=0)


# --- the layer ---------------------------------------------------------------------------------------------------


def test_fc7_is_the_mean_over_space_and_two_linear_layers_follow() -> None:
    classifier, crops = Classifier(Halve(), 5), torch.randn(3, 6, 4, 4)
    fc7 = classifier.fc7(crops)
    torch.testing.assert_close(fc7, crops.mean(dim=(2, 3)))
    output = classifier(crops)
    torch.testing.assert_close(output.class_scores, fc7 @ classifier.cls_score_net.weight.T)  # biases start at 0
    torch.testing.assert_close(output.coefficients, fc7 @ classifier.bbox_pred_net.weight.T)
    assert output.class_scores.shape == (3, 5)
    assert output.coefficients.shape == (3, 20)


def test_a_tail_may_give_vectors() -> None:
    crops = torch.randn(3, 6, 2, 2)
    assert torch.equal(Classifier(Flatten(), 5).fc7(crops), crops.flatten(1))


def test_the_article_s_starting_weights() -> None:
    tail = Flatten()
    tail.out_channels = 2000
    classifier = Classifier(tail, 21)
    assert classifier.cls_score_net.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert classifier.bbox_pred_net.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not classifier.cls_score_net.bias.any()
    assert not classifier.bbox_pred_net.bias.any()


def test_the_channels_of_any_tail_are_those_of_its_last_layer() -> None:
    tails = (torchvision.models.resnet18().layer4, nn.Sequential(nn.Flatten(), nn.Linear(98, 512), nn.ReLU()))
    for tail, channels in zip(tails, (256, 2), strict=True):
        output = Classifier(tail, 5)(torch.rand(3, channels, 7, 7))
        assert (output.class_scores.shape, output.coefficients.shape) == ((3, 5), (3, 20))


def test_a_tail_that_does_not_say_its_channels_is_refused() -> None:
    with pytest.raises(TypeError, match="Identity has no out_channels"):
        Classifier(nn.Identity(), 5)


# --- the loss ----------------------------------------------------------------------------------------------------


def test_the_loss_by_hand() -> None:
    # Two RoIs, two classes. Cross-entropy: a tie, log 2; a lead of 1 on the right side, log(1 + 1/e).
    # Smooth L1 with sigma 1, first RoI only: differences 0.5, 2, 0, 0: 0.125 + 1.5; over 2 RoIs.
    scores = torch.tensor([[0.0, 0], [1, 0]])
    coefficients = torch.tensor([[9.0, 9, 9, 9, 0.5, -2, 0, 0], [9, 9, 9, 9, 9, 9, 9, 9]])
    loss = classifier_loss(scores, coefficients, targets_of(torch.tensor([1, 0]), torch.zeros(2, 4)))
    assert loss.classification.item() == pytest.approx((math.log(2) + math.log(1 + math.exp(-1))) / 2)
    assert loss.regression.item() == pytest.approx(1.625 / 2)


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_the_loss_is_that_of_the_loop(sigma: float) -> None:
    targets = targets_of(torch.randint(0, 6, (64,)), torch.randn(64, 4))
    scores, coefficients = torch.randn(64, 6) * 2, torch.randn(64, 24)
    loss = classifier_loss(scores, coefficients, targets, sigma)
    assert [float(loss.classification), float(loss.regression)] == pytest.approx(
        loss_by_loop(scores, coefficients, targets, sigma), rel=1e-5
    )
    assert loss.classification.shape == loss.regression.shape == ()


def test_only_the_true_class_s_coefficients_have_a_gradient_and_background_s_none() -> None:
    labels, coefficients = torch.randint(0, 4, (40,)), torch.randn(40, 16, requires_grad=True)
    loss = classifier_loss(torch.randn(40, 4), coefficients, targets_of(labels, torch.randn(40, 4)))
    (gradient,) = torch.autograd.grad(loss.regression, coefficients)
    paid = (gradient.reshape(40, 4, 4) != 0).all(dim=2)
    assert torch.equal(paid, (labels[:, None] == torch.arange(4)) & (labels[:, None] > 0))
    assert (gradient.reshape(40, 4, 4) != 0).any(dim=2).sum() == (labels > 0).sum()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_background_targets_that_are_not_finite_do_no_harm(bad: float) -> None:
    labels, targets = torch.tensor([1, 0, 2, 0]), torch.zeros(4, 4)
    targets[labels == 0] = bad
    coefficients = torch.randn(4, 12, requires_grad=True)
    loss = classifier_loss(torch.randn(4, 3), coefficients, targets_of(labels, targets))
    (gradient,) = torch.autograd.grad(loss.regression, coefficients)
    assert torch.isfinite(loss.regression)
    assert torch.isfinite(gradient).all()


def test_without_rois_both_terms_are_0_and_have_a_gradient_of_0() -> None:
    scores, coefficients = torch.zeros(0, 3, requires_grad=True), torch.zeros(0, 12, requires_grad=True)
    loss = classifier_loss(scores, coefficients, targets_of(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4)))
    assert loss.classification == 0
    assert loss.regression == 0
    total = loss.classification + loss.regression
    assert all(gradient.shape[0] == 0 for gradient in torch.autograd.grad(total, (scores, coefficients)))


def test_sums_are_in_float32_whatever_goes_in() -> None:
    targets = targets_of(torch.randint(0, 6, (64,)), torch.randn(64, 4))
    scores, coefficients = torch.randn(64, 6).bfloat16(), torch.randn(64, 24).bfloat16()
    loss = classifier_loss(scores, coefficients, targets)
    same = classifier_loss(scores.float(), coefficients.float(), targets)
    assert loss.classification.dtype == loss.regression.dtype == torch.float32
    assert torch.equal(loss.classification, same.classification)
    assert torch.equal(loss.regression, same.regression)


# --- detections --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        DetectionConfig(),
        DetectionConfig(score_threshold=0.3),
        DetectionConfig(score_threshold=0.0, nms_threshold=0.5, max_detections=7),
        DetectionConfig(score_threshold=0.0, nms_threshold=1.0, max_detections=1000),
        DetectionConfig(score_threshold=0.0, nms_threshold=0.0),
        DetectionConfig(max_detections=1),
    ],
)
def test_detections_are_those_of_the_loop(config: DetectionConfig) -> None:
    rois = torch.cat([jittered(random_boxes(6, smallest=20), 5, 4), random_boxes(20)])
    scores, coefficients = torch.randn(50, 5) * 2, torch.randn(50, 20)
    found = detections(scores, coefficients, rois, SIZE, config, STD)
    assert len(found.boxes) > 0
    assert_same(found, detect_by_loop(scores, coefficients, rois, config))


def test_the_best_100_at_most_over_all_classes() -> None:
    rois, scores = random_boxes(300, (2000, 2000)), torch.randn(300, 21) * 3
    found = detections(scores, torch.zeros(300, 84), rois, (2000, 2000))
    assert len(found.boxes) == 100
    assert (found.scores[1:] <= found.scores[:-1]).all()
    assert found.labels.min() >= 1


def test_equal_boxes_of_different_classes_are_all_kept() -> None:
    roi = torch.tensor([[10.0, 10, 50, 50]]).expand(2, 4)
    scores = torch.tensor([[0.0, 2, 1], [0, 1, 2]])
    found = detections(scores, torch.zeros(2, 12), roi, SIZE)
    assert sorted(found.labels.tolist()) == [1, 2]
    torch.testing.assert_close(found.scores, torch.full((2,), float(torch.softmax(scores[0], 0)[1])))


def test_a_sure_background_gives_nothing() -> None:
    scores = torch.tensor([[9.0, 0, 0, 0]]).expand(30, 4)
    found = detections(scores, torch.zeros(30, 16), random_boxes(30), SIZE)
    assert found.boxes.shape == (0, 4)
    assert found.labels.shape == found.scores.shape == (0,)
    assert found.labels.dtype == torch.int64


def test_boxes_that_leave_the_image_are_dropped() -> None:
    coefficients = torch.zeros(1, 8)
    coefficients[0, 4] = 1000  # normalised: 100 widths to the right
    found = detections(torch.tensor([[0.0, 5]]), coefficients, torch.tensor([[10.0, 10, 50, 50]]), SIZE)
    assert found.boxes.shape == (0, 4)


def test_no_rois_give_no_detections() -> None:
    found = detections(torch.zeros(0, 4), torch.zeros(0, 16), torch.zeros(0, 4), SIZE)
    assert found.boxes.shape == (0, 4)


def test_rows_that_are_not_finite_give_no_detections() -> None:
    scores, coefficients = torch.zeros(3, 2), torch.zeros(3, 8)
    scores[0, 0], coefficients[1, 5] = math.nan, math.nan
    found = detections(scores, coefficients, random_boxes(3), SIZE)
    assert len(found.boxes) == 1
    assert torch.isfinite(found.boxes).all()


def test_detections_have_no_gradient() -> None:
    scores, coefficients = torch.randn(5, 3, requires_grad=True), torch.randn(5, 12, requires_grad=True)
    found = detections(scores, coefficients, random_boxes(5), SIZE)
    assert not found.boxes.requires_grad
    assert not found.scores.requires_grad
