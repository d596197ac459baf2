"""RPN loss: how wrong the RPN was about the sampled anchors.

Article "RPN Loss" · Faster R-CNN (arXiv 1506.01497) eq. 1 · Fast R-CNN (arXiv 1504.08083) eq. 3 · notebook 06

    classification   cross-entropy, background against foreground, averaged over the sampled anchors
    regression       smooth L1 of the four coefficients, summed over foreground anchors, over the number sampled

Background and don't-care anchors have no box to predict, and pay nothing for the box that they predict.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnn_edu.anchor_target import DONT_CARE, FOREGROUND, AnchorTargets


class RPNLoss(NamedTuple):
    """The two terms, both 0-d float32."""

    classification: Tensor
    regression: Tensor


def smooth_l1(x: Tensor, sigma: float) -> Tensor:
    """½(σx)² where |x| < 1/σ², |x| − ½/σ² beyond: elementwise, any shape.

    A parabola near 0, so that small errors are forgiven, and a line of slope ±1 further out, so that one wild box
    cannot dominate. A larger sigma narrows the parabola.
    """
    square = sigma * sigma
    distance = x.abs()
    return torch.where(distance < 1 / square, 0.5 * square * x * x, distance - 0.5 / square)


def rpn_loss(class_scores: Tensor, coefficients: Tensor, targets: AnchorTargets, sigma: float = 3.0) -> RPNLoss:
    """The RPN's loss on one image.

    class_scores: `(A, 2)` logits, background first; coefficients: `(A, 4)` as predicted; targets: what they should be.
    """
    # float32 whatever the network computes in: bfloat16 has three digits, too few for a sum over 256 anchors.
    class_scores, coefficients = class_scores.float(), coefficients.float()
    sampled = (targets.labels != DONT_CARE).sum().clamp(min=1)
    classification = F.cross_entropy(class_scores, targets.labels, ignore_index=DONT_CARE, reduction="sum")
    # The mask is applied to the difference, before the loss: a masked anchor then adds exactly nothing, even where its
    # own difference is not finite. (The article multiplies by bbox_inside_weights, and 0 · inf would be NaN.)
    foreground = (targets.labels == FOREGROUND)[:, None]
    difference = torch.where(foreground, coefficients - targets.targets, 0.0)
    return RPNLoss(classification / sampled, smooth_l1(difference, sigma).sum() / sampled)
