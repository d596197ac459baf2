"""`python -m benchmarks.train_torchvision`: torchvision's Faster R-CNN, trained as ours is, on the same photos.

The recipe is `mobile` of rcnn_edu/recipes.py, the loop is rcnn_edu/run.py itself: the same images in the same order
with the same flips, optimizer, schedule, warm-up, clipping, precision, and the same evaluator. Only the detector is
torchvision's, built by benchmarks/peer.py from the same MobileNetV2, and it starts from the very weights that
`python -m rcnn_edu.train --recipe mobile` starts from with this seed. So the two average precisions can be compared.

Two mercies, which ours has built in: depthwise convolutions stay in float32 on a CPU, where their bfloat16 gradient is
40 times slower, and what the heads say becomes float32 before any softmax, loss or ranking is computed from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
import tyro
from torch import Tensor, nn

from benchmarks.peer import build_peer, copy_heads
from rcnn_edu.cli import run_program
from rcnn_edu.continuation import check_output
from rcnn_edu.distributed import start_processes
from rcnn_edu.model import FasterRCNN
from rcnn_edu.recipes import mobile, scaled, with_classes
from rcnn_edu.run import Run
from rcnn_edu.train import prepare
from rcnn_edu.training_config import TrainConfig

LOSSES = {
    "rpn_classification": "loss_objectness",
    "rpn_regression": "loss_rpn_box_reg",
    "classification": "loss_classifier",
    "regression": "loss_box_reg",
}
"""Our names of the four losses, and torchvision's."""


@dataclass(frozen=True)
class Options:
    """Train torchvision's Faster R-CNN with the recipe `mobile`."""

    data: str
    """Path of a dataset in VOC layout, or voc2007 or voc0712."""
    backbone_weights: str
    """State dict of an ImageNet-trained MobileNetV2 with torchvision's names."""
    steps: int | None = None
    """Batches to train on (none: as many as the recipe says)."""
    scale_to_batch: int | None = None
    """Images a step; learning rate and steps of the recipe change in proportion (none: the recipe's 4)."""
    output: Path = Path("runs/torchvision")
    """Folder for checkpoint.pt, metrics.jsonl, ap.txt and ap.json."""
    resume: bool = False
    """Go on from the checkpoint in the output folder."""
    overwrite: bool = False
    """Start anew even though the output folder holds a run."""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto: a GPU if there is one."""
    amp: Literal["off", "bf16", "auto"] = "auto"
    """Compute in bfloat16; auto: if the processor is faster at it."""
    threads: int | None = None
    """CPU threads (none: as many as torch chooses)."""
    workers: int = 2
    """Processes that decode images."""
    target_sizes: tuple[int, ...] | None = None
    """Shorter sides in pixels, one of which is drawn for each step; with nothing behind it: always the target size
    (none: the recipe's)."""
    learning_rate: float | None = None
    """After the warm-up (none: the recipe's)."""
    clip_norm: float | None = None
    """Scale gradients down to this norm (none: the recipe's)."""
    seed: int = 0
    """Of the initial weights, the order of the images, the flips and the sampling."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""


class TorchvisionDetector(nn.Module):
    """torchvision's detector in the place of ours: the methods and attributes that the training loop uses.

    Starts from the weights of `ours`; the backbone's are in the file of `ours.config.backbone_weights`.
    """

    def __init__(self, ours: FasterRCNN) -> None:
        super().__init__()
        self.config, self.classes = ours.config, ours.classes
        self.trained_on: dict[str, Any] = {}
        self.peer = build_peer(ours.config)
        copy_heads(ours, self.peer)
        for name in ("rpn.head", "roi_heads.box_predictor"):
            self.peer.get_submodule(name).register_forward_hook(_to_float32)

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]] | None = None,
        seeds: Sequence[int] | None = None,
        target_size: int | None = None,
    ) -> Any:
        """As ours: the four losses under our names in training mode, detections in evaluation mode.

        seeds are of no use: torchvision draws from torch's own generator, which the loop seeds before each step.
        """
        if not self.training:
            return self.detect(images)
        transform: Any = self.peer.get_submodule("transform")
        transform.min_size = (target_size or self.config.preprocessing.target_size,)
        losses = self.peer([image / 255 for image in images], [dict(one) for one in targets or ()])
        return {name: losses[theirs] for name, theirs in LOSSES.items()}

    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Per image its boxes, labels and scores."""
        found: list[dict[str, Tensor]] = self.peer([image / 255 for image in images])
        return found


def _to_float32(_: nn.Module, __: object, output: tuple[Any, Any]) -> tuple[Any, Any]:
    """A head's two outputs, tensors or lists of one tensor a level, as float32."""
    first, second = ([one.float() for one in part] if isinstance(part, list) else part.float() for part in output)
    return first, second


def training_config(options: Options) -> TrainConfig:
    """The recipe `mobile` with these options."""
    recipe = mobile() if options.scale_to_batch is None else scaled(mobile(), options.scale_to_batch)
    return replace(
        recipe,
        data=replace(recipe.data, data=options.data),
        model=replace(recipe.model, backbone_weights=options.backbone_weights),
        output=options.output,
        resume=options.resume,
        overwrite=options.overwrite,
        device=options.device,
        amp=options.amp,
        workers=options.workers,
        seed=options.seed,
        steps=options.steps or recipe.steps,
        target_sizes=recipe.target_sizes if options.target_sizes is None else options.target_sizes,
        learning_rate=options.learning_rate or recipe.learning_rate,
        clip_norm=options.clip_norm or recipe.clip_norm,
        checkpoint_every=options.checkpoint_every,
    )


def train(options: Options) -> None:
    """Train, evaluate, and write the output folder. Raises `UserError` as rcnn_edu.train does."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    config = training_config(options)
    with start_processes(config.device) as (processes, device):
        check_output(config)
        ours, training, validation = prepare(config, processes)
        detector = TorchvisionDetector(ours).to(device)
        detector.trained_on = ours.trained_on
        run = Run(
            with_classes(config, len(training.classes)),
            cast(FasterRCNN, detector),
            training,
            validation,
            device,
            processes,
        )
        if config.resume:
            run.restore()
        run.go()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    program = "python -m benchmarks.train_torchvision"
    run_program(lambda: train(tyro.cli(Options, args=arguments, prog=program, description=__doc__)))


if __name__ == "__main__":
    main()
