"""The sample photos and our own boxes on them."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rcnn_edu.data import SAMPLES, VOC_CLASSES, sample, samples
from rcnn_edu.errors import UserError

pytest.importorskip("skimage", reason="the photos come with scikit-image")


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object, **options: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket, "socket", no_network)
    photo = sample(name)
    assert photo.name == name
    assert photo.image.dtype == torch.uint8
    channels, height, width = photo.image.shape
    assert channels == 3
    assert photo.boxes.dtype == torch.float32
    assert photo.boxes.shape == (len(photo.labels), 4)
    assert (photo.boxes >= 0).all()
    assert (photo.boxes[:, :2] < photo.boxes[:, 2:]).all()
    assert (photo.boxes[:, 2:] <= torch.tensor([width, height])).all()
    assert set(photo.labels) & set(VOC_CLASSES)
    assert photo.credit


def test_names_and_sizes() -> None:
    assert SAMPLES == ("motorcycle", "astronaut", "cat", "hopper")
    assert [tuple(sample(name).image.shape[1:]) for name in SAMPLES] == [(500, 741), (512, 512), (300, 451), (600, 512)]
    assert sample("motorcycle").labels == ("motorbike", "bench", "bicycle", "bottle", "bottle", "outlet", "switch")
    assert "person" in sample("astronaut").labels
    assert "person" in sample("hopper").labels
    assert sample("cat").labels == ("cat",)


def test_the_garage_has_a_large_a_middle_and_small_objects() -> None:
    photo = sample("motorcycle")
    sides = (photo.boxes[:, 2:] - photo.boxes[:, :2]).prod(dim=1).sqrt()
    assert sides[0] > 400
    assert 128 < sides[1] < 256
    assert (sides[3:] < 32).all()


@pytest.mark.parametrize(
    ("index", "region", "colour", "sides"),
    [
        (3, (390, 45, 430, 100), "yellow", "left right bottom"),  # the bottle; its cap is black
        (0, (70, 190, 120, 225), "red", "left"),  # the motorbike ends in its tail light
    ],
)
def test_boxes_fit_what_is_coloured(index: int, region: tuple[int, int, int, int], colour: str, sides: str) -> None:
    photo = sample("motorcycle")
    x1, y1, x2, y2 = region
    red, green, blue = photo.image[:, y1:y2, x1:x2].int()
    mask = (red > 190) & (blue < 80) & ((green > 150) if colour == "yellow" else (green < 70))
    columns, rows = mask.any(dim=0).nonzero(), mask.any(dim=1).nonzero()
    found = {
        "left": int(columns.min()) + x1,
        "top": int(rows.min()) + y1,
        "right": int(columns.max()) + x1 + 1,
        "bottom": int(rows.max()) + y1 + 1,
    }
    box = dict(zip(("left", "top", "right", "bottom"), photo.boxes[index].tolist(), strict=True))
    for side in sides.split():
        assert abs(found[side] - box[side]) <= 2


def test_calls_do_not_share_memory() -> None:
    sample("cat").image.zero_()
    assert sample("cat").image.any()


def test_unknown_name() -> None:
    with pytest.raises(UserError, match="no sample photo called 'dog'; there are: motorcycle, astronaut"):
        sample("dog")


@pytest.mark.parametrize(("name", "package"), [("cat", "skimage"), ("hopper", "matplotlib")])
def test_a_missing_package(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"pip install .*rcnn_edu\[notebooks\]"):
        sample(name)


def test_a_package_without_the_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "files", lambda package: tmp_path)
    with pytest.raises(UserError, match="scikit-image, which is not here or not complete"):
        sample("cat")


def test_another_photo_under_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    Image.fromarray(np.zeros((10, 20, 3), dtype=np.uint8)).save(tmp_path / "data" / "chelsea.png")
    monkeypatch.setattr(samples, "files", lambda package: tmp_path)
    with pytest.raises(UserError, match="20x10 pixels, not 451x300"):
        sample("cat")
