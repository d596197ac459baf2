"""Panels of lesson 08: how a RoI of any shape becomes 7×7 numbers, and what a gradient can tell the RoI."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnn_edu.checkpoint import load
from rcnn_edu.config import CropPoolingConfig
from rcnn_edu.crop_pooling import affine_matrices, crop_pool, sampling_points
from rcnn_edu.draw import PROPOSAL, draw_boxes
from rcnn_edu.draw.crop_comparison import crop_comparison
from rcnn_edu.draw.crop_points import align_points, cells_read
from rcnn_edu.draw.crop_steps import crop_steps_figure
from rcnn_edu.draw.feature_map import draw_map, draw_points
from rcnn_edu.draw.layout import draw_title
from rcnn_edu.draw.shift_curve import shift_figure
from rcnn_edu.draw.side_arrows import draw_side_arrows
from rcnn_edu.draw.squares import squares_figure
from rcnn_edu.draw.warping import draw_warp, warping_figure
from rcnn_edu.explorers.base import Explorer, choice, slider, switch
from rcnn_edu.explorers.photo import RunningPhoto, running_photo
from rcnn_edu.model import FasterRCNN
from rcnn_edu.preprocessing import resize
from rcnn_edu.trace import Trace

CHANNEL = 89
"""Of the 96 channels of voc-crop's feature map, one in which the motorbike's wheels show."""


def crop_steps_picture(photo: RunningPhoto, trace: Trace) -> Explorer:
    """From a RoI in pixels to a crop of 7×7, the article's steps side by side."""
    image, roi = resize(photo.original, trace.image_size), largest_object(photo, trace)
    rows, columns = trace.features.shape[1:]
    theta = affine_matrices(roi, (rows, columns))[0]
    x, y = sampling_points(roi, 16, 7)
    crop = crop_pool(trace.features[None], [roi])[0, CHANNEL]
    figure = crop_steps_figure(image, roi[0], theta, trace.features[CHANNEL], (x[0], y[0]), crop)

    def draw() -> str:
        width, height = (roi[0, 2:] - roi[0, :2]).tolist()
        return (
            f"A RoI of {width:.0f} x {height:.0f} pixels is {width / 16:.1f} x {height / 16:.1f} cells of the feature "
            f"map of {columns} x {rows}.\n"
            f"The matrix carries the target grid, 7 x 7 points in the square -1..1, onto it.\n"
            f"What the map says at the 49 points, between its cells too, is the crop."
        )

    return Explorer(figure, draw)


def warping_panel(photo: RunningPhoto) -> Explorer:
    """A 2×3 matrix, where it puts the target grid on the photo, and what is read there."""
    figure, source, target = warping_figure(photo.image)

    def draw(scale_x: float, scale_y: float, shift_x: float, shift_y: float, shear: float) -> str:
        theta = torch.tensor([[scale_x, shear, shift_x], [0.0, scale_y, shift_y]])
        points = draw_warp(source, target, photo.image, theta)
        (left, top), (right, bottom) = points[0, 0].tolist(), points[-1, -1].tolist()
        outside = int((points.abs() > 1.0001).any(dim=-1).sum())
        sheared = "Rows slide along each other: a shear, which crop pooling never uses."
        upright = "Without shear the target is an upright box of the photo, stretched to a square."
        return (
            f"The target's corner (-1, -1) reads the photo at ({left:.2f}, {top:.2f}), (1, 1) at "
            f"({right:.2f}, {bottom:.2f}).\n{outside} of the 49 points lie beyond it and read 0, black.\n"
            + (sheared if abs(shear) > 1e-6 else upright)
        )

    return Explorer(
        figure,
        draw,
        scale_x=slider("scale x", 0.6, 0.1, 1.2, 0.05),
        scale_y=slider("scale y", 0.8, 0.1, 1.2, 0.05),
        shift_x=slider("shift x", 0.1, -1.0, 1.0, 0.05),
        shift_y=slider("shift y", 0.05, -1.0, 1.0, 0.05),
        shear=slider("shear", 0.0, -0.5, 0.5, 0.05),
    )


def crop_pooling_panel(photo: RunningPhoto, trace: Trace) -> Explorer:
    """One RoI: its points on the feature map, and the crop beside that of `roi_align`."""
    features, (height, width) = trace.features[None], trace.image_size
    rows, columns = features.shape[2:]
    ranges = [_range(channel) for channel in features[0]]
    picture = crop_comparison(resize(photo.original, trace.image_size), (rows, columns))
    on_map = picture.on_map

    def draw(
        center_x: int, center_y: int, roi_width: int, roi_height: int, output_size: int, channel: int, mode: str
    ) -> str:
        corner = torch.tensor([roi_width, roi_height]) / 2
        roi = (torch.tensor([center_x, center_y, center_x, center_y]) + torch.cat([-corner, corner]))[None]
        one, (darkest, brightest) = features[:, channel : channel + 1], ranges[channel]
        draw_map(on_map, one[0, 0], darkest, brightest, pale=0.35)
        draw_title(on_map, f"channel {channel} of the feature map, {columns} × {rows} cells")
        draw_boxes(on_map, roi / 16, PROPOSAL, linewidth=2.2)
        draw_boxes(picture.on_photo, roi, PROPOSAL, linewidth=2.2)
        x, y = sampling_points(roi, 16, output_size)
        align_x, align_y = align_points(roi[0], 16, output_size)
        if mode == "crop":
            draw_points(on_map, x[0], y[0], PROPOSAL, size=5.0)
        else:
            draw_points(on_map, align_x, align_y, "black", size=1.6)
        crop = crop_pool(one, [roi], 16, output_size)[0, 0]
        align = crop_pool(one, [roi], 16, output_size, mode="align")[0, 0]
        picture.draw_crop("crop", crop, darkest, brightest)
        picture.draw_crop("align", align, darkest, brightest)
        left, top, right, bottom = ((roi[0] / 16).round(decimals=1) + 0.0).tolist()  # no -0.0
        seen = cells_read(x[0], y[0], (rows, columns))
        across, down = (side / 16 / (output_size - 1) for side in (roi_width, roi_height))
        return (
            f'RoI in cells: {left:.1f}, {top:.1f} to {right:.1f}, {bottom:.1f}; the dots are what "{mode}" reads.\n'
            f"crop reads {output_size} x {output_size} = {output_size**2} points, {across:.2f} cells apart across and "
            f"{down:.2f} down:\n{seen} of the map's {rows * columns} cells have a say.\n"
            f"align averages {len(align_x) // output_size} x {len(align_y) // output_size} points in each of "
            f"{output_size**2} bins, {len(align_x) * len(align_y):,} in all.\n"
            f"The two differ by up to {float((crop - align).abs().max()):.1f}; "
            f"the channel runs from {darkest:.1f} to {brightest:.1f}."
        )

    x1, y1, x2, y2 = largest_object(photo, trace)[0].round().int().tolist()
    return Explorer(
        picture.figure,
        draw,
        center_x=slider("center x (pixels)", (x1 + x2) // 2, 0, width),
        center_y=slider("center y (pixels)", (y1 + y2) // 2, 0, height),
        roi_width=slider("width (pixels)", x2 - x1, 16, width),
        roi_height=slider("height (pixels)", y2 - y1, 16, height),
        output_size=slider("output_size", CropPoolingConfig().output_size, 2, 14),
        channel=slider("channel", CHANNEL, 0, len(ranges) - 1),
        mode=choice("mode", CropPoolingConfig().mode, ["crop", "align"]),
    )


def squares_picture(photo: RunningPhoto, trace: Trace) -> Explorer:
    """RoIs of three shapes, and the squares that they become: of the photo, to see it, and of the feature map."""
    image, features = resize(photo.original, trace.image_size), trace.features[None]
    whole = largest_object(photo, trace)[0]
    shares = torch.tensor([(0, 0, 1, 1), (0.05, 0.55, 0.95, 0.95), (0.03, 0.06, 0.35, 0.9)])
    names, rois = ("whole", "wide", "tall"), whole[:2].repeat(2) + shares * (whole[2:] - whole[:2]).repeat(2)
    squares = crop_pool(image[None], [rois], stride=1, output_size=112).clamp(0, 1)
    crops, (darkest, brightest) = crop_pool(features, [rois])[:, CHANNEL], _range(features[0, CHANNEL])
    figure = squares_figure(image, rois, names, squares, crops, darkest, brightest)

    def draw() -> str:
        said = [
            f"{name}, {width:.0f} x {height:.0f} pixels: a point every {width / 6:.0f} across, {height / 6:.0f} down"
            for name, (width, height) in zip(names, (rois[:, 2:] - rois[:, :2]).tolist(), strict=True)
        ]
        return "Three shapes become one:\n" + "\n".join(said)

    return Explorer(figure, draw)


def gradient_panel(photo: RunningPhoto, model: FasterRCNN, trace: Trace) -> Explorer:
    """The trap: what the classifier's loss tells a RoI of its place, with `differentiable_rois` off and on."""
    features, place = trace.features[None].detach(), largest_object(photo, trace)
    label = label_of_largest(photo, model, trace)
    percent = float(place[0, 2] - place[0, 0]) / 100
    shifts = torch.arange(-30, 31)
    with torch.no_grad():
        losses = classification_losses(model, features, place + _sideways(shifts * percent), label).tolist()
    image = resize(photo.original, trace.image_size)
    figure, axes, plot = shift_figure(image, place[0], 30 * percent, shifts.tolist(), losses, model.classes[label - 1])

    def draw(shift: int, differentiable_rois: bool) -> str:
        roi = (place + _sideways(torch.tensor([shift * percent]))).requires_grad_()
        loss = classification_losses(model, features, roi, label, differentiable_rois)
        draw_boxes(axes, roi, PROPOSAL, linewidth=2.4)
        style: dict[str, Any] = {"color": PROPOSAL, "scalex": False, "scaley": False}
        plot.plot([shift], [loss.item()], "o", markersize=9, **style)
        aside = f"{abs(shift)} % of its width to the {'right' if shift > 0 else 'left'} of the object"
        words = f"The RoI lies {aside if shift else 'on the object'}.\n"
        words += f"The classifier's loss is {loss.item():.1f}.\n"
        slopes = cast("Tensor | None", torch.autograd.grad(loss, roi, allow_unused=True)[0])
        if slopes is None:
            draw_title(axes, "differentiable_rois off: no gradient reaches the RoI")
            return words + "differentiable_rois off: the RoI is a constant, and no gradient reaches it."
        draw_title(axes, "differentiable_rois on: a gradient for each side")
        draw_side_arrows(axes, roi[0], -60 * slopes[0] / slopes.abs().max().clamp(min=1e-9))
        slope = float(slopes[0, 0] + slopes[0, 2]) * percent
        ends = torch.tensor([-3.6, 3.6])
        plot.plot(shift + ends, loss.item() + slope * ends, linewidth=3, **style)
        toward = "towards the object" if slope * shift > 0 else "away from the object"
        return words + (
            "differentiable_rois on: a gradient reaches all four coordinates.\n"
            f"Downhill is to the {'right' if slope < 0 else 'left'}{f', {toward}' if shift else ''}."
        )

    return Explorer(
        figure,
        draw,
        shift=slider("shift (% of its width)", 15, -30, 30),
        differentiable_rois=switch("differentiable_rois", True),
    )


def largest_object(photo: RunningPhoto, trace: Trace) -> Tensor:
    """`(1, 4)`: the object with the largest area, in the pixels of the trace's resized image."""
    boxes = photo.original_boxes * trace.scale
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return boxes[area.argmax()][None]


def _range(values: Tensor) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _sideways(shifts: Tensor) -> Tensor:
    """`(N, 4)` to add to a box so that it moves to the right by each of the shifts `(N,)`."""
    return torch.tensor([1.0, 0, 1, 0]) * shifts[:, None]


def label_of_largest(photo: RunningPhoto, model: FasterRCNN, trace: Trace) -> int:
    """The class of the largest object; where the model has no class of that name, what it takes the object for."""
    areas = (photo.boxes[:, 2:] - photo.boxes[:, :2]).prod(dim=1)
    name = photo.labels[int(areas.argmax())]
    if name in model.classes:
        return model.classes.index(name) + 1
    with torch.no_grad():
        crops = crop_pool(trace.features[None], [largest_object(photo, trace)])
        scores = model.classifier(crops).class_scores
    return int(scores[0, 1:].argmax()) + 1


def classification_losses(
    model: FasterRCNN, features: Tensor, rois: Tensor, label: int, differentiable_rois: bool = False
) -> Tensor:
    """`(R,)`: the classifier's cross-entropy of each RoI."""
    crops = crop_pool(features, [rois], differentiable_rois=differentiable_rois)
    scores = model.classifier(crops).class_scores
    return F.cross_entropy(scores, torch.full((len(rois),), label), reduction="none")


def panels() -> dict[str, Explorer]:
    """Every panel of this lesson, on the running photo."""
    photo, model = running_photo(), load("voc-crop")
    with torch.no_grad():
        trace = model.trace(photo.original)
    return {
        "crop_steps_picture": crop_steps_picture(photo, trace),
        "warping_panel": warping_panel(photo),
        "crop_pooling_panel": crop_pooling_panel(photo, trace),
        "squares_picture": squares_picture(photo, trace),
        "gradient_panel": gradient_panel(photo, model, trace),
    }
