"""The tail of a ResNet-50 or -101, whose first 1×1 convolutions can run before crop pooling instead of after it.

Article "Classification Layer" · ResNet (arXiv 1512.03385) fig. 5 · notebook 08

layer4 opens with two 1×1 convolutions of its input: conv1 of the first block, and the one in its shortcut. A 1×1
convolution mixes the channels of each place; crop pooling mixes the places of each channel. Both are linear, so their
order does not matter: a crop of the convolved features is the convolved crop. It does matter for the cost. Crops
overlap, and 300 of them have 14,700 places where the feature map of a 600×800 image has 1,900.

Only the shift of the folded BatchNorm has to wait: a crop that reaches beyond the map is 0 there, before the shift.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from rcnn_edu.frozen_batch_norm import FrozenBatchNormConv2d


class Tail(nn.Sequential):
    """The part of the backbone that sees each crop: `(R, C, n, n)` → `(R, out_channels, m, m)`, or `(R, out_channels)`.

    `tail(crops)` is `tail.finish(*tail.project(crops))`. The model calls `project` on the feature map and `finish` on
    crops of the results, which gives the same numbers.
    """

    def __init__(self, layers: list[nn.Module], out_channels: int) -> None:
        super().__init__(*layers)
        self.out_channels = out_channels

    def project(self, features: Tensor) -> tuple[Tensor, ...]:
        """What can be computed before crop pooling as well as after it, one map or several: here nothing."""
        return (features,)

    def finish(self, *crops: Tensor) -> Tensor:
        """The rest, on crops of each map that `project` gave."""
        described: Tensor = super().forward(*crops)
        return described

    def forward(self, crops: Tensor) -> Tensor:
        """What describes each crop."""
        return self.finish(*self.project(crops))


class BottleneckTail(Tail):
    """layer4 of a ResNet-50 or -101, BatchNorm folded: its opening 1×1 convolutions are `project`."""

    def __init__(self, layer4: nn.Sequential, out_channels: int) -> None:
        super().__init__([layer4], out_channels)

    def project(self, features: Tensor) -> tuple[Tensor, ...]:
        """`(B, C, H, W)` → conv1's `(B, width, H, W)` and the shortcut's `(B, out_channels, H, W)`, without shift."""
        return tuple(conv.without_shift(features) for conv in self._opening())

    def finish(self, *crops: Tensor) -> Tensor:
        """`(R, width, n, n)` and `(R, out_channels, n, n)`, which are written over → `(R, out_channels, n, n)`."""
        conv1, shortcut = self._opening()
        hidden, described = crops
        hidden = F.relu(hidden.add_(conv1.shift.to(hidden.dtype)[:, None, None]), inplace=True)
        for number, block in enumerate(cast(Iterable[Bottleneck], self[0])):
            conv1, conv2, conv3 = (cast(FrozenBatchNormConv2d, one) for one in (block.conv1, block.conv2, block.conv3))
            if number > 0:
                hidden = conv1.then_relu(described)
            # conv3 adds a shift of its own to the same sum, so the opening shortcut's comes along without another pass.
            shift = conv3.shift + shortcut.shift if number == 0 else None
            described = conv3.then_relu(conv2.then_relu(hidden), shift, plus=described)
        return described

    def _opening(self) -> tuple[FrozenBatchNormConv2d, FrozenBatchNormConv2d]:
        first = cast(Bottleneck, cast(nn.Sequential, self[0])[0])
        shortcut = cast(nn.Sequential, first.downsample)
        return cast(FrozenBatchNormConv2d, first.conv1), cast(FrozenBatchNormConv2d, shortcut[0])
