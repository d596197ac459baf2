"""A resized photo to scale, its limits, and the close-up of one part at every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from rcnn_edu.draw.figures import to_array
from rcnn_edu.draw.pixel_layout import axes_at, blank_figure
from rcnn_edu.draw.resized_photo import draw_close_up, draw_size_limits, draw_to_scale


def canvas(x: tuple[float, float], y: tuple[float, float]) -> tuple[Any, Axes]:
    figure = blank_figure(200, 100)
    axes = axes_at(figure, 0, 0, 200, 100)
    axes.set(xlim=x, ylim=y)
    return figure, axes


def test_a_photo_is_as_large_as_it_is() -> None:
    figure, axes = canvas((0, 400), (200, 0))  # half a pixel of the canvas for each of the photo
    draw_to_scale(axes, torch.zeros(3, 100, 160), original_size=(180, 300))
    pixels = to_array(figure)
    assert (pixels[4:48, 4:78] == 0).all()
    assert (pixels[54:84, 84:146] == 255).all()
    assert (pixels[89:92, 4:146] < 128).any()  # the lower edge of the outline
    assert (pixels[4:88, 149:152] < 128).any()  # its right edge
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 400), (200, 0))


def test_the_longer_side_has_the_maximum() -> None:
    for wide, x, y in ((True, 300, 120), (False, 120, 300)):
        _, axes = canvas((0, 400), (400, 0))
        draw_size_limits(axes, target_size=120, max_size=300, wide=wide)
        lines: Any = axes.lines
        upright, level = lines
        assert upright.get_xdata()[0] == x
        assert level.get_ydata()[0] == y
        assert {text.get_text() for text in axes.texts} == {"target_size 120", "max_size 300"}
        assert (axes.get_xlim(), axes.get_ylim()) == ((0, 400), (400, 0))


def test_a_close_up_shows_the_same_part_at_every_size() -> None:
    original = torch.zeros(3, 100, 200)
    original[:, 40:60, 80:120] = 1.0
    for scale in (1, 2):
        figure, axes = canvas((70, 130), (65, 35))
        image = original.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        artists = draw_close_up(axes, image, float(scale))
        for lines in artists[1:]:
            lines.set_visible(False)
        pixels = to_array(figure)[..., 0]
        rows, columns = np.nonzero(pixels > 200)
        assert abs(columns.min() - 10 / 60 * 200) <= 2
        assert abs(columns.max() - 50 / 60 * 200) <= 2
        assert abs(rows.min() - 5 / 30 * 100) <= 2
        assert abs(rows.max() - 25 / 30 * 100) <= 2


def test_lines_stand_every_sixteen_pixels_of_the_resized_photo() -> None:
    _, axes = canvas((70, 130), (65, 35))
    artists: Any = draw_close_up(axes, torch.zeros(3, 200, 400), 2.0)
    _, columns, rows = artists
    assert [segment[0][0] for segment in columns.get_segments()] == [72, 80, 88, 96, 104, 112, 120, 128]
    assert [segment[0][1] for segment in rows.get_segments()] == [40, 48, 56, 64]
