"""Photos in a row with bars below: the names once, at the left, and every photo in its own proportions."""

from __future__ import annotations

import torch

from rcnn_edu.draw import to_array
from rcnn_edu.draw.bars import draw_bars
from rcnn_edu.draw.photo_bars import COLUMN, GAP, LABELS, PHOTO_HEIGHT, photo_bars


def test_each_photo_has_its_bars_below_it_and_the_names_stand_once() -> None:
    colors = torch.eye(3)[:, :, None, None]  # a red and a green photo, one twice as wide as high
    images = [colors[0].expand(3, 40, 80), colors[1].expand(3, 60, 30)]
    figure, plots = photo_bars(images, ["one", "other"], ["as it is", "worse"], most=1.0, bar_height=30)
    for plot, longest in zip(plots, (1.0, 0.5), strict=True):
        draw_bars(plot, [longest, longest / 2], ["#0000ff", "#0000ff"], ["", ""])
    assert [[text.get_text() for text in plot.get_yticklabels()] for plot in plots] == [["as it is", "worse"], ["", ""]]
    pixels = to_array(figure).astype(int)
    assert pixels.shape[1] == LABELS + 2 * (COLUMN + GAP)
    lengths = []
    pure = pixels - torch.tensor(pixels).amin(dim=2, keepdim=True).numpy()
    for column, (channel, width) in enumerate(((0, COLUMN), (1, PHOTO_HEIGHT // 2))):
        left = LABELS + (COLUMN + GAP) * column
        own = pure[:, left : left + COLUMN + GAP]
        photo = (own[..., channel] > 200) & (own.sum(axis=2) - own[..., channel] < 50)
        bars = (own[..., 2] > 200) & (own[..., :2].sum(axis=2) < 50)
        assert abs(int(photo.any(axis=0).sum()) - width) <= 1
        lengths.append(int(bars.any(axis=0).sum()))
        assert photo.any(axis=1).nonzero()[0].max() < bars.any(axis=1).nonzero()[0].min()
    assert lengths[0] > COLUMN / 2
    assert abs(lengths[0] - 2 * lengths[1]) <= 2
