"""`python -m rcnn_edu.train`: train Faster R-CNN end to end.

Article "Training". RPN and classifier learn together, from the sum of the four losses ("approximate joint training",
arXiv 1506.01497 §3.2). Everything that a run leaves is in its output folder: checkpoint.pt to go on from, model.pt to
use, metrics.jsonl and TensorBoard files, losses.png, detections.png and detections.json, ap.txt and ap.json. With
several GPUs: `torchrun --nproc-per-node 8 -m rcnn_edu.train …` (docs/scaling.md).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from rcnn_edu.checkpoint import describe_data
from rcnn_edu.cli import run_program
from rcnn_edu.command_line import parse_training
from rcnn_edu.continuation import check_output, clear_output
from rcnn_edu.data.choose import DetectionDataset, choose_datasets
from rcnn_edu.distributed import Processes, start_processes
from rcnn_edu.errors import UserError
from rcnn_edu.model import FasterRCNN
from rcnn_edu.recipes import with_classes
from rcnn_edu.run import Run
from rcnn_edu.training_config import TrainConfig


def train(config: TrainConfig) -> FasterRCNN:
    """Train, evaluate, and write the output folder; returns the model.

    Raises `UserError` for data, weights or a checkpoint that cannot be used, and `NonFiniteLoss`, a kind of it.
    """
    with start_processes(config.device) as (processes, device):
        with processes.together():
            check_output(config)
        with processes.together():
            model, training, validation = prepare(config, processes)
        config = with_classes(config, len(training.classes))
        if not config.resume and processes.first:
            clear_output(config.output)
        run = Run(config, model.to(device), training, validation, device, processes)
        if config.resume:
            with processes.together():
                run.restore()
        run.go()
        return model


def prepare(config: TrainConfig, processes: Processes) -> tuple[FasterRCNN, DetectionDataset, DetectionDataset]:
    """The model with its first weights, and the datasets to train and to evaluate on. Raises `UserError`."""
    with processes.one_first():  # it draws or fetches the data, and fetches the backbone's weights, for all
        training, validation = choose_datasets(config.data)
        torch.manual_seed(config.seed)
        try:
            model = FasterRCNN(with_classes(config, len(training.classes)).model, training.classes)
        except UserError:
            raise
        except ValueError as error:  # numbers that do not fit together
            raise UserError(str(error)) from error
    if processes.first:
        for line in remarks(config, training, validation):
            print(line, file=sys.stderr)
    model.trained_on = describe_data(config.data.data, training.image_ids)
    return model, training, validation


def remarks(config: TrainConfig, training: DetectionDataset, validation: DetectionDataset) -> list[str]:
    """What whoever starts a run should know, a line each: what was left out of the data, and what it leads to."""
    lines = []
    for name, dataset in (("train", training), ("val", validation)):
        lines += [f"left out: {problem}" for problem in dataset.problems]
        if count := len(dataset.problems):
            are = "problem is" if count == 1 else "problems are"
            lines.append(f"{name}: {count:,} {are} left out, {len(dataset):,} images stay")
    if both := len(set(training.image_ids) & set(validation.image_ids)):
        lines.append(f"WARNING: {both} of the {len(validation):,} images to evaluate on are trained on too")
    model = config.model
    untrained = model.backbone != "tiny" and not model.pretrained and model.backbone_weights is None
    if untrained and model.frozen_stages is None and not config.resume:
        lines.append(
            "WARNING: the backbone has random weights, and its first stages do not learn; add --frozen-stages 0"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    run_program(lambda: train(parse_training(arguments)))


if __name__ == "__main__":
    main()
