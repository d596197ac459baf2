"""Frozen BatchNorm, folded into the convolution before it.

Detection trains on one or a few images at a time, too few for batch statistics, so the pretrained BatchNorm is kept as
it is: a fixed scale and shift per channel. conv(x, w)·scale + shift = conv(x, w·scale) + shift, and the right-hand side
saves a pass over the feature map in each direction. The gradient of w is the same in both, so training uses it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from types import MappingProxyType
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from rcnn_edu import winograd
from rcnn_edu.onednn import PreparedConvolution


class FrozenBatchNormConv2d(nn.Conv2d):
    """A convolution without bias and the frozen BatchNorm behind it, as one convolution.

    `weight` is the convolution's own and can learn; `scale` and `shift`, both `(out_channels,)`, never change.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,  # type: ignore[arg-type]
            conv.dilation, conv.groups, bias=False,  # type: ignore[arg-type]
        )  # fmt: skip
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError("a BatchNorm without running statistics cannot be frozen")
        self.weight = conv.weight
        with torch.no_grad():
            scale = torch.rsqrt(norm.running_var + norm.eps) * norm.weight
            shift = norm.bias - norm.running_mean * scale
            if conv.bias is not None:
                shift += conv.bias * scale
        self.register_buffer("scale", scale.clone())
        self.register_buffer("shift", shift.clone())

    @property
    def kept(self) -> _Kept | None:
        """What is made of the weight, if this thread is inside `weights_made_once`."""
        return _MADE_ONCE.get().get(self)

    def folded_weight(self) -> Tensor:
        """The weight with the scale multiplied in, in the layout of `weight`."""
        kept = self.kept
        return self.weight * self.scale[:, None, None, None] if kept is None else kept.weight

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """`(B, in_channels, H, W)` → `(B, out_channels, h, w)`, normalised; shift: another one than its own."""
        shift = self.shift if shift is None else shift
        if winograd.pays(self, x):
            kept = self.kept
            if kept is None:
                return winograd.convolve(x, self.weight, self.scale).add_(shift[:, None, None])
            return winograd.convolve_mixed(x, kept.mixed_taps(x)).add_(shift[:, None, None])
        return self._depthwise(x, shift) if self.groups > 1 else self._plain(x, shift)

    def then_relu(self, x: Tensor, shift: Tensor | None = None, plus: Tensor | None = None) -> Tensor:
        """relu(forward(x, shift) + plus); plus: as the result, `(B, out_channels, h, w)`, and may be written over."""
        whole = (self.stride, self.dilation, self.groups) == ((1, 1), (1, 1), 1)
        kept = self.kept
        if kept is None or not whole or winograd.pays(self, x):
            result = self(x, shift)
            return F.relu(result if plus is None else result.add_(plus), inplace=True)
        x = x.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else x
        shift = self.shift if shift is None else shift
        return kept.convolution(x)(x, shift.to(x.dtype), plus, relu=True)

    def without_shift(self, x: Tensor) -> Tensor:
        """As `forward`, for a shift that is added later."""
        return self._plain(x, None)

    def _plain(self, x: Tensor, shift: Tensor | None) -> Tensor:
        weight = self.folded_weight()
        with self._folded_again(weight):
            return self._conv_forward(x, weight, shift)

    def _folded_again(self, weight: Tensor) -> AbstractContextManager[None]:
        """Within this, nothing keeps the folded `weight` for a gradient: it is folded once more when one is wanted.

        That costs a multiplication and saves as much memory as the weight takes. On a CPU only: a GPU's memory seldom
        is what a step is short of, its host's time often is.
        """
        if weight.is_cuda or not torch.is_grad_enabled():
            return nullcontext()
        place, version = weight.data_ptr(), self.weight._version

        def keep(tensor: Tensor) -> Tensor | None:
            return None if tensor.data_ptr() == place else tensor

        def give(kept: Tensor | None) -> Tensor:
            if kept is not None:
                return kept
            if self.weight._version != version:
                raise RuntimeError("a convolution's weight was changed between the forward and the backward pass")
            return self.folded_weight()

        return saved_tensors_hooks(keep, give)

    def _depthwise(self, x: Tensor, shift: Tensor) -> Tensor:
        """Each channel by itself, in float32 even under autocast."""
        weight = self.folded_weight()
        # The CPU's bfloat16 gradient is 40 times slower than float32's with a stride. For a GPU torch has kernels
        # of its own, for float32 in rows; for channels last it asks cuDNN, which spends seconds on each new size. The
        # strides of a weight (C, 1, 3, 3) decide too, and `contiguous()` leaves them: both layouts are the same to it.
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(weight.dtype)
            if x.is_cuda:
                x, weight = x.contiguous(), weight.clone(memory_format=torch.contiguous_format)
            return self._conv_forward(x, weight, shift)


class _Kept:
    """What is made of a convolution's weight before it is used, made once for each kind of input `(B, C, H, W)`."""

    def __init__(self, weight: Tensor, padding: tuple[int, int]) -> None:
        self.weight, self.padding = weight, padding
        self._convolutions: dict[torch.dtype, PreparedConvolution] = {}
        self._mixed_taps: dict[torch.Size, list[Tensor]] = {}

    def convolution(self, like: Tensor) -> PreparedConvolution:
        if like.dtype not in self._convolutions:
            weight = self.weight.to(like.dtype)
            self._convolutions[like.dtype] = PreparedConvolution(weight, self.padding, like.shape)
        return self._convolutions[like.dtype]

    def mixed_taps(self, like: Tensor) -> list[Tensor]:
        size = like.shape[2:]
        if size not in self._mixed_taps:
            self._mixed_taps[size] = list(winograd.mixed_taps(self.weight, like.shape))
        return self._mixed_taps[size]


_MADE_ONCE: ContextVar[Mapping[nn.Module, _Kept]] = ContextVar("made once", default=MappingProxyType({}))
"""Of the convolutions of `weights_made_once`; each thread has its own, so that several may use one model."""


@contextmanager
def weights_made_once(module: nn.Module) -> Iterator[None]:
    """For several calls without gradients: the convolutions of `module` fold and mix their weights only once."""
    convolutions = [one for one in module.modules() if isinstance(one, FrozenBatchNormConv2d)]
    made: dict[nn.Module, _Kept] = {
        one: _Kept(one.folded_weight(), cast(tuple[int, int], one.padding)) for one in convolutions
    }
    before = _MADE_ONCE.set(made)
    try:
        yield
    finally:
        _MADE_ONCE.reset(before)


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Replace, in place, every convolution that a BatchNorm follows; the BatchNorm becomes an `Identity`.

    "Follows" is by the order in which the parent names its children, which in torchvision's networks is the order in
    which they run. Raises `ValueError` if a BatchNorm is left over.
    """
    previous: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            if previous is None or type(previous[1]) is not nn.Conv2d:
                raise ValueError(f"BatchNorm {name} follows no convolution; it cannot be folded")
            setattr(module, previous[0], FrozenBatchNormConv2d(previous[1], child))
            setattr(module, name, nn.Identity())
        else:
            fold_batch_norms(child)
        previous = (name, child)
    return module
