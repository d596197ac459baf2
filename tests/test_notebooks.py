"""What must hold of every notebook as it is stored, since `pytest --nbval` checks only the outputs that are there."""

from __future__ import annotations

import base64
import copy
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
EXAMPLE = FOLDER / "05_anchor_target.ipynb"
CELL_WIDTH = 105  # characters that JupyterLab shows beside its file browser in a window of 1280 pixels

HEADINGS = ("The picture", "Predict before you slide", "The call", "Slide", "The trap", "Exercises", "Check yourself")


def problems(notebook: Any) -> list[str]:
    """What is wrong with a notebook, one line each."""
    found = []
    count = 0
    for cell in notebook.cells:
        if cell.metadata:
            found.append(f"{cell.id} has metadata: {dict(cell.metadata)}")  # tags, with which nbval skips a cell
        if cell.cell_type != "code":
            continue
        count += 1
        place = f"cell [{count}]"
        if cell.execution_count != count:
            found.append(f"{place} has execution count {cell.execution_count}")
        if cell.source.rstrip().endswith(";"):
            found.append(f"{place} ends with a semicolon")
        for word in ("nbval", "pyplot", "%matplotlib", "interact(", "Output("):
            if word in cell.source.lower() or word in cell.source:
                found.append(f"{place} has {word!r}")
        if wide := [line for line in cell.source.splitlines() if len(line) > CELL_WIDTH]:
            found.append(f"{place} is wider than a cell: {wide[0]}")
        if shows_something(cell.source) and not cell.outputs:
            found.append(f"{place} has no output")
        found += [f"{place} {what}" for output in cell.outputs for what in output_problems(output)]
    return found


def shows_something(source: str) -> bool:
    """Whether a cell prints, or ends in an expression: a name or a call on its own."""
    last = source.rstrip().splitlines()[-1] if source.strip() else ""
    return bool(re.search(r"^\s*print\(", source, re.MULTILINE)) or bool(re.fullmatch(r"[\w.]+(\(.*\))?", last))


def output_problems(output: Any) -> list[str]:
    """What is wrong with one output."""
    kind = output.output_type
    if kind == "error":
        return [f"failed: {output.ename}"]
    if kind == "stream":
        return [f"writes to {output.name}"] if output.name != "stdout" else []
    found = []
    text = output.data.get("text/plain", "")
    if widget := [mime for mime in output.data if "widget" in mime]:
        found.append(f"has a widget's id: {widget[0]}")
    if len(text) < 20 or re.match(r"<|\w+\(", text):
        found.append(f"has no caption: {text[:40]!r}")
    for mime, data in output.data.items():
        if mime.startswith("image/") and len(base64.b64decode(data)) > 150_000:
            found.append("has a picture over 150 kB")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_as_it_ran(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert problems(notebook) == []
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert "version" not in notebook.metadata.language_info
    assert path.stat().st_size <= 1_000_000
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_lesson_has_its_parts(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert text.startswith(f"# {path.stem[:2]} · ")
    for heading in HEADINGS:
        assert any(line.startswith(heading) for line in headings), heading
    assert len(re.findall("<details><summary>", text)) == 5
    assert text.count("</details>") == 5
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert 'running_photo("motorcycle"' in code
    assert "torch.set_num_threads(1)" in code
    assert 2 <= len(re.findall(r"^\w+\.\w+\.check\(my_\w+\)$", code, flags=re.MULTILINE)) <= 3
    assert code.count("# your code") == code.count(".check(")
    pictures = [output for cell in notebook.cells for output in cell.get("outputs", ()) if "image/jpeg" in str(output)]
    assert len(pictures) >= 2


def test_all_together_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) <= 8_000_000


def test_the_table_of_lessons_has_them_all() -> None:
    linked = re.findall(r"\]\((\d\d_\w+\.ipynb)\)", (FOLDER / "README.md").read_text())
    assert linked == [path.name for path in NOTEBOOKS]
    assert [name[:2] for name in linked] == [f"{number:02}" for number in range(1, 11)]


PAGES = [
    *NOTEBOOKS,
    FOLDER / "README.md",
    ROOT / "docs" / "article-map.md",
    *sorted((ROOT / "docs" / "solutions").iterdir()),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    if page.suffix == ".ipynb":
        text = "\n".join(cell.source for cell in nbformat.reads(text, 4).cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    missing = [link for link in links if "://" not in link and not (page.parent / link.split("#")[0]).exists()]
    assert missing == []


def spoil(change: Callable[[Any], object]) -> list[str]:
    notebook = copy.deepcopy(nbformat.read(EXAMPLE, as_version=4))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    change(code)
    return problems(notebook)


def test_the_rules_hold_for_the_example() -> None:
    assert spoil(lambda code: None) == []


def _stderr(code: Any) -> None:
    code[0].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="careful"))


def _error(code: Any) -> None:
    code[0].outputs.append(nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[]))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda code: code[1].outputs.clear(), "cell [2] has no output"),
        (lambda code: code[0].outputs.clear(), "cell [1] has no output"),
        (lambda code: code[2].update(execution_count=9), "cell [3] has execution count 9"),
        (lambda code: code[2].update(execution_count=None), "cell [3] has execution count None"),
        (lambda code: code[1].update(source=code[1].source + ";"), "cell [2] ends with a semicolon"),
        (lambda code: code[0].update(source=code[0].source + "  # " + 90 * "!"), "cell [1] is wider than a cell"),
        (lambda code: code[1].update(source="# NBVAL_SKIP\n" + code[1].source), "cell [2] has 'nbval'"),
        (lambda code: code[1].metadata.update(tags=["nbval-skip"]), "has metadata: {'tags': ['nbval-skip']}"),
        (lambda code: code[1].outputs[0].data.update({"application/vnd.jupyter.widget-view+json": {}}), "widget's id"),
        (lambda code: code[1].outputs[0].data.update({"text/plain": "Explorer(children=())"}), "has no caption"),
        (lambda code: code[1].outputs[0].data.update({"text/plain": ""}), "has no caption"),
        (lambda code: code[1].outputs[0].data.update({"image/jpeg": "A" * 200_004}), "has a picture over 150 kB"),
        (_stderr, "cell [1] writes to stderr"),
        (_error, "cell [1] failed: ValueError"),
    ],
)
def test_the_rules_find(change: Callable[[Any], object], problem: str) -> None:
    (found,) = spoil(change)
    assert problem in found


# The programs, on small notebooks: these start kernels.

CELLS = """
from rcnn_edu.draw import new_figure
from rcnn_edu.explorers.base import Explorer, slider
figure, axes = new_figure(120, 80)
axes.set(xlim=(0, 9), ylim=(0, 9))
def draw(n):
    axes.plot([0, n], [0, n], scalex=False, scaley=False)
    return f"a line of length {n} towards the upper right"
Explorer(figure, draw, n=slider("n", 3, 1, 9))
"""


def small_notebook(path: Path, *extra: str) -> Path:
    notebook = nbformat.v4.new_notebook()
    prints = "for n in range(3000):\n    print(n)\nprint('text to print')"
    notebook.cells = [nbformat.v4.new_code_cell(source.strip()) for source in (CELLS, prints, *extra)]
    nbformat.write(notebook, path)
    return path


def run(*command: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300
    )


def nbval(path: Path) -> str:
    return run("-m", "pytest", "--nbval", path, "-c", ROOT / "setup.cfg", "-p", "no:cacheprovider", "-q").stdout


def test_execute_stores_the_same_bytes_twice(tmp_path: Path) -> None:
    path, again = small_notebook(tmp_path / "small.ipynb"), small_notebook(tmp_path / "again.ipynb")
    result = run(FOLDER / "execute.py", path, again)
    assert result.returncode == 0, result.stderr
    assert path.read_bytes() == again.read_bytes()
    notebook = nbformat.read(path, as_version=4)
    assert problems(notebook) == []
    assert notebook.cells[0].outputs[0].data["text/plain"] == "a line of length 3 towards the upper right"


@pytest.mark.parametrize(
    ("source", "message"),
    [("1 / 0", "ZeroDivisionError"), ("import warnings; warnings.warn('old')", "writes to stderr")],
)
def test_execute_leaves_a_notebook_that_fails(tmp_path: Path, source: str, message: str) -> None:
    path = small_notebook(tmp_path / "small.ipynb", source)
    before = path.read_bytes()
    result = run(FOLDER / "execute.py", path)
    assert result.returncode == 1
    assert message in result.stderr
    assert path.read_bytes() == before


def test_a_changed_number_in_a_caption_fails(tmp_path: Path) -> None:
    path = tmp_path / EXAMPLE.name
    shutil.copy(EXAMPLE, path)
    notebook = nbformat.read(path, as_version=4)
    captions = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "image/jpeg" in output.get("data", {}):
                caption = output.data["text/plain"]
                output.data["text/plain"] = re.sub(r"\d(?=\D*$)", lambda digit: str((int(digit[0]) + 1) % 10), caption)
                assert output.data["text/plain"] != caption
                captions += 1
    nbformat.write(notebook, path)
    said = nbval(path)
    assert f"{captions} failed" in said, said[-2000:]
