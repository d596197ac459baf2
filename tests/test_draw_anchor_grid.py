"""Anchors of one position and of all: which are inside, where their dots are, and the order they are shown in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from rcnn_edu.anchor_target import inside_image
from rcnn_edu.anchors import base_anchors, grid_anchors
from rcnn_edu.draw import DONT_CARE, KEPT, draw_image, to_array
from rcnn_edu.draw.anchor_grid import (
    DEEPEST,
    draw_all_positions,
    draw_cell,
    draw_one_position,
    draw_order,
    photo_with_margin,
)
from rcnn_edu.draw.pixel_layout import axes_at, blank_figure


def canvas(width: int = 320, height: int = 240) -> tuple[Any, Axes]:
    figure = blank_figure(width, height)
    axes = axes_at(figure, 0, 0, width, height)
    draw_image(axes, torch.ones(3, height, width))
    return figure, axes


def near(pixel: np.ndarray, color: str, opacity: float) -> bool:
    """Whether a pixel is `color` of that opacity on white."""
    return bool(np.abs(pixel - 255 * (opacity * np.array(to_rgb(color)) + 1 - opacity)).max() <= 3)


def test_a_cell_is_the_deeper_the_more_of_its_anchors_lie_inside() -> None:
    rows, columns, stride = 4, 5, 60
    figure, axes = canvas(columns * stride, rows * stride)
    anchors = grid_anchors((rows, columns), stride, base_anchors(60, (0.5, 1, 2), (0.5, 1, 2)))
    inside = inside_image(anchors, (rows * stride, columns * stride))
    draw_all_positions(axes, inside, (rows, columns), stride)
    pixels = to_array(figure).astype(float)
    counts = [sum(inside.tolist()[9 * cell : 9 * cell + 9]) for cell in range(rows * columns)]
    assert len(set(counts)) > 2
    for cell, count in enumerate(counts):
        row, column = divmod(cell, columns)
        color = pixels[row * stride + 30, column * stride + 30]
        assert near(color, KEPT, DEEPEST * count / 9), (row, column, count)


def test_one_position_tells_inside_from_outside() -> None:
    figure, axes = canvas()
    anchors = torch.tensor([[100.0, 80, 200, 160], [20, 40, 280, 200]])
    limits = axes.get_xlim(), axes.get_ylim()
    artists = draw_one_position(axes, anchors, torch.tensor([True, False]))
    assert (axes.get_xlim(), axes.get_ylim()) == limits
    pixels = to_array(figure).astype(float)
    assert near(pixels[120, 100], KEPT, 1.0)
    left_edge = [near(pixel, DONT_CARE, 1.0) for pixel in pixels[60:180, 20]]
    assert 0 < sum(left_edge) < len(left_edge)  # dashed
    cross: Any = artists[-1]
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (150, 120)


def test_none_outside_or_none_inside_is_no_trouble() -> None:
    for inside in (torch.tensor([True, True]), torch.tensor([False, False])):
        figure, axes = canvas()
        draw_one_position(axes, torch.tensor([[100.0, 80, 200, 160], [120, 60, 180, 180]]), inside)
        assert to_array(figure).std() > 1


def test_the_order_is_rows_of_ratios_and_columns_of_scales() -> None:
    figure = blank_figure(300, 300)
    axes = axes_at(figure, 0, 0, 300, 300)
    ratios, scales = (0.5, 1, 2), (8, 16)
    draw_order(axes, base_anchors(16, ratios, scales), ratios, scales)
    places = {text.get_text(): text.get_position() for text in axes.texts}
    x = [[places[str(row * 2 + column)][0] for column in range(2)] for row in range(3)]
    y = [[places[str(row * 2 + column)][1] for column in range(2)] for row in range(3)]
    assert x[0] == x[1] == x[2]
    assert x[0][0] < x[0][1]
    assert all(left == right for left, right in y)
    assert y[0][0] < y[1][0] < y[2][0]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # down, as in a photo
    assert {"× 8", "× 16", "ratio\n0.5", "ratio\n2"} <= set(places)


def test_margin_and_cell() -> None:
    _, axes = canvas()
    photo_with_margin(axes, torch.zeros(3, 100, 200), 0.25)
    assert axes.get_xlim() == (-50, 250)
    assert axes.get_ylim() == (125, -25)
    for stride in (8, 64):
        (frame,) = draw_cell(axes, 2, 3, stride)
        x1, y1, x2, y2 = frame.get_bbox().extents  # type: ignore[attr-defined]
        assert ((x1 + x2) / 2, (y1 + y2) / 2) == (3.5 * stride, 2.5 * stride)
        assert x2 - x1 == y2 - y1 == max(stride, 26)
