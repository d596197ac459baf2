"""The photos of the lessons: they come with scikit-image and matplotlib, the boxes are ours. Nothing is downloaded.

Boxes go round what is visible of each object, as VOC's do, to the pixel. The garage has one object that fills the
photo (the motorbike), a hidden one of middle size (the bench), and small ones: the bottles on the shelf, and the
outlet and the switch on the wall are far below the smallest anchor of 128 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rcnn_edu.errors import UserError

_Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Sample:
    """One photo and its objects."""

    name: str
    image: Tensor
    """uint8 `(3, H, W)`, RGB."""
    boxes: Tensor
    """float32 `(G, 4)`: x1, y1, x2, y2 in pixels, half-open."""
    labels: tuple[str, ...]
    """`G` class names: VOC's where VOC has the class (motorbike, bicycle, bottle, cat, person)."""
    credit: str
    """Who took the photo, and which package ships it."""


@dataclass(frozen=True)
class _Photo:
    package: str
    distribution: str
    path: str
    size: tuple[int, int]  # width, height: the boxes hold for this very file
    objects: tuple[tuple[str, _Box], ...]
    credit: str


_PHOTOS = {
    "motorcycle": _Photo(
        "skimage",
        "scikit-image",
        "data/motorcycle_left.png",
        (741, 500),
        (
            ("motorbike", (91, 15, 684, 452)),
            ("bench", (41, 105, 293, 308)),
            ("bicycle", (0, 107, 138, 230)),
            ("bottle", (401, 51, 418, 92)),
            ("bottle", (476, 47, 495, 72)),
            ("outlet", (44, 28, 54, 47)),
            ("switch", (141, 21, 158, 40)),
        ),
        "Middlebury 2014 stereo benchmark, by N. Nesic, P. Westling, X. Wang, Y. Kitajima, G. Krathwohl and "
        "D. Scharstein, in scikit-image",
    ),
    "astronaut": _Photo(
        "skimage",
        "scikit-image",
        "data/astronaut.png",
        (512, 512),
        (
            ("person", (19, 15, 365, 512)),
            ("helmet", (277, 344, 512, 512)),
            ("space shuttle", (355, 0, 473, 291)),
            ("flag", (0, 0, 97, 512)),
        ),
        "Eileen Collins, NASA, public domain, in scikit-image",
    ),
    "cat": _Photo(
        "skimage",
        "scikit-image",
        "data/chelsea.png",
        (451, 300),
        (("cat", (0, 0, 401, 300)),),
        "Chelsea, photo by Stefan van der Walt, CC0, in scikit-image",
    ),
    "hopper": _Photo(
        "matplotlib",
        "matplotlib",
        "mpl-data/sample_data/grace_hopper.jpg",
        (512, 600),
        (("person", (12, 23, 512, 600)), ("flag", (0, 0, 238, 600))),
        "Grace Hopper, James S. Davis for the US Navy, public domain, in matplotlib",
    ),
}

SAMPLES = tuple(_PHOTOS)
"""Names of the photos."""


def sample(name: str) -> Sample:
    """The photo called `name`, one of `SAMPLES`, with its boxes.

    Raises `UserError` for an unknown name, and if the package that ships the photo is missing or has another photo
    under that file name.
    """
    photo = _PHOTOS.get(name)
    if photo is None:
        raise UserError(f"no sample photo called '{name}'; there are: {', '.join(SAMPLES)}")
    try:
        with as_file(files(photo.package).joinpath(photo.path)) as path, Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
    except (ModuleNotFoundError, FileNotFoundError):
        raise UserError(
            f"the photo '{name}' comes with {photo.distribution}, which is not here or not complete; "
            "pip install scikit-image matplotlib, or: pip install 'rcnn_edu[notebooks]'"
        ) from None
    if pixels.shape[1::-1] != photo.size:
        raise UserError(
            f"this {photo.distribution} has another photo as {photo.path} ({pixels.shape[1]}x{pixels.shape[0]} pixels, "
            f"not {photo.size[0]}x{photo.size[1]}), which the boxes do not fit; pip install -U {photo.distribution}"
        )
    return Sample(
        name,
        torch.from_numpy(pixels).permute(2, 0, 1).contiguous(),
        torch.tensor([box for _, box in photo.objects], dtype=torch.float32),
        tuple(label for label, _ in photo.objects),
        photo.credit,
    )
