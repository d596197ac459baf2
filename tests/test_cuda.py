"""On a GPU: the same numbers as on a CPU, no waiting for it, and no more memory than promised. Skipped without one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import pytest
import torch
from conftest import generator, jittered, random_boxes, tiny_config
from test_no_host_sync import STEPS, inputs
from torch import Tensor

from rcnn_edu.anchor_target import anchor_targets
from rcnn_edu.anchors import base_anchors, grid_anchors
from rcnn_edu.batch_nms import batched_nms_of_each, nms_of_each
from rcnn_edu.boxes import box_iou
from rcnn_edu.config import AnchorConfig, Config, CropPoolingConfig, PreprocessingConfig, ProposalConfig
from rcnn_edu.crop_pooling import crop_pool
from rcnn_edu.model import FasterRCNN
from rcnn_edu.nms import batched_nms, nms
from rcnn_edu.proposal_layer import propose
from rcnn_edu.proposal_target import proposal_targets

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

SIZE = (480, 640)
Mode = Literal["crop", "align"]


@pytest.fixture(autouse=True)
def _full_float32() -> Iterator[None]:
    """Convolutions in true float32: the GPU's short form has three digits, too few to compare with a CPU."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@contextmanager
def no_waiting(mode: Literal["warn", "error"] = "error") -> Iterator[None]:
    """Inside, torch reports every operation after which the host waits for the GPU."""
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that the mode is a prototype
        torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def overlapping(count: int) -> tuple[Tensor, Tensor]:
    """`(count, 4)` boxes in clusters, and their scores."""
    return jittered(random_boxes(count // 20, SIZE, smallest=20), 20, pixels=8), torch.rand(count)


# --- the same numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_kept", [None, 100])
def test_suppression_keeps_the_same_boxes(max_kept: int | None) -> None:
    boxes, scores = overlapping(2000)
    scores[::50] = torch.nan
    boxes[7] = torch.inf
    expected = nms(boxes, scores, 0.7, max_kept)
    found = nms(boxes.cuda(), scores.cuda(), 0.7, max_kept)
    assert found.device.type == "cuda"
    assert found.tolist() == expected.tolist()


def test_suppression_by_class_keeps_the_same_boxes() -> None:
    boxes, scores = overlapping(600)
    classes = torch.randint(0, 5, (600,))
    expected = batched_nms(boxes, scores, classes, 0.5)
    assert batched_nms(boxes.cuda(), scores.cuda(), classes.cuda(), 0.5).tolist() == expected.tolist()


@pytest.mark.parametrize("max_kept", [10, 400])
def test_suppression_in_all_images_at_once_keeps_the_same_boxes(max_kept: int) -> None:
    boxes, scores = (torch.stack(parts) for parts in zip(*(overlapping(1000) for _ in range(5)), strict=True))
    scores[1, ::50], boxes[3, 7] = torch.nan, torch.inf
    classes, image = torch.randint(0, 5, (5000,)), torch.arange(5).repeat_interleave(1000)
    calls: list[tuple[Callable[..., list[Tensor]], tuple[Tensor, ...], tuple[float, ...]]] = [
        (nms_of_each, (boxes, scores), (0.7, max_kept)),
        (batched_nms_of_each, (boxes.flatten(0, 1), scores.flatten(), classes, image), (5, 0.5, max_kept)),
    ]
    for step, tensors, numbers in calls:
        expected = step(*tensors, *numbers)
        found = step(*(one.cuda() for one in tensors), *numbers)
        assert [one.tolist() for one in found] == [one.tolist() for one in expected]


def test_proposals_are_the_same() -> None:
    anchors = grid_anchors((30, 40), 16, base_anchors())
    objectness, coefficients = torch.rand(len(anchors)), torch.randn(len(anchors), 4) * 0.2
    objectness[3] = torch.nan
    config = ProposalConfig(3000, 300)
    expected = propose(objectness, coefficients, anchors, SIZE, config)
    found = propose(objectness.cuda(), coefficients.cuda(), anchors.cuda(), SIZE, config)
    torch.testing.assert_close(found.boxes.cpu(), expected.boxes, atol=1e-3, rtol=0)
    assert torch.equal(found.scores.cpu(), expected.scores)
    assert found.non_finite == expected.non_finite == 1


@pytest.mark.parametrize("objects", [0, 1, 9])
def test_targets_are_the_same_for_the_same_random_numbers(objects: int) -> None:
    anchors = grid_anchors((30, 40), 16, base_anchors())
    boxes, labels = random_boxes(objects, SIZE, smallest=40), torch.randint(1, 21, (objects,))
    expected = anchor_targets(anchors, boxes, SIZE, generator=generator())
    found = anchor_targets(anchors.cuda(), boxes.cuda(), SIZE, generator=generator())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other, atol=1e-4, rtol=1e-4)

    proposals = torch.cat([random_boxes(500, SIZE), jittered(boxes, 20, pixels=10).sort(dim=1).values])
    sampled = proposal_targets(proposals, boxes, labels, generator=generator())
    on_gpu = proposal_targets(proposals.cuda(), boxes.cuda(), labels.cuda(), generator=generator())
    for one, other in zip(on_gpu, sampled, strict=True):
        torch.testing.assert_close(one.cpu(), other, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(("mode", "differentiable"), [("crop", False), ("crop", True), ("align", False)])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_crops_and_their_gradients_are_the_same(
    mode: Mode, differentiable: bool, dtype: torch.dtype, error: float
) -> None:
    values = torch.randn(2, 32, 30, 40).to(dtype).float()  # the same numbers in both, whatever they are stored in
    rois = [random_boxes(40, SIZE), random_boxes(0), random_boxes(20, SIZE)][:2]
    results = []
    for device, kind in (("cpu", torch.float32), ("cuda", dtype)):
        features = values.to(device, kind).contiguous(memory_format=torch.channels_last).requires_grad_()
        boxes = [one.to(device).requires_grad_(differentiable) for one in rois]
        crops = crop_pool(features, boxes, mode=mode, differentiable_rois=differentiable)
        assert crops.dtype == kind
        assert mode == "align" or crops.is_contiguous(memory_format=torch.channels_last)
        weights = torch.linspace(-1, 1, crops.numel()).view(crops.shape).to(device, kind)
        wanted = [features, *(boxes[:1] if differentiable else [])]
        gradients = torch.autograd.grad((crops * weights).float().sum(), wanted)
        results.append([one.detach().float().cpu() for one in (crops, *gradients)])
    for expected, found in zip(*results, strict=True):
        assert (found - expected).abs().max() <= error * expected.abs().max()


def test_no_rois_at_all_give_no_crops() -> None:
    features = torch.randn(1, 32, 6, 6, device="cuda", requires_grad=True)
    crops = crop_pool(features, [torch.zeros(0, 4, device="cuda")])
    assert crops.shape == (0, 32, 7, 7)
    (gradient,) = torch.autograd.grad(crops.sum(), features)
    assert not gradient.any()


def small_config(backbone: str = "resnet50") -> Config:
    """Small images, few RoIs."""
    return tiny_config(
        backbone=backbone, pretrained=False, rpn_channels=None, anchors=AnchorConfig(scales=(1.0, 2.0, 4.0)),
        preprocessing=PreprocessingConfig(160, 240),
    )  # fmt: skip


@pytest.mark.parametrize("backbone", ["resnet50", "mobilenet_v2"])
@pytest.mark.parametrize("mode", ["crop", "align"])
def test_the_whole_model_gives_the_same_losses_and_gradients(mode: Mode, backbone: str) -> None:
    config = replace(small_config(backbone), crop_pooling=CropPoolingConfig(mode=mode))
    images = [torch.rand(3, 160, 208), torch.rand(3, 140, 160)]
    targets = [{"boxes": random_boxes(n, (120, 150), smallest=30), "labels": torch.randint(1, 4, (n,))} for n in (3, 1)]
    losses, gradients = {}, {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(1)
        model = FasterRCNN(config, generator=generator()).to(device)
        there = [{key: value.to(device) for key, value in target.items()} for target in targets]
        found = model([image.to(device) for image in images], there)
        torch.stack(list(found.values())).sum().backward()
        losses[device] = {name: loss.item() for name, loss in found.items()}
        gradients[device] = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
    assert losses["cuda"] == pytest.approx(losses["cpu"], abs=1e-3)
    assert gradients["cuda"].keys() == gradients["cpu"].keys()
    for name, expected in gradients["cpu"].items():
        assert (gradients["cuda"][name] - expected).norm() <= 0.02 * expected.norm() + 1e-7, name


@torch.no_grad()
def test_the_whole_model_detects_the_same_objects() -> None:
    torch.manual_seed(0)
    model = FasterRCNN(small_config()).eval()
    image = torch.rand(3, 160, 208)
    (expected,) = model.detect([image])
    (found,) = model.cuda().detect([image.cuda()])
    assert len(expected["boxes"]) == len(found["boxes"]) > 0
    # Scores of random weights are close to each other: compare as sets, the best first.
    best = found["boxes"].cpu()[:20]
    assert box_iou(best, expected["boxes"]).max(dim=1).values.min() > 0.9


# --- no waiting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
def test_steps_of_the_training_path_do_not_wait_for_the_gpu(step: str) -> None:
    x = inputs("cuda")
    with no_waiting():
        STEPS[step](x)


def test_the_check_catches_waiting() -> None:
    x = torch.ones(3, device="cuda")
    with pytest.raises(RuntimeError, match="synchroniz"), no_waiting():
        x.sum().item()


def test_a_whole_training_step_waits_for_suppression_alone() -> None:
    model = FasterRCNN(small_config()).cuda()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-3, momentum=0.9)
    image = torch.randint(0, 256, (3, 160, 208), dtype=torch.uint8, device="cuda")
    target = {"boxes": random_boxes(3, (160, 208), smallest=30).cuda(), "labels": torch.tensor([1, 2, 3]).cuda()}

    def step(images: int) -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            losses = model([image] * images, [target] * images, seeds=list(range(images)))
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()

    waits = []
    for images in (2, 6):
        step(images)
        with warnings.catch_warnings(record=True) as caught, no_waiting("warn"):
            warnings.simplefilter("always")
            step(images)
        where = {(warning.filename.rsplit("/", 1)[-1], warning.lineno) for warning in caught}
        # _ops.py: torchvision's call of its operation
        assert {file for file, _ in where} <= {"batch_nms.py", "nms.py", "_ops.py", "boxes.py"}, where
        waits.append(len(caught))
    # Some a round, however many images: how many boxes are free, how many survive, and whether there are enough.
    assert waits[0] == waits[1] <= 4, waits


# --- memory --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_crop_pooling_needs_little_more_than_its_crops(dtype: torch.dtype) -> None:
    features = torch.randn(1, 1024, 38, 50, device="cuda", dtype=dtype).contiguous(memory_format=torch.channels_last)
    rois = [random_boxes(300, SIZE).cuda()]
    features.requires_grad_()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    crops = crop_pool(features, rois)
    most = torch.cuda.max_memory_allocated() - before
    assert crops.numel() * crops.element_size() <= most <= 2 * crops.numel() * crops.element_size()
