"""How weights move: the optimizer, the learning rate over time, and the watch over the losses.

Article "Training" · Fast R-CNN (arXiv 1504.08083) §2.3
"""

from __future__ import annotations

import math
from typing import NamedTuple

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

    On a GPU the losses are copied to the CPU behind the step that made them, and looked at when the next step is
    queued: so there is always work in the queue, and `finish` looks at what is left, before a checkpoint is written.
    """

    def __init__(self) -> None:
        self._pending: _Pending | None = None

    def follow(self, losses: dict[str, Tensor], image_ids: list[str], step: int) -> None:
        """Check the step before, and take these losses (0-d, detached) for later. Raises `NonFiniteLoss`."""
        self.finish()
        values = torch.stack(list(losses.values()))
        on_gpu = values.device.type == "cuda"
        self._pending = _Pending(list(losses), values.to("cpu", non_blocking=True), None, image_ids, step)
        if on_gpu:
            copied = torch.cuda.Event()
            copied.record(torch.cuda.current_stream(values.device))
            self._pending = self._pending._replace(copied=copied)
        else:
            self.finish()

    def finish(self) -> None:
        """Check what is pending. Raises `NonFiniteLoss`."""
        if self._pending is None:
            return
        names, values, copied, image_ids, step = self._pending
        self._pending = None
        if copied is not None:
            copied.synchronize()
        bad = [name for name, value in zip(names, values.tolist(), strict=True) if not math.isfinite(value)]
        if bad:
            raise NonFiniteLoss(
                f"step {step}: the loss {', '.join(bad)} is not finite, on images {', '.join(image_ids)}; start "
                f"again with a lower --learning-rate, more --warmup-steps or a --clip-norm"
            )


class _Pending(NamedTuple):
    names: list[str]
    values: Tensor
    copied: torch.cuda.Event | None
    """Passed when `values` have arrived."""
    image_ids: list[str]
    step: int
