"""One RoI on the feature map and on the photo, and the crops that two ways of pooling make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rcnn_edu.draw.colors import PROPOSAL
from rcnn_edu.draw.feature_map import cell_axes
from rcnn_edu.draw.figures import draw_image, to_numpy
from rcnn_edu.draw.layout import draw_title, faded, foot_legend
from rcnn_edu.draw.pixel_layout import axes_at, blank_figure, fitted


@dataclass(frozen=True)
class CropComparison:
    """The parts of the picture."""

    figure: Figure
    on_map: Axes
    on_photo: Axes
    crops: dict[str, Axes]
    """By `crop_pool`'s mode."""

    def draw_crop(self, mode: str, values: Any, darkest: float, brightest: float) -> None:
        """Show one channel of a crop `(n, n)`."""
        axes = self.crops[mode]
        look: dict[str, Any] = {"cmap": "gray", "vmin": darkest, "vmax": brightest, "extent": (0, 1, 1, 0)}
        axes.imshow(to_numpy(values), aspect=axes.get_aspect(), interpolation="nearest", **look)


def crop_comparison(image: Any, feature_size: tuple[int, int]) -> CropComparison:
    """image: `(3, h, w)`; feature_size: (rows, columns) of its feature map."""
    square, top = 156, 28
    (wide, high), (narrow, low) = fitted(image, 600, 440), fitted(image, 310, 240)
    height = max(high, low + 36 + square)
    figure = blank_figure(960, round(top + height + 34))
    on_map, on_photo = axes_at(figure, 0, top, wide, high), axes_at(figure, 620, top, narrow, low)
    below = top + height - square
    crops = {
        "crop": axes_at(figure, 620, below, square, square),
        "align": axes_at(figure, 952 - square, below, square, square),
    }
    draw_image(on_photo, faded(image))
    cell_axes(on_map, feature_size)
    draw_title(on_photo, "the RoI on the photo")
    for mode, axes in crops.items():
        axes.set(xlim=(0, 1), ylim=(1, 0))
        draw_title(axes, f'mode "{mode}"')
    dots: dict[str, Any] = {"marker": "o", "linestyle": "none"}
    handles = [
        Line2D([], [], color=PROPOSAL, linewidth=2.5, label="RoI"),
        Line2D([], [], color=PROPOSAL, label="points that crop reads", **dots),
        Line2D([], [], color="black", markersize=4, label="points that align averages, bin by bin", **dots),
    ]
    foot_legend(figure, handles)
    return CropComparison(figure, on_map, on_photo, crops)
