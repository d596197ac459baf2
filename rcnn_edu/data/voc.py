"""Any dataset in PASCAL VOC layout, read and checked once, decoded image by image.

    image   uint8 (3, H, W), RGB                  boxes      float32 (G, 4) x1, y1, x2, y2 in pixels, half-open
    G       objects of the image                  labels     int64 (G,), 1…C; 0 is background

What cannot be used is an error that names file, object and remedy, or, with `skip_bad`, is left out and counted:

- An image goes as a whole if it, or its annotation, cannot be read, or if the two disagree about its size.
- Of an image with some bad boxes, the bad ones go and the others stay. Where bad boxes take the last object, the
  image goes too: an object is in there, nobody knows where, and as an image "without objects" it would teach the
  detector that the object is background.
- An object of a class that is not in the list goes, and its image stays even if it is left without objects: a class
  that is not asked for is background.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_edu.data.images import BadImage, image_size, read_image
from rcnn_edu.data.problems import Problem, raise_first, shown
from rcnn_edu.data.voc_folder import ImageFinder, find_voc_folder, read_ids, repeated_ids, split_file
from rcnn_edu.data.voc_xml import BadAnnotation, class_name, read_objects, read_xml, xml_size
from rcnn_edu.errors import UserError

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""The 20 classes of PASCAL VOC, in alphabetical order as everywhere in the field: labels 1…20."""


@dataclass(frozen=True)
class Annotation:
    """One image and its usable objects."""

    image_id: str
    image_path: Path
    width: int
    """Of the stored image, in pixels."""
    height: int
    boxes: npt.NDArray[np.float32]
    """`(G, 4)`: x1, y1, x2, y2 in pixels, half-open, inside the image."""
    labels: npt.NDArray[np.int64]
    """`(G,)`: 1…C."""
    difficult: npt.NDArray[np.bool_]
    """`(G,)`: VOC's mark for objects that evaluation neither asks for nor holds against a detector."""


class VOCDataset(Dataset[tuple[Tensor, dict[str, Any]]]):
    """One split of a dataset in VOC layout; its XML is parsed and checked here, its images are decoded on demand.

    `root` is the folder with `JPEGImages`, `Annotations` and `ImageSets/Main`, a `VOCdevkit` folder, or the parent
    of one. `split` names a list in `ImageSets/Main`. `classes` are the names without background, in the order of the
    labels 1…C; None takes those of all annotation files in the folder, sorted, so that every split has the same.

    Raises `UserError` for the first thing that cannot be used, or leaves it out if `skip_bad`; for a missing folder or
    list; and if no object of the split is of the given classes.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "trainval",
        classes: Sequence[str] | None = VOC_CLASSES,
        skip_bad: bool = False,
    ) -> None:
        self.root = find_voc_folder(root)
        self.split = split
        ids = read_ids(self.root, split)
        self.classes: tuple[str, ...] = discover_classes(self.root) if classes is None else check_classes(classes)
        """Names of the classes, without background."""
        different = dict.fromkeys(ids)
        self.annotations, problems = read_annotations(self.root, different, self.classes)
        """Usable images, in the list's order."""
        self.problems = repeated_ids(self.root, split, ids) + problems
        """Everything that was left out."""
        self.skipped_images = len(different) - len(self.annotations)
        """How many images of the list were left out as a whole."""
        if not skip_bad:
            raise_first(self.problems, self.root, _as_options(classes))
        if not self.annotations:
            raise UserError(
                f"{split_file(self.root, split)}: none of its images can be used; first: {self.problems[0]}"
            )
        _require_some_object(self)

    @property
    def image_ids(self) -> list[str]:
        """Ids of the usable images, in the list's order."""
        return [annotation.image_id for annotation in self.annotations]

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        """The image and `{"boxes", "labels", "difficult", "image_id"}`, with all objects, difficult ones too.

        Raises `UserError` naming the file if its pixels cannot be decoded.
        """
        annotation = self.annotations[index]
        try:
            image = read_image(annotation.image_path)
        except BadImage as error:
            remedy = "get the file again, or take its id out of the list"
            raise UserError(f"{annotation.image_path}: cannot be decoded ({error}); {remedy}") from error
        return image, {
            "boxes": torch.from_numpy(annotation.boxes.copy()),
            "labels": torch.from_numpy(annotation.labels.copy()),
            "difficult": torch.from_numpy(annotation.difficult.copy()),
            "image_id": annotation.image_id,
        }

    def aspect_ratios(self) -> npt.NDArray[np.float64]:
        """Width over height of every image, `(len(self),)`, without decoding: for batches of similar shapes."""
        return np.array([annotation.width / annotation.height for annotation in self.annotations], dtype=np.float64)


def read_annotations(
    folder: Path, ids: Iterable[str], classes: Sequence[str]
) -> tuple[list[Annotation], list[Problem]]:
    """The usable images among `ids`, which are all different, in order, and every problem found on the way."""
    finder = ImageFinder(folder)
    annotations: list[Annotation] = []
    problems: list[Problem] = []
    for image_id in ids:
        annotation, found = _read_annotation(folder, image_id, finder, classes)
        problems += found
        if annotation is not None:
            annotations.append(annotation)
    return annotations, problems


def discover_classes(folder: Path) -> tuple[str, ...]:
    """The class names of all annotation files of a VOC folder, sorted. Raises `UserError` if there are none."""
    names = set()
    for path in sorted((folder / "Annotations").rglob("*.[xX][mM][lL]")):
        try:
            names |= {class_name(element) for element in read_xml(path).findall("object")}
        except BadAnnotation:
            continue  # reported when a split that lists it is read
    names.discard("")
    if not names:
        raise UserError(f"{folder / 'Annotations'}: no annotation file names a class; give the names with --classes")
    return tuple(sorted(names))


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """`classes` as a tuple. Raises `UserError` unless they are one or more different names, without background."""
    names = tuple(classes)
    if len(names) == 1 and ("," in names[0] or names[0].endswith(".txt")):
        raise UserError(f"classes {shown(names[0])}: give the names themselves, with spaces between them")
    if isinstance(classes, str) or not names or not all(names) or len(set(names)) < len(names):
        raise UserError(f"classes {shown(classes)}: give one or more different names")
    if background := [name for name in names if name.lower() in ("background", "__background__")]:
        raise UserError(f"classes: leave {shown(background[0])} out; background is label 0 and is not listed")
    return names


def _read_annotation(
    folder: Path, image_id: str, finder: ImageFinder, classes: Sequence[str]
) -> tuple[Annotation | None, list[Problem]]:
    xml_path = folder / "Annotations" / f"{image_id}.xml"
    if not xml_path.exists() and xml_path.with_suffix(".XML").exists():
        xml_path = xml_path.with_suffix(".XML")
    try:
        root = read_xml(xml_path)
    except BadAnnotation as error:
        return None, [Problem(str(xml_path), "", str(error))]
    filename = (root.findtext("filename") or "").strip()
    image_path = finder.find(image_id, filename)
    if image_path is None:
        also = f", nor the {shown(filename)} that its XML names" if filename else ""
        message = f"no such image, nor one with another usual suffix{also}; add it, or take its id out of the list"
        return None, [Problem(str(finder.folder / f"{image_id}.jpg"), "", message)]
    try:
        width, height = image_size(image_path)
    except BadImage as error:
        message = f"cannot be read ({error}); get the file again, or take its id out of the list"
        return None, [Problem(str(image_path), "", message)]
    claimed = xml_size(root)
    if claimed is not None and claimed != (width, height):
        turned = claimed == (height, width)
        remedy = "store the photo as its EXIF turns it" if turned else "annotate again, or restore the image"
        message = f"says {claimed[0]}x{claimed[1]} pixels, but {image_path} has {width}x{height}; {remedy}"
        return None, [Problem(str(xml_path), "", message)]
    objects = read_objects(root, xml_path, (width, height), classes)
    if objects.lost_boxes and not objects.boxes:
        return None, objects.problems
    return Annotation(
        image_id,
        image_path,
        width,
        height,
        np.array(objects.boxes, dtype=np.float32).reshape(-1, 4),
        np.array(objects.labels, dtype=np.int64),
        np.array(objects.difficult, dtype=np.bool_),
    ), objects.problems


def _as_options(classes: Sequence[str] | None) -> list[str]:
    """How `python -m rcnn_edu.validate` is told of these classes."""
    if classes is None:
        return ["--discover-classes"]
    return [] if tuple(classes) == VOC_CLASSES else ["--classes", *classes]


def _require_some_object(dataset: VOCDataset) -> None:
    """Refuse a split whose objects were all left out: nothing could be learnt or measured."""
    has_objects = any(len(annotation.labels) for annotation in dataset.annotations)
    if has_objects or not any(problem.object for problem in dataset.problems):
        return
    found = ", ".join(discover_classes(dataset.root))
    raise UserError(
        f"{split_file(dataset.root, dataset.split)}: no usable object of the {len(dataset.classes)} classes; "
        f"the annotations have {found}; choose with --classes, or take all with --discover-classes"
    )
