"""Draws one scene of the shapes dataset: coloured, turned shapes that hide one another, over a background with clutter.

How hard a scene is, is decided here, on purpose. Backgrounds are muted and shapes are colourful, so that a small
detector learns them from nothing in minutes; scale, turning, texture, hiding and clutter keep it from being trivial.

    H, W    height and width of the scene in pixels          G    shapes in it, 1…6
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from rcnn_edu.data.scene_textures import background, pattern

SHAPE_CLASSES = ("circle", "square", "triangle", "star", "cross")
"""Labels 1…5."""

_MOST_SHAPES = 6
_TURN = 0.35  # largest turn of a shape either way, in radians: twenty degrees
_SMALLEST, _LARGEST = 28.0, 150.0  # longer side of a shape, in pixels
_VISIBLE_AT_LEAST = 0.4  # share of a shape that other shapes and the border must leave visible
_SUPERSAMPLING = 4
_MARGIN = 8  # pixels round a shape, for its shadow
_SHADOW = [value * 2 // 5 for value in range(256)]


def render_scene(
    rng: np.random.Generator, size: tuple[int, int] = (240, 320)
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """One scene of `size` (height, width): image uint8 `(H, W, 3)`, boxes float32 `(G, 4)`, labels int64 `(G,)`.

    Boxes are x1, y1, x2, y2 in pixels, half-open, tight around what is visible of each shape, as VOC's are; 40 % of
    every shape is, or more. Labels are 1…5 in the order of `SHAPE_CLASSES`. The same state of `rng` gives the same
    scene. Raises `ValueError` for scenes under 64 pixels a side.
    """
    height, width = size
    if min(height, width) < 64:
        raise ValueError(f"a scene of {height}x{width} pixels has no room for shapes; a side is 64 pixels at least")
    canvas = background(rng, height, width)
    on_top = np.full((height, width), -1, dtype=np.int8)  # index of the shape that is seen at each pixel
    visible: list[int] = []  # pixels seen of each shape
    area: list[int] = []  # pixels of each shape, hidden ones too
    labels: list[int] = []
    wanted = int(rng.integers(1, _MOST_SHAPES + 1))
    for _ in range(5 * wanted):  # where a place is taken, try another; a crowded scene may end with fewer shapes
        label = int(rng.integers(1, len(SHAPE_CLASSES) + 1))
        shape = _cut_out(rng, SHAPE_CLASSES[label - 1], height, width)
        under = on_top[shape.rows, shape.columns]
        hides = np.bincount(under[shape.solid] + 1, minlength=len(labels) + 1)[1:].tolist()
        left = [v - h for v, h in zip(visible, hides, strict=True)] + [int(shape.solid.sum())]
        if any(pixels < _VISIBLE_AT_LEAST * full for pixels, full in zip(left, [*area, shape.area], strict=True)):
            continue
        _paint(rng, canvas, shape)
        under[shape.solid] = len(labels)
        visible, area = left, [*area, shape.area]
        labels.append(label)
        if len(labels) == wanted:
            break
    boxes = np.array([_bounds(on_top == index) for index in range(len(labels))], dtype=np.float32)
    return np.array(canvas), boxes, np.array(labels, dtype=np.int64)


@dataclass(frozen=True)
class _CutOut:
    """A shape and where it will lie. The masks may reach over the image's border, the arrays do not."""

    corner: tuple[int, int]
    """x, y of the masks' top left pixel in the image."""
    alpha: Image.Image
    """Coverage of each pixel by the shape, 0…255."""
    inner: Image.Image
    """The same without the shape's rim, which has a colour of its own."""
    rows: slice
    columns: slice
    solid: npt.NDArray[np.bool_]
    """Pixels of the image, in `rows` and `columns`, that the shape covers by half or more."""
    area: int
    """Pixels of the whole shape, outside the image too."""


def _cut_out(rng: np.random.Generator, name: str, height: int, width: int) -> _CutOut:
    """A shape of random scale, angle and proportions, with its centre at a random place well inside the image."""
    largest = min(_LARGEST, 0.62 * min(height, width))
    side = math.exp(rng.uniform(math.log(_SMALLEST), math.log(largest)))
    corners = _corners(name) * rng.uniform(0.88, 1.12, 2) @ _rotation(rng.uniform(-_TURN, _TURN))
    corners *= side / np.ptp(corners, axis=0).max()
    centre = rng.uniform(0.3 * side, np.array([width, height]) - 0.3 * side)
    corners += centre - (corners.max(axis=0) + corners.min(axis=0)) / 2
    x0, y0 = (np.floor(corners.min(axis=0)).astype(int) - _MARGIN).tolist()
    x1, y1 = (np.ceil(corners.max(axis=0)).astype(int) + _MARGIN).tolist()
    corners -= (x0, y0)
    alpha = _mask(corners, x1 - x0, y1 - y0)
    inner = _mask(_inset(corners, 0.8 + 0.018 * side), x1 - x0, y1 - y0)
    solid = np.asarray(alpha) >= 128
    rows, columns = slice(max(y0, 0), min(y1, height)), slice(max(x0, 0), min(x1, width))
    inside = solid[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0]
    return _CutOut((x0, y0), alpha, inner, rows, columns, inside, int(solid.sum()))


def _paint(rng: np.random.Generator, canvas: Image.Image, shape: _CutOut) -> None:
    """Lay the shape and its soft shadow over `canvas`, in place."""
    x, y = shape.corner
    fill, edge = pattern(rng, *shape.alpha.size)
    shadow = shape.alpha.reduce(4).point(_SHADOW).resize(shape.alpha.size, Image.Resampling.BICUBIC)
    canvas.paste((20, 20, 30), (x + 2, y + 3), shadow)
    canvas.paste(edge, (x, y), shape.alpha)
    canvas.paste(fill, (x, y), shape.inner)


def _mask(corners: npt.NDArray[np.float64], width: int, height: int) -> Image.Image:
    """Coverage, 0…255, of each of `width` x `height` pixels by a polygon."""
    fine = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    points = [tuple(point) for point in (corners * _SUPERSAMPLING - 0.5).tolist()]
    ImageDraw.Draw(fine).polygon(points, fill=255)
    return fine.reduce(_SUPERSAMPLING)


def _inset(corners: npt.NDArray[np.float64], distance: float) -> npt.NDArray[np.float64]:
    """The polygon whose edges lie `distance` further in. Corners run from the x axis towards the y axis."""
    along = np.roll(corners, -1, axis=0) - corners
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    inward = np.stack([-along[:, 1], along[:, 0]], axis=1)
    before = np.roll(inward, 1, axis=0)
    shift: npt.NDArray[np.float64] = (before + inward) / (1 + (before * inward).sum(axis=1, keepdims=True))
    return corners + distance * shift


def _corners(name: str) -> npt.NDArray[np.float64]:
    """Corners `(N, 2)` of a shape around the origin, running from the x axis towards the y axis."""
    if name == "square":
        return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], dtype=np.float64)
    if name == "cross":
        arm = [(0.36, -1.0), (0.36, -0.36), (1.0, -0.36), (1.0, 0.36), (0.36, 0.36), (0.36, 1.0)]
        return np.array(arm + [(-x, -y) for x, y in arm], dtype=np.float64)
    count = {"circle": 48, "triangle": 3, "star": 10}[name]
    radius = np.where(np.arange(count) % 2 == 0, 1.0, 0.45 if name == "star" else 1.0)
    angle = np.arange(count) * (2 * math.pi / count) - math.pi / 2  # a triangle and a star point up
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _rotation(angle: float) -> npt.NDArray[np.float64]:
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


def _bounds(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
