"""Where things are in a folder in PASCAL VOC layout: images, annotations, and lists of the ids of both.

The folder VOC2007 of the original, as of any dataset that follows it, holds

    JPEGImages/000012.jpg    Annotations/000012.xml    ImageSets/Main/{train,val,trainval,test}.txt
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rcnn_edu.data.images import IMAGE_SUFFIXES
from rcnn_edu.data.problems import Problem, shown
from rcnn_edu.errors import UserError

_LISTED_WITH_SUFFIX = re.compile(r"\.(jpe?g|png|bmp|webp|xml)$", re.IGNORECASE)
_FLAGGED = re.compile(r"(.*\S)\s+(-1|0|1)")
_PER_CLASS_LIST = re.compile(r".+_(train|val|trainval|test)")


def find_voc_folder(root: str | Path) -> Path:
    """The folder that holds `JPEGImages` and `Annotations`: `root` itself, or the one dataset in it.

    `root` may also be a `VOCdevkit` folder or the parent of one. Raises `UserError` if there is no dataset, or if
    there are several to choose from.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise UserError(f"{root}: no such folder; check the path, or get VOC with --data voc2007 --download")
    if not root.is_dir():
        raise UserError(f"{root}: is a file; name the folder that holds JPEGImages, Annotations and ImageSets/Main")
    if _is_voc(root):
        return root
    found = sorted(
        child
        for base in (root, root / "VOCdevkit")
        if base.is_dir()
        for child in base.iterdir()
        if child.name.startswith("VOC") and _is_voc(child)
    )
    if not found:
        raise UserError(f"{root}: not in VOC layout; JPEGImages, Annotations and ImageSets/Main should be here")
    if len(found) > 1:
        raise UserError(f"{root}: holds several datasets; name one of them: {', '.join(map(str, found))}")
    return found[0]


def split_names(folder: Path) -> list[str]:
    """Names of the lists in `ImageSets/Main`, sorted, without VOC's lists for single classes (`cat_train`)."""
    names = sorted(path.stem for path in (folder / "ImageSets" / "Main").glob("*.txt"))
    return [name for name in names if not _PER_CLASS_LIST.fullmatch(name)]


def split_file(folder: Path, split: str) -> Path:
    """Path of the list of one split, `ImageSets/Main/<split>.txt`."""
    return folder / "ImageSets" / "Main" / f"{split}.txt"


def read_ids(folder: Path, split: str) -> list[str]:
    """Ids of the images of one split, in the list's order; repeated ids are repeated.

    A line holds an id, or, in VOC's lists for single classes, an id and a flag: 1 or 0 (the class is there, or only
    as a difficult object), or -1 (it is not there: left out). A file name in place of an id loses its suffix. Blank
    lines, stray whitespace and any line ends are fine. Raises `UserError` if the list is missing or empty.
    """
    path = split_file(folder, split)
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        names = split_names(folder)
        there = f"there are: {', '.join(names)}" if names else "there are no lists: write one, an image id on each line"
        raise UserError(f"{path}: no list for split '{split}'; {there}") from None
    if "\0" in text:
        raise UserError(f"{path}: is no plain text, or in UTF-16; save it as UTF-8")
    ids = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        flagged = _FLAGGED.fullmatch(line)
        if flagged and not (folder / "Annotations" / f"{line}.xml").exists():  # some file names do end in " 1"
            if flagged[2] == "-1":
                continue
            line = flagged[1]
        ids.append(_LISTED_WITH_SUFFIX.sub("", line))
    if not ids:
        raise UserError(f"{path}: the list is empty; write an image id on each line")
    return ids


def repeated_ids(folder: Path, split: str, ids: Sequence[str]) -> list[Problem]:
    """A problem for every id that a list holds more than once: its image would count twice in an evaluation."""
    return [
        Problem(
            str(split_file(folder, split)),
            "",
            f"image {shown(image_id)} is listed {count} times; keep one line of them",
        )
        for image_id, count in Counter(ids).items()
        if count > 1
    ]


class ImageFinder:
    """Finds the image that belongs to an annotation. The folder is listed once, not asked once for every image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "JPEGImages"
        self._paths: dict[str, dict[str, Path]] = {}
        for parent, _, names in os.walk(self.folder):
            for name in names:
                path = Path(parent, name)
                if path.suffix.lower() in IMAGE_SUFFIXES:
                    stem = path.relative_to(self.folder).with_suffix("").as_posix()
                    self._paths.setdefault(stem, {})[name] = path

    def find(self, image_id: str, filename: str) -> Path | None:
        """The image named after the id, with any usual suffix in any case; else the one that `<filename>` names.

        The id comes first because tools keep in `<filename>` what the photo was called, or where it lay, before.
        """
        name = re.split(r"[/\\]", filename.strip())[-1]
        for stem in (image_id, _LISTED_WITH_SUFFIX.sub("", name)):
            if candidates := self._paths.get(stem):
                return candidates.get(name) or candidates[min(candidates, key=_suffix_rank)]
        return None


def _suffix_rank(name: str) -> tuple[int, str]:
    return IMAGE_SUFFIXES.index(Path(name).suffix.lower()), name


def _is_voc(folder: Path) -> bool:
    return (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir()
