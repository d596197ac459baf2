"""Batches: every image once an epoch, like shapes together, and the same from any starting step."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rcnn_edu.data import SHAPE_CLASSES, VOCDataset, write_shapes
from rcnn_edu.data.batches import BatchSampler, Key, Share, target_size
from rcnn_edu.data.choose import JoinedDataset
from rcnn_edu.data.loader import Batch, TrainingImages, training_loader


def batches(wide: int, tall: int, batch_size: int, steps: int, seed: int = 0, start: int = 0) -> list[list[Key]]:
    ratios = np.array([1.5] * wide + [0.6] * tall)
    return list(BatchSampler(ratios, batch_size, seed, steps, start))


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 7), st.integers(0, 40), st.integers(0, 3))
def test_a_run_goes_on_with_the_very_same_batches(wide: int, tall: int, size: int, start: int, seed: int) -> None:
    if wide + tall == 0:
        return
    assert batches(wide, tall, size, 40, seed, start) == batches(wide, tall, size, 40, seed)[start:]


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 6))
def test_an_epoch_has_each_image_once_but_for_fewer_than_a_batch(wide: int, tall: int, size: int) -> None:
    total = wide + tall
    if total < size:
        return
    epoch = batches(wide, tall, size, total // size)
    seen = Counter(key.row for batch in epoch for key in batch)
    assert all(len(batch) == size for batch in epoch)
    assert max(seen.values()) == 1
    assert len(seen) == total // size * size


def test_a_batch_holds_images_of_one_shape_but_for_one_an_epoch() -> None:
    mixed = 0
    for batch in batches(41, 23, 4, 16):
        shapes = {key.row < 41 for key in batch}
        mixed += len(shapes) > 1
    assert mixed <= 1


@given(st.integers(1, 30), st.integers(0, 30), st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 2), (3, 2)]))
def test_the_shares_of_all_processes_and_passes_make_up_each_batch(
    wide: int, tall: int, division: tuple[int, int]
) -> None:
    """In order: what is drawn for an image does not depend on who computes it."""
    ratios = np.array([1.5] * wide + [0.6] * tall)
    processes, passes = division
    shares = [
        list(BatchSampler(ratios, 12, 0, 7, start=2, share=Share(rank, processes, passes))) for rank in range(processes)
    ]
    for place, whole in enumerate(BatchSampler(ratios, 12, 0, 7, start=2)):
        mine = [share[place * passes : (place + 1) * passes] for share in shares]
        assert [key for of_process in mine for of_pass in of_process for key in of_pass] == whole
        assert {len(of_pass) for of_process in mine for of_pass in of_process} == {12 // processes // passes}


def test_wide_and_tall_batches_come_mixed() -> None:
    """All wide ones first, and then all tall ones, would make the network forget the ones for the others."""
    kinds = [batch[0].row < 60 for batch in batches(60, 60, 4, 30)]
    assert kinds.count(True) == 15
    assert sum(one != other for one, other in pairwise(kinds)) > 8


def test_each_place_of_each_step_has_its_own_seed() -> None:
    seeds = [key.seed for batch in batches(40, 0, 4, 30) for key in batch]
    assert len(set(seeds)) == 120
    assert seeds != [key.seed for batch in batches(40, 0, 4, 30, seed=1) for key in batch]


def test_sizes_are_drawn_evenly_and_always_alike() -> None:
    sizes = (480, 512, 544)
    drawn = [target_size(0, step, sizes) for step in range(600)]
    assert drawn == [target_size(0, step, sizes) for step in range(600)]
    assert drawn != [target_size(1, step, sizes) for step in range(600)]
    counts = Counter(drawn)
    assert set(counts) == set(sizes)
    assert min(counts.values()) > 130  # 200 each on average: six standard deviations are 69
    assert target_size(0, 0, ()) is None


def test_fewer_images_than_a_batch_are_repeated() -> None:
    (batch,) = batches(3, 0, 8, 1)
    assert Counter(key.row for key in batch).most_common()[-1][1] >= 2
    assert len(batch) == 8


def test_seeds_and_epochs_differ_and_half_is_flipped() -> None:
    first, second = batches(64, 0, 4, 16), batches(64, 0, 4, 16, seed=1)
    assert first != second
    both = batches(64, 0, 4, 32)
    assert both[:16] == first
    assert both[16:] != first
    flips = [key.flip for batch in batches(400, 0, 4, 100) for key in batch]
    assert 140 < sum(flips) < 260  # 400 fair coins: six standard deviations are 60
    assert not any(key.flip for batch in BatchSampler(np.ones(9), 2, 0, 4, flip=False) for key in batch)


def test_flipping_twice_changes_nothing_and_once_mirrors() -> None:
    image = torch.arange(3 * 4 * 10, dtype=torch.uint8).reshape(3, 4, 10)
    boxes = torch.tensor([[1.0, 0.0, 4.0, 3.0]])
    device, batch = (
        torch.device("cpu"),
        Batch([image], [{"boxes": boxes, "labels": torch.ones(1)}], [True], [0], [], []),
    )
    (flipped,), (mirrored,) = batch.to(device)
    assert mirrored["boxes"].tolist() == [[6.0, 0.0, 9.0, 3.0]]
    assert torch.equal(flipped[:, :, 6:9], image[:, :, 1:4].flip(2))
    (again,), (back,) = batch._replace(images=[flipped], targets=[mirrored]).to(device)
    assert torch.equal(again, image)
    assert torch.equal(back["boxes"], boxes)
    assert torch.equal(batch.targets[0]["boxes"], boxes)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> VOCDataset:
    root = write_shapes(tmp_path_factory.mktemp("shapes") / "shapes", train=6, val=2, size=(64, 96))
    return VOCDataset(root, "train", SHAPE_CLASSES)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_what_the_sampler_asks_for(dataset: VOCDataset, workers: int) -> None:
    """And draws nothing from torch's own generator, which training samples with."""
    before = torch.get_rng_state()
    loader = training_loader(dataset, batch_size=2, seed=3, steps=6, start=1, workers=workers)
    keys = list(BatchSampler(dataset.aspect_ratios(), 2, 3, 6, start=1))
    for batch, wanted in zip(loader, keys, strict=True):
        assert batch.image_ids == [dataset.image_ids[key.row] for key in wanted]
        assert batch.seeds == [key.seed for key in wanted]
        images, targets = batch.to(torch.device("cpu"))
        for image, target, key in zip(images, targets, wanted, strict=True):
            pixels, annotation = dataset[key.row]
            boxes = annotation["boxes"]
            if key.flip:
                x1, y1, x2, y2 = boxes.unbind(1)
                pixels, boxes = pixels.flip(2), torch.stack([96 - x2, y1, 96 - x1, y2], dim=1)
            assert torch.equal(image, pixels)
            assert torch.equal(target["boxes"], boxes)
    assert torch.equal(torch.get_rng_state(), before)


def test_difficult_objects_are_not_trained_on(dataset: VOCDataset) -> None:
    row = next(i for i, one in enumerate(dataset.annotations) if len(one.labels) > 1)
    dataset.annotations[row].difficult[0] = True
    try:
        example = TrainingImages(dataset)[Key(row, False)]
        assert not isinstance(example, Exception)
        assert torch.equal(example.target["boxes"], dataset[row][1]["boxes"][1:])
        assert torch.equal(example.target["labels"], dataset[row][1]["labels"][1:])
    finally:
        dataset.annotations[row].difficult[0] = False


def test_datasets_are_joined_in_order(dataset: VOCDataset) -> None:
    other = VOCDataset(dataset.root, "val", SHAPE_CLASSES)
    joined = JoinedDataset([dataset, other, dataset])
    assert len(joined) == 14
    assert joined.image_ids == dataset.image_ids + other.image_ids + dataset.image_ids
    assert [joined[i][1]["image_id"] for i in range(14)] == joined.image_ids
    assert joined.aspect_ratios().shape == (14,)
