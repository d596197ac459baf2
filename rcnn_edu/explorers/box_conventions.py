"""Panels of lesson 03, its conventions: top-left corners or centres, and the "+1" of old code."""

from __future__ import annotations

import math

import torch
from matplotlib.lines import Line2D
from torch import Tensor

from rcnn_edu.boxes import box_iou, decode_boxes, encode_boxes
from rcnn_edu.draw import KEPT, OBJECT, PROPOSAL, draw_boxes
from rcnn_edu.draw.layout import draw_title, faded, foot_legend, photo_row
from rcnn_edu.draw.magnified import draw_magnified, magnified_axes
from rcnn_edu.draw.pixel_layout import axes_at, blank_figure
from rcnn_edu.explorers.base import Explorer, slider
from rcnn_edu.explorers.photo import RunningPhoto, running_photo

PIXEL = torch.tensor([0.0, 0.0, 1.0, 1.0])
"""What the "+1" convention adds to a box: its last pixel counts, so x2 and y2 are one further."""


def encode_corners(references: Tensor, targets: Tensor) -> Tensor:
    """The coefficients as the article writes them, shifts between upper left corners: both `(N, 4)` → `(N, 4)`."""
    shift = (targets[:, :2] - references[:, :2]) / (references[:, 2:] - references[:, :2])
    return torch.cat([shift, encode_boxes(references, targets)[:, 2:]], dim=1)


def decode_corners(references: Tensor, coefficients: Tensor) -> Tensor:
    """The inverse of `encode_corners`: `(N, 4)` and `(N, 4)` → `(N, 4)`."""
    size = references[:, 2:] - references[:, :2]
    corner = references[:, :2] + coefficients[:, :2] * size
    return torch.cat([corner, corner + coefficients[:, 2:].exp() * size], dim=1)


def corners_or_centers_panel(photo: RunningPhoto) -> Explorer:
    """One set of coefficients, and its mirror image (tx with the other sign), in both conventions."""
    height, width = photo.image_size
    side = round(min(height, width) / 4)
    center = torch.tensor([width / 2, height / 2])
    reference = torch.cat([center - side, center + side])[None] * torch.tensor([1.0, 1, 1, 1])
    figure, both = photo_row(faded(photo.image), count=2)
    for axes in both:
        draw_boxes(axes, reference, PROPOSAL, linewidth=2.4)
        axes.axvline(width / 2, color="black", linewidth=1, linestyle=":")
    handles = [
        Line2D([], [], color=PROPOSAL, linewidth=2.5, label="reference"),
        Line2D([], [], color=KEPT, linewidth=2.5, label="decoded with tx"),
        Line2D([], [], color=KEPT, linewidth=2.5, linestyle=(0, (4, 2)), label="decoded with −tx"),
    ]
    foot_legend(figure, handles)

    def draw(tx: float, tw: float) -> str:
        sentences = []
        conventions = (("top-left corners", decode_corners), ("centres", decode_boxes))
        for axes, (name, decode) in zip(both, conventions, strict=True):
            right, left = (decode(reference, torch.tensor([[sign * tx, 0, tw, tw]])) for sign in (1, -1))
            draw_boxes(axes, left, KEPT, linewidth=2.4)[-1].set(linestyle=(0, (4, 2)))
            draw_boxes(axes, right, KEPT, linewidth=2.4)
            to_right, to_left = float(right[0, 2] - width / 2), float(width / 2 - left[0, 0])
            draw_title(axes, f"{name}: reaching {to_left:.0f} px left, {to_right:.0f} px right")
            sentences.append(
                f"With {name}: −tx reaches {to_left:.0f} pixels left of the middle, tx {to_right:.0f} right of it."
            )
        return f"tx {tx:.2f}, tw = th {tw:.2f}.\n" + "\n".join(sentences)

    return Explorer(figure, draw, tx=slider("tx", 0.25, 0.0, 0.5, 0.05), tw=slider("tw = th", 0.5, -1.0, 0.6, 0.05))


def plus_one_panel() -> Explorer:
    """The trap: an object of some side, encoded with "+1" and decoded without, by an anchor of some side."""
    figure = blank_figure(900, 400)
    lens = axes_at(figure, 0, 26, 340, 340)
    magnified_axes(lens)
    plot = figure.add_axes((0.46, 0.22, 0.52, 0.69))
    plot.set(xscale="log", xlim=(8, 600), ylim=(0.75, 1.01))
    plot.set_xticks([8, 16, 32, 64, 128, 256, 512], ["8", "16", "32", "64", "128", "256", "512"])
    plot.minorticks_off()
    plot.set_xlabel("side of the object in pixels", fontsize=10)
    plot.spines[["top", "right"]].set_visible(False)
    plot.grid(alpha=0.3)
    handles = [
        Line2D([], [], color=OBJECT, linewidth=2.5, label="object"),
        Line2D([], [], color=KEPT, linewidth=2.5, label="decoded, and its IoU"),
        Line2D([], [], color="black", linestyle="--", label="+1 both ways, x2 one too far"),
    ]
    foot_legend(figure, handles)
    sides = torch.logspace(3, math.log2(600), 60, base=2)

    def draw(side: int, anchor_side: int) -> str:
        mixed, old = plus_one_round_trip(sides, anchor_side)
        boxes, old_boxes = plus_one_round_trip(torch.tensor([float(side)]), anchor_side)
        objects = _squares(sides)
        for decoded, style in (
            (mixed, {"color": KEPT, "linewidth": 2.5}),
            (old, {"color": "black", "linestyle": "--"}),
        ):
            curve = box_iou(objects, decoded).diagonal()
            plot.plot(sides.tolist(), curve.tolist(), scalex=False, scaley=False, **style)
        one = _squares(torch.tensor([float(side)]))
        iou, old_iou = float(box_iou(one, boxes)), float(box_iou(one, old_boxes))
        plot.plot(side, iou, "o", color=KEPT, markersize=10, scalex=False, scaley=False)
        draw_title(plot, "IoU of the object with its own box, encoded and decoded")
        draw_magnified(lens, side, boxes[0])
        draw_title(lens, f"{side} pixels; decoded: {float(boxes[0, 2] - boxes[0, 0]):.2f}")
        wrong = float(boxes[0, 2] - boxes[0, 0]) - side
        return (
            f"An object of {side} x {side} pixels, an anchor of {anchor_side} x {anchor_side}.\n"
            f"Encoded with +1, decoded without: {abs(wrong):.2f} pixels too {'wide' if wrong >= 0 else 'narrow'}, "
            f"IoU {iou:.3f}.\n"
            f"With +1 both ways, but x2 and y2 not taken back by one: 1 pixel too wide, IoU {old_iou:.3f}."
        )

    return Explorer(
        figure, draw, side=slider("side", 16, 8, 512, 4), anchor_side=slider("anchor_side", 128, 16, 512, 16)
    )


def plus_one_round_trip(sides: Tensor, anchor_side: float) -> tuple[Tensor, Tensor]:
    """Square objects `(N,)` by their sides, seen from one square anchor around their upper left corner, and back.

    Returns `(N, 4)` twice: encoded with "+1" and decoded without; and with "+1" both ways, x2 and y2 not taken back by
    one. Both would be the objects, if nothing were lost.
    """
    objects = _squares(sides)
    anchors = torch.tensor([[0.0, 0.0, anchor_side, anchor_side]]).expand(len(sides), 4)
    coefficients = encode_boxes(anchors + PIXEL, objects + PIXEL)
    return decode_boxes(anchors, coefficients), decode_boxes(anchors + PIXEL, coefficients)


def panels() -> dict[str, Explorer]:
    """Both panels, the first on the running photo."""
    return {
        "corners_or_centers_panel": corners_or_centers_panel(running_photo()),
        "plus_one_panel": plus_one_panel(),
    }


def _squares(sides: Tensor) -> Tensor:
    zero = torch.zeros_like(sides)
    return torch.stack([zero, zero, sides, sides], dim=1)
