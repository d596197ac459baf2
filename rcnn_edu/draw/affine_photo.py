"""A photo and its boxes under an affine map: scaled, stretched, sheared."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray

from rcnn_edu.draw.figures import to_numpy

Matrix = NDArray[np.float64]


def affine_matrix(scale_x: float, scale_y: float, shear: float) -> Matrix:
    """(2, 2): x' = scale_x · x + shear · y, y' = scale_y · y."""
    return np.array([[scale_x, shear], [0.0, scale_y]])


def mapped_corners(boxes: Any, matrix: Matrix) -> Matrix:
    """Where the map takes the four corners of each box: `(N, 4)` → `(N, 4, 2)`, clockwise from the upper left."""
    corners = to_numpy(boxes).astype(np.float64)[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    mapped: Matrix = corners @ matrix.T
    return mapped


def enclosing_boxes(corners: Matrix) -> Matrix:
    """The upright box around each four corners: `(N, 4, 2)` → `(N, 4)`."""
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def draw_mapped_photo(axes: Axes, image: Any, matrix: Matrix) -> list[Artist]:
    """The image `(3, h, w)` in 0..1 under the map; axes' limits stay."""
    pixels = to_numpy(image).transpose(1, 2, 0)
    height, width = pixels.shape[:2]
    extent = (0.0, float(width), float(height), 0.0)
    shown = axes.imshow(pixels, extent=extent, aspect=axes.get_aspect(), interpolation="nearest")
    (a, b), (c, d) = matrix.tolist()
    shown.set_transform(Affine2D.from_values(a, c, b, d, 0, 0) + axes.transData)
    return [shown]


def draw_outlines(axes: Axes, corners: Matrix, color: str) -> list[Artist]:
    """Dashed outlines of quadrilaterals `(N, 4, 2)`."""
    lines = PolyCollection(list(corners), facecolors="none", edgecolors=color, linewidths=1.4, linestyles=(0, (4, 2)))
    return [axes.add_collection(lines, autolim=False)]
