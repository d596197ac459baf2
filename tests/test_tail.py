"""Tails: the 1×1 convolutions that run before crop pooling, against the same tail on every crop."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from rcnn_edu.config import Config, CropPoolingConfig
from rcnn_edu.model import FasterRCNN
from rcnn_edu.tail import BottleneckTail

# Inside the image, across its border, wholly beyond it, and smaller than a cell.
ROIS = torch.tensor(
    [[10.0, 20, 90, 70], [-40, -30, 50, 60], [60, 40, 200, 150], [150, 120, 190, 180], [33, 33, 36, 38]]
)


def model_with(backbone: Literal["resnet50", "resnet18", "mobilenet_v2"], mode: Literal["crop", "align"]) -> FasterRCNN:
    torch.manual_seed(0)
    pooling = CropPoolingConfig(mode=mode)
    model = FasterRCNN(Config(backbone=backbone, num_classes=4, pretrained=False, crop_pooling=pooling)).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("shift"):  # torchvision's fresh BatchNorms have none
            buffer.normal_()
    nn.init.normal_(model.classifier.bbox_pred_net.weight, std=0.1)
    return model


@pytest.mark.parametrize("mode", ["crop", "align"])
@pytest.mark.parametrize("backbone", ["resnet50", "resnet18", "mobilenet_v2"])
def test_convolving_before_pooling_gives_the_numbers_and_gradients_of_convolving_crops(
    backbone: Literal["resnet50", "resnet18", "mobilenet_v2"], mode: Literal["crop", "align"]
) -> None:
    model = model_with(backbone, mode)
    features = torch.randn(1, model.head.out_channels, 7, 9, requires_grad=True)
    plain = model.classifier(*model.crop([features], [ROIS]))
    quick = model.classify(features, [ROIS])
    torch.testing.assert_close(quick, plain, rtol=1e-4, atol=1e-4 * float(plain.class_scores.detach().abs().max()))

    def gradients(class_scores: Tensor, coefficients: Tensor) -> list[Tensor]:
        weights = torch.linspace(-1, 1, class_scores.numel()).view_as(class_scores)
        learning = [features, *model.classifier.parameters()]
        return list(torch.autograd.grad((class_scores * weights).sum() + coefficients.sum(), learning))

    for ours, theirs in zip(gradients(*quick), gradients(*plain), strict=True):
        # Rounding may put a unit on the other side of a ReLU, so the whole is compared, not each number.
        assert torch.linalg.vector_norm(ours - theirs) <= 1e-3 * torch.linalg.vector_norm(theirs)


def test_a_resnet_50_convolves_the_map_once_instead_of_every_crop() -> None:
    model = model_with("resnet50", "crop")
    tail = model.classifier.tail
    assert isinstance(tail, BottleneckTail)
    seen: list[torch.Size] = []
    tail.get_submodule("0.0.conv1").register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
    maps = tail.project(torch.randn(1, 1024, 7, 9))
    assert [one.shape for one in maps] == [(1, 512, 7, 9), (1, 2048, 7, 9)]
    model.classify(torch.randn(1, 1024, 7, 9), [ROIS])
    assert seen == []  # conv1 itself never runs on crops


@torch.no_grad()
def test_a_few_rois_at_a_time_give_the_numbers_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_with("mobilenet_v2", "crop")
    features = torch.randn(3, model.head.out_channels, 7, 9)
    rois = [ROIS, ROIS[:0], ROIS.flip(0)]
    together = model.classifier(*model.crop([features], rois))
    for at_once in (1, 2, 5, 100):
        monkeypatch.setattr("rcnn_edu.model.ROIS_AT_ONCE", at_once)
        torch.testing.assert_close(model.classify(features, rois), together, rtol=1e-4, atol=1e-5)
    assert [len(part) for part in model.classify(features, [ROIS[:0]] * 3)] == [0, 0]


@torch.no_grad()
def test_a_few_rois_at_a_time_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_with("resnet50", "crop")
    features = torch.randn(1, model.head.out_channels, 7, 9)
    finish, seen = model.classifier.tail.finish, []

    def counted(*crops: Tensor) -> Tensor:
        seen.append(len(crops[0]))
        return finish(*crops)  # type: ignore[operator]

    monkeypatch.setattr(model.classifier.tail, "finish", counted)
    with torch.autocast("cpu", torch.bfloat16):
        together = model.classify(features, [ROIS])
        monkeypatch.setattr("rcnn_edu.model.ROIS_AT_ONCE", 1)
        apart = model.classify(features, [ROIS])
    parts = -(-len(ROIS) // 2)
    assert seen[0] == len(ROIS)
    assert len(seen) == 1 + parts
    assert sum(seen[1:]) == len(ROIS)
    scale = float(together.class_scores.abs().max())
    torch.testing.assert_close(apart.class_scores, together.class_scores, rtol=0.02, atol=0.02 * scale)
