"""`python -m rcnn_edu.validate ROOT`: everything that is wrong with a dataset in VOC layout, one line each.

Every image is decoded in full, so that training does not meet a broken one after hours. Exit code 0: the dataset is
clean; 1: problems were found and listed; 2: there is nothing to check (one line says why).
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import tyro
from tqdm import tqdm

from rcnn_edu.cli import run_program
from rcnn_edu.data.images import BadImage, read_image
from rcnn_edu.data.problems import Problem
from rcnn_edu.data.voc import VOC_CLASSES, Annotation, check_classes, discover_classes, read_annotations
from rcnn_edu.data.voc_folder import find_voc_folder, read_ids, repeated_ids, split_file, split_names
from rcnn_edu.errors import UserError

_TRAINING, _TESTING = ("train", "trainval"), ("val", "test")


@dataclass(frozen=True)
class Options:
    """Check a dataset in PASCAL VOC layout. Exit code 0: clean, 1: problems were found, 2: nothing to check."""

    root: tyro.conf.Positional[Path]
    """Folder with JPEGImages, Annotations and ImageSets/Main, or a VOCdevkit folder, or its parent."""
    split: tuple[str, ...] = ()
    """Lists in ImageSets/Main to check (none: all but those for single classes)."""
    classes: tuple[str, ...] | None = None
    """Class names without background (none: the 20 of VOC)."""
    discover_classes: bool = False
    """Take the class names from the dataset's own annotations."""


@dataclass(frozen=True)
class Report:
    """What a dataset holds and what is wrong with it."""

    folder: Path
    splits: dict[str, int]
    """Images listed in each split."""
    classes: tuple[str, ...]
    annotations: list[Annotation]
    """Usable images, each once, whatever the number of its splits."""
    problems: list[Problem]

    def lines(self) -> list[str]:
        """The report as text: the problems, then the counts."""
        objects, difficult, images = Counter[int](), Counter[int](), Counter[int]()
        for annotation in self.annotations:
            objects.update(annotation.labels.tolist())
            difficult.update(annotation.labels[annotation.difficult].tolist())
            images.update(set(annotation.labels.tolist()))
        text = [str(problem) for problem in self.problems]
        text += [f"{self.folder}: " + ", ".join(f"{name} {count:,}" for name, count in self.splits.items()) + " images"]
        text += [f"{'class':<20}{'images':>10}{'objects':>10}{'difficult':>10}"]
        rows = [(name, images[i], objects[i], difficult[i]) for i, name in enumerate(self.classes, start=1)]
        rows.append(("all", len(self.annotations), objects.total(), difficult.total()))
        text += [f"{name:<20}{a:>10,}{b:>10,}{c:>10,}" for name, a, b, c in rows]
        if self.annotations:
            text.append(_range("image size", [(a.width, a.height) for a in self.annotations]))
        sides = [(b[2] - b[0], b[3] - b[1]) for a in self.annotations for b in a.boxes.tolist()]
        if sides:
            text.append(_range("object size", sides))
        text.append(f"{len(self.problems):,} problem{'s' if len(self.problems) != 1 else ''}")
        return text


def validate(root: str | Path, splits: Sequence[str] = (), classes: Sequence[str] | None = VOC_CLASSES) -> Report:
    """Check the named splits of a dataset, or all of them, and decode their images; progress goes to stderr.

    `classes` are names without background; None takes those of the annotations. Raises `UserError` if there is no
    dataset at `root`, no such split, or no list at all.
    """
    folder = find_voc_folder(root)
    names = list(dict.fromkeys(splits)) or split_names(folder)
    if not names:
        raise UserError(f"{folder / 'ImageSets' / 'Main'}: no lists of images; write trainval.txt, an id on each line")
    known = discover_classes(folder) if classes is None else check_classes(classes)
    listed, problems = _lists(folder, names, needed=bool(splits))
    problems += [problem for name, ids in listed.items() for problem in repeated_ids(folder, name, ids)]
    problems += _shared(folder, listed)
    annotations, found = read_annotations(folder, dict.fromkeys(chain(*listed.values())), known)
    problems += found + _undecodable(annotations)
    return Report(folder, {name: len(ids) for name, ids in listed.items()}, known, annotations, problems)


def _lists(folder: Path, names: Sequence[str], needed: bool) -> tuple[dict[str, list[str]], list[Problem]]:
    """The ids of each list. One that cannot be read is a problem, or, if it was asked for, a `UserError`."""
    listed: dict[str, list[str]] = {}
    problems = []
    for name in names:
        try:
            listed[name] = read_ids(folder, name)
        except UserError as error:
            if needed:
                raise
            problems.append(Problem(str(error), "", ""))
    return listed, problems


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""

    def program() -> None:
        options = tyro.cli(Options, args=arguments, prog="python -m rcnn_edu.validate")
        if options.classes is not None and options.discover_classes:
            raise UserError("--classes and --discover-classes exclude each other; give one of them")
        classes = None if options.discover_classes else options.classes or VOC_CLASSES
        report = validate(options.root, options.split, classes)
        print("\n".join(report.lines()))
        sys.exit(1 if report.problems else 0)

    run_program(program)


def _shared(folder: Path, listed: dict[str, list[str]]) -> list[Problem]:
    """Images that are both learnt from and measured on. (`trainval` holds `val` by VOC's design.)"""
    problems = []
    for training in _TRAINING:
        for testing in _TESTING:
            both = set(listed.get(training, ())) & set(listed.get(testing, ()))
            if both and (training, testing) != ("trainval", "val"):
                message = f"{len(both)} of its images are in {training} too (as {min(both)}); take them out of one list"
                problems.append(Problem(str(split_file(folder, testing)), "", message))
    return problems


def _undecodable(annotations: list[Annotation]) -> list[Problem]:
    def check(annotation: Annotation) -> Problem | None:
        try:
            read_image(annotation.image_path)
        except BadImage as error:
            message = f"cannot be decoded ({error}); get the file again, or take its id out of the lists"
            return Problem(str(annotation.image_path), "", message)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside Python's lock
        results = tqdm(pool.map(check, annotations), "decoding", len(annotations), unit="image", file=sys.stderr)
        return [problem for problem in results if problem is not None]


def _range(what: str, sizes: Sequence[tuple[float, float]]) -> str:
    widths, heights = zip(*sizes, strict=True)
    return (
        f"{what}: width {min(widths):g} to {max(widths):g}, height {min(heights):g} to {max(heights):g}, "
        f"area {min(w * h for w, h in sizes):g} to {max(w * h for w, h in sizes):g} pixels"
    )


if __name__ == "__main__":
    main()
