"""Bad input, told in one line: which file, which object, what is wrong with it, and what to do."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rcnn_edu.errors import UserError


@dataclass(frozen=True)
class Problem:
    """One thing in a dataset that cannot be used. `print(problem)` gives one line."""

    file: str
    """Path of the file at fault, as reached from the dataset's root."""
    object: str
    """The object at fault, as in `object 2 'dog'`; empty when the whole image or file is meant."""
    message: str
    """What is wrong, with the value, and the remedy."""

    def __str__(self) -> str:
        line = ": ".join(part for part in (self.file, self.object, self.message) if part)
        return "".join(character if character.isprintable() else "?" for character in line)


def shown(value: object, limit: int = 60) -> str:
    """`value` as it may stand inside a one-line message: quoted, control characters escaped, and not too long."""
    text = str(value)
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


def raise_first(problems: list[Problem], root: Path, options: Sequence[str] = ()) -> None:
    """Raise `UserError` for the first of `problems`, saying how many more there are; return if there are none.

    options: those of `validate` that choose the classes which the problems were found with.
    """
    if not problems:
        return
    more = len(problems) - 1
    others = f"; {more} further problem{'s' if more > 1 else ''}" if more else ""
    lister = shlex.join(["python", "-m", "rcnn_edu.validate", str(root), *options])
    raise UserError(f"{problems[0]}{others} (--skip-bad skips and counts what is bad, {lister} lists all)")
