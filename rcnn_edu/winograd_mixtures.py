"""The mixtures of Winograd's minimal filtering, made from the points at which polynomials are known.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308); Barabasz et al., "Error Analysis
and Improving the Accuracy of Winograd Convolution" (arXiv 1803.10986) · used by winograd

m outputs of a filter with three taps are m + 2 products: of values at m + 1 points and "at infinity", which stands for
the last coefficient. An input is mixed by the polynomial that is 0 at every other point, the taps by the powers of the
point, and so are the outputs. Tiles of 1, 2 or 3 outputs use the first of the points that a tile of 4 uses, so that all
of them share their mixtures of the taps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TILE, TAPS = 4, 3
POINTS = (0.0, 1.0, -1.0, 2.0, -0.5)
"""With 2 and −1/2 a convolution rounds half as much as with Lavin & Gray's 2 and −2."""
INFINITY = len(POINTS)

Matrix = NDArray[np.floating[Any]]


class Mixtures(NamedTuple):
    """Of some pairs of points, one along y and one along x, that are all used by as many tiles of a block of places."""

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
    pairs = list(product(range(INFINITY + 1), repeat=2))
    of_taps = _of_taps()
    for alike in _alike([len(y.of_inputs[i]) * len(x.of_inputs[j]) for i, j in pairs]):
        for some in np.array_split(alike, -(-len(alike) // at_once)):
            chosen = [pairs[one] for one in some]
            of_inputs = np.stack([np.kron(y.of_inputs[i], x.of_inputs[j]) for i, j in chosen], axis=1)
            of_answers = np.stack([np.kron(y.of_answers[i], x.of_answers[j]) for i, j in chosen], axis=2)
            yield Mixtures(
                of_inputs.reshape(-1, of_inputs.shape[2]),
                np.stack([np.kron(of_taps[i], of_taps[j]) for i, j in chosen]),
                of_answers.reshape(len(of_answers), -1),
            )


def _alike(tiles: Sequence[int]) -> Iterator[list[int]]:
    """Places in `tiles` with the same number; a point that no tile uses, because a side is short, is left out."""
    for number in sorted(set(tiles) - {0}, reverse=True):
        yield [place for place, one in enumerate(tiles) if one == number]


def _side(outputs: int) -> _Side:
    """For places −1 … outputs: tiles of 4, and a smaller last one if 4 does not divide `outputs`."""
    of_inputs: list[list[Matrix]] = [[] for _ in range(INFINITY + 1)]
    of_answers: list[list[Matrix]] = [[] for _ in range(INFINITY + 1)]
    for start in range(0, outputs, TILE):
        size = min(TILE, outputs - start)
        beside = (start, outputs - start - size)
        for point, inputs, answers in _tile(size):
            of_inputs[point].append(np.pad(inputs, beside))
            of_answers[point].append(np.pad(answers, beside))
    return _Side(
        [np.array(rows).reshape(-1, outputs + 2) for rows in of_inputs],
        [np.array(columns).reshape(-1, outputs).T for columns in of_answers],
    )


def _inner(side: _Side) -> _Side:
    """Without the place before the first and after the last, where there is only zero."""
    return _Side([matrix[:, 1:-1] for matrix in side.of_inputs], side.of_answers)


def _tile(outputs: int) -> Iterator[tuple[int, Matrix, Matrix]]:
    """Each point that a tile of 1 … 4 outputs uses: how its inputs `(outputs + 2,)` are mixed, its share in outputs."""
    points = POINTS[: outputs + 1]
    for number, point in enumerate(points):
        # 0 at the other points. That it is not 1 at its own is made up for by the mixture of the taps, of which tiles
        # of all sizes use the same.
        others = np.poly([other for other in points if other != point])[::-1]
        scale = np.prod([point - other for other in POINTS[outputs + 1 :]])
        yield number, np.append(others * scale, 0.0), np.array([point**k for k in range(outputs)])
    yield INFINITY, np.poly(points)[::-1], np.eye(outputs)[-1]


def _of_taps() -> Matrix:
    """`(6, 3)`."""
    scales = [1 / np.prod([point - other for other in POINTS if other != point]) for point in POINTS]
    powers = [[scale * point**k for k in range(TAPS)] for point, scale in zip(POINTS, scales, strict=True)]
    return np.array([*powers, [0.0, 0.0, 1.0]])
