"""Panels of lesson 01: what the network gets for a photo."""

from __future__ import annotations

from dataclasses import replace

import torch
from matplotlib.lines import Line2D

from rcnn_edu.config import PreprocessingConfig
from rcnn_edu.data.voc import VOC_CLASSES
from rcnn_edu.draw import DONT_CARE, OBJECT, draw_boxes, draw_image
from rcnn_edu.draw.layout import draw_title, foot_legend
from rcnn_edu.draw.pixel_layout import axes_at, blank_figure
from rcnn_edu.draw.pixel_values import channel_handles, draw_histograms, signed_picture, value_axes
from rcnn_edu.draw.resized_photo import CELL, draw_close_up, draw_size_limits, draw_to_scale
from rcnn_edu.explorers.base import Explorer, slider, switch
from rcnn_edu.explorers.photo import RunningPhoto, running_photo
from rcnn_edu.preprocessing import normalize, resize, resize_scale, resized_size

TORCHVISION, CAFFE = PreprocessingConfig(preset="torchvision"), PreprocessingConfig(preset="caffe")


def annotation_picture(photo: RunningPhoto) -> Explorer:
    """A still: a photo with its boxes, and what an annotation file of VOC says of the first of its objects."""
    height, width = photo.original.shape[1:]
    shown_width = min(480, round(380 * width / height))
    figure = blank_figure(shown_width + 330, round(shown_width * height / width))
    axes = axes_at(figure, 0, 0, shown_width, shown_width * height / width)
    record = axes_at(figure, shown_width + 20, 0, 310, shown_width * height / width)
    draw_image(axes, photo.original)
    known = [label in VOC_CLASSES for label in photo.labels]
    for index, (label, of_voc) in enumerate(zip(photo.labels, known, strict=True)):
        box, color = photo.original_boxes[index : index + 1], OBJECT if of_voc else DONT_CARE
        draw_boxes(axes, box, color, [label], linewidth=2.5, fontsize=11)
    x1, y1, x2, y2 = (round(side) for side in photo.original_boxes[0].tolist())
    xml = (
        f"<annotation>\n  <size>\n    <width>{width}</width>\n    <height>{height}</height>\n  </size>\n"
        f"  <object>\n    <name>{photo.labels[0]}</name>\n    <difficult>0</difficult>\n    <bndbox>\n"
        f"      <xmin>{x1 + 1}</xmin>\n      <ymin>{y1 + 1}</ymin>\n"
        f"      <xmax>{x2}</xmax>\n      <ymax>{y2}</ymax>\n    </bndbox>\n  </object>\n</annotation>"
    )
    record.text(0, 0.5, xml, family="monospace", fontsize=10, va="center", linespacing=1.35)

    def draw() -> str:
        names = ", ".join(label for label, of_voc in zip(photo.labels, known, strict=True) if of_voc)
        others = ", ".join(label for label, of_voc in zip(photo.labels, known, strict=True) if not of_voc)
        return (
            f"{photo.name}, {width} × {height} pixels. Objects of VOC's classes, blue: {names or 'none'}; "
            f"of other classes, grey: {others or 'none'}.\n"
            f"In the file the {photo.labels[0]} is ({x1 + 1}, {y1 + 1}, {x2}, {y2}): first and last pixel, counted "
            f"from 1. Here its box is ({x1}, {y1}, {x2}, {y2}): from edge to edge, counted from 0."
        )

    return Explorer(figure, draw)


def pipeline_picture(photo: RunningPhoto) -> Explorer:
    """A still: the photo as it came, resized, and as the network gets it."""
    before, after = photo.original.shape[1:], photo.image.shape[1:]
    scale = 800 / (before[1] + 2 * after[1])  # three photos to one scale, with room for two arrows
    top, height = 30, round(max(before[0], after[0]) * scale)
    figure = blank_figure(960, top + height + 22)
    ready = normalize(photo.image, TORCHVISION)
    images = (photo.original, photo.image, signed_picture(ready))
    titles = ("the photo", "resized", "normalised; grey is 0")
    left, places = 0.0, []
    for image, size, title in zip(images, (before, after, after), titles, strict=True):
        axes = axes_at(figure, left, top + height - size[0] * scale, size[1] * scale, size[0] * scale)
        draw_image(axes, image)
        draw_title(axes, title)
        axes.text(0, size[0] + 10, f"3 × {size[0]} × {size[1]}", fontsize=9.5, va="top", clip_on=False)
        left += size[1] * scale + 80
        places.append(left - 80)
    for place, text in zip(places, (f"× {photo.scale:.2f}", "(x − mean)\n/ std"), strict=False):
        arrow = axes_at(figure, place, top, 80, height)
        arrow.set(xlim=(0, 80), ylim=(height, 0))
        arrow.annotate(
            "", (72, height / 2), (8, height / 2), arrowprops={"arrowstyle": "-|>", "lw": 2, "color": "black"}
        )
        arrow.text(40, height / 2 - 10, text, ha="center", va="bottom", fontsize=9)

    def draw() -> str:
        return (
            f"{before[1]} × {before[0]} pixels become {after[1]} × {after[0]}; then the fixed mean is subtracted. "
            f"At the right, grey stands for 0: the values go from {float(ready.min()):.1f} to {float(ready.max()):.1f}."
        )

    return Explorer(figure, draw)


def preprocessing_panel(photo: RunningPhoto) -> Explorer:
    """The photo to scale at its new size, its smallest object pixel by pixel, and what its pixels become."""
    pixels = photo.original.float() / 255
    size = height, width = (photo.original.shape[1], photo.original.shape[2])
    sides = photo.original_boxes[:, 2:] - photo.original_boxes[:, :2]
    smallest = int(sides.prod(dim=1).argmin())
    box, (box_width, box_height) = photo.original_boxes[smallest], sides[smallest].tolist()

    wide = width >= height
    room = (1640, 1090) if wide else (1090, 1640)
    factor = min(560 / room[0], 440 / room[1])
    left = 590
    figure = blank_figure(960, 496)
    whole = axes_at(figure, 0, 26, room[0] * factor, room[1] * factor)
    whole.set(xlim=(0, room[0]), ylim=(room[1], 0))
    close_up = axes_at(figure, left, 26, 360, 190)
    half = max(box_width / 360, box_height / 190) * 0.7
    x, y = ((box[:2] + box[2:]) / 2).tolist()
    close_up.set(xlim=(x - 360 * half, x + 360 * half), ylim=(y + 190 * half, y - 190 * half))
    plots = [axes_at(figure, left, top, 360, 70) for top in (248, 366)]
    value_axes(plots[0], -2.6, 4.6, (-2, -1, 0, 1, 2, 3, 4))
    value_axes(plots[1], -145, 257, (-100, 0, 100, 200))
    draw_title(plots[0], "torchvision: red, green, blue")
    draw_title(plots[1], "caffe: blue, green, red")
    foot_legend(
        figure,
        [
            Line2D([], [], color="black", linewidth=1.6, linestyle=(0, (1, 1.5)), label="the photo as it came"),
            Line2D([], [], color=OBJECT, linewidth=2.2, label=f"{photo.labels[smallest]}, the smallest object"),
            *channel_handles(),
        ],
        fontsize=9,
    )

    def draw(target_size: int, max_size: int, subtract_mean: bool, divide_by_std: bool) -> str:
        scale = resize_scale(height, width, target_size, max_size)
        resized = resize(pixels, resized_size(height, width, scale))
        rows, columns = resized.shape[1:]
        draw_to_scale(whole, resized, size)
        draw_size_limits(whole, target_size, max_size, wide)
        draw_title(whole, f"× {scale:.2f}: {columns} × {rows} pixels, to scale")
        draw_close_up(close_up, resized, scale)
        draw_boxes(close_up, box[None], OBJECT, linewidth=2.2)
        of_it = f"{box_width * scale:.0f} × {box_height * scale:.0f} pixels"
        draw_title(close_up, f"{photo.labels[smallest]}: {of_it}; grid of {CELL} pixels")

        said = []
        every = max(1, max(rows, columns) // 200)  # that many rows and columns have the same histogram
        extremes = torch.stack([resized.amin(dim=(1, 2)), resized.amax(dim=(1, 2))], dim=1)[:, None]
        for plot, preset in zip(plots, (TORCHVISION, CAFFE), strict=True):
            config = replace(
                preset, mean=None if subtract_mean else (0, 0, 0), std=None if divide_by_std else (1, 1, 1)
            )
            draw_histograms(plot, normalize(resized[:, ::every, ::every], config))
            ends = normalize(extremes, config)
            digits = 1 if config.preset == "torchvision" else 0
            between = f"{float(ends.min()):.{digits}f} to {float(ends.max()):.{digits}f}"
            plot.text(1, 1, between, transform=plot.transAxes, fontsize=10.5, ha="right", va="bottom")
            said.append(f"{config.preset} {between}")
        decides = "max_size" if scale < target_size / min(height, width) else "target_size"
        return (
            f"{width} × {height} pixels × {scale:.2f} = {columns} × {rows}; {decides} decides. "
            f"The feature map will have {-(-columns // CELL)} × {-(-rows // CELL)} cells.\n"
            f"The {photo.labels[smallest]} has {of_it}, "
            f"{box_width * scale / CELL:.1f} × {box_height * scale / CELL:.1f} cells.\n"
            f"Values with the mean {'subtracted' if subtract_mean else 'left in'}"
            f"{'' if divide_by_std else ', not divided by std'}: {'; '.join(said)}."
        )

    return Explorer(
        figure,
        draw,
        target_size=slider("target_size", TORCHVISION.target_size, 100, 1000, 50),
        max_size=slider("max_size", TORCHVISION.max_size, 200, 1600, 100),
        subtract_mean=switch("subtract the mean", True),
        divide_by_std=switch("divide by std", True),
    )


def panels() -> dict[str, Explorer]:
    """Every panel of this lesson, on the running photo and the astronaut."""
    photo = running_photo()
    return {
        "annotation_picture": annotation_picture(running_photo("astronaut")),
        "pipeline_picture": pipeline_picture(photo),
        "preprocessing_panel": preprocessing_panel(photo),
    }
