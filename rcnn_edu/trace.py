"""One image's way through the network, every intermediate by name: what the lessons draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from rcnn_edu.anchor_target import AnchorTargets
from rcnn_edu.classifier import ClassifierLoss, Detections, classifier_loss
from rcnn_edu.proposal_layer import Proposals
from rcnn_edu.proposal_target import ProposalTargets
from rcnn_edu.rpn_loss import RPNLoss, rpn_loss
from rcnn_edu.targets import Target, check_targets

if TYPE_CHECKING:
    from rcnn_edu.model import FasterRCNN


@dataclass(frozen=True)
class Trace:
    """Every intermediate of one image, in the order of the article. A = anchors, R = RoIs, C = classes with background.

    Boxes are in pixels of the resized image (`preprocessed`), but for the detections. The fields under "training" are
    None when no target was given; then the RoIs are inference's proposals, and else the sampled ones.
    """

    image: Tensor
    """`(3, H, W)`: the image as it came."""
    preprocessed: Tensor
    """`(3, h, w)` float32: resized and normalised."""
    image_size: tuple[int, int]
    """(h, w)."""
    scale: float
    """h / H."""
    features: Tensor
    """`(C_head, ⌈h/16⌉, ⌈w/16⌉)`."""
    anchors: Tensor
    """`(A, 4)`."""
    rpn_class_scores: Tensor
    """`(A, 2)` logits, background first."""
    objectness: Tensor
    """`(A,)`: the foreground probability."""
    coefficients: Tensor
    """`(A, 4)`: what the RPN predicts at each anchor."""
    proposals: Proposals
    """With the numbers of inference, or of training if a target was given."""
    rois: Tensor
    """`(R, 4)`."""
    crops: Tensor
    """`(R, C_head, 7, 7)`."""
    fc7: Tensor
    """`(R, D)`."""
    class_scores: Tensor
    """`(R, C)` logits."""
    box_coefficients: Tensor
    """`(R, 4·C)`, normalised."""
    scores: Tensor
    """`(R, C)`: class probabilities."""
    detections: Detections
    """What the model detects in the image, in the image's own pixels."""
    gt_boxes: Tensor | None = None
    """Training: `(G, 4)`, the objects in pixels of the resized image."""
    anchor_targets: AnchorTargets | None = None
    """Training: what the RPN should say."""
    proposal_targets: ProposalTargets | None = None
    """Training: the sampled RoIs and what the classifier should say of them."""
    rpn_loss: RPNLoss | None = None
    """Training."""
    classifier_loss: ClassifierLoss | None = None
    """Training."""


def trace(model: FasterRCNN, image: Tensor, target: Target | None = None) -> Trace:
    """Run one image `(3, H, W)`, and with a target `{"boxes", "labels"}` also what training would do with it.

    The gradient graph is kept (use `torch.no_grad()` where it is not wanted), and the model's mode is left as it is.
    Raises `ValueError` for an unusable image or target.
    """
    if target is not None:
        check_targets([target], model.config.num_classes)
    batch = model.prepare([image])
    size = batch.sizes[0]
    features, rpn_output = model.look(batch)
    rpn_scores, coefficients, anchors = model.at_anchors(rpn_output, batch, 0)

    training: dict[str, object] = {}
    proposals = model.propose(rpn_scores, coefficients, anchors, size, model.config.test_proposals)
    output = model.classify(features, [proposals.boxes])
    found = model.final_boxes(output, proposals.boxes, size)
    rois = proposals.boxes
    if target is not None:
        gt_boxes = batch.to_resized(target["boxes"], 0)
        wanted = model.label(anchors, gt_boxes, size)
        proposals = model.propose(rpn_scores, coefficients, anchors, size, model.config.proposals)
        sampled = model.sample(proposals, gt_boxes, target["labels"])
        rois = sampled.rois
        training = {"gt_boxes": gt_boxes, "anchor_targets": wanted, "proposal_targets": sampled}
        training["rpn_loss"] = rpn_loss(rpn_scores, coefficients, wanted, model.config.rpn_sigma)
    crops = model.crop([features], [rois])[0]
    fc7 = model.classifier.fc7(crops)
    output = model.classifier.predict(fc7)
    if target is not None:
        sigma = model.config.classifier_sigma
        training["classifier_loss"] = classifier_loss(output.class_scores, output.coefficients, sampled, sigma)
    return Trace(
        image=image,
        preprocessed=batch.pixels[0],
        image_size=size,
        scale=size[0] / image.shape[1],
        features=features[0],
        anchors=anchors,
        rpn_class_scores=rpn_scores,
        objectness=rpn_scores.float().softmax(dim=1)[:, 1],
        coefficients=coefficients,
        proposals=proposals,
        rois=rois,
        crops=crops,
        fc7=fc7,
        class_scores=output.class_scores,
        box_coefficients=output.coefficients,
        scores=output.class_scores.float().softmax(dim=1),
        detections=found._replace(boxes=batch.to_original(found.boxes, 0)),
        **training,  # type: ignore[arg-type]
    )
