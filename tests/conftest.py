"""What the tests share: a seed for each, one thread, and small boxes, configs and models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from rcnn_edu.config import AnchorConfig, AnchorTargetConfig, Config, PreprocessingConfig, ProposalConfig
from rcnn_edu.config import ProposalTargetConfig as RoIConfig
from rcnn_edu.model import FasterRCNN

# The same examples in every run, on a busy machine too, and no folder of examples left behind.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("repeatable")

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Each test draws the same numbers, alone or among the others."""
    torch.manual_seed(0)


def generator(seed: int = 0) -> torch.Generator:
    """A fresh source of random numbers."""
    return torch.Generator().manual_seed(seed)


def random_boxes(count: int, image_size: tuple[int, int] = (120, 160), smallest: float = 2.0) -> Tensor:
    """`(count, 4)` proper boxes inside an image of (height, width) pixels."""
    height, width = image_size
    room = torch.tensor([width, height]) - smallest
    first, second = torch.rand(count, 2) * room, torch.rand(count, 2) * room
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second) + smallest], dim=1)


def jittered(boxes: Tensor, copies: int, pixels: float) -> Tensor:
    """`(N·copies, 4)`: copies of each box, every corner moved by a few pixels, so that they overlap a lot."""
    copied = boxes.repeat_interleave(copies, dim=0)
    return copied + (torch.rand_like(copied) - 0.5) * 2 * pixels


def tiny_config(**changes: Any) -> Config:
    """The tiny backbone on images of about 64 pixels, all numbers small."""
    small = Config(
        backbone="tiny",
        num_classes=4,
        rpn_channels=32,
        preprocessing=PreprocessingConfig(target_size=64, max_size=128),
        anchors=AnchorConfig(scales=(1.0, 2.0, 3.0)),
        proposals=ProposalConfig(200, 40),
        test_proposals=ProposalConfig(100, 20),
        anchor_target=AnchorTargetConfig(batch_size=32),
        proposal_target=RoIConfig(batch_size=16),
    )
    return replace(small, **changes)


def tiny_model(seed: int = 0, **changes: Any) -> FasterRCNN:
    """A tiny model in training mode; its weights are random, and large enough that its answers differ and are sure."""
    torch.manual_seed(seed)
    model = FasterRCNN(tiny_config(**changes), generator=generator(seed))
    with torch.no_grad():
        nn.init.normal_(model.rpn.rpn_net.weight, std=0.05)
        nn.init.normal_(model.rpn.rpn_cls_score_net.weight, std=0.3)
        nn.init.normal_(model.rpn.rpn_bbox_pred_net.weight, std=0.05)
        nn.init.normal_(model.classifier.cls_score_net.weight, std=0.5)
        nn.init.normal_(model.classifier.bbox_pred_net.weight, std=0.3)
        model.classifier.cls_score_net.bias[0] = -3.0  # so that every image shows something other than background
    return model
