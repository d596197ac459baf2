"""Batches for training: workers decode, and whatever works on pixels (flip, resize) is done on the model's device."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rcnn_edu.data.batches import BatchSampler, Key, Share
from rcnn_edu.data.choose import DetectionDataset
from rcnn_edu.errors import UserError
from rcnn_edu.interruption import end_deaf_children, leave_signals_to_parent


class Batch(NamedTuple):
    """What one pass of a training step sees, still on the CPU and as decoded."""

    images: list[Tensor]
    """uint8 `(3, H, W)` each."""
    targets: list[dict[str, Tensor]]
    """`{"boxes" (G, 4), "labels" (G,)}` each, without difficult objects."""
    flips: list[bool]
    """Whether `to` mirrors the image."""
    seeds: list[int]
    """Per image, for the choice of its anchors and RoIs."""
    image_ids: list[str]
    errors: list[UserError]
    """Why an image of the batch is missing: it could not be decoded."""

    def to(self, device: torch.device) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Images and targets on `device`, mirrored where they are to be."""
        images, targets = [], []
        for image, target, flip in zip(self.images, self.targets, self.flips, strict=True):
            boxes = flip_boxes(target["boxes"], image.shape[2]) if flip else target["boxes"]
            target = {key: value.to(device, non_blocking=True) for key, value in {**target, "boxes": boxes}.items()}
            image = image.to(device, non_blocking=True)
            images.append(image.flip(2) if flip else image)
            targets.append(target)
        return images, targets

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory, from which a GPU reads without waiting."""
        targets = [{k: v.pin_memory() for k, v in one.items()} for one in self.targets]
        return self._replace(images=[image.pin_memory() for image in self.images], targets=targets)


class Example(NamedTuple):
    """One image of a batch, as a worker hands it over."""

    image: Tensor
    target: dict[str, Tensor]
    image_id: str
    key: Key


class TrainingImages(Dataset["Example | UserError"]):
    """Images and targets as training wants them: without difficult objects.

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
        return Example(image, {"boxes": boxes, "labels": labels}, str(target["image_id"]), key)


def flip_boxes(boxes: Tensor, width: int) -> Tensor:
    """`(G, 4)` boxes of an image of that width, mirrored, left for right."""
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def training_loader(
    dataset: DetectionDataset,
    batch_size: int,
    seed: int,
    steps: int,
    start: int = 0,
    flip: bool = True,
    workers: int = 2,
    pin_memory: bool = False,
    share: Share = Share(),
) -> DataLoader[Batch]:
    """The batches of steps `start` … `steps`−1, decoded in `workers` processes (0: in this one)."""
    end_deaf_children()
    return DataLoader(
        TrainingImages(dataset),  # type: ignore[arg-type]
        batch_sampler=BatchSampler(dataset.aspect_ratios(), batch_size, seed, steps, start, flip, share),
        num_workers=usable_workers(workers),
        collate_fn=_collate,
        worker_init_fn=leave_signals_to_parent,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # or the loader would draw from torch's own
    )


def usable_workers(wanted: int) -> int:
    """`wanted` worker processes, but no more than this process's part of the machine's processors."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes on this machine, as torchrun says
    return min(wanted, max(1, processors // beside))


def _collate(items: list[Example | UserError]) -> Batch:
    examples = [item for item in items if isinstance(item, Example)]
    return Batch(
        [one.image for one in examples],
        [one.target for one in examples],
        [one.key.flip for one in examples],
        [one.key.seed for one in examples],
        [one.image_id for one in examples],
        [item for item in items if isinstance(item, UserError)],
    )
