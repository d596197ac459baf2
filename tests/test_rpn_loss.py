"""RPN loss: smooth L1 by hand, both terms against a loop, and who pays what."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rcnn_edu.anchor_target import AnchorTargets
from rcnn_edu.rpn_loss import rpn_loss, smooth_l1


def smooth_l1_by_hand(x: float, sigma: float) -> float:
    """½(σx)² where |x| < 1/σ², |x| − ½/σ² beyond."""
    return 0.5 * (sigma * x) ** 2 if abs(x) < 1 / sigma**2 else abs(x) - 0.5 / sigma**2


def rpn_loss_by_loop(
    class_scores: Tensor, coefficients: Tensor, targets: AnchorTargets, sigma: float
) -> tuple[float, float]:
    """Both terms, one anchor and one coefficient at a time."""
    classification, regression, sampled = 0.0, 0.0, 0
    for row, label in enumerate(targets.labels.tolist()):
        if label == -1:
            continue
        sampled += 1
        background, foreground = class_scores[row].tolist()
        right = foreground if label == 1 else background
        classification += math.log(math.exp(background) + math.exp(foreground)) - right
        if label == 1:
            for k in range(4):
                regression += smooth_l1_by_hand(float(coefficients[row, k] - targets.targets[row, k]), sigma)
    return classification / sampled, regression / sampled


def anchor_targets_of(labels: list[int], targets: Tensor | None = None) -> AnchorTargets:
    """Targets with the given labels; the loss looks at nothing else but `targets`."""
    rows = len(labels)
    if targets is None:
        targets = torch.zeros(rows, 4)
    return AnchorTargets(torch.tensor(labels), targets, torch.zeros(rows), torch.zeros(rows, dtype=torch.int64))


@pytest.mark.parametrize(
    ("x", "sigma", "loss"),
    [
        (0.0, 3.0, 0.0),
        (0.05, 3.0, 0.01125),  # ½ · 9 · 0.0025
        (-0.05, 3.0, 0.01125),
        (1 / 9, 3.0, 1 / 18),  # where parabola and line meet: ½ · 9 / 81 = 1/9 − 1/18
        (1.0, 3.0, 17 / 18),
        (-2.0, 3.0, 2 - 1 / 18),
        (0.5, 1.0, 0.125),
        (1.0, 1.0, 0.5),
        (3.0, 1.0, 2.5),
    ],
)
def test_smooth_l1_by_hand(x: float, sigma: float, loss: float) -> None:
    assert smooth_l1(torch.tensor(x), sigma).item() == pytest.approx(loss, rel=1e-6)


@given(st.floats(-20, 20), st.floats(0.2, 10))
def test_smooth_l1_is_the_formula_and_torchs_with_beta_one_over_sigma_squared(x: float, sigma: float) -> None:
    value = torch.tensor(x, dtype=torch.float64)
    loss = smooth_l1(value, sigma)
    assert loss.item() == pytest.approx(smooth_l1_by_hand(x, sigma), rel=1e-9, abs=1e-12)
    torch.testing.assert_close(loss, F.smooth_l1_loss(value, torch.zeros_like(value), beta=1 / sigma**2))


def test_smooth_l1_has_a_slope_of_at_most_1_and_keeps_its_shape() -> None:
    x = torch.linspace(-3, 3, 101).reshape(1, 101).requires_grad_()
    loss = smooth_l1(x, 3.0)
    assert loss.shape == x.shape
    (slope,) = torch.autograd.grad(loss.sum(), x)
    expected = torch.where(x.abs() < 1 / 9, 9 * x, x.sign())
    torch.testing.assert_close(slope, expected.detach())


def test_both_terms_by_hand() -> None:
    # Sampled: the first (foreground) and the second (background).
    # Cross-entropy: log(1 + e⁻²) for a lead of 2 on the right side, log 2 for a tie.
    # Regression, first anchor only: differences 0.1, 0, 1, −2 with sigma 3: 0.045 + 0 + 17/18 + 35/18; over 2.
    scores = torch.tensor([[0.0, 2], [1, 1], [9, -9]])
    coefficients = torch.tensor([[0.1, 0, 1, -2], [5, 5, 5, 5], [7, 7, 7, 7]])
    loss = rpn_loss(scores, coefficients, anchor_targets_of([1, 0, -1]))
    assert loss.classification.item() == pytest.approx((math.log(1 + math.exp(-2)) + math.log(2)) / 2)
    assert loss.regression.item() == pytest.approx((0.045 + 52 / 18) / 2)


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_both_terms_are_those_of_the_loop(sigma: float) -> None:
    labels = torch.randint(-1, 2, (200,)).tolist()
    targets = anchor_targets_of(labels, torch.randn(200, 4))
    scores, coefficients = torch.randn(200, 2) * 3, torch.randn(200, 4)
    loss = rpn_loss(scores, coefficients, targets, sigma)
    classification, regression = rpn_loss_by_loop(scores, coefficients, targets, sigma)
    assert loss.classification.item() == pytest.approx(classification, rel=1e-5)
    assert loss.regression.item() == pytest.approx(regression, rel=1e-5)
    assert loss.classification.shape == loss.regression.shape == ()


def test_only_sampled_anchors_pay_for_scores_and_only_foreground_for_coefficients() -> None:
    labels = torch.randint(-1, 2, (60,))
    scores, coefficients = torch.randn(60, 2, requires_grad=True), torch.randn(60, 4, requires_grad=True)
    loss = rpn_loss(scores, coefficients, anchor_targets_of(labels.tolist(), torch.randn(60, 4)))
    (of_scores,) = torch.autograd.grad(loss.classification, scores)
    (of_coefficients,) = torch.autograd.grad(loss.regression, coefficients)
    assert torch.equal((of_scores != 0).any(dim=1), labels != -1)
    assert torch.equal((of_coefficients != 0).any(dim=1), labels == 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_targets_that_are_not_finite_do_no_harm_where_they_do_not_count(bad: float) -> None:
    labels = [1, 0, -1, 0, -1]
    wanted = torch.zeros(5, 4)
    scores, coefficients = torch.randn(5, 2, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    clean = rpn_loss(scores, coefficients, anchor_targets_of(labels, wanted))
    clean_gradients = torch.autograd.grad(clean.classification + clean.regression, (scores, coefficients))
    wanted = wanted.clone()
    wanted[1:] = bad
    loss = rpn_loss(scores, coefficients, anchor_targets_of(labels, wanted))
    gradients = torch.autograd.grad(loss.classification + loss.regression, (scores, coefficients))
    assert torch.equal(loss.regression, clean.regression)
    for found, expected in zip(gradients, clean_gradients, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("labels", [[-1, -1, -1], []])
def test_with_no_anchor_sampled_both_terms_are_0_and_have_a_gradient_of_0(labels: list[int]) -> None:
    scores = torch.randn(len(labels), 2, requires_grad=True)
    coefficients = torch.randn(len(labels), 4, requires_grad=True)
    targets = anchor_targets_of(labels)._replace(labels=torch.tensor(labels, dtype=torch.int64))
    loss = rpn_loss(scores, coefficients, targets)
    assert loss.classification == 0
    assert loss.regression == 0
    gradients = torch.autograd.grad(loss.classification + loss.regression, (scores, coefficients))
    assert not any(gradient.any() for gradient in gradients)


def test_background_alone_has_no_regression_loss() -> None:
    loss = rpn_loss(torch.randn(4, 2), torch.randn(4, 4) * 10, anchor_targets_of([0, 0, 0, -1]))
    assert loss.classification > 0
    assert loss.regression == 0


def test_sums_are_in_float32_whatever_goes_in() -> None:
    labels, wanted = torch.randint(-1, 2, (300,)).tolist(), torch.randn(300, 4)
    scores, coefficients = torch.randn(300, 2).bfloat16(), torch.randn(300, 4).bfloat16()
    loss = rpn_loss(scores, coefficients, anchor_targets_of(labels, wanted))
    same = rpn_loss(scores.float(), coefficients.float(), anchor_targets_of(labels, wanted))
    assert loss.classification.dtype == loss.regression.dtype == torch.float32
    assert torch.equal(loss.classification, same.classification)
    assert torch.equal(loss.regression, same.regression)
