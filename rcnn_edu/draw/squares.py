"""Regions of several shapes on a photo, and the squares of one size that they become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from rcnn_edu.draw.boxes import draw_boxes
from rcnn_edu.draw.colors import PROPOSAL
from rcnn_edu.draw.feature_map import cell_axes, draw_map
from rcnn_edu.draw.figures import draw_image, to_numpy
from rcnn_edu.draw.layout import draw_title, faded
from rcnn_edu.draw.pixel_layout import axes_at, blank_figure, fitted

WIDE, SQUARE, GAP = 444, 150, 12


def squares_figure(
    image: Any, rois: Any, names: Sequence[str], squares: Any, crops: Any, darkest: float, brightest: float
) -> Figure:
    """image: `(3, h, w)`; rois: `(3, 4)` in its pixels; squares: `(3, 3, n, n)`, the photo cropped by each, in 0..1;
    crops: `(3, m, m)`, a channel of the feature map, drawn from black at `darkest` to white at `brightest`.
    """
    wide, high = fitted(image, WIDE, 2 * SQUARE + 30)
    figure = blank_figure(960, 2 * (SQUARE + 30) + 4)
    on_photo = axes_at(figure, 0, 30 + (2 * SQUARE + 30 - high) / 2, wide, high)
    draw_image(on_photo, faded(image))
    draw_boxes(on_photo, rois, PROPOSAL, names, linewidth=2.4, fontsize=11)
    draw_title(on_photo, "three RoIs")
    for column, (name, square, crop) in enumerate(zip(names, squares, crops, strict=True)):
        left = WIDE + 36 + (SQUARE + GAP) * column
        upper, lower = (axes_at(figure, left, top, SQUARE, SQUARE) for top in (30, SQUARE + 60))
        draw_image(upper, square)
        cell_axes(lower, to_numpy(crop).shape)
        draw_map(lower, crop, darkest, brightest)
        draw_title(upper, f"{name}: the photo")
        draw_title(lower, "the features, {} × {}".format(*to_numpy(crop).shape))
    return figure
