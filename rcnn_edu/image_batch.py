"""Images of any sizes, made ready for the network: resized, normalised, and padded to one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rcnn_edu.config import PreprocessingConfig
from rcnn_edu.preprocessing import normalize, resize_to_target

Size = tuple[int, int]

MULTIPLE = 32
"""Pixels of which the sides of a batch with padding are a multiple, so that there are few sizes: for a new one, cuDNN
and oneDNN first choose and build their convolutions."""


class ImageBatch(NamedTuple):
    """Images of any sizes, resized, normalised, and padded with zeros at right and bottom to one size."""

    pixels: Tensor
    """`(B, 3, h, w)` float32."""
    sizes: list[Size]
    """(height, width) of each resized image, without padding."""
    original_sizes: list[Size]
    """(height, width) of each image as it came."""

    def to_resized(self, boxes: Tensor, image: int) -> Tensor:
        """`(N, 4)` boxes in an image's own pixels → in pixels of its resized form."""
        return boxes.float() * self.factors()[image]

    def to_original(self, boxes: Tensor, image: int) -> Tensor:
        """`(N, 4)` boxes in pixels of the resized image → in the image's own pixels."""
        return boxes / self.factors()[image]

    def factors(self) -> Tensor:
        """`(B, 4)` on the device of the pixels: a box in an image's own pixels, times these, is one in the resized."""
        factors = []
        for (height, width), (original_height, original_width) in zip(self.sizes, self.original_sizes, strict=True):
            x, y = width / original_width, height / original_height
            factors.append([x, y, x, y])
        return torch.tensor(factors, dtype=torch.float32).to(self.pixels.device, non_blocking=True)


def prepare_images(images: Sequence[Tensor], config: PreprocessingConfig) -> ImageBatch:
    """Resize and normalise each image `(3, H, W)`, and pad all to one size.

    Raises `ValueError` for an empty batch, and for an unusable image, naming its place.
    """
    if len(images) == 0:
        raise ValueError("no images: the batch is empty")
    ready = []
    for position, image in enumerate(images):
        try:
            ready.append(resize_to_target(image, config)[0])
        except ValueError as error:
            raise ValueError(f"image {position}: {error}") from error
    sizes = [(one.shape[1], one.shape[2]) for one in ready]
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    if len(set(sizes)) > 1:  # there is padding, so a little more does no harm
        height, width = -(-height // MULTIPLE) * MULTIPLE, -(-width // MULTIPLE) * MULTIPLE
    padded = torch.stack([F.pad(one, (0, width - one.shape[2], 0, height - one.shape[1])) for one in ready])
    pixels = normalize(padded.contiguous(memory_format=torch.channels_last), config)
    if len(set(sizes)) > 1:
        pixels = torch.where(own_part(sizes, (height, width), pixels.device), pixels, 0.0)
    return ImageBatch(pixels, sizes, [(image.shape[1], image.shape[2]) for image in images])


def own_part(sizes: Sequence[Size], size: Size, device: torch.device) -> Tensor:
    """`(B, 1, h, w)` mask of what of a map of `size`, (h, w), is an image's own, not padding."""
    own = torch.tensor(sizes).to(device, non_blocking=True)[:, :, None]
    on_row = torch.arange(size[0], device=device) < own[:, 0]
    on_column = torch.arange(size[1], device=device) < own[:, 1]
    return (on_row[:, :, None] & on_column[:, None, :])[:, None]
