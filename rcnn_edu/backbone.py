"""Backbone: a pretrained network cut in two, the head that sees the image and the tail that sees each crop.

Article "Network Organization" · Faster R-CNN (arXiv 1506.01497) §3 · ResNet (arXiv 1512.03385) appendix A

    head   image (B, 3, h, w)   →  features (B, C, ⌈h/16⌉, ⌈w/16⌉)      ResNet: conv1 … layer3
    tail   crops (R, C, 7, 7)   →  (R, D, ·, ·)                        ResNet: layer4, its stride taken out

| backbone             | head                          | C             | tail                       | D              |
|----------------------|-------------------------------|---------------|----------------------------|----------------|
| resnet18, resnet34   | conv1 … layer3                | 256           | layer4                     | 512            |
| resnet50, resnet101  | conv1 … layer3                | 1024          | layer4                     | 2048           |
| vgg16                | features without the last pool| 512           | fc6, fc7                   | 4096           |
| mobilenet_v2         | features 0 … 13               | 96            | features 14 … 18           | 1280           |
| tiny                 | four small stages             | 96            | 1×1 convolution, two linear| 192            |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, cast

import torch
import torchvision.models
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck
from torchvision.ops.misc import Conv2dNormActivation

from rcnn_edu.config import Config
from rcnn_edu.errors import UserError
from rcnn_edu.frozen_batch_norm import fold_batch_norms
from rcnn_edu.tail import BottleneckTail, Tail
from rcnn_edu.tiny import tiny_stages, tiny_tail

STRIDE = 16


class Backbone(NamedTuple):
    """The two halves."""

    head: Head
    tail: Tail


class Head(nn.Module):
    """The part that sees the whole image; `stages` run one after the other, named as in the pretrained network."""

    def __init__(self, stages: Sequence[tuple[str, nn.Module]], out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self._stage_names = [name for name, _ in stages]
        for name, stage in stages:
            self.add_module(name, stage)

    def stages(self) -> Iterator[nn.Module]:
        """The stages in the order in which they run."""
        return (self.get_submodule(name) for name in self._stage_names)

    def freeze(self, count: int) -> None:
        """Let the first `count` stages learn nothing, and all later ones learn."""
        for position, stage in enumerate(self.stages()):
            stage.requires_grad_(position >= count)

    def forward(self, images: Tensor) -> Tensor:
        """`(B, 3, h, w)` → `(B, out_channels, ⌈h/16⌉, ⌈w/16⌉)`."""
        for stage in self.stages():
            images = stage(images)
        return images


def feature_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Cells of the feature map of an image of (height, width) pixels: ⌈h/16⌉, ⌈w/16⌉."""
    return -(-image_size[0] // STRIDE), -(-image_size[1] // STRIDE)


def build_backbone(config: Config) -> Backbone:
    """Head and tail of `config.backbone`, pretrained if the config says so, BatchNorm frozen, first stages frozen.

    Raises `UserError` when the weights cannot be had or do not fit.
    """
    if config.backbone == "tiny":
        if config.backbone_weights is not None:
            raise UserError(f"tiny has no ImageNet weights; leave --backbone-weights {config.backbone_weights} out")
        backbone = Backbone(Head(tiny_stages(), 96), Tail([tiny_tail()], 192))
    else:
        network = _pretrained(config)
        fold_batch_norms(network)
        if isinstance(network, torchvision.models.VGG):
            backbone = _cut_vgg(network)
        elif isinstance(network, torchvision.models.MobileNetV2):
            backbone = _cut_mobilenet(network)
        else:
            backbone = _cut_resnet(cast(torchvision.models.ResNet, network))
    frozen = config.frozen_stages
    if frozen is None:
        frozen = 0 if config.backbone == "tiny" else 2
    if frozen > (stages := len(list(backbone.head.stages()))):
        raise UserError(f"frozen_stages is {frozen}, but the head of {config.backbone} has {stages} stages")
    backbone.head.freeze(frozen)
    return backbone


def _pretrained(config: Config) -> nn.Module:
    """torchvision's classification network with ImageNet weights: a local file's, downloaded, or none."""
    name = config.backbone
    if config.backbone_weights is None and config.pretrained:
        # V1: the weights that the field trains detectors from.
        try:
            return cast(nn.Module, torchvision.models.get_model(name, weights="IMAGENET1K_V1"))
        except OSError as error:
            raise UserError(
                f"the ImageNet weights of {name} could not be downloaded ({error}); "
                f"give a local file with --backbone-weights, or start from random weights with --no-pretrained"
            ) from error
    network: nn.Module = torchvision.models.get_model(name, weights=None)
    if config.backbone_weights is not None:
        load_backbone_weights(network, config.backbone_weights, name)
    return network


def load_backbone_weights(network: nn.Module, path: str | Path, name: str) -> None:
    """Load a state dict with torchvision's names; the ImageNet classifier, which detection drops, may be missing.

    Raises `UserError` naming the file and the first weight that does not fit.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file of backbone weights; check --backbone-weights") from error
    except Exception as error:  # a damaged file raises whatever the unpickler stumbles over
        raise UserError(f"{path}: not a state dict that can be read safely; save one with torch.save") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: holds no state dict of tensors; save network.state_dict() with torch.save")
    own = network.state_dict()
    dropped = ("fc.",) if name.startswith("resnet") else ("classifier.6.",) if name == "vgg16" else ("classifier.",)
    for key, value in own.items():
        if key.startswith(dropped) or key.endswith("num_batches_tracked"):
            continue
        if key not in state:
            raise UserError(f"{path}: has no weight {key}; is it a {name}, with torchvision's names?")
        if state[key].shape != value.shape:
            found, wanted = tuple(state[key].shape), tuple(value.shape)
            raise UserError(f"{path}: weight {key} has shape {found}, {name} needs {wanted}; is it a {name}?")
    for key in state:
        if key not in own and not key.startswith(dropped) and not key.endswith("num_batches_tracked"):
            raise UserError(f"{path}: has a weight {key}, which {name} has not; is it a {name}?")
    network.load_state_dict({k: v for k, v in state.items() if k in own and not k.startswith(dropped)}, strict=False)


def _cut_resnet(network: torchvision.models.ResNet) -> Backbone:
    stem = nn.Sequential()
    for name in ("conv1", "bn1", "relu", "maxpool"):
        stem.add_module(name, network.get_submodule(name))
    stages = [("stem", stem), *((name, network.get_submodule(name)) for name in ("layer1", "layer2", "layer3"))]
    for layer in network.layer4.modules():
        if isinstance(layer, nn.Conv2d):
            layer.stride = (1, 1)  # a 7×7 crop is small already
    out_channels = network.fc.in_features
    if isinstance(network.layer4[0], Bottleneck):
        return Backbone(Head(stages, out_channels // 2), BottleneckTail(network.layer4, out_channels))
    return Backbone(Head(stages, out_channels // 2), Tail([network.layer4], out_channels))


def _cut_vgg(network: torchvision.models.VGG) -> Backbone:
    layers = list(network.features)[:-1]
    stages: list[tuple[str, nn.Module]] = []
    block = nn.Sequential()
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True  # as in Caffe's VGG: sizes are rounded up, as a ResNet's are
            stages.append((f"conv{len(stages) + 1}", block))
            block = nn.Sequential(layer)
        else:
            block.append(layer)
    stages.append((f"conv{len(stages) + 1}", block))
    return Backbone(Head(stages, 512), Tail([nn.AdaptiveAvgPool2d(7), nn.Flatten(), *network.classifier[:-1]], 4096))


def _cut_mobilenet(network: torchvision.models.MobileNetV2) -> Backbone:
    layers = network.features
    # Cut before each block that halves the resolution: strides 2, 4, 8, 16; the tail keeps its own stride of 2.
    first = [0, 2, 4, 7, 14]
    stages = [(f"stage{i}", nn.Sequential(*layers[a:b])) for i, (a, b) in enumerate(pairwise(first), start=1)]
    last = cast(Conv2dNormActivation, layers[-1])
    return Backbone(Head(stages, 96), Tail(list(layers[14:]), last.out_channels))
