"""Every lesson as a reader meets it: in JupyterLab, run from top to bottom, its sliders moved from the keyboard.

RCNN_EDU_SCREENSHOTS names a folder for a picture of each lesson and each panel. The times from a key to the new picture
are printed (pytest -s), never judged: they are the machine's.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_driver import (
    browser_page,
    caption,
    jupyterlab,
    next_caption,
    open_notebook,
    panels,
    press,
    run_all,
    shut_down,
)

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
PRESSES = 12

pytest.importorskip("playwright", reason="the browser tests need Playwright: pip install -e '.[browser]'")
pytest.importorskip("jupyterlab", reason="the browser tests need JupyterLab: pip install -e '.[notebooks]'")
if CHROMIUM is None:
    pytest.skip("the browser tests need Chromium: apt-get install chromium", allow_module_level=True)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """JupyterLab on a copy of the lessons."""
    root, scratch = tmp_path_factory.mktemp("lessons"), tmp_path_factory.mktemp("jupyter")
    for folder in ("notebooks", "docs"):
        shutil.copytree(FOLDER.parent / folder, root / folder)
    settings = json.loads((FOLDER / "jupyterlab.json").read_text())  # those of `make lab`
    with jupyterlab(root, scratch, settings) as found:
        yield found


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with browser_page(str(CHROMIUM)) as found:
        yield found


def photograph(page: Any, name: str, panel: Any = None) -> None:
    """Save a picture of the whole notebook, or of one panel, where screenshots are wanted."""
    if folder := os.environ.get("RCNN_EDU_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (panel or page).screenshot(path=Path(folder) / f"{name}.png")


def photograph_whole(page: Any, name: str) -> None:
    """Save the notebook from its first line to its last."""
    sheet = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer")
    height = sheet.evaluate("sheet => sheet.scrollHeight")
    page.set_viewport_size({"width": 1280, "height": min(height + 120, 16_000)})
    sheet.evaluate("sheet => sheet.scrollTo(0, 0)")
    photograph(page, name, sheet)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_lesson_runs_and_its_sliders_move(notebook: Path, address: str, page: Any) -> None:
    page.errors.clear()
    page.set_viewport_size({"width": 1280, "height": 1100})
    open_notebook(page, address.format(name=f"notebooks/{notebook.name}"))
    assert run_all(page) == []
    page.wait_for_selector(".widget-vbox img.widget-image")
    found = panels(page)
    assert found
    print(f"\n{notebook.stem}")
    for number, panel in enumerate(found, start=1):
        handle = panel.locator(".noUi-handle").first
        handle.scroll_into_view_if_needed()
        image = panel.locator("img.widget-image")
        said, shown = caption(panel), image.get_attribute("src")
        key, back = ("ArrowLeft", "ArrowRight") if at_its_end(panel) else ("ArrowRight", "ArrowLeft")
        times = [press(panel, handle, key)]
        assert next_caption(panel, said) != said
        assert image.get_attribute("src") != shown
        photograph(page, f"{notebook.stem}_panel_{number}_moved", panel)
        times += [press(panel, handle, back if turn % 2 == 0 else key) for turn in range(PRESSES)]
        name = panel.locator(".widget-label").first.inner_text()
        print(f"    panel {number}, {name}: median {statistics.median(times):.0f} ms, slowest {max(times):.0f} ms")
    photograph_whole(page, notebook.stem)
    shut_down(page)
    assert page.outside == []
    assert [error for error in page.errors if "favicon" not in error] == []


def at_its_end(panel: Any) -> bool:
    """Whether the first slider cannot go further right."""
    handle = panel.locator(".noUi-handle").first
    return float(handle.get_attribute("aria-valuenow")) >= float(handle.get_attribute("aria-valuemax"))


def test_the_table_of_lessons_is_in_front_and_opens_them(address: str, page: Any) -> None:
    page.goto(address.format(name="notebooks/README.md"))
    table = page.locator(".jp-MarkdownViewer:not(.lm-mod-hidden) table")
    table.wait_for()
    assert table.locator("a[href*='.ipynb']").count() == 10
    photograph(page, "lessons")
    table.locator("a", has_text="anchor target layer").click()
    page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell")
    assert (
        page.evaluate("() => window.jupyterapp.shell.currentWidget.context.path") == "notebooks/05_anchor_target.ipynb"
    )
