"""Panels of lesson 07: which proposals the classifier learns from, and what each should become."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

import rcnn_edu
from rcnn_edu.boxes import box_iou, encode_boxes
from rcnn_edu.config import ProposalTargetConfig
from rcnn_edu.data.samples import SAMPLES
from rcnn_edu.draw import BACKGROUND, DONT_CARE, FOREGROUND, OBJECT, draw_boxes
from rcnn_edu.draw.layout import draw_title, faded, foot_legend, photo_and_plot, photo_row
from rcnn_edu.draw.payments import draw_payments
from rcnn_edu.draw.roi_scatter import draw_bands, draw_regions, overlap_axes, region_handles
from rcnn_edu.draw.target_histograms import NAMES, draw_histograms, histogram_axes
from rcnn_edu.draw.target_table import draw_row, target_tables
from rcnn_edu.errors import UserError
from rcnn_edu.explorers.base import Explorer, slider, switch
from rcnn_edu.explorers.photo import RunningPhoto, running_photo
from rcnn_edu.model import FasterRCNN
from rcnn_edu.proposal_layer import Proposals
from rcnn_edu.proposal_target import ProposalTargets, expand_targets, proposal_targets
from rcnn_edu.rpn_loss import smooth_l1

Objects = tuple[Tensor, Tensor]
"""Boxes `(G, 4)` in pixels of the resized photo, and labels `(G,)` in 1…C."""


def known_objects(photo: RunningPhoto, classes: Sequence[str]) -> Objects:
    """Those objects of the photo that are of one of the classes (names without background).

    Raises `UserError` when none is.
    """
    known = [index for index, label in enumerate(photo.labels) if label in classes]
    if not known:
        raise UserError(f"{photo.name}: no object of a class that the detector knows; there are: {', '.join(classes)}")
    return photo.boxes[known], torch.tensor([classes.index(photo.labels[index]) + 1 for index in known])


def training_proposals(photo: RunningPhoto, model: FasterRCNN) -> Proposals:
    """What the RPN proposes for the photo in training."""
    with torch.no_grad():
        trace = model.trace(photo.original)
        size, config = trace.image_size, model.config.proposals
        return model.propose(trace.rpn_class_scores, trace.coefficients, trace.anchors, size, config)


def three_proposals_picture(photo: RunningPhoto, proposals: Proposals, objects: Objects, index: int = 0) -> Explorer:
    """A still: one object, and near it a proposal of each kind."""
    config = ProposalTargetConfig()
    max_iou, matched = box_iou(proposals.boxes, objects[0]).max(dim=1)
    figure, (axes,) = photo_row(faded(photo.image), width=760, head=0, foot=0)
    draw_boxes(axes, objects[0][index : index + 1], OBJECT, ["object"], linewidth=3, fontsize=11)
    kinds = (
        ("foreground", config.fg_threshold, 1.01, 1.0, FOREGROUND),
        ("background", config.bg_threshold_lo, config.bg_threshold_hi, 0.35, BACKGROUND),
        ("not used", 0.0, config.bg_threshold_lo, 0.05, DONT_CARE),
    )

    def draw() -> str:
        said = []
        for kind, low, high, wanted, color in kinds:
            of_kind = (max_iou >= low) & (max_iou < high) & (matched == index)
            if not of_kind.any():
                said.append(f"none is {kind}")
                continue
            row = int(torch.where(of_kind, (max_iou - wanted).abs(), torch.inf).argmin())
            tag = f"{kind}, IoU {float(max_iou[row]):.2f}"
            draw_boxes(axes, proposals.boxes[row][None], color, [tag], linewidth=2.5, fontsize=11)
            said.append(tag)
        return f"Proposals near an object: {'; '.join(said)}."

    return Explorer(figure, draw)


def proposal_target_panel(photo: RunningPhoto, proposals: Proposals, objects: Objects, seed: int = 0) -> Explorer:
    """Every candidate by its IoU at the right, the sampled RoIs on the photo at the left; `seed` chooses the sample."""
    gt_boxes, gt_labels = objects
    # An object that is appended has no objectness; it is drawn as if it were certain.
    candidates = torch.cat([proposals.boxes, gt_boxes])
    objectness = torch.cat([proposals.scores, torch.ones(len(gt_boxes))])
    max_iou = box_iou(candidates, gt_boxes).amax(dim=1)
    figure, axes, plot = photo_and_plot(faded(photo.image), margins=(62, 8, 10, 44), foot=34)
    overlap_axes(plot)
    foot_legend(figure, region_handles())

    def draw(
        fg_threshold: float, bg_threshold_hi: float, bg_threshold_lo: float, batch_size: int, append_gt: bool
    ) -> str:
        config = ProposalTargetConfig(
            batch_size=batch_size,
            fg_threshold=fg_threshold,
            bg_threshold_hi=bg_threshold_hi,
            bg_threshold_lo=min(bg_threshold_lo, bg_threshold_hi),
            append_gt=append_gt,
        )
        generator = torch.Generator().manual_seed(seed)
        sampled = proposal_targets(proposals.boxes, gt_boxes, gt_labels, config, generator)
        count = len(proposals.boxes) + (len(gt_boxes) if append_gt else 0)
        times = _times(candidates, sampled.rois)[:count]
        foreground = max_iou[:count] >= fg_threshold
        hard = (max_iou[:count] < bg_threshold_hi) & (max_iou[:count] >= bg_threshold_lo)
        draw_bands(plot, config.bg_threshold_lo, bg_threshold_hi, fg_threshold)
        draw_regions(plot, max_iou[:count], objectness[:count], times, foreground)
        used = times > 0
        used_foreground, used_background = used & foreground, used & ~foreground
        draw_boxes(axes, candidates[:count][used_foreground], FOREGROUND, linewidth=0.9, alpha=0.5)
        draw_boxes(axes, gt_boxes, OBJECT, linewidth=2.4)  # last, for an appended object is a RoI of its own
        repeats = times[used_background]
        draw_payments(axes, candidates[:count][used_background], repeats, BACKGROUND, area=16.0, smallest=0.0)
        in_sample = int((sampled.labels > 0).sum())
        rest = len(sampled.rois) - in_sample
        draw_title(axes, f"sampled: {in_sample} foreground (outlined) + {rest} background (centres)")
        most = int(repeats.max()) if len(repeats) else 0
        return (
            f"{len(proposals.boxes)} proposals{f' and {len(gt_boxes)} objects' if append_gt else ''}: "
            f"{int(foreground.sum())} with IoU {fg_threshold:.2f} or more, {int(hard.sum())} in "
            f"[{config.bg_threshold_lo:.2f}, {bg_threshold_hi:.2f}), {int((~foreground & ~hard).sum())} in neither"
            f"{'' if hard.any() else f'; so background is all below {bg_threshold_hi:.2f}'}.\n"
            f"Sampled: {in_sample} foreground + {rest} background = {len(sampled.rois)}; "
            f"{len(repeats)} different backgrounds, none more than {'once' if most == 1 else f'{most} times'}."
        )

    default = ProposalTargetConfig()
    return Explorer(
        figure,
        draw,
        fg_threshold=slider("fg_threshold", default.fg_threshold, 0.5, 0.9, 0.05),
        bg_threshold_hi=slider("bg_threshold_hi", default.bg_threshold_hi, 0.4, 0.5, 0.05),
        bg_threshold_lo=slider("bg_threshold_lo", default.bg_threshold_lo, 0.0, 0.4, 0.05),
        batch_size=slider("batch_size", default.batch_size, 16, 256, 16),
        append_gt=switch("append_gt", default.append_gt),
    )


def expanded_targets_panel(
    photo: RunningPhoto, sampled: ProposalTargets, objects: Objects, classes: Sequence[str]
) -> Explorer:
    """The article's table: one row a RoI, four columns a class (names without background)."""
    names = ["background", *classes]
    targets, inside_weights = expand_targets(sampled.targets, sampled.labels, len(names))
    figure, axes, tables = target_tables(faded(photo.image), targets, inside_weights, names)

    def draw(row: int) -> str:
        label = int(sampled.labels[row])
        color = FOREGROUND if label else BACKGROUND
        matched = int(sampled.matched_gt[row])
        draw_boxes(axes, objects[0][matched][None], OBJECT, linewidth=2.2)
        draw_boxes(axes, sampled.rois[row][None], color, linewidth=2.2)
        draw_row(tables, row, label, color)
        draw_title(axes, f"row {row}: {names[label]}, IoU {float(sampled.max_iou[row]):.2f}")
        columns = slice(4 * label, 4 * label + 4)
        values, weights = targets[row, columns].tolist(), inside_weights[row, columns].tolist()
        lines = [
            f"{name}   column {4 * label + place:2}   target {value:5.2f}   weight {weight:.0f}"
            for place, (name, value, weight) in enumerate(zip(NAMES, values, weights, strict=True))
        ]
        axes.text(0, -0.05, "\n".join(lines), fontsize=9, family="monospace", va="top", transform=axes.transAxes)
        return (
            f"Row {row} of {len(targets)}: {names[label]}, IoU {float(sampled.max_iou[row]):.2f}. "
            f"{int(inside_weights[row].sum())} of {targets.shape[1]} weights are 1"
            + (
                f": columns {4 * label} to {4 * label + 3}, targets {', '.join(f'{v:.2f}' for v in values)}."
                if label
                else "."
            )
            + f"\nIn the whole table {int(inside_weights.sum())} of {inside_weights.numel():,} weights are 1."
        )

    return Explorer(figure, draw, row=slider("row", 0, 0, len(targets) - 1))


def foreground_pairs(
    model: FasterRCNN, photos: Sequence[str] = SAMPLES, config: ProposalTargetConfig = ProposalTargetConfig()
) -> tuple[Tensor, Tensor]:
    """The foreground proposals of several sample photos `(F, 4)` and the object of each `(F, 4)`."""
    rois, found = [], []
    for name in photos:
        photo = running_photo(name, config=model.config.preprocessing)
        gt_boxes, _ = known_objects(photo, model.classes)
        boxes = training_proposals(photo, model).boxes
        max_iou, matched = box_iou(boxes, gt_boxes).max(dim=1)
        foreground = max_iou >= config.fg_threshold
        rois.append(boxes[foreground])
        found.append(gt_boxes[matched[foreground]])
    return torch.cat(rois), torch.cat(found)


def normalisation_panel(rois: Tensor, objects: Tensor) -> Explorer:
    """The trap: the targets of foreground RoIs `(F, 4)` before and after they are divided by `target_std`."""
    targets = encode_boxes(rois, objects)
    figure, (before, after) = histogram_axes(["as encode_boxes gives them", "divided by target_std"])
    draw_histograms(before, targets)

    def draw(shift: float, size: float) -> str:
        divided = targets / torch.tensor([shift, shift, size, size])
        draw_histograms(after, divided)
        inside = 100 * float((divided.abs() < 1).float().mean())
        costs = [float(smooth_l1(values, 1.0).sum(dim=1).mean()) for values in (targets, divided)]
        return (
            f"{len(targets)} foreground proposals; std of tx, ty, tw, th: {_digits(targets.std(dim=0))}; divided by "
            f"{shift:.2f}, {shift:.2f}, {size:.2f}, {size:.2f}: {_digits(divided.std(dim=0))}.\n"
            f"A classifier that predicts 0 everywhere pays {costs[0]:.2f} a region before and {costs[1]:.2f} after; "
            f"{inside:.0f} % of the targets lie within ±1."
        )

    std = ProposalTargetConfig().target_std
    return Explorer(
        figure,
        draw,
        shift=slider("target_std of tx, ty", std[0], 0.05, 1.0, 0.05),
        size=slider("target_std of tw, th", std[2], 0.05, 1.0, 0.05),
    )


def _times(candidates: Tensor, rois: Tensor) -> Tensor:
    """`(N,)`: how often each candidate `(N, 4)` is among the RoIs `(R, 4)`."""
    return (candidates[:, None] == rois).all(dim=2).sum(dim=1)


def _digits(values: Tensor) -> str:
    return ", ".join(f"{value:.2f}" for value in values.tolist())


def panels() -> dict[str, Explorer]:
    """Every panel of this lesson, on the running photo."""
    model = rcnn_edu.load("voc-crop")
    photo = running_photo(config=model.config.preprocessing)
    objects = known_objects(photo, model.classes)
    proposals = training_proposals(photo, model)
    sampled = proposal_targets(proposals.boxes, *objects, generator=torch.Generator().manual_seed(0))
    return {
        "three_proposals_picture": three_proposals_picture(photo, proposals, objects),
        "proposal_target_panel": proposal_target_panel(photo, proposals, objects),
        "expanded_targets_panel": expanded_targets_panel(photo, sampled, objects, model.classes),
        "normalisation_panel": normalisation_panel(*foreground_pairs(model)),
    }
