"""Folded BatchNorm: the same outputs and gradients as convolution and BatchNorm one after the other."""

from __future__ import annotations

import copy
import threading
import weakref

import pytest
import torch
import torchvision
from torch import Tensor, nn

from rcnn_edu.frozen_batch_norm import FrozenBatchNormConv2d, fold_batch_norms, weights_made_once


def randomize(network: nn.Module) -> None:
    """Statistics and weights of every BatchNorm as after training: none is 0 or 1."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
            ):
                assert values is not None
                nn.init.uniform_(values, low, high)


def frozen_pair(*args: int, **options: object) -> nn.Sequential:
    """Convolution and BatchNorm in double precision, the latter in evaluation mode and without gradients."""
    conv = nn.Conv2d(*args, **options)  # type: ignore[arg-type]
    pair = nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels, eps=1e-3)).double().eval()
    randomize(pair)
    pair[1].requires_grad_(False)
    return pair


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(lambda: frozen_pair(3, 8, 3, bias=False), id="plain"),
        pytest.param(lambda: frozen_pair(4, 8, 3, stride=2, padding=1, bias=False), id="strided"),
        pytest.param(lambda: frozen_pair(4, 8, 1, bias=False), id="1x1"),
        pytest.param(lambda: frozen_pair(6, 6, 3, padding=1, groups=6, bias=False), id="depthwise"),
        pytest.param(lambda: frozen_pair(6, 6, 3, stride=2, padding=1, groups=6, bias=False), id="depthwise-strided"),
        pytest.param(lambda: frozen_pair(4, 8, 3, padding=2, dilation=2, groups=2, bias=False), id="dilated-grouped"),
        pytest.param(lambda: frozen_pair(4, 8, 3, bias=True), id="bias"),
    ],
)
def test_outputs_and_gradients_are_those_of_convolution_and_frozen_batch_norm(pair) -> None:  # type: ignore[no-untyped-def]
    apart = pair()
    norm = apart[1]
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    together = FrozenBatchNormConv2d(copy.deepcopy(apart[0]), norm)
    x = torch.randn(2, apart[0].in_channels, 11, 10, dtype=torch.float64)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    expected, found = apart(inputs[0]), together(inputs[1])
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)
    direction = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * direction).sum(), (inputs[0], apart[0].weight))
    gradients = torch.autograd.grad((found * direction).sum(), (inputs[1], together.weight))
    for mine, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=1e-10)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_the_folded_weight_is_not_kept_for_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    together = FrozenBatchNormConv2d(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))
    made: list[weakref.ref[Tensor]] = []
    fold = FrozenBatchNormConv2d.folded_weight

    def folded_weight(self: FrozenBatchNormConv2d) -> Tensor:
        weight = fold(self)
        made.append(weakref.ref(weight))
        return weight

    monkeypatch.setattr(FrozenBatchNormConv2d, "folded_weight", folded_weight)
    found = together(torch.randn(1, 3, 9, 9, requires_grad=True))
    assert len(made) == 1
    assert made[0]() is None
    found.sum().backward()
    assert len(made) == 2  # once more, for the gradient


def test_a_weight_that_was_changed_before_the_backward_pass_is_an_error() -> None:
    together = FrozenBatchNormConv2d(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))
    found = together(torch.randn(1, 3, 9, 9, requires_grad=True))
    with torch.no_grad():
        together.weight.add_(1)
    with pytest.raises(RuntimeError, match="changed between the forward and the backward pass"):
        found.sum().backward()


def test_only_the_convolutions_weight_can_learn() -> None:
    folded = FrozenBatchNormConv2d(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))
    assert [name for name, _ in folded.named_parameters()] == ["weight"]
    assert {name for name, _ in folded.named_buffers()} == {"scale", "shift"}


@pytest.mark.parametrize("training", [False, True])
def test_statistics_stay_as_they_are_in_either_mode(training: bool) -> None:
    folded = FrozenBatchNormConv2d(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)).train(training)
    before = [value.clone() for value in folded.buffers()]
    first = folded(torch.randn(4, 3, 9, 9) * 5 + 3)
    assert first.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(folded.buffers(), before, strict=True))


def test_a_batch_norm_without_running_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="running statistics"):
        FrozenBatchNormConv2d(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_a_whole_network_folded_gives_the_same_outputs(name: str) -> None:
    network = torchvision.models.get_model(name, weights=None).double().eval()
    randomize(network)
    folded = fold_batch_norms(copy.deepcopy(network))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, FrozenBatchNormConv2d) for module in folded.modules())
    images = torch.randn(2, 3, 64, 48, dtype=torch.float64)
    with torch.no_grad():
        expected = network(images)
        assert expected.std() > 1e-3
        torch.testing.assert_close(folded(images), expected, atol=1e-10, rtol=1e-9)
        folded.train()  # frozen means frozen: training mode changes nothing (but dropout, which the classifier has)
        for module in folded.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        torch.testing.assert_close(folded(images), expected, atol=1e-10, rtol=1e-9)


def test_a_batch_norm_that_follows_no_convolution_is_refused() -> None:
    with pytest.raises(ValueError, match="BatchNorm 1 follows no convolution"):
        fold_batch_norms(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)))
    with pytest.raises(ValueError, match="BatchNorm 0 follows no convolution"):
        fold_batch_norms(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)))


def test_a_depthwise_convolution_gives_float32_under_autocast_and_the_right_gradient() -> None:
    pair = frozen_pair(8, 8, 3, stride=2, padding=1, groups=8, bias=False).float()
    conv, norm = pair
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    folded, x = FrozenBatchNormConv2d(copy.deepcopy(conv), norm), torch.randn(2, 8, 12, 12)
    with torch.autocast("cpu", torch.bfloat16):
        found = folded(x.bfloat16())
    expected = pair(x.bfloat16().float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found.square().sum(), folded.weight)
    (wanted,) = torch.autograd.grad(expected.square().sum(), conv.weight)
    torch.testing.assert_close(gradient, wanted)


def test_threads_may_use_one_model_at_a_time_of_their_own() -> None:
    """What is made of the weights for several calls belongs to the thread that makes them."""
    torch.manual_seed(0)
    conv = FrozenBatchNormConv2d(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8).eval())
    x = torch.rand(1, 8, 5, 5)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with weights_made_once(conv):
            inside.set()
            leave.wait(10)

    with torch.no_grad():
        expected = conv.then_relu(x)
        with weights_made_once(conv):
            mine = conv.kept
            thread = threading.Thread(target=other)
            thread.start()
            assert inside.wait(10)
            assert conv.kept is mine
            leave.set()
            thread.join()
            assert conv.kept is mine
            torch.testing.assert_close(conv.then_relu(x), expected)
    assert conv.kept is None
