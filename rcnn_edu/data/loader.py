"""Batches for training: which images come when is a pure function of the seed, so a run can stop and go on anywhere.

Workers decode and flip; the model resizes on its own device. Each epoch is a new permutation of the dataset, cut into
batches of images of like shape (tall with tall, wide with wide), because a batch is padded to its largest image.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from rcnn_edu.data.choose import DetectionDataset
from rcnn_edu.errors import UserError


class Batch(NamedTuple):
    """What one training step sees, still on the CPU."""

    images: list[Tensor]
    """uint8 `(3, H, W)` each."""
    targets: list[dict[str, Tensor]]
    """`{"boxes" (G, 4), "labels" (G,)}` each, without difficult objects."""
    image_ids: list[str]
    errors: list[UserError]
    """Why an image of the batch is missing: it could not be decoded."""

    def to(self, device: torch.device) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Images and targets on `device`."""
        images = [image.to(device, non_blocking=True) for image in self.images]
        targets = [{k: v.to(device, non_blocking=True) for k, v in one.items()} for one in self.targets]
        return images, targets

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory, from which a GPU reads without waiting."""
        targets = [{k: v.pin_memory() for k, v in one.items()} for one in self.targets]
        return Batch([image.pin_memory() for image in self.images], targets, self.image_ids, self.errors)


class Example(NamedTuple):
    """One image of a batch, as a worker hands it over."""

    image: Tensor
    target: dict[str, Tensor]
    image_id: str


class Key(NamedTuple):
    """One image of one batch."""

    row: int
    flip: bool


class BatchSampler(Sampler[list[Key]]):
    """The batches of steps `start` … `steps`−1.

    aspect_ratios: `(N,)` width over height of each image. An epoch's last images, too few for a batch of their shape,
    are joined with those of the other shape, and the rest waits for the next epoch. Needs at least one image.
    """

    def __init__(
        self, aspect_ratios: npt.NDArray[np.float64], batch_size: int, seed: int, steps: int, start: int = 0,
        flip: bool = True,
    ) -> None:  # fmt: skip
        self.wide = aspect_ratios >= 1
        self.batch_size, self.seed, self.steps, self.start, self.flip = batch_size, seed, steps, start, flip

    def __len__(self) -> int:
        return max(self.steps - self.start, 0)

    def __iter__(self) -> Iterator[list[Key]]:
        per_epoch = self._batches(0)
        for step in range(self.start, self.steps):
            epoch, place = divmod(step, len(per_epoch))
            if place == 0 or step == self.start:
                batches = self._batches(epoch)
            yield batches[place]

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


class TrainingImages(Dataset["Example | UserError"]):
    """Images and targets as training wants them: flipped where the key says so, without difficult objects.

    An image that cannot be decoded gives its error instead, for the main process to raise: one raised in a worker
    would arrive wrapped in the worker's traceback.
    """

    def __init__(self, dataset: DetectionDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> Example | UserError:
        try:
            image, target = self.dataset[key.row]
        except UserError as error:
            return error
        wanted = ~target["difficult"]
        boxes, labels = target["boxes"][wanted], target["labels"][wanted]
        if key.flip:
            image, boxes = flip_horizontally(image, boxes)
        return Example(image, {"boxes": boxes, "labels": labels}, str(target["image_id"]))


def flip_horizontally(image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror `(3, H, W)` and its `(G, 4)` boxes, left for right."""
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    width = image.shape[2]
    return image.flip(2), torch.stack([width - x2, y1, width - x1, y2], dim=1)


def training_loader(
    dataset: DetectionDataset,
    batch_size: int,
    seed: int,
    steps: int,
    start: int = 0,
    flip: bool = True,
    workers: int = 2,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    """The batches of steps `start` … `steps`−1, decoded in `workers` processes (0: in this one)."""
    return DataLoader(
        TrainingImages(dataset),  # type: ignore[arg-type]
        batch_sampler=BatchSampler(dataset.aspect_ratios(), batch_size, seed, steps, start, flip),
        num_workers=usable_workers(workers),
        collate_fn=_collate,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # or the loader would draw from the generator that training samples with
    )


def usable_workers(wanted: int) -> int:
    """`wanted` worker processes, but no more than there are processors to run them."""
    return min(wanted, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _collate(items: list[Example | UserError]) -> Batch:
    examples = [item for item in items if isinstance(item, Example)]
    return Batch(
        [one.image for one in examples],
        [one.target for one in examples],
        [one.image_id for one in examples],
        [item for item in items if isinstance(item, UserError)],
    )
