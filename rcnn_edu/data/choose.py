"""From the options on the command line to the datasets behind them."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import Dataset

from rcnn_edu.cli import check_folder
from rcnn_edu.data.download import download_voc
from rcnn_edu.data.problems import Problem
from rcnn_edu.data.shapes import SHAPE_CLASSES, write_shapes
from rcnn_edu.data.voc import VOC_CLASSES, VOCDataset
from rcnn_edu.errors import UserError
from rcnn_edu.training_config import DataConfig


class DetectionDataset(Protocol):
    """What training and evaluation need of a dataset: `VOCDataset` and `JoinedDataset` have it."""

    classes: tuple[str, ...]
    problems: list[Problem]

    @property
    def image_ids(self) -> list[str]: ...
    def aspect_ratios(self) -> npt.NDArray[np.float64]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[Tensor, dict[str, Any]]: ...


class JoinedDataset(Dataset[tuple[Tensor, dict[str, Any]]]):
    """Several datasets of the same classes as one, in order: VOC 2007 and 2012, say."""

    def __init__(self, parts: list[VOCDataset]) -> None:
        self.parts = parts
        self.classes = parts[0].classes
        self.problems = [problem for part in parts for problem in part.problems]
        self._ends = list(accumulate(len(part) for part in parts))

    @property
    def image_ids(self) -> list[str]:
        """Ids of all images, in order."""
        return [one for part in self.parts for one in part.image_ids]

    def aspect_ratios(self) -> npt.NDArray[np.float64]:
        """Width over height of every image."""
        return np.concatenate([part.aspect_ratios() for part in self.parts])

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        part = bisect_right(self._ends, index)
        return self.parts[part][index - (self._ends[part - 1] if part else 0)]


def choose_datasets(config: DataConfig) -> tuple[DetectionDataset, DetectionDataset]:
    """The training and the validation dataset. Raises `UserError` if one cannot be had or used."""
    return choose_training(config), choose_validation(config)


def choose_training(config: DataConfig) -> DetectionDataset:
    """The dataset to train on."""
    return _join(config, _locate(config)[0])


def choose_validation(config: DataConfig) -> DetectionDataset:
    """The dataset to evaluate on."""
    return _join(config, _locate(config)[1])


def _locate(config: DataConfig) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
    """Folders and splits to train on, and to evaluate on."""
    if config.data == "shapes":
        check_folder(config.data_folder, "--data-folder")
        counts = config.shapes_train, config.shapes_val  # a folder for each, so that none is drawn anew for another
        root = write_shapes(config.data_folder / "shapes-{}-{}".format(*counts), *counts)
        return [(root, "train")], [(root, "val")]
    if config.data in ("voc2007", "voc0712"):
        if config.download:
            return download_voc(config.data, config.data_folder)
        devkit = config.data_folder.expanduser() / "VOCdevkit"
        train = [(devkit / "VOC2007", "trainval")]
        if config.data == "voc0712":
            train.append((devkit / "VOC2012", "trainval"))
        return train, [(devkit / "VOC2007", "test")]
    root = Path(config.data)
    return [(root, config.train_split)], [(root, config.val_split)]


def _join(config: DataConfig, places: list[tuple[Path, str]]) -> DetectionDataset:
    if config.classes == ():
        raise UserError("--classes has no name behind it; give the names, or leave it out")
    classes: tuple[str, ...] | None = config.classes or (SHAPE_CLASSES if config.data == "shapes" else VOC_CLASSES)
    if config.discover_classes:
        if config.classes is not None:
            raise UserError("--classes and --discover-classes exclude each other; give one of them")
        classes = None
    for root, _ in places:
        if config.data in ("voc2007", "voc0712") and not root.is_dir():
            raise UserError(f"{root}: {config.data} is not there; add --download, or say where with --data-folder")
    parts = [VOCDataset(root, split, classes, config.skip_bad) for root, split in places]
    return parts[0] if len(parts) == 1 else JoinedDataset(parts)
