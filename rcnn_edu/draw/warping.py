"""Warping by an affine matrix: where the target grid lies on the source, and the target that is read there."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rcnn_edu.draw.colors import PROPOSAL
from rcnn_edu.draw.crop_points import matrix_rows
from rcnn_edu.draw.feature_map import draw_dots, draw_mesh, draw_points
from rcnn_edu.draw.figures import draw_image, to_numpy
from rcnn_edu.draw.layout import draw_title
from rcnn_edu.draw.pixel_layout import axes_at, blank_figure, fitted

BEYOND = 0.12  # of the source's sides, shown around it
POINTS, FINE = 7, 140  # along a side of the grid that is drawn, and of the target


def warping_figure(image: Any) -> tuple[Figure, Axes, Axes]:
    """A figure with the image `(3, h, w)` as source at the left, -1…1 written along it, and room for the target."""
    height, width = to_numpy(image).shape[1:]
    wide, high = fitted(image, 540, 400)
    figure = blank_figure(960, max(370, round(high) + 84))
    source = axes_at(figure, 30, 26, wide, high)
    target = axes_at(figure, 610, 26, 340, 340)
    draw_image(source, image)
    source.set(xlim=(-BEYOND * width, (1 + BEYOND) * width), ylim=((1 + BEYOND) * height, -BEYOND * height))
    target.set(xlim=(-1.03, 1.03), ylim=(1.03, -1.03))
    for value, share in ((-1, 0.0), (0, 0.5), (1, 1.0)):
        source.text(share * width, 1.02 * height, f"{value}", fontsize=10, ha="center", va="top")
        source.text(-0.015 * width, share * height, f"{value}", fontsize=10, ha="right", va="center")
    draw_title(source, "source: each point of the target grid, and where θ sends it")
    draw_title(target, "target: what is read there")
    return figure, source, target


def draw_warp(source: Axes, target: Axes, image: Tensor, theta: Tensor) -> Tensor:
    """Warp the image `(3, h, w)` by theta `(2, 3)` into the axes of `warping_figure`.

    Returns the source points `(7, 7, 2)`, x and y in -1…1 (beyond it, beyond the image).
    """
    height, width = image.shape[1:]
    points, fine = (F.affine_grid(theta[None], [1, 3, size, size], align_corners=True)[0] for size in (POINTS, FINE))
    read = F.grid_sample(image[None], fine[None], align_corners=True)[0].clamp(0, 1)
    pixels = (points + 1) / 2 * torch.tensor([width - 1.0, height - 1.0]) + 0.5
    draw_mesh(source, pixels, PROPOSAL, linewidth=1.6)
    draw_dots(source, pixels, PROPOSAL)
    target.imshow(to_numpy(read).transpose(1, 2, 0), extent=(-1, 1, 1, -1), aspect=target.get_aspect())
    ends = torch.linspace(-1, 1, POINTS)
    draw_points(target, ends, ends, PROPOSAL)
    upper, lower = matrix_rows(theta)
    source.text(
        0.5, -0.03, f"θ = ⎡{upper} ⎤\n    ⎣{lower} ⎦", transform=source.transAxes, clip_on=False,
        fontsize=13, family="monospace", ha="center", va="top", linespacing=0.95,
    )  # fmt: skip
    return points
