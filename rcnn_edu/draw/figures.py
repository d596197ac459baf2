"""Figures without pyplot, their pixels, and the image that boxes are drawn on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray


def new_figure(width: int, height: int, dpi: float = 100) -> tuple[Figure, Axes]:
    """A figure of `width` x `height` pixels and an axes that fills it, without frame or ticks.

    `dpi` sets how large text and lines come out, not how many pixels there are.
    """
    # Canvases round down: where inches times dpi falls short of the pixels, the next floating point number does not.
    inches = [side / dpi if side / dpi * dpi >= side else np.nextafter(side / dpi, side) for side in (width, height)]
    figure = Figure(figsize=(inches[0], inches[1]), dpi=dpi)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    return figure, axes


def to_array(figure: Figure) -> NDArray[np.uint8]:
    """The drawn figure, uint8 `(height, width, 3)`."""
    canvas: Any = figure.canvas if isinstance(figure.canvas, FigureCanvasAgg) else FigureCanvasAgg(figure)
    canvas.draw()
    pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return pixels


def to_png(figure: Figure, path: str | Path) -> None:
    """Write the figure to a PNG file, with the pixels of `to_array`."""
    figure.savefig(path, format="png")


def draw_image(axes: Axes, image: Any) -> list[Artist]:
    """Show an image, uint8 or float in 0..1, `(3, H, W)`, and set the limits to it: x 0..W, y H..0.

    Raises `ValueError` for another shape.
    """
    pixels = to_numpy(image)
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"image has shape {pixels.shape}; it must be (3, H, W)")
    if pixels.dtype != np.uint8:
        pixels = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
    height, width = pixels.shape[1:]
    shown = axes.imshow(pixels.transpose(1, 2, 0), extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return [shown]


def to_numpy(values: Any) -> NDArray[Any]:
    """A tensor or sequence as an array on the CPU; bfloat16, which numpy has not, as float32."""
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    return np.asarray(values.float() if values.dtype == torch.bfloat16 else values)
