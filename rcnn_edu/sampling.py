"""Random choice in a fixed-size form: no result has a length that depends on the data, so a GPU never waits."""

from __future__ import annotations

import torch
from torch import Tensor


def random_keys(count: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """`(count,)` uniform numbers in [0, 1) on `device`, drawn where the generator lives."""
    source = device if generator is None else generator.device
    return torch.rand(count, generator=generator, device=source).to(device, non_blocking=True)


def keep_at_random(mask: Tensor, limit: int, at_most: Tensor | int, generator: torch.Generator | None) -> Tensor:
    """A `(A,)` boolean mask with at most `at_most` of the true rows of `mask` `(A,)`, chosen uniformly.

    `at_most` may live on the device; `limit` is its largest possible value, known beforehand.
    """
    keys = random_keys(len(mask), mask.device, generator)
    # A random key for each candidate and -1 for the others; the largest keys are a uniform choice.
    chosen_keys, chosen = torch.where(mask, keys, -1.0).topk(min(limit, len(mask)))
    accepted = (chosen_keys >= 0) & (torch.arange(len(chosen), device=mask.device) < at_most)
    return torch.zeros_like(mask).scatter_(0, chosen, accepted)


def draw(mask: Tensor, size: int, needed: Tensor, generator: torch.Generator | None) -> Tensor:
    """`(size,)` row numbers of true rows of `mask` `(N,)`, in random order.

    Without repeats as long as there are `needed` (0-d) true rows; else with replacement. When no row is true the
    numbers mean nothing and must not be used.
    """
    count = mask.sum()
    keys = random_keys(len(mask), mask.device, generator)
    # True rows first, in random order; no more than `size` of them are looked at.
    shuffled = torch.where(mask, keys, -1.0).topk(min(size, len(mask))).indices
    position = torch.arange(size, device=mask.device)
    repeated = (random_keys(size, mask.device, generator) * count).long()
    position = torch.where(count < needed, repeated, position)
    return shuffled[position.clamp(max=len(shuffled) - 1)]
