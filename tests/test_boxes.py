"""Boxes: IoU, coefficients both ways, clipping; against loops, torchvision and hand-worked numbers."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision.ops
from conftest import random_boxes
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from rcnn_edu.boxes import MAX_LOG_RATIO, box_area, box_iou, clip_boxes, decode_boxes, encode_boxes

Box = tuple[float, float, float, float]

INF, NAN = math.inf, math.nan
# Any four numbers: proper, empty, inverted (once or twice) or not finite.
ANY_COORDINATE = st.one_of(st.integers(-10, 30).map(float), st.sampled_from([INF, -INF, NAN, 1e30, -1e30]))
ANY_BOX: st.SearchStrategy[Box] = st.tuples(ANY_COORDINATE, ANY_COORDINATE, ANY_COORDINATE, ANY_COORDINATE)
SIDE = st.floats(1, 400, width=32)
PROPER_BOX: st.SearchStrategy[Box] = st.tuples(
    st.floats(-300, 900, width=32), st.floats(-300, 900, width=32), SIDE, SIDE
).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def iou_by_hand(a: Box, b: Box) -> float:
    """Intersection over union of two boxes in Python's numbers; 0 unless both are proper and finite."""
    for x1, y1, x2, y2 in (a, b):
        if not all(map(math.isfinite, (x1, y1, x2, y2))) or x2 <= x1 or y2 <= y1:
            return 0.0
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0) * max(height, 0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return intersection / (areas - intersection)


def tensor(*boxes: Box) -> Tensor:
    """Boxes as a `(N, 4)` float32 tensor."""
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


# --- IoU ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1),
        ((0, 0, 10, 10), (5, 5, 15, 15), 25 / 175),
        ((0, 0, 10, 10), (0, 0, 10, 5), 0.5),
        ((0, 0, 10, 10), (2, 2, 4, 4), 0.04),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0),  # they share an edge, and half-open boxes share no pixel
        ((0, 0, 10, 10), (10, 10, 20, 20), 0),  # a corner
        ((0, 0, 10, 10), (50, 50, 60, 60), 0),
        ((-10, -10, 10, 10), (0, 0, 10, 10), 0.25),
    ],
)
def test_iou_by_hand(a: Box, b: Box, iou: float) -> None:
    assert box_iou(tensor(a), tensor(b)).item() == pytest.approx(iou, rel=1e-6, abs=0)


def test_iou_of_every_pair_agrees_with_torchvision() -> None:
    a, b = random_boxes(30), random_boxes(20)
    torch.testing.assert_close(box_iou(a, b), torchvision.ops.box_iou(a, b), atol=1e-6, rtol=0)


@given(st.lists(ANY_BOX, max_size=5), st.lists(ANY_BOX, max_size=5))
def test_iou_of_any_four_numbers_is_that_of_the_loop_and_never_nan(a: list[Box], b: list[Box]) -> None:
    iou = box_iou(tensor(*a), tensor(*b))
    assert iou.shape == (len(a), len(b))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            if 1e30 in map(abs, (*one, *other)):  # areas overflow float32: only the range is promised
                assert 0 <= iou[i, j] <= 1
            else:
                assert iou[i, j].item() == pytest.approx(iou_by_hand(one, other), rel=1e-6, abs=0)


@given(st.lists(PROPER_BOX, min_size=1, max_size=4), st.lists(PROPER_BOX, min_size=1, max_size=4))
def test_iou_is_symmetric_within_0_to_1_and_1_with_itself(a: list[Box], b: list[Box]) -> None:
    iou = box_iou(tensor(*a), tensor(*b))
    assert torch.equal(iou, box_iou(tensor(*b), tensor(*a)).T)
    assert ((iou >= 0) & (iou <= 1)).all()
    assert torch.equal(box_iou(tensor(*a), tensor(*a)).diagonal(), torch.ones(len(a)))


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 9), (5, 5, 5, 5), (9, 5, 5, 9), (9, 9, 5, 5), (NAN, 0, 9, 9), (0, 0, INF, 9)]
)
def test_a_box_that_is_none_has_iou_0_even_with_itself(box: Box) -> None:
    others = tensor(box, (0, 0, 10, 10), (-INF, -INF, INF, INF))
    assert torch.equal(box_iou(tensor(box), others), torch.zeros(1, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8, torch.int64, torch.float64])
def test_iou_of_other_numbers_than_float32(dtype: torch.dtype) -> None:
    a, b = torch.tensor([[0, 0, 250, 200]], dtype=dtype), torch.tensor([[0, 0, 125, 200], [0, 0, 250, 50]], dtype=dtype)
    iou = box_iou(a, b)
    assert iou.tolist() == [[0.5, 0.25]]
    assert iou.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_iou_has_torchvisions_gradient() -> None:
    a, b = (random_boxes(9, (40, 60)).requires_grad_() for _ in range(2))
    weights = torch.rand(9, 9)
    ours, theirs = (
        torch.autograd.grad((iou(a, b) * weights).sum(), (a, b)) for iou in (box_iou, torchvision.ops.box_iou)
    )
    for one, other in zip(ours, theirs, strict=True):
        assert one.abs().max() > 0.01
        torch.testing.assert_close(one, other)


def test_iou_leaves_its_inputs_alone() -> None:
    a, b = random_boxes(4), random_boxes(3)
    before = a.clone(), b.clone()
    box_iou(a, b)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])


def test_area_is_width_times_height_and_0_for_an_inverted_box() -> None:
    boxes = tensor((0, 0, 3, 4), (1, 1, 1, 9), (5, 0, 0, 5), (5, 5, 0, 0))
    assert box_area(boxes).tolist() == [12, 0, 0, 0]


# --- coefficients ------------------------------------------------------------------------------------------------


def test_encode_by_hand() -> None:
    # Reference centre (5, 10), 10 × 20; target centre (15, 15), 20 × 10:
    # tx = 10 / 10, ty = 5 / 20, tw = log 2, th = log ½.
    coefficients = encode_boxes(tensor((0, 0, 10, 20)), tensor((5, 10, 25, 20)))
    assert coefficients[0].tolist() == pytest.approx([1, 0.25, math.log(2), -math.log(2)])


def test_decode_by_hand() -> None:
    # The same the other way, with a twentieth of the shift: centre (5 + 0.5, 10 + 0.25), size 10·2 × 20·½.
    box = decode_boxes(tensor((0, 0, 10, 20)), torch.tensor([[0.05, 0.0125, math.log(2), -math.log(2)]]))
    assert box[0].tolist() == pytest.approx([-4.5, 5.25, 15.5, 15.25])


def test_equal_boxes_have_coefficients_0() -> None:
    boxes = random_boxes(20)
    assert torch.equal(encode_boxes(boxes, boxes), torch.zeros(20, 4))


def test_encode_and_decode_agree_with_torchvision() -> None:
    references, targets = random_boxes(50), random_boxes(50)
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0), bbox_xform_clip=math.log(1000 / 16))
    torch.testing.assert_close(encode_boxes(references, targets), coder.encode_single(targets, references))
    coefficients = torch.randn(50, 12) * 3
    torch.testing.assert_close(decode_boxes(references, coefficients), coder.decode_single(coefficients, references))


@given(st.lists(st.tuples(PROPER_BOX, PROPER_BOX), min_size=1, max_size=5))
def test_decode_inverts_encode(pairs: list[tuple[Box, Box]]) -> None:
    # Sides are within 1…400 here; a growth past 1000/16 is clamped, and tested below.
    pairs = [(r, t) for r, t in pairs if t[2] - t[0] < 60 * (r[2] - r[0]) and t[3] - t[1] < 60 * (r[3] - r[1])]
    references, targets = tensor(*(r for r, _ in pairs)).double(), tensor(*(t for _, t in pairs)).double()
    there_and_back = decode_boxes(references, encode_boxes(references, targets))
    torch.testing.assert_close(there_and_back, targets, atol=1e-7, rtol=0)


def test_decode_inverts_encode_in_float32_to_a_thousandth_of_a_pixel() -> None:
    references, targets = random_boxes(200, (600, 1000), smallest=20), random_boxes(200, (600, 1000), smallest=20)
    back = decode_boxes(references, encode_boxes(references, targets))
    torch.testing.assert_close(back, targets, atol=1e-3, rtol=0)


@given(PROPER_BOX, PROPER_BOX, st.floats(0.1, 10), st.floats(-100, 100))
def test_coefficients_have_no_unit(reference: Box, target: Box, scale: float, shift: float) -> None:
    a, b = tensor(reference).double(), tensor(target).double()
    moved = encode_boxes(a * scale + shift, b * scale + shift)
    torch.testing.assert_close(moved, encode_boxes(a, b), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("growth", [MAX_LOG_RATIO, MAX_LOG_RATIO + 1e-3, 10, 1000, INF])
def test_growth_is_clamped_at_1000_over_16(growth: float) -> None:
    assert math.log(1000 / 16) == MAX_LOG_RATIO
    box = decode_boxes(tensor((0, 0, 16, 16)), torch.tensor([[0, 0, growth, growth]]))
    assert box[0].tolist() == pytest.approx([8 - 500, 8 - 500, 8 + 500, 8 + 500], rel=1e-5)


def test_shrinking_is_not_clamped() -> None:
    box = decode_boxes(tensor((0, 0, 16, 16)), torch.tensor([[0, 0, -6.0, -7.0]]))
    assert (box[0, 2] - box[0, 0]).item() == pytest.approx(16 * math.exp(-6), rel=1e-3)
    assert (box[0, 3] - box[0, 1]).item() == pytest.approx(16 * math.exp(-7), rel=1e-2)


def test_each_four_columns_are_decoded_by_themselves() -> None:
    references, coefficients = random_boxes(6), torch.randn(6, 4 * 5)
    together = decode_boxes(references, coefficients)
    assert together.shape == (6, 20)
    for k in range(5):
        columns = slice(4 * k, 4 * k + 4)
        assert torch.equal(together[:, columns], decode_boxes(references, coefficients[:, columns]))


def test_an_empty_box_encodes_to_finite_numbers() -> None:
    empty, proper = tensor((5, 5, 5, 5), (7, 7, 3, 3)), random_boxes(2)
    assert torch.isfinite(encode_boxes(empty, proper)).all()
    assert torch.isfinite(encode_boxes(proper, empty)).all()


def test_no_boxes_encode_and_decode_to_no_boxes() -> None:
    nothing = torch.zeros(0, 4)
    assert encode_boxes(nothing, nothing).shape == (0, 4)
    assert decode_boxes(nothing, torch.zeros(0, 12)).shape == (0, 12)


@pytest.mark.parametrize("shape", [(3, 6), (2, 4), (12,)])
def test_coefficients_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"coefficients must be \(N, 4·K\)"):
        decode_boxes(random_boxes(3), torch.zeros(shape))


# --- clipping ----------------------------------------------------------------------------------------------------


def test_clip_cuts_at_height_and_width() -> None:
    boxes = tensor((-5, -6, 300, 300), (10, 20, 30, 40), (0, 0, 200, 100), (250, 10, 300, 20))
    expected = tensor((0, 0, 200, 100), (10, 20, 30, 40), (0, 0, 200, 100), (200, 10, 200, 20))
    assert torch.equal(clip_boxes(boxes, (100, 200)), expected)


@given(st.lists(PROPER_BOX, max_size=6), st.integers(1, 500), st.integers(1, 500))
def test_clip_agrees_with_torchvision_and_changes_nothing_twice(boxes: list[Box], height: int, width: int) -> None:
    clipped = clip_boxes(tensor(*boxes), (height, width))
    assert torch.equal(clipped, torchvision.ops.clip_boxes_to_image(tensor(*boxes), (height, width)))
    assert torch.equal(clipped, clip_boxes(clipped, (height, width)))


def test_clip_takes_several_boxes_a_row() -> None:
    boxes = torch.randn(7, 12) * 300
    clipped = clip_boxes(boxes, (100, 200))
    expected = [clip_boxes(boxes[:, 4 * k : 4 * k + 4], (100, 200)) for k in range(3)]
    assert torch.equal(clipped, torch.cat(expected, dim=1))
