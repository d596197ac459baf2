"""Exercises of lesson 01: the factor of the resize, the new size, and the numbers that pixels become."""

from __future__ import annotations

import torch
from torch import Tensor

from rcnn_edu.config import PreprocessingConfig
from rcnn_edu.exercises.base import Exercise, Mistake
from rcnn_edu.preprocessing import normalize, resize_scale, resized_size


def _no_maximum(height: int, width: int, target_size: int, max_size: int) -> float:
    return target_size / min(height, width)


def _larger_factor(height: int, width: int, target_size: int, max_size: int) -> float:
    return max(target_size / min(height, width), max_size / max(height, width))


def _height_is_shorter(height: int, width: int, target_size: int, max_size: int) -> float:
    return min(target_size / height, max_size / width)


def _longer_to_target(height: int, width: int, target_size: int, max_size: int) -> float:
    return target_size / max(height, width)


def _never_up(height: int, width: int, target_size: int, max_size: int) -> float:
    return min(1.0, resize_scale(height, width, target_size, max_size))


scale = Exercise(
    "resize_scale",
    resize_scale,
    [
        (500, 741, 600, 1000),
        (741, 500, 600, 1000),
        (300, 900, 600, 1000),
        (900, 300, 500, 800),
        (1200, 1600, 450, 1000),
    ],
    [
        Mistake(_no_maximum, "the longer side passes max_size in a long photo; then max_size decides"),
        Mistake(_larger_factor, "of the two factors take the smaller one: neither limit may be passed"),
        Mistake(_height_is_shorter, "the shorter side may be the width; use min(height, width), max(height, width)"),
        Mistake(_longer_to_target, "target_size is for the shorter side, max_size for the longer"),
        Mistake(_never_up, "small photos are enlarged, so that their objects are as large as in others: no limit at 1"),
    ],
)


def _cut_off(height: int, width: int, scale: float) -> tuple[int, int]:
    return max(1, int(height * scale)), max(1, int(width * scale))


def _width_first(height: int, width: int, scale: float) -> tuple[int, int]:
    return max(1, round(width * scale)), max(1, round(height * scale))


def _not_whole(height: int, width: int, scale: float) -> tuple[float, float]:
    return height * scale, width * scale


def _may_vanish(height: int, width: int, scale: float) -> tuple[int, int]:
    return round(height * scale), round(width * scale)


size = Exercise(
    "resized_size",
    resized_size,
    [(500, 741, 1.2), (427, 640, 1.4), (640, 427, 1.4), (2, 4000, 0.2), (4000, 2, 0.2)],
    [
        Mistake(_cut_off, "round to the nearest whole pixel; int() always rounds down"),
        Mistake(_width_first, "(height, width), in the order of a tensor's axes, not (width, height)"),
        Mistake(_not_whole, "an image has whole pixels: round both sides"),
        Mistake(_may_vanish, "a side of a very long photo can round to 0; an image has at least one pixel"),
    ],
)


def _own_mean(pixels: Tensor, config: PreprocessingConfig) -> Tensor:
    ready = normalize(pixels, config)
    return ready - ready.mean(dim=(1, 2), keepdim=True)


def _red_first(pixels: Tensor, config: PreprocessingConfig) -> Tensor:
    if config.preset == "torchvision":
        return normalize(pixels, config)
    return pixels * 255 - torch.tensor(config.pixel_mean)[:, None, None]


def _same_range(pixels: Tensor, config: PreprocessingConfig) -> Tensor:
    if config.preset == "torchvision":
        return normalize(pixels, config)
    return pixels.flip(0) - torch.tensor(config.pixel_mean)[:, None, None]


def _no_std(pixels: Tensor, config: PreprocessingConfig) -> Tensor:
    return normalize(pixels, config) * torch.tensor(config.pixel_std)[:, None, None]


def _divided_first(pixels: Tensor, config: PreprocessingConfig) -> Tensor:
    if config.preset == "caffe":
        pixels = pixels.flip(0) * 255
    mean, std = torch.tensor([config.pixel_mean, config.pixel_std])[:, :, None, None]
    return pixels / std - mean


_pixels = torch.tensor([[[0.0, 0.5]], [[0.2, 1.0]], [[0.4, 0.1]]])

normal = Exercise(
    "normalize",
    normalize,
    [(_pixels, PreprocessingConfig()), (_pixels, PreprocessingConfig(preset="caffe"))],
    [
        Mistake(_own_mean, "the mean is config.pixel_mean, the same for every photo, not the mean of this one"),
        Mistake(_red_first, "caffe's numbers are blue, green, red: flip the channels before its mean is subtracted"),
        Mistake(_same_range, "caffe's mean is meant for pixels in 0..255; these are in 0..1, so multiply by 255 first"),
        Mistake(_no_std, "divide by config.pixel_std after the mean is subtracted"),
        Mistake(_divided_first, "subtract the mean first, then divide: (pixels - mean) / std"),
    ],
)

EXERCISES = (scale, size, normal)
