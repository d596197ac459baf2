"""Backbones: head and tail against torchvision's own layers, sizes, freezing, and weights from files."""

from __future__ import annotations

import copy
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from rcnn_edu.backbone import Backbone, build_backbone, load_backbone_weights
from rcnn_edu.config import Config
from rcnn_edu.errors import UserError


def random_network(name: str) -> Any:
    """torchvision's network with random weights and, as after training, BatchNorm statistics of their own."""
    network = torchvision.models.get_model(name, weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2.0),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
            ):
                assert values is not None
                nn.init.uniform_(values, low, high)
    return network.eval()


def config_of(name: str, **changes: Any) -> Config:
    """The backbone without a download."""
    return Config(backbone=name, pretrained=False, **changes)  # type: ignore[arg-type]


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module, str], Backbone]:
    """Head and tail of a given network: `build_backbone` with that network in place of a new one."""

    def cut(network: nn.Module, name: str) -> Backbone:
        monkeypatch.setattr(torchvision.models, "get_model", lambda *_, **__: network)
        head, tail = build_backbone(config_of(name))
        return Backbone(head.eval(), cast(Any, tail.eval()))

    return cut


@pytest.fixture(scope="module")
def vgg() -> Any:
    """VGG-16 with random weights; large, so it is made once."""
    torch.manual_seed(0)
    return torchvision.models.vgg16(weights=None, init_weights=False).eval()


def resnet_features(network: Any, images: Tensor) -> Tensor:
    """What torchvision's ResNet has after layer3, layer by layer."""
    x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    return cast(Tensor, network.layer3(network.layer2(network.layer1(x))))


def vgg_features(network: Any, images: Tensor, ceil_mode: bool) -> Tensor:
    """VGG-16's features without the last pool; all pools but that one halve the size."""
    for layer in list(network.features)[:-1]:
        if isinstance(layer, nn.Conv2d):
            images = F.conv2d(images, layer.weight, layer.bias, padding=1).relu()
        elif isinstance(layer, nn.MaxPool2d):
            images = F.max_pool2d(images, 2, 2, ceil_mode=ceil_mode)
    return images


# --- composition -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@torch.no_grad()
def test_a_resnets_head_ends_with_layer3_and_its_tail_is_layer4_without_stride(
    name: str, cut: Callable[[nn.Module, str], Backbone]
) -> None:
    network = random_network(name).double()  # float32 rounds differently from processor to processor
    head, tail = cut(copy.deepcopy(network), name)
    images = torch.randn(2, 3, 67, 50, dtype=torch.float64)
    features = resnet_features(network, images)
    torch.testing.assert_close(head(images), features)
    assert features.shape[1] == head.out_channels == {"resnet18": 256, "resnet50": 1024}[name]

    first = network.layer4[0]
    (first.conv1 if name == "resnet18" else first.conv2).stride = (1, 1)
    first.downsample[0].stride = (1, 1)
    crops = torch.randn(3, head.out_channels, 7, 7, dtype=torch.float64)
    described = tail(crops)
    assert described.shape == (3, tail.out_channels, 7, 7)
    assert tail.out_channels == network.fc.in_features
    torch.testing.assert_close(described, network.layer4(crops))


@torch.no_grad()
def test_mobilenets_head_and_tail_together_are_its_features(cut: Callable[[nn.Module, str], Backbone]) -> None:
    network = random_network("mobilenet_v2")
    head, tail = cut(copy.deepcopy(network), "mobilenet_v2")
    images = torch.randn(2, 3, 70, 50)
    features = head(images)
    torch.testing.assert_close(features, network.features[:14](images), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(tail(features), network.features(images), atol=1e-4, rtol=1e-4)
    assert (head.out_channels, tail.out_channels) == (96, 1280)
    assert tail(torch.randn(3, 96, 7, 7)).shape[:2] == (3, 1280)


@torch.no_grad()
def test_vggs_head_leaves_the_last_pool_out_and_its_tail_is_fc6_and_fc7(
    vgg: Any, cut: Callable[[nn.Module, str], Backbone]
) -> None:
    images, odd = torch.randn(1, 3, 64, 48), torch.randn(1, 3, 47, 33)
    expected = vgg_features(vgg, images, ceil_mode=False)  # whole multiples of 16: as torchvision's own
    assert torch.equal(vgg.features[:-1](images), expected)
    expected_odd = vgg_features(vgg, odd, ceil_mode=True)
    crops = torch.randn(2, 512, 7, 7)
    fc6, fc7 = vgg.classifier[0], vgg.classifier[3]
    described = fc7(fc6(crops.flatten(1)).relu()).relu()

    head, tail = cut(vgg, "vgg16")
    torch.testing.assert_close(head(images), expected)
    torch.testing.assert_close(head(odd), expected_odd)
    assert expected_odd.shape == (1, 512, 3, 3)
    torch.testing.assert_close(tail(crops), described)
    assert (head.out_channels, tail.out_channels, described.shape[1]) == (512, 4096, 4096)
    assert len(list(head.stages())) == 5


@pytest.mark.parametrize("name", ["tiny", "resnet18", "mobilenet_v2"])
@torch.no_grad()
def test_features_have_one_cell_for_every_16_pixels_begun(name: str) -> None:
    head, tail = build_backbone(config_of(name))
    for height, width in [(64, 48), (65, 47), (33, 31), (17, 16), (15, 1), (1, 129), (100, 79)]:
        expected = (1, head.out_channels, -(-height // 16), -(-width // 16))
        assert head(torch.randn(1, 3, height, width)).shape == expected
    assert tail(torch.randn(2, head.out_channels, 7, 7)).shape[:2] == (2, tail.out_channels)


@pytest.mark.parametrize("name", ["tiny", "resnet18", "mobilenet_v2"])
def test_a_tail_takes_no_crops(name: str) -> None:
    head, tail = build_backbone(config_of(name))
    assert tail(torch.zeros(0, head.out_channels, 7, 7)).shape[:2] == (0, tail.out_channels)


# --- freezing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "frozen_stages", "frozen"),
    [
        ("resnet18", None, ["stem", "layer1"]),  # conv1 and layer1
        ("resnet18", 0, []),
        ("resnet18", 3, ["stem", "layer1", "layer2"]),
        ("mobilenet_v2", None, ["stage1", "stage2"]),
        ("tiny", None, []),
        ("tiny", 1, ["stem"]),
        ("tiny", 4, ["stem", "layer1", "layer2", "layer3"]),
    ],
)
def test_frozen_stages_stay_bit_for_bit_as_they_are_and_all_else_learns(
    name: str, frozen_stages: int | None, frozen: list[str]
) -> None:
    head, tail = build_backbone(config_of(name, frozen_stages=frozen_stages))
    head.train()
    tail.train()
    for stage, module in head.named_children():
        assert all(p.requires_grad == (stage not in frozen) for p in module.parameters())
    assert all(p.requires_grad for p in tail.parameters())

    before = {key: value.clone() for key, value in head.state_dict().items()}
    learning = [p for p in head.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        features = head(torch.randn(2, 3, 64, 64))
        if learning:
            features.square().mean().backward()
        optimizer.step()
    learnt = {name for name, p in head.named_parameters() if p.requires_grad}
    for key, value in head.state_dict().items():
        assert torch.equal(value, before[key]) == (key not in learnt), key


def test_more_frozen_stages_than_there_are_is_an_error_that_names_both() -> None:
    with pytest.raises(UserError, match="frozen_stages is 5, but the head of tiny has 4 stages"):
        build_backbone(config_of("tiny", frozen_stages=5))


# --- weights from a file -----------------------------------------------------------------------------------------


def saved(tmp_path: Path, content: object) -> Path:
    """A file that torch.save wrote."""
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    return path


def load_error(path: Path, name: str) -> str:
    """What `build_backbone` says of the file; it must name the file."""
    with pytest.raises(UserError) as error:
        build_backbone(config_of(name, backbone_weights=str(path)))
    message = str(error.value)
    assert str(path) in message
    return message


@torch.no_grad()
def test_a_local_file_gives_its_weights(tmp_path: Path) -> None:
    network = random_network("resnet18")
    path = saved(tmp_path, network.state_dict())
    head, _ = build_backbone(config_of("resnet18", backbone_weights=str(path)))
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(head.eval()(images), resnet_features(network, images), atol=1e-4, rtol=1e-4)


def test_a_local_file_is_taken_even_where_a_download_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, random_network("mobilenet_v2").state_dict())
    get_model = torchvision.models.get_model

    def without_download(name: str, weights: object) -> object:
        assert weights is None
        return get_model(name, weights=None)

    monkeypatch.setattr(torchvision.models, "get_model", without_download)
    build_backbone(Config(backbone="mobilenet_v2", pretrained=True, backbone_weights=str(path)))


@pytest.mark.parametrize("classes", [None, 7])
def test_the_imagenet_classifier_may_be_missing_or_of_another_size(tmp_path: Path, classes: int | None) -> None:
    state = torchvision.models.resnet18(num_classes=classes or 1000).state_dict()
    if classes is None:
        state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    network = torchvision.models.resnet18()
    load_backbone_weights(network, saved(tmp_path, state), "resnet18")
    assert torch.equal(network.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])


def test_weights_of_before_batches_were_counted_are_taken(tmp_path: Path) -> None:
    state = torchvision.models.resnet18().state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    network = torchvision.models.resnet18()
    load_backbone_weights(network, saved(tmp_path, old), "resnet18")
    assert torch.equal(network.conv1.weight, state["conv1.weight"])


def test_a_missing_file_is_named_with_the_option(tmp_path: Path) -> None:
    message = load_error(tmp_path / "nothing.pth", "resnet18")
    assert "no such file" in message
    assert "--backbone-weights" in message


@pytest.mark.parametrize("content", [b"", b"this is no checkpoint", b"PK\x03\x04 and then nothing", b"\x80\x02]q\x00."])
def test_a_garbage_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage.pth"
    path.write_bytes(content)
    message = load_error(path, "resnet18")
    assert "state dict" in message


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path, torchvision.models.mobilenet_v2().state_dict())
    path.write_bytes(path.read_bytes()[:100_000])
    assert "state dict" in load_error(path, "mobilenet_v2")


def test_a_file_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    path = saved(tmp_path, {"conv1.weight": _Trap()})
    assert "safely" in load_error(path, "resnet18")
    assert not _Trap.sprung


class _Trap:
    """Notes that it was unpickled."""

    sprung = False

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _spring, ()


def _spring() -> None:
    _Trap.sprung = True


@pytest.mark.parametrize("content", [[1, 2, 3], {"epoch": 3, "model": {"fc.bias": torch.zeros(1)}}, torch.zeros(3)])
def test_a_file_of_something_else_is_named(tmp_path: Path, content: object) -> None:
    assert "no state dict of tensors" in load_error(saved(tmp_path, content), "resnet18")


@pytest.mark.parametrize(
    ("in_the_file", "wanted", "weight"),
    [
        ("mobilenet_v2", "resnet18", "conv1.weight"),  # other names
        ("resnet18", "resnet50", "layer1.0.conv1.weight"),  # the same name, another shape
        ("resnet18", "resnet34", "layer1.2.conv1.weight"),  # fewer blocks
        ("resnet34", "resnet18", "layer1.2.conv1.weight"),  # more blocks: all that resnet18 needs is there, and more
    ],
)
def test_weights_of_another_network_are_refused_with_the_first_that_does_not_fit(
    tmp_path: Path, in_the_file: str, wanted: str, weight: str
) -> None:
    path = saved(tmp_path, torchvision.models.get_model(in_the_file, weights=None).state_dict())
    message = load_error(path, wanted)
    assert weight in message
    assert f"is it a {wanted}" in message


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    state = torchvision.models.mobilenet_v2().state_dict()
    del state["features.9.conv.1.1.running_var"]
    message = load_error(saved(tmp_path, state), "mobilenet_v2")
    assert "has no weight features.9.conv.1.1.running_var" in message


def test_a_wrong_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    state = torchvision.models.mobilenet_v2().state_dict()
    state["features.0.0.weight"] = torch.zeros(32, 1, 3, 3)
    message = load_error(saved(tmp_path, state), "mobilenet_v2")
    assert "features.0.0.weight has shape (32, 1, 3, 3), mobilenet_v2 needs (32, 3, 3, 3)" in message


def test_tiny_has_no_weights_to_load(tmp_path: Path) -> None:
    path = saved(tmp_path, {})
    assert "tiny has no ImageNet weights" in load_error(path, "tiny")


def test_a_download_that_fails_says_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    with pytest.raises(UserError, match=r"resnet50 .*no route to host.*--backbone-weights.*--no-pretrained"):
        build_backbone(Config())
