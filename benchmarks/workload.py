"""What both models are given to do, and how much of it each really did.

A detector's time depends on its weights: one that proposes nothing is fast. Random weights here act as trained ones do
in the respects that cost time: BatchNorm's statistics fit the images, so activations stay near one through all layers,
scores vary over the image, and suppression has as much to keep as the proposal layer asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
import torchvision.models
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from rcnn_edu import winograd
from rcnn_edu.batch_steps import propose_all
from rcnn_edu.config import Config
from rcnn_edu.model import FasterRCNN
from rcnn_edu.preprocessing import preprocess

OBJECTS = 6


class Batch(NamedTuple):
    """Images and what is in them, in the form that both models take."""

    images: list[Tensor]
    """`(3, H, W)` float32 in 0..1."""
    targets: list[dict[str, Tensor]]
    """Per image `{"boxes": (G, 4), "labels": (G,)}`."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        moved = [{key: value.to(device) for key, value in target.items()} for target in self.targets]
        return Batch([image.to(device) for image in self.images], moved)


class Work(NamedTuple):
    """How much a model did for one batch."""

    gflop: float
    """Arithmetic of convolutions and matrix products, forward and, in training, backward, in 10⁹ operations."""
    proposals: list[int]
    """Per image, after non-maximum suppression."""
    rois: int
    """Crops that the tail saw, all images together."""
    detections: list[int]
    """Per image; empty in training."""


def make_batch(size: int, height: int, width: int, num_classes: int, seed: int, objects: int = OBJECTS) -> Batch:
    """`size` images of smooth random texture at several scales, textured rectangles on each as the objects."""
    generator = torch.Generator().manual_seed(seed)
    images, targets = [], []
    for _ in range(size):
        image, boxes = _texture(height, width, generator), []
        for share_w, share_h, x, y in torch.rand(objects, 4, generator=generator).tolist():
            w, h = int(width * (0.1 + 0.4 * share_w)), int(height * (0.1 + 0.4 * share_h))
            left, top = int((width - w) * x), int((height - h) * y)
            image[:, top : top + h, left : left + w] = _texture(h, w, generator)
            boxes.append((left, top, left + w, top + h))
        images.append(image)
        labels = torch.randint(1, num_classes, (objects,), generator=generator)
        targets.append({"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": labels})
    return Batch(images, targets)


def _texture(height: int, width: int, generator: torch.Generator) -> Tensor:
    """`(3, height, width)`: noise on coarse to fine grids, enlarged smoothly; coarse detail has the most contrast."""
    texture = torch.zeros(3, height, width)
    for cells, weight in ((2, 0.45), (6, 0.27), (20, 0.18), (60, 0.1)):
        noise = torch.rand(1, 3, cells, cells, generator=generator)
        texture += weight * F.interpolate(noise, size=(height, width), mode="bilinear")[0]
    return texture


@torch.no_grad()
def calibrated_weights(config: Config, batch: Batch, seed: int) -> dict[str, Tensor]:
    """State dict of a randomly initialised ResNet whose BatchNorm statistics are those of `batch`.

    With BatchNorm's initial statistics, which normalise nothing, activations would double in every residual block
    and the proposals would all be the whole image.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = torchvision.models.get_model(config.backbone, weights=None)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # a plain average: over one pass, that pass's statistics
    network.train()
    network(torch.stack([preprocess(image, config.preprocessing)[0] for image in batch.images]))
    state: dict[str, Tensor] = network.state_dict()
    return state


def measure_work(model: nn.Module, run: Callable[[], Any], plain: bool = False) -> Work:
    """What `model`, ours or the peer, does in `run()`, which may return the detections.

    plain: let ours compute the tail on every crop and every product of a convolution, as written in the article and
    done by the peer; by itself it runs the opening 1×1 convolutions before crop pooling (rcnn_edu/tail.py) and, on a
    CPU, mixes before it multiplies (rcnn_edu/winograd.py), which gives the same numbers with less work.
    """
    proposals: list[int] = []
    crops: list[int] = []

    def count_crops(_: nn.Module, inputs: tuple[Tensor, ...], __: object) -> None:
        crops.append(len(inputs[0]))

    def count_proposals(_: nn.Module, __: object, output: tuple[list[Tensor], object]) -> None:
        proposals.extend(len(boxes) for boxes in output[0])

    counter = FlopCounterMode(display=False, custom_mapping=_fused_convolutions())
    if isinstance(model, FasterRCNN):
        classify = model.classify

        def classified(features: Tensor, rois: Sequence[Tensor]) -> Any:
            crops.append(sum(map(len, rois)))
            return model.classifier(*model.crop([features], rois)) if plain else classify(features, rois)

        def counted(*args: Any) -> list[Tensor]:
            proposed = propose_all(*args)
            proposals.extend(map(len, proposed))
            return proposed

        pays = mock.patch.object(winograd, "pays", return_value=False) if plain else nullcontext()
        proposing = mock.patch("rcnn_edu.model.propose_all", counted)
        with mock.patch.object(model, "classify", classified), proposing, pays, counter:
            result = run()
    else:
        hooks = [
            model.get_submodule("rpn").register_forward_hook(count_proposals),
            model.get_submodule("roi_heads.box_head").register_forward_hook(count_crops),
        ]
        with counter:
            result = run()
        for hook in hooks:
            hook.remove()
    found = [len(one["boxes"]) for one in result] if isinstance(result, list) else []
    return Work(counter.get_total_flops() / 1e9, proposals, sum(crops), found)


def _fused_convolutions() -> dict[Any, Any]:
    """What rcnn_edu/onednn.py calls, of which torch's counter does not know that they are convolutions."""

    def of_convolution(x: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
        return conv_flop_count(list(x), list(weight), list(out_shape))

    def with_sum(plus: Sequence[int], x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
        return conv_flop_count(list(x), list(weight), list(plus))

    operations = torch.ops.mkldnn
    return {operations._convolution_pointwise: of_convolution, operations._convolution_pointwise_: with_sum}


def shortfall(work: Work, config: Config, training: bool) -> str:
    """What `work` lacks to be all that `config` asks for, as a phrase; empty if nothing."""
    images = len(work.proposals)
    layer = config.proposals if training else config.test_proposals
    rois = images * (config.proposal_target.batch_size if training else layer.post_nms_top_n)
    lacking = []
    if min(work.proposals) < layer.post_nms_top_n:
        lacking.append(f"{min(work.proposals)} proposals of {layer.post_nms_top_n}")
    if work.rois < rois:
        lacking.append(f"{work.rois} RoIs of {rois}")
    if not training and min(work.detections) < config.detection.max_detections:
        lacking.append(f"{min(work.detections)} detections of {config.detection.max_detections}")
    return ", ".join(lacking)
