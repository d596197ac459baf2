"""`python -m benchmarks.operations`: how many operations a step asks a GPU for, ours and torchvision's. No GPU needed.

A GPU is asked for each operation by Python, which takes longer (some 20 microseconds) than a small operation runs. So
with small operations their number is the time. They are counted on a CPU, with each model made to take the way that it
takes on a GPU. Left out is what only looks at the same numbers in another shape, what allocates, and the optimizer.
What an operation starts may be one kernel or several: `python -m benchmarks.gpu_busy` counts those, on a GPU.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torchvision.ops.boxes
import tyro
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.compare_torchvision import Options as Comparison
from benchmarks.compare_torchvision import build_both
from benchmarks.report import INFERENCE, SIDES, TRAINING
from benchmarks.workload import Batch, make_batch
from rcnn_edu import batch_nms
from rcnn_edu.cli import run_program
from rcnn_edu.config import Config
from rcnn_edu.model import FasterRCNN

START_NOTHING = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "_local_scalar_dense"}
CUDA_LIMIT = 20_000
"""Coordinates up to which torchvision's `batched_nms` takes one pass on a GPU; on a CPU 4,000."""


@dataclass(frozen=True)
class Options:
    """Operations of a training step, forward and backward, and of inference, in bfloat16."""

    images: int = 8
    """In a step."""
    height: int = 600
    """Of each image, in pixels."""
    width: int = 800
    """Of each image, in pixels."""
    parts: int = 0
    """Also list so many kinds of operation, the most frequent first."""


class Operations(TorchDispatchMode):
    """Counts them by name while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.by_name: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func._schema.name.split("::")[1]
        if not func.is_view and name not in START_NOTHING:
            self.by_name[name] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Inside, both models take on a CPU the ways that they take on a GPU."""

    def classify(model: FasterRCNN, features: Tensor, rois: Sequence[Tensor]) -> Any:
        return model._classify(model.classifier.tail.project(features), rois)  # type: ignore[operator]

    def batched(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
        one_pass = boxes.numel() <= CUDA_LIMIT
        ops = torchvision.ops.boxes
        form = ops._batched_nms_coordinate_trick if one_pass else ops._batched_nms_vanilla
        kept: Tensor = form(boxes, scores, classes, threshold)
        return kept

    with ExitStack() as stack:
        for target, form in (
            ("rcnn_edu.batch_steps.nms_of_each", batch_nms.nms_together),
            ("rcnn_edu.batch_steps.batched_nms_of_each", batch_nms.batched_nms_together),
            ("rcnn_edu.model.FasterRCNN.classify", classify),
            ("rcnn_edu.model.check_targets", lambda *_: None),  # looks at targets on a CPU alone
            ("rcnn_edu.nms.BLOCK", 1_000_000),
            ("torchvision.ops.boxes.batched_nms", batched),
        ):
            stack.enter_context(mock.patch(target, form))
        yield


def count(model: nn.Module, mode: str, batch: Batch) -> Counter[str]:
    """Operations by name of one step of `mode`."""
    model.train(mode == TRAINING)
    seeds = {"seeds": range(len(batch.images))} if isinstance(model, FasterRCNN) else {}
    with as_on_a_gpu(), torch.autocast("cpu", torch.bfloat16), Operations() as operations:
        if mode == TRAINING:
            torch.stack(list(model(batch.images, batch.targets, **seeds).values())).sum().backward()
        else:
            with torch.no_grad():
                model(batch.images)
    return operations.by_name


def run(options: Options, config: Config = Config(pretrained=False)) -> dict[str, dict[str, int]]:
    """Count, print a table, and return the totals by mode and side."""
    size = (options.height, options.width, config.num_classes)
    comparison = Comparison(height=options.height, width=options.width)
    with tempfile.TemporaryDirectory() as folder:
        models = build_both(comparison, config, Path(folder))
    batch, totals = make_batch(options.images, *size, seed=0), {}
    print(f"{'operations of a step':<24}{'ours':>12}{'torchvision':>14}")
    for mode in (TRAINING, INFERENCE):
        counts = {side: count(models[side], mode, batch) for side in SIDES}
        totals[mode] = {str(side): one.total() for side, one in counts.items()}
        print(f"{mode:<24}{counts['ours'].total():>12}{counts['torchvision'].total():>14}")
        for name, number in counts["ours"].most_common(options.parts):
            print(f"    {name:<20}{number:>12}{counts['torchvision'][name]:>14}")
    return totals


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    program = "python -m benchmarks.operations"
    run_program(lambda: run(tyro.cli(Options, args=arguments, prog=program, description=__doc__)))


if __name__ == "__main__":
    main()
