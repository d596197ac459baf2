"""A 3×3 convolution with a quarter of the multiplications: Winograd's minimal filtering, for a CPU.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308) · used by tail, head and RPN

Four neighbouring outputs of a filter with three taps take 4 · 3 = 12 products the plain way. Read inputs, taps and
outputs as the coefficients of polynomials: then they are one polynomial times another, and that is known when its
values at six points are (winograd_mixtures.py), each the product of two values. So six products do, of six mixtures of
the inputs and six of the taps, and the outputs are mixtures of the products. In two dimensions there are 36 pairs of
points, for a tile of 4 × 4 outputs that takes 144 products the plain way:

    seen      = mixtures of the inputs of every tile          for each of the 36 a matrix (tiles, C)
    answered  = seen · mixtures of the 3 × 3 taps             36 products (tiles, C) · (C, D): the work
    output    = mixtures of what was answered

The last tiles of a crop may have fewer outputs. A tile of three needs one point less, so 7 × 7 places take
(6 + 5)² = 121 products instead of 441.

The numbers are those of the convolution but for rounding (1e-5 of the largest, in float32). On a GPU cuDNN does this by
itself; on a CPU oneDNN does not. Mixing is a matter of memory, so a few of the 36 are done at a time, in a cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rcnn_edu.winograd_mixtures import TAPS, TILE, of_crop, of_tile

AT_ONCE = 13
"""Of the 36 pairs, at most."""
LARGEST_CROP = 64
"""Places of a map that is a crop, and taken as a whole; larger ones are cut into tiles."""
FEWEST_CHANNELS, FEWEST_TILES = 128, 128
"""With less, mixing costs more than the multiplications that it saves."""


def pays(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether `conv` is such a convolution, and `x` `(B, C, H, W)` large enough, in float32 and on a CPU."""
    options = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
    plain = options == ((3, 3), (1, 1), (1, 1), (1, 1), 1)
    here = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    large = min(conv.in_channels, conv.out_channels) >= FEWEST_CHANNELS
    return plain and here and large and len(x) * _tiles(x.shape[2]) * _tiles(x.shape[3]) >= FEWEST_TILES


def convolve(x: Tensor, weight: Tensor, scale: Tensor | None = None) -> Tensor:
    """As `F.conv2d(x, weight, padding=1)`: `(B, C, H, W)` and `(D, C, 3, 3)` → `(B, D, H, W)`, with both gradients.

    scale: `(D,)`, of each output; it gets no gradient.
    """
    return cast(Tensor, _Convolution.apply(x, weight, scale))


class _Convolution(torch.autograd.Function):
    """Keeps what it is given for the gradients, not what it makes of it: that costs more memory than time to redo."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, scale)
        # Detached: what autograd hands on must be no view of something made in here.
        return convolve_mixed(x, mixed_taps(_scaled(weight, scale), x.shape)).detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = _scaled(_weight_gradient(x, gradient), scale)
        if ctx.needs_input_grad[0]:
            # What a convolution sends back is a convolution: with the taps in reverse, from outputs to inputs.
            taps = mixed_taps(_scaled(weight, scale).transpose(0, 1).flip(2, 3), gradient.shape)
            of_x = convolve_mixed(gradient, taps)
        return of_x, of_weight, None


def mixed_taps(weight: Tensor, shape: Sequence[int]) -> Iterator[Tensor]:
    """Mixtures of the taps of every pair of channels, for an input of `shape` `(B, C, H, W)`.

    `(D, C, 3, 3)` → `(pairs, D, C)` for as many pairs as are multiplied at a time.
    """
    outputs, channels = weight.shape[:2]
    taps = weight.permute(2, 3, 0, 1).reshape(TAPS**2, outputs * channels)
    del weight  # of which only the caller knows whether it is still wanted
    for mix in _mixtures(shape, taps.dtype):
        yield (mix.of_taps @ taps).view(-1, outputs, channels)


def convolve_mixed(x: Tensor, mixed: Iterable[Tensor]) -> Tensor:
    """As `convolve`, without gradients; mixed: what `mixed_taps` makes of the weight."""
    blocks, result = _blocks(x), None
    for mix, taps in zip(_mixtures(x.shape, x.dtype), mixed, strict=True):
        seen = mix.see(blocks)
        answered = torch.bmm(seen.transpose(0, 1), taps.transpose(1, 2)).transpose(0, 1)
        del seen  # before more is made: memory is what this is short of
        answered = answered.reshape(len(blocks), mix.of_answers.shape[1], -1)
        of_answers = mix.of_answers.expand(len(blocks), -1, -1)
        result = torch.bmm(of_answers, answered) if result is None else result.baddbmm_(of_answers, answered)
    assert result is not None
    return _joined(result, x.shape)


def _scaled(weight: Tensor, scale: Tensor | None) -> Tensor:
    return weight if scale is None else weight * scale[:, None, None, None]


def _weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    channels, outputs = x.shape[1], gradient.shape[1]
    blocks, wanted = _blocks(x), _whole(gradient) if _is_crop(x.shape) else _cut(gradient, TILE, start=0)
    of_taps = x.new_zeros(TAPS**2, outputs * channels)
    for mix in _mixtures(x.shape, x.dtype):
        seen, pairs = mix.see(blocks), len(mix.of_taps)
        of_answers = torch.bmm(mix.of_answers.t().expand(len(wanted), -1, -1), wanted).view(-1, pairs, outputs)
        of_mixed = torch.bmm(of_answers.permute(1, 2, 0), seen.transpose(0, 1))
        del seen, of_answers
        of_taps.addmm_(mix.of_taps.t(), of_mixed.flatten(1))
    # In the weight's own layout, channels last, so that nothing has to be turned round when it is added up.
    return (
        of_taps.view(-1, outputs, channels).transpose(0, 1).reshape(outputs, TAPS, TAPS, channels).permute(0, 3, 1, 2)
    )


class _Mixtures(NamedTuple):
    """As in winograd_mixtures, tensors."""

    of_inputs: Tensor
    of_taps: Tensor
    of_answers: Tensor

    def see(self, blocks: Tensor) -> Tensor:
        """Mixtures of the inputs of every tile: blocks `(N, places, C)` → `(N · tiles, pairs, C)`."""
        seen = torch.bmm(self.of_inputs.expand(len(blocks), -1, -1), blocks)
        return seen.view(-1, len(self.of_taps), blocks.shape[2])


def _mixtures(shape: Sequence[int], dtype: torch.dtype) -> list[_Mixtures]:
    made = of_crop(shape[2], shape[3], AT_ONCE) if _is_crop(shape) else of_tile(AT_ONCE)
    return [_Mixtures(*(torch.from_numpy(matrix).to(dtype) for matrix in mixtures)) for mixtures in made]


def _is_crop(shape: Sequence[int]) -> bool:
    return shape[2] * shape[3] <= LARGEST_CROP


def _blocks(x: Tensor) -> Tensor:
    """`(B, C, H, W)` → `(N, places, C)`: crops as they are, larger maps cut into tiles with what surrounds them."""
    return _whole(x) if _is_crop(x.shape) else _cut(x, TILE + TAPS - 1, start=-1)


def _whole(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1])


def _cut(x: Tensor, size: int, start: int) -> Tensor:
    """`(B, C, H, W)` → `(N, size², C)`: the size × size places from `start` on of every tile; zero beyond the map."""
    batch, channels, height, width = x.shape
    rows, columns = _tiles(height), _tiles(width)
    cut = x.new_zeros(batch, rows, columns, size, size, channels)
    for i, (y, y_tiles) in enumerate(_within(height, size, start)):
        for j, (x_, x_tiles) in enumerate(_within(width, size, start)):
            cut[:, y_tiles, x_tiles, i, j] = x.permute(0, 2, 3, 1)[:, y, x_]
    return cut.view(-1, size**2, channels)


def _joined(result: Tensor, shape: Sequence[int]) -> Tensor:
    """`(N, outputs, D)` → `(B, D, H, W)`; what tiles have beyond the map is left out."""
    batch, _, height, width = shape
    if _is_crop(shape):
        return result.view(batch, height, width, -1).permute(0, 3, 1, 2)
    tiles = result.view(batch, _tiles(height), _tiles(width), TILE, TILE, -1)
    joined = result.new_empty(batch, height, width, tiles.shape[-1])
    for i, (y, y_tiles) in enumerate(_within(height, TILE, 0)):
        for j, (x, x_tiles) in enumerate(_within(width, TILE, 0)):
            joined[:, y, x] = tiles[:, y_tiles, x_tiles, i, j]
    return joined.permute(0, 3, 1, 2)


def _within(side: int, size: int, start: int) -> Iterator[tuple[slice, slice]]:
    """For each of a tile's places along one side: where on the map it lies, and in which tiles it lies on the map."""
    for place in range(start, start + size):
        tiles = slice(_tiles(max(-place, 0)), min(max(_tiles(side - place), 0), _tiles(side)))
        yield slice(TILE * tiles.start + place, max(TILE * tiles.stop + place - TILE + 1, 0), TILE), tiles


def _tiles(side: int) -> int:
    return -(-side // TILE)
