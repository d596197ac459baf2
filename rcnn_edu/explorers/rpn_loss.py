"""Panels of lesson 06: what a wrong answer costs, which anchors pay, and sum against mean."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.lines import Line2D
from torch import Tensor

import rcnn_edu
from rcnn_edu.anchor_target import AnchorTargets, anchor_targets
from rcnn_edu.boxes import box_iou, decode_boxes
from rcnn_edu.config import AnchorTargetConfig
from rcnn_edu.draw import BACKGROUND, FOREGROUND, OBJECT, PROPOSAL, draw_boxes
from rcnn_edu.draw.bars import bar_rows, draw_bars
from rcnn_edu.draw.layout import draw_title, faded, foot_legend, photo_and_plot, photo_row
from rcnn_edu.draw.payments import draw_payments
from rcnn_edu.draw.smooth_l1 import REACH, draw_differences, draw_loss_and_gradient, loss_and_gradient_axes
from rcnn_edu.draw.training_steps import draw_batch_size, gradient_and_loss_axes
from rcnn_edu.explorers.base import Explorer, slider
from rcnn_edu.explorers.photo import RunningPhoto, running_photo
from rcnn_edu.model import FasterRCNN
from rcnn_edu.rpn import RPN
from rcnn_edu.rpn_loss import rpn_loss, smooth_l1
from rcnn_edu.trace import Trace

_DISC: dict[str, Any] = {"linestyle": "none", "marker": "o", "markeredgecolor": "white"}
_BOXES = [
    Line2D([], [], color=OBJECT, linewidth=2.5, label="object"),
    Line2D([], [], color=FOREGROUND, linewidth=2.5, label="its foreground anchor"),
    Line2D([], [], color=PROPOSAL, linewidth=2.5, label="what the RPN makes of the anchor"),
]


def sample(photo: RunningPhoto, trace: Trace, seed: int = 0) -> AnchorTargets:
    """The 256 anchors of the photo that `seed` chooses, and what they should say: lesson 05."""
    generator = torch.Generator().manual_seed(seed)
    return anchor_targets(trace.anchors, photo.boxes, photo.image_size, generator=generator)


def who_pays_picture(photo: RunningPhoto, trace: Trace) -> Explorer:
    """A still: each sampled anchor as a disc as large as what it pays, for either term."""
    targets = sample(photo, trace)
    foreground, background = targets.labels == 1, targets.labels == 0
    wrong = F.cross_entropy(trace.rpn_class_scores, targets.labels.clamp(min=0), reduction="none")
    apart = _terms(trace, targets).sum(dim=1)
    figure, (left, right) = photo_row(faded(photo.image), count=2)
    for axes in (left, right):
        draw_boxes(axes, photo.boxes, OBJECT, linewidth=1.6)
    handles = [
        Line2D([], [], color=OBJECT, linewidth=2.5, label="object"),
        Line2D([], [], markersize=10, color=FOREGROUND, label="foreground anchor: area = what it pays", **_DISC),
        Line2D([], [], markersize=10, color=BACKGROUND, label="background anchor", **_DISC),
    ]
    foot_legend(figure, handles)

    def draw() -> str:
        for axes, payments in ((left, wrong), (right, apart)):
            for chosen, color in ((background, BACKGROUND), (foreground, FOREGROUND)):
                draw_payments(axes, trace.anchors[chosen], payments[chosen], color)
        draw_title(left, "classification: object or not?")
        draw_title(right, "regression: where exactly?")
        share = 100 * float(wrong[foreground].sum() / wrong[targets.labels >= 0].sum())
        return (
            f"{int(foreground.sum())} foreground and {int(background.sum())} background anchors. Classification: all "
            f"pay, the foreground {share:.0f} % of it. Regression: the foreground pays all, the background nothing."
        )

    return Explorer(figure, draw)


def four_terms_panel(photo: RunningPhoto, trace: Trace, sigma: float = 3.0) -> Explorer:
    """One foreground anchor: the object, the box that the RPN makes of the anchor, and the four terms of its loss.

    The anchors of the largest object come first, and of each object those that pay most.
    """
    targets = sample(photo, trace)
    terms = _terms(trace, targets, sigma)
    rows = (targets.labels == 1).nonzero()[:, 0].tolist()
    areas = (photo.boxes[:, 2:] - photo.boxes[:, :2]).prod(dim=1)
    pays = terms.sum(dim=1)
    rows.sort(key=lambda row: (-float(areas[targets.matched_gt[row]]), -float(pays[row])))
    largest = float(terms.max())
    figure, axes, plot = photo_and_plot(faded(photo.image), margins=(46, 30, 20, 44), foot=34)
    bar_rows(plot, ["tx", "ty", "tw", "th"], largest)
    plot.set_xlabel("smooth L1 of predicted − wanted", fontsize=10)
    foot_legend(figure, _BOXES)

    def draw(anchor: int) -> str:
        row = rows[anchor - 1]
        predicted, wanted = trace.coefficients[row], targets.targets[row]
        name = photo.labels[int(targets.matched_gt[row])]
        reference, object_box = trace.anchors[row][None], photo.boxes[targets.matched_gt[row]][None]
        made = decode_boxes(reference, predicted[None])
        for box, color in ((object_box, OBJECT), (reference, FOREGROUND), (made, PROPOSAL)):
            draw_boxes(axes, box, color, linewidth=2.5)
        draw_title(axes, f"foreground anchor {anchor} of {len(rows)} learns the {name}")
        draw_bars(plot, terms[row].tolist(), [FOREGROUND] * 4, [""] * 4, thickness=0.45)
        values = list(zip(predicted.tolist(), wanted.tolist(), terms[row].tolist(), strict=True))
        for place, (mine, right, term) in enumerate(values):
            text = f"predicted {mine:z.2f}, wanted {right:z.2f}: pays {term:.2f}"
            plot.text(0.012 * largest, place - 0.25, text, fontsize=9.5, va="bottom")
        draw_title(plot, f"pays {float(pays[row]):.2f} in all")
        before, after = (float(box_iou(box, object_box)) for box in (reference, made))
        return (
            f"Foreground anchor {anchor} of {len(rows)} learns the {name}. For tx, ty, tw, th it pays "
            f"{' + '.join(f'{term:.2f}' for *_, term in values)} = {float(pays[row]):.2f}.\n"
            f"IoU with the object: {before:.2f} as an anchor, {after:.2f} as the RPN moves it."
        )

    return Explorer(figure, draw, anchor=slider("foreground anchor", 1, 1, len(rows)))


def rpn_loss_panel(photo: RunningPhoto, trace: Trace) -> Explorer:
    """The regression term for any sigma, if the RPN predicted tx too large by an offset at every anchor."""
    targets = sample(photo, trace)
    foreground = targets.labels == 1
    anchors, sampled = trace.anchors[foreground], int((targets.labels >= 0).sum())
    predicted = trace.coefficients[foreground]
    difference = predicted - targets.targets[foreground]
    curve = torch.linspace(-REACH, REACH, 601)
    figure, axes, plot = photo_and_plot(faded(photo.image), margins=(60, 8, 20, 44), foot=34)
    loss_axes, gradient_axes = loss_and_gradient_axes(figure, plot)
    draw_boxes(axes, photo.boxes, OBJECT, linewidth=1.6)
    disc = Line2D([], [], markersize=10, color=FOREGROUND, label="foreground anchor: area = what it pays", **_DISC)
    foot_legend(figure, [_BOXES[0], disc, _BOXES[2]])

    def draw(rpn_sigma: float, offset: float) -> str:
        shift = torch.tensor([offset, 0.0, 0.0, 0.0])
        moved = difference + shift
        terms, slopes = smooth_l1(moved, rpn_sigma), _slope(moved, rpn_sigma)
        border = 1 / rpn_sigma**2
        draw_loss_and_gradient(
            loss_axes, gradient_axes, curve, smooth_l1(curve, rpn_sigma), _slope(curve, rpn_sigma), border
        )
        draw_differences(loss_axes, gradient_axes, moved[:, 0], terms[:, 0], slopes[:, 0])
        pays = terms.sum(dim=1)
        draw_payments(axes, anchors, pays, FOREGROUND)
        total = float(pays.sum())
        draw_title(axes, f"foreground anchors pay {total:.1f} in all, over {sampled} sampled: {total / sampled:.2f}")
        most = int(pays.argmax())
        draw_boxes(axes, decode_boxes(anchors[most][None], (predicted[most] + shift)[None]), PROPOSAL, linewidth=2)
        square = 0.5 * moved.square().sum(dim=1)
        inside = int((moved.abs() < border).sum())
        return (
            f"rpn_sigma {rpn_sigma:.1f}: a parabola within ±{border:.2f}, which holds {inside} of {moved.numel()} "
            f"differences. {offset:+.2f} is added to every predicted tx.\n"
            f"{len(anchors)} foreground anchors pay {total:.1f}; over {sampled} sampled: {total / sampled:.2f}. "
            f"The one that pays most pays {_largest_share(pays)} of it; of a squared loss it would be "
            f"{_largest_share(square)}."
        )

    return Explorer(
        figure,
        draw,
        rpn_sigma=slider("rpn_sigma", 3.0, 0.5, 6.0, 0.5),
        offset=slider("offset of tx", 0.0, -1.0, 1.0, 0.05),
    )


def sum_or_mean_panel(photo: RunningPhoto, model: FasterRCNN, trace: Trace, rate: float = 0.01) -> Explorer:
    """The trap: gradient and first steps of the RPN for a mean and for a sum, by batch size."""
    sizes = range(32, 257, 32)
    norms: dict[str, list[float]] = {"mean": [], "sum": []}
    losses: dict[str, list[list[float]]] = {"mean": [], "sum": []}
    for size in sizes:
        for name in norms:
            norm, history = _first_steps(photo, model.rpn, trace, size, name == "sum", rate)
            norms[name].append(norm)
            losses[name].append(history)
    figure, left, right = gradient_and_loss_axes(list(sizes), norms, max(max(row) for row in losses["sum"]))

    def draw(batch_size: int) -> str:
        index = list(sizes).index(batch_size)
        mean, total = norms["mean"][index], norms["sum"][index]
        draw_batch_size(left, right, batch_size, (mean, total), (losses["mean"][index], losses["sum"][index]))
        start, after_mean, after_sum = *losses["mean"][index][:2], losses["sum"][index][1]
        return (
            f"batch_size {batch_size}: the gradient of the mean has norm {mean:.1f}, of the sum {total:.0f}, "
            f"{total / mean:.0f} times as much.\nOne step of SGD at learning rate {rate:g} takes the loss from "
            f"{start:.2g} to {after_mean:.2g} with the mean, and to {after_sum:.2g} with the sum."
        )

    return Explorer(figure, draw, batch_size=slider("batch_size", 256, 32, 256, 32))


def _terms(trace: Trace, targets: AnchorTargets, sigma: float = 3.0) -> Tensor:
    """`(A, 4)`: the four terms of every anchor; zeros where it is not foreground."""
    difference = torch.where((targets.labels == 1)[:, None], trace.coefficients - targets.targets, 0.0)
    return smooth_l1(difference, sigma)


def _slope(x: Tensor, sigma: float) -> Tensor:
    """The derivative of smooth L1 at each x, by autograd."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(smooth_l1(x, sigma).sum(), x)
    return slope


def _largest_share(payments: Tensor) -> str:
    return f"{100 * float(payments.max() / payments.sum()):.0f} %"


def _first_steps(
    photo: RunningPhoto, rpn: RPN, trace: Trace, batch_size: int, as_sum: bool, rate: float, count: int = 5
) -> tuple[float, list[float]]:
    """Norm of the gradient before the first of `count` steps, and the mean loss before each step and at the end.

    An eighth of the sample is foreground at every batch size, so that only its size changes.
    """
    config = AnchorTargetConfig(batch_size=batch_size, fg_fraction=1 / 8)
    generator = torch.Generator().manual_seed(0)
    targets = anchor_targets(trace.anchors, photo.boxes, photo.image_size, config, generator)
    learner = copy.deepcopy(rpn)
    optimizer = torch.optim.SGD(learner.parameters(), lr=rate)
    norm, history = 0.0, []
    for step in range(count + 1):
        scores, coefficients = learner(trace.features[None]).of_image(0, photo.feature_size)
        terms = rpn_loss(scores, coefficients, targets)
        loss = terms.classification + terms.regression
        history.append(float(loss.detach()))
        if step == count:
            break
        optimizer.zero_grad()
        (loss * (targets.labels >= 0).sum() if as_sum else loss).backward()
        if step == 0:
            norm = float(torch.nn.utils.get_total_norm([w.grad for w in learner.parameters() if w.grad is not None]))
        optimizer.step()
    return norm, history


def panels() -> dict[str, Explorer]:
    """Every panel of this lesson, on the running photo."""
    model = rcnn_edu.load("voc-crop")
    photo = running_photo(config=model.config.preprocessing)
    with torch.no_grad():
        trace = model.trace(photo.original)
    return {
        "who_pays_picture": who_pays_picture(photo, trace),
        "four_terms_panel": four_terms_panel(photo, trace),
        "rpn_loss_panel": rpn_loss_panel(photo, trace),
        "sum_or_mean_panel": sum_or_mean_panel(photo, model, trace),
    }
