"""Proposal target layer: which proposals the classifier learns from, and what each should become.

Article "Proposal Target Layer" · Fast R-CNN (arXiv 1504.08083) §2.3 · notebook 07

    P  proposals                            labels   0 background, 1…C the class of the object that it overlaps most
    R  sampled regions of interest (128)    targets  coefficients from RoI to object, divided by (0.1, 0.1, 0.2, 0.2)

A proposal is foreground when it overlaps some object by at least 0.5, and background in [0.1, 0.5): the near misses,
hard negatives. A quarter of the 128 is foreground if there are so many; the rest is background, repeated at random if
there are too few. The number of RoIs is always the same.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rcnn_edu.boxes import box_iou, encode_boxes
from rcnn_edu.config import ProposalTargetConfig
from rcnn_edu.sampling import draw, random_keys


class ProposalTargets(NamedTuple):
    """The sampled regions of one image, foreground first, and what the classifier should say of each."""

    rois: Tensor
    """`(R, 4)` float32 in pixels of the resized image."""
    labels: Tensor
    """`(R,)` int64: 0 background, 1…C."""
    targets: Tensor
    """`(R, 4)` float32: normalised coefficients; zeros for background."""
    max_iou: Tensor
    """`(R,)` float32: IoU with the object that the RoI overlaps most."""
    matched_gt: Tensor
    """`(R,)` int64: row of that object; −1 in an image without objects."""


def proposal_targets(
    proposals: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    config: ProposalTargetConfig = ProposalTargetConfig(),
    generator: torch.Generator | None = None,
) -> ProposalTargets:
    """Sample R = `config.batch_size` regions of one image and say what each should become.

    proposals: `(P, 4)`; gt_boxes: `(G, 4)`; gt_labels: `(G,)` in 1…C; G may be 0. R is 0 only when there is nothing
    to sample from: no proposal and no object. Gradients pass from `rois` to `proposals`, if those have any.
    """
    candidates = torch.cat([proposals, gt_boxes]) if config.append_gt else proposals
    if len(candidates) == 0:
        nothing = torch.empty(0, dtype=torch.int64, device=candidates.device)
        return ProposalTargets(candidates, nothing, candidates, candidates[:, 0], nothing)

    exist = torch.ones(len(candidates), dtype=torch.bool, device=candidates.device)
    numbers = random_keys((2, len(candidates) + config.batch_size), candidates.device, generator)
    keys, repeats = numbers.split([len(candidates), config.batch_size], dim=1)
    return sampled_targets(candidates, exist, gt_boxes, gt_labels, keys, repeats, config)


def sampled_targets(
    candidates: Tensor,
    exist: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    keys: Tensor,
    repeats: Tensor,
    config: ProposalTargetConfig,
) -> ProposalTargets:
    """`proposal_targets` as a function of what it draws: keys `(2, N)` and repeats `(2, R)`, uniform in [0, 1).

    candidates: `(N, 4)`, the proposals and, if wanted, the objects; those that do not `exist`, `(N,)`, are never
    chosen, but one at least must. Empty boxes among `gt_boxes` change nothing.
    """
    max_iou, matched_gt = _match(candidates.detach(), gt_boxes)
    chosen, foreground = _sample(max_iou, exist, keys, repeats, config)
    rois, max_iou, matched_gt = candidates[chosen], max_iou[chosen], matched_gt[chosen]
    if len(gt_boxes) == 0:
        return ProposalTargets(rois, torch.zeros_like(matched_gt), torch.zeros_like(rois), max_iou, matched_gt)

    labels = torch.where(foreground, gt_labels[matched_gt].long(), 0)
    std = torch.tensor(config.target_std).to(rois.device, non_blocking=True)  # a blocking copy would wait for the GPU
    coefficients = encode_boxes(rois.detach(), gt_boxes[matched_gt]) / std
    targets = torch.where(foreground[:, None], coefficients, 0.0)
    return ProposalTargets(rois, labels, targets, max_iou, matched_gt)


def expand_targets(targets: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """The article's table: each RoI's four targets in the columns of its class, zeros elsewhere.

    targets: `(R, 4)`; labels: `(R,)` in 0…num_classes−1, background 0 included in the count.
    Returns `(targets (R, 4·C), inside_weights (R, 4·C))`; the weights are 1 where the targets count.
    """
    classes = torch.arange(num_classes, device=labels.device)
    own_class = (labels[:, None] == classes) & (labels[:, None] > 0)
    inside_weights = own_class[:, :, None].expand(-1, -1, 4).to(targets.dtype)
    expanded = torch.where(own_class[:, :, None], targets[:, None, :], 0.0)
    return expanded.flatten(1), inside_weights.flatten(1)


def _match(candidates: Tensor, gt_boxes: Tensor) -> tuple[Tensor, Tensor]:
    if len(gt_boxes) == 0:
        return candidates.new_zeros(len(candidates)), candidates.new_full((len(candidates),), -1, dtype=torch.int64)
    max_iou, matched_gt = box_iou(candidates, gt_boxes).max(dim=1)
    return max_iou, matched_gt


def _sample(
    max_iou: Tensor, exist: Tensor, keys: Tensor, repeats: Tensor, config: ProposalTargetConfig
) -> tuple[Tensor, Tensor]:
    """Rows of the R chosen candidates, foreground first, and the `(R,)` mask of those that are foreground."""
    size = config.batch_size
    foreground = exist & (max_iou >= config.fg_threshold)
    below = exist & (max_iou < config.bg_threshold_hi)
    hard = below & (max_iou >= config.bg_threshold_lo)
    # No near miss: fall back to the easy ones. No easy one either (a gap between the thresholds): to all that is left.
    background = torch.where(hard.any(), hard, torch.where(below.any(), below, exist & ~foreground))

    num_foreground = foreground.sum().clamp(max=round(config.fg_fraction * size))
    num_foreground = torch.where(background.any(), num_foreground, size)

    needed = torch.stack([num_foreground, size - num_foreground])
    foreground_rows, background_rows = draw(torch.stack([foreground, background]), needed, keys, repeats)
    position = torch.arange(size, device=max_iou.device)
    is_foreground = position < num_foreground
    # Background row number 0 sits right behind the last foreground row.
    background_position = (position - num_foreground).clamp(min=0)
    return torch.where(is_foreground, foreground_rows, background_rows[background_position]), is_foreground
