"""Panels of lesson 04: what the RPN says at every anchor, and which boxes are left of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.colors import to_hex, to_rgba
from matplotlib.lines import Line2D
from torch import Tensor

from rcnn_edu.backbone import feature_size
from rcnn_edu.boxes import box_iou, clip_boxes, decode_boxes
from rcnn_edu.checkpoint import load
from rcnn_edu.config import ProposalConfig
from rcnn_edu.draw import BACKGROUND, KEPT, OBJECT, PROPOSAL, draw_boxes
from rcnn_edu.draw.bars import bar_rows, draw_bars
from rcnn_edu.draw.heat import draw_heat
from rcnn_edu.draw.layout import draw_title, faded, foot_legend, photo_and_plot, photo_row
from rcnn_edu.draw.number_table import draw_cells, table_frame
from rcnn_edu.draw.photo_grid import photo_grid
from rcnn_edu.draw.rpn_diagram import rpn_diagram
from rcnn_edu.explorers.base import Explorer, slider
from rcnn_edu.explorers.photo import RunningPhoto, running_photo
from rcnn_edu.model import FasterRCNN
from rcnn_edu.nms import nms
from rcnn_edu.proposal_layer import propose
from rcnn_edu.trace import Trace

INFERENCE = ProposalConfig(pre_nms_top_n=6000, post_nms_top_n=300)
"""The article's numbers in inference."""

FEW = 24
"""Boxes of thousands that are drawn: more would hide the photo."""


def rpn_picture(model: FasterRCNN, trace: Trace) -> Explorer:
    """A still: the RPN's three convolutions, with the maps that they make of this photo."""
    with torch.no_grad():
        hidden = torch.relu(model.rpn.rpn_net(trace.features[None]))[0]
    rows, columns = trace.features.shape[1:]
    by_cell = trace.coefficients.abs().amax(dim=1).reshape(rows, columns, -1)
    objectness = _maps(trace.objectness, trace)
    figure, _ = rpn_diagram(
        trace.features.detach(), hidden, objectness.detach(), (by_cell.amax(dim=2) / by_cell.max()).detach()
    )
    anchors = len(objectness)
    weights = [sum(p.numel() for p in layer.parameters()) for layer in model.rpn.children()]

    def draw() -> str:
        return (
            f"The RPN on this photo: features of {len(trace.features)} channels on {rows} × {columns} cells; a 3×3 "
            f"convolution to {len(hidden)} channels; then side by side two 1×1 convolutions, one to 2 · {anchors} "
            f"scores and one to 4 · {anchors} coefficients in every cell. "
            f"Weights: {weights[0]:,} + {weights[1]:,} + {weights[2]:,}."
        )

    return Explorer(figure, draw)


def objectness_panel(photo: RunningPhoto, model: FasterRCNN, trace: Trace) -> Explorer:
    """The score of one anchor shape at every cell; and where it is best, the anchor and what the RPN makes of it."""
    maps = _maps(trace.objectness, trace).detach()
    anchors, decoded = trace.anchors, decode_boxes(trace.anchors, trace.coefficients).detach()
    sizes = (model.base_anchors[:, 2:] - model.base_anchors[:, :2]).tolist()
    count, rows, columns = maps.shape
    stride = model.config.anchors.stride

    figure, (left, right) = photo_row(faded(photo.image), count=2)
    for axes in (left, right):
        draw_boxes(axes, photo.boxes, OBJECT, linewidth=1.6)
    foot_legend(
        figure,
        [
            Line2D([], [], color=OBJECT, linewidth=2.5, label="object"),
            Line2D([], [], color="black", linewidth=1.8, linestyle="--", label="anchor with the best score"),
            Line2D([], [], color=PROPOSAL, linewidth=2.5, label="moved by its four coefficients"),
        ],
    )

    def draw(anchor: int) -> str:
        scores = maps[anchor]
        width, height = sizes[anchor]
        cell = int(scores.argmax())
        row = cell * count + anchor
        draw_heat(left, scores, (0, columns * stride, rows * stride, 0), PROPOSAL)
        draw_title(left, f"objectness of the {width:.0f} × {height:.0f} anchor in {rows} × {columns} cells")
        draw_title(right, f"the best of them: objectness {float(scores.max()):.2f}")
        outline = draw_boxes(right, anchors[row : row + 1], "black", linewidth=1.8)
        outline[-1].set(linestyle=(0, (4, 2)))
        draw_boxes(right, decoded[row : row + 1], PROPOSAL, linewidth=2.6)
        before, after = (box_iou(boxes[row : row + 1], photo.boxes)[0] for boxes in (anchors, decoded))
        index = int(after.argmax())
        return (
            f"Anchor {anchor} of 0 to {count - 1}, {width:.0f} pixels wide and {height:.0f} high: its objectness is "
            f"above 0.5 in {int((scores > 0.5).sum())} of {scores.numel()} cells, and {float(scores.max()):.2f} in the "
            f"best. There the anchor has an IoU of {float(before[index]):.2f} with the {photo.labels[index]}; "
            f"moved by its four coefficients, {float(after[index]):.2f}."
        )

    return Explorer(figure, draw, anchor=slider("anchor", min(7, count - 1), 0, count - 1))


def proposal_panel(photo: RunningPhoto, trace: Trace) -> Explorer:
    """Anchors → decoded → clipped → kept, and how well each object is covered at each stage."""
    anchors = trace.anchors
    decoded = decode_boxes(anchors, trace.coefficients).detach()
    clipped = clip_boxes(decoded, trace.image_size)
    ranking = trace.objectness.argsort(descending=True, stable=True)
    overlaps = [box_iou(boxes, photo.boxes) for boxes in (anchors, decoded, clipped)]

    figure, every = photo_grid(faded(photo.image), 2, 2, 960, margin=36, right=320)
    for axes in every:
        draw_boxes(axes, photo.boxes, OBJECT, linewidth=1.4)
    names = [f"{number} {name}" for number, name in enumerate(photo.labels, start=1)]
    table = figure.add_axes((0.765, 0.1, 0.23, 0.78))
    table_frame(
        table, [*names, "found at 0.5", "found at 0.7"], ["anchors", "decoded", "clipped", "kept"], fontsize=8.5
    )
    table.text(2, -0.9, "best IoU with each object", ha="center", fontsize=10)
    foot_legend(
        figure,
        [
            Line2D([], [], color=OBJECT, linewidth=2.5, label="object"),
            Line2D([], [], color=PROPOSAL, linewidth=1.2, label=f"{FEW} of the boxes, the same in the first three"),
            Line2D([], [], color=KEPT, linewidth=2.5, label="best box of an object that is found"),
        ],
    )

    def draw(pre_nms_top_n: int, post_nms_top_n: int, nms_threshold: float) -> str:
        config = ProposalConfig(pre_nms_top_n, post_nms_top_n, nms_threshold)
        kept = propose(trace.objectness, trace.coefficients, anchors, trace.image_size, config).boxes.detach()
        top = ranking[:pre_nms_top_n]
        stages = [(boxes[top], iou[top]) for boxes, iou in zip((anchors, decoded, clipped), overlaps, strict=True)]
        stages.append((kept, box_iou(kept, photo.boxes)))
        titles = [
            f"the best {len(top):,} anchors",
            "decoded: moved by their coefficients",
            "clipped at the photo's border",
            f"kept: {len(kept):,} after NMS",
        ]
        best = torch.stack([iou.amax(dim=0) for _, iou in stages], dim=1)
        for axes, title, (boxes, iou) in zip(every, titles, stages, strict=True):
            draw_boxes(axes, boxes[_evenly(len(boxes))], PROPOSAL, linewidth=0.9, alpha=0.8)
            covered, row = iou.max(dim=0)
            draw_boxes(axes, boxes[row[covered >= 0.5]], KEPT, linewidth=1.8)
            draw_title(axes, title)
        found = [[int((column >= needed).sum()) for column in best.T] for needed in (0.5, 0.7)]
        texts = [[f"{value:.2f}" for value in row] for row in best.tolist()]
        texts += [[f"{count} of {len(names)}" for count in counts] for counts in found]
        fills = [[_fill(value) for value in row] for row in best.tolist()] + [["white"] * 4] * 2
        draw_cells(table, texts, fills, fontsize=9)
        return (
            f"Of {len(anchors):,} anchors the best {len(top):,} are decoded and clipped; NMS at {nms_threshold:.2f} "
            f"keeps {len(kept):,} of at most {post_nms_top_n:,}.\n"
            f"Objects found at IoU 0.5: {_arrows(found[0])} of {len(names)}; at 0.7: {_arrows(found[1])} "
            f"(anchors → decoded → clipped → kept)."
        )

    return Explorer(
        figure,
        draw,
        pre_nms_top_n=slider(
            "pre_nms_top_n", min(6000, len(anchors) // 100 * 100), 100, len(anchors) // 100 * 100, 100
        ),
        post_nms_top_n=slider("post_nms_top_n", 300, 10, 2000, 10),
        nms_threshold=slider("nms_threshold", 0.7, 0.3, 1.0, 0.05),
    )


def score_filter_panel(photo: RunningPhoto, trace: Trace) -> Explorer:
    """The trap: proposals below a score are dropped first, as if objectness were a probability of an object."""
    boxes = clip_boxes(decode_boxes(trace.anchors, trace.coefficients), trace.image_size).detach()
    order = nms(boxes, trace.objectness, INFERENCE.nms_threshold)  # what survives NMS with no filter, best first
    scores, survivors = trace.objectness[order].detach(), boxes[order]
    overlap = box_iou(survivors, photo.boxes)

    figure, axes, plot = photo_and_plot(faded(photo.image), margins=(100, 26, 10, 44), foot=30)
    numbers = [str(number) for number in range(1, len(photo.boxes) + 1)]
    bar_rows(plot, [f"{number} {name}" for number, name in zip(numbers, photo.labels, strict=True)], 1.0)
    plot.axvline(0.5, color="black", linewidth=1, linestyle=":")
    plot.set_xlabel("IoU with the best proposal that is left", fontsize=10)
    handles = [
        Line2D([], [], color=OBJECT, linewidth=2.5, label="object that a proposal finds: IoU of 0.5 or more"),
        Line2D([], [], color=BACKGROUND, linewidth=2.5, label="object that none finds"),
        Line2D([], [], color=PROPOSAL, linewidth=1.2, label=f"proposals that are left, {FEW} of them"),
    ]
    foot_legend(figure, handles)

    def draw(score_threshold: float) -> str:
        # Suppression looks only at better boxes, so filtering before NMS and after it leave the same.
        left = int((scores[: INFERENCE.post_nms_top_n] >= score_threshold).sum())
        best = overlap[:left].amax(dim=0).tolist() if left else [0.0] * len(numbers)
        found = [value >= 0.5 for value in best]
        draw_boxes(axes, survivors[:left][_evenly(left)], PROPOSAL, linewidth=0.9, alpha=0.8)
        for wanted, color in ((True, OBJECT), (False, BACKGROUND)):
            rows = [index for index, is_found in enumerate(found) if is_found == wanted]
            draw_boxes(axes, photo.boxes[rows], color, [numbers[row] for row in rows], linewidth=2.2)
        draw_title(axes, f"score_threshold {score_threshold:.2f}: {left} proposals left")
        draw_bars(plot, best, [OBJECT if one else BACKGROUND for one in found], [f"{value:.2f}" for value in best])
        lost = ", ".join(name for name, one in zip(photo.labels, found, strict=True) if not one)
        return (
            f"With proposals below {score_threshold:.2f} dropped, {left} are left and {sum(found)} of {len(found)} "
            f"objects are found at IoU 0.5.{' Not found: ' + lost + '.' if lost else ''}"
        )

    return Explorer(figure, draw, score_threshold=slider("score_threshold", 0.0, 0.0, 1.0, 0.05))


def _maps(values: Tensor, trace: Trace) -> Tensor:
    """`(A,)` in the order of `grid_anchors` → `(K, rows, columns)`."""
    rows, columns = feature_size(trace.image_size)
    return values.reshape(rows, columns, -1).permute(2, 0, 1)


def _evenly(count: int) -> list[int]:
    """At most `FEW` rows of `count`, spaced evenly: from the best to the worst."""
    return sorted({round(float(row)) for row in torch.linspace(0, count - 1, min(FEW, count))})


def _fill(iou: float) -> str:
    if iou >= 0.7:
        return KEPT
    return to_hex(to_rgba(KEPT, 0.4), keep_alpha=True) if iou >= 0.5 else "#EEEEEE"


def _arrows(counts: Sequence[int]) -> str:
    return " → ".join(map(str, counts))


def panels() -> dict[str, Explorer]:
    """Every panel of this lesson, on the running photo."""
    model = load("voc-crop")
    photo = running_photo(config=model.config.preprocessing)
    with torch.no_grad():
        trace = model.trace(photo.original)
    return {
        "rpn_picture": rpn_picture(model, trace),
        "objectness_panel": objectness_panel(photo, model, trace),
        "proposal_panel": proposal_panel(photo, trace),
        "score_filter_panel": score_filter_panel(photo, trace),
    }
