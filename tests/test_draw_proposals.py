"""The drawings of lessons 04 and 09: maps as colour, tables, grids of photos, diagrams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.patches import FancyBboxPatch

from rcnn_edu.draw import new_figure, to_array
from rcnn_edu.draw.flow import draw_arrow, draw_block, draw_text, flow_figure
from rcnn_edu.draw.heat import draw_heat, strength
from rcnn_edu.draw.number_table import draw_cells, table_frame
from rcnn_edu.draw.photo_grid import photo_grid


def test_heat_is_clear_at_0_and_full_at_1() -> None:
    figure, axes = new_figure(40, 20)
    axes.set(xlim=(0, 40), ylim=(20, 0))
    draw_heat(axes, torch.tensor([[0.0, 1.0], [-3.0, 0.5]]), (0, 40, 20, 0), "#000000", opacity=1.0)
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 40), (20, 0))
    pixels = to_array(figure)[..., 0]
    assert (pixels[2, 5], pixels[2, 35], pixels[17, 5]) == (255, 0, 255)
    assert abs(int(pixels[17, 35]) - 127) <= 1


def test_heat_needs_rows_and_columns() -> None:
    _, axes = new_figure(10, 10)
    with pytest.raises(ValueError, match=r"this one has shape \(3, 2, 2\)"):
        draw_heat(axes, torch.zeros(3, 2, 2), (0, 1, 1, 0), "black")


def test_strength_is_the_root_mean_square_of_the_channels() -> None:
    features = torch.tensor([[[3.0, 0.0]], [[4.0, 5.0]]])  # mean squares 12.5 and 12.5
    np.testing.assert_allclose(strength(features), [[1.0, 1.0]])
    features[1, 0, 1] = -2.5  # a quarter of the square
    np.testing.assert_allclose(strength(features), [[1.0, 0.5]])
    assert (strength(torch.zeros(2, 3, 4)) == 0).all()


def test_table_fills_and_writes_each_cell() -> None:
    figure, axes = new_figure(200, 100)
    table_frame(axes, ["a", "b"], ["x", "y", "z"])
    artists = draw_cells(axes, [["1", "", "3"], ["4", "5", "6"]], [["#FF0000"] * 3, ["#00FF00", "#0000FF", "#FFFFFF"]])
    assert [artist.get_text() for artist in artists[1:]] == ["1", "3", "4", "5", "6"]  # type: ignore[attr-defined]
    pixels = to_array(figure)
    assert pixels[40, 100].tolist() == [255, 0, 0]
    assert pixels[90, 10].tolist() == [0, 255, 0]
    assert pixels[90, 75].tolist() == [0, 0, 255]
    with pytest.raises(ValueError, match="every cell needs"):
        draw_cells(axes, [["1"]], [["red", "red"]])


def test_grid_has_a_rim_round_each_photo_and_room_at_the_right() -> None:
    figure, every = photo_grid(torch.rand(3, 40, 60), 2, 2, width=500, margin=10, right=100)
    assert len(every) == 4
    for axes in every:
        assert (axes.get_xlim(), axes.get_ylim()) == ((-10, 70), (50, -10))
        place, (width, height) = axes.get_position(), figure.get_size_inches() * figure.dpi
        assert place.width * width / (place.height * height) == pytest.approx(80 / 60, rel=1e-3)
        assert place.x1 * width <= 400 + 1e-6
    assert every[0].get_position().y0 > every[2].get_position().y1


def test_a_flow_is_drawn_in_pixels() -> None:
    figure, axes = flow_figure(200, 100)
    block = draw_block(axes, (20, 10, 80, 50), "layer", fill="#123456")
    draw_arrow(axes, (80, 30), (150, 30))
    draw_text(axes, (160, 80), "text", align="right")
    assert isinstance(block[0], FancyBboxPatch)
    pixels = to_array(figure)
    assert pixels.shape == (100, 200, 3)
    assert pixels[14, 50].tolist() == [0x12, 0x34, 0x56]
    assert (pixels[30, 90:140] < 128).all()  # the arrow
    assert (pixels[60:70] == 255).all()
