"""Winograd's mixtures: a filter of three taps along one side and both, from products of mixtures alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcnn_edu.winograd_mixtures import Matrix, Mixtures, of_crop, of_tile


def filtered(made: list[Mixtures], places: Matrix, taps: Matrix) -> Matrix:
    """Outputs of a block of places by its mixtures: for each pair of points as many products as there are tiles."""
    outputs = np.zeros(len(made[0].of_answers))
    for mix in made:
        seen = (mix.of_inputs @ places.ravel()).reshape(-1, len(mix.of_taps))
        outputs += mix.of_answers @ (seen * (mix.of_taps @ taps.ravel())).ravel()
    return outputs


def slid(padded: Matrix, taps: Matrix) -> Matrix:
    """The 3 × 3 filter at each place, by loops."""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    return np.array([(padded[y : y + 3, x : x + 3] * taps).sum() for y in range(height) for x in range(width)])


@given(
    height=st.integers(1, 13),
    width=st.integers(1, 13),
    at_once=st.integers(1, 36),
    seed=st.integers(0, 10**6),
)
def test_a_crop_of_any_size_is_filtered_as_by_sliding(height: int, width: int, at_once: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    places, taps = generator.normal(size=(height, width)), generator.normal(size=(3, 3))
    made = of_crop(height, width, at_once)
    np.testing.assert_allclose(filtered(made, places, taps), slid(np.pad(places, 1), taps), atol=1e-11)
    assert all(1 <= len(mix.of_taps) <= at_once for mix in made)


def test_a_tile_is_filtered_with_what_surrounds_it() -> None:
    generator = np.random.default_rng(0)
    places, taps = generator.normal(size=(6, 6)), generator.normal(size=(3, 3))
    made = of_tile(13)
    np.testing.assert_allclose(filtered(made, places, taps), slid(places, taps), atol=1e-12)
    assert [len(mix.of_taps) for mix in made] == [12, 12, 12]


@pytest.mark.parametrize(
    ("side", "products"),
    # Tiles of 1, 2, 3 and 4 outputs take 3, 4, 5 and 6 points.
    [(1, 3), (2, 4), (3, 5), (4, 6), (5, 6 + 3), (6, 6 + 4), (7, 6 + 5), (8, 6 + 6), (14, 3 * 6 + 4)],
)
def test_a_last_tile_takes_as_few_products_as_its_outputs_need(side: int, products: int) -> None:
    assert sum(len(mix.of_inputs) for mix in of_crop(side, side, 13)) == products**2
    assert sum(len(mix.of_inputs) for mix in of_crop(side, 7, 13)) == products * 11
