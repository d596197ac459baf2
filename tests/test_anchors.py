"""Anchors: the article's nine to the pixel, their order, and the grid."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from rcnn_edu.anchors import base_anchors, grid_anchors

# The reference code's table is (-83, -39, 100, 56) … with Matlab's 1-based, inclusive pixels; half-open, the first
# pixel starts one earlier and the last ends where it did.
NINE = [
    (-84, -40, 100, 56),
    (-176, -88, 192, 104),
    (-360, -184, 376, 200),
    (-56, -56, 72, 72),
    (-120, -120, 136, 136),
    (-248, -248, 264, 264),
    (-36, -80, 52, 96),
    (-80, -168, 96, 184),
    (-168, -344, 184, 360),
]


def test_the_articles_nine() -> None:
    anchors = base_anchors()
    assert anchors.dtype == torch.float32
    assert anchors.tolist() == [list(map(float, box)) for box in NINE]


def test_width_and_height_are_rounded_before_scaling() -> None:
    # Ratio 0.5 of 16: w = round(√512 = 22.63) = 23, h = round(11.5) = 12; scaled by 10: 230 × 120 around (8, 8).
    assert base_anchors(16, (0.5,), (10,)).tolist() == [[8 - 115, 8 - 60, 8 + 115, 8 + 60]]


def test_order_is_ratio_by_ratio_and_scale_by_scale_within() -> None:
    sizes = base_anchors(10, (1, 4), (1, 2, 3))
    widths, heights = (sizes[:, 2] - sizes[:, 0]).tolist(), (sizes[:, 3] - sizes[:, 1]).tolist()
    # Ratio 1: 10 × 10; ratio 4: w = √25 = 5, h = 20.
    assert widths == [10, 20, 30, 5, 10, 15]
    assert heights == [10, 20, 30, 20, 40, 60]


@pytest.mark.parametrize("base_size", [8, 15, 32])
def test_all_are_centred_on_the_first_cell(base_size: int) -> None:
    anchors = base_anchors(base_size)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert torch.equal(centers, torch.full((9, 2), base_size / 2))


@pytest.mark.parametrize(
    ("base_size", "ratios", "scales"),
    [(0, (1,), (8,)), (-16, (1,), (8,)), (16, (), (8,)), (16, (1,), ()), (16, (0, 1), (8,)), (16, (1,), (8, -1))],
)
def test_sizes_that_are_not_positive_are_refused(
    base_size: int, ratios: tuple[float, ...], scales: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        base_anchors(base_size, ratios, scales)


def test_grid_is_rows_then_columns_then_the_nine() -> None:
    height, width, stride = 3, 4, 16
    anchors = grid_anchors((height, width), stride)
    expected = []
    for row in range(height):
        for column in range(width):
            for x1, y1, x2, y2 in NINE:
                x, y = column * stride, row * stride
                expected.append([x1 + x, y1 + y, x2 + x, y2 + y])
    assert anchors.shape == (height * width * 9, 4)
    assert anchors.tolist() == expected


def test_grid_agrees_with_torchvisions_generator() -> None:
    base = base_anchors(16, (0.5, 1, 2), (1, 2))
    theirs = AnchorGenerator(sizes=((16,),), aspect_ratios=((1.0,),))
    theirs.cell_anchors = [base]
    theirs.set_cell_anchors = lambda dtype, device: None  # keep ours: theirs are centred on (0, 0)
    images = ImageList(torch.zeros(1, 3, 5 * 8, 7 * 8), [(5 * 8, 7 * 8)])
    expected = theirs(images, [torch.zeros(1, 1, 5, 7)])[0]
    assert torch.equal(grid_anchors((5, 7), 8, base), expected)


def test_grid_without_cells_has_no_anchors() -> None:
    assert grid_anchors((0, 5)).shape == (0, 4)


def test_grid_keeps_the_type_of_its_base() -> None:
    base = base_anchors().double()
    assert grid_anchors((2, 2), base=base).dtype == torch.float64
