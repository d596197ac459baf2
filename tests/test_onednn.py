"""oneDNN's prepared convolutions against torch's own, with and without what follows in the same pass."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnn_edu import onednn
from rcnn_edu.frozen_batch_norm import FrozenBatchNormConv2d, weights_made_once
from rcnn_edu.onednn import PreparedConvolution, fuses

# Channels in and out, kernel, padding
SHAPES = [(8, 6, (1, 1), (0, 0)), (3, 1, (1, 1), (0, 0)), (5, 7, (3, 3), (1, 1)), (4, 4, (3, 1), (1, 0))]


@pytest.fixture(params=["fused", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As on this machine, and as where torch has no oneDNN."""
    if request.param == "plain":
        monkeypatch.setattr(onednn, "fuses", lambda weight: False)
    elif not fuses(torch.zeros(1)):
        pytest.skip("this build of torch has no oneDNN")
    return str(request.param)


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).abs().max() / expected.abs().max().clamp(min=1))


@pytest.mark.parametrize(("channels", "outputs", "kernel", "padding"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@torch.no_grad()
def test_a_prepared_convolution_is_torchs_with_a_sum_and_a_relu_behind_it(
    channels: int,
    outputs: int,
    kernel: tuple[int, int],
    padding: tuple[int, int],
    dtype: torch.dtype,
    shifted: bool,
    added: bool,
    relu: bool,
    way: str,
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(outputs, channels, *kernel).to(dtype)
    convolution = PreparedConvolution(weight, padding, (4, channels, 7, 7))
    for batch, side in ((4, 7), (9, 7), (1, 1)):  # the input that it was prepared for, and others
        x, plus = torch.randn(batch, channels, side, side).to(dtype), torch.randn(batch, outputs, side, side).to(dtype)
        shift = torch.randn(outputs).to(dtype) if shifted else None
        expected = F.conv2d(x.double(), weight.double(), None if shift is None else shift.double(), padding=padding)
        expected = expected + plus.double() if added else expected
        expected = expected.relu() if relu else expected
        found = convolution(x, shift, plus.clone() if added else None, relu)
        assert found.dtype == dtype
        # Where nothing is fused, bfloat16 rounds three times: after the convolution, the sum and the shift.
        assert difference(found, expected) < (1e-5 if dtype == torch.float32 else 2**-7)


@torch.no_grad()
def test_it_fuses_what_onednn_computes_and_nothing_else() -> None:
    assert not fuses(torch.zeros(1, dtype=torch.float64))
    assert not fuses(torch.zeros(1, device="meta"))
    convolution = PreparedConvolution(torch.ones(1, 1, 1, 1, dtype=torch.float64), (0, 0), (1, 1, 2, 2))
    assert convolution(torch.full((1, 1, 2, 2), -3.0, dtype=torch.float64), relu=True).tolist() == [[[[0, 0], [0, 0]]]]


def folded(channels: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> FrozenBatchNormConv2d:
    norm = nn.BatchNorm2d(outputs).requires_grad_(False)
    for values, low in ((norm.weight, 0.5), (norm.bias, -0.5), (norm.running_mean, -0.5), (norm.running_var, 0.5)):
        assert values is not None
        nn.init.uniform_(values, low, 1.5)
    conv = nn.Conv2d(channels, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return FrozenBatchNormConv2d(conv, norm)


@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "stride", "groups"),
    [(6, 8, 1, 1, 1), (6, 8, 3, 1, 1), (6, 8, 3, 2, 1), (8, 8, 3, 1, 8), (128, 128, 3, 1, 1)],
    ids=["1x1", "3x3", "strided", "depthwise", "winograd"],
)
@pytest.mark.parametrize("autocast", [False, True])
@torch.no_grad()
def test_a_frozen_batch_norm_with_sum_and_relu_gives_the_same_inside_weights_made_once(
    channels: int, outputs: int, kernel: int, stride: int, groups: int, autocast: bool
) -> None:
    torch.manual_seed(0)
    module = folded(channels, outputs, kernel, stride, groups)
    x = torch.randn(40, channels, 7, 7)
    linear = F.conv2d(x, module.weight * module.scale[:, None, None, None], None, stride, kernel // 2, groups=groups)
    plus, shift = torch.randn_like(linear), torch.randn(module.out_channels)
    tolerance = 2**-6 if autocast else 1e-5
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for one in (None, plus):
            for other in (None, shift):
                expected = linear + (module.shift if other is None else other)[:, None, None]
                expected = F.relu(expected if one is None else expected + one).double()
                like = None if one is None else one.to(module(x).dtype)
                outside = module.then_relu(x, other, None if like is None else like.clone())
                with weights_made_once(module):
                    inside = module.then_relu(x, other, None if like is None else like.clone())
                    again = module.then_relu(x, other, like)
                assert outside.dtype == inside.dtype == again.dtype
                assert torch.equal(inside, again)
                for found in (outside, inside):
                    assert difference(found, expected) < tolerance


def test_a_relu_behind_a_sum_has_the_gradients_of_both() -> None:
    torch.manual_seed(0)
    module = folded(6, 8, 3)
    x, plus = torch.randn(2, 6, 7, 7, requires_grad=True), torch.randn(2, 8, 7, 7, requires_grad=True)
    learning, direction = [x, plus, module.weight], torch.randn(2, 8, 7, 7)
    found = torch.autograd.grad((module.then_relu(x, plus=plus) * direction).sum(), learning)
    expected = torch.autograd.grad((F.relu(module(x) + plus) * direction).sum(), learning)
    torch.testing.assert_close(found, expected)
