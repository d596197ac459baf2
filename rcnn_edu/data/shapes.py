"""The shapes dataset: scenes drawn from a seed and written in VOC layout, so that everything runs with no download.

Scene number `index` of `split` is a function of (seed, split, index) alone: any scene can be drawn again without the
others, more scenes can be added without changing the first ones, and `train` and `val` never share one.
"""

from __future__ import annotations

import json
import os
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from rcnn_edu.data.scenes import SHAPE_CLASSES, render_scene
from rcnn_edu.errors import UserError

__all__ = ["SHAPE_CLASSES", "render_scene", "scene_rng", "write_shapes"]

_VERSION = 2  # raise when scenes look different, so that folders written before are drawn again
_SPLITS = ("train", "val")
_OURS = re.compile(r"(train|val)_\d{5,}\.(jpg|xml)(\.\d+\.tmp)?")


def scene_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The random stream of one scene; `split` is `train` or `val`."""
    return np.random.default_rng([seed, _SPLITS.index(split), index])


def write_shapes(
    root: str | Path, train: int = 2000, val: int = 400, seed: int = 0, size: tuple[int, int] = (240, 320)
) -> Path:
    """Write `train` + `val` scenes of `size` (height, width) pixels into `root`, in VOC layout; returns `root`.

    There are lists for `train`, `val` and `trainval`; images are JPEG of quality 90. A folder that is complete for the
    same parameters is left as it is, an interrupted one is completed, and one of other parameters is drawn anew. Raises
    `UserError` for impossible parameters, and for a folder that holds anything but a shapes dataset.
    """
    root = Path(root).expanduser()
    if train < 1 or val < 1 or seed < 0 or min(size) < 64:
        raise UserError(
            f"shapes: train {train}, val {val}, seed {seed}, size {size[0]}x{size[1]}; "
            "take at least one scene of each, a seed of 0 or more, and sides of 64 pixels or more"
        )
    wanted = {"version": _VERSION, "train": train, "val": val, "seed": seed, "size": list(size)}
    ids = {"train": [f"train_{i:05d}" for i in range(train)], "val": [f"val_{i:05d}" for i in range(val)]}
    ids["trainval"] = ids["train"] + ids["val"]
    lists = {root / "ImageSets" / "Main" / f"{name}.txt": listed for name, listed in ids.items()}
    done, begun = root / "shapes.json", root / "shapes.partial.json"
    present = _claim(root, wanted, done, begun)
    whole = present.issuperset(name for image_id in ids["trainval"] for name in _files(image_id))
    if whole and done.exists() and all(path.exists() for path in lists):
        begun.unlink(missing_ok=True)
        return root
    for split in _SPLITS:
        progress = tqdm(ids[split], f"drawing shapes, {split}", unit="scene", leave=False, disable=None)  # on terminals
        for index, image_id in enumerate(progress):
            if not present.issuperset(_files(image_id)):
                _write_scene(root, image_id, *render_scene(scene_rng(seed, split, index), size))
    for path, listed in lists.items():
        _write(path, "".join(f"{image_id}\n" for image_id in listed).encode())
    _write(done, json.dumps(wanted).encode())  # last: its presence says that all the rest is there
    begun.unlink(missing_ok=True)
    return root


def _claim(root: Path, wanted: dict[str, object], done: Path, begun: Path) -> set[str]:
    """Make `root` ours, remove scenes of other parameters from it, and tell which scene files are there to stay.

    A program may be stopped anywhere in here: marks are changed in such an order that the next run knows what is left.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: is a file; name a folder for the shapes dataset")
    marks = [mark for mark in (done, begun) if mark.exists()]
    if not marks and root.is_dir() and any(root.iterdir()):
        raise UserError(f"{root}: holds something other than a shapes dataset; name a new or an empty folder")
    folders = [root / "JPEGImages", root / "Annotations", root / "ImageSets" / "Main"]
    ours = [
        path for folder in folders[:2] if folder.is_dir() for path in folder.iterdir() if _OURS.fullmatch(path.name)
    ]
    same = bool(marks) and all(_read(mark) == wanted for mark in marks)
    if not same:
        for path in ours:
            path.unlink()
        root.mkdir(parents=True, exist_ok=True)
        _write(begun, json.dumps(wanted).encode())
        done.unlink(missing_ok=True)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return {path.name for path in ours} if same else set()


def _write_scene(
    root: Path,
    image_id: str,
    image: npt.NDArray[np.uint8],
    boxes: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
) -> None:
    height, width = image.shape[:2]
    jpeg = BytesIO()
    Image.fromarray(image).save(jpeg, "JPEG", quality=90)
    objects = "".join(
        f"<object><name>{SHAPE_CLASSES[label - 1]}</name><difficult>0</difficult><bndbox>"
        f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>\n"
        for label, (x1, y1, x2, y2) in zip(labels.tolist(), boxes.astype(int).tolist(), strict=True)
    )
    xml = (
        f"<annotation>\n<filename>{image_id}.jpg</filename>\n"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n{objects}</annotation>\n"
    )
    _write(root / "JPEGImages" / f"{image_id}.jpg", jpeg.getvalue())
    _write(root / "Annotations" / f"{image_id}.xml", xml.encode())


def _files(image_id: str) -> tuple[str, str]:
    return f"{image_id}.jpg", f"{image_id}.xml"


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def _write(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, whenever the program is stopped."""
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # several processes may write the same dataset
    part.write_bytes(content)
    os.replace(part, path)
