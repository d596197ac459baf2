"""The drawing functions that several lessons share, and those of lesson 05: what is where, and in which colour."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.colors import to_rgb

from rcnn_edu.anchors import grid_anchors
from rcnn_edu.draw import BACKGROUND, DONT_CARE, FOREGROUND, draw_image, new_figure, to_array
from rcnn_edu.draw.anchor_labels import draw_anchor_labels, draw_best_anchors, draw_sampled_labels
from rcnn_edu.draw.bars import bar_rows, draw_bars
from rcnn_edu.draw.layout import draw_title, faded, photo_row

ROWS, COLUMNS = 3, 4


def near(pixels: np.ndarray, color: str, opacity: float = 1.0) -> np.ndarray:
    """(H, W) where the pixels are this colour, laid over white."""
    wanted = 255 * (opacity * np.array(to_rgb(color)) + 1 - opacity)
    return np.abs(pixels.astype(int) - wanted).max(axis=2) <= 2


def drawn(row: int, column: int, number: int, label: int) -> np.ndarray:
    """A white photo of 3 x 4 cells of 16 x 16 pixels, 3 times as large, on which one of the anchors has a label."""
    anchors = grid_anchors((ROWS, COLUMNS))
    index = (row * COLUMNS + column) * 9 + number
    labels = torch.full((len(anchors),), -1)
    labels[index] = label
    inside = torch.zeros(len(anchors), dtype=torch.bool)
    inside[index] = True
    figure, axes = new_figure(COLUMNS * 48, ROWS * 48)
    draw_image(axes, torch.ones(3, ROWS * 16, COLUMNS * 16))
    draw_anchor_labels(axes, anchors, labels, torch.zeros_like(inside), inside, (ROWS, COLUMNS))
    return to_array(figure)


def test_an_anchor_is_a_dot_in_its_cell_a_row_for_each_ratio_a_column_for_each_scale() -> None:
    for row, column, number in ((0, 0, 0), (1, 2, 5), (2, 3, 7)):
        ratio, scale = divmod(number, 3)
        for label, color, opacity in ((0, BACKGROUND, 128 / 255), (-1, DONT_CARE, 1.0)):
            y, x = np.nonzero(near(drawn(row, column, number, label), color, opacity))
            assert (y.min(), y.max()) == (48 * row + 16 * ratio, 48 * row + 16 * ratio + 15)
            assert (x.min(), x.max()) == (48 * column + 16 * scale, 48 * column + 16 * scale + 15)


def test_foreground_is_a_marker_at_the_centre_of_its_box() -> None:
    y, x = np.nonzero(near(drawn(1, 2, 4, 1), FOREGROUND))
    assert abs(y.mean() - 48 * 1.5) < 1.5  # cell 1 of 3, and anchors are centred in it
    assert abs(x.mean() - 48 * 2.5) < 1.5


def test_stars_are_larger_than_discs() -> None:
    anchors = torch.tensor([[10.0, 10, 30, 30], [60, 10, 80, 30], [110, 10, 130, 30]])
    figure, axes = new_figure(150, 40)
    draw_image(axes, torch.ones(3, 40, 150))
    draw_sampled_labels(axes, anchors, torch.tensor([1, 1, 0]), torch.tensor([True, False, False]))
    pixels = to_array(figure)
    star, disc = near(pixels[:, :45], FOREGROUND).sum(), near(pixels[:, 45:100], FOREGROUND).sum()
    assert star > disc > 0
    assert near(pixels[:, 100:], BACKGROUND).sum() > 0
    assert near(pixels[:, :100], BACKGROUND).sum() == 0


def test_the_best_anchor_of_each_object_is_dashed() -> None:
    anchors = torch.tensor([[10.0, 10, 60, 60], [80, 10, 140, 60]])
    figure, axes = new_figure(150, 80)
    draw_image(axes, torch.ones(3, 80, 150))
    draw_best_anchors(axes, anchors, torch.tensor([[0.2], [0.6]]))
    upper_edge = to_array(figure)[8:12, :, 0].min(axis=0) < 128  # green has no red, and the photo is white
    assert upper_edge[:75].sum() == 0
    assert 0.4 < upper_edge[80:140].sum() / 60 < 0.95


def test_bars_are_as_long_as_their_values_and_say_them() -> None:
    figure, _ = new_figure(400, 200)
    axes = figure.add_axes((0.25, 0.2, 0.7, 0.7))
    bar_rows(axes, ["bench", "cat"], 10)
    limits = axes.get_xlim(), axes.get_ylim()
    draw_bars(axes, [10, 5], [FOREGROUND, BACKGROUND], ["10 anchors", "5 anchors"])
    assert (axes.get_xlim(), axes.get_ylim()) == limits
    assert [text.get_text() for text in axes.texts] == ["10 anchors", "5 anchors"]
    pixels = to_array(figure)
    (long_y, long_x), (short_y, short_x) = np.nonzero(near(pixels, FOREGROUND)), np.nonzero(near(pixels, BACKGROUND))
    assert abs(np.ptp(long_x) / np.ptp(short_x) - 2) < 0.05
    assert long_y.max() < short_y.min()  # the first row is on top


def test_a_photo_row_keeps_the_photos_shape_and_room_for_a_title() -> None:
    figure, (left, right) = photo_row(torch.rand(3, 50, 100), count=2, width=408, head=26, foot=34)
    width, height = figure.canvas.get_width_height()
    assert (width, height) == (408, 26 + 100 + 34)
    for axes in (left, right):
        box = axes.get_window_extent()
        assert (round(box.width), round(box.height)) == (200, 100)
    extent = draw_title(left, "12 kept").get_window_extent()
    assert extent.y0 >= left.get_window_extent().y1 - 1
    assert extent.y1 <= height


def test_faded_is_grey_and_pale() -> None:
    image = torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8)
    pale = faded(image)
    assert pale.shape == (3, 8, 9)
    assert (pale[0] == pale[1]).all()
    assert (pale[0] == pale[2]).all()
    assert 0.35 <= pale.min() <= pale.max() <= 1
    np.testing.assert_allclose(pale, faded(image / 255), atol=1e-6)
    brightest = np.unravel_index(pale[0].argmax(), pale[0].shape)
    luminance = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    assert luminance[brightest] == luminance.max()
