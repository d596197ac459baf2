"""torchvision's Faster R-CNN, built from the same parts and with the same weights as ours.

Both are cut alike. ResNet C4: conv1 … layer3 with frozen BatchNorm see the image at a stride of 16, layer4 with its
stride taken out sees each region. MobileNetV2: features 0 … 13 and 14 … 18. All numbers come from one `Config`, so that
a change to ours changes the peer too. What is left different is what is compared: how the steps are computed.

    ours                              torchvision
    background and foreground score   one logit; its weights are ours, foreground minus background: same probability
    nine anchors, sides rounded       nine anchors, sides not rounded
    no padding of a single image      padded to multiples of 32 pixels: 600 rows become 608
    crop pooling, one point a cell    RoIAlign, `sampling_ratio`² points a cell
    anchors that leave the image      clipped proposals come of them, and they are labelled like any other
      are labelled "don't care"
    regions' smooth L1, sigma 1       smooth L1 with beta 1/9, that is sigma 3
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torchvision.models
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.misc import Conv2dNormActivation, FrozenBatchNorm2d

from rcnn_edu.backbone import load_backbone_weights
from rcnn_edu.config import Config
from rcnn_edu.model import FasterRCNN

Module = TypeVar("Module", bound=nn.Module)


class PeerBackbone(nn.Sequential):
    """The layers that see the image, by name; those named in `frozen` do not learn, as in ours."""

    def __init__(self, layers: dict[str, nn.Module], frozen: Sequence[str], out_channels: int) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer.requires_grad_(name not in frozen))
        self.out_channels = out_channels


class PeerBoxHead(nn.Module):
    """The tail on each crop, then the mean over space: `(R, C, 7, 7)` → `(R, out_channels)`."""

    def __init__(self, tail: nn.Module, out_channels: int) -> None:
        super().__init__()
        self.tail, self.out_channels = tail, out_channels

    def forward(self, crops: Tensor) -> Tensor:
        """The vector that describes each region."""
        described: Tensor = self.tail(crops).mean(dim=(2, 3))
        return described


class Float32Convolution(nn.Module):
    """A depthwise convolution that a CPU computes in float32 even under autocast.

    Its bfloat16 gradient is 40 times slower there when it has a stride. Ours does the same
    (rcnn_edu/frozen_batch_norm.py), so without this the comparison would be of that one kernel.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution's own."""
        if x.device.type != "cpu":
            return self.convolution(x)
        with torch.autocast("cpu", enabled=False):
            return self.convolution(x.float())


def cut(config: Config) -> tuple[PeerBackbone, PeerBoxHead]:
    """The two halves of torchvision's classification network, cut where ours is, with frozen BatchNorm.

    The weights are those of `config.backbone_weights`, else random.
    """
    frozen = 2 if config.frozen_stages is None else config.frozen_stages
    network: Any = torchvision.models.get_model(config.backbone, weights=None, norm_layer=FrozenBatchNorm2d)
    if config.backbone_weights is not None:
        load_backbone_weights(network, config.backbone_weights, config.backbone)
    if config.backbone == "mobilenet_v2":
        stages = [["0", "1"], ["2", "3"], ["4", "5", "6"], [str(i) for i in range(7, 14)]]
        layers, tail, widths = network.features, network.features[14:], (96, network.last_channel)
    else:
        stages = [["conv1", "bn1", "relu", "maxpool"], ["layer1"], ["layer2"], ["layer3"]]
        layers, tail, widths = network, network.layer4, (network.fc.in_features // 2, network.fc.in_features)
        for layer in tail.modules():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
    names = [name for stage in stages for name in stage]
    backbone = PeerBackbone(
        {name: layers.get_submodule(name) for name in names}, [n for s in stages[:frozen] for n in s], widths[0]
    )
    return keep_depthwise_in_float32(backbone), keep_depthwise_in_float32(PeerBoxHead(tail, widths[1]))


def keep_depthwise_in_float32(module: Module) -> Module:
    """Wrap, in place, every depthwise convolution below `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and child.groups > 1:
            setattr(module, name, Float32Convolution(child))
        else:
            keep_depthwise_in_float32(child)
    return module


def build_peer(config: Config, sampling_ratio: int = 2, channels_last: bool = False) -> nn.Module:
    """torchvision's detector with the numbers and the backbone weights of `config`: a ResNet or MobileNetV2.

    channels_last: also give the peer the memory layout that ours always uses.
    """
    if not config.backbone.startswith(("resnet", "mobilenet")):
        raise ValueError(f"the peer is built from a ResNet or MobileNetV2; backbone is {config.backbone}")
    backbone, box_head = cut(config)

    # The generator's anchors are centred on the cell's corner instead of its middle; the number is the same.
    sizes = tuple(config.anchors.base_size * scale for scale in config.anchors.scales)
    anchors = AnchorGenerator((sizes,), (config.anchors.ratios,))
    rpn_head = RPNHead(backbone.out_channels, config.anchors.per_position)
    # torchvision's 3×3 convolution keeps the channels of the features (1024); ours, as the article's, has fewer (512).
    channels = config.rpn_channels or min(512, max(256, backbone.out_channels))
    rpn_head.conv = Conv2dNormActivation(backbone.out_channels, channels, kernel_size=3, norm_layer=None)
    rpn_head.cls_logits = nn.Conv2d(channels, config.anchors.per_position, 1)
    rpn_head.bbox_pred = nn.Conv2d(channels, 4 * config.anchors.per_position, 1)

    # Two points a side of each bin, four in all, are what torchvision's own detectors sample, so that is how it is
    # used. Ours reads one point a cell: sampling_ratio=1 gives the peer the same number of reads.
    pooling = MultiScaleRoIAlign(["0"], config.crop_pooling.output_size, sampling_ratio=sampling_ratio)
    label, region = config.anchor_target, config.proposal_target
    numbers: dict[str, Any] = {
        "min_size": config.preprocessing.target_size,
        "max_size": config.preprocessing.max_size,
        "image_mean": list(config.preprocessing.pixel_mean),
        "image_std": list(config.preprocessing.pixel_std),
        "rpn_pre_nms_top_n_train": config.proposals.pre_nms_top_n,
        "rpn_post_nms_top_n_train": config.proposals.post_nms_top_n,
        "rpn_pre_nms_top_n_test": config.test_proposals.pre_nms_top_n,
        "rpn_post_nms_top_n_test": config.test_proposals.post_nms_top_n,
        "rpn_nms_thresh": config.proposals.nms_threshold,
        "rpn_fg_iou_thresh": label.positive_overlap,
        "rpn_bg_iou_thresh": label.negative_overlap,
        "rpn_batch_size_per_image": label.batch_size,
        "rpn_positive_fraction": label.fg_fraction,
        "box_fg_iou_thresh": region.fg_threshold,
        "box_bg_iou_thresh": region.bg_threshold_hi,
        "box_batch_size_per_image": region.batch_size,
        "box_positive_fraction": region.fg_fraction,
        "bbox_reg_weights": tuple(1 / s for s in region.target_std),
        "box_score_thresh": config.detection.score_threshold,
        "box_nms_thresh": config.detection.nms_threshold,
        "box_detections_per_img": config.detection.max_detections,
    }
    peer: nn.Module = TorchvisionFasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        rpn_head=rpn_head,
        box_roi_pool=pooling,
        box_head=box_head,
        box_predictor=FastRCNNPredictor(box_head.out_channels, config.num_classes),
        **numbers,
    )
    if channels_last:
        peer.to(memory_format=torch.channels_last)
    return peer


@torch.no_grad()
def copy_heads(ours: FasterRCNN, peer: nn.Module) -> None:
    """Give the peer our RPN's and our classifier's weights (the backbones start from one state dict)."""
    head = peer.get_submodule("rpn.head")
    pairs = [
        (ours.rpn.rpn_net, head.get_submodule("conv.0")),
        (ours.rpn.rpn_bbox_pred_net, head.get_submodule("bbox_pred")),
        (ours.classifier.cls_score_net, peer.get_submodule("roi_heads.box_predictor.cls_score")),
        (ours.classifier.bbox_pred_net, peer.get_submodule("roi_heads.box_predictor.bbox_pred")),
    ]
    for source, target in pairs:
        target.load_state_dict(source.state_dict())
    # Softmax over (background, foreground) is the sigmoid of their difference.
    scores = ours.rpn.rpn_cls_score_net.state_dict()
    head.get_submodule("cls_logits").load_state_dict({k: v[1::2] - v[0::2] for k, v in scores.items()})
