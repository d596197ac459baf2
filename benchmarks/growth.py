"""How the time of a whole step grows: with the size of the image, the RoIs, the batch, and the objects.

A ResNet-18, so that it does not take all day; one number changes at a time, from 300×400 pixels, one image, 128 RoIs
and 6 objects.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.compare_torchvision import Options, Runner, build_both, time_steps
from benchmarks.report import INFERENCE, TRAINING, Side
from benchmarks.steps import OURS
from benchmarks.timing import Timing, counted
from benchmarks.workload import OBJECTS, make_batch
from rcnn_edu.config import Config, PreprocessingConfig, ProposalTargetConfig


@dataclass(frozen=True)
class Setting:
    """One point of a curve."""

    height: int = 300
    """Pixels; the width is 4/3 of it."""
    rois: int = 128
    """That the classifier learns from, per image; inference always sees the best 300 proposals."""
    images: int = 1
    objects: int = OBJECTS
    """In each image."""

    @property
    def width(self) -> int:
        """In pixels."""
        return self.height * 4 // 3


@dataclass(frozen=True)
class Curve:
    """Time of a step, ours and torchvision's, over one number."""

    axis: str
    values: list[float]
    timings: dict[str, list[Timing]]
    """By mode; one entry a value."""

    def rows(self) -> list[Timing]:
        """All points, with the mode in the name of the case."""
        return [replace(one, case=f"{one.case}: {mode}") for mode, points in self.timings.items() for one in points]


@dataclass(frozen=True)
class _Axis:
    name: str
    settings: Sequence[Setting]
    value: Callable[[Setting], float]
    case: Callable[[Setting], str]
    modes: Sequence[str] = (TRAINING, INFERENCE)


AXES = (
    _Axis(
        "image size, megapixels",
        [Setting(height=h) for h in (150, 300, 450, 600)],
        lambda s: s.height * s.width / 1e6,
        lambda s: f"{s.width}×{s.height} pixels",
    ),
    _Axis(
        "images in the batch",
        [Setting(images=n) for n in (1, 2, 4, 8)],
        lambda s: s.images,
        lambda s: counted(s.images, "image"),
    ),
    _Axis(
        "RoIs learned from",
        [Setting(rois=n) for n in (32, 128, 256, 512)],
        lambda s: s.rois,
        lambda s: f"{s.rois} RoIs",
        (TRAINING,),
    ),
    _Axis(
        "objects in the image",
        [Setting(objects=n) for n in (1, 10, 30, 100)],
        lambda s: s.objects,
        lambda s: counted(s.objects, "object"),
        (TRAINING,),
    ),
)


def growth(device: torch.device, rounds: int) -> list[Curve]:
    """All curves."""
    return [curve(axis, device, rounds) for axis in AXES]


def curve(axis: _Axis, device: torch.device, rounds: int) -> Curve:
    """Every setting of one axis."""
    timings: dict[str, list[Timing]] = {mode: [] for mode in axis.modes}
    for setting in axis.settings:
        for mode, seconds in step_seconds(setting, axis.modes, device, rounds).items():
            named = {OURS: seconds["ours"], "torchvision": seconds["torchvision"]}
            timings[mode].append(Timing(axis.case(setting), named))
    return Curve(axis.name, [axis.value(setting) for setting in axis.settings], timings)


def step_seconds(
    setting: Setting, modes: Sequence[str], device: torch.device, rounds: int
) -> dict[str, dict[Side, list[float]]]:
    """Seconds of a whole step, all images of the batch together, by mode."""
    config = Config(
        backbone="resnet18",
        pretrained=False,
        preprocessing=PreprocessingConfig(setting.height, 2 * setting.height),
        proposal_target=ProposalTargetConfig(batch_size=setting.rois),
    )
    options = Options(height=setting.height, width=setting.width, backbone="resnet18")
    with tempfile.TemporaryDirectory() as folder:
        models = build_both(options, config, Path(folder))
    runners = {side: Runner(model, device, bfloat16=False) for side, model in models.items()}
    batch = make_batch(
        setting.images, setting.height, setting.width, config.num_classes, options.seed, setting.objects
    ).to(device)
    steps: dict[str, dict[Side, list[float]]] = {}
    for mode in modes:
        an_image = time_steps(runners, mode, [batch], rounds, warmup=1)
        steps[mode] = {side: [one * setting.images for one in seconds] for side, seconds in an_image.items()}
    return steps
