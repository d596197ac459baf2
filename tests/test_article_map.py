"""docs/article-map.md names headings, functions, panels and config fields: each is really there, and none is forgotten.

A row reads: what the article has | kind | "NN, heading; another heading; exercise 2" | names | config fields. A name
without its module is in the lesson's own module or among its panels.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest

import rcnn_edu.config

pytest.importorskip("ipywidgets", reason="the panels are made of widgets")

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "article-map.md"

# The article's pictures, in its order, in words that the row of each contains.
FIGURES = (
    *("pre-processing", "network architecture", "VOC photo", "box regression", "intersection over union"),
    *("layers of R-CNN", "anchor boxes", "RPN layer", "proposal layer", "sum over the foreground", "four terms"),
    *("smooth L1", "around one object", "classification loss", "expanded per class", "warping", "source coordinates"),
    *("crop pooling step by step", "classification layer", "final boxes"),
)


class Row(NamedTuple):
    lesson: str
    article: str
    kind: str
    places: str
    names: str
    fields: str


@cache
def rows() -> list[Row]:
    """Every row of the lessons' tables."""
    found = []
    for section in re.split(r"^## (?=\d\d · )", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        head, _, table = section.partition("\n")
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert lines[0] == "| article | kind | notebook, heading | module | config field |", head
        for line in lines[2:]:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == 5, line
            found.append(Row(head[:2], *cells))
    return found


@cache
def notebook(lesson: str) -> str:
    """The text cells of a lesson."""
    (path,) = (ROOT / "notebooks").glob(f"{lesson}_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def step(lesson: str) -> str:
    """The name of the lesson's module, as its head links it."""
    found = re.search(r"module\s+\[`rcnn_edu\.(\w+)`\]", notebook(lesson))
    assert found, lesson
    return found[1]


def in_code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def member(owner: Any, name: str) -> Any:
    """What `owner` has by that name; a dataclass's field counts though the class has no value for it."""
    if hasattr(owner, name):
        return getattr(owner, name)
    return getattr(owner, "__annotations__", {}).get(name)


def find(name: str, lesson: str) -> Any:
    """The object of that name in the lesson's module, among its panels, or in the module that the name says."""
    paths = [f"rcnn_edu.{step(lesson)}", f"rcnn_edu.explorers.{step(lesson)}", "rcnn_edu"]
    for path in paths:
        found: Any = importlib.import_module(path)
        for part in name.split("."):
            inside = member(found, part)
            if inside is None and hasattr(found, "__path__"):
                try:
                    inside = importlib.import_module(f"{found.__name__}.{part}")
                except ModuleNotFoundError:
                    inside = None
            found = inside
            if found is None:
                break
        if found is not None:
            return found
    return None


def test_the_lessons_are_there_in_order_under_their_titles() -> None:
    titles = re.findall(r"^## (\d\d · .*)$", PAGE.read_text(), flags=re.MULTILINE)
    assert titles == [notebook(f"{number:02}").splitlines()[0].removeprefix("# ") for number in range(1, 11)]


def test_every_place_is_a_heading_or_an_exercise_of_the_notebook() -> None:
    for row in rows():
        number, _, places = re.sub(r"\[(\d\d)\]\([^)]*\)", r"\1", row.places).partition(", ")
        assert re.fullmatch(r"\d\d", number), row
        headings = re.findall(r"^## (.*)$", notebook(number), flags=re.MULTILINE)
        for place in filter(None, places.split("; ")):
            said = re.sub(r" \([^)]*\)$", "", place)
            if exercise := re.fullmatch(r"exercise (\d)", said):
                assert re.search(rf"^\*\*{exercise[1]}\.\*\*", notebook(number), flags=re.MULTILINE), row
            else:
                assert any(heading == said or heading.startswith(said + ":") for heading in headings), (row, headings)


def test_every_name_exists() -> None:
    for row in rows():
        for name in in_code(row.names):
            assert find(name, row.lesson) is not None, (name, row)
        for link in re.findall(r"\]\(([^)]*)\)", row.names + row.places):
            assert (PAGE.parent / link).is_file(), (link, row)


def test_every_config_field_exists() -> None:
    for row in rows():
        for said in in_code(row.fields):
            class_name, _, field = said.partition(".")
            config = getattr(rcnn_edu.config, class_name)
            assert not field or field in {known.name for known in dataclasses.fields(config)}, (said, row)


def test_a_name_that_is_nowhere_is_not_found() -> None:
    assert find("crop_pool", "08") is not None
    assert find("crop_pools", "08") is None
    assert find("boxes.encode_boxes", "06") is find("encode_boxes", "03")
    assert find("proposal_layer.Proposals.box", "04") is None


def test_every_figure_of_the_article_has_its_counterpart() -> None:
    drawn = [row for row in rows() if "figure" in row.kind]
    for figure in FIGURES:
        (one, *_) = [row for row in drawn if figure.lower() in row.article.lower()] or pytest.fail(figure)
        assert any(name.endswith(("_picture", "_panel")) for name in in_code(one.names)), one


def test_every_panel_is_listed_under_its_lesson() -> None:
    for number in range(1, 11):
        lesson = f"{number:02}"
        listed = {name for row in rows() if row.lesson == lesson for name in in_code(row.names)}
        panels = importlib.import_module(f"rcnn_edu.explorers.{step(lesson)}")
        source = Path(str(panels.__file__)).read_text()
        defined = re.findall(r"^def ([a-z]\w*_(?:panel|picture))\(", source, flags=re.MULTILINE)
        assert defined
        assert set(defined) <= listed, lesson


def test_every_parameter_of_the_article_is_listed() -> None:
    """Those that config.py names beside its values."""
    source = Path(rcnn_edu.config.__file__).read_text()
    names = re.findall(r'"""(?:TRAIN\.|TEST\.)?([A-Z][A-Z_]{4,}|NMS):', source)
    assert len(names) >= 20
    text = PAGE.read_text()
    assert [name for name in names if not re.search(rf"`[\w.]*\b{name}`|`{name}\b", text)] == []
