"""Which images come when, and what is drawn for each: pure functions of the seed and the step.

So a run can stop and go on anywhere, and each of several processes can take its part of a batch without asking the
others. Each epoch is a new permutation of the dataset, cut into batches of images of like shape (tall with tall, wide
with wide), because a batch is padded to its largest image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

# Told apart from each other, and from the epochs' permutations, by a last number that is not 0.
_SIZES, _IMAGES, _NETWORK = 1, 2, 3


class Key(NamedTuple):
    """One image of one batch, and what is drawn for it."""

    row: int
    flip: bool
    seed: int = 0
    """For the random choice of its anchors and RoIs."""


class Share(NamedTuple):
    """The part of each batch that one process computes, and the passes that it does so in."""

    rank: int = 0
    processes: int = 1
    passes: int = 1


class BatchSampler(Sampler[list[Key]]):
    """The batches of steps `start` … `steps`−1; of each, the passes of one process, one after the other.

    aspect_ratios: `(N,)` width over height of each image; batch_size: images a step over all processes and passes,
    which must divide it. An epoch's last images, too few for a batch of their shape, are joined with those of the other
    shape, and the rest waits for the next epoch. Needs at least one image.
    """

    def __init__(
        self, aspect_ratios: npt.NDArray[np.float64], batch_size: int, seed: int, steps: int, start: int = 0,
        flip: bool = True, share: Share = Share(),
    ) -> None:  # fmt: skip
        self.wide = aspect_ratios >= 1
        self.batch_size, self.seed, self.steps, self.start, self.flip = batch_size, seed, steps, start, flip
        self.share = share

    def __len__(self) -> int:
        return max(self.steps - self.start, 0) * self.share.passes

    def __iter__(self) -> Iterator[list[Key]]:
        rank, processes, passes = self.share
        of_process, of_pass = self.batch_size // processes, self.batch_size // (processes * passes)
        per_epoch = self._batches(0)
        for step in range(self.start, self.steps):
            epoch, place = divmod(step, len(per_epoch))
            if place == 0 or step == self.start:
                batches = self._batches(epoch)
            seeds = _image_seeds(self.seed, step, self.batch_size)
            keys = [key._replace(seed=seed) for key, seed in zip(batches[place], seeds, strict=True)]
            for first in range(rank * of_process, (rank + 1) * of_process, of_pass):
                yield keys[first : first + of_pass]

    def _batches(self, epoch: int) -> list[list[Key]]:
        rng = np.random.default_rng([self.seed, epoch])
        size = self.batch_size
        order = rng.permutation(len(self.wide))
        if len(order) < size:  # fewer images than a batch holds: repeat them
            order = np.resize(order, size)
        flips = rng.random(len(order)) < 0.5 if self.flip else np.zeros(len(order), dtype=bool)
        keys = [Key(int(i), bool(f)) for i, f in zip(order, flips, strict=True)]
        wide = [key for key in keys if self.wide[key.row]]
        tall = [key for key in keys if not self.wide[key.row]]
        whole_wide, whole_tall = len(wide) // size * size, len(tall) // size * size
        rest = wide[whole_wide:] + tall[whole_tall:]
        line = wide[:whole_wide] + tall[:whole_tall] + rest[: len(rest) // size * size]
        batches = [line[i : i + size] for i in range(0, len(line), size)]
        return [batches[i] for i in rng.permutation(len(batches))]


def target_size(seed: int, step: int, sizes: Sequence[int]) -> int | None:
    """The shorter side of all images of a step, drawn from `sizes`; none if there are none to choose from."""
    return int(np.random.default_rng([seed, step, _SIZES]).choice(sizes)) if sizes else None


def network_seed(seed: int, step: int, rank: int) -> int:
    """For what the network itself draws in a step (VGG-16's dropout), which differs from process to process."""
    return int(np.random.SeedSequence([seed, step, rank, _NETWORK]).generate_state(1, np.uint64)[0])


def _image_seeds(seed: int, step: int, batch_size: int) -> list[int]:
    """One number in 0…2⁶⁴−1 per place in a step's batch."""
    seeds: list[int] = np.random.SeedSequence([seed, step, _IMAGES]).generate_state(batch_size, np.uint64).tolist()
    return seeds
