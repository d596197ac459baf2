"""Exercises of lesson 06: smooth L1, its slope, and the two terms of the RPN's loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnn_edu.anchor_target import AnchorTargets
from rcnn_edu.exercises.base import Exercise, Mistake
from rcnn_edu.rpn_loss import rpn_loss, smooth_l1


def _border_at_one_over_sigma(x: Tensor, sigma: float) -> Tensor:
    distance = x.abs()
    return torch.where(distance < 1 / sigma, 0.5 * sigma**2 * x * x, distance - 0.5 / sigma**2)


def _sigma_not_squared(x: Tensor, sigma: float) -> Tensor:
    return smooth_l1(x, sigma**0.5)


def _step_at_the_border(x: Tensor, sigma: float) -> Tensor:
    return torch.where(x.abs() < 1 / sigma**2, 0.5 * sigma**2 * x * x, x.abs())


def _no_absolute(x: Tensor, sigma: float) -> Tensor:
    return torch.where(x.abs() < 1 / sigma**2, 0.5 * sigma**2 * x * x, x - 0.5 / sigma**2)


def _no_sigma_in_the_parabola(x: Tensor, sigma: float) -> Tensor:
    return torch.where(x.abs() < 1 / sigma**2, 0.5 * x * x, x.abs() - 0.5 / sigma**2)


_x = torch.tensor([-2.0, -0.3, -0.05, 0.0, 0.1, 0.2, 0.8])

loss = Exercise(
    "smooth_l1",
    smooth_l1,
    [(_x, 3.0), (_x, 1.0)],
    [
        Mistake(_border_at_one_over_sigma, "parabola and line meet at |x| = 1/sigma², not at 1/sigma"),
        Mistake(_sigma_not_squared, "sigma enters squared: ½·sigma²·x², with the border at 1/sigma²"),
        Mistake(
            _step_at_the_border, "the curve jumps at the border; the line is |x| − ½/sigma², so that both parts meet"
        ),
        Mistake(_no_absolute, "a negative difference costs as much as a positive one: |x| in the line"),
        Mistake(_no_sigma_in_the_parabola, "the parabola is ½·sigma²·x²; without sigma² the two parts do not meet"),
    ],
)


def smooth_l1_slope(x: Tensor, sigma: float) -> Tensor:
    """The derivative of `smooth_l1` at each x, by autograd."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(smooth_l1(x, sigma).sum(), x)
    return slope


slope = Exercise(
    "smooth_l1_slope",
    smooth_l1_slope,
    [(_x, 3.0), (_x, 1.0)],
    [
        Mistake(lambda x, sigma: sigma**2 * x, "the slope never passes ±1: beyond the border the loss is a line"),
        Mistake(
            lambda x, sigma: x.sign(), "this is the slope of |x|; near 0 the loss is a parabola, with slope sigma²·x"
        ),
        Mistake(lambda x, sigma: (sigma * x).clamp(-1, 1), "½·sigma²·x² has the slope sigma²·x, not sigma·x"),
        Mistake(
            lambda x, sigma: (sigma**2 * x).clamp(0, 1), "where x is negative the loss falls: the slope is −1 there"
        ),
    ],
)


def _mean_over_all(scores: Tensor, coefficients: Tensor, targets: AnchorTargets, sigma: float) -> tuple[Tensor, Tensor]:
    classification, regression = rpn_loss(scores, coefficients, targets, sigma)
    share = (targets.labels >= 0).float().mean()
    return classification * share, regression * share


def _sum(scores: Tensor, coefficients: Tensor, targets: AnchorTargets, sigma: float) -> tuple[Tensor, Tensor]:
    classification, regression = rpn_loss(scores, coefficients, targets, sigma)
    sampled = (targets.labels >= 0).sum()
    return classification * sampled, regression * sampled


def _over_foreground(
    scores: Tensor, coefficients: Tensor, targets: AnchorTargets, sigma: float
) -> tuple[Tensor, Tensor]:
    classification, regression = rpn_loss(scores, coefficients, targets, sigma)
    return classification, regression * (targets.labels >= 0).sum() / (targets.labels == 1).sum()


def _background_pays(
    scores: Tensor, coefficients: Tensor, targets: AnchorTargets, sigma: float
) -> tuple[Tensor, Tensor]:
    sampled = targets.labels >= 0
    difference = torch.where(sampled[:, None], coefficients - targets.targets, 0.0)
    regression = smooth_l1(difference, sigma).sum() / sampled.sum()
    return rpn_loss(scores, coefficients, targets, sigma).classification, regression


def _mean_of_four(scores: Tensor, coefficients: Tensor, targets: AnchorTargets, sigma: float) -> tuple[Tensor, Tensor]:
    classification, regression = rpn_loss(scores, coefficients, targets, sigma)
    return classification, regression / 4


def _weights_after(scores: Tensor, coefficients: Tensor, targets: AnchorTargets, sigma: float) -> tuple[Tensor, Tensor]:
    inside_weights = (targets.labels == 1)[:, None].float()
    regression = (inside_weights * smooth_l1(coefficients - targets.targets, sigma)).sum()
    classification = F.cross_entropy(scores, targets.labels, ignore_index=-1)
    return classification, regression / (targets.labels >= 0).sum()


_scores = torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.5, 0.5], [3.0, -1.0], [0.0, 1.0]])
_predicted = torch.tensor([[0.1, 0, 0, 0.2], [1, 1, 1, 1], [0, 0.3, 0, 0], [0.5, 0, 0, 0.5], [0, 0, 0.4, -1.0]])
_wild = torch.cat([_predicted[:1], torch.full((1, 4), torch.inf), _predicted[2:]])


def _targets(*labels: int) -> AnchorTargets:
    wanted = torch.zeros(5, 4).index_fill(0, torch.tensor([4]), 0.5)
    return AnchorTargets(torch.tensor(labels), wanted, torch.zeros(5), torch.zeros(5, dtype=torch.long))


both = Exercise(
    "rpn_loss",
    rpn_loss,
    [
        (_scores, _predicted, _targets(1, 0, -1, 0, 1), 3.0),
        (_scores, _predicted, _targets(1, -1, -1, 0, 0), 1.0),
        (_scores, _wild, _targets(1, -1, 1, 0, 1), 3.0),
    ],
    [
        Mistake(_mean_over_all, "don't-care anchors are not in the sample: divide by how many labels are 0 or 1"),
        Mistake(_sum, "divide both terms by the number of sampled anchors, else the loss grows with batch_size"),
        Mistake(_over_foreground, "the regression term is divided by the number sampled, not by the foreground alone"),
        Mistake(_background_pays, "background anchors have no box to predict: only label 1 pays for coefficients"),
        Mistake(_mean_of_four, "the four terms of an anchor are summed, not averaged"),
        Mistake(
            _weights_after,
            "an infinite difference of an anchor that does not count gives 0 · inf = nan; set the difference to 0 "
            "(torch.where) before the loss",
        ),
    ],
)

EXERCISES = (loss, slope, both)
