"""Pictures of what was measured: bars for one step, curves for how a whole step grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.growth import Curve
from benchmarks.report import TRAINING, duration
from benchmarks.timing import Timing
from rcnn_edu.draw.colors import BACKGROUND, DONT_CARE, KEPT, OBJECT, PROPOSAL

OURS, OTHERS = OBJECT, (BACKGROUND, DONT_CARE, PROPOSAL, KEPT)
"""Colours: ours, and the others in their order."""


def bars(timings: Sequence[Timing], title: str, path: Path) -> None:
    """A panel a case, a bar a contestant, labelled with its time and how many times ours that is."""
    count = len(timings[0].seconds)
    figure = Figure(figsize=(8, 0.9 + len(timings) * (0.45 + 0.3 * count)), dpi=100)
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(timings), squeeze=False)[:, 0]
    for axes, one in zip(panels, timings, strict=True):
        names = list(one.seconds)
        medians = [1000 * one.median(name) for name in names]
        places = range(count)
        axes.barh(places, medians, color=[OURS, *OTHERS[: count - 1]], height=0.75)
        for place, name, median in zip(places, names, medians, strict=True):
            text = duration(median / 1000)
            if name != one.ours:
                text += f"   {_times(1 / one.ratio(name).median)}"
            axes.text(median + 0.01 * max(medians), place, text, va="center", fontsize=9)
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.3 * max(medians))
        axes.set_xticks([])
        axes.set_title(one.case, loc="left", fontsize=10)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    figure.suptitle(f"{title} — shorter is faster", fontsize=12, fontweight="bold", x=0.01, ha="left")
    figure.tight_layout()
    figure.savefig(path)


def _times(factor: float) -> str:
    """How many times our time, in words."""
    return f"{factor:.{1 if factor < 10 else 0}f}× ours"


def curves(measured: Sequence[Curve], title: str, path: Path) -> None:
    """A panel an axis; the lines of a panel are named at their ends."""
    figure = Figure(figsize=(9, 7), dpi=100)
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, (len(measured) + 1) // 2, squeeze=False).flatten()
    for axes, one in zip(panels, measured, strict=False):
        _curve(axes, one)
    figure.suptitle(f"{title} — lower is faster", fontsize=12, fontweight="bold", x=0.01, ha="left")
    figure.tight_layout()
    figure.savefig(path)


def _curve(axes: Axes, one: Curve) -> None:
    for mode, points in one.timings.items():
        for name, color in zip(points[0].seconds, (OURS, *OTHERS), strict=False):
            seconds = [point.median(name) for point in points]
            style = "-" if mode == TRAINING else "--"
            axes.plot(one.values, seconds, style, color=color, marker="o", markersize=4, label=f"{name}, {mode}")
    axes.set_xlabel(one.axis)
    axes.set_ylabel("seconds a step")
    slowest = max(point.median(name) for points in one.timings.values() for point in points for name in point.seconds)
    axes.set_ylim(0, slowest * (1.1 + 0.12 * len(one.timings)))  # room for the legend above the lines
    axes.set_xlim(left=0)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(one.values, [f"{value:.2g}" if value < 1 else f"{value:g}" for value in one.values])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
