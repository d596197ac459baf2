"""Proposal target layer: every sampled row against the article's rules, the fallbacks, and the expanded table."""

from __future__ import annotations

import pytest
import torch
import torchvision.ops
from conftest import generator, jittered, random_boxes
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rcnn_edu.boxes import decode_boxes
from rcnn_edu.config import ProposalTargetConfig
from rcnn_edu.proposal_target import ProposalTargets, expand_targets, proposal_targets

NO_BOXES, NO_LABELS = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
WITHOUT_GT = ProposalTargetConfig(append_gt=False)


def rows_of(rois: Tensor, candidates: Tensor) -> list[int]:
    """For each RoI the row of the candidate that it is; candidates are distinct."""
    equal = (rois[:, None] == candidates[None]).all(dim=2)
    assert (equal.sum(dim=1) == 1).all(), "a RoI is no candidate"
    return equal.int().argmax(dim=1).tolist()


def check_rules(
    result: ProposalTargets, proposals: Tensor, gt_boxes: Tensor, gt_labels: Tensor, config: ProposalTargetConfig
) -> None:
    """The article's rules for an image with objects, row by row."""
    candidates = torch.cat([proposals, gt_boxes]) if config.append_gt else proposals
    iou = torchvision.ops.box_iou(candidates, gt_boxes)
    best = [float(row.max()) for row in iou]
    foreground = {row for row, overlap in enumerate(best) if overlap >= config.fg_threshold}
    hard = {row for row, overlap in enumerate(best) if config.bg_threshold_lo <= overlap < config.bg_threshold_hi}
    below = {row for row, overlap in enumerate(best) if overlap < config.bg_threshold_hi}
    background = hard or below

    size = config.batch_size
    wanted = round(config.fg_fraction * size)
    num_foreground = min(wanted, len(foreground)) if background else size
    chosen = rows_of(result.rois, candidates)
    assert len(chosen) == size
    assert set(chosen[:num_foreground]) <= foreground
    assert set(chosen[num_foreground:]) <= background
    for drawn, source in ((chosen[:num_foreground], foreground), (chosen[num_foreground:], background)):
        if len(drawn) <= len(source):
            assert len(set(drawn)) == len(drawn), "a candidate was repeated although there are enough"

    for position, row in enumerate(chosen):
        matched = int(result.matched_gt[position])
        assert float(iou[row, matched]) == pytest.approx(best[row], abs=1e-6)
        assert float(result.max_iou[position]) == pytest.approx(best[row], abs=1e-6)
        if position < num_foreground:
            assert result.labels[position] == gt_labels[matched]
        else:
            assert result.labels[position] == 0
            assert not result.targets[position].any()


def scene(objects: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Proposals near and far from a few objects."""
    gt_boxes = random_boxes(objects, smallest=25)
    proposals = torch.cat([jittered(gt_boxes, 20, 3), jittered(gt_boxes, 30, 15), random_boxes(100)])
    return proposals, gt_boxes, torch.arange(1, objects + 1)


# --- sampling ----------------------------------------------------------------------------------------------------


@given(
    st.integers(0, 2**31), st.integers(0, 40), st.integers(1, 4), st.sampled_from([1, 2, 5, 16, 60]),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.sampled_from([0.0, 0.1, 0.4]), st.booleans(),
)  # fmt: skip
def test_every_row_follows_the_rules(
    seed: int, count: int, objects: int, batch_size: int, fg_fraction: float, lo: float, append_gt: bool
) -> None:
    torch.manual_seed(seed)
    gt_boxes, gt_labels = random_boxes(objects, smallest=30), torch.randint(1, 21, (objects,))
    proposals = torch.cat([random_boxes(count), jittered(gt_boxes, count // 4, 8)])
    config = ProposalTargetConfig(
        batch_size=batch_size, fg_fraction=fg_fraction, bg_threshold_lo=lo, append_gt=append_gt
    )
    result = proposal_targets(proposals, gt_boxes, gt_labels, config, generator(seed))
    if len(proposals) == 0 and not append_gt:
        assert result.rois.shape == (0, 4)
    else:
        check_rules(result, proposals, gt_boxes, gt_labels, config)


def test_by_default_128_rois_of_which_a_quarter_are_foreground() -> None:
    proposals, gt_boxes, gt_labels = scene()
    result = proposal_targets(proposals, gt_boxes, gt_labels)
    assert result.rois.shape == result.targets.shape == (128, 4)
    assert result.labels.shape == result.max_iou.shape == result.matched_gt.shape == (128,)
    assert result.labels.dtype == result.matched_gt.dtype == torch.int64
    assert (result.labels > 0).sum() == 32
    assert (result.labels[:32] > 0).all()  # foreground first
    check_rules(result, proposals, gt_boxes, gt_labels, ProposalTargetConfig())


@pytest.mark.parametrize(("batch_size", "foreground"), [(128, 32), (6, 2), (10, 2), (7, 2), (2, 0), (1, 0)])
def test_the_share_of_foreground_is_rounded_to_whole_rois(batch_size: int, foreground: int) -> None:
    # A quarter of 6 is 1.5, of 10 is 2.5, of 2 is 0.5: Python's round goes to the even neighbour.
    result = proposal_targets(*scene(), ProposalTargetConfig(batch_size=batch_size))
    assert (result.labels > 0).sum() == foreground


def test_few_foreground_proposals_leave_their_room_to_background() -> None:
    gt = torch.tensor([[0.0, 0, 20, 20]])
    near_misses = torch.tensor([0.0, 0, 20, 0]).repeat(40, 1)
    near_misses[:, 3] = torch.linspace(2, 9, 40)  # IoU 0.1 … 0.45
    result = proposal_targets(near_misses, gt, torch.tensor([7]), ProposalTargetConfig(batch_size=32))
    assert (result.labels == 7).sum() == 1  # the object itself
    assert (result.labels == 0).sum() == 31
    assert len(result.rois.unique(dim=0)) == 32  # 40 are enough: none is repeated


@pytest.mark.parametrize(
    ("height", "label"),
    [(10, 7), (5, 7), (4.99, 0), (1, 0)],
)
def test_an_overlap_of_exactly_one_half_is_foreground_and_of_exactly_0_1_a_near_miss(height: float, label: int) -> None:
    gt = torch.tensor([[0.0, 0, 10, 10]])
    proposal = torch.tensor([[0.0, 0, 10, height]])  # IoU height / 10
    easy = torch.tensor([[20.0, 20, 30, 30]])
    config = ProposalTargetConfig(batch_size=8, append_gt=False)
    result = proposal_targets(torch.cat([proposal, easy]), gt, torch.tensor([7]), config)
    assert result.labels.max() == label
    if label == 0:
        assert (result.rois == proposal).all()  # a near miss is there, so the easy one is never taken


def test_without_near_misses_background_is_all_below_hi() -> None:
    gt = torch.tensor([[0.0, 0, 10, 10]])
    easy = random_boxes(50) + 50
    barely = torch.tensor([[0.0, 0, 10, 0.9]])  # IoU 0.09
    result = proposal_targets(torch.cat([easy, barely]), gt, torch.tensor([3]), ProposalTargetConfig(batch_size=52))
    assert (result.labels == 3).sum() == 1
    assert len(result.rois.unique(dim=0)) == 52


def test_a_single_near_miss_is_repeated_rather_than_an_easy_one_taken() -> None:
    gt = torch.tensor([[0.0, 0, 10, 10]])
    near = torch.tensor([[0.0, 0, 10, 3]])
    result = proposal_targets(torch.cat([near, random_boxes(50) + 50]), gt, torch.tensor([3]))
    assert result.labels.tolist() == [3] + [0] * 127
    assert (result.rois[1:] == near).all()


def test_when_all_are_foreground_they_fill_all_rows() -> None:
    gt = torch.tensor([[0.0, 0, 50, 50]])
    close = jittered(gt, 200, 2)
    many = proposal_targets(close, gt, torch.tensor([4]), ProposalTargetConfig(batch_size=64))
    assert (many.labels == 4).all()
    assert len(many.rois.unique(dim=0)) == 64  # distinct while there are enough
    few = proposal_targets(close[:5], gt, torch.tensor([4]), ProposalTargetConfig(batch_size=64, append_gt=False))
    assert (few.labels == 4).all()
    assert len(few.rois.unique(dim=0)) == 5


def test_between_the_thresholds_is_neither_unless_nothing_else_is_left() -> None:
    config = ProposalTargetConfig(batch_size=10, bg_threshold_hi=0.3, append_gt=False)
    gt = torch.tensor([[0.0, 0, 10, 10]])
    between = torch.tensor([[0.0, 0, 10, 4]])
    miss = torch.tensor([[0.0, 0, 10, 2]])
    with_miss = proposal_targets(torch.cat([between, miss]), gt, torch.tensor([1]), config)
    assert (with_miss.rois == miss).all()
    alone = proposal_targets(between, gt, torch.tensor([1]), config)
    assert len(alone.rois) == 10
    assert (alone.labels == 0).all()


def test_objects_are_candidates_only_if_appended() -> None:
    gt, far = torch.tensor([[0.0, 0, 10, 10]]), random_boxes(30) + 50
    labels = torch.tensor([5])
    on = proposal_targets(far, gt, labels)
    off = proposal_targets(far, gt, labels, WITHOUT_GT)
    assert (on.labels == 5).sum() == 1
    assert torch.equal(on.rois[on.labels == 5], gt)
    assert not on.targets.any()  # the object is its own target
    assert (off.labels == 0).all()
    assert not (off.rois == gt).all(dim=1).any()


def test_without_proposals_the_objects_fill_all_rows() -> None:
    gt_boxes, gt_labels = random_boxes(3, smallest=30), torch.tensor([2, 4, 6])
    result = proposal_targets(NO_BOXES, gt_boxes, gt_labels)
    assert len(result.rois) == 128
    assert set(result.labels.tolist()) == {2, 4, 6}
    check_rules(result, NO_BOXES, gt_boxes, gt_labels, ProposalTargetConfig())


@pytest.mark.parametrize(
    ("gt_boxes", "config"), [(NO_BOXES, ProposalTargetConfig()), (torch.tensor([[0.0, 0, 5, 5]]), WITHOUT_GT)]
)
def test_from_no_candidates_at_all_no_rois_are_sampled(gt_boxes: Tensor, config: ProposalTargetConfig) -> None:
    result = proposal_targets(NO_BOXES, gt_boxes, torch.ones(len(gt_boxes), dtype=torch.int64), config)
    assert result.rois.shape == result.targets.shape == (0, 4)
    assert result.labels.shape == result.max_iou.shape == result.matched_gt.shape == (0,)
    assert result.labels.dtype == result.matched_gt.dtype == torch.int64


def test_an_image_without_objects_gives_background() -> None:
    proposals = random_boxes(200)
    result = proposal_targets(proposals, NO_BOXES, NO_LABELS)
    assert result.rois.shape == (128, 4)
    assert len(set(rows_of(result.rois, proposals))) == 128
    assert (result.labels == 0).all()
    assert (result.matched_gt == -1).all()
    assert not result.targets.any()
    assert not result.max_iou.any()


def test_few_proposals_of_an_image_without_objects_are_repeated() -> None:
    proposals = random_boxes(3)
    result = proposal_targets(proposals, NO_BOXES, NO_LABELS)
    assert len(result.rois) == 128
    assert set(rows_of(result.rois, proposals)) == {0, 1, 2}


# --- targets -----------------------------------------------------------------------------------------------------


def test_targets_are_the_coefficients_over_target_std() -> None:
    # RoI centre (10, 10), 20 × 20; object centre (12, 10), 20 × 20·e^0.2: (0.1, 0, 0, 0.2) over (0.1, 0.1, 0.2, 0.2).
    half_height = 10 * torch.e**0.2
    gt = torch.tensor([[2.0, 10 - half_height, 22, 10 + half_height]])
    roi = torch.tensor([[0.0, 0, 20, 20]])
    config = ProposalTargetConfig(batch_size=1, fg_fraction=1, append_gt=False)
    result = proposal_targets(roi, gt, torch.tensor([1]), config)
    assert result.targets[0].tolist() == pytest.approx([1, 0, 0, 1], abs=1e-5)


@pytest.mark.parametrize("target_std", [(0.1, 0.1, 0.2, 0.2), (1.0, 2.0, 3.0, 4.0)])
def test_a_foreground_rois_target_leads_to_its_object(target_std: tuple[float, float, float, float]) -> None:
    proposals, gt_boxes, gt_labels = scene()
    result = proposal_targets(proposals, gt_boxes, gt_labels, ProposalTargetConfig(target_std=target_std))
    foreground = result.labels > 0
    boxes = decode_boxes(result.rois, result.targets * torch.tensor(target_std))
    torch.testing.assert_close(boxes[foreground], gt_boxes[result.matched_gt[foreground]], atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_are_int64_whatever_integers_went_in(dtype: torch.dtype) -> None:
    proposals, gt_boxes, gt_labels = scene()
    result = proposal_targets(proposals, gt_boxes, gt_labels.to(dtype), generator=generator())
    expected = proposal_targets(proposals, gt_boxes, gt_labels, generator=generator())
    assert result.labels.dtype == torch.int64
    assert torch.equal(result.labels, expected.labels)


def test_gradients_pass_to_proposals_through_rois_alone() -> None:
    proposals, gt_boxes, gt_labels = scene()
    proposals.requires_grad_()
    result = proposal_targets(proposals, gt_boxes, gt_labels)
    assert result.rois.requires_grad
    assert not result.targets.requires_grad
    assert not result.max_iou.requires_grad


# --- randomness --------------------------------------------------------------------------------------------------


def test_the_generator_decides_the_sample_and_the_global_state_is_not_touched() -> None:
    proposals, gt_boxes, gt_labels = scene()
    before = torch.get_rng_state()
    first, again, other = (
        proposal_targets(proposals, gt_boxes, gt_labels, generator=generator(seed)) for seed in (1, 1, 2)
    )
    for one, same in zip(first, again, strict=True):
        assert torch.equal(one, same)
    assert not torch.equal(first.rois, other.rois)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_candidate_of_a_kind_is_sampled_equally_often() -> None:
    gt = torch.tensor([[0.0, 0, 40, 40]])
    close = torch.stack([torch.tensor([0.0, 0, 40, 30 + i]) for i in range(10)])  # IoU 0.75 and more
    near = torch.stack([torch.tensor([0.0, 0, 40, 5 + i]) for i in range(10)])  # 0.125 … 0.35
    candidates, source = torch.cat([close, near]), generator(4)
    config = ProposalTargetConfig(batch_size=8, fg_fraction=0.5, append_gt=False)
    counts = torch.zeros(20)
    for _ in range(1000):
        rois = proposal_targets(candidates, gt, torch.tensor([1]), config, source).rois
        counts += (candidates[:, None] == rois).all(dim=2).sum(dim=1)
    assert counts[:10].sum() == counts[10:].sum() == 4000
    # 400 each; 9 degrees of freedom: a fair choice passes 34 once in ten thousand times
    for kind in (counts[:10], counts[10:]):
        assert 0.3 < float(((kind - 400) ** 2 / 400).sum()) < 34


# --- the article's table -----------------------------------------------------------------------------------------


def test_expanded_targets_by_hand() -> None:
    targets, weights = expand_targets(torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]), torch.tensor([2, 0]), 3)
    assert targets.tolist() == [[0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], [0] * 12]
    assert weights.tolist() == [[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1], [0] * 12]


@pytest.mark.parametrize("num_classes", [2, 5, 21])
def test_expanded_targets_are_those_of_the_loop(num_classes: int) -> None:
    targets, labels = torch.randn(40, 4), torch.randint(0, num_classes, (40,))
    expected, expected_weights = torch.zeros(40, 4 * num_classes), torch.zeros(40, 4 * num_classes)
    for row, label in enumerate(labels.tolist()):
        if label > 0:
            expected[row, 4 * label : 4 * label + 4] = targets[row]
            expected_weights[row, 4 * label : 4 * label + 4] = 1
    expanded, weights = expand_targets(targets, labels, num_classes)
    assert torch.equal(expanded, expected)
    assert torch.equal(weights, expected_weights)


def test_no_rois_expand_to_an_empty_table() -> None:
    expanded, weights = expand_targets(NO_BOXES, NO_LABELS, 21)
    assert expanded.shape == weights.shape == (0, 84)
