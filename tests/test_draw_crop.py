"""The pictures of crop pooling: points where torchvision and the loop put them, greys and arrows where they belong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.ops
from matplotlib.colors import to_rgb
from torch import Tensor

from rcnn_edu.draw import PROPOSAL, new_figure, to_array
from rcnn_edu.draw.crop_comparison import crop_comparison
from rcnn_edu.draw.crop_points import align_points, cells_read, matrix_rows
from rcnn_edu.draw.crop_steps import crop_steps_figure
from rcnn_edu.draw.feature_map import cell_axes, draw_dots, draw_map, draw_mesh, draw_points
from rcnn_edu.draw.pixel_layout import axes_at, blank_figure
from rcnn_edu.draw.shift_curve import shift_figure
from rcnn_edu.draw.side_arrows import draw_side_arrows
from rcnn_edu.draw.squares import squares_figure
from rcnn_edu.draw.warping import draw_warp, warping_figure


def hat(x: Tensor, y: Tensor, feature: Tensor) -> Tensor:
    """Bilinear reads at the rows y and the columns x, from the definition."""
    rows, columns = feature.shape
    down = (1 - (y[:, None] - torch.arange(rows)).abs()).clamp(min=0)
    across = (1 - (x[:, None] - torch.arange(columns)).abs()).clamp(min=0)
    return down @ feature @ across.T


@pytest.mark.parametrize("output_size", [2, 7])
@pytest.mark.parametrize("roi", [[40.0, 30, 200, 90], [24, 24, 40, 200], [100, 60, 108, 66]])
def test_align_points_are_those_of_roi_align(roi: list[float], output_size: int) -> None:
    feature, box = torch.randn(15, 14), torch.tensor(roi, dtype=torch.float32)
    x, y = align_points(box, 16, output_size)
    reads = hat(x, y, feature)
    bins = reads.unflatten(1, (output_size, -1)).unflatten(0, (output_size, -1)).mean(dim=(1, 3))
    expected = torchvision.ops.roi_align(feature[None, None], [box[None]], output_size, 1 / 16, aligned=True)
    torch.testing.assert_close(bins, expected[0, 0], rtol=1e-4, atol=1e-5)


def test_cells_read_counts_cells_with_a_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        x, y = torch.rand(7, generator=generator) * 16 - 3, torch.rand(5, generator=generator) * 12 - 3
        seen = torch.zeros(9, 11, dtype=torch.bool)
        for row in range(9):
            for column in range(11):
                seen[row, column] = any(abs(a - column) < 0.999 for a in x) and any(abs(b - row) < 0.999 for b in y)
        assert cells_read(x, y, (9, 11)) == int(seen.sum())


def test_a_point_on_a_cell_reads_that_cell_alone() -> None:
    assert cells_read(torch.tensor([4.0]), torch.tensor([2.5]), (9, 11)) == 2


def test_matrix_rows_never_say_minus_zero() -> None:
    assert matrix_rows(torch.tensor([[0.5, -0.0, 0.25], [0, 1.0, -0.125]])) == [
        " 0.50   0.00   0.25",
        " 0.00   1.00  -0.12",
    ]


def test_axes_lie_where_the_pixels_say() -> None:
    figure = blank_figure(200, 100)
    axes = axes_at(figure, 20, 10, 60, 40)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.fill([0, 1, 1, 0], [0, 0, 1, 1], color="black", linewidth=0)
    dark = to_array(figure).mean(axis=2) < 128
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == pytest.approx((10, 50, 20, 80), abs=1)


def test_a_map_is_drawn_cell_by_cell() -> None:
    figure, axes = new_figure(80, 60)
    cell_axes(axes, (3, 4))
    values = torch.arange(12.0).reshape(3, 4)
    draw_map(axes, values, 0, 11)
    pixels = to_array(figure)[10::20, 10::20, 0].astype(float)
    np.testing.assert_allclose(pixels, values.numpy() / 11 * 255, atol=2)
    for artist in draw_map(axes, values, 0, 11, pale=0.5):
        assert float(np.min(np.asarray(artist.get_array()))) == pytest.approx(0.5)  # type: ignore[attr-defined]
    assert axes.get_xlim() == (-0.5, 3.5)
    assert axes.get_ylim() == (2.5, -0.5)


def test_points_are_drawn_at_every_crossing() -> None:
    figure, axes = new_figure(100, 100)
    axes.set(xlim=(0, 10), ylim=(10, 0))
    (dots,) = draw_points(axes, torch.tensor([2.0, 5.0]), torch.tensor([1.0, 3, 9]), PROPOSAL)
    assert sorted(map(tuple, dots.get_xydata().tolist())) == [(x, y) for x in (2, 5) for y in (1, 3, 9)]  # type: ignore[attr-defined]
    pixels = to_array(figure)
    np.testing.assert_allclose(pixels[90, 20] / 255, to_rgb(PROPOSAL), atol=0.02)
    draw_dots(axes, torch.rand(4, 4, 2), "black", size=1.5)
    draw_mesh(axes, torch.rand(4, 4, 2), PROPOSAL)
    assert axes.get_xlim() == (0, 10)


def test_arrows_start_at_the_sides_and_go_along_the_moves() -> None:
    figure, axes = new_figure(200, 200)
    axes.set(xlim=(0, 200), ylim=(200, 0))
    artists = draw_side_arrows(axes, torch.tensor([50.0, 60, 150, 140]), torch.tensor([30.0, -40, 0.5, 20]))
    assert len(artists) == 3  # the third hardly moves
    dark = to_array(figure).mean(axis=2) < 100
    assert dark[100, 55:75].all()
    assert dark[25:55, 100].all()
    assert dark[143:158, 100].all()
    assert not dark[100, 120:].any()


def test_a_warp_reads_where_its_matrix_says() -> None:
    height, width = 40, 60
    across, down = torch.meshgrid(torch.linspace(0, 1, width), torch.linspace(0, 1, height), indexing="xy")
    ramp = torch.stack([across, down, torch.zeros_like(down)])
    figure, source, target = warping_figure(ramp)
    points = draw_warp(source, target, ramp, torch.tensor([[0.5, 0.0, 0.2], [0.0, 0.4, -0.1]]))
    assert points.shape == (7, 7, 2)
    torch.testing.assert_close(points[0, 0], torch.tensor([-0.3, -0.5]))
    torch.testing.assert_close(points[6, 6], torch.tensor([0.7, 0.3]))
    shown = np.asarray(target.images[-1].get_array())
    np.testing.assert_allclose(shown[0, 0, :2], [(1 - 0.3) / 2, (1 - 0.5) / 2], atol=0.02)
    np.testing.assert_allclose(shown[-1, -1, :2], [(1 + 0.7) / 2, (1 + 0.3) / 2], atol=0.02)
    assert to_array(figure).std() > 5


@pytest.mark.parametrize("size", [(30, 50), (50, 30)])
def test_pictures_of_landscape_and_portrait_fit(size: tuple[int, int]) -> None:
    image, roi = torch.rand(3, *size), torch.tensor([5.0, 4, 25, 20])
    theta, points = torch.tensor([[0.5, 0, 0], [0, 0.5, 0.0]]), (torch.linspace(0, 2, 7), torch.linspace(0, 1, 7))
    figures = [
        crop_steps_figure(image, roi, theta, torch.rand(3, 4), points, torch.rand(7, 7)),
        squares_figure(image, roi.expand(3, 4), "abc", torch.rand(3, 3, 9, 9), torch.rand(3, 7, 7), 0.0, 1.0),
        shift_figure(image, roi, 10, [-1, 0, 1], [2.0, 1.0, 3.0], "cat")[0],
        warping_figure(image)[0],
        crop_comparison(image, (3, 4)).figure,
    ]
    for figure in figures:
        whole = figure.bbox
        to_array(figure)
        for axes in figure.axes:
            box = axes.get_window_extent()
            assert box.x0 >= whole.x0 - 1
            assert box.x1 <= whole.x1 + 1
            assert box.y0 >= whole.y0 - 1
            assert box.y1 <= whole.y1 + 1
