"""Checkpoints: whole or not at all, safe to read, and clear about what does not fit."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision

import rcnn_edu
from rcnn_edu.checkpoint import describe_data, load, load_weights, read_checkpoint, save_checkpoint, seen_in_training
from rcnn_edu.config import AnchorConfig, Config, PreprocessingConfig
from rcnn_edu.errors import UserError
from rcnn_edu.model import FasterRCNN

CONFIG = Config(
    backbone="tiny",
    num_classes=3,
    pretrained=False,
    anchors=AnchorConfig(scales=(1.0, 2.0)),
    preprocessing=PreprocessingConfig(64, 96, "caffe", mean=(1.0, 2.0, 3.0)),
)


@pytest.fixture
def model() -> FasterRCNN:
    return FasterRCNN(CONFIG, ["a", "b"])


def test_what_is_saved_is_what_is_loaded(model: FasterRCNN, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.pt", model, describe_data("mine", ["x", "y"]))
    again = load(tmp_path / "m.pt")
    assert again.config == CONFIG
    assert again.classes == ("a", "b")
    assert not again.training
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    image = torch.rand(3, 50, 70)
    with torch.no_grad():
        (mine,), (theirs,) = model.eval()([image]), again([image])
    assert torch.equal(mine["boxes"], theirs["boxes"])
    assert seen_in_training(again.trained_on, ["y", "z", "x"]) == 2


def test_paths_are_kept_by_name_alone(tmp_path: Path) -> None:
    weights = tmp_path / "someone" / "backbone.pth"
    weights.parent.mkdir()
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), weights)
    model = FasterRCNN(replace(CONFIG, backbone="mobilenet_v2", backbone_weights=str(weights)), ["a", "b"])
    save_checkpoint(tmp_path / "m.pt", model, describe_data(str(tmp_path / "someone" / "photos"), ["x"]))
    content = read_checkpoint(tmp_path / "m.pt")
    assert content["config"]["backbone_weights"] == "backbone.pth"
    assert content["trained_on"]["data"] == "photos"
    assert describe_data("voc2007", [])["data"] == "voc2007"
    assert b"someone" not in (tmp_path / "m.pt").read_bytes()
    load(tmp_path / "m.pt")


@pytest.mark.parametrize(("name", "mode"), [("voc-demo", "align"), ("voc-crop", "crop")])
def test_the_shipped_detectors_of_photos_know_how_and_on_what_they_were_trained(name: str, mode: str) -> None:
    model = rcnn_edu.load(name)
    assert model.config.crop_pooling.mode == mode
    trained_on = model.trained_on
    everything = [f"{number:06}" for number in range(1, 9964)]  # VOC 2007
    assert seen_in_training(trained_on, everything) == len(trained_on["images"]) == 3152


def test_half_precision_halves_the_file(model: FasterRCNN, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "full.pt", model)
    save_checkpoint(tmp_path / "half.pt", model, half=True)
    assert (tmp_path / "half.pt").stat().st_size < 0.52 * (tmp_path / "full.pt").stat().st_size
    loaded = load(tmp_path / "half.pt").state_dict()
    for name, weight in model.state_dict().items():
        assert loaded[name].dtype == weight.dtype
        assert torch.allclose(loaded[name], weight, rtol=1e-3, atol=1e-6)


def test_a_failed_write_leaves_the_old_file_and_no_other(
    model: FasterRCNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.pt"
    save_checkpoint(path, model)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"m\.pt: cannot be written \(No space left .* MB are free there\); make room"):
        save_checkpoint(path, model)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


class _Mischief:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("done-by-a-checkpoint",))


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "config": {}, "classes": [], "weights": _Mischief()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=r"evil\.pt"):
        read_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "done-by-a-checkpoint").exists()
    pickle.loads(pickle.dumps(_Mischief()))  # it would have: the test can fail
    assert (tmp_path / "done-by-a-checkpoint").exists()


def test_what_is_no_checkpoint_is_refused(model: FasterRCNN, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    save_checkpoint(tmp_path / "good.pt", model)
    (tmp_path / "cut.pt").write_bytes((tmp_path / "good.pt").read_bytes()[:5000])
    newer = read_checkpoint(tmp_path / "good.pt") | {"format": 99}
    torch.save(newer, tmp_path / "newer.pt")
    strange = read_checkpoint(tmp_path / "good.pt")
    torch.save(strange | {"config": strange["config"] | {"colour": "red"}}, tmp_path / "strange.pt")
    for name, message in {
        "missing.pt": "no such checkpoint",
        "text.pt": "cannot be read",
        "cut.pt": "cannot be read",
        "weights.pt": "--backbone-weights",
        "newer.pt": "99",
        "strange.pt": "colour",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            load(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_weights_of_another_model_are_refused(model: FasterRCNN, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.pt", model)
    content = read_checkpoint(tmp_path / "m.pt")
    more = FasterRCNN(replace(CONFIG, num_classes=4))
    with pytest.raises(UserError, match=r"m\.pt: was trained for 2 classes, the model has 3"):
        load_weights(more, content, tmp_path / "m.pt")
    other = FasterRCNN(replace(CONFIG, backbone="resnet18"))
    with pytest.raises(UserError, match=r"m\.pt: holds a tiny, not a resnet18"):
        load_weights(other, content, tmp_path / "m.pt")
    wide = FasterRCNN(replace(CONFIG, rpn_channels=64))
    with pytest.raises(UserError, match=r"m\.pt: its weights do not fit .*rpn"):
        load_weights(wide, content, tmp_path / "m.pt")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"nonsense: .*shapes"):
        rcnn_edu.load("nonsense")


def test_the_shipped_model_detects_a_drawn_shape() -> None:
    """On a scene that it was not trained on, it finds all objects that are not nearly hidden."""
    from rcnn_edu.data import SHAPE_CLASSES, render_scene
    from rcnn_edu.data.shapes import scene_rng
    from rcnn_edu.metrics import voc_ap

    model = rcnn_edu.load("shapes")
    assert model.classes == SHAPE_CLASSES
    detections, targets = [], []
    for index in range(24):
        pixels, boxes, labels = render_scene(scene_rng(7, "val", index))
        with torch.no_grad():
            detections += model([torch.from_numpy(pixels.copy()).permute(2, 0, 1)])
        targets.append({"boxes": boxes, "labels": labels})
    assert voc_ap(detections, targets, 6).map_area > 0.8
