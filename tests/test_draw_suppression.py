"""Pictures of suppression: every box is drawn once, as what it is, and stands in the plot at its IoU and score."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D

from rcnn_edu.checkpoint import load
from rcnn_edu.draw import KEPT, OBJECT, PROPOSAL, new_figure
from rcnn_edu.draw.suppression import Moment, decision_axes, draw_decision, draw_moment
from rcnn_edu.explorers.nms import crowd_picture
from rcnn_edu.explorers.photo import running_photo

BOXES = torch.tensor(
    [[0, 0, 10, 10], [1, 1, 11, 11], [50, 50, 60, 60], [52, 50, 62, 60], [80, 5, 90, 15.0], [0, 80, 9, 90]]
)
SCORES = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.01])
# The first decision kept row 0 and suppressed row 1; the second kept row 2 and has just suppressed row 3.
MOMENT = Moment(kept=torch.tensor([0, 2]), suppressed=torch.tensor([3]), undecided=torch.tensor([4]))
NOBODY = torch.zeros(0, dtype=torch.int64)
START = Moment(NOBODY, NOBODY, torch.arange(5))


def axes() -> Any:
    made = new_figure(200, 200)[1]
    made.set(xlim=(0, 100), ylim=(100, 0))
    return made


def outlined(moment: Moment) -> list[tuple[float, float]]:
    artists = [one for one in draw_moment(axes(), BOXES, SCORES, moment) if isinstance(one, PolyCollection)]
    corners = [np.asarray(path.vertices)[0] for artist in artists for path in artist.get_paths()]
    return sorted({(float(x), float(y)) for x, y in corners})  # each outline is drawn twice, on a white one


def points(moment: Moment) -> list[list[float]]:
    plot = axes()
    decision_axes(plot)
    artists = draw_decision(plot, BOXES, SCORES, moment, nms_threshold=0.3, score_threshold=0.05)
    lines = [one for one in artists[2:] if isinstance(one, Line2D)]
    found: list[list[float]] = np.concatenate([np.stack(line.get_data(), axis=1) for line in lines]).tolist()
    return sorted(found)


def test_what_was_suppressed_before_is_gone_and_the_rest_is_there() -> None:
    assert outlined(MOMENT) == [(0.0, 0.0), (50.0, 50.0), (52.0, 50.0), (80.0, 5.0)]


def test_before_the_first_decision_all_are_undecided() -> None:
    assert len(outlined(START)) == 5
    np.testing.assert_allclose(points(START), sorted([0.0, score] for score in SCORES[:5].tolist()), rtol=1e-6)


def test_each_box_stands_at_its_iou_with_the_box_just_kept() -> None:
    # Row 3 covers 8 of 10 columns of row 2: 80 / 120. Row 4 touches nothing.
    np.testing.assert_allclose(points(MOMENT), sorted([[1.0, 0.7], [80 / 120, 0.6], [0.0, 0.5]]), rtol=1e-6)


def test_the_first_picture_has_the_regions_boxes_the_object_and_what_is_kept() -> None:
    model = load("voc-crop")
    photo = running_photo(config=model.config.preprocessing)
    with torch.no_grad():
        picture = crowd_picture(photo, model, model.trace(photo.original))
    before, after = picture._figure.axes[:2]

    def boxes(axes: Any, color: str) -> list[list[float]]:
        found = [one for one in axes.collections if isinstance(one, PolyCollection)]
        found = [one for one in found if np.allclose(one.get_edgecolor()[0], to_rgba(color))]
        return [np.asarray(path.vertices)[[0, 2]].flatten().tolist() for one in found for path in one.get_paths()]

    motorbike = photo.boxes[:1].tolist()
    assert photo.labels[0] == "motorbike"
    np.testing.assert_allclose(boxes(before, OBJECT), motorbike)
    np.testing.assert_allclose(boxes(after, OBJECT), motorbike)
    assert (len(boxes(before, PROPOSAL)), len(boxes(before, KEPT))) == (48, 0)
    assert (len(boxes(after, PROPOSAL)), len(boxes(after, KEPT))) == (0, 3)
