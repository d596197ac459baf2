"""Panels of lesson 02: the anchors of one position and of all, and what they can reach."""

from __future__ import annotations

import torch
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rcnn_edu.anchor_target import inside_image
from rcnn_edu.anchors import base_anchors, grid_anchors
from rcnn_edu.boxes import box_iou
from rcnn_edu.config import AnchorConfig, AnchorTargetConfig
from rcnn_edu.draw import BACKGROUND, DONT_CARE, FOREGROUND, KEPT, OBJECT, draw_boxes, draw_image
from rcnn_edu.draw.anchor_grid import (
    anchor_grid_handles,
    draw_all_positions,
    draw_cell,
    draw_one_position,
    draw_order,
    photo_with_margin,
)
from rcnn_edu.draw.bars import bar_rows, draw_bars
from rcnn_edu.draw.layout import draw_title, faded, foot_legend, photo_and_plot, photo_row
from rcnn_edu.draw.pixel_layout import axes_at, blank_figure
from rcnn_edu.explorers.base import Explorer, slider
from rcnn_edu.explorers.photo import RunningPhoto, running_photo

MARGIN = 0.22
"""Room around the photo for anchors that leave it, as a share of its sides."""


def nine_anchors_picture(photo: RunningPhoto) -> Explorer:
    """A still: the nine anchors in their order, at the middle of the photo, and over the grid."""
    default = AnchorConfig()
    (height, width), (rows, columns), stride = photo.image_size, photo.feature_size, default.stride
    base = base_anchors(default.base_size, default.ratios, default.scales)
    row, column = round((rows - 1) / 2), round((columns - 1) / 2)
    nine = base + torch.tensor([column, row, column, row]) * stride
    inside = inside_image(nine, photo.image_size)
    beside = min(330.0, 400 * width / height)
    tall = round(max(300, beside * height / width))
    figure = blank_figure(round(300 + 2 * beside), 26 + tall + 34)
    order = axes_at(figure, 0, 26, 280, tall)
    one = axes_at(figure, 290, 26, beside, beside * height / width)
    every = axes_at(figure, 300 + beside, 26, beside, beside * height / width)
    draw_order(order, base, default.ratios, default.scales)
    photo_with_margin(one, faded(photo.image), MARGIN)
    draw_image(every, faded(photo.image))
    foot_legend(figure, anchor_grid_handles())
    positions = grid_anchors(photo.feature_size, stride, base[:1])
    centers = (positions[:, :2] + positions[:, 2:]).T / 2
    apart = 8  # cells: 128 pixels, the side of anchor 3
    far = grid_anchors((rows // apart, columns // apart), stride * apart, base[3:4]) + (apart - 1) * stride / 2

    def draw() -> str:
        draw_title(order, "the nine, to scale")
        draw_title(one, f"at row {row}, column {column}")
        draw_one_position(one, nine, inside)
        draw_title(every, f"{rows} × {columns} positions, and some of anchor 3")
        every.plot(*centers.numpy(), ".", color="black", markersize=1.6, scalex=False, scaley=False)
        draw_boxes(every, far, KEPT, linewidth=2.2)
        sizes = ", ".join(f"{int(x2 - x1)} × {int(y2 - y1)}" for x1, y1, x2, y2 in base.tolist())
        return (
            f"Left, the nine anchors in their order, width × height: {sizes}.\n"
            f"Middle, the nine at row {row}, column {column}: {int(inside.sum())} lie inside the photo.\n"
            f"Right, all {rows * columns:,} positions, and anchor 3 at every eighth row and column."
        )

    return Explorer(figure, draw)


def all_anchors_panel(photo: RunningPhoto) -> Explorer:
    """The nine anchors of one position at the left; at the right all, by whether they leave the photo."""
    height, width = photo.image_size
    image = faded(photo.image)
    figure, (one, every) = photo_row(image, count=2)
    one.clear()
    photo_with_margin(one, image, MARGIN)
    foot_legend(figure, anchor_grid_handles())
    default = AnchorConfig()

    def draw(scale: float, ratio: float, stride: int, down: float, across: float) -> str:
        base = base_anchors(default.base_size, (1 / ratio, 1.0, ratio), (scale, 2 * scale, 4 * scale))
        rows, columns = -(-height // stride), -(-width // stride)
        anchors = grid_anchors((rows, columns), stride, base)
        inside = inside_image(anchors, photo.image_size)
        row, column = round(down * (rows - 1)), round(across * (columns - 1))
        first = (row * columns + column) * len(base)
        nine, stays = anchors[first : first + len(base)], inside[first : first + len(base)]
        share = 100 * int(inside.sum()) / len(anchors)

        draw_one_position(one, nine, stays)
        draw_title(one, f"row {row}, column {column}: {int(stays.sum())} of 9 lie inside")
        draw_all_positions(every, inside, (rows, columns), stride)
        draw_cell(every, row, column, stride)
        draw_title(every, f"all {len(anchors):,}: {int(inside.sum()):,} lie inside, {share:.0f} %")
        by_scale = inside.reshape(-1, 3, 3).sum(dim=(0, 1)).tolist()
        sides = [round(default.base_size * scale * factor) for factor in (1, 2, 4)]
        counts = ", ".join(f"{count:,} of {side}²" for count, side in zip(by_scale, sides, strict=True))
        x, y = ((nine[0, :2] + nine[0, 2:]) / 2).tolist()
        return (
            f"Row {row}, column {column}, centre ({x:.0f}, {y:.0f}): {int(stays.sum())} of the nine anchors lie inside "
            f"the photo of {width} × {height}.\n"
            f"{rows} × {columns} positions × 9 = {len(anchors):,} anchors; {int(inside.sum()):,} lie inside "
            f"({share:.0f} %): {counts} pixels."
        )

    return Explorer(
        figure,
        draw,
        scale=slider("smallest of scales", default.scales[0], 1.0, 16.0, 1.0),
        ratio=slider("largest of ratios", default.ratios[-1], 1.0, 4.0, 0.25),
        stride=slider("stride", default.stride, 8, 64, 8),
        down=slider("position, down", 0.5, 0.0, 1.0, 0.02),
        across=slider("position, across", 0.5, 0.0, 1.0, 0.02),
    )


def best_iou_panel(photo: RunningPhoto) -> Explorer:
    """For each object the best IoU that any anchor inside the photo has with it, as scales and ratios change."""
    limits = AnchorTargetConfig()
    figure, axes, plot = photo_and_plot(faded(photo.image), margins=(100, 10, 20, 44), foot=34)
    numbers = [str(number) for number in range(1, len(photo.boxes) + 1)]
    bar_rows(plot, [f"{number} {name}" for number, name in zip(numbers, photo.labels, strict=True)], 1.0)
    plot.set_xlabel("best IoU of any anchor inside the photo", fontsize=10)
    for limit in (limits.negative_overlap, limits.positive_overlap):
        plot.axvline(limit, color="#777777", linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
    foot_legend(
        figure,
        [
            Line2D([], [], color=OBJECT, linewidth=2.2, label="object"),
            Line2D([], [], color=FOREGROUND, linewidth=1.8, linestyle=(0, (4, 2)), label="its best anchor"),
            Patch(color=FOREGROUND, label=f"{limits.positive_overlap} or more"),
            Patch(color=DONT_CARE, label="between"),
            Patch(color=BACKGROUND, label=f"below {limits.negative_overlap}"),
        ],
    )
    default = AnchorConfig()

    def draw(scale: float, scales: int, ratio: float) -> str:
        ratios = (1 / ratio, 1.0, ratio) if ratio > 1 else (1.0,)
        base = base_anchors(default.base_size, ratios, tuple(scale * 2**power for power in range(scales)))
        anchors = grid_anchors(photo.feature_size, default.stride, base)
        anchors = anchors[inside_image(anchors, photo.image_size)]
        if len(anchors) == 0:
            anchors = anchors.new_zeros(1, 4)  # overlaps nothing
        best, row = box_iou(anchors, photo.boxes).max(dim=0)
        touched = best > 0
        outlines = draw_boxes(axes, anchors[row[touched]], FOREGROUND, linewidth=1.8)
        outlines[-1].set(linestyle=(0, (4, 2)))
        draw_boxes(axes, photo.boxes, OBJECT, numbers, linewidth=2.2)
        draw_bars(plot, best.tolist(), [_color(iou, limits) for iou in best.tolist()], [f"{iou:.2f}" for iou in best])
        count = photo.feature_size[0] * photo.feature_size[1] * len(base)
        fits, lost = int((best >= limits.positive_overlap).sum()), int((best < limits.negative_overlap).sum())
        sides = [round(default.base_size * scale * 2**power) for power in range(scales)]
        draw_title(axes, f"sides {', '.join(map(str, sides))}; {len(base)} a position, {count:,} in all")
        each = ", ".join(f"{name} {iou:.2f}" for name, iou in zip(photo.labels, best.tolist(), strict=True))
        return (
            f"Squares of {', '.join(map(str, sides))} pixels, {len(ratios)} ratio{'s' * (len(ratios) > 1)}: "
            f"{len(base)} anchors a position, {count:,} in all.\n"
            f"Best IoU: {each}.\n{limits.positive_overlap} or more: {fits} of {len(best)} objects; "
            f"below {limits.negative_overlap}: {lost}."
        )

    return Explorer(
        figure,
        draw,
        scale=slider("smallest of scales", default.scales[0], 0.5, 16.0, 0.5),
        scales=slider("number of scales", len(default.scales), 1, 5),
        ratio=slider("largest of ratios", default.ratios[-1], 1.0, 4.0, 0.25),
    )


def _color(iou: float, limits: AnchorTargetConfig) -> str:
    if iou >= limits.positive_overlap:
        return FOREGROUND
    return DONT_CARE if iou >= limits.negative_overlap else BACKGROUND


def panels() -> dict[str, Explorer]:
    """Every panel of this lesson, on the running photo."""
    photo = running_photo()
    return {
        "nine_anchors_picture": nine_anchors_picture(photo),
        "all_anchors_panel": all_anchors_panel(photo),
        "best_iou_panel": best_iou_panel(photo),
    }
