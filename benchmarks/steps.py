"""Each step against its textbook form, at the sizes of a 600×800 photo: a feature map of 38×50, 17,100 anchors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torchvision.ops
from torch import Tensor

from benchmarks.report import largest_so_far
from benchmarks.textbook import (
    TorchvisionTargets,
    expanded_crop_pool,
    numpy_anchor_targets,
    numpy_proposal_targets,
)
from benchmarks.timing import Timing, counted, in_new_process, interleaved
from rcnn_edu.anchor_target import anchor_targets
from rcnn_edu.anchors import base_anchors, grid_anchors
from rcnn_edu.boxes import clip_boxes
from rcnn_edu.config import AnchorTargetConfig, ProposalConfig, ProposalTargetConfig
from rcnn_edu.crop_pooling import crop_pool
from rcnn_edu.nms import nms
from rcnn_edu.proposal_target import proposal_targets

OURS = "rcnn_edu"
IMAGE, CELLS, CHANNELS, STRIDE = (600, 800), (38, 50), 1024, 16
ROIS, PROPOSALS, OBJECTS = 128, 2000, (1, 10, 100)
WARMUP = 3

Call = Callable[[int], object]


def random_boxes(count: int, generator: torch.Generator, smallest: float = 40.0, largest: float = 300.0) -> Tensor:
    """`(count, 4)` boxes with sides in that range, in pixels, cut at the border of the image."""
    height, width = IMAGE
    centers = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    half = (smallest + (largest - smallest) * torch.rand(count, 2, generator=generator)) / 2
    return clip_boxes(torch.cat([centers - half, centers + half], dim=1), IMAGE)


def crop_pooling(device: torch.device, rounds: int) -> list[Timing]:
    """128 RoIs of 1024 channels, forward and backward; peak memory too."""
    calls = {name: pooling_call(name, device, CHANNELS, ROIS) for name in POOLING}
    seconds = interleaved(calls, rounds, WARMUP, device, "crop pooling")
    peaks = {name: in_new_process(pooling_peak, name, str(device), torch.get_num_threads()) for name in POOLING}
    return [Timing(f"{ROIS} RoIs × {CHANNELS} channels, forward + backward", seconds, peaks)]


def _roi_align(features: Tensor, rois: Tensor, sampling_ratio: int) -> Tensor:
    return torchvision.ops.roi_align(features, [rois], 7, 1 / STRIDE, sampling_ratio)


POOLING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    OURS: lambda features, rois: crop_pool(features, [rois], STRIDE),
    "roi_align, 2×2 points": partial(_roi_align, sampling_ratio=2),
    "roi_align, 1 point": partial(_roi_align, sampling_ratio=1),
    "expanded grid_sample": expanded_crop_pool,
}
"""Ways to pool. torchvision's own detectors take 2×2 points a cell; ours and the expanded form take one."""


def pooling_call(name: str, device: torch.device, channels: int, rois: int) -> Call:
    """One forward and backward pass; the maps of ours are channels last, as they are in the model."""
    generator = torch.Generator().manual_seed(0)
    layout = torch.channels_last if name == OURS else torch.contiguous_format
    features, gradient = (
        torch.empty(shape, device=device, memory_format=layout).normal_()
        for shape in ((1, channels, *CELLS), (rois, channels, 7, 7))
    )
    features.requires_grad_()
    boxes = random_boxes(rois, generator).to(device)

    def call(_: int) -> None:
        features.grad = None
        POOLING[name](features, boxes).backward(gradient)

    return call


def pooling_peak(name: str, device_name: str, threads: int) -> float:
    """MiB that a pass needs beyond its inputs: crops, their work space, and the gradient of the feature map."""
    device = torch.device(device_name)
    torch.set_num_threads(threads)
    pooling_call(name, device, 8, 1)(0)  # loads the code
    call = pooling_call(name, device, CHANNELS, ROIS)
    before = largest_so_far(device)
    call(0)
    return (largest_so_far(device) - before) / 2**20


def anchor_target_layer(device: torch.device, rounds: int) -> list[Timing]:
    """17,100 anchors, and more and more objects."""
    return [
        Timing(
            counted(count, "object"),
            interleaved(anchor_target_calls(count, device), rounds, WARMUP, device, "anchor targets"),
        )
        for count in OBJECTS
    ]


def anchor_target_calls(count: int, device: torch.device) -> dict[str, Call]:
    """The three ways to label the anchors of an image with `count` objects."""
    config, rng = AnchorTargetConfig(), np.random.default_rng(0)
    theirs = TorchvisionTargets(config, ProposalTargetConfig())
    anchors = grid_anchors(CELLS, STRIDE, base_anchors()).to(device)
    objects = random_boxes(count, torch.Generator().manual_seed(count)).to(device)
    return {
        OURS: lambda _: anchor_targets(anchors, objects, IMAGE, config),
        "torchvision": lambda _: theirs.anchors(anchors, objects),
        "NumPy": lambda _: numpy_anchor_targets(anchors.cpu().numpy(), objects.cpu().numpy(), IMAGE, config, rng),
    }


def proposal_target_layer(device: torch.device, rounds: int) -> list[Timing]:
    """2,000 proposals, half of them near an object, and more and more objects."""
    return [
        Timing(
            counted(count, "object"),
            interleaved(proposal_target_calls(count, device), rounds, WARMUP, device, "proposal targets"),
        )
        for count in OBJECTS
    ]


def proposal_target_calls(count: int, device: torch.device) -> dict[str, Call]:
    """The three ways to sample the RoIs of an image with `count` objects."""
    config, rng = ProposalTargetConfig(), np.random.default_rng(0)
    theirs = TorchvisionTargets(AnchorTargetConfig(), config)
    generator = torch.Generator().manual_seed(count)
    objects = random_boxes(count, generator)
    labels = torch.randint(1, 21, (count,), generator=generator).to(device)
    proposals, objects = proposals_around(objects, generator).to(device), objects.to(device)
    return {
        OURS: lambda _: proposal_targets(proposals, objects, labels, config),
        "torchvision": lambda _: theirs.proposals(proposals, objects, labels),
        "NumPy": lambda _: numpy_proposal_targets(
            proposals.cpu().numpy(), objects.cpu().numpy(), labels.cpu().numpy(), config, rng
        ),
    }


def proposals_around(objects: Tensor, generator: torch.Generator) -> Tensor:
    """`(PROPOSALS, 4)`: half anywhere, half an object moved by up to a third of its size."""
    anywhere = random_boxes(PROPOSALS // 2, generator)
    near = objects[torch.randint(len(objects), (PROPOSALS // 2,), generator=generator)]
    size = near[:, 2:] - near[:, :2]
    shift = (torch.rand(len(near), 2, generator=generator) - 0.5) * 2 / 3 * size
    return torch.cat([anywhere, clip_boxes(near + torch.cat([shift, shift], dim=1), IMAGE)])


def suppression(device: torch.device, rounds: int) -> list[Timing]:
    """The proposal layer's non-maximum suppression, stopped early or not: the same boxes are kept."""
    timings = []
    for config in (ProposalConfig(), ProposalConfig(6000, 300)):
        case = f"{config.pre_nms_top_n:,} boxes, best {config.post_nms_top_n:,} kept"
        timings.append(Timing(case, interleaved(nms_calls(config, device), rounds, WARMUP, device, "suppression")))
    return timings


def nms_calls(config: ProposalConfig, device: torch.device) -> dict[str, Call]:
    """Three ways to the same rows."""
    wanted, threshold = config.post_nms_top_n, config.nms_threshold
    boxes, scores = ranked_boxes(config.pre_nms_top_n, torch.Generator().manual_seed(0))
    boxes, scores = boxes.to(device), scores.to(device)
    return {
        OURS: lambda _: nms(boxes, scores, threshold, max_kept=wanted),
        "torchvision": lambda _: torchvision.ops.nms(boxes, scores, threshold)[:wanted],
        "rcnn_edu, to the end": lambda _: nms(boxes, scores, threshold)[:wanted],
    }


def ranked_boxes(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`(count, 4)` boxes and `(count,)` scores as an untrained RPN gives them: anchors, each moved a little."""
    anchors = clip_boxes(grid_anchors(CELLS, STRIDE, base_anchors()), IMAGE)
    rows = torch.randperm(len(anchors), generator=generator)[:count]
    size = anchors[rows, 2:] - anchors[rows, :2]
    shift = torch.randn(count, 2, generator=generator) * 0.1 * size
    boxes = clip_boxes(anchors[rows] + torch.cat([shift, shift], dim=1), IMAGE)
    return boxes, torch.rand(count, generator=generator)
