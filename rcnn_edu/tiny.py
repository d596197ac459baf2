"""`tiny`: a backbone of 0.9 million weights that learns the shapes from nothing in minutes, on a CPU.

Residual blocks with GroupNorm, which unlike BatchNorm needs neither pretraining nor large batches (arXiv 1803.08494).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PlainGroupNorm(nn.GroupNorm):
    """GroupNorm with eight groups, on plain (not channels-last) memory.

    The CPU's gradient for channels-last bfloat16 takes twenty times as long; the copies cost next to nothing.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(8, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, channels, H, W)` → the same shape."""
        return super().forward(x.contiguous())


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with GroupNorm beside a shortcut: `(B, in, H, W)` → `(B, out, ⌈H/stride⌉, ⌈W/stride⌉)`."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm1 = PlainGroupNorm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2 = PlainGroupNorm(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), PlainGroupNorm(out_channels)
            )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


def tiny_stages() -> list[tuple[str, nn.Module]]:
    """The head's four stages, stride 2 each: 24, 32, 64 and 96 channels."""
    stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), PlainGroupNorm(24), nn.ReLU(inplace=True))
    return [
        ("stem", stem),
        ("layer1", ResidualBlock(24, 32, 2)),
        ("layer2", ResidualBlock(32, 64, 2)),
        ("layer3", nn.Sequential(ResidualBlock(64, 96, 2), ResidualBlock(96, 96))),
    ]


def tiny_tail() -> nn.Module:
    """Crops `(R, 96, 7, 7)` → `(R, 192)`.

    Flattened, not averaged: trained from nothing, a mean over space is slow to learn where in the crop the object is,
    and so whether the crop is an object or only a part of one.
    """
    return nn.Sequential(
        nn.Conv2d(96, 48, 1, bias=False),
        PlainGroupNorm(48),
        nn.ReLU(inplace=True),
        nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten()),  # crops of another size are brought to 7×7
        nn.Linear(48 * 7 * 7, 192),
        nn.ReLU(inplace=True),
        nn.Linear(192, 192),
        nn.ReLU(inplace=True),
    )
