"""Checkpoints: written whole or not at all, read without running anything that is in them.

A checkpoint is one dictionary of tensors, numbers and strings: `format`, `config`, `classes`, `weights`, `trained_on`,
and, while training, `training`: step, optimizer, averaged weights, everything that an exact continuation needs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from rcnn_edu.config import Config, config_from_dict
from rcnn_edu.errors import UserError
from rcnn_edu.model import FasterRCNN

FORMAT = 1
SHIPPED = {"shapes": "tiny-shapes.pt", "voc-demo": "voc-demo.pt", "voc-crop": "voc-crop.pt"}
"""Names that `load` knows, and their files in the package."""


def save_checkpoint(
    path: Path,
    model: FasterRCNN,
    trained_on: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write `model` to `path`, atomically: after a crash there is the old file or the new one, never half of one.

    trained_on: what `describe_data` gives; training: state to resume from; half: store weights in float16.
    """
    weights = model.state_dict()
    if half:
        weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    config = asdict(model.config)
    if config["backbone_weights"] is not None:
        config["backbone_weights"] = bare_name(config["backbone_weights"])
    content = {
        "format": FORMAT,
        "config": config,
        "classes": list(model.classes),
        "weights": weights,
        "trained_on": trained_on or {},
        "training": training,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_by_a_kill in path.parent.glob(f".{path.name}.*"):
        left_by_a_kill.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch has an error of its own for a full disk
        free = shutil.disk_usage(path.parent).free / 1e6
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: cannot be written ({reason}; {free:,.0f} MB are free there); make room") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The dictionary in a checkpoint file, on the CPU. Raises `UserError` for a file that is not one."""
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises whatever the unpickler stumbles over
        raise UserError(
            f"{path}: cannot be read as a checkpoint; it is damaged, or was not written here; name another"
        ) from error
    if not isinstance(content, dict) or not {"format", "config", "classes", "weights"} <= content.keys():
        raise UserError(f"{path}: is no checkpoint of this library; backbone weights go to --backbone-weights")
    if content["format"] != FORMAT:
        raise UserError(f"{path}: has format {content['format']}; this version reads {FORMAT}; update rcnn_edu")
    return content


def load_weights(model: FasterRCNN, content: dict[str, Any], path: Path) -> None:
    """Copy a checkpoint's weights into `model`. Raises `UserError` if it is of another backbone or class count."""
    theirs, ours = content["config"], model.config
    if theirs["backbone"] != ours.backbone:
        found = theirs["backbone"]
        raise UserError(f"{path}: holds a {found}, not a {ours.backbone}; use --backbone {found}")
    if theirs["num_classes"] != ours.num_classes:
        raise UserError(
            f"{path}: was trained for {theirs['num_classes'] - 1} classes, the model has {ours.num_classes - 1}; "
            f"use the same --classes"
        )
    try:
        model.load_state_dict(content["weights"])
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{path}: its weights do not fit its configuration: {first}") from error


def load(name_or_path: str | Path, device: str | torch.device = "cpu") -> FasterRCNN:
    """A trained model in evaluation mode, with `.classes`.

    name_or_path: "shapes", "voc-demo" or "voc-crop", which ship with the package, or a checkpoint file. Raises
    `UserError` if there is none.
    """
    path = checkpoint_path(name_or_path)
    content = read_checkpoint(path)
    try:
        config: Config = config_from_dict({**content["config"], "pretrained": False, "backbone_weights": None})
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: {error}") from error
    model = FasterRCNN(config, content["classes"])
    load_weights(model, content, path)
    model.trained_on = content.get("trained_on") or {}
    return model.to(device).eval()


def checkpoint_path(name_or_path: str | Path) -> Path:
    """The file behind a shipped name or a path; a run folder stands for the model in it."""
    if str(name_or_path) in SHIPPED:
        return Path(str(resources.files("rcnn_edu") / "weights" / SHIPPED[str(name_or_path)]))
    path = Path(name_or_path)
    if path.is_dir():
        for name in ("model.pt", "checkpoint.pt"):
            if (path / name).is_file():
                return path / name
        raise UserError(f"{path}: this folder holds no model.pt or checkpoint.pt")
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint, and no shipped model of that name; shipped: {', '.join(SHIPPED)}")
    return path


def describe_data(name: str, image_ids: Iterable[str]) -> dict[str, Any]:
    """What a checkpoint remembers of its training data: its name, and a fingerprint of each image's id.

    Of a path only the last part is kept: a checkpoint that is passed on tells nothing of its maker's folders.
    """
    return {"data": bare_name(name), "images": sorted(fingerprint(one) for one in image_ids)}


def bare_name(path: str) -> str:
    """The last part of a path; a name that is no path (`voc2007`) is its own."""
    return Path(os.path.abspath(path)).name


def fingerprint(image_id: str) -> str:
    """16 hexadecimal digits that stand for an image's id."""
    return hashlib.sha256(image_id.encode()).hexdigest()[:16]


def seen_in_training(trained_on: dict[str, Any], image_ids: Iterable[str]) -> int:
    """How many of these images the model was trained on."""
    seen = set(trained_on.get("images", ()))
    return sum(fingerprint(one) in seen for one in image_ids)
