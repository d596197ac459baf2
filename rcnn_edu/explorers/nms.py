"""Panels of lesson 10: suppression one decision at a time, inference from anchors to detections, and the trap."""

from __future__ import annotations

import torch
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from rcnn_edu.boxes import box_iou, clip_boxes, decode_boxes
from rcnn_edu.checkpoint import load
from rcnn_edu.classifier import Detections, detections
from rcnn_edu.config import DetectionConfig
from rcnn_edu.draw import DONT_CARE, KEPT, OBJECT, PROPOSAL, draw_boxes
from rcnn_edu.draw.bars import bar_rows, draw_bars
from rcnn_edu.draw.layout import draw_title, faded, foot_legend, photo_and_plot, photo_row
from rcnn_edu.draw.suppression import Moment, decision_axes, draw_decision, draw_moment, suppression_handles
from rcnn_edu.explorers.base import Explorer, choice, slider, steps
from rcnn_edu.explorers.photo import RunningPhoto, running_photo
from rcnn_edu.model import FasterRCNN
from rcnn_edu.nms import batched_nms, nms, nms_steps
from rcnn_edu.trace import Trace

MOST_STEPS = 24


def class_boxes(model: FasterRCNN, trace: Trace, label: int) -> tuple[Tensor, Tensor]:
    """One class's box and probability for each RoI, before any is left out: `(R, 4)` in resized pixels, `(R,)`."""
    std = trace.box_coefficients.new_tensor(model.config.proposal_target.target_std)
    own = trace.box_coefficients.unflatten(1, (-1, 4))[:, label] * std
    return clip_boxes(decode_boxes(trace.rois, own), trace.image_size), trace.scores[:, label]


def final_boxes(model: FasterRCNN, trace: Trace, config: DetectionConfig) -> Detections:
    """The detections of a traced photo with other thresholds, in pixels of the resized photo."""
    std = model.config.proposal_target.target_std
    return detections(trace.class_scores, trace.box_coefficients, trace.rois, trace.image_size, config, std)


def labels_found(trace: Trace, score_threshold: float) -> list[int]:
    """Classes 1…C−1 with a box above the threshold, the surest first; the surest of all if there is none."""
    best = trace.scores[:, 1:].amax(dim=0)
    order = best.argsort(descending=True)
    count = max(1, int((best > score_threshold).sum()))
    return (order[:count] + 1).tolist()


def crowd_picture(photo: RunningPhoto, model: FasterRCNN, trace: Trace) -> Explorer:
    """A still: what the classifier says of the surest class, before and after suppression."""
    config = model.config.detection
    label = labels_found(trace, config.score_threshold)[0]
    boxes, scores = class_boxes(model, trace, label)
    above = scores > config.score_threshold
    boxes, scores = boxes[above], scores[above]
    kept = nms(boxes, scores, config.nms_threshold)
    figure, (before, after) = photo_row(faded(photo.image), count=2)
    name = model.classes[label - 1]
    objects = photo.boxes[torch.tensor([one == name for one in photo.labels], dtype=torch.bool)]
    draw_boxes(before, boxes, PROPOSAL, linewidth=1.0)
    for axes in (before, after):
        draw_boxes(axes, objects, OBJECT, linewidth=2.5)
    draw_boxes(after, boxes[kept], KEPT, [f"{score:.2f}" for score in scores[kept].tolist()], linewidth=2.5)
    handles = ((PROPOSAL, "a region's box"), (OBJECT, "object"), (KEPT, "kept, with its score"))
    foot_legend(figure, [Patch(color=color, label=text) for color, text in handles])

    def draw() -> str:
        draw_title(before, f"{len(boxes)} of {len(above)} regions say {name}")
        draw_title(after, f"after suppression: {len(kept)}")
        return (
            f"{len(boxes)} of {len(above)} regions say {name} with a probability above {config.score_threshold:g}.\n"
            f"Suppression at an IoU of {config.nms_threshold:g} keeps {len(kept)} of their boxes."
        )

    return Explorer(figure, draw)


def nms_panel(photo: RunningPhoto, model: FasterRCNN, trace: Trace) -> Explorer:
    """The boxes of one class, one decision of suppression a step."""
    config = model.config.detection
    labels = labels_found(trace, config.score_threshold)
    of_class = {label: class_boxes(model, trace, label) for label in labels}
    figure, axes, plot = photo_and_plot(faded(photo.image), margins=(54, 10, 16, 46), foot=34)
    decision_axes(plot)
    foot_legend(figure, suppression_handles())

    def draw(step: int, nms_threshold: float, score_threshold: float, label: int) -> str:
        boxes, scores = of_class[label]
        above = scores > score_threshold
        boxes, scores = boxes[above], scores[above]
        decisions = list(nms_steps(boxes, scores, nms_threshold))
        now = decisions[min(step, len(decisions)) - 1] if step and decisions else None
        kept = torch.tensor([one.kept for one in decisions[:step]], dtype=torch.int64)
        moment = Moment(kept, kept[:0], torch.arange(len(boxes)))
        if now is not None:
            moment = Moment(kept, now.suppressed, now.remaining)
        draw_moment(axes, boxes, scores, moment)
        draw_decision(plot, boxes, scores, moment, nms_threshold, score_threshold)
        draw_title(axes, f"{model.classes[label - 1]}: {len(kept)} of {len(decisions)} decisions made")
        draw_title(plot, f"right of {nms_threshold:.2f}: suppressed")
        ends = (
            f"In the end {len(decisions)} of {len(boxes)} boxes above a score of {score_threshold:.2f} are kept, "
            f"with nms_threshold {nms_threshold:.2f}."
        )
        if now is None:
            return f"{len(boxes)} boxes are undecided. The best of them is kept next.\n{ends}"
        return (
            f"Decision {len(kept)}: keep the best that is left, score {float(scores[now.kept]):.2f}. It suppresses "
            f"{len(now.suppressed)} boxes; {len(now.remaining)} remain undecided.\n{ends}"
        )

    return Explorer(
        figure,
        draw,
        step=steps("step", MOST_STEPS, value=1, milliseconds=900),
        nms_threshold=slider("nms_threshold", config.nms_threshold, 0.0, 1.0, 0.05),
        score_threshold=slider("score_threshold", config.score_threshold, 0.05, 0.95, 0.05),
        label=choice("class", labels[0], [(model.classes[label - 1], label) for label in labels]),
    )


def detections_panel(photo: RunningPhoto, model: FasterRCNN, trace: Trace) -> Explorer:
    """Inference from end to end: how many boxes each stage leaves, and the final detections."""
    figure, axes, plot = photo_and_plot(faded(photo.image), margins=(128, 10, 14, 10), foot=34)
    draw_boxes(axes, photo.boxes, OBJECT, linewidth=1.6)
    stages = ("anchors", "proposals", "class boxes", "above the score", "after NMS", "detections")
    bar_rows(plot, stages, 6.0)  # powers of ten
    plot.set_xticks([])
    foot_legend(
        figure, [Patch(color=OBJECT, label="object"), Patch(color=KEPT, label="detection, with class and score")]
    )
    regions, classes = len(trace.rois), len(model.classes)

    def draw(score_threshold: float, nms_threshold: float, max_detections: int) -> str:
        every = final_boxes(model, trace, DetectionConfig(score_threshold, nms_threshold, regions * classes))
        found = final_boxes(model, trace, DetectionConfig(score_threshold, nms_threshold, max_detections))
        above = int((trace.scores[:, 1:] > score_threshold).sum())
        counts = [len(trace.anchors), regions, regions * classes, above, len(every.scores), len(found.scores)]
        colors = [DONT_CARE, PROPOSAL, PROPOSAL, PROPOSAL, KEPT, KEPT]
        lengths = torch.tensor(counts).clamp(min=1).log10().tolist()
        draw_bars(plot, lengths, colors, [f"{count:,}" for count in counts])
        draw_title(plot, "boxes left (logarithmic bars)")
        names = [model.classes[int(label) - 1] for label in found.labels]
        tags = [f"{name} {score:.2f}" for name, score in zip(names, found.scores.tolist(), strict=True)]
        shown = 8  # more tags than this would hide the photo
        draw_boxes(axes, found.boxes[shown:], KEPT, linewidth=1.2)
        draw_boxes(axes, found.boxes[:shown], KEPT, tags[:shown], linewidth=2.4)
        draw_title(axes, f"{len(tags)} detections")
        return (
            f"{counts[0]:,} anchors, {regions} proposals, {regions} x {classes} class boxes: {above} score above "
            f"{score_threshold:.2f},\n{counts[4]} left after suppression within each class at "
            f"{nms_threshold:.2f}, {counts[5]} returned.\nBest first: {', '.join(tags[:5]) or 'none'}."
        )

    config = model.config.detection
    return Explorer(
        figure,
        draw,
        score_threshold=slider("score_threshold", config.score_threshold, 0.05, 0.95, 0.05),
        nms_threshold=slider("nms_threshold", config.nms_threshold, 0.0, 1.0, 0.05),
        max_detections=slider("max_detections", config.max_detections, 1, 100, 1),
    )


def across_classes_panel(photo: RunningPhoto) -> Explorer:
    """The trap: every object found with its own box, the larger the surer; suppressed within and across classes."""
    area = (photo.boxes[:, 2:] - photo.boxes[:, :2]).prod(dim=1)
    scores = 0.9 + 0.09 * area / area.max()
    classes = torch.tensor([sorted(set(photo.labels)).index(name) for name in photo.labels])
    largest = float(box_iou(photo.boxes, photo.boxes).fill_diagonal_(0).max())
    tags = [f"{name} {score:.2f}" for name, score in zip(photo.labels, scores.tolist(), strict=True)]
    figure, both = photo_row(faded(photo.image), count=2, width=760)
    handles = [
        Line2D([], [], color=KEPT, linewidth=3, label="kept"),
        Line2D([], [], color=DONT_CARE, linewidth=2, linestyle=(0, (3, 1.5)), label="suppressed"),
    ]
    foot_legend(figure, handles)

    def draw(nms_threshold: float) -> str:
        told = [f"Two objects overlap with an IoU of {largest:.2f}; nms_threshold is {nms_threshold:.2f}."]
        within = batched_nms(photo.boxes, scores, classes, nms_threshold)
        across = nms(photo.boxes, scores, nms_threshold)
        for axes, how, kept in zip(both, ("within each class", "across classes"), (within, across), strict=True):
            rows = kept.tolist()
            lost = [row for row in range(len(tags)) if row not in rows]
            artists = draw_boxes(axes, photo.boxes[lost], DONT_CARE, [tags[row] for row in lost], linewidth=2.0)
            if lost:
                artists[1].set(linestyle=(0, (3, 1.5)))
            draw_boxes(axes, photo.boxes[kept], KEPT, [tags[row] for row in rows], linewidth=3.0)
            draw_title(axes, f"{how}, above {nms_threshold:.2f}: {len(rows)} of {len(tags)} kept")
            gone = f", lost: {', '.join(photo.labels[row] for row in lost)}" if lost else ""
            told.append(f"Suppression {how}: {len(rows)} of {len(tags)} perfect detections are kept{gone}.")
        return "\n".join(told)

    return Explorer(
        figure, draw, nms_threshold=slider("nms_threshold", DetectionConfig().nms_threshold, 0.0, 1.0, 0.05)
    )


def panels() -> dict[str, Explorer]:
    """Every panel of this lesson, on the running photo; the trap's needs one whose objects overlap."""
    model = load("voc-crop")
    photo = running_photo(config=model.config.preprocessing)
    with torch.no_grad():
        trace = model.trace(photo.original)
    return {
        "crowd_picture": crowd_picture(photo, model, trace),
        "nms_panel": nms_panel(photo, model, trace),
        "detections_panel": detections_panel(photo, model, trace),
        "across_classes_panel": across_classes_panel(running_photo("hopper")),
    }
