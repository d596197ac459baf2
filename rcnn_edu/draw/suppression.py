"""One decision of non-maximum suppression: boxes over the photo, and in a plot why each of them stays or goes."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor

from rcnn_edu.boxes import box_iou
from rcnn_edu.draw.boxes import draw_boxes
from rcnn_edu.draw.colors import DONT_CARE, KEPT, PROPOSAL
from rcnn_edu.draw.figures import to_numpy


class Moment(NamedTuple):
    """Who is what after some decisions: int64 rows of the boxes. What earlier decisions suppressed is in none."""

    kept: Tensor
    """In the order in which they were kept; the last decision's is the last."""
    suppressed: Tensor
    """By the last decision."""
    undecided: Tensor


def suppression_handles() -> list[Artist]:
    """The legend of both drawings."""
    look: dict[str, Any] = {"markersize": 8, "linewidth": 2}
    return [
        Line2D([], [], color=KEPT, marker="s", label="kept", **look),
        Line2D([], [], color=DONT_CARE, marker="X", linestyle=(0, (3, 1.5)), label="suppressed now", **look),
        Line2D([], [], color=PROPOSAL, marker="o", label="undecided", **look),
    ]


def draw_moment(axes: Axes, boxes: Tensor, scores: Tensor, moment: Moment) -> list[Artist]:
    """The boxes `(N, 4)` over a photo, the kept ones thick and with their scores `(N,)`."""
    artists = draw_boxes(axes, boxes[moment.undecided], PROPOSAL, linewidth=1.0)
    dashed = draw_boxes(axes, boxes[moment.suppressed], DONT_CARE, linewidth=1.4)
    dashed[-1].set(linestyle=(0, (3, 1.5)))
    artists += dashed
    earlier, last = moment.kept[:-1], moment.kept[-1:]
    artists += draw_boxes(axes, boxes[earlier], KEPT, _two_digits(scores[earlier]), linewidth=2.0)
    artists += draw_boxes(axes, boxes[last], KEPT, _two_digits(scores[last]), linewidth=3.5, fontsize=11)
    return artists


def decision_axes(axes: Axes) -> None:
    """Prepare axes for `draw_decision`: IoU with the box just kept to the right, score upwards."""
    axes.set(xlim=(-0.02, 1.04), ylim=(0, 1.04))
    axes.set_xlabel("IoU with the box just kept", fontsize=10)
    axes.set_ylabel("score", fontsize=10)
    axes.grid(alpha=0.25)


def draw_decision(
    axes: Axes, boxes: Tensor, scores: Tensor, moment: Moment, nms_threshold: float, score_threshold: float
) -> list[Artist]:
    """Each box of the last decision as a point: right of the threshold it is suppressed.

    Before the first decision nothing is kept, and all boxes stand at IoU 0.
    """
    artists: list[Artist] = [
        axes.axvline(nms_threshold, color="black", linewidth=1.2, linestyle="--"),
        axes.axhline(score_threshold, color="black", linewidth=1.0, linestyle=":"),
    ]
    last = moment.kept[-1:]
    groups: list[tuple[Tensor, dict[str, Any]]] = [
        (moment.suppressed, {"marker": "X", "color": DONT_CARE, "markersize": 8}),
        (moment.undecided, {"marker": "o", "color": PROPOSAL, "markersize": 7}),
        (last, {"marker": "s", "color": KEPT, "markersize": 12}),
    ]
    for rows, look in groups:
        iou = box_iou(boxes[rows], boxes[last]).amax(dim=1) if len(last) else torch.zeros(len(rows))
        x, y = to_numpy(iou), to_numpy(scores[rows])
        style: dict[str, Any] = {
            "linestyle": "none",
            "markeredgecolor": "white",
            "markeredgewidth": 0.6,
            "clip_on": False,
        }
        artists += axes.plot(x, y, scalex=False, scaley=False, **style, **look)
    return artists


def _two_digits(scores: Tensor) -> list[str]:
    return [f"{score:.2f}" for score in scores.tolist()]
