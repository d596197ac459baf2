"""Panel of lesson 05: which anchors the RPN learns from, before and after sampling."""

from __future__ import annotations

import torch

from rcnn_edu.anchor_target import anchor_targets, best_of_an_object, inside_image, label_anchors
from rcnn_edu.anchors import grid_anchors
from rcnn_edu.boxes import box_iou
from rcnn_edu.config import AnchorTargetConfig
from rcnn_edu.draw import BACKGROUND, DONT_CARE, FOREGROUND, OBJECT, draw_boxes, draw_image
from rcnn_edu.draw.anchor_labels import anchor_label_handles, draw_anchor_labels, draw_best_anchors, draw_sampled_labels
from rcnn_edu.draw.bars import bar_rows, draw_bars
from rcnn_edu.draw.layout import draw_title, faded, foot_legend, photo_and_plot, photo_row
from rcnn_edu.explorers.base import Explorer, slider, switch
from rcnn_edu.explorers.photo import RunningPhoto, running_photo


def anchor_target_panel(photo: RunningPhoto, seed: int = 0) -> Explorer:
    """All labels at the left, those that enter the loss at the right; `seed` chooses the sample."""
    anchors = grid_anchors(photo.feature_size)
    inside = inside_image(anchors, photo.image_size)
    iou = torch.where(inside[:, None], box_iou(anchors, photo.boxes), 0.0)
    type_a = best_of_an_object(iou, inside)

    figure, (before, after) = photo_row(faded(photo.image), count=2)
    draw_image(before, faded(photo.image, 0.7))  # paler, for else the grey of don't care is lost in the photo's own
    for axes in (before, after):
        draw_boxes(axes, photo.boxes, OBJECT, linewidth=2.2)
        draw_best_anchors(axes, anchors, iou)
    foot_legend(figure, anchor_label_handles())

    def draw(positive_overlap: float, negative_overlap: float, batch_size: int, fg_fraction: float) -> str:
        config = AnchorTargetConfig(positive_overlap, negative_overlap, batch_size, fg_fraction)
        labels, max_iou, _ = label_anchors(anchors, photo.boxes, photo.image_size, config)
        generator = torch.Generator().manual_seed(seed)
        sampled = anchor_targets(anchors, photo.boxes, photo.image_size, config, generator).labels

        above = inside & (max_iou >= positive_overlap)
        foreground, background = int((labels == 1).sum()), int((labels == 0).sum())
        in_loss, in_loss_background = int((sampled == 1).sum()), int((sampled == 0).sum())
        draw_anchor_labels(before, anchors, labels, type_a, inside, photo.feature_size)
        draw_title(before, f"before sampling: {foreground} foreground, {background:,} background")
        draw_sampled_labels(after, anchors, sampled, type_a)
        draw_title(after, f"after sampling: {in_loss} foreground, {in_loss_background} background")
        return (
            f"{len(anchors):,} anchors, {int(inside.sum()):,} of them inside the photo: {foreground} foreground, "
            f"{background:,} background, {int(inside.sum()) - foreground - background:,} don't care.\n"
            f"Foreground: {int(type_a.sum())} are the best of an object (type A), "
            f"{int(above.sum())} have an IoU of {positive_overlap:.2f} or more (type B); "
            f"{int((type_a & above).sum())} are both.\n"
            f"Sampled: {in_loss} foreground + {in_loss_background} background = {in_loss + in_loss_background} "
            f"of {batch_size} enter the loss."
        )

    default = AnchorTargetConfig()
    return Explorer(
        figure,
        draw,
        positive_overlap=slider("positive_overlap", default.positive_overlap, 0.4, 0.9, 0.05),
        negative_overlap=slider("negative_overlap", default.negative_overlap, 0.05, 0.4, 0.05),
        batch_size=slider("batch_size", default.batch_size, 16, 512, 16),
        fg_fraction=slider("fg_fraction", default.fg_fraction, 0.0, 1.0, 0.05),
    )


def three_anchors_picture(photo: RunningPhoto) -> Explorer:
    """A still: the object that some anchor fits best, and near it an anchor of each kind."""
    anchors = grid_anchors(photo.feature_size)
    labels, max_iou, matched = label_anchors(anchors, photo.boxes, photo.image_size)
    inside = inside_image(anchors, photo.image_size)
    index = int(matched[torch.where(inside, max_iou, 0.0).argmax()])
    near = inside & (matched == index)
    kinds = (("foreground", 1, 1.0, FOREGROUND), ("don't care", -1, 0.5, DONT_CARE), ("background", 0, 0.2, BACKGROUND))
    figure, (axes,) = photo_row(faded(photo.image), width=760, head=0, foot=0)
    name = photo.labels[index]
    draw_boxes(axes, photo.boxes[index : index + 1], OBJECT, [name], linewidth=3, fontsize=11)

    def draw() -> str:
        caption = f"Anchors near the {name}:"
        for kind, label, wanted, color in kinds:
            of_kind = near & (labels == label)
            if not of_kind.any():
                caption += f" none is {kind};"
                continue
            row = int(torch.where(of_kind, (max_iou - wanted).abs(), torch.inf).argmin())
            tag = f"{kind}, IoU {float(max_iou[row]):.2f}"
            draw_boxes(axes, anchors[row : row + 1], color, [tag], linewidth=2.5, fontsize=11)
            caption += f" {tag};"
        return caption[:-1] + "."

    return Explorer(figure, draw)


def best_anchor_panel(photo: RunningPhoto) -> Explorer:
    """The trap: how many foreground anchors each object is left with when the best-anchor rule is dropped."""
    anchors = grid_anchors(photo.feature_size)
    inside = inside_image(anchors, photo.image_size)
    best_iou = box_iou(anchors[inside], photo.boxes).amax(dim=0)
    _, max_iou, matched = label_anchors(anchors, photo.boxes, photo.image_size)
    type_a = best_of_an_object(box_iou(anchors, photo.boxes), inside)

    figure, axes, plot = photo_and_plot(faded(photo.image), margins=(100, 10, 10, 44))
    numbers = [str(number) for number in range(1, len(photo.boxes) + 1)]
    draw_boxes(axes, photo.boxes, OBJECT, numbers, linewidth=2.2)
    most = 100
    bar_rows(plot, [f"{number} {name}" for number, name in zip(numbers, photo.labels, strict=True)], most)
    plot.set_xlabel("foreground anchors that learn this object", fontsize=10)

    def draw(positive_overlap: float, best_anchor_rule: bool) -> str:
        foreground = inside & (max_iou >= positive_overlap)
        if best_anchor_rule:
            foreground |= type_a
        counts = torch.bincount(matched[foreground], minlength=len(photo.boxes)).tolist()
        texts = [f"{count}  (best IoU {iou:.2f})" for count, iou in zip(counts, best_iou.tolist(), strict=True)]
        draw_bars(plot, [min(count, most) for count in counts], [FOREGROUND] * len(counts), texts)
        without = [index for index, count in enumerate(counts) if count == 0]
        draw_boxes(axes, photo.boxes[without], BACKGROUND, linewidth=2.2)
        draw_title(axes, f"red: {len(without)} of {len(counts)} objects that no foreground anchor learns")
        names = ", ".join(f"{numbers[index]} {photo.labels[index]}" for index in without)
        rule = "with" if best_anchor_rule else "without"
        return (
            f"positive_overlap {positive_overlap:.2f}, {rule} the best-anchor rule: "
            f"{int(foreground.sum())} foreground anchors.\n"
            f"{len(without)} of {len(counts)} objects have none{': ' + names if names else ''}."
        )

    return Explorer(
        figure,
        draw,
        positive_overlap=slider("positive_overlap", AnchorTargetConfig().positive_overlap, 0.3, 0.9, 0.05),
        best_anchor_rule=switch("best-anchor rule (type A)", True),
    )


def panels() -> dict[str, Explorer]:
    """Every panel of this lesson, on the running photo."""
    photo = running_photo()
    return {
        "three_anchors_picture": three_anchors_picture(photo),
        "anchor_target_panel": anchor_target_panel(photo),
        "best_anchor_panel": best_anchor_panel(photo),
    }
