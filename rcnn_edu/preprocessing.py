"""Image pre-processing: what the network really sees.

Article "Image Pre-Processing" · Faster R-CNN (arXiv 1506.01497) §3.3 · notebook 01

    (3, H, W) pixels  →  resize: shorter side to 600, unless the longer would pass 1000
                      →  subtract a fixed mean per channel, divide by a fixed standard deviation
                      →  (3, h, w) float32, and the scale that took H to h

The mean is a constant of the pretrained backbone, not the mean of this image, and it is the same in training and
inference: the backbone learned its filters on pixels shifted by exactly this much.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnn_edu.config import PreprocessingConfig


def resize_scale(height: int, width: int, target_size: int = 600, max_size: int = 1000) -> float:
    """The factor that takes the shorter side to `target_size`, unless the longer would pass `max_size`.

    Sides are in pixels. Raises `ValueError` for a side below one pixel.
    """
    if min(height, width) < 1:
        raise ValueError(f"an image of {width}x{height} pixels cannot be resized; both sides must be at least 1")
    return min(target_size / min(height, width), max_size / max(height, width))


def preprocess(image: Tensor, config: PreprocessingConfig = PreprocessingConfig()) -> tuple[Tensor, float]:
    """Resize and normalise one RGB image.

    image: `(3, H, W)`, uint8 in 0..255 or floating point in 0..1, on any device.
    Returns the `(3, h, w)` float32 image, h = round(H·scale) and w = round(W·scale), and the scale.
    Raises `ValueError` for another shape or type.
    """
    resized, scale = resize_to_target(image, config)
    return normalize(resized, config), scale


def resize_to_target(image: Tensor, config: PreprocessingConfig = PreprocessingConfig()) -> tuple[Tensor, float]:
    """The first half of `preprocess`: `(3, h, w)` float32 in 0..1, and the scale."""
    check_image(image)
    height, width = image.shape[1:]
    scale = resize_scale(height, width, config.target_size, config.max_size)
    return resize(image, resized_size(height, width, scale)), scale


def resized_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """(h, w) of the resized image in whole pixels, at least one."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of `(3, H, W)` to `(3, h, w)`, float32 in 0..1, pixel centres at half integers."""
    pixels = image.float() / 255 if image.dtype == torch.uint8 else image.float()
    if tuple(image.shape[1:]) == size:
        return pixels
    return F.interpolate(pixels[None], size=size, mode="bilinear", align_corners=False)[0]


def normalize(pixels: Tensor, config: PreprocessingConfig = PreprocessingConfig()) -> Tensor:
    """Subtract the mean and divide by the standard deviation; `pixels` are RGB in 0..1, `(3, h, w)`, or a batch."""
    if config.preset == "caffe":
        pixels = pixels.flip(-3) * 255  # the article's backbones saw blue first, in 0..255
    statistics = torch.tensor([config.pixel_mean, config.pixel_std], dtype=pixels.dtype)
    mean, std = statistics.to(pixels.device, non_blocking=True)[:, :, None, None]
    return (pixels - mean) / std


def check_image(image: Tensor) -> None:
    """Raise `ValueError` unless `image` is `(3, H, W)`, uint8 or floating point."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"an image must have shape (3, H, W), RGB; this one has {tuple(image.shape)}")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise ValueError(f"an image must be uint8 in 0..255 or floating point in 0..1; this one is {image.dtype}")
