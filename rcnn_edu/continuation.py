"""Whether a run can go on from a checkpoint: what the two must have in common, and what may differ.

Paths are compared, and written into checkpoints, by their last part alone: a checkpoint that is passed on tells nothing
of the folders of whoever made it, and a dataset may have moved.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rcnn_edu.checkpoint import bare_name
from rcnn_edu.cli import check_folder
from rcnn_edu.errors import UserError
from rcnn_edu.model import FasterRCNN
from rcnn_edu.training_config import TrainConfig

FREE_TO_CHANGE = {
    *("output", "resume", "overwrite", "device", "workers", "accumulate", "log_every", "evaluate_every"),
    *("checkpoint_every", "data.download"),
}
"""Options in which a run and its continuation may differ: where and how it computes, not what."""

LEFT_BY_A_RUN = (
    *("checkpoint.pt", "model.pt", "metrics.jsonl", "losses.png", "detections.png"),
    *("detections.json", "ap.txt", "ap.json", "tensorboard/events.out.tfevents.*"),
)
"""The files of an output folder."""

_PATHS = {"data.data", "data.data_folder", "model.backbone_weights"}


def settings(config: TrainConfig) -> dict[str, str]:
    """What a continuation must have in common with its run, flat: {"model.anchors.scales": "(8.0, 16.0, 32.0)", …}."""
    flat = _flat(asdict(config))
    return {name: bare_name(value) if name in _PATHS else value for name, value in flat.items()}


def check_same(theirs: dict[str, str], config: TrainConfig, path: Path) -> None:
    """Raise `UserError` naming every setting in which `config` differs from a checkpoint's."""
    theirs = {name: bare_name(value) if name in _PATHS else value for name, value in theirs.items()}
    ours = settings(config)
    changed = [name for name in sorted(theirs | ours) if theirs.get(name) != ours.get(name)]
    if changed:
        listed = ", ".join(f"{_option(name)} {theirs.get(name)} (now {ours.get(name)})" for name in changed)
        raise UserError(f"{path}: was trained with {listed}; resume with the options of the first start")


def check_same_data(content: dict[str, Any], model: FasterRCNN, path: Path) -> None:
    """Raise `UserError` if a checkpoint's classes or training images are not those of `model`."""
    theirs, ours = tuple(content["classes"]), model.classes
    if theirs != ours:
        raise UserError(
            f"{path}: was trained for {len(theirs)} classes, {', '.join(theirs)}; now there are {len(ours)}, "
            f"{', '.join(ours)}; use the same data and --classes"
        )
    before, now = (set(data.get("images", ())) for data in (content.get("trained_on") or {}, model.trained_on))
    if before != now:
        raise UserError(
            f"{path}: was trained on {len(before)} images; {len(before - now)} of them are not there now, "
            f"and {len(now - before)} are new; resume with the images of the first start"
        )


def check_output(config: TrainConfig) -> None:
    """Raise `UserError` if the output folder is not as --resume and --overwrite say, or cannot be written to."""
    check_folder(config.output, "--output")
    there = [name for name in ("checkpoint.pt", "model.pt", "metrics.jsonl") if (config.output / name).exists()]
    if config.resume and "checkpoint.pt" not in there:
        raise UserError(f"{config.output}: holds no checkpoint.pt to resume from; check --output, or drop --resume")
    if there and not config.resume and not config.overwrite:
        how = "go on with --resume, replace" if "checkpoint.pt" in there else "replace"
        raise UserError(
            f"{config.output}: holds a run already ({', '.join(there)}); {how} it with --overwrite, "
            f"or name another --output"
        )


def clear_output(folder: Path) -> None:
    """Remove what another run left in its output folder, so that nothing of it is taken for this one's."""
    for pattern in LEFT_BY_A_RUN:
        for path in folder.glob(pattern):
            path.unlink()


def _option(name: str) -> str:
    """`model.anchors.scales` as it is typed: `--anchors.scales`."""
    return "--" + name.removeprefix("model.").removeprefix("data.").replace("_", "-")


def _flat(options: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in options.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif prefix + name not in FREE_TO_CHANGE:
            flat[prefix + name] = str(value)
    return flat
