"""Crop pooling: regions of any size become feature maps of one size, 7×7.

Article "Crop Pooling" · Spatial Transformer Networks (arXiv 1506.02025) §3 · notebook 08

    features   (B, C, H, W), one cell per 16 pixels
    RoI        x1, y1, x2, y2 in pixels; over the stride, in cells
    crop       a 7×7 grid laid over the RoI, its corners on the RoI's corners; each point reads the feature map
               between its four nearest cells (bilinear), and 0 beyond the map's outermost cells

`affine_matrices` and torch's `affine_grid` and `grid_sample` say this in the article's words. `crop_pool` computes the
same numbers without ever copying the feature map once per RoI: 128 RoIs × 1024 channels would take 1.9 GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
import torchvision.ops
from torch import Tensor


def crop_pool(
    features: Tensor,
    rois: Sequence[Tensor],
    stride: int = 16,
    output_size: int = 7,
    *,
    mode: Literal["crop", "align"] = "crop",
    differentiable_rois: bool = False,
) -> Tensor:
    """Crop every RoI out of its image's feature map.

    features: `(B, C, H, W)`; rois: B tensors `(R_i, 4)` in pixels of the resized image, one per image.
    Returns `(ΣR_i, C, output_size, output_size)`, the first image's RoIs first, in the dtype of `features`.
    mode: "crop" as in the article, or "align" for torchvision's `roi_align` (bins averaged, half-pixel aligned).
    differentiable_rois: let gradients reach the RoIs' coordinates ("crop" only: `roi_align` has no such gradient).
    Raises `ValueError` when the lists differ in length or RoIs are not `(R, 4)`.
    """
    return crop_maps([features], rois, stride, output_size, mode=mode, differentiable_rois=differentiable_rois)[0]


def crop_maps(
    maps: Sequence[Tensor],
    rois: Sequence[Tensor],
    stride: int = 16,
    output_size: int = 7,
    *,
    mode: Literal["crop", "align"] = "crop",
    differentiable_rois: bool = False,
) -> list[Tensor]:
    """`crop_pool` of several maps with the same rows and columns: where to read is computed once for all."""
    for image, boxes in enumerate(rois):
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"RoIs must be (R, 4); those of image {image} are {tuple(boxes.shape)}")
    for features in maps:
        if len(rois) != features.shape[0]:
            raise ValueError(f"one tensor of RoIs per image is needed; got {len(rois)} for {features.shape[0]} images")
        if features.shape[2:] != maps[0].shape[2:]:
            raise ValueError(f"maps must have one size; got {tuple(maps[0].shape)} and {tuple(features.shape)}")
    if mode == "align":
        if differentiable_rois:
            raise ValueError('differentiable_rois needs mode="crop": roi_align has no gradient for its RoIs')
        return [_align(features, rois, stride, output_size) for features in maps]
    if mode != "crop":
        raise ValueError(f'mode must be "crop" or "align"; got "{mode}"')
    if not differentiable_rois:
        rois = [boxes.detach() for boxes in rois]
    precise = torch.promote_types(maps[0].dtype, torch.float32)
    points = torch.stack(sampling_points(torch.cat(list(rois)).to(precise), stride, output_size))
    height, width = maps[0].shape[2:]
    cells, weights = _places(points, (height, width), [len(boxes) for boxes in rois])
    crops = []
    for features in maps:
        table = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
        rows = _weighted_sums(table, cells, weights)
        crops.append(rows.unflatten(0, (-1, output_size, output_size)).permute(0, 3, 1, 2))
    return crops


def _align(features: Tensor, rois: Sequence[Tensor], stride: int, output_size: int) -> Tensor:
    boxes = [some.detach().float() for some in rois]
    aligned = torchvision.ops.roi_align(features.float(), boxes, output_size, 1 / stride, aligned=True)
    return aligned.to(features.dtype)


def affine_matrices(rois: Tensor, feature_size: tuple[int, int], stride: int = 16) -> Tensor:
    """The article's affine maps from the crop's square [-1, 1]² to the RoI's place on the feature map.

    rois: `(R, 4)` in pixels; feature_size: (H, W) in cells, both at least 2. Returns `(R, 2, 3)`, for
    `affine_grid(..., align_corners=True)`: -1 and 1 are the centres of the map's first and last cell.
    """
    height, width = feature_size
    x1, y1, x2, y2 = (rois / stride).unbind(dim=1)
    zero = torch.zeros_like(x1)
    row_x = torch.stack([(x2 - x1) / (width - 1), zero, (x1 + x2) / (width - 1) - 1], dim=1)
    row_y = torch.stack([zero, (y2 - y1) / (height - 1), (y1 + y2) / (height - 1) - 1], dim=1)
    return torch.stack([row_x, row_y], dim=1)


def sampling_points(rois: Tensor, stride: int, output_size: int) -> tuple[Tensor, Tensor]:
    """Where each crop reads: x `(R, n)` of its columns and y `(R, n)` of its rows, in cells of the feature map."""
    corners = rois / stride
    if output_size == 1:  # the only point is the middle
        along = torch.full((1,), 0.5, dtype=corners.dtype, device=rois.device)
    else:
        along = torch.linspace(0, 1, output_size, dtype=corners.dtype, device=rois.device)
    points = corners[:, :2, None] + (corners[:, 2:] - corners[:, :2])[:, :, None] * along
    return points[:, 0], points[:, 1]


def _places(points: Tensor, feature_size: tuple[int, int], counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Which four cells each sample reads and what they weigh: two `(S, 4)`, S = ΣR·n·n, for an embedding_bag.

    points: `(2, R, n)`, x and y where the RoIs of all images read; feature_size: (H, W) of the map, whose cells are the
    rows of a table `(B·H·W, C)`; counts: RoIs of each image.
    """
    height, width = feature_size
    first = torch.tensor([i * height * width for i, count in enumerate(counts) for _ in range(count)])
    first = first.long().to(points.device, non_blocking=True)  # long: it is empty if there are no RoIs
    (columns, rows), (column_weights, row_weights) = _neighbours(points, feature_size)
    # (R, n, 1, 2, 1) with (R, 1, n, 1, 2): every row of samples with every column, two neighbours each way
    starts = first[:, None, None] + rows * width
    cells = starts[:, :, None, :, None] + columns[:, None, :, None, :]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    return cells.reshape(-1, 4), weights.reshape(-1, 4)


def _weighted_sums(table: Tensor, cells: Tensor, weights: Tensor) -> Tensor:
    """`(S, C)`: each row the weighted sum of four rows of `table`, named and weighted by `(S, 4)`."""
    dtype = table.dtype
    # A GPU sums in float32 by itself, whatever it reads and writes; it only has no gradient for weights of few digits.
    if table.device.type != "cpu" and not weights.requires_grad:
        return F.embedding_bag(cells, table, per_sample_weights=weights.to(dtype), mode="sum")
    if dtype == weights.dtype or torch.is_grad_enabled():
        return F.embedding_bag(cells, table.to(weights.dtype), per_sample_weights=weights, mode="sum").to(dtype)
    # The CPU, too, reads few digits and sums in float32, but wants weights of few digits: so what they leave over is
    # a second weight.
    short = weights.to(dtype)
    both = torch.cat([short, (weights - short).to(dtype)], dim=1)
    return F.embedding_bag(cells.repeat(1, 2), table, per_sample_weights=both, mode="sum")


def _neighbours(points: Tensor, feature_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The two cells beside each x and y `(2, R, n)`, and their bilinear weights, both `(2, R, n, 2)`.

    Cells off the map weigh 0.
    """
    first = points.detach().floor()
    neighbours = torch.stack([first, first + 1], dim=-1)
    weights = torch.stack([first + 1 - points, points - first], dim=-1)
    last = torch.tensor([feature_size[1] - 1, feature_size[0] - 1]).to(points.device, non_blocking=True)
    last = last[:, None, None, None]
    on_map = (neighbours >= 0) & (neighbours <= last)
    return torch.minimum(neighbours.long().clamp(min=0), last), torch.where(on_map, weights, 0.0)
