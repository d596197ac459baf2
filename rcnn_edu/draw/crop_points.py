"""Where pooling reads the feature map, for the pictures: the points of `roi_align`, and the cells that have a say."""

from __future__ import annotations

import torch
from torch import Tensor


def align_points(roi: Tensor, stride: int, output_size: int) -> tuple[Tensor, Tensor]:
    """Where `roi_align` reads for one RoI `(4,)`: x of its columns and y of its rows, in cells of the feature map.

    Each bin averages a grid of points of its own, about one a cell. Half a cell is subtracted: its cell (0, 0) is
    centred at pixel (8, 8), and not at (0, 0) as in the article's crop.
    """
    both = []
    for low, high in ((roi[0], roi[2]), (roi[1], roi[3])):
        side = (high - low) / stride
        count = output_size * max(1, int(torch.ceil(side / output_size)))
        both.append(low / stride - 0.5 + side * (torch.arange(count) + 0.5) / count)
    return both[0], both[1]


def cells_read(x: Tensor, y: Tensor, feature_size: tuple[int, int]) -> int:
    """How many cells have a weight in some bilinear read at the columns x `(m,)` and the rows y `(n,)`."""
    counts = []
    for position, cells in ((x, feature_size[1]), (y, feature_size[0])):
        # A weight below a thousandth is rounding, which differs from machine to machine.
        near = (position[:, None] - torch.arange(cells)).abs() < 0.999
        counts.append(int(near.any(dim=0).sum()))
    return counts[0] * counts[1]


def matrix_rows(theta: Tensor) -> list[str]:
    """The two rows of a 2×3 matrix, to two digits."""
    return ["  ".join(f"{value:5.2f}" for value in row) for row in (theta + 0.0).tolist()]
