"""The smooth L1 loss and its gradient, one above the other, between the absolute value and the square."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rcnn_edu.draw.colors import FOREGROUND, KEPT
from rcnn_edu.draw.figures import to_numpy

REACH = 1.5
"""The curves are drawn for differences of −1.5 to 1.5; what lies beyond is shown at the edge."""

_TOP = 1.6
_GREY = "#666666"


def loss_and_gradient_axes(figure: Figure, plot: Axes) -> tuple[Axes, Axes]:
    """Divide the place of `plot` among two axes with one x: the loss above, its gradient below.

    In both, for comparison, the square ½x² (dotted) and the absolute value |x| (dashed).
    """
    place = plot.get_position()
    gradient_height = 0.4 * place.height
    gap = 0.09 * place.height
    loss = figure.add_axes((place.x0, place.y0 + gradient_height + gap, place.width, 0.51 * place.height))
    plot.set_position((place.x0, place.y0, place.width, gradient_height))
    x = np.linspace(-REACH, REACH, 301)
    for axes in (loss, plot):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
    loss.set(xlim=(-REACH, REACH), ylim=(-0.08, _TOP))
    loss.tick_params(labelbottom=False)
    plot.set(xlim=(-REACH, REACH), ylim=(-1.35, 1.35), yticks=(-1, 0, 1))
    loss.plot(x, np.abs(x), color=_GREY, linewidth=1, linestyle="--", label="|x|")
    loss.plot(x, 0.5 * x * x, color=_GREY, linewidth=1, linestyle=":", label="½x²")
    plot.plot(x, np.sign(x), color=_GREY, linewidth=1, linestyle="--")
    plot.plot(x, x, color=_GREY, linewidth=1, linestyle=":")
    loss.plot([], [], color="black", linewidth=2, label="smooth L1")
    loss.legend(frameon=False, fontsize=9, loc="upper center", handlelength=1.6, borderaxespad=0)
    loss.set_ylabel("loss", fontsize=10)
    plot.set_ylabel("gradient", fontsize=10)
    plot.set_xlabel("x = predicted − wanted", fontsize=10)
    return loss, plot


def draw_loss_and_gradient(
    loss_axes: Axes, gradient_axes: Axes, x: Any, loss: Any, gradient: Any, border: float
) -> list[Artist]:
    """The curve and its slope over x `(N,)`, and a band from −border to border, where the loss is a parabola."""
    artists: list[Artist] = []
    for axes, values in ((loss_axes, loss), (gradient_axes, gradient)):
        low, high = max(-border, -REACH), min(border, REACH)
        artists.append(axes.axvspan(low, high, color=KEPT, alpha=0.18, linewidth=0))
        artists += axes.plot(to_numpy(x), to_numpy(values), color="black", linewidth=2, scalex=False, scaley=False)
    return artists


def draw_differences(
    loss_axes: Axes, gradient_axes: Axes, differences: Any, losses: Any, gradients: Any
) -> list[Artist]:
    """A green disc on both curves for each of the differences `(F,)`."""
    x = to_numpy(differences).clip(-REACH, REACH)
    style: dict[str, Any] = {"marker": "o", "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.5}
    artists: list[Artist] = []
    for axes, values, top in ((loss_axes, losses, _TOP), (gradient_axes, gradients, 1.0)):
        y = to_numpy(values).clip(-top, top)
        artists += axes.plot(x, y, linestyle="none", color=FOREGROUND, scalex=False, scaley=False, **style)
    return artists
