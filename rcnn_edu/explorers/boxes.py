"""Panels of lesson 03: how close two boxes are, and the four numbers that turn one into the other."""

from __future__ import annotations

import math

import torch
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from rcnn_edu.anchor_target import inside_image
from rcnn_edu.anchors import grid_anchors
from rcnn_edu.boxes import MAX_LOG_RATIO, box_area, box_iou, decode_boxes, encode_boxes
from rcnn_edu.draw import KEPT, OBJECT, PROPOSAL, draw_boxes
from rcnn_edu.draw.affine_photo import (
    affine_matrix,
    draw_mapped_photo,
    draw_outlines,
    enclosing_boxes,
    mapped_corners,
)
from rcnn_edu.draw.box_pairs import (
    coefficient_rows,
    draw_coefficients,
    draw_shift_and_growth,
    fill_box,
    intersection,
)
from rcnn_edu.draw.layout import draw_title, faded, foot_legend, photo_and_plot, photo_row
from rcnn_edu.explorers.base import Explorer, interval, slider
from rcnn_edu.explorers.photo import RunningPhoto, running_photo


def a_pair(photo: RunningPhoto, index: int = 1) -> tuple[Tensor, Tensor]:
    """An anchor and an object, both `(1, 4)`: the anchor of the photo whose IoU with the object is nearest 0.4."""
    target = photo.boxes[min(index, len(photo.boxes) - 1)][None].round()
    anchors = grid_anchors(photo.feature_size)
    iou = torch.where(inside_image(anchors, photo.image_size), box_iou(anchors, target)[:, 0], 0.0)
    return anchors[(iou - 0.4).abs().argmin()][None], target


def iou_picture(photo: RunningPhoto) -> Explorer:
    """A still: two boxes, what both cover, and what either covers."""
    reference, target = a_pair(photo)
    figure, (pair, both, either) = photo_row(faded(photo.image), count=3)
    for axes in (pair, both, either):
        draw_boxes(axes, reference, PROPOSAL, linewidth=2.2)
        draw_boxes(axes, target, OBJECT, linewidth=2.2)
    shared = intersection(reference[0], target[0])
    fill_box(both, shared, "black", 0.6)
    for box in (reference[0], target[0]):
        fill_box(either, box, "black", 0.45)
    foot_legend(figure, _pair_handles())
    iou = float(box_iou(reference, target))
    inside = float(box_area(torch.as_tensor(shared)[None]))
    union = float(box_area(reference) + box_area(target)) - inside

    def draw() -> str:
        draw_title(pair, f"IoU = {inside:,.0f} / {union:,.0f} = {iou:.2f}")
        draw_title(both, f"intersection: {inside:,.0f} square pixels")
        draw_title(either, f"union: {union:,.0f} square pixels")
        return (
            f"An anchor and an object: both cover {inside:,.0f} square pixels (the intersection),\n"
            f"one or the other covers {union:,.0f} (the union): IoU = {inside:,.0f} / {union:,.0f} = {iou:.2f}."
        )

    return Explorer(figure, draw)


def two_boxes_panel(photo: RunningPhoto) -> Explorer:
    """Two boxes to drag: their IoU, the coefficients as arrows, and the way back."""
    reference, target = a_pair(photo)
    figure, axes, plot = photo_and_plot(faded(photo.image), margins=(48, 14, 12, 30), foot=34)
    coefficient_rows(plot)
    foot_legend(figure, [*_pair_handles(), Line2D([], [], color=PROPOSAL, linestyle=":", label="shifted reference")])

    def draw(
        reference_x: tuple[int, int], reference_y: tuple[int, int], target_x: tuple[int, int], target_y: tuple[int, int]
    ) -> str:
        a = torch.tensor([[reference_x[0], reference_y[0], reference_x[1], reference_y[1]]]).float()
        b = torch.tensor([[target_x[0], target_y[0], target_x[1], target_y[1]]]).float()
        iou = float(box_iou(a, b))
        coefficients = encode_boxes(a, b)
        back = decode_boxes(a, coefficients)
        fill_box(axes, a[0], PROPOSAL, 0.25)
        fill_box(axes, b[0], OBJECT, 0.25)
        fill_box(axes, intersection(a[0], b[0]), "none", 1.0, hatch="//")
        draw_shift_and_growth(axes, a[0], b[0])
        draw_boxes(axes, a, PROPOSAL, linewidth=2.4)
        draw_boxes(axes, b, OBJECT, linewidth=2.4)
        draw_title(axes, f"IoU {iou:.2f}")
        draw_title(plot, "coefficients of target, seen from reference")
        empty = [name for name, box in (("reference", a), ("target", b)) if not float(box_area(box))]
        if empty:
            return f"The {' and the '.join(empty)} is empty: IoU {iou:.2f}, and coefficients that mean nothing."
        values = coefficients[0].tolist()
        draw_coefficients(plot, values)
        off = float((back - b).abs().max())
        shared = float(box_area(torch.as_tensor(intersection(a[0], b[0]))[None]))
        clamped = ", clamped on the way back" if max(values[2:]) > MAX_LOG_RATIO else ""
        return (
            f"Intersection {shared:,.0f}, union {float(box_area(a) + box_area(b)) - shared:,.0f} square pixels: "
            f"IoU {iou:.2f}.\n"
            f"tx {values[0]:.2f}, ty {values[1]:.2f}: the centre moves by {values[0]:.2f} widths and {values[1]:.2f} "
            f"heights of the reference.\n"
            f"tw {values[2]:.2f}, th {values[3]:.2f}: it becomes {math.exp(values[2]):.2f} times as wide and "
            f"{math.exp(values[3]):.2f} times as high.\n"
            f"Decoded back, the farthest side is {off:.1f} pixels from the target{clamped}."
        )

    height, width = photo.image_size
    a, b = [[round(value) for value in box[0].tolist()] for box in (reference, target)]
    return Explorer(
        figure,
        draw,
        reference_x=interval("reference x1, x2", (a[0], a[2]), 0, width),
        reference_y=interval("reference y1, y2", (a[1], a[3]), 0, height),
        target_x=interval("target x1, x2", (b[0], b[2]), 0, width),
        target_y=interval("target y1, y2", (b[1], b[3]), 0, height),
    )


def decode_panel(photo: RunningPhoto) -> Explorer:
    """The way a network goes: four numbers are set, a box comes out. Can you hit the object?"""
    reference, target = a_pair(photo)
    figure, (axes,) = photo_row(faded(photo.image), width=720)
    draw_boxes(axes, reference, PROPOSAL, linewidth=6)  # wider than the decoded box, which may lie on it
    draw_boxes(axes, target, OBJECT, linewidth=2.4)
    foot_legend(figure, [*_pair_handles(), Line2D([], [], color=KEPT, linewidth=2.5, label="decoded")])
    before = float(box_iou(reference, target))

    def draw(tx: float, ty: float, tw: float, th: float) -> str:
        decoded = decode_boxes(reference, torch.tensor([[tx, ty, tw, th]]))
        draw_boxes(axes, decoded, KEPT, linewidth=2.4)
        iou = float(box_iou(decoded, target))
        draw_title(axes, f"IoU of reference and object {before:.2f}, of decoded box and object {iou:.2f}")
        width, height = (decoded[0, 2:] - decoded[0, :2]).tolist()
        clamped = [name for name, value in (("tw", tw), ("th", th)) if value > MAX_LOG_RATIO]
        note = f"\n{' and '.join(clamped)} above {MAX_LOG_RATIO:.3f} changes nothing more." if clamped else ""
        return (
            f"tx {tx:.2f}, ty {ty:.2f}, tw {tw:.2f}, th {th:.2f} give a box of {width:,.0f} x {height:,.0f} pixels.\n"
            f"Its IoU with the object is {iou:.2f}; the reference's is {before:.2f}.{note}"
        )

    return Explorer(
        figure,
        draw,
        tx=slider("tx", 0.0, -1.0, 1.0, 0.05),
        ty=slider("ty", 0.0, -1.0, 1.0, 0.05),
        tw=slider("tw", 0.0, -2.0, 5.0, 0.05),
        th=slider("th", 0.0, -2.0, 5.0, 0.05),
    )


def affine_panel(photo: RunningPhoto) -> Explorer:
    """Photo and boxes under an affine map: what the map leaves alone, and what shear breaks."""
    reference, target = a_pair(photo)
    pair = torch.cat([reference, target])
    small = faded(photo.image)[:, ::2, ::2]
    figure, (before, after) = photo_row(small, count=2)
    draw_title(before, "as it is")
    for axes in (before, after):  # in pixels of the photo, though the picture is half as fine
        axes.images[0].remove()
    height, width = photo.image_size
    before.imshow(small.transpose(1, 2, 0), extent=(0, width, height, 0))
    draw_boxes(before, reference, PROPOSAL, linewidth=2.2)
    draw_boxes(before, target, OBJECT, linewidth=2.2)
    before.set(xlim=(0, width), ylim=(height, 0))
    after.set(xlim=(0, 1.25 * width), ylim=(1.25 * height, 0))
    foot_legend(figure, _pair_handles())
    distance = float(_centers(pair).diff(dim=0).norm())
    iou, coefficients = float(box_iou(reference, target)), encode_boxes(reference, target)[0]

    def draw(scale_x: float, scale_y: float, shear: float) -> str:
        matrix = affine_matrix(scale_x, scale_y, shear)
        # The picture has half as many pixels as its coordinates say, so the map of it is twice the map.
        draw_mapped_photo(after, small, 2 * matrix)
        corners = mapped_corners(pair, matrix)
        boxes = torch.from_numpy(enclosing_boxes(corners)).float()
        for index, color in enumerate((PROPOSAL, OBJECT)):
            draw_boxes(after, boxes[index][None], color, linewidth=2.2)
            if shear:
                draw_outlines(after, corners[index : index + 1], color)
        new_iou, new = float(box_iou(boxes[:1], boxes[1:])), encode_boxes(boxes[:1], boxes[1:])[0]
        new_distance = float(_centers(boxes).diff(dim=0).norm())
        draw_title(after, f"mapped: IoU {new_iou:.2f}, was {iou:.2f}")
        moved = float((new - coefficients).abs().max())
        verdict = "the same" if moved < 0.005 and abs(new_iou - iou) < 0.005 else "not the same any more"
        return (
            f"Distance of the centres: {distance:.0f} pixels, then {new_distance:.0f}.\n"
            f"IoU: {iou:.2f}, then {new_iou:.2f}.\nCoefficients: {_four(coefficients)}, then {_four(new)}: {verdict}."
        )

    return Explorer(
        figure,
        draw,
        scale_x=slider("scale_x", 0.6, 0.3, 1.2, 0.05),
        scale_y=slider("scale_y", 1.1, 0.3, 1.2, 0.05),
        shear=slider("shear", 0.0, 0.0, 0.5, 0.05),
    )


def panels() -> dict[str, Explorer]:
    """Every panel of this lesson, on the running photo."""
    photo = running_photo()
    return {
        "iou_picture": iou_picture(photo),
        "two_boxes_panel": two_boxes_panel(photo),
        "decode_panel": decode_panel(photo),
        "affine_panel": affine_panel(photo),
    }


def _pair_handles() -> list[Patch]:
    return [Patch(color=PROPOSAL, label="reference: an anchor"), Patch(color=OBJECT, label="target: an object")]


def _centers(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _four(coefficients: Tensor) -> str:
    return "(" + ", ".join(f"{value:.2f}" for value in coefficients.tolist()) + ")"
