"""Faster R-CNN: the ten steps joined, losses in training, detections in evaluation.

Article "Network Organization", "Training" and "Inference" · Faster R-CNN (arXiv 1506.01497)

    images ─ preprocess ─ head ─ features ─┬─ RPN ─┬─ anchor targets ─ RPN loss                  (training)
                                           │       └─ proposals ─ proposal targets ─┐
                                           └────────────────── crop pooling ◄───────┘ RoIs
                                                                    │
                                                          tail ─ classifier ─┬─ classifier loss  (training)
                                                                             └─ detections       (inference)

Steps are written for one image and run for all of a batch (batch_steps.py). The model has torchvision's interface.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from rcnn_edu.anchor_target import AnchorTargets, anchor_targets
from rcnn_edu.anchors import base_anchors, grid_anchors
from rcnn_edu.backbone import STRIDE, build_backbone, feature_size
from rcnn_edu.batch_steps import (
    Anchors,
    all_anchors,
    all_objects,
    all_rpn_losses,
    detect_all,
    label_all,
    propose_all,
    sample_all,
)
from rcnn_edu.classifier import (
    Classifier,
    ClassifierOutput,
    Detections,
    classifier_loss,
    detections,
    mean_over_space,
)
from rcnn_edu.config import Config, ProposalConfig
from rcnn_edu.crop_pooling import crop_maps
from rcnn_edu.frozen_batch_norm import weights_made_once
from rcnn_edu.image_batch import ImageBatch, Size, own_part, prepare_images
from rcnn_edu.proposal_layer import Proposals, propose
from rcnn_edu.proposal_target import ProposalTargets, proposal_targets
from rcnn_edu.rpn import RPN, RPNOutput
from rcnn_edu.tail import Tail
from rcnn_edu.targets import Target, check_targets
from rcnn_edu.trace import Trace, trace

ROIS_AT_ONCE = 75
"""RoIs that the classifier sees at most at a time in inference on a CPU; twice as many in bfloat16. What layer4 makes
of so many, 49 · 2048 numbers each, is below 32 MiB; for larger blocks glibc asks for fresh pages each time."""


class FasterRCNN(nn.Module):
    """Faster R-CNN, ready to train or, after `load_state_dict`, to detect.

    config: every number, by default the article's; classes: names without background, for captions and reports;
    generator: source of the two layers' random samples, by default torch's own.
    Raises `UserError` when pretrained weights cannot be had, `ValueError` when the names do not match the config.
    """

    def __init__(
        self,
        config: Config = Config(),
        classes: Sequence[str] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if classes is not None and len(classes) != config.num_classes - 1:
            raise ValueError(f"{len(classes)} class names for num_classes {config.num_classes}, background included")
        if config.anchors.stride != STRIDE:
            raise ValueError(f"anchors.stride is {config.anchors.stride}; every backbone here has a stride of {STRIDE}")
        self.config = config
        self.classes = tuple(classes) if classes else tuple(f"class {i}" for i in range(1, config.num_classes))
        self.generator = generator
        self.trained_on: dict[str, Any] = {}
        """What the weights were trained on, if they came from a checkpoint: see checkpoint.describe_data."""
        self.head, tail = build_backbone(config)
        channels = min(512, max(256, self.head.out_channels)) if config.rpn_channels is None else config.rpn_channels
        self.rpn = RPN(self.head.out_channels, channels, config.anchors.per_position)
        self.classifier = Classifier(tail, config.num_classes)
        anchors = base_anchors(config.anchors.base_size, config.anchors.ratios, config.anchors.scales)
        self.base_anchors: Tensor
        self.register_buffer("base_anchors", anchors, persistent=False)
        # Channels last is the layout in which convolutions are fastest, and in which crop pooling reads whole rows.
        self.to(memory_format=torch.channels_last)

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Sequence[Target] | None = None,
        seeds: Sequence[int] | None = None,
        target_size: int | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training mode, detections in evaluation mode.

        images: `(3, H, W)` each, any mix of sizes, uint8 or floating point in 0..1.
        targets (training): per image `{"boxes": (G, 4), "labels": (G,)}` in the image's own pixels, labels in
        1…num_classes−1, G may be 0; other keys are ignored.
        seeds (training): per image, fixes what is drawn for it, whatever else is in the batch (none: `generator`).
        target_size (training): shorter side of this batch in pixels (none: the configuration's).
        Returns in training the four losses `rpn_classification`, `rpn_regression`, `classification`, `regression`
        (0-d, means over the batch); in evaluation per image `{"boxes", "labels", "scores"}` in its own pixels.
        Raises `ValueError` for an unusable image or target, naming it.
        """
        if self.training:
            if targets is None:
                raise ValueError("targets are needed in training mode; call model.eval() to detect")
            return self.losses(images, targets, seeds, target_size)
        return self.detect(images)

    def losses(
        self,
        images: Sequence[Tensor],
        targets: Sequence[Target],
        seeds: Sequence[int] | None = None,
        target_size: int | None = None,
    ) -> dict[str, Tensor]:
        """The four losses; see `forward`."""
        if len(images) != len(targets):
            raise ValueError(f"{len(images)} images, but {len(targets)} targets")
        check_targets(targets, self.config.num_classes)
        batch = self.prepare(images, target_size)
        features, rpn_output = self.look(batch)
        anchors = self.all_anchors(rpn_output, batch)
        objects = all_objects([one["boxes"] for one in targets], [one["labels"] for one in targets], batch.factors())

        # All at once if each image draws for itself. If all draw from one source, each takes what it would alone.
        groups, generators = [slice(i, i + 1) for i in range(len(images))], [self.generator] * len(images)
        if seeds:
            groups, generators = [slice(None)], [torch.Generator(features.device).manual_seed(seed) for seed in seeds]
        rpn_losses, sampled = [], []
        for group in groups:
            some, own = anchors.of(group), objects.of(group)
            wanted = label_all(some, own, self.config.anchor_target, generators[group])
            rpn_losses.append(all_rpn_losses(some, wanted, self.config.rpn_sigma))
            proposals = propose_all(some, self.config.proposals, self.config.crop_pooling.differentiable_rois)
            sampled += sample_all(proposals, own, self.config.proposal_target, generators[group])

        output = self.classify(features, [one.rois for one in sampled])
        everything = ProposalTargets(*(torch.cat(parts) for parts in zip(*sampled, strict=True)))
        loss = classifier_loss(output.class_scores, output.coefficients, everything, self.config.classifier_sigma)
        return {
            "rpn_classification": torch.cat([one.classification for one in rpn_losses]).mean(),
            "rpn_regression": torch.cat([one.regression for one in rpn_losses]).mean(),
            "classification": loss.classification,
            "regression": loss.regression,
        }

    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Per image its final boxes, labels and scores, best first; see `forward`."""
        batch = self.prepare(images)
        features, rpn_output = self.look(batch)
        rois = propose_all(self.all_anchors(rpn_output, batch), self.config.test_proposals)
        output = self.classify(features, rois)
        detected = detect_all(output, rois, batch.sizes, self.config.detection, self.config.proposal_target.target_std)
        return [
            {"boxes": found.boxes / factors, "labels": found.labels, "scores": found.scores}
            for found, factors in zip(detected, batch.factors(), strict=True)
        ]

    def trace(self, image: Tensor, target: Target | None = None) -> Trace:
        """Every intermediate of one image by name; see `Trace`."""
        return trace(self, image, target)

    # The steps with this model's configuration, shared by the two paths above and by the trace.

    def prepare(self, images: Sequence[Tensor], target_size: int | None = None) -> ImageBatch:
        """Resize and normalise each image, and pad all to one size."""
        config = self.config.preprocessing
        return prepare_images(images, config if target_size is None else replace(config, target_size=target_size))

    def look(self, batch: ImageBatch) -> tuple[Tensor, RPNOutput]:
        """Features of the batch, and what the RPN says of them."""
        features = self.head(batch.pixels)
        if len(set(batch.sizes)) > 1:
            # Beyond its own border each image continues with zeros, as it would alone.
            cells = [feature_size(size) for size in batch.sizes]
            features = features * own_part(cells, (features.shape[2], features.shape[3]), features.device)
        return features, self.rpn(features)

    def at_anchors(self, output: RPNOutput, batch: ImageBatch, image: int) -> tuple[Tensor, Tensor, Tensor]:
        """One image's class scores `(A, 2)`, coefficients `(A, 4)` and anchors `(A, 4)`."""
        cells = feature_size(batch.sizes[image])
        return *output.of_image(image, cells), grid_anchors(cells, self.config.anchors.stride, self.base_anchors)

    def all_anchors(self, output: RPNOutput, batch: ImageBatch) -> Anchors:
        """The same of all images."""
        cells = [feature_size(size) for size in batch.sizes]
        return all_anchors(output, self.base_anchors, self.config.anchors.stride, batch.sizes, cells)

    def label(self, anchors: Tensor, gt_boxes: Tensor, image_size: Size) -> AnchorTargets:
        """What the RPN should say at one image's anchors."""
        return anchor_targets(anchors, gt_boxes, image_size, self.config.anchor_target, self.generator)

    def propose(
        self, class_scores: Tensor, coefficients: Tensor, anchors: Tensor, image_size: Size, config: ProposalConfig
    ) -> Proposals:
        """Proposals of one image; its objectness is the softmax probability of foreground."""
        objectness = class_scores.detach().float().softmax(dim=1)[:, 1]
        if not self.config.crop_pooling.differentiable_rois:
            coefficients = coefficients.detach()
        return propose(objectness, coefficients, anchors, image_size, config)

    def sample(self, proposals: Proposals, gt_boxes: Tensor, gt_labels: Tensor) -> ProposalTargets:
        """The RoIs of one image that the classifier learns from."""
        return proposal_targets(proposals.boxes, gt_boxes, gt_labels, self.config.proposal_target, self.generator)

    def crop(self, maps: Sequence[Tensor], rois: Sequence[Tensor]) -> list[Tensor]:
        """Crops of all RoIs of the batch, from each map."""
        pooling, stride = self.config.crop_pooling, self.config.anchors.stride
        options: dict[str, Any] = {"mode": pooling.mode, "differentiable_rois": pooling.differentiable_rois}
        return crop_maps(maps, rois, stride, pooling.output_size, **options)

    def classify(self, features: Tensor, rois: Sequence[Tensor]) -> ClassifierOutput:
        """`self.classifier(*self.crop([features], rois))`, with less arithmetic: see tail.py."""
        maps = cast(Tail, self.classifier.tail).project(features)
        if torch.is_grad_enabled() or features.is_cuda:
            return self._classify(maps, rois)
        # Nothing is kept for a gradient, so on a CPU a few RoIs at a time make do with little memory.
        at_once = ROIS_AT_ONCE * 4 // maps[0].element_size()
        with weights_made_once(self.classifier.tail):
            outputs = [
                self._classify([one[image : image + 1] for one in maps], [some])
                for image, boxes in enumerate(rois)
                for some in boxes.tensor_split(max(-(-len(boxes) // at_once), 1))
            ]
        return ClassifierOutput(*(torch.cat(parts) for parts in zip(*outputs, strict=True)))

    def _classify(self, maps: Sequence[Tensor], rois: Sequence[Tensor]) -> ClassifierOutput:
        described = cast(Tail, self.classifier.tail).finish(*self.crop(maps, rois))
        return self.classifier.predict(mean_over_space(described))

    def final_boxes(self, output: ClassifierOutput, rois: Tensor, image_size: Size) -> Detections:
        """Detections of one image, in pixels of the resized image."""
        std = self.config.proposal_target.target_std
        return detections(output.class_scores, output.coefficients, rois, image_size, self.config.detection, std)
