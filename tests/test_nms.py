"""NMS: the fast form, the watched form and torchvision's, against a greedy loop in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from unittest import mock

import pytest
import torch
import torchvision.ops
from conftest import jittered, random_boxes
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rcnn_edu import nms as nms_module
from rcnn_edu.boxes import box_iou
from rcnn_edu.nms import batched_nms, nms, nms_steps

IntBox = tuple[int, int, int, int]
# Few coordinates and few scores: equal boxes, touching boxes, equal scores and IoUs of exactly ¼, ½, ¾ are common.
INT_BOX: st.SearchStrategy[IntBox] = st.tuples(
    st.integers(0, 4), st.integers(0, 4), st.integers(-1, 4), st.integers(-1, 4)
).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
SCORED: st.SearchStrategy[list[tuple[IntBox, float]]] = st.lists(
    st.tuples(INT_BOX, st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])), max_size=12
)
THRESHOLD = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


def exact_iou(a: IntBox, b: IntBox) -> Fraction:
    """Intersection over union without any rounding; 0 unless both boxes are proper."""
    sides = [(x2 - x1, y2 - y1) for x1, y1, x2, y2 in (a, b)]
    if any(w <= 0 or h <= 0 for w, h in sides):
        return Fraction(0)
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return Fraction(width * height, sum(w * h for w, h in sides) - width * height)


def greedy(boxes: list[IntBox], scores: list[float], threshold: float) -> list[int]:
    """The article's sentence: keep the best that is left, drop what overlaps it by more than the threshold, repeat."""
    left = sorted(range(len(boxes)), key=lambda row: -scores[row])
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [row for row in left if exact_iou(boxes[best], boxes[row]) <= threshold]
    return kept


def crowd(objects: int = 12, copies: int = 10) -> tuple[Tensor, Tensor]:
    """Boxes that overlap in clusters, and distinct scores."""
    boxes = jittered(random_boxes(objects, (300, 400), smallest=20), copies, pixels=6)
    return boxes, torch.randperm(len(boxes)) / len(boxes)


@given(SCORED, THRESHOLD, st.integers(1, 5), st.one_of(st.none(), st.integers(0, 13)))
def test_deciding_in_blocks_changes_nothing(
    rows: list[tuple[IntBox, float]], threshold: float, block: int, max_kept: int | None
) -> None:
    boxes, scores = [box for box, _ in rows], [score for _, score in rows]
    box_tensor, score_tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(scores)
    with mock.patch.object(nms_module, "BLOCK", block):
        kept = nms(box_tensor, score_tensor, threshold, max_kept)
    assert kept.tolist() == greedy(boxes, scores, threshold)[:max_kept]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.3, 0.7, 1 / 3])
def test_blocks_compare_with_the_threshold_exactly_as_torchvision_does(dtype: torch.dtype, threshold: float) -> None:
    # Widths 1…60 beside a box of width 60: IoUs of k/60, among them 18/60, 20/60 and 42/60, and their neighbours.
    widths = torch.arange(60, 0, -1, dtype=dtype)
    boxes = torch.stack(
        [torch.zeros(60, dtype=dtype), torch.zeros(60, dtype=dtype), widths, torch.ones(60).to(dtype)], 1
    )
    scores = torch.linspace(1, 0, 60)
    expected = torchvision.ops.nms(boxes, scores.to(dtype), threshold)
    with mock.patch.object(nms_module, "BLOCK", 1):
        assert torch.equal(nms(boxes, scores, threshold), expected)


@given(SCORED, THRESHOLD)
def test_nms_and_its_steps_keep_what_the_greedy_loop_keeps(rows: list[tuple[IntBox, float]], threshold: float) -> None:
    boxes, scores = [box for box, _ in rows], [score for _, score in rows]
    box_tensor, score_tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(scores)
    expected = greedy(boxes, scores, threshold)
    kept = nms(box_tensor, score_tensor, threshold)
    assert kept.dtype == torch.int64
    assert kept.tolist() == expected
    assert [step.kept for step in nms_steps(box_tensor, score_tensor, threshold)] == expected


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.5, 0.7, 0.99, 1.0])
def test_nms_and_its_steps_agree_with_torchvision(threshold: float) -> None:
    boxes, scores = crowd()
    expected = torchvision.ops.nms(boxes, scores, threshold).tolist()
    assert nms(boxes, scores, threshold).tolist() == expected
    assert [step.kept for step in nms_steps(boxes, scores, threshold)] == expected


@pytest.mark.parametrize("tenths", range(1, 10))
def test_a_threshold_met_to_the_last_bit_is_decided_as_torchvision_decides_it(tenths: int) -> None:
    # IoU = 10·tenths / 100, which float32 rounds up or down.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, tenths]])
    scores = torch.tensor([0.9, 0.8])
    expected = torchvision.ops.nms(boxes, scores, tenths / 10).tolist()
    assert nms(boxes, scores, tenths / 10).tolist() == expected
    assert [step.kept for step in nms_steps(boxes, scores, tenths / 10)] == expected


def test_suppression_takes_more_than_the_threshold() -> None:
    boxes, scores = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]]), torch.tensor([0.9, 0.8])  # IoU ½
    assert nms(boxes, scores, 0.5).tolist() == [0, 1]
    assert nms(boxes, scores, math.nextafter(0.5, 0)).tolist() == [0]


def test_a_suppressed_box_suppresses_nobody() -> None:
    # A chain: each overlaps the next by 6/14 > 0.4, the first and third by 2/18.
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.4).tolist() == [0, 2]
    assert nms(boxes, torch.tensor([0.8, 0.9, 0.7]), 0.4).tolist() == [1]


def test_touching_boxes_do_not_overlap() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [0, 10, 10, 20]])
    assert nms(boxes, torch.tensor([0.1, 0.3, 0.2]), 0.0).tolist() == [1, 2, 0]


def test_of_duplicates_with_equal_scores_the_first_row_is_kept() -> None:
    boxes = torch.tensor([[30.0, 0, 40, 10], *[[0.0, 0, 10, 10]] * 20])
    assert nms(boxes, torch.ones(21), 0.5).tolist() == [0, 1]
    assert nms(boxes, torch.ones(21), 1.0).tolist() == list(range(21))  # IoU 1 is not above 1


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.8])
def test_max_kept_is_the_beginning_of_the_whole_result_at_every_value(threshold: float) -> None:
    boxes, scores = crowd()
    scores = (scores * 20).round()  # ties
    whole = nms(boxes, scores, threshold).tolist()
    assert 3 < len(whole) < len(boxes)
    for max_kept in range(len(boxes) + 3):
        assert nms(boxes, scores, threshold, max_kept).tolist() == whole[:max_kept]


def test_max_kept_holds_when_the_best_boxes_are_all_duplicates() -> None:
    # The survivors come last, so that every round of looking further is needed.
    apart = torch.arange(5)[:, None] * 20 + torch.tensor([100.0, 0, 110, 10])
    boxes = torch.cat([torch.tensor([[0.0, 0, 10, 10]]).expand(200, 4), apart])
    scores = torch.linspace(1, 0, 205)
    assert nms(boxes, scores, 0.5, max_kept=3).tolist() == [0, 200, 201]


def test_rows_that_are_not_finite_are_never_kept_and_suppress_nobody() -> None:
    good = [0.0, 0, 10, 10]
    boxes = torch.tensor([good, good, [math.nan, 0, 10, 10], [0, 0, math.inf, 10], [-math.inf, 0, 10, 10], good])
    scores = torch.tensor([0.1, math.nan, 0.9, 0.8, 0.7, 0.2])
    assert nms(boxes, scores, 0.5).tolist() == [5]
    assert [step.kept for step in nms_steps(boxes, scores, 0.5)] == [5]


def test_infinite_scores_rank_first_and_last() -> None:
    boxes = torch.arange(3)[:, None] * 20 + torch.tensor([0.0, 0, 10, 10])
    assert nms(boxes, torch.tensor([-math.inf, 0.0, math.inf]), 0.5).tolist() == [2, 1, 0]


def test_no_boxes_keep_no_boxes() -> None:
    nothing, no_scores = torch.zeros(0, 4), torch.zeros(0)
    assert nms(nothing, no_scores, 0.5).shape == (0,)
    assert nms(nothing, no_scores, 0.5, max_kept=10).dtype == torch.int64
    assert list(nms_steps(nothing, no_scores, 0.5)) == []
    assert batched_nms(nothing, no_scores, torch.zeros(0, dtype=torch.int64), 0.5).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_other_number_types_are_taken(dtype: torch.dtype) -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]).to(dtype)
    assert nms(boxes, torch.tensor([3, 2, 1]).to(dtype), 0.5).tolist() == [0, 2]


@pytest.mark.parametrize(("boxes", "scores"), [((3, 5), (3,)), ((4,), (4,)), ((3, 4), (2,)), ((3, 4), (3, 1))])
def test_other_shapes_are_refused(boxes: tuple[int, ...], scores: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"boxes must be \(N, 4\) and scores \(N,\)"):
        nms(torch.zeros(boxes), torch.zeros(scores), 0.5)


def test_each_step_divides_what_was_left_into_kept_suppressed_and_remaining() -> None:
    boxes, scores = crowd(5, 6)
    left = torch.argsort(scores, descending=True).tolist()
    for step in nms_steps(boxes, scores, 0.4):
        iou = box_iou(boxes[step.kept][None], boxes)[0]
        assert step.kept == left[0]
        assert step.suppressed.tolist() == [row for row in left[1:] if iou[row] > 0.4]
        assert step.remaining.tolist() == [row for row in left[1:] if iou[row] <= 0.4]
        assert torch.equal(step.iou, iou[step.suppressed])
        left = step.remaining.tolist()
    assert left == []


# --- by class ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_kept", [None, 0, 1, 7, 1000])
def test_batched_nms_is_nms_class_by_class(max_kept: int | None) -> None:
    boxes, scores = crowd()
    classes = torch.randint(1, 5, (len(boxes),))
    expected = []
    for label in range(1, 5):
        rows = [row for row in range(len(boxes)) if classes[row] == label]
        expected += [rows[kept] for kept in torchvision.ops.nms(boxes[rows], scores[rows], 0.3)]
    expected.sort(key=lambda row: -float(scores[row]))
    assert batched_nms(boxes, scores, classes, 0.3, max_kept).tolist() == expected[:max_kept]


@pytest.mark.parametrize("max_kept", [None, 7])
def test_a_gpus_one_pass_over_classes_moved_apart_keeps_the_same(max_kept: int | None) -> None:
    boxes = torch.cat([jittered(random_boxes(12), 10, pixels=9), torch.tensor([[0.0, 0, math.inf, 5]])])
    scores, classes = torch.rand(len(boxes)), torch.randint(0, 4, (len(boxes),))
    scores[::9] = torch.nan
    apart = nms_module.apart(boxes, classes)
    for label in range(4):
        own = classes == label
        shift = apart[own][:-1] - boxes[own][:-1].double()
        assert (shift == shift[0, 0]).all()  # nothing but moved: no overlap changes
    assert nms(apart, scores, 0.4, max_kept).tolist() == batched_nms(boxes, scores, classes, 0.4, max_kept).tolist()
    assert nms_module.apart(boxes[:0], classes[:0]).shape == (0, 4)


def test_batched_nms_agrees_with_torchvision() -> None:
    boxes, scores = crowd()
    classes = torch.randint(0, 20, (len(boxes),))
    expected = torchvision.ops.batched_nms(boxes, scores, classes, 0.5)
    assert torch.equal(batched_nms(boxes, scores, classes, 0.5), expected)


def test_equal_boxes_of_different_classes_are_both_kept_ties_in_the_order_of_rows() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]]).expand(5, 4)
    classes = torch.tensor([3, 1, 3, 2, 1])
    assert batched_nms(boxes, torch.full((5,), 0.5), classes, 0.5).tolist() == [0, 1, 3]
