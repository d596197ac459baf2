"""A 3×3 convolution with a quarter of the multiplications: Winograd's minimal filtering, for a CPU.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308) · used by tail, head and RPN

Four neighbouring outputs of a filter with three taps take 4 · 3 = 12 products the plain way. Winograd takes 6: one for
each of six fixed mixtures of the six inputs, with the same mixture of the taps; the outputs are fixed mixtures of the
six products. In two dimensions that is 36 products for a tile of 4 × 4 outputs instead of 144. With N tiles in all:

    seen      = mixtures of the 6 × 6 inputs of every tile        36 matrices (N, C)
    answered  = seen · mixtures of the 3 × 3 taps                 36 products (N, C) · (C, D): the work
    output    = mixtures of the answers, 4 × 4 places a tile      16 matrices (N, D)

The numbers are those of the convolution but for rounding (1e-5 of the largest, in float32). On a GPU cuDNN does this by
itself; on a CPU oneDNN does not. Mixing is a matter of memory, so a few of the 36 are done at a time, in a cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

TILE, INPUTS, TAPS = 4, 6, 3
AT_ONCE = 12
"""Of the 36 mixtures."""
LARGEST_CROP = 64
"""Places of a map that is a crop, for which cutting and mixing is one small matrix."""
FEWEST_CHANNELS, FEWEST_TILES = 128, 128
"""With less, mixing costs more than the multiplications that it saves."""

# Lavin & Gray's F(4×4, 3×3): interpolation at 0, 1, −1, 2, −2 and infinity. A row is a mixture.
_OF_INPUTS = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_OF_TAPS = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_OF_ANSWERS = [
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
]


def pays(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether `conv` is such a convolution, and `x` `(B, C, H, W)` large enough, in float32 and on a CPU."""
    plain = (conv.kernel_size, conv.stride, conv.padding, conv.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
    here = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    large = min(conv.in_channels, conv.out_channels) >= FEWEST_CHANNELS and conv.groups == 1
    return plain and here and large and len(x) * _tiles(x.shape[2]) * _tiles(x.shape[3]) >= FEWEST_TILES


def convolve(x: Tensor, weight: Tensor, scale: Tensor | None = None) -> Tensor:
    """As `F.conv2d(x, weight, padding=1)`: `(B, C, H, W)` and `(D, C, 3, 3)` → `(B, D, H, W)`, with both gradients.

    scale: `(D,)`, of each output; it gets no gradient.
    """
    return cast(Tensor, _Convolution.apply(x, weight, scale))


def mixed_taps(weight: Tensor) -> Iterator[Tensor]:
    """Mixtures of the taps of every pair of channels: `(D, C, 3, 3)` → `(AT_ONCE, C, D)` at a time."""
    outputs, channels = weight.shape[:2]
    taps = weight.permute(0, 2, 3, 1).contiguous().view(outputs, TAPS**2, channels)
    for mix in _mixtures(weight.dtype):
        yield torch.bmm(mix.of_taps.expand(outputs, -1, -1), taps).permute(1, 2, 0)


def convolve_mixed(x: Tensor, mixed: Iterable[Tensor]) -> Tensor:
    """As `convolve`, without gradients; mixed: what `mixed_taps` makes of the weight."""
    seen, taps = _mixed_inputs(x), iter(mixed)
    result: Tensor | None = None
    for mix in _mixtures(x.dtype):
        answered = torch.bmm(next(seen), next(taps))
        outputs, flat = answered.shape[2], answered.flatten(1)
        result = mix.of_answers @ flat if result is None else result.addmm_(mix.of_answers, flat)
        del answered, flat  # before the next ones are made: memory is what this is short of
    assert result is not None
    return _joined(result, (len(x), outputs, *x.shape[2:]))


class _Convolution(torch.autograd.Function):
    """Keeps what it is given for the gradients, not what it makes of it: that costs more memory than time to redo."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, scale)
        return convolve_mixed(x, mixed_taps(_scaled(weight, scale)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = _scaled(_weight_gradient(x, gradient), scale)
        if ctx.needs_input_grad[0]:
            # What a convolution sends back is a convolution: with the taps in reverse, from outputs to inputs.
            backwards = _scaled(weight, scale).transpose(0, 1).flip(2, 3)
            of_x = convolve_mixed(gradient, mixed_taps(backwards))
        return of_x, of_weight, None


def _scaled(weight: Tensor, scale: Tensor | None) -> Tensor:
    return weight if scale is None else weight * scale[:, None, None, None]


def _weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    channels, outputs = x.shape[1], gradient.shape[1]
    wanted = _cut(gradient, TILE, start=0)
    of_taps = x.new_zeros(TAPS**2, outputs * channels)
    seen = _mixed_inputs(x)
    for mix in _mixtures(x.dtype):
        of_answers = (mix.of_answers.t() @ wanted).view(len(mix.of_taps), -1, outputs)
        of_mixed = torch.bmm(of_answers.transpose(1, 2), next(seen))
        of_taps.addmm_(mix.of_taps.t(), of_mixed.flatten(1))
        del of_answers, of_mixed
    # In the weight's own layout, channels last, so that nothing has to be turned round when it is added up.
    return (
        of_taps.view(-1, outputs, channels).transpose(0, 1).reshape(outputs, TAPS, TAPS, channels).permute(0, 3, 1, 2)
    )


def _mixed_inputs(x: Tensor) -> Iterator[Tensor]:
    """Mixtures of the inputs of every tile, `(AT_ONCE, N, C)` at a time."""
    batch, channels, height, width = x.shape
    if height * width > LARGEST_CROP:
        inputs = _cut(x, INPUTS, start=-1)
        for mix in _mixtures(x.dtype):
            yield (mix.of_inputs @ inputs).view(len(mix.of_taps), -1, channels)
        return
    # For crops the whole way, cutting and mixing, is a small matrix: what becomes of each place by itself.
    each_place = _cut(torch.eye(height * width, dtype=x.dtype).view(1, -1, height, width), INPUTS, start=-1)
    places = x.permute(0, 2, 3, 1).reshape(batch, -1, channels)
    for mix in _mixtures(x.dtype):
        mixed = (mix.of_inputs @ each_place).view(len(mix.of_taps), -1, height * width)
        matrix = mixed.transpose(0, 1).flatten(0, 1)  # tile by tile
        yield torch.bmm(matrix.expand(batch, -1, -1), places).view(-1, len(mixed), channels).transpose(0, 1)


def _cut(x: Tensor, size: int, start: int) -> Tensor:
    """`(B, C, H, W)` → `(size², N·C)`: the size × size places from `start` on of every tile; zero beyond the map."""
    batch, channels, height, width = x.shape
    rows, columns = _tiles(height), _tiles(width)
    cut = x.new_zeros(size, size, batch, rows, columns, channels)
    for i, (y, y_tiles) in enumerate(_within(height, size, start)):
        for j, (x_, x_tiles) in enumerate(_within(width, size, start)):
            cut[i, j, :, y_tiles, x_tiles] = x.permute(0, 2, 3, 1)[:, y, x_]
    return cut.view(size**2, -1)


def _joined(result: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`(16, N·D)` → `(B, D, H, W)`, of `shape`; what tiles have beyond the map is left out."""
    batch, channels, height, width = shape
    tiles = result.view(TILE, TILE, batch, _tiles(height), _tiles(width), channels)
    joined = torch.empty(shape, dtype=result.dtype, memory_format=torch.channels_last)
    places = joined.permute(0, 2, 3, 1)
    for i, (y, y_tiles) in enumerate(_within(height, TILE, 0)):
        for j, (x, x_tiles) in enumerate(_within(width, TILE, 0)):
            places[:, y, x] = tiles[i, j, :, y_tiles, x_tiles]
    return joined


def _within(side: int, size: int, start: int) -> Iterator[tuple[slice, slice]]:
    """For each of a tile's places along one side: where on the map it lies, and in which tiles it lies on the map."""
    for place in range(start, start + size):
        tiles = slice(_tiles(max(-place, 0)), min(max(_tiles(side - place), 0), _tiles(side)))
        yield slice(TILE * tiles.start + place, max(TILE * tiles.stop + place - TILE + 1, 0), TILE), tiles


def _tiles(side: int) -> int:
    return -(-side // TILE)


class _Mixtures(NamedTuple):
    of_inputs: Tensor
    """`(AT_ONCE, 36)`."""
    of_taps: Tensor
    """`(AT_ONCE, 9)`."""
    of_answers: Tensor
    """`(16, AT_ONCE)`."""


def _mixtures(dtype: torch.dtype) -> list[_Mixtures]:
    """All 36, `AT_ONCE` in each entry."""
    of_inputs, of_taps, of_answers = (
        torch.kron(matrix, matrix).to(dtype)
        for matrix in (torch.tensor(rows, dtype=torch.float64) for rows in (_OF_INPUTS, _OF_TAPS, _OF_ANSWERS))
    )
    parts = of_inputs.split(AT_ONCE), of_taps.split(AT_ONCE), of_answers.split(AT_ONCE, dim=1)
    return [_Mixtures(*part) for part in zip(*parts, strict=True)]
