"""A photo whose RoI is shifted sideways, beside the curve of a loss over the shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rcnn_edu.draw.boxes import draw_boxes
from rcnn_edu.draw.colors import OBJECT, PROPOSAL
from rcnn_edu.draw.figures import to_numpy
from rcnn_edu.draw.layout import faded, foot_legend, photo_and_plot


def shift_figure(
    image: Any, place: Any, reach: float, shifts: Sequence[float], losses: Sequence[float], name: str
) -> tuple[Figure, Axes, Axes]:
    """image: `(3, h, w)`; place: `(4,)`, the object, in its pixels; shifts, in % of its width, and the loss at each;
    name: of its class. Around the photo there is room for the box at `reach` pixels to the left and to the right.
    Returns figure, photo and plot.
    """
    figure, axes, plot = photo_and_plot(faded(image), foot=34)
    height, width = to_numpy(image).shape[1:]
    x1, _, x2, _ = to_numpy(place).tolist()
    axes.set(
        xlim=(min(0, x1 - reach) - 20, max(width, x2 + reach) + 20),
        ylim=(height * 1.12, -height * 0.12),
    )
    draw_boxes(axes, to_numpy(place)[None], OBJECT, linewidth=5)
    highest = max(losses)
    plot.set(xlim=(min(shifts) * 1.05, max(shifts) * 1.05), ylim=(-0.08 * highest, 1.15 * highest))
    plot.plot(shifts, losses, color="black", linewidth=1.2)
    plot.axvline(0, color=OBJECT, linewidth=2)
    plot.set_xlabel("shift of the RoI, in % of its width", fontsize=10)
    plot.set_ylabel(f"classifier's loss: −log p({name})", fontsize=10)
    handles = [
        Line2D([], [], color=OBJECT, linewidth=2.5, label="object"),
        Line2D([], [], color=PROPOSAL, linewidth=2.5, label="RoI, and the slope of its loss"),
        Line2D([], [], color="black", marker=">", linewidth=2.5, label="where the gradient would move its sides"),
    ]
    foot_legend(figure, handles)
    return figure, axes, plot
