"""Panels of lesson 09: one region through the tail, its boxes for every class, and what a wrong answer costs."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor

from rcnn_edu.boxes import box_iou, clip_boxes, decode_boxes
from rcnn_edu.checkpoint import load
from rcnn_edu.draw import BACKGROUND, DONT_CARE, FOREGROUND, KEPT, OBJECT, PROPOSAL, draw_boxes
from rcnn_edu.draw.bars import bar_rows, draw_bars
from rcnn_edu.draw.layout import draw_title, faded, foot_legend, photo_and_plot
from rcnn_edu.draw.number_table import draw_cells, table_frame
from rcnn_edu.draw.region_maps import draw_region_maps, region_figure
from rcnn_edu.explorers.base import Explorer, choice, slider
from rcnn_edu.explorers.photo import RunningPhoto, running_photo
from rcnn_edu.model import FasterRCNN
from rcnn_edu.rpn_loss import smooth_l1
from rcnn_edu.trace import Trace

MOST_PROBABLE = "the most probable"


def tail_panel(photo: RunningPhoto, model: FasterRCNN, trace: Trace) -> Explorer:
    """One region: its crop, what the tail makes of it, the vector, and the class probabilities."""
    with torch.no_grad():
        described = model.classifier.tail(trace.crops)
    names = ["background", *model.classes]
    figure, axes, maps, plot = region_figure(faded(photo.image))
    draw_boxes(axes, photo.boxes, OBJECT, linewidth=1.6)
    titles = (f"crop {_times(trace.crops)}", f"tail {_times(described)}", f"fc7 {_times(trace.fc7)}")
    for one, title in zip(maps, titles, strict=True):
        draw_title(one, title, fontsize=9.5)
    bar_rows(plot, names, 1.0)
    plot.set_xlabel("class probability", fontsize=10)
    foot_legend(
        figure,
        [
            Line2D([], [], color=OBJECT, linewidth=2.5, label="object"),
            Line2D([], [], color=PROPOSAL, linewidth=2.5, label="region of interest"),
            Line2D([], [], color=KEPT, linewidth=6, label="most probable class"),
        ],
    )

    def draw(roi: int) -> str:
        scores, best = trace.scores[roi], int(trace.scores[roi].argmax())
        draw_boxes(axes, trace.rois[roi : roi + 1], PROPOSAL, linewidth=2.6)
        draw_title(axes, f"region {roi} of 0 to {len(trace.rois) - 1}, in the order of their objectness")
        draw_region_maps(maps, trace.crops[roi], described[roi], trace.fc7[roi])
        texts = [f"{score:.2f}" if score >= 0.05 else "" for score in scores.tolist()]
        draw_bars(plot, scores.tolist(), [KEPT if row == best else DONT_CARE for row in range(len(names))], texts)
        order = scores.argsort(descending=True)[:3].tolist()
        return (
            f"Region {roi}: a crop of {_times(trace.crops)} numbers, {_times(described)} after the tail, "
            f"{_times(trace.fc7)} after the mean over space. Class probabilities: "
            + ", ".join(f"{names[row]} {float(scores[row]):.2f}" for row in order)
            + "."
        )

    return Explorer(figure, draw, roi=slider("roi", _telling(photo, model, trace), 0, len(trace.rois) - 1))


def class_boxes_panel(photo: RunningPhoto, model: FasterRCNN, trace: Trace) -> Explorer:
    """One region's boxes, one for each class, before and after regression; and how well each fits the object."""
    names = ["background", *model.classes]
    boxes = boxes_per_class(model, trace)
    before, matched = box_iou(trace.rois, photo.boxes).max(dim=1)
    figure, axes, plot = photo_and_plot(faded(photo.image), photo_share=0.6, margins=(96, 0, 14, 40), foot=34)
    bar_rows(plot, names, 1.0)
    plot.set_xlabel("IoU of this class's box with the object", fontsize=10)
    handles = [
        Line2D([], [], color=OBJECT, linewidth=2.5, label="object"),
        Line2D([], [], color=PROPOSAL, linewidth=2.5, linestyle="--", label="before: region"),
        Line2D([], [], color="black", linewidth=0.8, label="after: a box for each class"),
        Line2D([], [], color=KEPT, linewidth=2.5, label="that of the chosen class"),
    ]
    foot_legend(figure, handles)

    def draw(roi: int, box_of: str) -> str:
        label = 1 + int(trace.scores[roi, 1:].argmax()) if box_of == MOST_PROBABLE else names.index(box_of)
        target = photo.boxes[matched[roi]][None]
        after = box_iou(boxes[roi], target)[:, 0]
        draw_boxes(axes, boxes[roi], "black", linewidth=0.6, alpha=0.5)
        draw_boxes(axes, target, OBJECT, linewidth=2.4)
        _dashed(axes, trace.rois[roi : roi + 1], PROPOSAL)
        draw_boxes(axes, boxes[roi, label][None], KEPT, linewidth=2.6)
        draw_title(axes, f"region {roi}: IoU {float(before[roi]):.2f} before, {float(after[label]):.2f} after")
        start = float(before[roi])
        plot.plot([start, start], [-0.5, len(names) - 0.5], color=PROPOSAL, linestyle="--", scalex=False, scaley=False)
        texts = [f"{value:.2f}" if row == label else "" for row, value in enumerate(after.tolist())]
        draw_bars(plot, after.tolist(), [KEPT if row == label else DONT_CARE for row in range(len(names))], texts)
        name, chance = names[label], float(trace.scores[roi, label])
        return (
            f"Region {roi} has an IoU of {start:.2f} with the {photo.labels[int(matched[roi])]}. "
            f"The box of {name} (probability {chance:.2f}) has {float(after[label]):.2f}; the boxes of all "
            f"{len(names) - 1} classes have {float(after[1:].mean()):.2f} on average, that of background "
            f"{float(after[0]):.2f}."
        )

    return Explorer(
        figure,
        draw,
        roi=slider("roi", _telling(photo, model, trace), 0, len(trace.rois) - 1),
        box_of=choice("box of", MOST_PROBABLE, [MOST_PROBABLE, *names]),
    )


def two_regressions_panel(photo: RunningPhoto, model: FasterRCNN, trace: Trace) -> Explorer:
    """Anchor → proposal by the RPN's coefficients → final box by the classifier's."""
    std = torch.tensor(model.config.proposal_target.target_std)
    decoded = clip_boxes(decode_boxes(trace.anchors, trace.coefficients), trace.image_size)
    source = torch.cdist(trace.rois, decoded).argmin(dim=1)  # the anchor that a proposal came from
    label = 1 + trace.scores[:, 1:].argmax(dim=1)
    second = trace.box_coefficients.unflatten(1, (-1, 4))[torch.arange(len(label)), label] * std
    final = boxes_per_class(model, trace)[torch.arange(len(label)), label]
    stages = [trace.anchors[source], trace.rois, final]
    matched = box_iou(trace.rois, photo.boxes).argmax(dim=1)
    overlap = torch.stack([box_iou(boxes, photo.boxes)[torch.arange(len(label)), matched] for boxes in stages], dim=1)

    figure, axes, plot = photo_and_plot(faded(photo.image), photo_share=0.62, margins=(80, 90, 14, 130), foot=34)
    bar_rows(plot, ["anchor", "proposal", "final box"], 1.0)
    plot.set_xlabel("IoU with the object", fontsize=10)
    colors = ("black", PROPOSAL, KEPT)
    names = ("anchor", "proposal: the RPN's coefficients", "final box: the classifier's")
    handles = [Line2D([], [], color=OBJECT, linewidth=2.5, label="object")]
    handles += [
        Line2D([], [], color=color, linewidth=2.5, label=name) for color, name in zip(colors, names, strict=True)
    ]
    foot_legend(figure, handles)

    def draw(roi: int) -> str:
        target = int(matched[roi])
        draw_boxes(axes, photo.boxes[target][None], OBJECT, linewidth=2.4)
        for boxes, color in zip(stages, colors, strict=True):
            draw_boxes(axes, boxes[roi][None], color, linewidth=2.4 if color != "black" else 1.8)
        name = model.classes[int(label[roi]) - 1]
        values = overlap[roi].tolist()
        draw_title(axes, f"region {roi}: {name} {float(trace.scores[roi, label[roi]]):.2f}")
        draw_bars(plot, values, ["#555555", PROPOSAL, KEPT], [f"{value:.2f}" for value in values])
        lines = [_numbers(trace.coefficients[source[roi]]), _numbers(second[roi])]
        return (
            f"Region {roi} and the {photo.labels[target]}: IoU {values[0]:.2f} → {values[1]:.2f} → {values[2]:.2f} "
            f"(anchor → proposal → final box).\nThe RPN's coefficients, the same for every class: {lines[0]}.\n"
            f"The classifier's, those of {name}: {lines[1]}."
        )

    return Explorer(figure, draw, roi=slider("roi", _telling(photo, model, trace), 0, len(trace.rois) - 1))


def boxes_per_class(model: FasterRCNN, trace: Trace) -> Tensor:
    """`(R, C, 4)`: each region's box by the coefficients of each class, background's included, clipped."""
    std = torch.tensor(model.config.proposal_target.target_std)
    coefficients = trace.box_coefficients.detach().unflatten(1, (-1, 4)) * std
    return clip_boxes(decode_boxes(trace.rois, coefficients.flatten(1)), trace.image_size).unflatten(1, (-1, 4))


def classifier_loss_panel(photo: RunningPhoto, model: FasterRCNN, trace: Trace) -> Explorer:
    """What one sampled region costs: the mask over its coefficients, and the two terms of the loss.

    trace: with a target, so that it has `proposal_targets`. Raises `ValueError` for one without.
    """
    if trace.proposal_targets is None or trace.gt_boxes is None:
        raise ValueError("the trace has no targets; give model.trace the objects too")
    rois, labels, targets, _, _ = trace.proposal_targets
    coefficients = trace.box_coefficients.detach().unflatten(1, (-1, 4))
    cross_entropy = -trace.scores.log()
    names = ["background", *model.classes]
    figure, axes, table = photo_and_plot(faded(photo.image), photo_share=0.58, margins=(90, 12, 10, 0), foot=34)
    table_frame(table, [*names, "", "target", "difference", "smooth L1"], ["tx", "ty", "tw", "th"], fontsize=8)
    draw_boxes(axes, trace.gt_boxes, OBJECT, linewidth=1.6)
    handles = [
        Line2D([], [], color=OBJECT, linewidth=2.5, label="object"),
        Line2D([], [], color=FOREGROUND, linewidth=2.5, label="foreground region, and what it pays for"),
        Line2D([], [], color=BACKGROUND, linewidth=2.5, label="background region"),
    ]
    foot_legend(figure, handles)

    def draw(roi: int) -> str:
        label = int(labels[roi])
        color = FOREGROUND if label else BACKGROUND
        draw_boxes(axes, rois[roi : roi + 1], color, linewidth=2.6)
        draw_title(axes, f"region {roi} of {len(rois)}: {names[label]}")
        fills, texts = [["#EEEEEE"] * 4 for _ in names], [[""] * 4 for _ in names]
        cost = torch.zeros(4)
        below = [[""] * 4] * 3
        if label:
            own = coefficients[roi, label]
            cost = smooth_l1(own - targets[roi], model.config.classifier_sigma)
            fills[label], texts[label] = [FOREGROUND] * 4, _written(own)
            below = [_written(targets[roi]), _written(own - targets[roi]), _written(cost)]
        draw_cells(table, [*texts, [""] * 4, *below], [*fills, *[["white"] * 4] * 4], fontsize=8)
        return (
            f"Region {roi} should be called {names[label]}; the classifier gives that a probability of "
            f"{float(trace.scores[roi, label]):.2f} and pays -log of it, {float(cross_entropy[roi, label]):.2f}. "
            f"For its box it pays {float(cost.sum()):.2f}: "
            + (f"the four of {names[label]} count" if label else "a background region has no box to find")
            + f", {f'the other {4 * len(names) - 4}' if label else f'all {4 * len(names)}'} coefficients cost nothing."
        )

    return Explorer(figure, draw, roi=slider("roi", 0, 0, len(rois) - 1))


def known_objects(photo: RunningPhoto, model: FasterRCNN) -> dict[str, Tensor]:
    """A target for `model` of those objects of the photo that it has a class for, in the original's pixels."""
    rows = [row for row, name in enumerate(photo.labels) if name in model.classes]
    labels = [1 + model.classes.index(photo.labels[row]) for row in rows]
    return {"boxes": photo.original_boxes[rows], "labels": torch.tensor(labels, dtype=torch.int64)}


def _telling(photo: RunningPhoto, model: FasterRCNN, trace: Trace) -> int:
    """The region that regression improves most, of those whose class is likely."""
    rows, label = torch.arange(len(trace.rois)), 1 + trace.scores[:, 1:].argmax(dim=1)
    before, matched = box_iou(trace.rois, photo.boxes).max(dim=1)
    after = box_iou(boxes_per_class(model, trace)[rows, label], photo.boxes)[rows, matched]
    return int(torch.where(trace.scores[rows, label] >= 0.5, after - before, -1.0).argmax())


def _times(batch: Tensor) -> str:
    return " × ".join(map(str, batch.shape[1:]))


def _numbers(coefficients: Tensor) -> str:
    named = zip(("tx", "ty", "tw", "th"), coefficients.tolist(), strict=True)
    return ", ".join(f"{name} {round(value, 2) + 0.0:+.2f}" for name, value in named)


def _written(values: Tensor) -> list[str]:
    return [f"{value:.2f}" for value in values.tolist()]


def _dashed(axes: Axes, boxes: Tensor, color: str) -> None:
    draw_boxes(axes, boxes, color, linewidth=2.4)[-1].set(linestyle=(0, (4, 2)))


def panels() -> dict[str, Explorer]:
    """Every panel of this lesson, on the running photo."""
    model = load("voc-crop")
    photo = running_photo(config=model.config.preprocessing)
    model.generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        trace, training = model.trace(photo.original), model.trace(photo.original, known_objects(photo, model))
    return {
        "tail_panel": tail_panel(photo, model, trace),
        "class_boxes_panel": class_boxes_panel(photo, model, trace),
        "two_regressions_panel": two_regressions_panel(photo, model, trace),
        "classifier_loss_panel": classifier_loss_panel(photo, model, training),
    }
