"""Random choice in a fixed-size form: no result has a length that depends on the data, so a GPU never waits.

The random numbers are drawn first, by `random_keys`, and the choice is a function of them: so a step can be run for
all images of a batch at once (torch.vmap), each with its own numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor


def random_keys(shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers in [0, 1) on `device`, drawn where the generator lives."""
    source = device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=source).to(device, non_blocking=True)


def keep_at_random(mask: Tensor, limit: int, at_most: Tensor | int, keys: Tensor) -> Tensor:
    """A `(A,)` boolean mask with at most `at_most` of the true rows of `mask` `(A,)`, chosen uniformly.

    `at_most` may live on the device; `limit` is its largest possible value, known beforehand; keys: `(A,)` random.
    """
    # The random key of each candidate and -1 for the others; the largest keys are a uniform choice.
    chosen_keys, chosen = torch.where(mask, keys, -1.0).topk(min(limit, len(mask)))
    accepted = (chosen_keys >= 0) & (torch.arange(len(chosen), device=mask.device) < at_most)
    return torch.zeros_like(mask).scatter(0, chosen, accepted)


def draw(mask: Tensor, needed: Tensor, keys: Tensor, repeats: Tensor) -> Tensor:
    """`(..., size)` row numbers of true rows of `mask` `(..., N)`, in random order; each mask by itself.

    Without repeats as long as there are `needed` `(...)` true rows; else with replacement. keys: `(..., N)` and
    repeats: `(..., size)`, both random. When no row is true the numbers mean nothing and must not be used.
    """
    count, (rows, size) = mask.sum(dim=-1, keepdim=True), (mask.shape[-1], repeats.shape[-1])
    # True rows first, in random order; no more than `size` of them are looked at.
    shuffled = torch.where(mask, keys, -1.0).topk(min(size, rows)).indices
    position = torch.arange(size, device=mask.device)
    position = torch.where(count < needed[..., None], (repeats * count).long(), position)
    return shuffled.gather(-1, position.clamp(max=min(size, rows) - 1))
