"""Every exercise: the library's function is right, each mistake gets its own hint, and anything else is shown."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import rcnn_edu.exercises
from rcnn_edu.exercises.base import Exercise, Mistake, same

SOLUTIONS = Path(__file__).parent.parent / "docs" / "solutions"
NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
LESSONS = sorted(module.name for module in pkgutil.iter_modules(rcnn_edu.exercises.__path__) if module.name != "base")
EXERCISES = [
    pytest.param(exercise, id=f"{lesson}-{exercise.name}")
    for lesson in LESSONS
    for exercise in importlib.import_module(f"rcnn_edu.exercises.{lesson}").EXERCISES
]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_librarys_function_is_right(exercise: Exercise) -> None:
    assert exercise.verdict(exercise.library).startswith("right: ")


@pytest.mark.parametrize("exercise", EXERCISES)
def test_each_mistake_gets_its_own_hint(exercise: Exercise) -> None:
    assert len(exercise.mistakes) >= 3
    verdicts = [exercise.verdict(mistake.function) for mistake in exercise.mistakes]
    assert verdicts == [f"not yet: {mistake.hint}" for mistake in exercise.mistakes]
    assert len(set(verdicts)) == len(verdicts)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_stub_and_a_crash_are_told(exercise: Exercise) -> None:
    def crash(*arguments: Any) -> None:
        raise RuntimeError("half done")

    assert exercise.verdict(lambda *arguments: None) == f"not yet: {exercise.name} returns nothing so far"
    assert exercise.verdict(crash) == f"not yet: {exercise.name} raised RuntimeError: half done"


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_has_two_or_three(lesson: str) -> None:
    assert 2 <= len(importlib.import_module(f"rcnn_edu.exercises.{lesson}").EXERCISES) <= 3


def test_another_wrong_answer_is_shown_beside_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    double = Exercise(
        "double", lambda x: 2 * x, [(torch.tensor([1.0, 2.0]),)], [Mistake(lambda x: x, "twice, not once")]
    )
    double.check(lambda x: 3 * x)
    shown = capsys.readouterr().out
    assert shown == "not yet: double([1.0, 2.0])\n    gives      [3.0, 6.0]\n    should be  [2.0, 4.0]\n"


def test_a_function_that_spoils_its_arguments_spoils_no_case() -> None:
    double = Exercise("double", lambda x: 2 * x, [(torch.tensor([1.0, 2.0]),)], [])
    assert double.verdict(lambda x: x.mul_(2)).startswith("right: ")
    assert double.verdict(lambda x: 2 * x).startswith("right: ")


def test_same() -> None:
    one = torch.tensor([1.0, 2.0])
    assert same([1.0, 2.00001], one)
    assert same((one, 3), (one, 3))
    assert same([one, 3], (one, 3))
    assert not same((one,), (one, 3))
    assert not same(one[None], one)
    assert not same("text", one)
    assert not same(torch.tensor([1, 0]), torch.tensor([True, False]))
    assert same(torch.tensor([float("nan")]), torch.tensor([float("nan")]))


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_solutions_are_right(lesson: str) -> None:
    """Each solution is called `my_` and the library's name, as the stub in the notebook is."""
    (notebook,) = [
        path for path in NOTEBOOKS.glob("*.ipynb") if f"rcnn_edu.exercises import {lesson}" in path.read_text()
    ]
    (page,) = SOLUTIONS.glob(f"{notebook.stem[:2]}_*.md")
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL):
        exec(block, names)
    for exercise in importlib.import_module(f"rcnn_edu.exercises.{lesson}").EXERCISES:
        assert exercise.verdict(names[f"my_{exercise.name}"]).startswith("right: "), exercise.name
