"""Exercises of lesson 08: where a crop reads the feature map, what it reads there, and the matrix that says so."""

from __future__ import annotations

import torch
from torch import Tensor

from rcnn_edu.crop_pooling import affine_matrices, crop_pool, sampling_points
from rcnn_edu.exercises.base import Exercise, Mistake


def _pixels(rois: Tensor, stride: int, output_size: int) -> tuple[Tensor, Tensor]:
    return sampling_points(rois, 1, output_size)


def _bin_centers(rois: Tensor, stride: int, output_size: int) -> tuple[Tensor, Tensor]:
    corners = rois / stride
    along = (torch.arange(output_size) + 0.5) / output_size
    points = corners[:, :2, None] + (corners[:, 2:] - corners[:, :2])[:, :, None] * along
    return points[:, 0], points[:, 1]


def _whole_cells(rois: Tensor, stride: int, output_size: int) -> tuple[Tensor, Tensor]:
    return sampling_points((rois / stride).round(), 1, output_size)


def _from_zero(rois: Tensor, stride: int, output_size: int) -> tuple[Tensor, Tensor]:
    moved = torch.cat([torch.zeros_like(rois[:, :2]), rois[:, 2:] - rois[:, :2]], dim=1)
    return sampling_points(moved, stride, output_size)


def _swapped(rois: Tensor, stride: int, output_size: int) -> tuple[Tensor, Tensor]:
    x, y = sampling_points(rois, stride, output_size)
    return y, x


_rois = torch.tensor([[20.0, 40, 130, 90], [-8, 0, 56, 144], [33, 17, 65, 33]])

points = Exercise(
    "sampling_points",
    sampling_points,
    [(_rois, 16, 7), (_rois[:1], 8, 3)],
    [
        Mistake(_pixels, "these are pixels; divide the RoI by the stride first"),
        Mistake(_bin_centers, "these are the middles of 7 bins; the first and last points lie on the RoI's edges"),
        Mistake(_whole_cells, "nothing is rounded: points may lie between cells, which is what bilinear reads are for"),
        Mistake(_from_zero, "these points start at 0; add the RoI's x1 and y1"),
        Mistake(_swapped, "x and y are swapped: return x first, from columns 0 and 2 of the RoI"),
    ],
)


def _bilinear(feature: Tensor, x: float, y: float) -> Tensor:
    """A RoI without extent whose crop is one point."""
    crop: Tensor = crop_pool(feature[None, None], [torch.tensor([[x, y, x, y]])], stride=1, output_size=1)
    return crop[0, 0, 0, 0]


def _four_cells(feature: Tensor, x: float, y: float) -> tuple[Tensor, float, float]:
    """The four cells around a point, 0 beyond the map, and the point's distance from the first, right and down."""
    padded = torch.nn.functional.pad(feature, (1, 1, 1, 1))
    column, row = int(x // 1), int(y // 1)
    return padded[row + 1 : row + 3, column + 1 : column + 3], x - column, y - row


def _weighted(cells: Tensor, across: float, down: float) -> Tensor:
    return (torch.tensor([1 - down, down])[:, None] * torch.tensor([1 - across, across]) * cells).sum()


def _nearest(feature: Tensor, x: float, y: float) -> Tensor:
    cells, across, down = _four_cells(feature, x, y)
    return cells[round(down), round(across)]


def _far_cell_first(feature: Tensor, x: float, y: float) -> Tensor:
    cells, across, down = _four_cells(feature, x, y)
    return _weighted(cells, 1 - across, 1 - down)


def _row_is_x(feature: Tensor, x: float, y: float) -> Tensor:
    return _bilinear(feature.T, x, y)


def _border_repeated(feature: Tensor, x: float, y: float) -> Tensor:
    rows, columns = feature.shape
    return _bilinear(feature, min(max(x, 0.0), columns - 1.0), min(max(y, 0.0), rows - 1.0))


def _mean_of_four(feature: Tensor, x: float, y: float) -> Tensor:
    return _four_cells(feature, x, y)[0].mean()


_feature = torch.tensor([[1.0, 5, 2, 8], [7, 3, 9, 4], [6, 0, 2, 5], [1, 4, 8, 3]])

bilinear = Exercise(
    "bilinear",
    _bilinear,
    [
        (_feature, 1.25, 0.75),
        (_feature, 2.0, 1.0),
        (_feature, 0.25, 2.75),
        (_feature, 3.25, 1.25),
        (_feature, 1.75, -0.25),
    ],
    [
        Mistake(_nearest, "this is the nearest cell; weigh the four around the point: 1 - distance across, times down"),
        Mistake(_far_cell_first, "the weights are swapped: a cell counts the more, the nearer it is: 1 - distance"),
        Mistake(_row_is_x, "x counts columns and y rows: the cell is feature[y, x]"),
        Mistake(_border_repeated, "beyond the last cell the map is 0; here its border goes on for ever"),
        Mistake(_mean_of_four, "this is the plain mean of the four cells; weigh each by its nearness to the point"),
    ],
)


def _in_pixels(rois: Tensor, feature_size: tuple[int, int], stride: int) -> Tensor:
    return affine_matrices(rois, feature_size, 1)


def _width_of_cells(rois: Tensor, feature_size: tuple[int, int], stride: int) -> Tensor:
    return affine_matrices(rois, (feature_size[0] + 1, feature_size[1] + 1), stride)


def _size_swapped(rois: Tensor, feature_size: tuple[int, int], stride: int) -> Tensor:
    return affine_matrices(rois, (feature_size[1], feature_size[0]), stride)


def _no_minus_one(rois: Tensor, feature_size: tuple[int, int], stride: int) -> Tensor:
    return affine_matrices(rois, feature_size, stride) + torch.tensor([[0.0, 0, 1], [0, 0, 1]])


def _corner_as_shift(rois: Tensor, feature_size: tuple[int, int], stride: int) -> Tensor:
    theta = affine_matrices(rois, feature_size, stride).clone()
    theta[:, :, 2] -= theta[:, :, :2].diagonal(dim1=1, dim2=2)
    return theta


matrices = Exercise(
    "affine_matrices",
    affine_matrices,
    [(_rois, (10, 14), 16), (_rois[:2], (20, 12), 8)],
    [
        Mistake(_in_pixels, "the RoI is still in pixels; divide it by the stride"),
        Mistake(_width_of_cells, "-1 and 1 are the centres of the first and last cells, W - 1 apart, not W"),
        Mistake(_size_swapped, "feature_size is (H, W): x goes with W - 1, y with H - 1"),
        Mistake(_no_minus_one, "the shift must put the map's first cell at -1; subtract 1 in the last column"),
        Mistake(_corner_as_shift, "the last column is where the target's middle goes: the RoI's centre, not x1 and y1"),
    ],
)

EXERCISES = (points, bilinear, matrices)
