"""Pre-processing: scale, size, bilinear resize, and the two sets of pixel statistics."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rcnn_edu.config import PreprocessingConfig
from rcnn_edu.preprocessing import normalize, preprocess, resize, resize_scale

SIDES = st.integers(1, 3000)


def bilinear_by_loop(image: Tensor, height: int, width: int) -> Tensor:
    """Each output pixel's centre, mapped back, between its four nearest input centres; the edge pixel continues."""
    channels, rows, columns = image.shape
    result = torch.zeros(channels, height, width)
    for y in range(height):
        source_y = min(max((y + 0.5) * rows / height - 0.5, 0), rows - 1)
        top = math.floor(source_y)
        bottom = min(top + 1, rows - 1)
        for x in range(width):
            source_x = min(max((x + 0.5) * columns / width - 0.5, 0), columns - 1)
            left = math.floor(source_x)
            right = min(left + 1, columns - 1)
            down, along = source_y - top, source_x - left
            above = image[:, top, left] * (1 - along) + image[:, top, right] * along
            below = image[:, bottom, left] * (1 - along) + image[:, bottom, right] * along
            result[:, y, x] = above * (1 - down) + below * down
    return result


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [
        (500, 741, 1.2),  # 600 / 500; the longer side becomes 889
        (375, 500, 1.6),  # 600 / 375; 800
        (500, 375, 1.6),  # a tall image the same
        (100, 400, 2.5),  # 600 / 100 = 6 would make the longer side 2400; 1000 / 400
        (300, 500, 2.0),  # both limits met at once
        (600, 600, 1.0),
        (1200, 2400, 1000 / 2400),
    ],
)
def test_scale_takes_the_shorter_side_to_600_unless_the_longer_would_pass_1000(
    height: int, width: int, scale: float
) -> None:
    assert resize_scale(height, width) == pytest.approx(scale, rel=1e-12)


@given(SIDES, SIDES, st.integers(1, 800), st.integers(0, 800))
def test_scale_is_the_largest_that_breaks_neither_limit(height: int, width: int, target: int, more: int) -> None:
    scale = resize_scale(height, width, target, target + more)
    shorter, longer = min(height, width) * scale, max(height, width) * scale
    assert shorter <= target * (1 + 1e-12)
    assert longer <= (target + more) * (1 + 1e-12)
    assert math.isclose(shorter, target) or math.isclose(longer, target + more)


@pytest.mark.parametrize(("height", "width"), [(0, 10), (10, 0), (-1, 5)])
def test_a_side_below_one_pixel_is_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"{width}x{height}"):
        resize_scale(height, width)


def test_size_is_rounded_to_whole_pixels() -> None:
    resized, scale = preprocess(torch.zeros(3, 50, 74), PreprocessingConfig(target_size=60, max_size=100))
    assert scale == pytest.approx(1.2)
    assert resized.shape == (3, 60, 89)  # 74 · 1.2 = 88.8


@given(st.integers(1, 90), st.integers(1, 90))
def test_sides_are_height_and_width_times_scale(height: int, width: int) -> None:
    config = PreprocessingConfig(target_size=20, max_size=33)
    resized, scale = preprocess(torch.zeros(3, height, width), config)
    assert scale == resize_scale(height, width, 20, 33)
    assert resized.shape == (3, max(1, round(height * scale)), max(1, round(width * scale)))
    assert resized.dtype == torch.float32


def test_a_very_thin_image_keeps_one_row() -> None:
    resized, scale = preprocess(torch.rand(3, 1, 4000))
    assert scale == 0.25
    assert resized.shape == (3, 1, 1000)  # round(1 · 0.25) would be 0


@pytest.mark.parametrize("size", [(5, 7), (13, 9), (3, 17), (8, 6)])
def test_resize_is_bilinear_between_pixel_centres(size: tuple[int, int]) -> None:
    image = torch.rand(3, 8, 6)
    torch.testing.assert_close(resize(image, size), bilinear_by_loop(image, *size), atol=1e-6, rtol=0)


def test_an_image_of_the_right_size_is_only_normalised() -> None:
    image = torch.rand(3, 30, 40)
    resized, scale = preprocess(image, PreprocessingConfig(target_size=30, max_size=100))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    assert scale == 1
    assert torch.equal(resized, (image - mean[:, None, None]) / std[:, None, None])


def test_torchvision_statistics_by_hand() -> None:
    grey = normalize(torch.full((3, 2, 2), 0.5))
    expected = [0.015 / 0.229, 0.044 / 0.224, 0.094 / 0.225]  # (0.5 − mean) / std
    assert grey[:, 0, 0].tolist() == pytest.approx(expected, rel=1e-6)


def test_caffe_statistics_see_blue_first_in_0_to_255() -> None:
    red_green_blue = torch.tensor([1.0, 0.6, 0.2])[:, None, None].expand(3, 4, 5)
    pixels = normalize(red_green_blue, PreprocessingConfig(preset="caffe"))
    expected = [51 - 102.9801, 153 - 115.9465, 255 - 122.7717]  # blue, green, red
    assert pixels[:, 3, 4].tolist() == pytest.approx(expected, abs=1e-4)


def test_own_mean_and_std_replace_the_presets() -> None:
    config = PreprocessingConfig(mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    pixels = normalize(torch.ones(3, 1, 1), config)
    assert pixels[:, 0, 0].tolist() == pytest.approx([1.8, 0.8, 0.35])


def test_uint8_and_float_pixels_agree() -> None:
    image = torch.randint(0, 256, (3, 20, 31), dtype=torch.uint8)
    config = PreprocessingConfig(target_size=33, max_size=99)
    torch.testing.assert_close(preprocess(image, config)[0], preprocess(image.double() / 255, config)[0])


def test_the_image_that_came_in_is_left_alone() -> None:
    image = torch.rand(3, 30, 40)
    before = image.clone()
    preprocess(image, PreprocessingConfig(target_size=30, max_size=100))
    assert torch.equal(image, before)


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (4, 5, 3), (1, 3, 4, 5)])
def test_another_shape_is_refused_and_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(3, H, W\).*" + str(shape).replace("(", r"\(").replace(")", r"\)")):
        preprocess(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int16, torch.bool])
def test_another_type_is_refused_and_named(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=str(dtype)):
        preprocess(torch.zeros(3, 4, 5, dtype=dtype))


@pytest.mark.parametrize("shape", [(3, 0, 5), (3, 5, 0)])
def test_an_image_without_pixels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        preprocess(torch.zeros(shape))
