"""The whole network as a diagram: head, region proposal network and classification network, with what each layer gives.

Article "Network Architecture".
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rcnn_edu.draw.flow import LAYER, PLAIN, Box, draw_arrow, draw_block, draw_text, flow_figure, middle

_WIDTH, _HEIGHT = 960, 476
_BLOCK_WIDTH, _BLOCK_HEIGHT = 242, 66
_LEFTS = (10, 352, 706)
_TOP, _PITCH = 56, 92

# name: (column, row, has weights, what it does)
_PLACES: dict[str, tuple[int, int, bool, str]] = {
    "photo": (0, 0, False, "resized, mean subtracted"),
    "stem": (0, 1, True, "7×7 convolution, pool"),
    "layer1": (0, 2, True, "3 blocks"),
    "layer2": (0, 3, True, "4 blocks, stride 2"),
    "layer3": (0, 4, True, "6 blocks, stride 2"),
    "rpn_net": (1, 4, True, "3×3 convolution, ReLU"),
    "rpn_bbox_pred_net": (1, 3, True, "1×1 convolution"),
    "rpn_cls_score_net": (1, 2, True, "1×1 convolution"),
    "proposal layer": (1, 1, False, "decode, clip, NMS"),
    "crop pooling": (2, 0, False, "every RoI to 7 × 7 cells"),
    "layer4": (2, 1, True, "3 blocks, stride taken out"),
    "fc7": (2, 2, False, "mean over 7 × 7"),
    "cls_score_net": (2, 3, True, "linear"),
    "bbox_pred_net": (2, 4, True, "linear"),
}


def network_diagram(shapes: Mapping[str, str], frozen: tuple[str, ...] = ()) -> tuple[Figure, Axes]:
    """The fourteen layers of the article's figure, and arrows from each to what it feeds.

    shapes: for each layer what it gives, as text in terms of w and h; frozen: layers that do not learn.
    """
    figure, axes = flow_figure(_WIDTH, _HEIGHT)
    for left, title in zip(_LEFTS, ("head", "region proposal network", "classification network"), strict=True):
        draw_text(axes, (left + _BLOCK_WIDTH / 2, 14), title, fontsize=12)
    for name, (_, _, has_weights, what) in _PLACES.items():
        note = f"{what} (frozen)" if name in frozen else what
        draw_block(axes, _box(name), "", LAYER if has_weights else PLAIN)
        x1, y1, _, _ = _box(name)
        draw_text(axes, (x1 + _BLOCK_WIDTH / 2, y1 + 15), f"{name}: {note}", fontsize=8.6)
        draw_text(axes, (x1 + _BLOCK_WIDTH / 2, y1 + 34), shapes[name], fontsize=10)
    for column in ([name for name in _PLACES if _PLACES[name][0] == 0], ["crop pooling", "layer4", "fc7"]):
        for above, below in pairwise(column):
            draw_arrow(axes, _middle(above, "bottom"), _middle(below, "top"))
    draw_arrow(axes, _middle("layer3", "right"), _middle("rpn_net", "left"))
    draw_arrow(axes, _middle("rpn_net", "top"), _middle("rpn_bbox_pred_net", "bottom"))
    draw_arrow(axes, _middle("rpn_cls_score_net", "top"), _middle("proposal layer", "bottom"))
    _side_line(axes, "rpn_net", "rpn_cls_score_net", "right", 16)  # past the coefficients, to the scores
    _side_line(axes, "rpn_bbox_pred_net", "proposal layer", "left", -16)
    _side_line(axes, "fc7", "cls_score_net", "left", -16)
    _side_line(axes, "fc7", "bbox_pred_net", "left", -16)
    _over_the_top(axes)
    return figure, axes


def draw_sizes(axes: Axes, sizes: Mapping[str, str]) -> list[Artist]:
    """What each layer gives in numbers, in the third line of its block."""
    artists = []
    for name, text in sizes.items():
        x1, y1, _, _ = _box(name)
        artists.append(draw_text(axes, (x1 + _BLOCK_WIDTH / 2, y1 + 53), text, fontsize=9))
    return artists


def _box(name: str) -> Box:
    column, row, _, _ = _PLACES[name]
    left, top = _LEFTS[column], _TOP + row * _PITCH - 24
    return left, top, left + _BLOCK_WIDTH, top + _BLOCK_HEIGHT


def _middle(name: str, side: str) -> tuple[float, float]:
    return middle(_box(name), side)


def _line(axes: Axes, points: list[tuple[float, float]]) -> None:
    x, y = zip(*points, strict=True)
    axes.plot(x[:-1], y[:-1], color="#333333", linewidth=1.2, scalex=False, scaley=False)
    draw_arrow(axes, points[-2], points[-1])


def _side_line(axes: Axes, start: str, end: str, side: str, out: float) -> None:
    """From one block to another of its column, past what lies between, `out` pixels beside them."""
    (x1, y1), (x2, y2) = _middle(start, side), _middle(end, side)
    _line(axes, [(x1, y1), (x1 + out, y1), (x2 + out, y2), (x2, y2)])


def _over_the_top(axes: Axes) -> None:
    """Features and proposals both enter crop pooling: one from layer3, one from the proposal layer."""
    (x1, y1), (x2, y2) = _middle("layer3", "right"), _middle("crop pooling", "left")
    _line(axes, [(x1, y1 - 14), (x1 + 38, y1 - 14), (x1 + 38, y2 - 12), (x2, y2 - 12)])
    (x3, y3) = _middle("proposal layer", "right")
    _line(axes, [(x3, y3 - 12), (x3 + 40, y3 - 12), (x3 + 40, y2 + 12), (x2, y2 + 12)])
    draw_text(axes, ((x1 + x2) / 2 + 20, y2 - 24), "features", fontsize=9)
    draw_text(axes, (x3 + 62, y2 + 24), "RoIs", fontsize=9)
