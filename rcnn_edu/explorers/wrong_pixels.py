"""The trap of lesson 01: what a trained detector finds when its pixels are prepared in another way than in training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from matplotlib.patches import Patch

from rcnn_edu.boxes import box_iou
from rcnn_edu.checkpoint import load
from rcnn_edu.config import PreprocessingConfig
from rcnn_edu.draw import DONT_CARE, KEPT
from rcnn_edu.draw.bars import draw_bars
from rcnn_edu.draw.layout import foot_legend
from rcnn_edu.draw.photo_bars import photo_bars
from rcnn_edu.explorers.base import Explorer
from rcnn_edu.explorers.photo import RunningPhoto, running_photo
from rcnn_edu.model import FasterRCNN
from rcnn_edu.preprocessing import normalize

SURE = 0.5
"""Class probability from which an object counts as found."""
SAME_PLACE = 0.3
"""IoU with the object from which a detection is of it."""


def wrong_pixels_picture(model: FasterRCNN, photos: Sequence[RunningPhoto]) -> Explorer:
    """The trap, a still: the first object of each photo, and how sure the detector is of it when its pixels are wrong.

    A score is that of the best detection of the object's class with an IoU of at least 0.3 with it; 0 if there is none.
    """
    rows = {
        name: [_score(model, photo, *wrong_way) for photo in photos]
        for name, wrong_way in _wrong_ways(model.config.preprocessing).items()
    }
    images, titles = [photo.image[:, ::4, ::4] for photo in photos], [photo.labels[0] for photo in photos]
    figure, plots = photo_bars(images, titles, list(rows), most=1.2, bar_height=34)
    foot_legend(
        figure,
        [
            Patch(color=KEPT, label=f"found: score {SURE:g}, IoU {SAME_PLACE:g} or more"),
            Patch(color=DONT_CARE, label="missed"),
        ],
    )

    def draw() -> str:
        for index, plot in enumerate(plots):
            scores = [found[index] for found in rows.values()]
            colors = [KEPT if score >= SURE else DONT_CARE for score in scores]
            draw_bars(plot, scores, colors, [f"{score:.2f}" if score else "none there" for score in scores])
        counts = (f"{name}: {sum(score >= SURE for score in scores)}" for name, scores in rows.items())
        return f"Found, of {len(photos)} objects in {len(photos)} photos. " + "; ".join(counts) + "."

    return Explorer(figure, draw)


def _wrong_ways(right: PreprocessingConfig) -> dict[str, tuple[PreprocessingConfig, str]]:
    """Names of ways to prepare pixels, the right one first: the configuration, and what is done to the photo before."""
    black = (0.0, 0.0, 0.0)
    return {
        "as in training": (right, ""),
        "the photo's own mean": (right, "own mean"),
        "blue and red swapped": (right, "swapped"),
        "no mean, no std": (replace(right, mean=black, std=(1.0, 1.0, 1.0)), ""),
        "three times the size": (replace(right, target_size=right.target_size * 3, max_size=right.max_size * 3), ""),
        "normalised twice": (right, "normalised"),
        "0 to 255, not 0 to 1": (right, "255"),
        "caffe's mean and range": (replace(right, preset="caffe", mean=None, std=None), ""),
    }


def _score(model: FasterRCNN, photo: RunningPhoto, config: PreprocessingConfig, before: str) -> float:
    """Class probability of the best detection of the photo's first object, 0 if there is none."""
    pixels = photo.original.float() / 255
    if before == "own mean":
        mean = pixels.mean(dim=(1, 2)).tolist()
        config = replace(config, mean=(mean[0], mean[1], mean[2]))
    pixels = {"swapped": pixels.flip(0), "normalised": normalize(pixels, config), "255": pixels * 255}.get(
        before, pixels
    )
    changed = copy.copy(model)  # the same weights under another configuration
    changed.config = replace(model.config, preprocessing=config)
    with torch.no_grad():
        (found,) = changed.detect([pixels])
    of_it = box_iou(found["boxes"], photo.original_boxes[:1])[:, 0] >= SAME_PLACE
    if photo.labels[0] in model.classes:  # of something else any detection will do
        of_it &= found["labels"] == model.classes.index(photo.labels[0]) + 1
    return float(found["scores"][of_it].amax()) if of_it.any() else 0.0


def panels() -> dict[str, Explorer]:
    """The panel of the trap, on the sample photos."""
    photos = [running_photo(name) for name in ("motorcycle", "astronaut", "cat", "hopper")]
    return {"wrong_pixels_picture": wrong_pixels_picture(load("voc-crop"), photos)}
