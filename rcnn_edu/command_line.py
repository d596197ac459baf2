"""The command line of training: a recipe's numbers, every one of them an option."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from rcnn_edu.errors import UserError
from rcnn_edu.recipes import RECIPES, scaled
from rcnn_edu.training_config import TrainConfig


def parse_training(arguments: Sequence[str] | None = None) -> TrainConfig:
    """The options given, over the defaults of `--recipe`.

    Without `--recipe` it is shapes for `--data shapes`, and article for photos; `--scale-to-batch N` scales the recipe
    to N images a step. Raises `UserError` for a recipe that is not there, or for an N that is no positive number;
    other mistakes end the program with exit code 2 and a message by tyro.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name, rest = _take(given, "--recipe")
    data, rest = _take(rest, "--data")
    batch_size, rest = _take(rest, "--scale-to-batch")
    name = name or ("shapes" if data == "shapes" else "article")
    if name not in RECIPES:
        raise UserError(f"--recipe {name}: no such recipe; there are {', '.join(RECIPES)}")
    recipe = RECIPES[name]() if data is None else RECIPES[name](data)
    if batch_size is not None:
        if not batch_size.isdecimal() or int(batch_size) < 1:
            raise UserError(f"--scale-to-batch {batch_size}: it must be a number of images, 1 or more")
        recipe = scaled(recipe, int(batch_size))
    about = (
        f"Train Faster R-CNN end to end. The defaults below are those of the recipe {name}: {RECIPES[name].__doc__} "
        f"Another one: --recipe {{{','.join(RECIPES)}}}. --scale-to-batch N: the recipe for N images a step, with "
        f"learning rate, steps and milestones in proportion."
    )
    return tyro.cli(TrainConfig, args=rest, default=recipe, prog="python -m rcnn_edu.train", description=about)


def _take(arguments: list[str], option: str) -> tuple[str | None, list[str]]:
    """The value of `option`, and the arguments without it. It decides what the other options' defaults are."""
    for place, argument in enumerate(arguments):
        if argument == option and place + 1 < len(arguments):
            return arguments[place + 1], arguments[:place] + arguments[place + 2 :]
        if argument.startswith(f"{option}="):
            return argument.split("=", 1)[1], arguments[:place] + arguments[place + 1 :]
    return None, arguments
