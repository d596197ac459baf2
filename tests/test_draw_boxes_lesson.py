"""The pictures of lesson 03: arrows, affine maps and the magnifying glass, against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Annotation, Text

from rcnn_edu.boxes import decode_boxes
from rcnn_edu.draw import new_figure
from rcnn_edu.draw.affine_photo import affine_matrix, draw_mapped_photo, enclosing_boxes, mapped_corners
from rcnn_edu.draw.box_pairs import coefficient_rows, draw_coefficients, draw_shift_and_growth, fill_box, intersection
from rcnn_edu.draw.magnified import draw_magnified, magnified_axes
from rcnn_edu.explorers.box_conventions import decode_corners, encode_corners, plus_one_round_trip


def photo_axes() -> Any:
    _, axes = new_figure(200, 200)
    axes.set(xlim=(0, 200), ylim=(200, 0))
    return axes


def arrows(artists: Any) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    found = [vars(artist)["_posA_posB"] for artist in artists if isinstance(artist, FancyArrowPatch)]
    return [((float(a[0]), float(a[1])), (float(b[0]), float(b[1]))) for a, b in found]


def corner(area: Any, index: int) -> list[float]:
    """One corner of a collection's first box."""
    return [float(value) for value in area.get_paths()[0].vertices[index]]


def test_the_intersection_of_two_boxes() -> None:
    assert intersection([0, 0, 10, 10], [4, 2, 20, 8]).tolist() == [4, 2, 10, 8]
    axes = photo_axes()
    assert fill_box(axes, intersection([0, 0, 10, 10], [10, 0, 20, 10]), "black", 0.5) == []
    (area,) = fill_box(axes, torch.tensor([4.0, 2, 10, 8]), "black", 0.5)
    assert isinstance(area, PolyCollection)
    assert [corner(area, index) for index in range(4)] == [[4, 2], [10, 2], [10, 8], [4, 8]]


def test_the_arrows_shift_the_centre_and_then_move_the_sides() -> None:
    reference, target = torch.tensor([20.0, 20, 60, 100]), torch.tensor([80.0, 60, 180, 180])
    artists = draw_shift_and_growth(photo_axes(), reference, target)
    (x0, y0), (x1, y1) = (40, 60), (130, 120)  # the centres
    shift_x, shift_y, right, left, below, above = arrows(artists)
    assert (shift_x, shift_y) == (((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)))
    assert (right[0][0], right[1][0]) == (150, 180)  # the shifted reference is 110..150, 80..160
    assert (left[0][0], left[1][0]) == (110, 80)
    assert (below[0][1], below[1][1]) == (160, 180)
    assert (above[0][1], above[1][1]) == (80, 60)
    assert [text.get_text() for text in artists if isinstance(text, Annotation)] == ["tx", "ty", "tw", "th"]


def test_equal_boxes_have_no_arrows() -> None:
    box = torch.tensor([20.0, 20, 60, 100])
    assert arrows(draw_shift_and_growth(photo_axes(), box, box)) == []


def test_coefficients_from_zero_and_cut_at_the_edge() -> None:
    _, axes = new_figure(200, 200)
    coefficient_rows(axes, largest=2.0)
    artists = draw_coefficients(axes, [0.5, 0.0, -1.0, 7.0])
    assert arrows(artists) == [((0, 0), (0.5, 0)), ((0, 2), (-1, 2)), ((0, 3), (pytest.approx(2.3), 3))]
    assert [text.get_text() for text in artists if type(text) is Text] == ["0.50", "0.00", "-1.00", "7.00"]


def test_affine_map_of_a_box() -> None:
    matrix = affine_matrix(2.0, 0.5, 1.0)
    corners = mapped_corners(torch.tensor([[10.0, 20, 30, 40]]), matrix)
    assert corners.tolist() == [[[40, 10], [80, 10], [100, 20], [60, 20]]]
    assert enclosing_boxes(corners).tolist() == [[40, 10, 100, 20]]


def test_the_mapped_photo_lies_where_its_boxes_do() -> None:
    axes = photo_axes()
    image = np.zeros((3, 40, 40), dtype=np.float32)
    matrix = affine_matrix(2.0, 0.5, 1.0)
    (shown,) = draw_mapped_photo(axes, image, matrix)
    on_axes = axes.transData.inverted().transform(shown.get_transform().transform([[10, 20], [30, 40]]))
    np.testing.assert_allclose(on_axes, mapped_corners([[10, 20, 30, 40]], matrix)[0, [0, 2]], atol=1e-6)


def test_the_magnifying_glass_has_a_line_a_pixel_and_one_size() -> None:
    _, axes = new_figure(200, 200)
    magnified_axes(axes)
    grid, *_, decoded = draw_magnified(axes, 10, torch.tensor([0.0, 0, 11, 9]))
    assert isinstance(grid, LineCollection)
    assert len(grid.get_segments()) == 2 * 13  # −1 … 11
    assert corner(decoded, 2) == pytest.approx([1.1, 0.9])
    assert not any(isinstance(artist, LineCollection) for artist in draw_magnified(axes, 100, torch.zeros(4)))


def test_the_article_s_corners_invert_but_have_no_mirror() -> None:
    references = torch.tensor([[0.0, 0, 100, 100]]).expand(2, 4)
    targets = torch.tensor([[10.0, 20, 210, 70], [-5, 0, 20, 300]])
    coefficients = encode_corners(references, targets)
    torch.testing.assert_close(coefficients[0, :2], torch.tensor([0.1, 0.2]))
    torch.testing.assert_close(decode_corners(references, coefficients), targets)
    for decode, mirrored in ((decode_boxes, True), (decode_corners, False)):
        right, left = decode(references, torch.tensor([[0.3, 0, 0.5, 0], [-0.3, 0, 0.5, 0]]))
        assert bool(torch.isclose(right[2] - 50, 50 - left[0])) is mirrored


def test_plus_one_by_hand() -> None:
    """A side S seen from an anchor R: R·(S + 1)/(R + 1) comes back, and S + 1 if decoded with +1 as well."""
    mixed, old = plus_one_round_trip(torch.tensor([12.0, 100.0]), 128)
    sizes = (mixed[:, 2:] - mixed[:, :2]).tolist()
    assert sizes[0] == pytest.approx([128 * 13 / 129] * 2, abs=1e-4)
    assert sizes[1] == pytest.approx([128 * 101 / 129] * 2, abs=1e-4)
    torch.testing.assert_close(old, torch.tensor([[0.0, 0, 13, 13], [0, 0, 101, 101]]), atol=1e-4, rtol=0)
