"""Where the label of a box goes: at one of its corners, inside the picture, and clear of the labels already there."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_PADDING = 0.2  # between the text and the edge of its patch, as a share of the font size


def draw_tag(axes: Axes, box: Floats, label: str, color: str, fontsize: float) -> Text:
    """Write `label` on a patch of `color` at the best free corner of `box` (4,), which is in the axes' own units."""
    axes.apply_aspect()  # else it is done while drawing, and moves what was measured before
    taken = np.array([tag_extent(other) for other in axes.texts]).reshape(-1, 4)
    text: Text = axes.text(
        0,
        0,
        label,
        color="white" if _luminance(color) < 0.3 else "black",
        fontsize=fontsize,
        horizontalalignment="left",
        verticalalignment="bottom",
        parse_math=False,  # a class may be named "$"
        clip_on=True,
        bbox={"boxstyle": f"square,pad={_PADDING}", "facecolor": color, "edgecolor": "none"},
    )
    to_canvas = axes.transData
    extent = tag_extent(text)
    anchor = to_canvas.transform((0, 0)) - extent[:2]  # from the patch's corner to the text's own
    (x1, y1), (x2, y2) = to_canvas.transform(box.reshape(2, 2))
    corners = np.array([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)])
    place = _best_place(corners, extent[2:] - extent[:2], np.array(axes.get_window_extent().extents), taken)
    x, y = to_canvas.inverted().transform(place + anchor)
    text.set_position((x, y))
    return text


def tag_extent(text: Text) -> Floats:
    """(4,) left, bottom, right, top of a tag, its patch included, in pixels of the canvas, y up."""
    window = text.get_window_extent()
    padding = _PADDING * float(text.get_fontsize()) * text.figure.dpi / 72
    return np.array([window.x0 - padding, window.y0 - padding, window.x1 + padding, window.y1 + padding])


def _best_place(box: Floats, size: Floats, window: Floats, taken: Floats) -> Floats:
    """Lower left corner (2,) for a tag of `size` (2,): box (4,), window (4,) and taken (T, 4) are on the canvas."""
    (left, bottom, right, top), (width, height) = box, size
    # In order of preference: on the upper edge, as captions usually are; inside; below; beside; further up and down.
    ends = (left, right - width)
    corners = [(x, y) for y in (top, top - height, bottom - height, bottom) for x in ends]
    beside = [(right, top - height), (left - width, top - height)]
    further = [(x, y) for n in (1, 2, 3) for y in (top + n * height, bottom - (n + 1) * height) for x in ends]
    candidates = np.array(corners + beside + further)
    places = np.clip(candidates, window[:2], np.maximum(window[2:] - size, window[:2]))
    moved = np.abs(places - candidates).sum(axis=1)
    sides = np.minimum(places[:, None] + size, taken[:, 2:]) - np.maximum(places[:, None], taken[:, :2])
    covered = sides.clip(min=0).prod(axis=2).sum(axis=1)  # (P,) pixels of other tags
    cost = 100 * covered / (width * height) + moved / height + 0.1 * np.arange(len(places))
    best: Floats = places[np.argmin(cost)]
    return best


def _luminance(color: str) -> float:
    """Relative luminance of sRGB in 0..1 (WCAG 2), from which the readable ink follows."""
    linear = np.array(to_rgb(color)) ** 2.2
    return float(linear @ (0.2126, 0.7152, 0.0722))
