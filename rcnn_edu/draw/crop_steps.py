"""Crop pooling step by step, in one row: RoI, target grid, source points on the feature map, crop."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure

from rcnn_edu.draw.boxes import draw_boxes
from rcnn_edu.draw.colors import PROPOSAL
from rcnn_edu.draw.crop_points import matrix_rows
from rcnn_edu.draw.feature_map import cell_axes, draw_map, draw_points
from rcnn_edu.draw.figures import draw_image, to_numpy
from rcnn_edu.draw.layout import draw_title, faded
from rcnn_edu.draw.pixel_layout import axes_at, blank_figure, fitted

WIDE, SQUARE, GAP = 286, 140, 32


def crop_steps_figure(
    image: Any, roi: Any, theta: Any, channel: Any, points: tuple[Any, Any], crop: Any, stride: int = 16
) -> Figure:
    """image: `(3, h, w)`; roi: `(4,)` in its pixels; theta: `(2, 3)`; channel: `(H, W)` of the feature map;
    points: x `(n,)` and y `(n,)` where it is read, in cells; crop: `(n, n)` of the same channel.
    """
    values, cropped_values, box = to_numpy(channel), to_numpy(crop), to_numpy(roi)[None]
    wide, high = fitted(image, WIDE, 260)
    figure = blank_figure(960, round(high) + 92)
    lefts = (0, WIDE + GAP + 8, WIDE + SQUARE + 2 * GAP + 8, 2 * WIDE + SQUARE + 3 * GAP + 8)
    tall, low = (30, high), (30 + (high - SQUARE) / 2, SQUARE)
    on_photo, target, on_map, cropped = (
        axes_at(figure, left, top, width, height)
        for left, width, (top, height) in zip(lefts, (wide, SQUARE, wide, SQUARE), (tall, low, tall, low), strict=True)
    )
    darkest, brightest = values.min(), values.max()
    draw_image(on_photo, faded(image))
    draw_boxes(on_photo, box, PROPOSAL, linewidth=2.4)

    target.set(xlim=(-1.1, 1.1), ylim=(1.1, -1.1))
    ends = torch.linspace(-1, 1, len(cropped_values))
    draw_boxes(target, [[-1, -1, 1, 1]], PROPOSAL, linewidth=1.4)
    draw_points(target, ends, ends, PROPOSAL, size=4.5)
    for value in (-1, 1):
        target.text(value, 1.2, f"{value}", fontsize=9, ha="center", va="top")
        target.text(-1.2, value, f"{value}", fontsize=9, ha="right", va="center")

    cell_axes(on_map, values.shape)
    draw_map(on_map, values, darkest, brightest, pale=0.35)
    draw_boxes(on_map, box / stride, PROPOSAL, linewidth=1.8)
    draw_points(on_map, *points, PROPOSAL, size=4.5)
    cell_axes(cropped, cropped_values.shape)
    draw_map(cropped, cropped_values, darkest, brightest)

    titles = ("1  RoI, in pixels", "2  target grid", "3  source points, in cells", "4  the crop")
    for axes, title in zip((on_photo, target, on_map, cropped), titles, strict=True):
        draw_title(axes, title)
    whole = figure.get_size_inches() * figure.dpi
    middle = 1 - (30 + high / 2) / whole[1]
    for right in (lefts[2] - GAP / 2, lefts[3] - GAP / 2):
        figure.text(right / whole[0], middle, "→", fontsize=19, ha="center", va="center")
    upper, lower = matrix_rows(torch.as_tensor(theta))
    before = f"from the RoI over {stride}:  θ = "
    text = f"{before}⎡{upper} ⎤\n{'':{len(before)}}⎣{lower} ⎦"
    figure.text(0.5, 12 / whole[1], text, fontsize=11, family="monospace", ha="center", va="bottom", linespacing=0.95)
    return figure
