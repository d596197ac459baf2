"""Exercises of lesson 07: how many of each kind are sampled, what each should become, and the article's table."""

from __future__ import annotations

import torch
from torch import Tensor

from rcnn_edu.boxes import encode_boxes
from rcnn_edu.config import ProposalTargetConfig
from rcnn_edu.exercises.base import Exercise, Mistake
from rcnn_edu.proposal_target import expand_targets, proposal_targets


def sample_sizes(max_iou: Tensor, config: ProposalTargetConfig) -> tuple[int, int]:
    """How many foreground and background RoIs `proposal_targets` draws from proposals of these IoUs `(P,)`."""
    # A part of an object 100 pixels wide, of its full height, overlaps it by the width of the part / 100.
    proposals = torch.tensor([0.0, 0.0, 0.0, 100.0]).repeat(len(max_iou), 1)
    proposals[:, 2] = 100 * max_iou
    objects, labels = torch.tensor([[0.0, 0.0, 100.0, 100.0]]), torch.tensor([1])
    drawn = proposal_targets(proposals, objects, labels, config).labels
    return int((drawn > 0).sum()), int((drawn == 0).sum())


def _counts(max_iou: Tensor, config: ProposalTargetConfig) -> tuple[int, int, int]:
    """How many proposals could be foreground, how many may be, and how many are background."""
    foreground = int((max_iou >= config.fg_threshold).sum())
    background = int(((max_iou >= config.bg_threshold_lo) & (max_iou < config.bg_threshold_hi)).sum())
    return foreground, round(config.fg_fraction * config.batch_size), background


def _no_limit(max_iou: Tensor, config: ProposalTargetConfig) -> tuple[int, int]:
    foreground = min(_counts(max_iou, config)[0], config.batch_size)
    return foreground, config.batch_size - foreground


def _always_a_quarter(max_iou: Tensor, config: ProposalTargetConfig) -> tuple[int, int]:
    _, limit, _ = _counts(max_iou, config)
    return limit, config.batch_size - limit


def _never_repeated(max_iou: Tensor, config: ProposalTargetConfig) -> tuple[int, int]:
    foreground, limit, background = _counts(max_iou, config)
    return min(foreground, limit), min(background, config.batch_size - min(foreground, limit))


def _above_the_threshold(max_iou: Tensor, config: ProposalTargetConfig) -> tuple[int, int]:
    foreground = min(int((max_iou > config.fg_threshold).sum()), _counts(max_iou, config)[1])
    return foreground, config.batch_size - foreground


_few = torch.tensor([0.9, 0.75, 0.5, 0.25, 0.25, 0.0])
_many = torch.cat([torch.full((6,), 0.75), torch.linspace(0.12, 0.45, 20)])

sizes = Exercise(
    "sample_sizes",
    sample_sizes,
    [
        (_few, ProposalTargetConfig(batch_size=16, append_gt=False)),
        (_many, ProposalTargetConfig(batch_size=11, append_gt=False)),
        (_many, ProposalTargetConfig(batch_size=8, fg_fraction=0.5, append_gt=False)),
        (_many, ProposalTargetConfig(batch_size=8, fg_threshold=0.8, append_gt=False)),
    ],
    [
        Mistake(
            _no_limit, "foreground is at most round(fg_fraction · batch_size), however many proposals overlap enough"
        ),
        Mistake(_always_a_quarter, "fg_fraction is a limit, not a quota: foreground is never repeated to reach it"),
        Mistake(
            _never_repeated, "the total is always batch_size: too few backgrounds are repeated until it is reached"
        ),
        Mistake(_above_the_threshold, "a proposal whose IoU is exactly fg_threshold is foreground: use >="),
    ],
)


def roi_targets(rois: Tensor, objects: Tensor, target_std: tuple[float, float, float, float]) -> Tensor:
    """The targets of foreground RoIs `(F, 4)`, the object of each given `(F, 4)`."""
    return encode_boxes(rois, objects) / torch.tensor(target_std)


_std = (0.1, 0.1, 0.2, 0.2)
_rois = torch.tensor([[10, 10, 50, 60], [0, 20, 30, 100.0]])
_objects = torch.tensor([[14, 8, 58, 60], [4, 30, 28, 90.0]])

targets = Exercise(
    "roi_targets",
    roi_targets,
    [(_rois, _objects, _std), (_rois, _objects, (0.1, 0.2, 0.3, 0.4))],
    [
        Mistake(
            lambda rois, objects, std: encode_boxes(rois, objects),
            "the coefficients are right; now divide each by its target_std",
        ),
        Mistake(
            lambda rois, objects, std: encode_boxes(rois, objects) * torch.tensor(std),
            "divide by target_std in training; multiplying is for inference, when the prediction is decoded",
        ),
        Mistake(
            lambda rois, objects, std: encode_boxes(objects, rois) / torch.tensor(std),
            "these lead from the object to the RoI; the RoI is the reference, the object the goal",
        ),
        Mistake(
            lambda rois, objects, std: encode_boxes(rois, objects) / std[0],
            "each coefficient has its own target_std: four numbers, not one",
        ),
    ],
)


def _from_zero(targets: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    expanded, weights = expand_targets(targets, labels, num_classes)
    return expanded.roll(-4, dims=1), weights.roll(-4, dims=1)


def _background_weighs(targets: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    expanded, weights = expand_targets(targets, labels, num_classes)
    weights[labels == 0, :4] = 1
    return expanded, weights


def _every_class(targets: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    weights = (labels > 0)[:, None].to(targets.dtype).repeat(1, 4 * num_classes)
    return targets.repeat(1, num_classes) * weights, weights


def _by_coefficient(targets: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    both = expand_targets(targets, labels, num_classes)
    expanded, weights = (table.unflatten(1, (num_classes, 4)).transpose(1, 2).flatten(1) for table in both)
    return expanded, weights


_values = torch.tensor([[0.5, -1, 0.25, 2], [0, 0, 0, 0], [1, 1, -1, 0.5]])

table = Exercise(
    "expand_targets",
    expand_targets,
    [(_values, torch.tensor([2, 0, 1]), 3), (_values, torch.tensor([1, 0, 3]), 4)],
    [
        Mistake(
            _from_zero, "class c has the columns 4c to 4c+3: background, class 0, has four of its own, always zeros"
        ),
        Mistake(_background_weighs, "a background RoI has no box to learn: all its weights are 0"),
        Mistake(
            _every_class, "only the RoI's own class gets its targets; all other columns are 0, and so are their weights"
        ),
        Mistake(
            _by_coefficient, "the four columns of a class lie side by side: tx, ty, tw, th of class 0, then of class 1"
        ),
    ],
)

EXERCISES = (sizes, targets, table)
