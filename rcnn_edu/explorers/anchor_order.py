"""The trap of lesson 02: a trained RPN whose anchors come in another order than in its training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.patches import Patch
from torch import Tensor

from rcnn_edu.boxes import box_iou
from rcnn_edu.checkpoint import load
from rcnn_edu.config import AnchorConfig
from rcnn_edu.draw import DONT_CARE, KEPT
from rcnn_edu.draw.bars import draw_bars
from rcnn_edu.draw.layout import foot_legend
from rcnn_edu.draw.photo_bars import photo_bars
from rcnn_edu.explorers.base import Explorer
from rcnn_edu.explorers.photo import RunningPhoto, running_photo
from rcnn_edu.model import FasterRCNN

FIRST = 20
"""Proposals of a photo that the trap looks at, the best first."""
NEAR = 0.5
"""IoU from which a proposal has found the object."""


def order_picture(model: FasterRCNN, photos: Sequence[RunningPhoto]) -> Explorer:
    """The trap, a still: a trained RPN whose anchors come in another order than in its training.

    photos: resized as the model wants them. A bar is the best IoU that one of the first 20 proposals has with the
    photo's first object.
    """
    rows: dict[str, list[float]] = {}
    for photo in photos:
        with torch.no_grad():
            trace = model.trace(photo.original)
            for name, anchors in _orders(trace.anchors, model.config.anchors, photo.feature_size).items():
                proposals = model.propose(
                    trace.rpn_class_scores, trace.coefficients, anchors, trace.image_size, model.config.test_proposals
                )
                best = box_iou(proposals.boxes[:FIRST], photo.boxes[:1])
                rows.setdefault(name, []).append(float(best.max()))
    images, titles = [photo.image[:, ::2, ::2] for photo in photos], [photo.labels[0] for photo in photos]
    figure, plots = photo_bars(images, titles, list(rows), most=1.1, bar_height=36)
    for plot in plots:
        plot.axvline(NEAR, color="#777777", linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
    foot_legend(
        figure,
        [
            Patch(color=KEPT, label=f"best IoU of {FIRST} proposals with the object, {NEAR} or more"),
            Patch(color=DONT_CARE, label="less"),
        ],
    )

    def draw() -> str:
        for index, plot in enumerate(plots):
            best = [found[index] for found in rows.values()]
            draw_bars(plot, best, [KEPT if iou >= NEAR else DONT_CARE for iou in best], [f"{iou:.2f}" for iou in best])
        counts = "; ".join(f"{name}: {sum(iou >= NEAR for iou in best)}" for name, best in rows.items())
        return (
            f"Objects, of {len(photos)}, that one of the first {FIRST} proposals meets with an IoU of {NEAR} or more. "
            f"{counts}."
        )

    return Explorer(figure, draw)


def _orders(anchors: Tensor, config: AnchorConfig, feature_size: tuple[int, int]) -> dict[str, Tensor]:
    """The anchors `(A, 4)` of one photo in the order of training, and in two that people mistake for it."""
    ratios, scales = len(config.ratios), len(config.scales)
    grid = anchors.reshape(*feature_size, ratios, scales, 4)
    return {
        "as in training": anchors,
        "ratio as width / height": grid.flip(2).reshape(-1, 4),
        "scale first, then ratio": grid.transpose(2, 3).reshape(-1, 4),
    }


def panels() -> dict[str, Explorer]:
    """The panel of the trap, on the sample photos."""
    model = load("voc-crop")
    names = ("motorcycle", "astronaut", "cat", "hopper")
    photos = [running_photo(name, config=model.config.preprocessing) for name in names]
    return {"order_picture": order_picture(model, photos)}
