"""Exercises of lesson 02: the anchors of one position, how many positions there are, and the anchors of all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rcnn_edu.anchors import base_anchors, grid_anchors
from rcnn_edu.backbone import feature_size
from rcnn_edu.exercises.base import Exercise, Mistake

Numbers = Sequence[float]


def _around(center: float, sizes: list[tuple[float, float]]) -> Tensor:
    return torch.tensor([(center - w / 2, center - h / 2, center + w / 2, center + h / 2) for w, h in sizes])


def _scale_first(base_size: int, ratios: Numbers, scales: Numbers) -> Tensor:
    boxes = base_anchors(base_size, ratios, scales).reshape(len(ratios), len(scales), 4)
    return boxes.transpose(0, 1).reshape(-1, 4)


def _width_over_height(base_size: int, ratios: Numbers, scales: Numbers) -> Tensor:
    return base_anchors(base_size, [1 / ratio for ratio in ratios], scales)


def _not_rounded(base_size: int, ratios: Numbers, scales: Numbers) -> Tensor:
    sides = [(base_size / ratio**0.5, base_size * ratio**0.5) for ratio in ratios]
    return _around(base_size / 2, [(w * scale, h * scale) for w, h in sides for scale in scales])


def _same_width(base_size: int, ratios: Numbers, scales: Numbers) -> Tensor:
    sides = [(base_size * scale, base_size * ratio * scale) for ratio in ratios for scale in scales]
    return _around(base_size / 2, sides)


def _at_corner(base_size: int, ratios: Numbers, scales: Numbers) -> Tensor:
    return base_anchors(base_size, ratios, scales) - base_size / 2


def _last_pixel(base_size: int, ratios: Numbers, scales: Numbers) -> Tensor:
    return base_anchors(base_size, ratios, scales) - torch.tensor([0.0, 0, 1, 1])


base = Exercise(
    "base_anchors",
    base_anchors,
    [(16, (0.5, 1, 2), (8, 16, 32)), (10, (1, 3), (2, 4))],
    [
        Mistake(_scale_first, "the order is ratio by ratio: all scales of the first ratio, then all of the second"),
        Mistake(_width_over_height, "a ratio is height over width: 0.5 is a wide box"),
        Mistake(_not_rounded, "round width and height of each ratio to whole pixels before they are scaled"),
        Mistake(_same_width, "a ratio keeps the area: the width is sqrt(base_size**2 / ratio), rounded"),
        Mistake(
            _at_corner, "the anchors are centred on the middle of the first cell, base_size / 2, not on its corner"
        ),
        Mistake(_last_pixel, "boxes are half-open: x2 - x1 is the width; do not subtract 1 for the last pixel"),
    ],
)


def _rounded_down(image_size: tuple[int, int]) -> tuple[int, int]:
    return image_size[0] // 16, image_size[1] // 16


def _as_in_the_article(image_size: tuple[int, int]) -> tuple[float, float]:
    return image_size[0] / 16, image_size[1] / 16


def _columns_first(image_size: tuple[int, int]) -> tuple[int, int]:
    return feature_size((image_size[1], image_size[0]))


def _one_more(image_size: tuple[int, int]) -> tuple[int, int]:
    return image_size[0] // 16 + 1, image_size[1] // 16 + 1


cells = Exercise(
    "feature_size",
    feature_size,
    [((600, 889),), ((640, 480),), ((16, 17),)],
    [
        Mistake(_rounded_down, "the cell at the end counts even if the photo fills only part of it: round up"),
        Mistake(_as_in_the_article, "there are only whole cells: round up"),
        Mistake(_columns_first, "(rows, columns): rows come from the height, which is first in image_size"),
        Mistake(_one_more, "a side that 16 divides has no cell left over: 480 pixels are 30 cells, not 31"),
    ],
)


def _columns_then_rows(feature_size: tuple[int, int], stride: int, base: Tensor) -> Tensor:
    rows, columns = feature_size
    return grid_anchors(feature_size, stride, base).reshape(rows, columns, -1).transpose(0, 1).reshape(-1, 4)


def _base_outermost(feature_size: tuple[int, int], stride: int, base: Tensor) -> Tensor:
    return grid_anchors(feature_size, stride, base).reshape(-1, len(base), 4).transpose(0, 1).reshape(-1, 4)


def _x_and_y_swapped(feature_size: tuple[int, int], stride: int, base: Tensor) -> Tensor:
    shifts = grid_anchors(feature_size, stride, torch.zeros(1, 4))[:, [1, 0, 3, 2]]
    return (shifts[:, None] + base).reshape(-1, 4)


def _no_stride(feature_size: tuple[int, int], stride: int, base: Tensor) -> Tensor:
    return grid_anchors(feature_size, 1, base)


def _half_a_cell(feature_size: tuple[int, int], stride: int, base: Tensor) -> Tensor:
    return grid_anchors(feature_size, stride, base) + stride / 2


_two = torch.tensor([[-84.0, -40, 100, 56], [-36, -80, 52, 96]])

grid = Exercise(
    "grid_anchors",
    grid_anchors,
    [((2, 3), 16, _two), ((1, 2), 8, _two)],
    [
        Mistake(_columns_then_rows, "the first row of cells comes first, from left to right, then the second"),
        Mistake(_base_outermost, "all base anchors of the first cell come first, then those of the next"),
        Mistake(_x_and_y_swapped, "a column further right adds to x1 and x2, a row further down to y1 and y2"),
        Mistake(_no_stride, "a cell is stride pixels wide: multiply row and column by it"),
        Mistake(_half_a_cell, "the base anchors are centred in the first cell already; do not add half a stride again"),
    ],
)

EXERCISES = (base, cells, grid)
