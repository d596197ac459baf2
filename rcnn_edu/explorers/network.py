"""Pictures of lesson 09: what each layer gives for a photo of any size, and what flows where in training."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rcnn_edu.checkpoint import load
from rcnn_edu.classifier import ClassifierLoss
from rcnn_edu.config import Config
from rcnn_edu.draw.network_diagram import draw_sizes, network_diagram
from rcnn_edu.draw.training_diagram import training_diagram
from rcnn_edu.explorers.base import Explorer, slider
from rcnn_edu.explorers.classifier import known_objects
from rcnn_edu.explorers.photo import RunningPhoto, running_photo
from rcnn_edu.model import FasterRCNN
from rcnn_edu.preprocessing import resize_scale, resized_size
from rcnn_edu.rpn_loss import RPNLoss
from rcnn_edu.trace import Trace


def network_panel(photo: RunningPhoto) -> Explorer:
    """The network of the article, ResNet-50, with what every layer gives for this photo at any size.

    The model is built without memory for its weights (torch's "meta" device), which is enough to ask for shapes.
    """
    with torch.device("meta"):
        model = FasterRCNN(Config(backbone="resnet50", pretrained=False))
    shown = {name: _in_terms_of_size(shape, 640, 960) for name, shape in layer_shapes(model, 640, 960).items()}
    frozen = [name for name, part in model.head.named_children() if not any(p.requires_grad for p in part.parameters())]
    figure, axes = network_diagram(shown, tuple(frozen))
    of_regions = region_shapes(model)
    parts = {"head": model.head, "RPN": model.rpn, "classification network": model.classifier}
    weights = ", ".join(f"{name} {sum(p.numel() for p in part.parameters()) / 1e6:.1f}" for name, part in parts.items())
    full_height, full_width = photo.original.shape[1:]

    def draw(target_size: int) -> str:
        scale = resize_scale(full_height, full_width, target_size, max_size=2 * target_size)
        height, width = resized_size(full_height, full_width, scale)
        shapes = photo_shapes(model, height, width)
        depend = {name: " × ".join(map(str, shape)) for name, shape in shapes.items() if "w" in shown[name]}
        draw_sizes(axes, depend)
        channels, rows, columns = shapes["layer3"]
        return (
            f"ResNet-50 in three parts. A photo of {height} × {width} pixels becomes {channels} channels on "
            f"{rows} × {columns} cells; the RPN scores {shapes['rpn_cls_score_net'][0] // 2} anchors in each, "
            f"{9 * rows * columns:,} in all; 300 regions pass the classification network, which gives each "
            f"{of_regions['cls_score_net'][1]} class scores and {of_regions['bbox_pred_net'][1]} coefficients.\n"
            f"Millions of weights: {weights}."
        )

    return Explorer(figure, draw, target_size=slider("target_size", 600, 224, 800, 8))


def layer_shapes(model: FasterRCNN, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """What each layer gives for a photo of that many pixels, and 300 RoIs, without the batch axis."""
    return photo_shapes(model, height, width) | region_shapes(model)


@torch.no_grad()
def photo_shapes(model: FasterRCNN, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """Of the layers that see the photo."""
    shapes: dict[str, tuple[int, ...]] = {"photo": (3, height, width)}
    features = torch.zeros(1, 3, height, width, device=next(model.parameters()).device)
    for name, stage in model.head.named_children():
        features = stage(features)
        shapes[name] = tuple(features.shape[1:])
    hidden = model.rpn.rpn_net(features)
    shapes["rpn_net"] = tuple(hidden.shape[1:])
    for name in ("rpn_cls_score_net", "rpn_bbox_pred_net"):
        shapes[name] = tuple(model.rpn.get_submodule(name)(hidden).shape[1:])
    return shapes


@torch.no_grad()
def region_shapes(model: FasterRCNN) -> dict[str, tuple[int, ...]]:
    """Of the layers that see regions: the same for every photo."""
    device = next(model.parameters()).device
    rois = torch.zeros(model.config.test_proposals.post_nms_top_n, 4, device=device)
    crops = model.crop([torch.zeros(1, model.head.out_channels, 2, 2, device=device)], [rois])[0]
    described = model.classifier.tail(crops)
    fc7 = model.classifier.fc7(crops)
    output = model.classifier.predict(fc7)
    names = ("proposal layer", "crop pooling", "layer4", "fc7", "cls_score_net", "bbox_pred_net")
    return {
        name: tuple(values.shape) for name, values in zip(names, (rois, crops, described, fc7, *output), strict=True)
    }


def _in_terms_of_size(shape: tuple[int, ...], height: int, width: int) -> str:
    """The shape with its last two sides as shares of the photo's, where they are: (64, 160, 240) → 64 × h/4 × w/4."""
    if len(shape) == 3 and height % shape[1] == 0 and width * shape[1] == height * shape[2]:
        share = height // shape[1]
        return f"{shape[0]} × " + ("h × w" if share == 1 else f"h/{share} × w/{share}")
    return " × ".join(map(str, shape))


def training_picture(trace: Trace) -> Explorer:
    """The layers in one step of training, with this photo's own numbers; the trace has a target."""
    anchors, sampled = trace.anchor_targets, trace.proposal_targets
    if anchors is None or sampled is None or trace.gt_boxes is None or not trace.rpn_loss or not trace.classifier_loss:
        raise ValueError("the trace has no losses; give model.trace() the photo's objects")
    labelled, foreground = int((anchors.labels >= 0).sum()), int((anchors.labels == 1).sum())
    count, objects = len(trace.anchors), int((sampled.labels > 0).sum())
    figure, _ = training_diagram(
        {
            "photo": _product(trace.preprocessed.shape),
            "head": f"features\n{_product(trace.features.shape)}",
            "RPN": f"scores {count:,} × 2\ncoefficients × 4",
            "anchors": f"{count:,} × 4",
            "proposal layer": f"{len(trace.proposals.boxes)} × 4",
            "proposal target layer": f"RoIs {len(sampled.rois)} × 4\n{objects} foreground",
            "crop pooling": _product(trace.crops.shape),
            "classifier": f"scores {_product(trace.class_scores.shape)}\n"
            f"coefficients {_product(trace.box_coefficients.shape)}",
            "anchor target layer": f"{labelled} labelled,\n{foreground} foreground",
            "objects": f"{len(trace.gt_boxes)} boxes and labels",
            "RPN loss": _two_terms(trace.rpn_loss),
            "classifier loss": _two_terms(trace.classifier_loss),
        }
    )
    total = sum(float(term) for term in (*trace.rpn_loss, *trace.classifier_loss))

    def draw() -> str:
        return (
            f"Of {count:,} anchors {labelled} enter the RPN's loss; {len(sampled.rois)} RoIs, {objects} of them "
            f"foreground, enter the classifier's.\nThe four losses add up to {total:.2f}."
        )

    return Explorer(figure, draw)


def _product(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _two_terms(loss: RPNLoss | ClassifierLoss) -> str:
    return f"classification {float(loss.classification):.2f}\nregression {float(loss.regression):.2f}"


def panels() -> dict[str, Explorer]:
    """Both, on the running photo."""
    model = load("voc-crop")
    model.generator = torch.Generator().manual_seed(0)
    photo = running_photo(config=model.config.preprocessing)
    with torch.no_grad():
        training = model.trace(photo.original, known_objects(photo, model))
    return {"network_panel": network_panel(photo), "training_picture": training_picture(training)}
