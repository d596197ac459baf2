"""Panel of lesson 09: the whole network, and what each of its layers gives for a photo of any size."""

from __future__ import annotations

import torch

from rcnn_edu.config import Config
from rcnn_edu.draw.network_diagram import draw_sizes, network_diagram
from rcnn_edu.explorers.base import Explorer, slider
from rcnn_edu.explorers.photo import RunningPhoto, running_photo
from rcnn_edu.model import FasterRCNN
from rcnn_edu.preprocessing import resize_scale, resized_size


def network_panel(photo: RunningPhoto) -> Explorer:
    """The network of the article, ResNet-50, with what every layer gives for this photo at any size.

    The model is built without memory for its weights (torch's "meta" device), which is enough to ask for shapes.
    """
    with torch.device("meta"):
        model = FasterRCNN(Config(backbone="resnet50", pretrained=False))
    shown = {name: _in_terms_of_size(shape, 640, 960) for name, shape in layer_shapes(model, 640, 960).items()}
    frozen = [name for name, part in model.head.named_children() if not any(p.requires_grad for p in part.parameters())]
    figure, axes = network_diagram(shown, tuple(frozen))
    parts = {"head": model.head, "RPN": model.rpn, "classification network": model.classifier}
    weights = ", ".join(f"{name} {sum(p.numel() for p in part.parameters()) / 1e6:.1f}" for name, part in parts.items())
    full_height, full_width = photo.original.shape[1:]

    def draw(target_size: int) -> str:
        scale = resize_scale(full_height, full_width, target_size, max_size=2 * target_size)
        height, width = resized_size(full_height, full_width, scale)
        shapes = layer_shapes(model, height, width)
        depend = {name: " × ".join(map(str, shape)) for name, shape in shapes.items() if "w" in shown[name]}
        draw_sizes(axes, depend)
        channels, rows, columns = shapes["layer3"]
        return (
            f"ResNet-50 in three parts. A photo of {height} × {width} pixels becomes {channels} channels on "
            f"{rows} × {columns} cells; the RPN scores {shapes['rpn_cls_score_net'][0] // 2} anchors in each, "
            f"{9 * rows * columns:,} in all; 300 regions pass the classification network, which gives each "
            f"{shapes['cls_score_net'][1]} class scores and {shapes['bbox_pred_net'][1]} coefficients.\n"
            f"Millions of weights: {weights}."
        )

    return Explorer(figure, draw, target_size=slider("target_size", 600, 224, 800, 8))


def layer_shapes(model: FasterRCNN, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """What each layer gives for a photo of that many pixels, and 300 RoIs, without the batch axis."""
    device = next(model.parameters()).device
    shapes: dict[str, tuple[int, ...]] = {"photo": (3, height, width)}
    with torch.no_grad():
        features = torch.zeros(1, 3, height, width, device=device)
        for name, stage in model.head.named_children():
            features = stage(features)
            shapes[name] = tuple(features.shape[1:])
        hidden = model.rpn.rpn_net(features)
        shapes["rpn_net"] = tuple(hidden.shape[1:])
        for name in ("rpn_cls_score_net", "rpn_bbox_pred_net"):
            shapes[name] = tuple(model.rpn.get_submodule(name)(hidden).shape[1:])
        rois = torch.zeros(model.config.test_proposals.post_nms_top_n, 4, device=device)
        crops = model.crop(features, [rois])
        described = model.classifier.tail(crops)
        fc7 = model.classifier.fc7(crops)
        output = model.classifier.predict(fc7)
    names = ("proposal layer", "crop pooling", "layer4", "fc7", "cls_score_net", "bbox_pred_net")
    of_regions = zip(names, (rois, crops, described, fc7, *output), strict=True)
    return shapes | {name: tuple(values.shape) for name, values in of_regions}


def _in_terms_of_size(shape: tuple[int, ...], height: int, width: int) -> str:
    """The shape with its last two sides as shares of the photo's, where they are: (64, 160, 240) → 64 × h/4 × w/4."""
    if len(shape) == 3 and height % shape[1] == 0 and width * shape[1] == height * shape[2]:
        share = height // shape[1]
        return f"{shape[0]} × " + ("h × w" if share == 1 else f"h/{share} × w/{share}")
    return " × ".join(map(str, shape))


def panels() -> dict[str, Explorer]:
    """This panel, on the running photo."""
    return {"network_panel": network_panel(running_photo())}
