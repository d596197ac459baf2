"""torchvision's detector in our training loop: the same parts as ours, and a run that can be stopped and resumed."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.models
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is beside the package, not in it

from benchmarks import train_torchvision
from benchmarks.peer import Float32Convolution
from benchmarks.train_torchvision import LOSSES, TorchvisionDetector, main
from rcnn_edu.checkpoint import load, read_checkpoint
from rcnn_edu.config import Config, PreprocessingConfig, ProposalConfig
from rcnn_edu.data import SHAPE_CLASSES, VOC_CLASSES, write_shapes
from rcnn_edu.errors import UserError
from rcnn_edu.model import FasterRCNN
from rcnn_edu.recipes import mobile

SIZE = (96, 128)  # a multiple of 32, so that torchvision pads nothing


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MobileNetV2 whose BatchNorm is not the identity, so that a mistake in freezing it shows."""
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v2(weights=None)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.7, 1.3)
            nn.init.normal_(layer.bias, std=0.1)
            nn.init.normal_(layer.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.7, 1.3)  # type: ignore[arg-type]
    path = tmp_path_factory.mktemp("weights") / "mobilenet.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def config(weights: Path) -> Config:
    """The recipe's model on small images."""
    return replace(
        mobile().model,
        backbone_weights=str(weights),
        preprocessing=PreprocessingConfig(*SIZE),
        proposals=ProposalConfig(300, 60),
        test_proposals=ProposalConfig(200, 20),
    )


@pytest.fixture(scope="module")
def models(config: Config) -> tuple[FasterRCNN, TorchvisionDetector]:
    torch.manual_seed(0)
    ours = FasterRCNN(config, VOC_CLASSES)
    return ours, TorchvisionDetector(ours)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn scenes under VOC's names: the first shape is an aeroplane here."""
    root = write_shapes(tmp_path_factory.mktemp("data") / "voc", train=4, val=2, seed=1, size=SIZE)
    for file in (root / "Annotations").iterdir():
        text = file.read_text()
        for shape, name in zip(SHAPE_CLASSES, VOC_CLASSES, strict=False):
            text = text.replace(f"<name>{shape}</name>", f"<name>{name}</name>")
        file.write_text(text)
    return root


def example() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    images = [torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8) for _ in range(2)]
    boxes = torch.tensor([[8.0, 16.0, 60.0, 70.0], [70.0, 30.0, 120.0, 90.0]])
    return images, [
        {"boxes": boxes, "labels": torch.tensor([3, 15])},
        {"boxes": boxes[:1], "labels": boxes.new_tensor([7]).long()},
    ]


def test_head_rpn_tail_and_predictor_say_the_same_as_ours(models: tuple[FasterRCNN, TorchvisionDetector]) -> None:
    ours, detector = models
    peer: Any = detector.peer.eval()
    images, _ = example()
    with torch.no_grad():
        pixels = ours.eval().prepare(images).pixels
        prepared, _ = peer.transform([image / 255 for image in images])
        torch.testing.assert_close(prepared.tensors, pixels, rtol=1e-5, atol=1e-5)
        features = ours.head(pixels)
        torch.testing.assert_close(peer.backbone(pixels), features, rtol=1e-4, atol=1e-4)
        scores, coefficients = ours.rpn(features)
        (logits,), (their_coefficients,) = peer.rpn.head([features])
        torch.testing.assert_close(logits, scores[:, 1::2] - scores[:, 0::2], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(their_coefficients, coefficients, rtol=1e-4, atol=1e-5)
        crops = torch.rand(3, 96, 7, 7)
        fc7 = peer.roi_heads.box_head(crops)
        torch.testing.assert_close(fc7, ours.classifier.fc7(crops), rtol=1e-4, atol=1e-4)
        assert fc7.shape == (3, 1280)
        for theirs, own in zip(peer.roi_heads.box_predictor(fc7), ours.classifier(crops), strict=True):
            torch.testing.assert_close(theirs, own, rtol=1e-4, atol=1e-4)


def test_both_have_the_same_anchors_but_for_where_in_its_cell_each_is_centred(
    models: tuple[FasterRCNN, TorchvisionDetector],
) -> None:
    ours, detector = models
    peer: Any = detector.peer
    cells = (SIZE[0] // 16, SIZE[1] // 16)
    (theirs,) = peer.rpn.anchor_generator.grid_anchors([cells], [(torch.tensor(16), torch.tensor(16))])
    assert len(theirs) == len(ours.base_anchors) * cells[0] * cells[1]
    # Same sides, up to the rounding of the article's base box and of torchvision's corners.
    sides = [(boxes[:, 2:] - boxes[:, :2]).sort(dim=0).values for boxes in (theirs[:12], ours.base_anchors)]
    torch.testing.assert_close(*sides, rtol=0.05, atol=2.0)


def test_the_same_weights_learn(models: tuple[FasterRCNN, TorchvisionDetector], config: Config) -> None:
    ours, peer = ({n: p for n, p in model.named_parameters() if p.requires_grad} for model in models)
    assert len(ours) == len(peer)
    extra = config.anchors.per_position * (models[0].rpn.rpn_net.out_channels + 1)  # two scores an anchor, not one
    assert sum(p.numel() for p in ours.values()) - sum(p.numel() for p in peer.values()) == extra
    frozen = [name for name, p in models[1].peer.named_parameters() if not p.requires_grad]
    assert {name.split(".")[1] for name in frozen} == {"0", "1", "2", "3"}
    assert all(name.startswith("backbone.") for name in frozen)


def test_a_step_gives_our_four_losses_and_gradients_also_in_bfloat16(
    models: tuple[FasterRCNN, TorchvisionDetector],
) -> None:
    detector = models[1].train()
    images, targets = example()
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses = detector(images, targets)
        assert list(losses) == list(LOSSES)
        assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
        detector.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        for name, parameter in detector.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name


def test_depthwise_convolutions_stay_in_float32_on_a_cpu_and_only_they(
    models: tuple[FasterRCNN, TorchvisionDetector],
) -> None:
    peer = models[1].peer
    depthwise = [one for one in peer.modules() if isinstance(one, nn.Conv2d) and one.groups > 1]
    wrapped = [one for one in peer.modules() if isinstance(one, Float32Convolution)]
    assert len(depthwise) == 17  # one in each inverted residual block
    assert {id(one.convolution) for one in wrapped} == {id(one) for one in depthwise}
    plain = nn.Conv2d(4, 4, 3, groups=4)
    x = torch.randn(1, 4, 6, 6)
    exact = plain(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert plain(x).dtype == torch.bfloat16
        assert torch.equal(Float32Convolution(plain)(x), exact)
        assert Float32Convolution(plain)(x.bfloat16()).dtype == torch.float32


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, config: Config) -> None:
    """The recipe on small images, two a step."""
    recipe = replace(mobile(), model=replace(config, backbone_weights=None), batch_size=2, target_sizes=(), log_every=1)
    monkeypatch.setattr(train_torchvision, "mobile", lambda: recipe)


def run(photos: Path, weights: Path, output: Path, *options: str) -> None:
    brief = ["--steps", "4", "--workers", "0", "--device", "cpu", "--amp", "off", "--checkpoint-every", "2"]
    main(["--data", str(photos), "--backbone-weights", str(weights), "--output", str(output), *brief, *options])


@pytest.mark.usefixtures("small")
def test_a_run_stopped_after_a_checkpoint_and_resumed_equals_one_that_was_not(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, weights, tmp_path / "whole")
    content = read_checkpoint(tmp_path / "whole" / "checkpoint.pt")
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "total" in line] == [1, 2, 3, 4]
    assert set(LOSSES) <= lines[0].keys()
    assert 0 <= json.loads((tmp_path / "whole" / "ap.json").read_text())["map_area"] <= 1
    assert "aeroplane" in (tmp_path / "whole" / "ap.txt").read_text()

    class PowerCut(Exception):
        pass

    step, seen = TorchvisionDetector.forward, []

    def three_steps(*args: Any, **kwargs: Any) -> dict[str, Tensor]:
        seen.append(args)
        if len(seen) == 4:
            raise PowerCut
        return step(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(TorchvisionDetector, "forward", three_steps)
        with pytest.raises(PowerCut):
            run(photos, weights, tmp_path / "cut")
    run(photos, weights, tmp_path / "cut", "--resume")
    resumed = read_checkpoint(tmp_path / "cut" / "checkpoint.pt")
    assert resumed["weights"].keys() == content["weights"].keys()
    for name, value in content["weights"].items():
        assert torch.equal(resumed["weights"][name], value), name


@pytest.mark.usefixtures("small")
def test_what_it_writes_is_not_taken_for_a_model_of_ours(photos: Path, weights: Path, tmp_path: Path) -> None:
    run(photos, weights, tmp_path / "run", "--threads", "1")
    with pytest.raises(UserError, match="do not fit"):
        load(tmp_path / "run" / "model.pt")
    with pytest.raises(SystemExit):
        run(photos, weights, tmp_path / "run")
