"""Random choice of a fixed size: subsets, replacement, uniformity, and whose random numbers are used."""

from __future__ import annotations

import pytest
import torch
from conftest import generator
from torch import Tensor

from rcnn_edu import sampling
from rcnn_edu.sampling import random_keys


def keep_at_random(mask: Tensor, limit: int, at_most: Tensor | int, source: torch.Generator | None) -> Tensor:
    """With random numbers from `source`."""
    return sampling.keep_at_random(mask, limit, at_most, random_keys((len(mask),), mask.device, source))


def draw(mask: Tensor, size: int, needed: Tensor, source: torch.Generator | None) -> Tensor:
    """With random numbers from `source`."""
    keys, repeats = random_keys((len(mask) + size,), mask.device, source).split([len(mask), size])
    return sampling.draw(mask, needed, keys, repeats)


def chi_square(counts: Tensor) -> float:
    """How far counts are from all being equal; its mean is about the number of counts for a fair choice."""
    expected = counts.double().mean()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(("true_rows", "at_most"), [(0, 5), (3, 5), (5, 5), (30, 5), (30, 0), (50, 50)])
def test_keep_at_random_keeps_true_rows_and_as_many_as_it_may(true_rows: int, at_most: int) -> None:
    mask = torch.zeros(50, dtype=torch.bool)
    mask[torch.randperm(50)[:true_rows]] = True
    kept = keep_at_random(mask, at_most, at_most, generator())
    assert kept.sum() == min(true_rows, at_most)
    assert not (kept & ~mask).any()


def test_keep_at_random_takes_a_number_that_lives_on_the_device() -> None:
    mask = torch.ones(20, dtype=torch.bool)
    assert keep_at_random(mask, 10, torch.tensor(4), generator()).sum() == 4


def test_keep_at_random_keeps_every_row_equally_often() -> None:
    source, mask = generator(1), torch.arange(40) % 2 == 0
    counts = sum(keep_at_random(mask, 5, 5, source).long() for _ in range(2000))
    assert isinstance(counts, Tensor)
    assert (counts[~mask] == 0).all()
    # 20 rows, chosen 500 times each; 19 degrees of freedom: above 50 once in ten thousand fair choices
    assert 3 < chi_square(counts[mask]) < 50


def test_draw_gives_distinct_true_rows_while_there_are_enough() -> None:
    mask = torch.arange(30) % 3 == 0
    rows = draw(mask, 8, torch.tensor(8), generator())
    assert rows.shape == (8,)
    assert len(set(rows.tolist())) == 8
    assert mask[rows].all()


def test_draw_repeats_true_rows_when_there_are_too_few() -> None:
    mask = torch.zeros(30, dtype=torch.bool)
    mask[[4, 17]] = True
    rows = draw(mask, 20, torch.tensor(20), generator())
    assert set(rows.tolist()) == {4, 17}


@pytest.mark.parametrize("needed", [6, 11])
def test_draw_takes_every_row_equally_often_with_and_without_repeats(needed: int) -> None:
    source, mask = generator(2), torch.arange(20) >= 10
    drawn = torch.cat([draw(mask, 6, torch.tensor(needed), source) for _ in range(1500)])
    counts = torch.bincount(drawn, minlength=20)
    assert counts[:10].sum() == 0
    assert 0.3 < chi_square(counts[10:]) < 35  # 9 degrees of freedom


def test_the_generator_decides_and_the_global_state_is_not_touched() -> None:
    mask = torch.rand(200) < 0.5
    before = torch.get_rng_state()
    first, again, other = (keep_at_random(mask, 20, 20, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    drawn = [draw(mask, 20, torch.tensor(20), generator(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_the_global_state_decides() -> None:
    mask = torch.ones(200, dtype=torch.bool)
    torch.manual_seed(5)
    first = keep_at_random(mask, 20, 20, None)
    torch.manual_seed(5)
    assert torch.equal(keep_at_random(mask, 20, 20, None), first)
    assert not torch.equal(keep_at_random(mask, 20, 20, None), first)
