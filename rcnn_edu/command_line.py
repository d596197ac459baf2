"""The command line of training: a recipe's numbers, every one of them an option."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import tyro

from rcnn_edu.errors import UserError
from rcnn_edu.recipes import RECIPES, TrainConfig


def parse_training(arguments: Sequence[str] | None = None) -> TrainConfig:
    """The options given, over the defaults of `--recipe`.

    Without `--recipe` it is shapes for `--data shapes`, and article for photos. Raises `UserError` for a recipe that
    is not there; other mistakes end the program with exit code 2 and a message by tyro.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name, rest = _take(given, "--recipe")
    data, rest = _take(rest, "--data")
    name = name or ("shapes" if data == "shapes" else "article")
    if name not in RECIPES:
        raise UserError(f"--recipe {name}: no such recipe; there are {', '.join(RECIPES)}")
    recipe = RECIPES[name]()
    if data is not None:
        recipe = replace(recipe, data=replace(recipe.data, data=data))
    about = (
        f"Train Faster R-CNN end to end. The defaults below are those of the recipe {name}: {RECIPES[name].__doc__} "
        f"Another one: --recipe {{{','.join(RECIPES)}}}."
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
