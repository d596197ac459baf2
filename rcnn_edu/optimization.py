"""How weights move: the optimizer, the learning rate over time, and the watch over the losses.

Article "Training" · Fast R-CNN (arXiv 1504.08083) §2.3
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rcnn_edu.errors import UserError
from rcnn_edu.training_config import TrainConfig


class NonFiniteLoss(UserError):
    """The loss is not a number: training cannot go on."""


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW over everything that learns; biases and normalisation are not decayed."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, config.learning_rate)
    return torch.optim.SGD(groups, config.learning_rate, config.momentum)


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of step number `step`, counted from 0: a pure function, so a resumed run needs no memory."""
    rate = config.learning_rate
    if config.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / config.steps))
    else:
        rate *= 0.1 ** sum(step >= milestone for milestone in config.milestones)
    if step < config.warmup_steps:
        rate *= 0.01 + 0.99 * step / config.warmup_steps
    return rate


class LossCheck:
    """Stops a run at a loss that is not finite, naming the term and the images.

    Reading a loss makes a GPU finish its queue, so there each step's losses are read only after the next step is
    queued; `finish` reads what is left, before a checkpoint is written.
    """

    def __init__(self) -> None:
        self._pending: tuple[dict[str, Tensor], list[str], int] | None = None

    def follow(self, losses: dict[str, Tensor], image_ids: list[str], step: int) -> None:
        """Check the step before, and take these losses (0-d, detached) for later. Raises `NonFiniteLoss`."""
        self.finish()
        self._pending = (losses, image_ids, step)
        if all(loss.device.type == "cpu" for loss in losses.values()):
            self.finish()

    def finish(self) -> None:
        """Check what is pending. Raises `NonFiniteLoss`."""
        if self._pending is None:
            return
        losses, image_ids, step = self._pending
        self._pending = None
        values = torch.stack(list(losses.values())).tolist()
        bad = [name for name, value in zip(losses, values, strict=True) if not math.isfinite(value)]
        if bad:
            raise NonFiniteLoss(
                f"step {step}: the loss {', '.join(bad)} is not finite, on images {', '.join(image_ids)}; lower "
                f"--learning-rate, lengthen --warmup-steps or set --clip-norm, and go on from the last checkpoint"
            )
