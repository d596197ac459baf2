"""A GPU must not wait for Python: the training path's steps never ask for a value, nor for a size that depends on one.

Two looks at the same calls. On the CPU, every operation is checked against those that read values back. On the meta
device, where tensors have no values, anything that reads one fails by itself, and so do copies that block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from conftest import generator, random_boxes
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rcnn_edu.anchor_target import AnchorTargets, anchor_targets, label_anchors
from rcnn_edu.anchors import base_anchors, grid_anchors
from rcnn_edu.batch_steps import all_anchors, all_objects, all_rpn_losses, label_all, sample_all
from rcnn_edu.boxes import box_iou, clip_boxes, decode_boxes, encode_boxes
from rcnn_edu.classifier import classifier_loss
from rcnn_edu.config import AnchorTargetConfig, ProposalTargetConfig
from rcnn_edu.crop_pooling import crop_pool
from rcnn_edu.preprocessing import preprocess
from rcnn_edu.proposal_target import ProposalTargets, expand_targets, proposal_targets
from rcnn_edu.rpn import RPNOutput
from rcnn_edu.rpn_loss import rpn_loss

SIZE = (128, 160)
READS_VALUES = {
    "aten::_local_scalar_dense",  # .item(), float(x), bool(x), if x:
    "aten::equal",
    "aten::is_nonzero",
    "aten::nonzero",
    "aten::masked_select",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::_unique",
    "aten::_unique2",
    "aten::bincount",
    "aten::repeat_interleave",
}
MASKS = (torch.bool, torch.uint8)


class HostSyncError(AssertionError):
    """An operation for which a GPU and Python would have to wait for each other."""


class NoHostSync(TorchDispatchMode):
    """Raises `HostSyncError` for operations that read values, index by a mask, or copy between devices and block."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        name = func._schema.name
        if name in READS_VALUES:
            raise HostSyncError(f"{name} reads values")
        if name in ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"):
            masks = [i for i in args[1] if isinstance(i, Tensor) and i.dtype in MASKS]
            if masks:
                raise HostSyncError(f"{name} by a mask: the result's size, or which rows are written, is a value")
        if name == "aten::_to_copy":
            device = kwargs.get("device")
            if device is not None and device.type != args[0].device.type and not kwargs.get("non_blocking"):
                raise HostSyncError("a blocking copy from one device to another")
        return func(*args, **kwargs)


class NoNumbersToDevices(TorchFunctionMode):
    """Raises `HostSyncError` where Python numbers are copied to another device: the copy blocks."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, Tensor.new_tensor) and result.device.type != "cpu":
            raise HostSyncError("Python numbers copied to another device: the copy blocks")
        return result


@contextmanager
def no_host_sync() -> Iterator[None]:
    """Inside, whatever waits raises `HostSyncError`."""
    with NoHostSync(), NoNumbersToDevices():
        yield


def inputs(device: str) -> dict[str, Tensor]:
    """What the steps are called with, random and of the right shapes."""
    tensors = {
        "image": torch.rand(3, 100, 120),
        "anchors": grid_anchors((8, 10), 16, base_anchors(16, (0.5, 1, 2), (1, 2, 3))),
        "proposals": random_boxes(300, SIZE),
        "gt_boxes": random_boxes(4, SIZE, smallest=20),
        "gt_labels": torch.tensor([1, 2, 3, 1]),
        "features": torch.randn(2, 24, 8, 10, requires_grad=True),
        "rpn_scores": torch.randn(720, 2, requires_grad=True),
        "rpn_coefficients": torch.randn(720, 4, requires_grad=True),
        "scores": torch.randn(128, 4, requires_grad=True),
        "coefficients": torch.randn(128, 16, requires_grad=True),
    }
    return {name: tensor.detach().to(device).requires_grad_(tensor.requires_grad) for name, tensor in tensors.items()}


def sampled_anchors(x: dict[str, Tensor]) -> AnchorTargets:
    """Step 05 with its defaults."""
    return anchor_targets(x["anchors"], x["gt_boxes"], SIZE)


def sampled_rois(x: dict[str, Tensor], **changes: Any) -> ProposalTargets:
    """Step 07."""
    return proposal_targets(x["proposals"], x["gt_boxes"], x["gt_labels"], ProposalTargetConfig(**changes))


def no_objects(x: dict[str, Tensor]) -> object:
    """Both target layers on an image without objects."""
    boxes, labels = x["gt_boxes"][:0], x["gt_labels"][:0]
    return anchor_targets(x["anchors"], boxes, SIZE), proposal_targets(x["proposals"], boxes, labels)


def with_generator(x: dict[str, Tensor]) -> object:
    """Both target layers with random numbers that come from the CPU, whatever device the boxes are on."""
    source, boxes = generator(), x["gt_boxes"]
    rois = proposal_targets(x["proposals"], boxes, x["gt_labels"], generator=source)
    return anchor_targets(x["anchors"], boxes, SIZE, generator=source), rois


def rpn_backward(x: dict[str, Tensor]) -> None:
    """Step 06, forward and backward."""
    loss = rpn_loss(x["rpn_scores"], x["rpn_coefficients"], sampled_anchors(x))
    (loss.classification + loss.regression).backward()


def classifier_backward(x: dict[str, Tensor]) -> None:
    """Step 09's loss, forward and backward."""
    loss = classifier_loss(x["scores"], x["coefficients"], sampled_rois(x))
    (loss.classification + loss.regression).backward()


def crop_backward(x: dict[str, Tensor], **options: Any) -> None:
    """Step 08, forward and backward."""
    rois = [x["proposals"][:20], x["proposals"][20:25].requires_grad_()]
    crop_pool(x["features"], rois, **options).sum().backward()


def batch_backward(x: dict[str, Tensor], counts: Sequence[int] = (3, 0)) -> None:
    """Steps 05, 06 and 07 for a batch of two images of different sizes, forward and backward."""
    device, sizes = x["anchors"].device, [SIZE, (96, 128)]
    maps = (torch.randn(2, columns * 9, 8, 10, device=device, requires_grad=True) for columns in (2, 4))
    anchors = all_anchors(RPNOutput(*maps), x["anchors"][:9], 16, sizes, [(8, 10), (6, 8)])
    boxes, labels = ([x[key][:count] for count in counts] for key in ("gt_boxes", "gt_labels"))
    objects = all_objects(boxes, labels, torch.ones(2, 4, device=device))
    wanted = label_all(anchors, objects, AnchorTargetConfig(), [None, None])
    torch.stack(list(all_rpn_losses(anchors, wanted, 3.0))).sum().backward()
    sample_all([x["proposals"], x["proposals"][:50]], objects, ProposalTargetConfig(), [None, None])


STEPS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "preprocess": lambda x: preprocess(x["image"]),
    "grid_anchors": lambda x: grid_anchors((8, 10), 16, x["anchors"][:9]),
    "boxes": lambda x: (
        box_iou(x["anchors"], x["gt_boxes"]),
        encode_boxes(x["proposals"], x["proposals"]),
        clip_boxes(decode_boxes(x["proposals"][:128], x["coefficients"]), SIZE),
    ),
    "label_anchors": lambda x: label_anchors(x["anchors"], x["gt_boxes"], SIZE),
    "anchor_targets": sampled_anchors,
    "rpn_loss": rpn_backward,
    "proposal_targets": sampled_rois,
    "proposal_targets without append_gt": lambda x: sampled_rois(x, append_gt=False),
    "targets without objects": no_objects,
    "targets with a generator of the CPU": with_generator,
    "expand_targets": lambda x: expand_targets(sampled_rois(x).targets, sampled_rois(x).labels, 4),
    "classifier_loss": classifier_backward,
    "a batch": batch_backward,
    "a batch without objects": lambda x: batch_backward(x, (0, 0)),
    "crop_pool": crop_backward,
    "crop_pool, differentiable RoIs": lambda x: crop_backward(x, differentiable_rois=True),
}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("step", STEPS)
def test_steps_of_the_training_path_never_wait(step: str, device: str) -> None:
    x = inputs(device)
    with no_host_sync():
        STEPS[step](x)


@pytest.mark.parametrize(
    "waits",
    [
        pytest.param(lambda x: x.sum().item(), id="item"),
        pytest.param(lambda x: float(x.sum()), id="float"),
        pytest.param(lambda x: bool((x > 0).any()), id="bool"),
        pytest.param(lambda x: [1 for value in x[0] if value > 0], id="if"),
        pytest.param(lambda x: x[x > 0], id="mask"),
        pytest.param(lambda x: x.masked_select(x > 0), id="masked_select"),
        pytest.param(lambda x: x.nonzero(), id="nonzero"),
        pytest.param(lambda x: torch.where(x > 0), id="where"),
        pytest.param(lambda x: x.unique(), id="unique"),
        pytest.param(lambda x: x.unique(dim=0), id="unique of rows"),
        pytest.param(lambda x: x.index_put_((x[:, 0] > 0,), torch.zeros(4)), id="writing rows by a mask"),
        pytest.param(lambda x: torch.equal(x, x), id="equal"),
        pytest.param(lambda x: x.cpu() if x.is_meta else torch.rand(3, device="meta").cpu(), id="cpu"),
    ],
)
def test_the_check_itself_catches_what_waits(waits: Callable[[Tensor], object]) -> None:
    with pytest.raises(HostSyncError), no_host_sync():
        waits(torch.randn(5, 4))


@pytest.mark.parametrize(
    "copy",
    [
        lambda x: x.new_tensor((1.0, 2.0)),
        lambda x: torch.tensor([1.0], device=x.device),
        lambda x: torch.ones(2).to(x.device),
    ],
)
def test_the_check_itself_catches_copies_that_block(copy: Callable[[Tensor], object]) -> None:
    with pytest.raises(HostSyncError), no_host_sync():
        copy(torch.randn(3, device="meta"))


def test_the_check_itself_lets_through_what_does_not_wait() -> None:
    x = torch.randn(5, 4)
    with no_host_sync():
        torch.where(x > 0, x, 0.0)[torch.tensor([0, 2])].topk(2)
        torch.ones(2).to(torch.device("meta"), non_blocking=True)
