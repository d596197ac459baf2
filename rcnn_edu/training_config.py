"""Every number of training, as two dataclasses: the data, and the run. Recipes (recipes.py) fill them.

`python -m rcnn_edu.train --help` is made from this file and from config.py; every field is an option.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rcnn_edu.config import Config
from rcnn_edu.errors import UserError


@dataclass(frozen=True)
class DataConfig:
    """What to train on and what to evaluate on."""

    data: str = "voc2007"
    """shapes (drawn on the spot), voc2007, voc0712, or the path of a dataset in VOC layout."""
    shapes_train: int = 2000
    """Scenes of shapes to draw for training."""
    shapes_val: int = 400
    """Scenes of shapes to draw for evaluation; none is among those for training."""
    data_folder: Path = Path("datasets")
    """Where shapes, voc2007 and voc0712 are kept."""
    download: bool = False
    """Fetch voc2007 or voc0712 if it is not in the data folder."""
    train_split: str = "train"
    """List under ImageSets/Main to train on, of a dataset given by path."""
    val_split: str = "val"
    """List under ImageSets/Main to evaluate on, of a dataset given by path."""
    classes: tuple[str, ...] | None = None
    """Class names without background (none: the 20 of VOC, or the five shapes)."""
    discover_classes: bool = False
    """Take the class names from the dataset's own annotations."""
    skip_bad: bool = False
    """Leave out, and count, what cannot be used, instead of stopping at it."""


@dataclass(frozen=True)
class TrainConfig:
    """Train Faster R-CNN."""

    data: Annotated[DataConfig, tyro.conf.arg(name="")] = field(default_factory=DataConfig)
    model: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)

    output: Path = Path("runs/latest")
    """Folder for checkpoints, metrics, curves and example detections."""
    resume: bool = False
    """Go on from the checkpoint in the output folder, exactly as if nothing had happened."""
    overwrite: bool = False
    """Start anew even though the output folder holds a run."""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto: a GPU if there is one."""
    amp: Literal["off", "bf16", "auto"] = "off"
    """Compute in bfloat16 where that is safe; auto: if the processor is faster at it."""
    workers: int = 2
    """Processes that decode images, for each process that trains."""
    seed: int = 0
    """Of the initial weights, the order of the images, the flips and the sampling."""

    steps: int = 70_000
    """Batches to train on."""
    batch_size: int = 1
    """Images a step, whatever the number of processes and passes that they are divided among."""
    accumulate: int = 1
    """Passes that each process divides its images of a step into: less memory, and the same step."""
    target_sizes: tuple[int, ...] = ()
    """Shorter sides in pixels, one of which is drawn for each step (none: always the target size)."""
    flip: bool = True
    """TRAIN.USE_FLIPPED: mirror every other image."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Stochastic gradient descent with momentum, or AdamW."""
    learning_rate: float = 1e-3
    """LEARNING_RATE, after the warm-up."""
    momentum: float = 0.9
    """MOMENTUM of sgd."""
    weight_decay: float = 1e-4
    """WEIGHT_DECAY, on weights; biases and normalisation have none."""
    schedule: Literal["step", "cosine"] = "step"
    """step: times 0.1 at every milestone; cosine: down to 0 at the last step."""
    milestones: tuple[int, ...] = (50_000,)
    """STEPSIZE: steps after which the learning rate falls to a tenth."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from a hundredth."""
    clip_norm: float | None = None
    """Scale gradients down to this norm (none: leave them)."""
    ema: float | None = None
    """Decay of a running average of the weights, which is evaluated and saved instead of the last (none: off)."""

    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    evaluate_every: int = 0
    """Steps between evaluations on the validation split (0: once, at the end)."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "learning_rate", "log_every", "checkpoint_every"):
            if not 0 < getattr(self, name) < inf:
                raise UserError(f"{name} is {getattr(self, name)}; it must be positive")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed is {self.seed}; it must be in 0..2^63 - 1")
        for name in ("workers", "evaluate_every", "warmup_steps", "weight_decay", "momentum"):
            if not 0 <= getattr(self, name) < inf:
                raise UserError(f"{name} is {getattr(self, name)}; it must be zero or more")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise UserError(f"clip_norm is {self.clip_norm}; it must be positive")
        if self.ema is not None and not 0 < self.ema < 1:
            raise UserError(f"ema is {self.ema}; it must be between 0 and 1, like 0.999")
        for size in self.target_sizes:
            if not 0 < size <= self.model.preprocessing.max_size:
                most = self.model.preprocessing.max_size
                raise UserError(f"target_sizes has {size}; it must be in 1..{most} (--preprocessing.max-size)")
