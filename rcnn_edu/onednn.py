"""Convolutions of oneDNN, with which torch computes on a CPU, as torch's compiler asks for them.

oneDNN documentation, "Primitive attributes: post-ops" and "Memory format propagation" · used by frozen_batch_norm

`F.conv2d` brings the weight into the order in which oneDNN reads it, each time, and leaves what follows, a sum and a
ReLU, to passes of their own over the result. For several calls without gradients the order can be made once, and both
done while a result is still in a register. `torch.compile` has operations for that, which need no compiler themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

STRIDE = DILATION = [1, 1]


def fuses(weight: Tensor) -> bool:
    """Whether this build of torch and this processor can do it for a `weight` of this dtype, on this device."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


class PreparedConvolution:
    """A convolution of stride 1 with its weight in oneDNN's order; without, where there is no oneDNN.

    weight: `(D, C, h, w)`; padding: rows of zeros above and below a map, and columns beside it; like: the
    shape `(B, C, H, W)` of an input, of which others may have another B.
    """

    def __init__(self, weight: Tensor, padding: tuple[int, int], like: Sequence[int]) -> None:
        self.padding = list(padding)
        self.fused = fuses(weight)
        self.weight = weight
        if self.fused:
            reorder = torch.ops.mkldnn._reorder_convolution_weight
            self.weight = reorder(weight, self.padding, STRIDE, DILATION, 1, list(like))

    def __call__(
        self, x: Tensor, shift: Tensor | None = None, plus: Tensor | None = None, relu: bool = False
    ) -> Tensor:
        """conv(x) + shift + plus, and its ReLU: `(B, C, H, W)` → `(B, D, H, W)`, of the weight's dtype.

        shift: `(D,)`; plus: as the result, which may take its place.
        """
        if not self.fused:
            result = F.conv2d(x, self.weight, shift, padding=cast(tuple[int, int], self.padding))
            result = result if plus is None else result.add_(plus)
            return result.relu_() if relu else result
        x = x.contiguous(memory_format=torch.channels_last)
        what, how = (x, self.weight, shift), (self.padding, STRIDE, DILATION, 1)
        if plus is None:
            then = "relu" if relu else "none"
            return cast(Tensor, torch.ops.mkldnn._convolution_pointwise(*what, *how, then, [], ""))
        # Where the two differ in layout torch adds in a pass of its own, which bfloat16 does not have.
        plus = plus.contiguous(memory_format=torch.channels_last)
        behind = "relu" if relu else None
        return cast(Tensor, torch.ops.mkldnn._convolution_pointwise_(plus, *what, *how, "add", None, behind, [], ""))
