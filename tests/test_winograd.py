"""Winograd's convolution against torch's, and where it is used."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rcnn_edu import winograd
from rcnn_edu.config import Config
from rcnn_edu.frozen_batch_norm import FrozenBatchNormConv2d
from rcnn_edu.model import FasterRCNN
from rcnn_edu.rpn import RPN


@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    outputs=st.integers(1, 4),
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    seed=st.integers(0, 10**6),
)
def test_outputs_and_gradients_are_torchs(
    batch: int, channels: int, outputs: int, height: int, width: int, seed: int
) -> None:
    # Up to 64 places take one way through the code, more the other.
    generator = torch.Generator().manual_seed(seed)
    x, weight, direction = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((batch, channels, height, width), (outputs, channels, 3, 3), (batch, outputs, height, width))
    )
    x.requires_grad_()
    weight.requires_grad_()
    expected, found = F.conv2d(x, weight, padding=1), winograd.convolve(x, weight)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)
    wanted = torch.autograd.grad((expected * direction).sum(), (x, weight))
    gradients = torch.autograd.grad((found * direction).sum(), (x, weight))
    torch.testing.assert_close(gradients, wanted, rtol=1e-10, atol=1e-10)


def test_a_scale_of_the_outputs_acts_as_if_it_were_in_the_weight() -> None:
    x, weight = torch.randn(2, 3, 7, 7, dtype=torch.float64), torch.randn(4, 3, 3, 3, dtype=torch.float64)
    scale, direction = torch.rand(4, dtype=torch.float64), torch.randn(2, 4, 7, 7, dtype=torch.float64)
    x.requires_grad_()
    weight.requires_grad_()
    expected, found = F.conv2d(x, weight, padding=1) * scale[:, None, None], winograd.convolve(x, weight, scale)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)
    wanted = torch.autograd.grad((expected * direction).sum(), (x, weight))
    torch.testing.assert_close(torch.autograd.grad((found * direction).sum(), (x, weight)), wanted)


@pytest.mark.parametrize("learning", [(True, False), (False, True)])
def test_only_what_learns_gets_a_gradient(learning: tuple[bool, bool]) -> None:
    inputs = [torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3)]
    for one, learns in zip(inputs, learning, strict=True):
        one.requires_grad_(learns)
    winograd.convolve(*inputs).sum().backward()
    assert [one.grad is not None for one in inputs] == list(learning)


def test_float32_rounds_to_a_hundred_thousandth_of_the_largest_number() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(8, 512, 7, 7).relu(), torch.randn(512, 512, 3, 3)
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    assert (winograd.convolve(x, weight) - exact).abs().max() < 2e-5 * exact.abs().max()


def test_results_are_channels_last_like_the_model() -> None:
    x = torch.randn(2, 5, 7, 7).to(memory_format=torch.channels_last)
    weight = torch.randn(6, 5, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    result = winograd.convolve(x, weight)
    result.sum().backward()
    assert weight.grad is not None
    for one in (result, weight.grad):
        assert one.is_contiguous(memory_format=torch.channels_last)


def conv(channels: int = 256, outputs: int = 256, **options: int) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, **({"kernel_size": 3, "padding": 1} | options), device="meta")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (conv(), (32, 256, 7, 7), True),
        (conv(1024, 512), (1, 1024, 38, 50), True),
        (conv(), (31, 256, 7, 7), False),  # 124 tiles
        (conv(), (8, 256, 16, 16), True),
        (conv(64, 256), (32, 64, 7, 7), False),
        (conv(256, 64), (32, 256, 7, 7), False),
        (conv(stride=2), (64, 256, 7, 7), False),
        (conv(dilation=2), (64, 256, 7, 7), False),
        (conv(padding=0), (64, 256, 7, 7), False),
        (conv(kernel_size=1), (64, 256, 7, 7), False),
        (conv(groups=2), (64, 256, 7, 7), False),
    ],
)
def test_it_pays_for_plain_3x3_convolutions_of_enough_tiles_and_channels(
    layer: nn.Conv2d, shape: tuple[int, ...], expected: bool
) -> None:
    assert winograd.pays(layer, torch.zeros(1).expand(shape)) is expected


def test_it_does_not_pay_but_in_float32_on_a_cpu() -> None:
    shape = (64, 256, 7, 7)
    for dtype in (torch.float64, torch.bfloat16):
        assert not winograd.pays(conv(), torch.zeros(1, dtype=dtype).expand(shape))
    assert not winograd.pays(conv(), torch.zeros(1, device="meta").expand(shape))
    with torch.autocast("cpu", torch.bfloat16):
        assert not winograd.pays(conv(), torch.zeros(1).expand(shape))


def test_the_frozen_batch_norm_and_the_rpn_compute_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6).requires_grad_(False)
    for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert values is not None
        nn.init.uniform_(values, 0.5, 1.5)
    modules = [FrozenBatchNormConv2d(nn.Conv2d(5, 6, 3, padding=1, bias=False), norm), RPN(5, 8, 3)]
    nn.init.normal_(modules[1].rpn_net.bias)  # type: ignore[arg-type, union-attr]
    x = torch.randn(2, 5, 9, 11, requires_grad=True)

    def outcome(module: nn.Module) -> list[Tensor]:
        outputs = module(x)
        outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
        learning = [x, *(p for p in module.parameters() if p.requires_grad)]
        return [*outputs, *torch.autograd.grad(sum(one.square().sum() for one in outputs), learning)]

    plain = [outcome(module) for module in modules]
    monkeypatch.setattr(winograd, "FEWEST_CHANNELS", 1)
    monkeypatch.setattr(winograd, "FEWEST_TILES", 1)
    with mock.patch.object(winograd, "convolve", wraps=winograd.convolve) as convolve:
        quick = [outcome(module) for module in modules]
    assert convolve.call_count == 2
    for found, expected in zip(quick, plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_resnet_50_uses_it_for_every_crop_and_for_the_rpn() -> None:
    model = FasterRCNN(Config(pretrained=False)).eval()
    features = torch.randn(1, 1024, 38, 50)
    rois = torch.tensor([[0.0, 0, 320, 320]]).repeat(100, 1)
    with (
        mock.patch.object(winograd, "convolve_mixed", wraps=winograd.convolve_mixed) as convolve,
        mock.patch.object(winograd, "mixed_taps", wraps=winograd.mixed_taps) as mixed_taps,
    ):
        model.classify(features, [rois])
        model.rpn(features)
    # 100 RoIs are more than the classifier sees at a time: two halves, for which the taps are mixed once.
    assert [call.args[0].shape for call in convolve.call_args_list] == [(50, 512, 7, 7)] * 6 + [(1, 1024, 38, 50)]
    assert mixed_taps.call_count == 3 + 1
    assert all(one.kept is None for one in model.modules() if isinstance(one, FrozenBatchNormConv2d))
