"""The steps for all images of a batch at once.

A step is written for one image, as in the article, and `torch.vmap` makes of it one for many: each of its operations
then runs once for all images instead of once for each. An operation on 20,000 numbers takes a GPU a few microseconds,
and Python ten to twenty to ask for it: image by image, that asking would be most of a training step.

Images differ in their numbers of cells, objects and proposals. Where there are fewer, empty boxes follow, which
overlap nothing, and masks say what exists. So in all that a loss reads, each image gets the numbers that it would get
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rcnn_edu import anchor_target, proposal_target
from rcnn_edu.anchor_target import AnchorTargets, inside_image
from rcnn_edu.anchors import grid_anchors
from rcnn_edu.batch_nms import batched_nms_of_each, nms_of_each
from rcnn_edu.classifier import ClassifierOutput, Detections, confident
from rcnn_edu.config import AnchorTargetConfig, DetectionConfig, ProposalConfig, ProposalTargetConfig
from rcnn_edu.image_batch import Size, own_part
from rcnn_edu.proposal_layer import candidates
from rcnn_edu.proposal_target import ProposalTargets
from rcnn_edu.rpn import RPNOutput
from rcnn_edu.rpn_loss import RPNLoss, rpn_loss
from rcnn_edu.sampling import random_keys

Generators = Sequence[torch.Generator | None]


class Anchors(NamedTuple):
    """What the RPN says at every anchor of a batch's grid, which is that of its largest image."""

    class_scores: Tensor
    """`(B, A, 2)` logits."""
    coefficients: Tensor
    """`(B, A, 4)`."""
    boxes: Tensor
    """`(A, 4)`: the anchors themselves, the same for all images."""
    exist: Tensor
    """`(B, A)`: whether the anchor's cell is one of the image's own."""
    image_sizes: Tensor
    """`(B, 2)` float32: height and width of each image, without padding."""
    grid: Size
    """Rows and columns of cells."""
    cells: Sequence[Size]
    """Rows and columns of each image's own cells."""

    def of(self, images: slice) -> Anchors:
        """The same of some of the images."""
        scores, coefficients, exist, sizes = (
            part[images] for part in (self.class_scores, self.coefficients, self.exist, self.image_sizes)
        )
        return Anchors(scores, coefficients, self.boxes, exist, sizes, self.grid, self.cells[images])


class Objects(NamedTuple):
    """The ground truth of a batch, in pixels of the resized images."""

    boxes: Tensor
    """`(B, G, 4)`, G as in the image that has most; what is not there is empty."""
    labels: Tensor
    """`(B, G)`; 0 where there is no object."""
    counts: Sequence[int]
    """Objects of each image."""

    def of(self, images: slice) -> Objects:
        """The same of some of the images."""
        return Objects(self.boxes[images], self.labels[images], self.counts[images])


def all_anchors(
    output: RPNOutput, base: Tensor, stride: int, image_sizes: Sequence[Size], cells: Sequence[Size]
) -> Anchors:
    """The RPN's maps `(B, 2·K, H, W)` and `(B, 4·K, H, W)` as rows, in the order of `grid_anchors`.

    base: `(K, 4)` base anchors; image_sizes, cells: (height, width) of each image in pixels, and of its part of the
    maps.
    """
    rows, columns = output.class_scores.shape[2:]
    sizes = torch.tensor(image_sizes, dtype=torch.float32).to(base.device, non_blocking=True)
    exist = own_part(cells, (rows, columns), base.device)[:, 0, :, :, None].expand(-1, -1, -1, len(base))
    scores, coefficients = (
        maps.permute(0, 2, 3, 1).reshape(len(maps), -1, maps.shape[1] // len(base)) for maps in output
    )
    boxes = grid_anchors((rows, columns), stride, base)
    return Anchors(scores, coefficients, boxes, exist.flatten(1), sizes, (rows, columns), cells)


def all_objects(boxes: Sequence[Tensor], labels: Sequence[Tensor], factors: Tensor) -> Objects:
    """Boxes `(G, 4)` and labels `(G,)` of each image, padded; factors: `(B, 4)` from the images' own pixels."""
    padded = pad_sequence([one.float() for one in boxes], batch_first=True) * factors[:, None]
    return Objects(padded, pad_sequence([one.long() for one in labels], batch_first=True), [len(one) for one in boxes])


def label_all(anchors: Anchors, objects: Objects, config: AnchorTargetConfig, generators: Generators) -> AnchorTargets:
    """`anchor_targets` of each image: fields `(B, A)` and `(B, A, 4)`."""
    height, width = anchors.image_sizes.t()[:, :, None]
    inside = anchors.exist & inside_image(anchors.boxes, (height, width), config.allowed_border)
    keys = _keys_of_anchors(anchors, generators)
    step = partial(anchor_target.sampled_targets, config=config)
    labelled: AnchorTargets = torch.vmap(step, in_dims=(None, 0, 0, 0))(anchors.boxes, objects.boxes, inside, keys)
    return labelled


def all_rpn_losses(anchors: Anchors, wanted: AnchorTargets, sigma: float) -> RPNLoss:
    """`rpn_loss` of each image: `(B,)` each."""
    losses: RPNLoss = torch.vmap(partial(rpn_loss, sigma=sigma))(anchors.class_scores, anchors.coefficients, wanted)
    return losses


def propose_all(anchors: Anchors, config: ProposalConfig, differentiable: bool = False) -> list[Tensor]:
    """The boxes `(P, 4)` that `propose` finds in each image, with gradients to the coefficients if wanted."""
    objectness = anchors.class_scores.detach().float().softmax(dim=2)[..., 1]
    objectness = torch.where(anchors.exist, objectness, -torch.inf)
    coefficients = anchors.coefficients if differentiable else anchors.coefficients.detach()
    step = partial(candidates, config=config)
    boxes, scores, _ = torch.vmap(step, in_dims=(0, 0, None, 0))(
        objectness, coefficients, anchors.boxes, anchors.image_sizes
    )
    kept = nms_of_each(boxes.detach(), scores, config.nms_threshold, config.post_nms_top_n)
    return [some[rows] for some, rows in zip(boxes, kept, strict=True)]


def sample_all(
    proposals: Sequence[Tensor], objects: Objects, config: ProposalTargetConfig, generators: Generators
) -> list[ProposalTargets]:
    """`proposal_targets` of each image. proposals: `(P, 4)` each."""
    own = [boxes[:count] for boxes, count in zip(objects.boxes, objects.counts, strict=True)]
    rows = [torch.cat(parts) for parts in zip(proposals, own, strict=True)] if config.append_gt else list(proposals)
    if min(map(len, rows)) == 0:  # an image with nothing to sample from gives no RoIs: not as many as the others
        return [
            proposal_target.proposal_targets(boxes, of_image, labels[: len(of_image)], config, generator)
            for boxes, of_image, labels, generator in zip(proposals, own, objects.labels, generators, strict=True)
        ]
    numbers = [
        random_keys((2, len(some) + config.batch_size), some.device, generator)
        for some, generator in zip(rows, generators, strict=True)
    ]
    keys = pad_sequence([one[:, : -config.batch_size].t() for one in numbers], batch_first=True).mT
    repeats = torch.stack([one[:, -config.batch_size :] for one in numbers])
    counts = torch.tensor([len(some) for some in rows]).to(keys.device, non_blocking=True)
    exist = torch.arange(keys.shape[2], device=keys.device) < counts[:, None]
    step = partial(proposal_target.sampled_targets, config=config)
    sampled: ProposalTargets = torch.vmap(step)(
        pad_sequence(rows, batch_first=True), exist, objects.boxes, objects.labels, keys, repeats
    )
    return [ProposalTargets(*of_image) for of_image in zip(*sampled, strict=True)]


def detect_all(
    output: ClassifierOutput,
    rois: Sequence[Tensor],
    image_sizes: Sequence[Size],
    config: DetectionConfig,
    target_std: Sequence[float],
) -> list[Detections]:
    """`detections` of each image. output: of all RoIs; rois: `(R, 4)` each; image_sizes: (height, width) each."""
    image = torch.tensor([i for i, boxes in enumerate(rois) for _ in range(len(boxes))], dtype=torch.int64)
    image = image.to(output.class_scores.device, non_blocking=True)
    sizes = torch.tensor(image_sizes, dtype=torch.float32).to(image.device, non_blocking=True)
    region, boxes, label, scores = confident(
        *output, torch.cat(list(rois)), sizes[image], config.score_threshold, target_std
    )
    kept = batched_nms_of_each(
        boxes, scores, label, image[region], len(rois), config.nms_threshold, config.max_detections
    )
    rows, counts = torch.cat(kept), [len(one) for one in kept]
    parts = zip(boxes[rows].split(counts), label[rows].split(counts), scores[rows].split(counts), strict=True)
    return [Detections(*of_image) for of_image in parts]


def _keys_of_anchors(anchors: Anchors, generators: Generators) -> Tensor:
    """`(B, 2, A)` random numbers; each image draws as many as it has anchors of its own."""
    rows, columns = anchors.grid
    per_cell = len(anchors.boxes) // (rows * columns)
    keys = []
    for (height, width), generator in zip(anchors.cells, generators, strict=True):
        own = random_keys((2, height * width * per_cell), anchors.boxes.device, generator)
        around = (0, 0, 0, columns - width, 0, rows - height)
        keys.append(F.pad(own.view(2, height, width, per_cell), around).flatten(1))
    return torch.stack(keys)
