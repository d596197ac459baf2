"""The shapes dataset: what a scene holds, and how a folder of them is written, resumed and replaced."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnn_edu.data import SHAPE_CLASSES, VOCDataset, render_scene, scenes, shapes, write_shapes
from rcnn_edu.data.scene_textures import background
from rcnn_edu.data.shapes import scene_rng
from rcnn_edu.errors import UserError

SMALL = (64, 80)

Scene = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.int64]]


def scene(index: int, seed: int = 0, split: str = "train", size: tuple[int, int] = (240, 320)) -> Scene:
    return render_scene(scene_rng(seed, split, index), size)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# --- scenes ------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(64, 300), st.integers(64, 300))
def test_a_scene(seed: int, height: int, width: int) -> None:
    image, boxes, labels = render_scene(np.random.default_rng(seed), (height, width))
    assert image.dtype == np.uint8
    assert image.shape == (height, width, 3)
    assert boxes.dtype == np.float32
    assert boxes.shape == (len(labels), 4)
    assert 1 <= len(labels) <= 6
    assert labels.dtype == np.int64
    assert set(labels.tolist()) <= {1, 2, 3, 4, 5}
    assert np.array_equal(boxes, boxes.round())
    assert (boxes >= 0).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes[:, 2] <= width).all()
    assert (boxes[:, 3] <= height).all()
    assert (boxes[:, 2:] - boxes[:, :2]).max() <= 151


def test_a_scene_depends_on_its_stream_alone() -> None:
    image, boxes, labels = scene(3)
    scene(4)
    again = scene(3)
    assert np.array_equal(image, again[0])
    assert np.array_equal(boxes, again[1])
    assert np.array_equal(labels, again[2])


def test_seeds_splits_and_numbers_give_different_scenes() -> None:
    images = [scene(i, s, k, SMALL)[0].tobytes() for i in range(20) for s in (0, 1) for k in ("train", "val")]
    assert len(set(images)) == len(images)


def test_too_small() -> None:
    with pytest.raises(ValueError, match="64 pixels"):
        render_scene(np.random.default_rng(0), (63, 100))


def test_scenes_are_varied() -> None:
    found = [scene(index) for index in range(100)]
    counts = np.bincount([len(labels) for _, _, labels in found], minlength=7)
    assert (counts[1:] >= 5).all()
    labels = np.concatenate([one[2] for one in found])
    assert (np.bincount(labels, minlength=6)[1:] >= 0.12 * len(labels)).all()
    boxes = np.concatenate([one[1] for one in found])
    longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert np.percentile(longer, 10) < 40
    assert np.percentile(longer, 90) > 100
    assert (boxes == 0).any(), "some shapes are cut by the border"


def test_boxes_are_the_visible_part_and_enough_of_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worked out anew from the shapes that were painted, in the order of painting."""
    painted: list[tuple[npt.NDArray[np.uint8], tuple[int, int]]] = []
    paint = scenes._paint

    def watch(rng: np.random.Generator, canvas: Any, shape: Any) -> None:
        painted.append((np.asarray(shape.alpha), shape.corner))
        paint(rng, canvas, shape)

    monkeypatch.setattr(scenes, "_paint", watch)
    overlapping = 0
    for index in range(40):
        painted.clear()
        _, boxes, _ = scene(index, seed=5)
        pad, layers = 200, []
        for alpha, (x, y) in painted:
            layer = np.zeros((240 + 2 * pad, 320 + 2 * pad), dtype=bool)
            layer[y + pad : y + pad + alpha.shape[0], x + pad : x + pad + alpha.shape[1]] = alpha >= 128
            layers.append(layer)
        assert len(layers) == len(boxes)
        for order, (layer, box) in enumerate(zip(layers, boxes.tolist(), strict=True)):
            seen = layer[pad:-pad, pad:-pad].copy()
            for later in layers[order + 1 :]:
                seen &= ~later[pad:-pad, pad:-pad]
            assert seen.sum() >= 0.4 * layer.sum()
            overlapping += int(seen.sum() < layer[pad:-pad, pad:-pad].sum())
            rows, columns = np.nonzero(seen)
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert overlapping > 10


def test_pixels_and_boxes_agree() -> None:
    """A shape alone on a bright background: its dark rim is where the box ends."""
    checked = 0
    for index in range(80):
        rng = scene_rng(9, "train", index)
        empty = np.asarray(background(rng, 240, 320)).astype(int)
        image, boxes, _ = scene(index, seed=9)
        if len(boxes) != 1 or empty.mean() < 180:
            continue
        changed = (np.abs(image - empty).max(axis=2)) > 105
        rows, columns = np.nonzero(changed)
        found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(found - boxes[0]).max() <= 2
        checked += 1
    assert checked >= 3


# --- folders -----------------------------------------------------------------------------------------------------


def test_a_folder_is_read_back_as_it_was_drawn(tmp_path: Path) -> None:
    root = write_shapes(tmp_path / "shapes", train=6, val=3, seed=4)
    assert root == tmp_path / "shapes"
    for split, count in (("train", 6), ("val", 3)):
        dataset = VOCDataset(root, split, SHAPE_CLASSES)
        assert len(dataset) == count
        for index in range(count):
            image, target = dataset[index]
            drawn, boxes, labels = scene(index, 4, split)
            assert np.array_equal(target["boxes"].numpy(), boxes)
            assert np.array_equal(target["labels"].numpy(), labels)
            assert not target["difficult"].any()
            assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - drawn).mean() < 6
    both = VOCDataset(root, "trainval", SHAPE_CLASSES).image_ids
    assert both == VOCDataset(root, "train", SHAPE_CLASSES).image_ids + VOCDataset(root, "val", SHAPE_CLASSES).image_ids
    assert VOCDataset(root, "trainval", None).classes == tuple(sorted(SHAPE_CLASSES))


def test_same_bytes_every_time_and_more_scenes_keep_the_first(tmp_path: Path) -> None:
    few = contents(write_shapes(tmp_path / "a", 3, 2, size=SMALL))
    again = contents(write_shapes(tmp_path / "b", 3, 2, size=SMALL))
    more = contents(write_shapes(tmp_path / "c", 5, 4, size=SMALL))
    assert few == again
    assert {name: more[name] for name in few if "_0" in name} == {n: c for n, c in few.items() if "_0" in n}
    assert contents(write_shapes(tmp_path / "d", 3, 2, seed=1, size=SMALL)) != few


def test_a_complete_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_shapes(tmp_path / "shapes", 3, 2, size=SMALL)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    monkeypatch.setattr(shapes, "render_scene", None)
    write_shapes(root, 3, 2, size=SMALL)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize("lost", ["JPEGImages/train_00001.jpg", "Annotations/val_00000.xml", "ImageSets/Main/val.txt"])
def test_a_lost_file_is_written_again(tmp_path: Path, lost: str) -> None:
    root = write_shapes(tmp_path / "shapes", 3, 2, size=SMALL)
    before = contents(root)
    (root / lost).unlink()
    assert contents(write_shapes(root, 3, 2, size=SMALL)) == before


def test_an_interrupted_folder_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contents(write_shapes(tmp_path / "whole", 5, 2, size=SMALL))
    drawn: list[int] = []

    def interrupted(rng: np.random.Generator, size: tuple[int, int]) -> Scene:
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(0)
        return render_scene(rng, size)

    root = tmp_path / "shapes"
    with monkeypatch.context() as patch:
        patch.setattr(shapes, "render_scene", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_shapes(root, 5, 2, size=SMALL)
    assert not (root / "shapes.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in (root / "JPEGImages").iterdir()}
    assert len(kept) == 3
    assert contents(write_shapes(root, 5, 2, size=SMALL)) == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_other_parameters_draw_the_folder_anew(tmp_path: Path) -> None:
    root = write_shapes(tmp_path / "shapes", 4, 3, size=SMALL)
    wanted = contents(write_shapes(tmp_path / "fresh", 2, 1, seed=8, size=SMALL))
    assert contents(write_shapes(root, 2, 1, seed=8, size=SMALL)) == wanted


def test_a_stop_at_any_moment_is_recovered_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop before the first, second, … change of the disk, then run again."""
    wanted = contents(write_shapes(tmp_path / "fresh", 2, 1, seed=8, size=SMALL))

    def stopping(function: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return function(*args, **options)

        return call

    stops = 0
    while True:
        root = write_shapes(tmp_path / f"old{stops}", 3, 1, seed=7, size=SMALL)
        left = [stops]
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", stopping(os.replace, left))
            patch.setattr(Path, "unlink", stopping(Path.unlink, left))
            try:
                write_shapes(root, 2, 1, seed=8, size=SMALL)
            except KeyboardInterrupt:
                stops += 1
            else:
                break
        write_shapes(root, 2, 1, seed=8, size=SMALL)
        after = {name: content for name, content in contents(root).items() if not name.endswith(".tmp")}
        assert after == wanted
    assert stops > 15


def test_a_mark_that_cannot_be_read_means_draw_anew(tmp_path: Path) -> None:
    root = write_shapes(tmp_path / "shapes", 2, 1, size=SMALL)
    before = contents(root)
    (root / "shapes.json").write_text("{")
    assert contents(write_shapes(root, 2, 1, size=SMALL)) == before


def test_folders_of_others_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(UserError, match="something other than a shapes dataset"):
        write_shapes(tmp_path, 2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(UserError, match="is a file"):
        write_shapes(tmp_path / "thesis.tex", 2, 1)


@pytest.mark.parametrize("bad", [{"train": 0}, {"val": 0}, {"seed": -1}, {"size": (63, 100)}])
def test_impossible_parameters(tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="shapes:"):
        write_shapes(tmp_path / "shapes", **({"train": 2, "val": 1} | bad))
    assert not (tmp_path / "shapes").exists()
