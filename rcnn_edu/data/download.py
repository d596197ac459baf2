"""PASCAL VOC from its home, through torchvision, which checks the archives' md5."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError
from urllib.error import HTTPError

from torchvision.datasets import VOCDetection
from torchvision.datasets.voc import DATASET_YEAR_DICT

from rcnn_edu.errors import UserError

_Places = list[tuple[Path, str]]

_PARTS = {
    "voc2007": (("2007", "trainval"), ("2007", "test")),
    "voc0712": (("2007", "trainval"), ("2012", "trainval"), ("2007", "test")),
}
_STALLED = 60.0  # seconds without a byte after which a download is given up


def download_voc(name: str, folder: str | Path) -> tuple[_Places, _Places]:
    """Fetch and unpack VOC into `folder`, unless it is there, and tell where it is.

    `name` is "voc2007" or "voc0712" (2007 and 2012). Returns the `(root, split)` pairs to train on, and those to test
    on: 2007 test for both names. Archives that lie in `folder` already are used, and one that was unpacked completely
    is not unpacked again. Raises `UserError` if an archive cannot be had, is not the original, or cannot be unpacked.
    """
    if name not in _PARTS:
        raise UserError(f"no download called '{name}'; there are: {', '.join(_PARTS)}")
    folder = Path(folder).expanduser()
    places = [(_fetch(folder, year, split), split) for year, split in _PARTS[name]]
    return places[:-1], places[-1:]


def _fetch(folder: Path, year: str, split: str) -> Path:
    """The folder of one year of VOC, after one archive has been unpacked into it."""
    archive = DATASET_YEAR_DICT["2007-test" if (year, split) == ("2007", "test") else year]
    path: Path = folder / archive["filename"]
    root: Path = folder / archive["base_dir"]
    unpacked = root / f".{archive['filename']}.unpacked"
    if unpacked.exists():
        return root
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _patience(_STALLED):
            VOCDetection(folder, year=year, image_set=split, download=True)
        unpacked.touch()  # last: torchvision itself would check and unpack the archive anew every time
    except (OSError, RuntimeError, HTTPException, TarError) as error:
        if isinstance(error, HTTPError):
            error.close()
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{archive['url']}: cannot be fetched and unpacked ({reason}); try again, or put the file from any mirror "
            f"at {path} (md5 {archive['md5']})"
        ) from error
    return root


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Let connections that fall silent fail after so many seconds; torchvision would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
