"""Each step as textbooks and earlier implementations have it: what ours is measured against, and tested to equal.

- Crop pooling in the article's words: `affine_grid`, and `grid_sample` on a feature map expanded to one per RoI.
- Anchor and proposal targets in NumPy, in the manner of py-faster-rcnn: index lists from `np.where`, random choices
  from them, and "unmapping" of the anchors inside the image to all of them. Vectorised; IoU in NumPy too.
- The same two as torchvision computes them: the methods of its `RegionProposalNetwork` and `RoIHeads`.

All of them need at least one object.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork

from rcnn_edu.config import AnchorTargetConfig, ProposalTargetConfig
from rcnn_edu.crop_pooling import affine_matrices

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def expanded_crop_pool(features: Tensor, rois: Tensor, stride: int = 16, output_size: int = 7) -> Tensor:
    """The article's crop pooling: features `(1, C, H, W)`, rois `(R, 4)` → `(R, C, output_size, output_size)`."""
    theta = affine_matrices(rois, (features.shape[2], features.shape[3]), stride)
    grid = F.affine_grid(theta, [len(rois), features.shape[1], output_size, output_size], align_corners=True)
    return F.grid_sample(features.expand(len(rois), -1, -1, -1), grid, align_corners=True)


def numpy_iou(a: Floats, b: Floats) -> Floats:
    """`(N, 4)` and `(M, 4)` → `(N, M)`."""
    left_top = np.maximum(a[:, None, :2], b[None, :, :2])
    right_bottom = np.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = (right_bottom - left_top).clip(min=0).prod(axis=2)
    area_a, area_b = (box[:, 2:] - box[:, :2] for box in (a, b))
    union = area_a.prod(axis=1)[:, None] + area_b.prod(axis=1)[None, :] - intersection
    iou: Floats = intersection / union
    return iou


def numpy_encode(references: Floats, targets: Floats) -> Floats:
    """The coefficients from each reference to its target, both `(N, 4)`."""
    size, target_size = references[:, 2:] - references[:, :2], targets[:, 2:] - targets[:, :2]
    shift = (targets[:, :2] + target_size / 2 - references[:, :2] - size / 2) / size
    return np.hstack([shift, np.log(target_size / size)])


def numpy_anchor_targets(
    anchors: Floats,
    gt_boxes: Floats,
    image_size: tuple[int, int],
    config: AnchorTargetConfig,
    rng: np.random.Generator,
) -> tuple[Ints, Floats]:
    """Labels `(A,)` after sampling, and targets `(A, 4)`, zeros for anchors that leave the image."""
    height, width = image_size
    inside = np.where(
        (anchors[:, 0] >= 0) & (anchors[:, 1] >= 0) & (anchors[:, 2] <= width) & (anchors[:, 3] <= height)
    )[0]
    candidates = anchors[inside]

    overlaps = numpy_iou(candidates, gt_boxes)
    matched = overlaps.argmax(axis=1)
    max_overlaps = overlaps[np.arange(len(inside)), matched]
    best = overlaps.max(axis=0)
    best_anchors = np.where((overlaps == best) & (best > 0))[0]

    labels = np.full(len(inside), -1)
    labels[max_overlaps < config.negative_overlap] = 0
    labels[best_anchors] = 1
    labels[max_overlaps >= config.positive_overlap] = 1

    foreground, most = np.where(labels == 1)[0], int(config.fg_fraction * config.batch_size)
    if len(foreground) > most:
        labels[rng.choice(foreground, len(foreground) - most, replace=False)] = -1
    background, most = np.where(labels == 0)[0], config.batch_size - np.sum(labels == 1)
    if len(background) > most:
        labels[rng.choice(background, len(background) - most, replace=False)] = -1

    all_labels = np.full(len(anchors), -1)
    all_labels[inside] = labels
    targets = np.zeros_like(anchors)
    targets[inside] = numpy_encode(candidates, gt_boxes[matched])
    return all_labels, targets


def numpy_proposal_targets(
    proposals: Floats, gt_boxes: Floats, gt_labels: Ints, config: ProposalTargetConfig, rng: np.random.Generator
) -> tuple[Floats, Ints, Floats]:
    """RoIs `(R, 4)`, labels `(R,)` and normalised targets `(R, 4)`, foreground first; R may be less than wanted."""
    candidates = np.vstack([proposals, gt_boxes])
    overlaps = numpy_iou(candidates, gt_boxes)
    matched = overlaps.argmax(axis=1)
    max_overlaps = overlaps.max(axis=1)

    foreground = np.where(max_overlaps >= config.fg_threshold)[0]
    count = min(round(config.fg_fraction * config.batch_size), len(foreground))
    foreground = rng.choice(foreground, count, replace=False)
    near = (max_overlaps < config.bg_threshold_hi) & (max_overlaps >= config.bg_threshold_lo)
    background = np.where(near)[0]
    count = min(config.batch_size - count, len(background))
    background = rng.choice(background, count, replace=False)

    kept = np.append(foreground, background)
    rois, matched = candidates[kept], matched[kept]
    labels = gt_labels[matched]
    labels[len(foreground) :] = 0
    std: Floats = np.asarray(config.target_std, dtype=np.float32)
    targets = numpy_encode(rois, gt_boxes[matched]) / std
    targets[len(foreground) :] = 0
    return rois, labels, targets


class TorchvisionTargets:
    """torchvision's assignment and sampling with the numbers of our configurations."""

    def __init__(self, anchor: AnchorTargetConfig, proposal: ProposalTargetConfig) -> None:
        none, never = nn.Identity(), {"training": 1, "testing": 1}
        self._rpn = RegionProposalNetwork(
            none, none, anchor.positive_overlap, anchor.negative_overlap, anchor.batch_size, anchor.fg_fraction,
            never, never, 0.7,
        )  # fmt: skip
        self._heads = RoIHeads(
            none, none, none, proposal.fg_threshold, proposal.bg_threshold_hi, proposal.batch_size,
            proposal.fg_fraction, tuple(1 / s for s in proposal.target_std), 0.05, 0.5, 100,
        )  # fmt: skip

    def anchors(self, anchors: Tensor, gt_boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of the sampled foreground and background anchors, and all anchors' targets `(A, 4)`."""
        labels, matched = self._rpn.assign_targets_to_anchors([anchors], [{"boxes": gt_boxes}])
        foreground, background = self._rpn.fg_bg_sampler(labels)
        rows = (torch.where(torch.cat(one))[0] for one in (foreground, background))
        return *rows, self._rpn.box_coder.encode(matched, [anchors])[0]

    def proposals(self, proposals: Tensor, gt_boxes: Tensor, gt_labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """RoIs `(R, 4)`, labels `(R,)` and normalised targets `(R, 4)`."""
        target = {"boxes": gt_boxes, "labels": gt_labels}
        rois, _, labels, targets = self._heads.select_training_samples([proposals], [target])
        return rois[0], labels[0], targets[0]
