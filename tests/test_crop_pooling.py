"""Crop pooling: against the article's expanded form, values and gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
import torchvision.ops
from conftest import generator, random_boxes
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rcnn_edu.crop_pooling import affine_matrices, crop_maps, crop_pool


def expanded_form(features: Tensor, rois: Sequence[Tensor], stride: int = 16, output_size: int = 7) -> Tensor:
    """The article's form: one copy of the feature map per RoI, its affine grid, and grid_sample."""
    crops = []
    for image, boxes in zip(features, rois, strict=True):
        if len(boxes) == 0:
            continue
        theta = affine_matrices(boxes, (features.shape[2], features.shape[3]), stride)
        grid = theta[:, None, None, :, 2]  # where (0, 0) goes: the one point of a 1×1 crop
        if output_size > 1:
            grid = F.affine_grid(theta, [len(boxes), features.shape[1], output_size, output_size], align_corners=True)
        crops.append(F.grid_sample(image.expand(len(boxes), -1, -1, -1), grid, align_corners=True))
    return torch.cat(crops)


def bilinear_by_loop(feature: Tensor, roi: list[float], stride: int, output_size: int) -> Tensor:
    """One RoI of one `(H, W)` map: at each grid point, what each cell within one cell of it adds."""
    x1, y1, x2, y2 = (coordinate / stride for coordinate in roi)
    result = torch.zeros(output_size, output_size)
    for row in range(output_size):
        for column in range(output_size):
            y = y1 + (y2 - y1) * row / (output_size - 1)
            x = x1 + (x2 - x1) * column / (output_size - 1)
            for cell_y in range(feature.shape[0]):
                for cell_x in range(feature.shape[1]):
                    weight = max(0, 1 - abs(y - cell_y)) * max(0, 1 - abs(x - cell_x))
                    result[row, column] += weight * feature[cell_y, cell_x]
    return result


def pooled(features: Tensor, rois: Sequence[Tensor], stride: int = 16, output_size: int = 7) -> Tensor:
    """`crop_pool` with gradients for RoIs that have some."""
    return crop_pool(features, rois, stride, output_size, differentiable_rois=True)


def over_the_border(count: int, height: int, width: int) -> Tensor:
    """RoIs of a feature map of (height, width) cells, of which most leave it."""
    size = torch.tensor([width, height]) * 16
    corner, other = (torch.rand(count, 2) * 2 - 0.5) * size, (torch.rand(count, 2) * 2 - 0.5) * size
    return torch.cat([torch.minimum(corner, other), torch.maximum(corner, other)], dim=1)


# --- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output_size", [1, 2, 7, 14])
@pytest.mark.parametrize("channels", [1, 3, 12, 64])
def test_crops_equal_the_expanded_form(channels: int, output_size: int) -> None:
    features = torch.randn(3, channels, 9, 13)
    rois = [random_boxes(5, (144, 208)), torch.zeros(0, 4), over_the_border(8, 9, 13)]
    crops = pooled(features, rois, output_size=output_size)
    assert crops.shape == (13, channels, output_size, output_size)
    torch.testing.assert_close(crops, expanded_form(features, rois, 16, output_size), atol=1e-5, rtol=0)


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_crop_pool_equals_the_expanded_form_at_each_stride(stride: int) -> None:
    features = torch.randn(2, 8, 11, 10)
    rois = [random_boxes(6, (11 * stride, 10 * stride)), random_boxes(2, (11 * stride, 10 * stride))]
    expected = expanded_form(features, rois, stride)
    torch.testing.assert_close(crop_pool(features, rois, stride), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(5, 6), (1, 6), (5, 1), (1, 1), (2, 2)])
def test_crops_equal_the_loop_even_on_a_map_of_one_cell(size: tuple[int, int]) -> None:
    features, rois = torch.randn(1, 2, *size), over_the_border(4, *size)
    crops = pooled(features, [rois])
    for row, roi in enumerate(rois.tolist()):
        for channel in range(2):
            expected = bilinear_by_loop(features[0, channel], roi, 16, 7)
            torch.testing.assert_close(crops[row, channel], expected, atol=1e-5, rtol=0)


def test_first_and_last_samples_lie_on_the_rois_edges() -> None:
    # On the ramp 10·row + column a sample reads its own place. The RoI is cells 1…4 across and 2…5 down.
    ramp = (10.0 * torch.arange(8)[:, None] + torch.arange(9)).reshape(1, 1, 8, 9)
    crop = pooled(ramp, [torch.tensor([[16.0, 32, 64, 80]])])[0, 0]
    across, down = 1 + 3 * torch.arange(7) / 6, 2 + 3 * torch.arange(7) / 6
    torch.testing.assert_close(crop, 10 * down[:, None] + across)


def test_a_single_sample_lies_in_the_middle() -> None:
    ramp = (10.0 * torch.arange(8)[:, None] + torch.arange(9)).reshape(1, 1, 8, 9)
    crop = pooled(ramp, [torch.tensor([[16.0, 32, 64, 80]])], output_size=1)
    assert crop.tolist() == [[[[37.5]]]]  # row 3.5, column 2.5


def test_beyond_the_map_samples_are_0() -> None:
    features = torch.ones(1, 4, 6, 6)
    rois = torch.tensor([[200.0, 200, 300, 300], [-300, -300, -100, -100], [16, 16, 176, 48]])
    crops = pooled(features, [rois])
    assert not crops[:2].any()
    # The third reaches from cell 1 to cell 11; cell 5 is the last, and beyond it the value fades over one cell.
    columns = 1 + 10 * torch.arange(7) / 6
    torch.testing.assert_close(crops[2, 0, 0], (6 - columns).clamp(0, 1))


def test_an_empty_roi_reads_one_point_everywhere() -> None:
    features = torch.randn(1, 4, 6, 6)
    crops = pooled(features, [torch.tensor([[32.0, 48, 32, 48]])])
    torch.testing.assert_close(crops, features[:, :, 3:4, 2:3].expand(1, 4, 7, 7), atol=1e-5, rtol=0)


def test_each_image_is_read_by_its_own_rois_in_order() -> None:
    features = torch.arange(3.0)[:, None, None, None].expand(3, 2, 5, 5)
    inside = torch.tensor([[10.0, 10, 50, 50]])
    crops = pooled(features, [inside.expand(2, 4), inside.expand(1, 4), inside.expand(3, 4)])
    assert crops.mean(dim=(1, 2, 3)).tolist() == pytest.approx([0, 0, 1, 2, 2, 2])


@pytest.mark.parametrize("mode", ["crop", "align"])
def test_several_maps_are_cropped_as_each_alone(mode: Literal["crop", "align"]) -> None:
    maps = [torch.randn(2, channels, 7, 9, requires_grad=True) for channels in (3, 5)]
    rois = [random_boxes(4, (112, 144)), random_boxes(2, (112, 144))]
    for crops, features in zip(crop_maps(maps, rois, mode=mode), maps, strict=True):
        alone = crop_pool(features, rois, mode=mode)
        assert torch.equal(crops, alone)
        gradients = [torch.autograd.grad((some * some).sum(), features)[0] for some in (crops, alone)]
        assert torch.equal(*gradients)


def test_maps_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one size; got \(1, 3, 4, 4\) and \(1, 3, 4, 5\)"):
        crop_maps([torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5)], [torch.zeros(1, 4)])


@pytest.mark.parametrize("mode", ["crop", "align"])
def test_no_rois_give_no_crops_and_no_gradient(mode: Literal["crop", "align"]) -> None:
    features = torch.randn(2, 8, 5, 5, requires_grad=True)
    crops = crop_pool(features, [torch.zeros(0, 4)] * 2, output_size=3, mode=mode)
    assert crops.shape == (0, 8, 3, 3)
    (gradient,) = torch.autograd.grad(crops.sum(), features)
    assert not gradient.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_crops_have_the_type_of_the_features(dtype: torch.dtype) -> None:
    features, rois = torch.randn(1, 16, 8, 8).to(dtype), [random_boxes(4, (128, 128))]
    crops = pooled(features, rois)
    assert crops.dtype == dtype
    expected = expanded_form(features.float(), rois).to(dtype)  # the sums are taken in float32
    torch.testing.assert_close(crops, expected, atol=1e-5, rtol=torch.finfo(dtype).eps)


def test_rois_may_be_of_lower_precision() -> None:
    features, rois = torch.randn(1, 4, 8, 8), torch.tensor([[16.0, 16, 64, 96]])
    assert torch.equal(crop_pool(features, [rois.bfloat16()]), crop_pool(features, [rois]))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_features_memory_layout_does_not_matter(layout: torch.memory_format) -> None:
    features, rois = torch.randn(2, 6, 8, 8), [random_boxes(4, (128, 128))] * 2
    crops = crop_pool(features.contiguous(memory_format=layout), rois)
    torch.testing.assert_close(crops, expanded_form(features, rois), atol=1e-5, rtol=0)


# --- gradients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output_size", [1, 7])
def test_gradients_equal_those_of_the_expanded_form(output_size: int) -> None:
    features = torch.randn(2, 12, 9, 13, requires_grad=True)
    rois = [over_the_border(4, 9, 13).requires_grad_(), random_boxes(5, (144, 208)).requires_grad_()]
    weights = torch.randn(9, 12, output_size, output_size)
    inputs = [features, *rois]
    found = torch.autograd.grad((pooled(features, rois, 16, output_size) * weights).sum(), inputs)
    expected = torch.autograd.grad((expanded_form(features, rois, 16, output_size) * weights).sum(), inputs)
    for mine, theirs in zip(found, expected, strict=True):
        assert theirs.any()
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_gradients_are_those_of_finite_differences_in_double_precision() -> None:
    features = torch.randn(2, 2, 5, 6, dtype=torch.float64, generator=generator()).requires_grad_()
    rois = [torch.tensor(boxes, dtype=torch.float64) for boxes in ([[3, 5, 70, 60], [10, 7, 41, 90]], [[1, 2, 30, 75]])]
    for boxes in rois:
        boxes.requires_grad_()

    def crops(features: Tensor, *rois: Tensor) -> Tensor:
        return crop_pool(features, rois, output_size=3, differentiable_rois=True)

    assert torch.autograd.gradcheck(crops, (features, *rois))


@pytest.mark.parametrize("differentiable", [False, True])
def test_rois_have_a_gradient_only_if_asked_and_features_always(differentiable: bool) -> None:
    features, rois = torch.randn(1, 8, 9, 13, requires_grad=True), random_boxes(5, (144, 208)).requires_grad_()
    crops = crop_pool(features, [rois], differentiable_rois=differentiable)
    expected = expanded_form(features, [rois])
    weights = torch.randn_like(crops)
    of_features, of_rois = torch.autograd.grad((crops * weights).sum(), (features, rois), allow_unused=True)
    same_features, same_rois = torch.autograd.grad((expected * weights).sum(), (features, rois))
    torch.testing.assert_close(of_features, same_features, atol=1e-5, rtol=1e-4)
    if differentiable:
        torch.testing.assert_close(of_rois, same_rois, atol=1e-5, rtol=1e-4)
    else:
        assert of_rois is None


def test_bfloat16_without_a_gradient_gives_the_crops_that_it_gives_with_one() -> None:
    features, rois = torch.randn(2, 64, 6, 6).bfloat16(), [random_boxes(9, (96, 96)), random_boxes(4, (96, 96))]
    with_gradient = crop_pool(features, rois)  # read and summed in float32
    with torch.no_grad():
        without = crop_pool(features, rois)
    exact = crop_pool(features.double().float(), rois)
    assert without.dtype == torch.bfloat16
    # Both are the exact crops rounded once; weights of few digits alone would put a third of them elsewhere.
    assert (without != with_gradient).float().mean() < 0.01
    torch.testing.assert_close(without.float(), exact, rtol=2**-8, atol=1e-3)


def test_bfloat16_features_get_a_bfloat16_gradient() -> None:
    features, rois = torch.randn(1, 8, 6, 6).bfloat16().requires_grad_(), [random_boxes(5, (96, 96))]
    (gradient,) = torch.autograd.grad(crop_pool(features, rois).float().sum(), features)
    full = features.detach().float().requires_grad_()
    (expected,) = torch.autograd.grad(expanded_form(full, rois).sum(), full)
    torch.testing.assert_close(gradient, expected.bfloat16(), atol=1e-2, rtol=1e-2)


# --- the matrices ------------------------------------------------------------------------------------------------


def test_the_matrix_of_the_whole_map_is_the_identity() -> None:
    whole = torch.tensor([[0.0, 0, 12 * 16, 8 * 16]])  # from the centre of the first cell to that of the last
    assert affine_matrices(whole, (9, 13))[0].tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("stride", [8, 16])
def test_matrices_take_the_squares_corners_to_the_rois(stride: int) -> None:
    rois, (height, width) = random_boxes(10, (144, 208)), (9, 13)
    theta = affine_matrices(rois, (height, width), stride)
    assert theta.shape == (10, 2, 3)
    for row, (x1, y1, x2, y2) in enumerate(rois.tolist()):
        for u, v, x, y in ((-1, -1, x1, y1), (1, -1, x2, y1), (-1, 1, x1, y2), (1, 1, x2, y2)):
            place = theta[row] @ torch.tensor([float(u), float(v), 1.0])
            in_cells = [(float(place[0]) + 1) / 2 * (width - 1), (float(place[1]) + 1) / 2 * (height - 1)]
            assert in_cells == pytest.approx([x / stride, y / stride], abs=1e-4)


# --- roi_align ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output_size", [1, 7])
def test_align_is_torchvisions_roi_align(output_size: int) -> None:
    features, rois = torch.randn(2, 8, 9, 13), [random_boxes(5, (144, 208)), over_the_border(3, 9, 13)]
    expected = torchvision.ops.roi_align(features, rois, output_size, 1 / 16, aligned=True)
    assert torch.equal(crop_pool(features, rois, 16, output_size, mode="align"), expected)
    half = crop_pool(features.bfloat16(), rois, 16, output_size, mode="align")
    assert half.dtype == torch.bfloat16


# --- cost and errors ---------------------------------------------------------------------------------------------


class LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that any operation gives."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(one, Tensor):
                self.elements = max(self.elements, one.untyped_storage().nbytes() // one.element_size())
        return result


def test_the_feature_map_is_never_copied_once_per_roi() -> None:
    features, rois = torch.randn(1, 64, 25, 25, requires_grad=True), random_boxes(32, (400, 400))
    with LargestTensor() as largest:
        pooled(features, [rois]).sum().backward()
    output = 32 * 64 * 7 * 7
    assert output <= largest.elements < 1.5 * output < 32 * features.numel() / 5


@pytest.mark.parametrize(
    ("rois", "message"),
    [
        ([torch.zeros(1, 4)], "got 1 for 2 images"),
        ([torch.zeros(1, 4)] * 3, "got 3 for 2 images"),
        ([torch.zeros(1, 4), torch.zeros(1, 5)], r"those of image 1 are \(1, 5\)"),
        ([torch.zeros(4), torch.zeros(1, 4)], r"those of image 0 are \(4,\)"),
    ],
)
def test_rois_that_do_not_fit_are_refused(rois: list[Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crop_pool(torch.zeros(2, 3, 4, 4), rois)


def test_align_cannot_be_differentiable_in_its_rois() -> None:
    with pytest.raises(ValueError, match="differentiable_rois"):
        crop_pool(torch.zeros(1, 3, 4, 4), [torch.zeros(1, 4)], mode="align", differentiable_rois=True)


def test_another_mode_is_refused_and_named() -> None:
    with pytest.raises(ValueError, match="warp"):
        crop_pool(torch.zeros(1, 3, 4, 4), [torch.zeros(1, 4)], mode="warp")  # type: ignore[arg-type]


def test_rois_that_are_not_finite_do_no_harm_to_others() -> None:
    features, good = torch.randn(1, 8, 6, 6), random_boxes(2, (96, 96))
    bad = torch.tensor([[math.nan, 0, 10, 10], [0, 0, math.inf, 10], [-1e30, 0, 1e30, 10]])
    crops = pooled(features, [torch.cat([good[:1], bad, good[1:]])])
    torch.testing.assert_close(crops[[0, 4]], expanded_form(features, [good]), atol=1e-5, rtol=0)
