"""The curves of a training run: is it learning, which part of the model is, and has it finished?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

_LOSSES = {  # name in the records: name in words, colour; the RPN's two are blues, the classifier's two oranges
    "rpn_classification": ("RPN: object or not", "#0072B2"),
    "rpn_regression": ("RPN: box coefficients", "#56B4E9"),
    "classification": ("classifier: which class", "#D55E00"),
    "regression": ("classifier: box coefficients", "#E69F00"),
}
_PRECISIONS = {"map_area": ("area under the curve", "#009E73"), "map_11point": ("11 points (VOC 2007)", "#CC79A7")}


def plot_losses(records: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write the curves of a training run: its four losses, and mAP where it was evaluated.

    records: the lines of metrics.jsonl; those with losses have `step` and the losses by name, those of an
    evaluation `step`, `map_area` and `map_11point`. Missing and non-finite values are gaps.
    """
    precisions = {key: _series(records, key) for key in _PRECISIONS}
    panels = 2 if any(len(steps) for steps, _ in precisions.values()) else 1
    figure = Figure(figsize=(5.5 * panels + 1.5, 4.5), dpi=100)
    FigureCanvasAgg(figure)
    left, *right = np.atleast_1d(figure.subplots(1, panels))
    smooth = {}
    for key, (words, color) in _LOSSES.items():
        steps, values = _series(records, key)
        smooth[key] = _smoothed(values)
        left.plot(steps, values, color=color, alpha=0.2, linewidth=0.8)
        last = f"  {smooth[key][-1]:.3f}" if len(values) else ""
        left.plot(steps, smooth[key], _style(steps), color=color, linewidth=2, label=words + last)
    left.set(title="Losses: lower is better", xlabel="step  (thin: as logged, thick: moving average)", ylabel="loss")
    ends = np.concatenate(list(smooth.values()))
    if len(ends) and ends.min() > 0 and ends.max() > 20 * ends.min():
        left.set_yscale("log")
        left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter("{x:g}")
    else:
        left.set_ylim(bottom=0)
    if not len(ends):
        left.text(0.5, 0.5, "no losses recorded yet", ha="center", va="center", transform=left.transAxes)
    for axes in right:
        for key, (steps, values) in precisions.items():
            words, color = _PRECISIONS[key]
            axes.plot(steps, values, "o-", color=color, label=f"{words}  {values[-1]:.3f}" if len(values) else words)
        axes.set(title="mAP on validation: higher is better", xlabel="step", ylim=(0, 1))
    for axes in (left, *right):
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.set_xlim(left=0)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, format="png")


def _series(records: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], NDArray[np.float64]]:
    """Steps, rising, and the finite values of `key` at them; of two records of a step the later counts."""
    found = {record["step"]: record[key] for record in records if record.get(key) is not None}
    steps = sorted(step for step, value in found.items() if np.isfinite(value))
    return steps, np.array([found[step] for step in steps], dtype=np.float64)


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Moving average, centred, over about a twentieth of the run; shorter towards the ends."""
    half = len(values) // 40
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    average: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return average


def _style(steps: Sequence[int]) -> str:
    return "-" if len(steps) > 1 else "o"  # a line through one point would not show
