"""What an exercise is: a function of the library that the reader writes again, and the mistakes that people make.

A mistake is written out as a function. The reader's function is run on a few small cases; where it differs from the
library's, and a mistake gives the same answers as it does, that mistake's hint is what the reader needs to hear.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that people give, and what to tell them."""

    function: Callable[..., Any]
    hint: str


@dataclass(frozen=True)
class Exercise:
    """One function to write.

    cases: arguments to try it with, few and small, so that one of them can be shown. part: what of a result is
    compared, for functions that return more than the exercise asks for; the whole by default.
    """

    name: str
    library: Callable[..., Any]
    cases: Sequence[tuple[Any, ...]]
    mistakes: Sequence[Mistake]
    part: Callable[[Any], Any] = lambda result: result

    def check(self, function: Callable[..., Any]) -> None:
        """Print whether the function is right, and if not, why."""
        print(self.verdict(function))

    def verdict(self, function: Callable[..., Any]) -> str:
        """ "right: ..." or "not yet: ..." with a hint. What the function raises is reported, not passed on."""
        answers = []
        for case in self.cases:
            try:
                answer = function(*copy.deepcopy(case))
                answers.append(None if answer is None else self.part(answer))
            except Exception as error:
                return f"not yet: {self.name} raised {type(error).__name__}: {error}"
        if all(answer is None for answer in answers):
            return f"not yet: {self.name} returns nothing so far"
        expected = self._answers(self.library)
        wrong = [index for index, answer in enumerate(answers) if not same(answer, expected[index])]
        if not wrong:
            return f"right: {self.name} agrees with the library in all {len(self.cases)} cases"
        for mistake in self.mistakes:
            if all(map(same, answers, self._answers(mistake.function))):
                return f"not yet: {mistake.hint}"
        first = wrong[0]
        arguments = ", ".join(_shown(argument) for argument in self.cases[first])
        return (
            f"not yet: {self.name}({arguments})\n"
            f"    gives      {_shown(answers[first])}\n    should be  {_shown(expected[first])}"
        )

    def _answers(self, function: Callable[..., Any]) -> list[Any]:
        return [self.part(function(*copy.deepcopy(case))) for case in self.cases]


def same(answer: Any, expected: Any) -> bool:
    """Whether two results agree: tensors in shape and to 1e-4, tuples member by member; a list is as good as either."""
    if isinstance(expected, tuple):
        return isinstance(answer, tuple | list) and len(answer) == len(expected) and all(map(same, answer, expected))
    try:
        got, wanted = torch.as_tensor(answer), torch.as_tensor(expected)
    except (TypeError, ValueError, RuntimeError):
        return False
    if got.shape != wanted.shape or (wanted.dtype == torch.bool) != (got.dtype == torch.bool):
        return False
    return bool(torch.allclose(got.double(), wanted.double(), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        rounded = (value.double() * 1000).round() / 1000 if value.is_floating_point() else value
        text = str(rounded.tolist())
        return text if len(text) <= 200 else f"a tensor of shape {tuple(value.shape)}"
    return repr(value)
