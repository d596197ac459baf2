"""Pixels of the photos and videos that a user hands in: decoded one at a time, and turned the way they were taken."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from rcnn_edu.data.images import as_rgb
from rcnn_edu.errors import UserError

Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")

# All that Pillow lets out when a file is damaged.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error)


class Unreadable(UserError):
    """One input that cannot be decoded, while others may be."""


def find_files(inputs: Iterable[Path]) -> list[Path]:
    """The files among `inputs`, and for each folder the images directly in it, by name; nothing twice.

    Raises `UserError` for an input that does not exist, a folder without images, and no inputs at all.
    """
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            images = [each for each in sorted(path.iterdir()) if each.suffix.lower() in IMAGE_SUFFIXES]
            images = [each for each in images if each.is_file() and not each.name.startswith(".")]
            if not images:
                raise UserError(f"{path}: no image in this folder (its subfolders are not searched); give another")
            files += images
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file or folder; check the spelling")
    if not files:
        raise UserError("nothing to do; give at least one image, folder of images or video")
    return list(dict.fromkeys(files))


def is_video(path: Path) -> bool:
    """Whether the file is taken for a video, by the end of its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def decode(path: Path, every: int = 1) -> Iterator[tuple[str, Pixels]]:
    """Names and pixels `(H, W, 3)`, uint8 RGB: of an image, or of every `every`-th frame of a video, one at a time.

    The name is the path; that of a frame has its number, counted from 0: "clip.mp4#30".
    Raises `Unreadable` for a file that is damaged or of another type, and for a video without the package `av`.
    """
    if is_video(path):
        yield from ((f"{path}#{number}", frame) for number, frame in _read_video(path, every))
    else:
        yield str(path), read_photo(path)


def read_photo(path: Path) -> Pixels:
    """Pixels `(H, W, 3)`, uint8 RGB, of a photo, upright. Raises `Unreadable`."""
    try:
        with Image.open(path) as file:
            # Cameras note beside the pixels how they were held.
            return np.array(as_rgb(ImageOps.exif_transpose(file)))
    except Image.DecompressionBombError as error:
        raise Unreadable(f"{path}: cannot be read (too many pixels); make it smaller or leave it out") from error
    except _DAMAGED as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged, or not an image"
        raise Unreadable(f"{path}: cannot be read ({reason}); replace it or leave it out") from error


def _read_video(path: Path, every: int) -> Iterator[tuple[int, Pixels]]:
    try:
        import av
    except ImportError as error:
        raise Unreadable(f'{path}: videos need the package av; pip install "rcnn_edu[video]"') from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise Unreadable(f"{path}: holds no video; leave it out")
            container.streams.video[0].thread_type = "AUTO"
            for number, frame in enumerate(container.decode(video=0)):
                if number % every == 0:
                    turns = round(getattr(frame, "rotation", 0) / 90)  # counterclockwise, as phones record it
                    yield number, np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
    except av.error.FFmpegError as error:
        raise Unreadable(f"{path}: cannot be read ({error.strerror}); replace it or leave it out") from error
