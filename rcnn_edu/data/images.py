"""Image files of a dataset: find out their size cheaply, notice truncated ones early, and decode them.

Pixels are taken as stored. The EXIF rotation that cameras write is not applied, because VOC boxes are measured on
the stored pixels.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
_LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB\x60\x82"}  # JPEG's end-of-image marker, PNG's last chunk
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


class BadImage(Exception):
    """An image that cannot be read; the message says why, in one line."""


def image_size(path: Path) -> tuple[int, int]:
    """`(width, height)` in pixels from the file's header.

    Also looks for the marker that ends a JPEG or PNG file. Where it is not at the very end (a truncated file, or a
    camera that appends data of its own), the image is decoded to be sure. Raises `BadImage` if it cannot be read.
    """
    try:
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            size = image.size
            if not _ends_properly(file, image.format or ""):
                image.load()
    except _UNREADABLE as error:
        raise BadImage(_reason(error)) from error
    return size


def read_image(path: Path) -> Tensor:
    """The decoded image, uint8 `(3, H, W)`, RGB; grey (of 8 or 16 bits), palette and CMYK are converted.

    Raises `BadImage` if it cannot be read.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            pixels = np.asarray(as_rgb(image))
    except _UNREADABLE as error:
        raise BadImage(_reason(error)) from error
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))


def as_rgb(image: Image.Image) -> Image.Image:
    """The image in RGB, 8 bits a channel. Raises what Pillow raises for a damaged one."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to white
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image.convert("RGB")


def _ends_properly(file: BinaryIO, image_format: str) -> bool:
    """Whether the file ends with its format's last bytes. Leaves the reading position where it was."""
    last = _LAST_BYTES.get("JPEG" if image_format == "MPO" else image_format)
    if last is None:
        return False
    position = file.tell()
    file.seek(-len(last), os.SEEK_END)
    ends = file.read() == last
    file.seek(position)
    return ends


def _reason(error: Exception) -> str:
    """Why Pillow gave up, without the path and the object addresses that its messages hold."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not a JPEG, PNG, BMP or WebP image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
