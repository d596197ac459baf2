"""The mixtures of Winograd's minimal filtering, made from the points at which polynomials are known.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308) · used by winograd

m outputs of a filter with three taps are m + 2 products: of values at m + 1 points and "at infinity", which stands for
the last coefficient. An input is mixed by the polynomial that is 0 at every other point, the taps by the powers of the
point, and so are the outputs. Tiles of 1, 2 or 3 outputs use the first of the points that a tile of 4 uses, so that all
of them share their mixtures of the taps.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TILE, TAPS = 4, 3
POINTS, SCALES = (0, 1, -1, 2, -2), (1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24)
"""Lavin & Gray's. What is mixed of the taps is taken times a scale, so that no mixture is much larger than another."""
INFINITY = len(POINTS)

Matrix = NDArray[np.float64]


class Mixtures(NamedTuple):
    """Of some pairs of points, one for y and one for x, that are all used by as many tiles of a block of places."""

    of_inputs: Matrix
    """`(tiles · pairs, places)`, tile by tile."""
    of_taps: Matrix
    """`(pairs, 9)`."""
    of_answers: Matrix
    """`(outputs, tiles · pairs)`."""


class _Side(NamedTuple):
    """Along one side of a block, for each point a matrix."""

    of_inputs: list[Matrix]
    """`(tiles that use the point, places)`."""
    of_answers: list[Matrix]
    """`(outputs, tiles that use the point)`."""


@cache
def of_crop(height: int, width: int, at_once: int) -> list[Mixtures]:
    """For a block that is a whole map of height × width places, zero beyond, with an output at each.

    All 36 pairs, at most `at_once` in each entry.
    """
    return list(_pairs(_inner(_side(height)), _inner(_side(width)), at_once))


@cache
def of_tile(at_once: int) -> list[Mixtures]:
    """For a block that is one tile with what surrounds it: 6 × 6 places, 4 × 4 outputs."""
    return list(_pairs(_side(TILE), _side(TILE), at_once))


def _pairs(y: _Side, x: _Side, at_once: int) -> Iterator[Mixtures]:
    used_by: dict[int, list[tuple[int, int]]] = {}
    for i, j in product(range(INFINITY + 1), repeat=2):
        used_by.setdefault(len(y.of_inputs[i]) * len(x.of_inputs[j]), []).append((i, j))
    for tiles, pairs in used_by.items():
        if tiles == 0:  # e.g. a side of one place never needs the point 2
            continue
        parts = -(-len(pairs) // at_once)
        for some in np.array_split(np.array(pairs), parts):
            of_inputs = np.stack([np.kron(y.of_inputs[i], x.of_inputs[j]) for i, j in some], axis=1)
            of_taps = np.stack([np.kron(_OF_TAPS[i], _OF_TAPS[j]) for i, j in some])
            of_answers = np.stack([np.kron(y.of_answers[i], x.of_answers[j]) for i, j in some], axis=2)
            yield Mixtures(
                of_inputs.reshape(-1, of_inputs.shape[2]), of_taps, of_answers.reshape(len(of_answers), -1)
            )


def _side(outputs: int) -> _Side:
    """For places −1 … outputs: tiles of 4, and a smaller last one if 4 does not divide `outputs`."""
    of_inputs: list[list[Matrix]] = [[] for _ in range(INFINITY + 1)]
    of_answers: list[list[Matrix]] = [[] for _ in range(INFINITY + 1)]
    for start in range(0, outputs, TILE):
        size = min(TILE, outputs - start)
        before, after = start, outputs - start - size
        for point, inputs, answers in _tile(size):
            of_inputs[point].append(np.pad(inputs, (before, after)))
            of_answers[point].append(np.pad(answers, (before, after)))
    return _Side(
        [np.array(rows).reshape(-1, outputs + 2) for rows in of_inputs],
        [np.array(columns).reshape(-1, outputs).T for columns in of_answers],
    )


def _inner(side: _Side) -> _Side:
    """Without the place before the first and after the last, where there is only zero."""
    return _Side([matrix[:, 1:-1] for matrix in side.of_inputs], side.of_answers)


def _tile(outputs: int) -> Iterator[tuple[int, Matrix, Matrix]]:
    """Each point that a tile of 1 … 4 outputs uses: mixture of its inputs `(outputs + 2,)`, and share in the outputs."""
    points = POINTS[: outputs + 1]
    for number, point in enumerate(points):
        others = [other for other in points if other != point]
        lagrange = np.poly(others)[::-1] / np.prod([float(point - other) for other in others])
        yield number, np.append(lagrange, 0) / SCALES[number], np.array([float(point) ** k for k in range(outputs)])
    yield INFINITY, np.poly(points)[::-1], np.eye(outputs)[-1]


_OF_TAPS: Matrix = np.array(
    [[scale * float(point) ** k for k in range(TAPS)] for point, scale in zip(POINTS, SCALES, strict=True)]
    + [[0.0, 0.0, 1.0]]
)
