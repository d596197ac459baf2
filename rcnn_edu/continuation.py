"""Whether a run can go on from a checkpoint: what the two must have in common, and what may differ.

Paths are compared, and written into checkpoints, by their last part alone: a checkpoint that is passed on tells nothing
of the folders of whoever made it, and a dataset may have moved.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rcnn_edu.checkpoint import bare_name
from rcnn_edu.errors import UserError
from rcnn_edu.training_config import TrainConfig

FREE_TO_CHANGE = {"output", "resume", "overwrite", "device", "workers", "accumulate", "log_every", "checkpoint_every"}
"""Options in which a run and its continuation may differ: where and how it computes, not what."""

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
        listed = ", ".join(f"{name} {theirs.get(name)} (now {ours.get(name)})" for name in changed)
        raise UserError(f"{path}: was trained with {listed}; resume with the options of the first start")


def check_output(config: TrainConfig) -> None:
    """Raise `UserError` if the output folder is not as --resume and --overwrite say."""
    there = (config.output / "checkpoint.pt").exists()
    if config.resume and not there:
        raise UserError(f"{config.output}: holds no checkpoint.pt to resume from; check --output, or drop --resume")
    if there and not config.resume and not config.overwrite:
        raise UserError(
            f"{config.output}: holds a run already; go on with --resume, replace it with --overwrite, "
            f"or name another --output"
        )


def _flat(options: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in options.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif prefix + name not in FREE_TO_CHANGE:
            flat[prefix + name] = str(value)
    return flat
