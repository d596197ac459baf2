"""The pictures of lesson 07: what is used, the table, and the histograms, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.text import Text

from rcnn_edu.draw import new_figure
from rcnn_edu.draw.roi_scatter import draw_bands, draw_regions, overlap_axes
from rcnn_edu.draw.target_histograms import REACH, draw_histograms, histogram_axes
from rcnn_edu.draw.target_table import draw_row, target_tables


def test_a_region_is_grey_orange_or_green_and_grows_with_how_often_it_is_used() -> None:
    _, axes = new_figure(200, 200)
    overlap_axes(axes)
    iou, objectness = torch.tensor([0.05, 0.3, 0.8, 0.4]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    times, foreground = torch.tensor([0, 3, 1, 1]), iou >= 0.5
    dots = draw_regions(axes, iou, objectness, times, foreground)
    found = {}
    for group in dots:
        assert isinstance(group, PathCollection)
        for place, area in zip(np.asarray(group.get_offsets()), group.get_sizes(), strict=True):
            found[round(float(place[0]), 2)] = (round(float(place[1]), 2), float(area))
    assert {x: y for x, (y, _) in found.items()} == {0.05: 0.1, 0.3: 0.2, 0.8: 0.3, 0.4: 0.4}
    assert found[0.3][1] == 3 * found[0.4][1]
    assert found[0.05][1] < found[0.8][1]


@pytest.mark.parametrize("fg_threshold", [0.5, 0.9])
def test_the_bands_are_named_within_the_axes(fg_threshold: float) -> None:
    _, axes = new_figure(350, 300)
    overlap_axes(axes)
    artists = draw_bands(axes, 0.1, 0.5, fg_threshold)
    names = [artist for artist in artists if isinstance(artist, Text)]
    assert [name.get_text() for name in names] == ["background", "foreground"]
    edges = axes.get_window_extent()
    for name in names:
        assert edges.x0 <= name.get_window_extent().x0
        assert name.get_window_extent().x1 <= edges.x1


def test_the_frame_lies_on_the_four_columns_of_the_class() -> None:
    targets = torch.zeros(5, 12)
    _, _, tables = target_tables(torch.zeros(3, 20, 30), targets, targets, ["background", "cat", "dog"])
    assert all(axes.get_xlim() == (-0.5, 11.5) for axes in tables)
    frames = [artist for artist in draw_row(tables, 3, 2, "#009E73") if isinstance(artist, Rectangle)]
    assert len(frames) == 2
    for frame in frames:
        columns = [x for x in range(12) if frame.get_x() < x < frame.get_x() + frame.get_width()]
        assert columns == [8, 9, 10, 11]
        assert frame.get_y() + frame.get_height() / 2 == pytest.approx(3)


def test_a_histogram_counts_every_value_and_says_the_standard_deviation() -> None:
    _, (column,) = histogram_axes(["targets"])
    values = torch.tensor([[0.05, 1.0, -9.0, 0.0]] * 3 + [[0.05, -1.0, 9.0, 2.0]])
    artists = draw_histograms(column, values)
    heights = [np.asarray(artist.get_data()[0]) for artist in artists if isinstance(artist, StepPatch)]
    tallest = max(heights[0])
    assert [round(float(sum(row) / max(row)), 4) for row in heights] == [1.0, 1.3333, 1.3333, 1.3333]
    assert heights[2][0] == pytest.approx(tallest)  # −9 lies beyond, and is counted at −REACH
    assert heights[2][-1] == pytest.approx(tallest / 3)
    assert column[0].get_xlim() == (-REACH, REACH)
    texts = [artist.get_text() for artist in artists if isinstance(artist, Text)]
    assert texts == ["std 0.00", "std 1.00", "std 9.00", "std 1.00"]  # deviations ½, ½, ½, 1½: √(3/3); and nine times
