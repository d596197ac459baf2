"""The one photo that runs through all ten lessons, resized as the network sees it, with its objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rcnn_edu.backbone import feature_size
from rcnn_edu.checkpoint import load
from rcnn_edu.config import PreprocessingConfig
from rcnn_edu.data.samples import SAMPLES, sample
from rcnn_edu.errors import UserError
from rcnn_edu.media import Unreadable, read_photo
from rcnn_edu.preprocessing import resize, resize_scale, resized_size

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class RunningPhoto:
    """A photo and its objects, at both sizes. G = objects."""

    name: str
    original: Tensor
    """uint8 `(3, H, W)`, RGB, as it came."""
    original_boxes: Tensor
    """float32 `(G, 4)`, in pixels of `original`."""
    image: Tensor
    """float32 `(3, h, w)` in 0..1, RGB, resized: what is drawn."""
    boxes: Tensor
    """float32 `(G, 4)`, in pixels of `image`."""
    labels: tuple[str, ...]
    """`G` names."""
    scale: float
    """h / H."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(h, w) of the resized photo, in pixels."""
        return self.image.shape[1], self.image.shape[2]

    @property
    def feature_size(self) -> tuple[int, int]:
        """(rows, columns) of its feature map: a cell for every 16 pixels."""
        return feature_size(self.image_size)


def running_photo(
    photo: str | Path = "motorcycle",
    boxes: Sequence[Corners] | None = None,
    labels: Sequence[str] | None = None,
    config: PreprocessingConfig = PreprocessingConfig(),
) -> RunningPhoto:
    """One of `rcnn_edu.data.SAMPLES` by name, or a photo of your own by path.

    boxes: the objects of your own photo, x1, y1, x2, y2 in its pixels, and labels: their names. Without them the
    objects are what the shipped detector finds in the photo. config: how the photo is resized.
    Raises `UserError` for a file that cannot be read, and for a photo in which nothing is found.
    """
    if str(photo) in SAMPLES:
        shipped = sample(str(photo))
        name, original = shipped.name, shipped.image
    else:
        name = Path(photo).name
        try:
            original = torch.from_numpy(read_photo(Path(photo))).permute(2, 0, 1).contiguous()
        except Unreadable as error:
            raise UserError(f"{error}; give a photo's path, or one of: {', '.join(SAMPLES)}") from None
    if boxes is not None:
        original_boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        names = tuple(labels or ["object"] * len(original_boxes))
    elif str(photo) in SAMPLES:
        original_boxes, names = shipped.boxes, shipped.labels
    else:
        original_boxes, names = _found(original, name)
    if len(names) != len(original_boxes):
        raise UserError(f"{photo}: {len(original_boxes)} boxes, but {len(names)} labels")
    height, width = original.shape[1:]
    scale = resize_scale(height, width, config.target_size, config.max_size)
    image = resize(original, resized_size(height, width, scale))
    return RunningPhoto(name, original, original_boxes, image, original_boxes * scale, names, scale)


def _found(image: Tensor, name: str) -> tuple[Tensor, tuple[str, ...]]:
    """What the shipped detector is sure of: boxes `(G, 4)` in the image's pixels, and their classes."""
    model = load("voc-demo")
    with torch.no_grad():
        found = model([image])[0]
    sure = found["scores"] >= 0.5
    if not sure.any():
        raise UserError(f"{name}: the detector finds nothing in it; say what is there: boxes=[(x1, y1, x2, y2)]")
    return found["boxes"][sure], tuple(model.classes[int(label) - 1] for label in found["labels"][sure])
