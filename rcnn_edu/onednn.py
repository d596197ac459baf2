"""Convolutions of oneDNN, with which torch computes on a CPU, as torch's compiler asks for them.

oneDNN documentation, "Primitive attributes: post-ops" and "Memory format propagation" · used by frozen_batch_norm

`F.conv2d` brings the weight into the order in which oneDNN reads it, each time, and leaves what follows, a sum and a
ReLU, to passes of their own over the result. For several calls without gradients the order can be made once, and both
done while a result is still in a register. `torch.compile` has operations for that, which need no compiler themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

NO_STRIDE, NO_DILATION = [1, 1], [1, 1]


def fuses(dtype: torch.dtype) -> bool:
    """Whether this build of torch and this processor can do it in `dtype`."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_convolution_pointwise_"):
        return False
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32 or (dtype == torch.bfloat16 and supported)


class PreparedConvolution:
    """A convolution of stride 1 with its weight in oneDNN's order.

    weight: `(D, C / groups, k, k)`, float32 or bfloat16; padding: zeros around a map, in places; like: the shape
    `(B, C, H, W)` of an input for which the order should be best, others are possible.
    """

    def __init__(self, weight: Tensor, padding: int, groups: int, like: Sequence[int]) -> None:
        self.padding, self.groups = padding, groups
        self.fused = fuses(weight.dtype)
        self.weight = weight
        if self.fused:
            self.weight = torch.ops.aten.mkldnn_reorder_conv2d_weight(
                weight.to_mkldnn(), [padding, padding], NO_STRIDE, NO_DILATION, groups, list(like)
            )

    def __call__(self, x: Tensor, shift: Tensor | None = None, plus: Tensor | None = None, relu: bool = False) -> Tensor:
        """conv(x) + shift + plus, and its ReLU: `(B, C, H, W)`, of the weight's dtype → `(B, D, H, W)`.

        shift: `(D,)`; plus: as the result, which may take its place.
        """
        if not self.fused:
            result = F.conv2d(x, self.weight, shift, padding=self.padding, groups=self.groups)
            result = result if plus is None else result.add_(plus)
            return result.relu_() if relu else result
        padding = [self.padding, self.padding]
        options = (padding, NO_STRIDE, NO_DILATION, self.groups)
        if plus is None:
            then = "relu" if relu else "none"
            return torch.ops.mkldnn._convolution_pointwise(x, self.weight, shift, *options, then, [], "")
        then = "relu" if relu else None
        return torch.ops.mkldnn._convolution_pointwise_(
            plus, x, self.weight, shift, *options, "add", None, then, [], ""
        )
