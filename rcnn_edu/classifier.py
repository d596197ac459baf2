"""Classification layer: what is in each region, and where exactly.

Article "Classification Layer" and "Classification Layer Loss" · Fast R-CNN (arXiv 1504.08083) §2.1–2.3 · notebook 09

    crops (R, 1024, 7, 7)  →  tail (a ResNet's layer4)  →  mean over space: fc7 (R, 2048)
                           →  cls_score_net: class scores (R, C), background first
                           →  bbox_pred_net: coefficients (R, 4·C), four for each class

C counts background. A region's box is refined once more, by the four coefficients of the class that it turns out to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnn_edu.boxes import clip_boxes, decode_boxes
from rcnn_edu.config import DetectionConfig, ProposalTargetConfig
from rcnn_edu.nms import batched_nms
from rcnn_edu.proposal_target import ProposalTargets
from rcnn_edu.rpn_loss import smooth_l1


class ClassifierOutput(NamedTuple):
    """What the classifier says of each region."""

    class_scores: Tensor
    """`(R, C)` logits, background first."""
    coefficients: Tensor
    """`(R, 4·C)`, normalised by `target_std`; columns 4c … 4c+3 belong to class c."""


class ClassifierLoss(NamedTuple):
    """The two terms, both 0-d float32."""

    classification: Tensor
    regression: Tensor


class Detections(NamedTuple):
    """The final boxes of one image, best first."""

    boxes: Tensor
    """`(D, 4)` float32 in pixels of the resized image."""
    labels: Tensor
    """`(D,)` int64 in 1…C−1."""
    scores: Tensor
    """`(D,)` float32: class probabilities."""


class Classifier(nn.Module):
    """The tail of the backbone and two linear layers: one says what, the other where.

    tail: module from crops `(R, ·, n, n)` to `(R, D, m, m)` or `(R, D)`; D is its `out_channels`, or else that of the
    last layer in it that has any; num_classes: C, background included. Raises `TypeError` if no layer has.
    """

    def __init__(self, tail: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.tail = tail
        channels = _channels(tail)
        self.cls_score_net = nn.Linear(channels, num_classes)
        self.bbox_pred_net = nn.Linear(channels, 4 * num_classes)
        nn.init.normal_(self.cls_score_net.weight, std=0.01)
        nn.init.normal_(self.bbox_pred_net.weight, std=0.001)
        nn.init.zeros_(self.cls_score_net.bias)
        nn.init.zeros_(self.bbox_pred_net.bias)

    def forward(self, crops: Tensor) -> ClassifierOutput:
        """`(R, channels, n, n)` crops → class scores `(R, C)` and coefficients `(R, 4·C)`."""
        return self.predict(self.fc7(crops))

    def fc7(self, crops: Tensor) -> Tensor:
        """The vector that describes each region: `(R, D)`."""
        return mean_over_space(self.tail(crops))

    def predict(self, fc7: Tensor) -> ClassifierOutput:
        """`(R, D)` → class scores and coefficients."""
        return ClassifierOutput(self.cls_score_net(fc7), self.bbox_pred_net(fc7))


def _channels(tail: nn.Module) -> int:
    for layer in (tail, *reversed(list(tail.modules()))):
        for name in ("out_channels", "out_features"):
            if isinstance(channels := getattr(layer, name, None), int):
                return channels
    raise TypeError(f"the tail must say how many channels it gives: {type(tail).__name__} has no out_channels")


def mean_over_space(described: Tensor) -> Tensor:
    """`(R, D, m, m)` → `(R, D)`; what has no space left, `(R, D)`, stays as it is."""
    if described.ndim == 2:
        return described
    # Summed over one flat axis with the channels behind it, then divided: the gradient of the sum is a view that takes
    # no memory, and what is made of it further back comes out channels last.
    places = described.permute(0, 2, 3, 1).flatten(1, 2)
    return places.sum(dim=1) / places.shape[1]


def classifier_loss(
    class_scores: Tensor, coefficients: Tensor, targets: ProposalTargets, sigma: float = 1.0
) -> ClassifierLoss:
    """Mean cross-entropy over the RoIs; smooth L1 of the true class's four coefficients, summed, over the RoIs.

    class_scores: `(R, C)` logits; coefficients: `(R, 4·C)`. The other classes' coefficients, and all of a background
    RoI's, cost nothing. With no RoIs at all both terms are 0.
    """
    class_scores, coefficients = class_scores.float(), coefficients.float()
    labels = targets.labels
    regions = max(len(labels), 1)
    classification = F.cross_entropy(class_scores, labels, reduction="sum") / regions
    own = coefficients.unflatten(1, (-1, 4)).gather(1, labels[:, None, None].expand(-1, 1, 4))[:, 0]
    difference = torch.where((labels > 0)[:, None], own - targets.targets, 0.0)
    return ClassifierLoss(classification, smooth_l1(difference, sigma).sum() / regions)


def detections(
    class_scores: Tensor,
    coefficients: Tensor,
    rois: Tensor,
    image_size: tuple[int, int],
    config: DetectionConfig = DetectionConfig(),
    target_std: Sequence[float] = ProposalTargetConfig().target_std,
) -> Detections:
    """From class scores and coefficients to the final boxes of one image.

    Softmax; every class but background with a probability above `score_threshold` decodes its own four coefficients;
    clip; suppress within each class; keep the best `max_detections`.

    class_scores: `(R, C)` logits; coefficients: `(R, 4·C)` as predicted, normalised by `target_std`; rois: `(R, 4)`;
    image_size: (height, width) of the resized image in pixels.
    """
    _, boxes, label, scores = confident(
        class_scores, coefficients, rois, image_size, config.score_threshold, target_std
    )
    kept = batched_nms(boxes, scores, label, config.nms_threshold, max_kept=config.max_detections)
    return Detections(boxes[kept], label[kept], scores[kept])


def confident(
    class_scores: Tensor,
    coefficients: Tensor,
    rois: Tensor,
    image_size: tuple[int, int] | Tensor,
    score_threshold: float,
    target_std: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The first half of `detections`, also for RoIs of several images: image_size may be `(R, 2)`, one for each RoI.

    Returns, for every class of a region that is probable enough, in the order of regions and classes: the region's row,
    the box `(N, 4)`, the label, and the score, which is NaN for an empty box.
    """
    probabilities = torch.softmax(class_scores.detach().float(), dim=1)
    region, label = torch.nonzero(probabilities[:, 1:] > score_threshold, as_tuple=True)
    label = label + 1
    scores = probabilities[region, label]

    own = coefficients.detach().float().unflatten(1, (-1, 4))[region, label]
    std = torch.tensor(target_std).to(own.device, non_blocking=True)
    size = image_size[region] if isinstance(image_size, Tensor) and image_size.ndim == 2 else image_size
    boxes = clip_boxes(decode_boxes(rois[region], own * std), size)
    usable = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return region, boxes, label, torch.where(usable, scores, torch.nan)
