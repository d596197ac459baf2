"""A photo at its new size: the whole of it to scale, and a small part of it pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from rcnn_edu.draw.figures import to_numpy

CELL = 16  # pixels of the resized photo per cell of the feature map
_LIMIT: dict[str, Any] = {"color": "black", "linewidth": 1.2, "linestyle": (0, (5, 3))}


def draw_to_scale(axes: Axes, image: Any, original_size: tuple[int, int]) -> list[Artist]:
    """The image `(3, h, w)` in 0..1 with its upper left corner at 0, one unit a pixel, and how large it was before.

    original_size: (height, width) of the dotted outline. The axes' limits say how much room there is, and stay.
    """
    pixels = to_numpy(image)
    height, width = pixels.shape[1:]
    coarse = max(1, max(height, width) // 400)  # more pixels than the screen has would only take time
    shown = (pixels[:, ::coarse, ::coarse].clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    photo = axes.imshow(shown, extent=(0, width, height, 0), aspect=axes.get_aspect(), interpolation="nearest")
    artists: list[Artist] = [photo]
    for color, dashes in (("white", "solid"), ("black", (0, (1, 1.5)))):
        frame = Rectangle((0, 0), original_size[1], original_size[0], fill=False, edgecolor=color, linestyle=dashes)
        frame.set(linewidth=1.6, zorder=3)
        artists.append(axes.add_patch(frame))
    return artists


def draw_size_limits(axes: Axes, target_size: int, max_size: int, wide: bool) -> list[Artist]:
    """Dashed lines where the shorter side should end and where the longer must; wide: the longer one is the width."""
    right, bottom = axes.get_xlim()[1], axes.get_ylim()[0]
    x, y = (max_size, target_size) if wide else (target_size, max_size)
    at_x, at_y = ("max_size", "target_size") if wide else ("target_size", "max_size")
    style: dict[str, Any] = {"fontsize": 9.5, "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.5}}
    return [
        axes.axvline(x, **_LIMIT),
        axes.axhline(y, **_LIMIT),
        axes.text(min(x, right - 24), bottom - 10, f"{at_x} {x}", rotation=90, va="bottom", ha="center", **style),
        axes.text(right - 60, y, f"{at_y} {y}", va="center", ha="right", **style),
    ]


def draw_close_up(axes: Axes, image: Any, scale: float) -> list[Artist]:
    """The part of the resized image `(3, h, w)` that the axes show, pixel by pixel, with the borders of the cells.

    The axes are in pixels of the original photo, which is `scale` times smaller: so the part stays the same, whatever
    the image's size.
    """
    pixels = to_numpy(image)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x1, x2 = max(0, int(left * scale)), min(pixels.shape[2], int(np.ceil(right * scale)))
    y1, y2 = max(0, int(top * scale)), min(pixels.shape[1], int(np.ceil(bottom * scale)))
    part = (pixels[:, y1:y2, x1:x2].clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    extent = (x1 / scale, x2 / scale, y2 / scale, y1 / scale)
    artists: list[Artist] = [axes.imshow(part, extent=extent, aspect=axes.get_aspect(), interpolation="nearest")]
    step = CELL / scale
    columns = np.arange(np.ceil(left / step), np.floor(right / step) + 1) * step
    rows = np.arange(np.ceil(top / step), np.floor(bottom / step) + 1) * step
    if len(columns) + len(rows) <= 80:  # more of them would hide the photo
        artists.append(axes.vlines(columns, top, bottom, colors="white", linewidths=0.8, alpha=0.8))
        artists.append(axes.hlines(rows, left, right, colors="white", linewidths=0.8, alpha=0.8))
    return artists
