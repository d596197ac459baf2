"""Proposal layer: from the RPN's raw output to a few hundred boxes worth looking at.

Article "Proposal Layer" · Faster R-CNN (arXiv 1506.01497) §3.1, §3.3 · notebook 04

    anchors (A, 4) + coefficients (A, 4) + objectness (A,)
        →  the best `pre_nms_top_n` by score      12,000 in training, 6,000 in inference
        →  decode: each anchor moved and resized by its four coefficients
        →  clip at the image's border, drop what is left empty or too small
        →  non-maximum suppression at IoU 0.7
        →  the best `post_nms_top_n`               2,000 in training, 300 in inference
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rcnn_edu.boxes import clip_boxes, decode_boxes
from rcnn_edu.config import ProposalConfig
from rcnn_edu.nms import nms


class Proposals(NamedTuple):
    """What the RPN proposes for one image, best first."""

    boxes: Tensor
    """`(P, 4)` float32 in pixels of the resized image."""
    scores: Tensor
    """`(P,)` float32: their objectness."""
    non_finite: Tensor
    """0-d int64: rows dropped because a score or coefficient was not finite; above 0 means that training diverged."""


def propose(
    objectness: Tensor,
    coefficients: Tensor,
    anchors: Tensor,
    image_size: tuple[int, int],
    config: ProposalConfig = ProposalConfig(),
) -> Proposals:
    """The boxes of one image that are passed on to the classifier.

    objectness: `(A,)`, any score that grows with the belief in an object; coefficients: `(A, 4)`; anchors: `(A, 4)`;
    image_size: (height, width) of the resized image in pixels. The choice of boxes has no gradient; their coordinates
    do, with respect to the coefficients (the model detaches those, unless its RoIs are to be differentiable).
    """
    boxes, scores, non_finite = candidates(objectness, coefficients, anchors, image_size, config)
    kept = nms(boxes.detach(), scores, config.nms_threshold, max_kept=config.post_nms_top_n)
    return Proposals(boxes[kept], scores[kept], non_finite)


def candidates(
    objectness: Tensor,
    coefficients: Tensor,
    anchors: Tensor,
    image_size: tuple[int, int] | Tensor,
    config: ProposalConfig,
) -> tuple[Tensor, Tensor, Tensor]:
    """What suppression chooses from: boxes `(N, 4)`, scores `(N,)`, best first, and `Proposals.non_finite`.

    The score of a box that cannot be used is NaN: suppression leaves it out. (To take it out here, a GPU would have to
    say how many are left.) image_size: also as a tensor `(2,)`; the rest as in `propose`.
    """
    objectness, coefficients = objectness.detach().float(), coefficients.float()
    finite = torch.isfinite(objectness) & torch.isfinite(coefficients).all(dim=1)

    ranked = torch.where(finite, objectness, -torch.inf)
    scores, best = ranked.topk(min(config.pre_nms_top_n, len(ranked)))
    boxes = clip_boxes(decode_boxes(anchors[best], coefficients[best]), image_size)

    sides = boxes[:, 2:] - boxes[:, :2]
    usable = finite[best] & (sides > 0).all(dim=1) & (sides >= config.min_size).all(dim=1)
    return boxes, torch.where(usable, scores, torch.nan), (~finite).sum()
