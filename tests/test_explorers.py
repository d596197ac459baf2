"""The panels of the lessons, each moved to both ends of every control; and the one class that they are made of."""

from __future__ import annotations

import base64
import gc
import importlib
import io
import pkgutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pytest
import torch
from PIL import Image

import rcnn_edu.explorers
from rcnn_edu.draw import OBJECT, draw_boxes, new_figure, to_array
from rcnn_edu.draw.layout import faded, photo_and_plot, photo_row
from rcnn_edu.errors import UserError
from rcnn_edu.explorers.base import PICTURE_LIMIT, Explorer, choice, interval, slider, steps, switch
from rcnn_edu.explorers.photo import running_photo

pytest.importorskip("skimage", reason="the photos come with scikit-image")

ROOT = Path(__file__).parent.parent
LESSONS = sorted(
    module.name for module in pkgutil.iter_modules(rcnn_edu.explorers.__path__) if module.name not in ("base", "photo")
)


@cache
def panels(lesson: str) -> dict[str, Explorer]:
    found: dict[str, Explorer] = importlib.import_module(f"rcnn_edu.explorers.{lesson}").panels()
    return found


def pixels(explorer: Explorer) -> np.ndarray:
    with Image.open(io.BytesIO(explorer.picture)) as image:
        return np.array(image.convert("RGB"))


def ends(control: widgets.Widget) -> list[Any]:
    if isinstance(control, widgets.Checkbox):
        return [not control.value, control.value]
    if isinstance(control, widgets.Dropdown):
        return [value for _, value in control._options_full]
    if isinstance(control, widgets.IntRangeSlider):
        low, high = control.min, control.max
        return [(low, low), (low, high), (high, high)]
    return [control.min, control.max]


@pytest.mark.parametrize("lesson", LESSONS)
def test_both_ends_of_every_control(lesson: str) -> None:
    assert panels(lesson)
    for name, explorer in panels(lesson).items():
        first, said = explorer.picture, explorer.text
        assert explorer.text.strip(), name
        assert pixels(explorer).std() > 5, name
        for control_name, control in explorer.controls.items():
            place = f"{name}: {control_name}"
            default, seen = control.value, set()
            for value in ends(control):
                control.value = value
                assert control.value == value, place
                assert 0 < len(explorer.picture) <= PICTURE_LIMIT, place
                assert pixels(explorer).std() > 5, place
                assert explorer.text.strip(), place
                assert "nan" not in explorer.text.lower().split(), place
                seen.add((explorer.picture, explorer.text))
            control.value = default
            assert len({picture for picture, _ in seen} | {first}) > 1, f"{place} never changes the picture"
            assert len({text for _, text in seen} | {said}) > 1, f"{place} never changes the caption"
            assert (explorer.picture, explorer.text) == (first, said), f"{place} does not come back"


@pytest.mark.parametrize("lesson", LESSONS)
@pytest.mark.parametrize("name", ["cat", "hopper"])
def test_another_photo(lesson: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cat is one object that fills its photo; the other is upright."""
    module = importlib.import_module(f"rcnn_edu.explorers.{lesson}")
    if hasattr(module, "running_photo"):
        monkeypatch.setattr(module, "running_photo", lambda *_, **options: running_photo(name, **options))
        for explorer in module.panels().values():
            assert explorer.text.strip()
            for control in explorer.controls.values():
                default = control.value
                for value in ends(control):
                    control.value = value
                control.value = default


@pytest.mark.parametrize("lesson", LESSONS)
def test_nothing_piles_up(lesson: str) -> None:
    """Moving to and fro keeps no object alive: neither artists nor what refers to them."""
    for name, explorer in panels(lesson).items():
        if not explorer.controls:
            continue
        control = next(iter(explorer.controls.values()))
        there, back = next(value for value in ends(control) if value != control.value), control.value
        gc.collect()
        gc.freeze()  # count only what is new, which is quick
        try:
            alive = []
            for moves in (2, 6):
                for _ in range(moves):
                    control.value = there
                    control.value = back
                gc.collect()
                alive.append(len(gc.get_objects()))
        finally:
            gc.unfreeze()
        assert alive[1] - alive[0] < 6, name


@pytest.mark.parametrize("lesson", LESSONS)
def test_each_panel_is_in_its_notebook(lesson: str) -> None:
    notebooks = [path.read_text() for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    for name in panels(lesson):
        assert sum(f"{name}(" in text for text in notebooks) == 1, name


# The one class


def moving_box(**controls: Any) -> Explorer:
    figure, axes = new_figure(120, 80)
    axes.set(xlim=(0, 120), ylim=(80, 0))

    def draw(left: int = 10, **others: Any) -> str:
        if left == 13:
            raise RuntimeError("<unlucky>")
        draw_boxes(axes, torch.tensor([[left, 10.0, left + 30, 40]]), OBJECT)
        return f"the box starts at {left} & is blue"

    return Explorer(figure, draw, **(controls or {"left": slider("left", 10, 0, 90)}))


def test_a_move_draws_and_says_something_new() -> None:
    explorer = moving_box()
    before = pixels(explorer)
    explorer.controls["left"].value = 50
    after = pixels(explorer)
    assert explorer.text == "the box starts at 50 & is blue"
    assert (before[25, 10] < 120).any()
    assert (before[25, 50] > 200).all()
    assert (after[25, 10] > 200).all()
    assert (after[25, 50] < 120).any()
    assert "&amp; is blue" in explorer.children[-1].value


def test_the_frame_is_what_the_whole_figure_would_be() -> None:
    image = torch.rand(3, 60, 90)
    figure, (axes, other) = photo_row(faded(image), count=2, width=400)
    draw_boxes(other, torch.tensor([[5.0, 5, 80, 50]]), OBJECT)

    def draw(left: int) -> str:
        draw_boxes(axes, torch.tensor([[left, 10.0, left + 30, 40]]), OBJECT, ["box"])
        return "text"

    explorer = Explorer(figure, draw, left=slider("left", 10, 0, 50))
    explorer.controls["left"].value = 20
    whole = to_array(figure).astype(int)
    assert np.abs(pixels(explorer) - whole).mean() < 3  # JPEG


def test_at_moves_and_puts_back() -> None:
    explorer = moving_box()
    picture = explorer.picture
    moved: list[int] = []
    explorer.controls["left"].observe(lambda change: moved.append(change.new), "value")
    assert explorer.at(left=70) == "the box starts at 70 & is blue"
    assert moved == [70, 10]
    assert (explorer.picture, explorer.text) == (picture, "the box starts at 10 & is blue")


def test_at_takes_no_value_and_no_name_that_the_panel_has_not() -> None:
    explorer = moving_box()
    with pytest.raises(ValueError, match="left cannot be 91; it went to 90"):
        explorer.at(left=91)
    with pytest.raises(ValueError, match="no control called right; there are: left"):
        explorer.at(right=3)
    assert explorer.text == "the box starts at 10 & is blue"


def test_what_goes_wrong_is_shown_and_raised() -> None:
    explorer = moving_box()
    with pytest.raises(RuntimeError, match="unlucky"):
        explorer.controls["left"].value = 13
    assert "RuntimeError: &lt;unlucky&gt; (in draw, line" in explorer.children[-1].value
    explorer.controls["left"].value = 14
    assert explorer.children[-1].value.count("the box starts at 14") == 1
    with pytest.raises(RuntimeError, match="unlucky"):
        explorer.at(left=13)
    assert explorer.text == "the box starts at 14 & is blue"


def test_the_stored_output_is_caption_and_picture() -> None:
    explorer = moving_box()
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == explorer.text
    assert base64.b64decode(bundle["image/jpeg"]) == explorer.picture
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert moving_box()._repr_mimebundle_()["image/jpeg"] == bundle["image/jpeg"]


def test_controls() -> None:
    whole, fine = slider("n", 3, 0, 9), slider("x", 0.7, 0.0, 1.0, 0.05)
    assert isinstance(whole, widgets.IntSlider)
    assert isinstance(fine, widgets.FloatSlider)
    assert (fine.step, fine.readout_format, fine.description) == (0.05, ".2f", "x")
    assert whole.continuous_update
    assert fine.continuous_update
    watch = steps("step", 12)
    assert (watch.min, watch.max, watch.play.max) == (0, 12, 12)
    assert watch.play_link.source[0] is watch.play
    explorer = moving_box(left=watch, kind=choice("kind", "a", ["a", "b"]), on=switch("on", True))
    assert explorer.children[0].children == (watch, watch.play)
    assert explorer.at(left=5, kind="b", on=False) == "the box starts at 5 & is blue"


def test_two_numbers_in_one_slider() -> None:
    figure, axes = photo_row(torch.zeros(3, 20, 30), head=0, foot=0)

    def draw(x: tuple[int, int]) -> str:
        draw_boxes(axes[0], torch.tensor([[x[0], 5.0, x[1], 15]]), OBJECT)
        return f"from {x[0]} to {x[1]}"

    explorer = Explorer(figure, draw, x=interval("x1, x2", (5, 9), 0, 30))
    assert explorer.text == "from 5 to 9"
    assert explorer.at(x=(0, 30)) == "from 0 to 30"
    with pytest.raises(ValueError, match=r"x cannot be \(40, 50\); it went to"):
        explorer.at(x=(40, 50))


def test_a_frame_full_of_detail_is_stored_with_less_quality() -> None:
    noise = torch.rand(3, 300, 400, generator=torch.Generator().manual_seed(0))

    def explorer(width: int) -> Explorer:
        figure, _ = photo_row(noise, width=width, head=0, foot=0)
        return Explorer(figure, lambda: "noise")

    assert len(explorer(400).picture) <= PICTURE_LIMIT
    with pytest.raises(ValueError, match="1600x1200 pixels does not fit 150000 bytes; draw it smaller"):
        explorer(1600)


@pytest.mark.parametrize("make", [lambda image: photo_row(image, count=2)[0], lambda image: photo_and_plot(image)[0]])
def test_layouts_fit_the_figure(make: Callable[[Any], Any]) -> None:
    figure = make(torch.rand(3, 60, 90))
    for axes in figure.axes:
        box = axes.get_position()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= 1 + 1e-9
        assert box.y1 <= 1 + 1e-9


# The photo


def test_the_running_photo_at_both_sizes() -> None:
    photo = running_photo()
    assert photo.image.shape == (3, 600, 889)
    assert (photo.image_size, photo.feature_size, photo.scale) == ((600, 889), (38, 56), 1.2)
    torch.testing.assert_close(photo.boxes, photo.original_boxes * 1.2)
    assert photo.labels[0] == "motorbike"


def test_a_photo_of_your_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.png"
    Image.new("RGB", (300, 200), "red").save(path)
    photo = running_photo(path, boxes=[(10, 20, 110, 120)], labels=["dog"])
    assert (photo.name, photo.labels, photo.scale) == ("mine.png", ("dog",), 3.0)
    assert photo.boxes.tolist() == [[30, 60, 330, 360]]
    assert running_photo(str(path), boxes=[(10, 20, 110, 120)]).labels == ("object",)
    with pytest.raises(UserError, match="1 boxes, but 2 labels"):
        running_photo(path, boxes=[(10, 20, 110, 120)], labels=["dog", "cat"])
    with pytest.raises(UserError, match=r"mine.png: the detector finds nothing in it; say what is there: boxes="):
        running_photo(path)
    with pytest.raises(
        UserError, match=r"motorbike: cannot be read \(No such file.*give a photo's path, or one of: mo"
    ):
        running_photo("motorbike")


def test_a_sample_with_boxes_of_your_own() -> None:
    photo = running_photo("motorcycle", boxes=[(0, 0, 50, 50)], labels=["corner"])
    assert photo.original.shape == running_photo().original.shape
    assert (photo.labels, photo.original_boxes.tolist()) == (("corner",), [[0, 0, 50, 50]])


def test_a_photo_of_your_own_is_turned_as_it_was_taken(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise is wanted
    Image.new("RGB", (300, 200), "red").save(tmp_path / "phone.jpg", exif=exif)
    assert running_photo(tmp_path / "phone.jpg", boxes=[(1, 2, 3, 4)]).original.shape == (3, 300, 200)


def test_a_photo_of_your_own_shows_what_the_detector_finds(tmp_path: Path) -> None:
    path = tmp_path / "garage.png"
    Image.fromarray(running_photo().original.permute(1, 2, 0).numpy()).save(path)
    photo = running_photo(path)
    assert "motorbike" in photo.labels
    assert len(photo.boxes) == len(photo.labels)
