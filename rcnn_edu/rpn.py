"""Region proposal network: three convolutions that look at every cell of the feature map.

Article "Region Proposal Network" · Faster R-CNN (arXiv 1506.01497) §3.1

    features (B, C, H, W)  →  rpn_net: 3×3 convolution and ReLU
                           →  rpn_cls_score_net: 1×1, background and foreground score of each of the K anchors
                           →  rpn_bbox_pred_net: 1×1, four coefficients of each of the K anchors

(The article calls the last two fully connected. They are 1×1 convolutions: the same small layer at every cell.)
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from rcnn_edu import winograd


class RPNOutput(NamedTuple):
    """What the RPN says at every anchor, as maps over the grid."""

    class_scores: Tensor
    """`(B, 2·K, H, W)` logits: background and foreground of the first anchor, then of the second, …"""
    coefficients: Tensor
    """`(B, 4·K, H, W)`: tx, ty, tw, th of the first anchor, then of the second, …"""

    def of_image(self, image: int, feature_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """One image's `(A, 2)` logits and `(A, 4)` coefficients, in the order of `grid_anchors`, without padding."""
        return _rows(self.class_scores[image], feature_size, 2), _rows(self.coefficients[image], feature_size, 4)


class RPN(nn.Module):
    """in_channels: channels of the feature map; channels: of the 3×3 convolution; num_anchors: K, per cell."""

    def __init__(self, in_channels: int, channels: int = 512, num_anchors: int = 9) -> None:
        super().__init__()
        self.rpn_net = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.rpn_cls_score_net = nn.Conv2d(channels, 2 * num_anchors, 1)
        self.rpn_bbox_pred_net = nn.Conv2d(channels, 4 * num_anchors, 1)
        for layer in (self.rpn_net, self.rpn_cls_score_net, self.rpn_bbox_pred_net):
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> RPNOutput:
        """`(B, in_channels, H, W)` → scores `(B, 2·K, H, W)` and coefficients `(B, 4·K, H, W)`."""
        hidden = F.relu(self._around(features), inplace=True)
        return RPNOutput(self.rpn_cls_score_net(hidden), self.rpn_bbox_pred_net(hidden))

    def _around(self, features: Tensor) -> Tensor:
        """`rpn_net(features)`, with less arithmetic where that can be had: see winograd.py."""
        net = self.rpn_net
        if net.bias is None or not winograd.pays(net, features):
            return net(features)
        return winograd.convolve(features, net.weight).add_(net.bias[:, None, None])


def _rows(maps: Tensor, feature_size: tuple[int, int], columns: int) -> Tensor:
    """`(K·columns, H, W)` maps to `(h·w·K, columns)` rows: grid rows, then grid columns, then anchors."""
    height, width = feature_size
    return maps[:, :height, :width].permute(1, 2, 0).reshape(-1, columns)
