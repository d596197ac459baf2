"""Anchors: the fixed boxes that every prediction starts from.

Article "Anchor Generation Layer" · Faster R-CNN (arXiv 1506.01497) §3.1.1 · notebook 02

Nine boxes (three ratios × three scales) around one position, repeated at every cell of the feature map. They depend
on the size of the image alone, never on what it shows.

    ratio    height over width: 0.5 is a wide box, 2 a tall one
    scale    multiple of the 16-pixel base box: 8, 16, 32 give areas of about 128², 256², 512² pixels
    order    grid rows first, then columns, then the nine: anchor k·9 + i is base anchor i at cell k
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def base_anchors(
    base_size: int = 16, ratios: Sequence[float] = (0.5, 1, 2), scales: Sequence[float] = (8, 16, 32)
) -> Tensor:
    """The anchors of one position: `(R·S, 4)` float32, ratio by ratio and scale by scale within.

    They are centred on the middle of the first cell, (8, 8) for a 16-pixel base. Width and height of each ratio are
    rounded to whole pixels before scaling, as in the reference code, so the first of the nine is (-84, -40, 100, 56).
    Raises `ValueError` for a size, ratio or scale that is not positive.
    """
    if base_size <= 0 or not ratios or not scales or min(ratios) <= 0 or min(scales) <= 0:
        raise ValueError(
            f"base_size, ratios and scales must be positive; got {base_size}, {tuple(ratios)}, {tuple(scales)}"
        )
    center = base_size / 2
    boxes = []
    for ratio in ratios:
        width = round((base_size**2 / ratio) ** 0.5)
        height = round(width * ratio)
        for scale in scales:
            half_width, half_height = width * scale / 2, height * scale / 2
            boxes.append((center - half_width, center - half_height, center + half_width, center + half_height))
    return torch.tensor(boxes, dtype=torch.float32)


def grid_anchors(feature_size: tuple[int, int], stride: int = 16, base: Tensor | None = None) -> Tensor:
    """All anchors of an image: the base anchors shifted to every cell of its feature map.

    feature_size: (H, W), cells of the feature map; stride: pixels per cell; base: `(K, 4)`, by default the article's
    nine. Returns `(H·W·K, 4)` in pixels of the resized image, on the device of `base`.
    """
    if base is None:
        base = base_anchors()
    height, width = feature_size
    y = torch.arange(height, device=base.device, dtype=base.dtype) * stride
    x = torch.arange(width, device=base.device, dtype=base.dtype) * stride
    shift_y, shift_x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([shift_x, shift_y, shift_x, shift_y], dim=-1)
    return (shifts[:, :, None, :] + base).reshape(-1, 4)
