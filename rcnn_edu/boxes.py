"""Boxes: how close two are (IoU), and the four numbers that turn one into the other (regression coefficients).

Article "Bounding Box Regression Coefficients" and "Intersection over Union Overlap" ·
R-CNN (arXiv 1311.2524) appendix C · Faster R-CNN (arXiv 1506.01497) eq. 2 · notebook 03

    box                x1, y1, x2, y2 in pixels, half-open: width = x2 − x1
    reference          the box that we have: an anchor or a proposal, with centre (cx, cy), width w, height h
    target             the box that we want
    coefficients       tx = (target cx − cx) / w        tw = log(target w / w)
                       ty = (target cy − cy) / h        th = log(target h / h)

They are free of units: scaling image, reference and target together changes none of the four.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# exp(tw) is clamped at 1000/16: a 16-pixel reference may grow to 1000 pixels, an image's longest side, not further.
MAX_LOG_RATIO = math.log(1000 / 16)
# Sides are held above this in pixels before a division or logarithm, so that an empty box gives a finite number.
SMALLEST_SIDE = 1e-6


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every pair: `(N, 4)` and `(M, 4)` → `(N, M)` in 0..1.

    A pair with an empty, inverted or non-finite box has IoU 0, never NaN. Whole and half-precision numbers are taken
    as float32, in which an area has room.
    """
    a, b = (boxes.to(torch.promote_types(boxes.dtype, torch.float32)) for boxes in (a, b))
    # A matrix (M, N) for each axis, not one of (N, M, 2): long rows of numbers are what a processor is fast at.
    ax1, ay1, ax2, ay2 = a.t().contiguous()
    bx1, by1, bx2, by2 = b.t().contiguous()[:, :, None]
    width, height = _overlap(ax1, ax2, bx1, bx2), _overlap(ay1, ay2, by1, by2)
    intersection = width * height if width.requires_grad else width.mul_(height)  # a gradient needs both factors
    union = (box_area(a) + box_area(b)[:, None]).sub_(intersection)
    # An inverted box has no intersection with anything, so only 0/0 and non-finite boxes are left to mend.
    return torch.nan_to_num_(intersection / union, nan=0.0, posinf=0.0, neginf=0.0).t()


def _overlap(a1: Tensor, a2: Tensor, b1: Tensor, b2: Tensor) -> Tensor:
    """Length that the intervals from a1 to a2 and from b1 to b2 share."""
    return torch.minimum(a2, b2).sub_(torch.maximum(a1, b1)).relu_()  # clamp_ cannot be vmapped


def box_area(boxes: Tensor) -> Tensor:
    """Area of each box in square pixels: `(N, 4)` → `(N,)`; 0 for an empty or inverted box."""
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    return sides[:, 0] * sides[:, 1]


def encode_boxes(references: Tensor, targets: Tensor) -> Tensor:
    """The coefficients (tx, ty, tw, th) that turn each reference into its target: both `(N, 4)` → `(N, 4)`."""
    reference_center, reference_size = _center_size(references)
    target_center, target_size = _center_size(targets)
    reference_size = reference_size.clamp(min=SMALLEST_SIDE)
    shift = (target_center - reference_center) / reference_size
    growth = torch.log(target_size.clamp(min=SMALLEST_SIDE) / reference_size)
    return torch.cat([shift, growth], dim=1)


def decode_boxes(references: Tensor, coefficients: Tensor) -> Tensor:
    """Apply coefficients to references: `(N, 4)` and `(N, 4·K)`, K boxes a reference → `(N, 4·K)`.

    The inverse of `encode_boxes`, but tw and th are clamped at log(1000/16). Raises `ValueError` for other shapes.
    """
    if coefficients.ndim != 2 or coefficients.shape[1] % 4 or coefficients.shape[0] != references.shape[0]:
        raise ValueError(
            f"coefficients must be (N, 4·K) for references (N, 4); "
            f"got {tuple(coefficients.shape)} for {tuple(references.shape)}"
        )
    center, size = _center_size(references)
    shift, growth = coefficients.unflatten(1, (-1, 4)).split(2, dim=2)
    new_center = center[:, None] + shift * size[:, None]
    half_size = torch.exp(growth.clamp(max=MAX_LOG_RATIO)) * size[:, None] / 2
    return torch.cat([new_center - half_size, new_center + half_size], dim=2).flatten(1)


def clip_boxes(boxes: Tensor, image_size: tuple[int, int] | Tensor) -> Tensor:
    """Boxes cut at the image's border: `(N, 4·K)` → `(N, 4·K)`.

    image_size: (height, width) in pixels, as numbers, or as a tensor `(2,)` or, one for each row, `(N, 2)`.
    """
    corners = boxes.unflatten(1, (-1, 2))
    if isinstance(image_size, Tensor):
        return torch.minimum(corners.clamp(min=0), image_size.flip(-1)[..., None, :]).flatten(1)
    height, width = image_size
    x = corners[..., 0].clamp(0, width)
    y = corners[..., 1].clamp(0, height)
    return torch.stack([x, y], dim=-1).flatten(1)


def _center_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres `(N, 2)` and sizes `(N, 2)` of `(N, 4)` boxes."""
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, :2] + size / 2, size
