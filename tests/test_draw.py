"""What the pictures show: colours where boxes are, labels inside and apart, limits left alone, no pyplot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from PIL import Image

from rcnn_edu import draw
from rcnn_edu.draw import (
    BACKGROUND,
    DONT_CARE,
    FOREGROUND,
    KEPT,
    OBJECT,
    PROPOSAL,
    detection_grid,
    draw_boxes,
    draw_detections,
    draw_image,
    draw_labelled_anchors,
    new_figure,
    plot_losses,
    to_array,
    to_png,
)
from rcnn_edu.draw.label_tags import tag_extent


def rgb(color: str) -> np.ndarray:
    return np.round(np.array(to_rgb(color)) * 255).astype(np.uint8)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def shows(pixels: np.ndarray, color: str) -> np.ndarray:
    """(H, W) whether each pixel has this colour, to within rounding."""
    there: np.ndarray = (np.abs(pixels.astype(int) - rgb(color)) <= 1).all(axis=2)
    return there


def canvas(width: int = 200, height: int = 150) -> Any:
    figure, axes = new_figure(width, height)
    draw_image(axes, torch.full((3, height, width), 255, dtype=torch.uint8))
    return figure, axes


def tags(axes: Axes) -> np.ndarray:
    return np.array([tag_extent(text) for text in axes.texts]).reshape(-1, 4)


# --- figures and images --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height", "dpi"), [(741, 500, 100), (29, 113, 100), (640, 57, 133.7), (90, 90, 72)])
def test_a_photo_is_drawn_pixel_for_pixel(width: int, height: int, dpi: float) -> None:
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    figure, axes = new_figure(width, height, dpi)
    draw_image(axes, image)
    np.testing.assert_array_equal(to_array(figure), image.permute(1, 2, 0).numpy())


def test_float_images_and_arrays_are_the_same_picture() -> None:
    image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pictures = []
    for form in (image, image.float() / 255, image.double().numpy() / 255, image.numpy()):
        figure, axes = new_figure(30, 20)
        draw_image(axes, form)
        pictures.append(to_array(figure))
    for picture in pictures[1:]:
        np.testing.assert_array_equal(picture, pictures[0])


def test_limits_are_the_images_pixels() -> None:
    _, axes = canvas(200, 150)
    assert axes.get_xlim() == (0, 200)
    assert axes.get_ylim() == (150, 0)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (1, 20, 30)])
def test_image_of_another_shape(shape: tuple[int, ...]) -> None:
    _, axes = new_figure(30, 20)
    with pytest.raises(ValueError, match="must be \\(3, H, W\\)"):
        draw_image(axes, torch.zeros(shape))


def test_png_file_holds_the_same_pixels(tmp_path: Path) -> None:
    figure, axes = canvas()
    draw_boxes(axes, torch.tensor([[20.0, 30, 120, 100]]), OBJECT, ["cat"])
    to_png(figure, tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), to_array(figure))


# --- boxes ---------------------------------------------------------------------------------------------------------


def test_a_box_is_drawn_on_its_edges_and_nowhere_else() -> None:
    figure, axes = canvas()
    draw_boxes(axes, torch.tensor([[20.0, 30, 120, 100]]), OBJECT)
    there = shows(to_array(figure), OBJECT)
    for x, y in [(70, 30), (70, 99), (20, 65), (119, 65)]:
        assert there[y - 1 : y + 2, x - 1 : x + 2].any(), (x, y)
    assert not there[40:90, 30:110].any()  # inside
    assert not there[:, 125:].any()
    assert not there[:26].any()


@pytest.mark.parametrize("as_array", [False, True])
def test_no_boxes(as_array: bool) -> None:
    figure, axes = canvas()
    before = to_array(figure)
    for empty in (torch.zeros(0, 4), torch.zeros(0)):
        draw_boxes(axes, empty.numpy() if as_array else empty, OBJECT, [])
    np.testing.assert_array_equal(to_array(figure), before)


def test_labels_must_be_as_many_as_boxes() -> None:
    _, axes = canvas()
    with pytest.raises(ValueError, match="1 labels for 2 boxes"):
        draw_boxes(axes, torch.zeros(2, 4), OBJECT, ["cat"])


def test_boxes_do_not_change_the_limits() -> None:
    _, axes = canvas()
    outside = torch.tensor([[-500.0, -500, 900, 900], [300, 300, 400, 400]])
    draw_boxes(axes, outside, PROPOSAL, ["a", "b"])
    draw_labelled_anchors(axes, outside, torch.tensor([1, -1]))
    assert axes.get_xlim() == (0, 200)
    assert axes.get_ylim() == (150, 0)
    bare = new_figure(50, 50)[1]
    draw_boxes(bare, outside, PROPOSAL, ["a", "b"])
    assert bare.get_xlim() == bare.get_ylim() == (0, 1)


CORNERS = [[0.0, 0, 30, 20], [170, 0, 200, 20], [0, 130, 30, 150], [170, 130, 200, 150], [0, 0, 200, 150]]


@pytest.mark.parametrize("box", [*CORNERS, [-40, -40, 10, 10], [190, 140, 260, 260], [90, 0, 92, 2], [10, 60, 190, 62]])
def test_labels_stay_inside_the_picture(box: list[float]) -> None:
    _, axes = canvas()
    draw_boxes(axes, torch.tensor([box]), KEPT, ["motorbike 0.97"])
    (left, bottom, right, top) = tags(axes)[0]
    assert left >= -0.5
    assert bottom >= -0.5
    assert right <= 200.5
    assert top <= 150.5


def test_a_label_touches_its_box_when_there_is_room() -> None:
    _, axes = canvas()
    draw_boxes(axes, torch.tensor([[60.0, 60, 160, 100]]), KEPT, ["cat"])
    left, bottom, _, _ = tags(axes)[0]
    assert (left, bottom) == pytest.approx((60, 150 - 60), abs=1)  # on the upper edge; the canvas counts y upwards


@pytest.mark.parametrize("separately", [False, True])
def test_labels_of_coinciding_boxes_do_not_cover_each_other(separately: bool) -> None:
    _, axes = canvas(300, 250)
    boxes = torch.tensor([[60.0, 60, 200, 180]]) + torch.arange(6)[:, None]
    names = [f"person 0.{n}" for n in range(6)]
    for part in range(6) if separately else [slice(None)]:
        draw_boxes(axes, boxes[part], KEPT, names[part] if isinstance(part, slice) else [names[part]])
    extents = tags(axes)
    sides = np.minimum(extents[:, None, 2:], extents[:, 2:]) - np.maximum(extents[:, None, :2], extents[:, :2])
    shared = sides.clip(min=0).prod(axis=2)
    assert np.allclose(shared[~np.eye(6, dtype=bool)], 0, atol=1)


def test_labels_are_written_as_they_are() -> None:
    figure, axes = canvas()
    draw_boxes(axes, torch.tensor([[20.0, 30, 120, 100]] * 2), KEPT, ["$x_1$ & {", ""])
    to_array(figure)
    assert [text.get_text() for text in axes.texts] == ["$x_1$ & {", ""]


@pytest.mark.parametrize("color", [OBJECT, FOREGROUND, BACKGROUND, DONT_CARE, PROPOSAL, KEPT])
def test_ink_contrasts_with_its_patch(color: str) -> None:
    _, axes = canvas()
    draw_boxes(axes, torch.tensor([[20.0, 30, 120, 100]]), color, ["cat"])
    light = [float((np.array(to_rgb(c)) ** 2.2) @ (0.2126, 0.7152, 0.0722)) for c in (axes.texts[0].get_color(), color)]
    assert (max(light) + 0.05) / (min(light) + 0.05) > 3  # WCAG: readable when bold or large


def test_colours_are_the_agreed_ones() -> None:
    names = ("OBJECT", "FOREGROUND", "BACKGROUND", "DONT_CARE", "PROPOSAL", "KEPT")
    agreed = ["#0072B2", "#009E73", "#D55E00", "#999999", "#CC79A7", "#E69F00"]
    assert [getattr(draw, name) for name in names] == agreed


# --- anchors -------------------------------------------------------------------------------------------------------


def test_foreground_anchors_lie_on_top_in_green() -> None:
    figure, axes = canvas()
    same = torch.tensor([[20.0, 30, 120, 100]]).expand(3, 4)
    draw_labelled_anchors(axes, same, torch.tensor([1, 0, -1]))
    pixels = to_array(figure)
    assert shows(pixels, FOREGROUND).sum() > 300
    assert shows(pixels, FOREGROUND)[65, 70]  # the dot at the centre


def test_thousands_of_anchors_leave_the_photo_visible() -> None:
    random = torch.rand(8000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([200.0, 150.0])
    anchors = torch.cat([random - 30, random + 30], dim=1)
    for labels in (torch.full((8000,), -1), torch.zeros(8000)):
        figure, axes = canvas()
        draw_labelled_anchors(axes, anchors, labels)
        darkening = 255 - to_array(figure).astype(float).mean()
        assert 1 < darkening < 70


def test_no_anchors_and_wrong_counts() -> None:
    figure, axes = canvas()
    before = to_array(figure)
    draw_labelled_anchors(axes, torch.zeros(0, 4), torch.zeros(0))
    np.testing.assert_array_equal(to_array(figure), before)
    with pytest.raises(ValueError, match="1 labels for 2 anchors"):
        draw_labelled_anchors(axes, torch.zeros(2, 4), torch.zeros(1))


# --- detections ----------------------------------------------------------------------------------------------------

IMAGE = torch.full((3, 150, 200), 255, dtype=torch.uint8)
FOUND = {
    "boxes": torch.tensor([[20.0, 30, 90, 100], [110, 30, 180, 100], [20, 110, 40, 140]]),
    "labels": torch.tensor([2, 1, 1]),
    "scores": torch.tensor([0.95, 0.5, 0.49]),
}
TRUTH = {"boxes": torch.tensor([[22.0, 30, 92, 100], [112, 32, 180, 100]]), "labels": torch.tensor([2, 2])}


def test_detections_are_named_with_their_scores_from_the_threshold_on() -> None:
    _, axes = new_figure(200, 150)
    draw_detections(axes, IMAGE, FOUND, ["cat", "dog"])
    assert [text.get_text() for text in axes.texts] == ["dog 0.95", "cat 0.50"]
    _, axes = new_figure(200, 150)
    draw_detections(axes, IMAGE, FOUND, ["cat", "dog"], score_threshold=0.9)
    assert [text.get_text() for text in axes.texts] == ["dog 0.95"]


def test_only_missed_objects_are_named() -> None:
    figure, axes = new_figure(200, 150)
    draw_detections(axes, IMAGE, FOUND, ["cat", "dog"], TRUTH)
    assert [text.get_text() for text in axes.texts] == ["dog 0.95", "cat 0.50", "dog"]  # the second is no cat
    pixels = to_array(figure)
    assert shows(pixels, OBJECT).any()
    assert shows(pixels, KEPT).any()


def test_detections_of_nothing() -> None:
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    for targets in (None, nothing):
        figure, axes = new_figure(200, 150)
        draw_detections(axes, IMAGE, nothing, ["cat"], targets)
        assert (to_array(figure) == 255).all()
    _, axes = new_figure(200, 150)
    draw_detections(axes, IMAGE, nothing, ["cat", "dog"], TRUTH)
    assert [text.get_text() for text in axes.texts] == ["dog", "dog"]


@pytest.mark.parametrize(("count", "columns", "size"), [(5, 4, (1440, 594)), (1, 4, (360, 338)), (3, 2, (720, 594))])
def test_grid(tmp_path: Path, count: int, columns: int, size: tuple[int, int]) -> None:
    items = [(IMAGE, FOUND, TRUTH if n % 2 == 0 else None) for n in range(count)]
    detection_grid(items, ["cat", "dog"], tmp_path / "grid.png", columns=columns)
    pixels = read(tmp_path / "grid.png")
    assert pixels.shape == (size[1], size[0], 3)
    for index in range(count):
        top, left = index // min(columns, count) * 280, index % min(columns, count) * 360
        cell = pixels[top : top + 280, left : left + 360]
        assert shows(cell, KEPT).any(), index
        assert shows(cell, OBJECT).any() == (index % 2 == 0), index


def test_grid_of_nothing(tmp_path: Path) -> None:
    detection_grid([], ["cat"], tmp_path / "grid.png")
    assert (tmp_path / "grid.png").exists()


# --- curves --------------------------------------------------------------------------------------------------------


def records(steps: int, decay: float = 100.0) -> list[dict[str, Any]]:
    names = ("rpn_classification", "rpn_regression", "classification", "regression")
    return [
        {"step": n, **{name: np.exp(-n / decay) + 0.01 * i for i, name in enumerate(names)}, "total": 1.0, "lr": 0.01}
        for n in range(1, steps + 1)
    ]


def test_losses_with_and_without_evaluations(tmp_path: Path) -> None:
    plot_losses(records(300), tmp_path / "one.png")
    evaluation = {"step": 300, "map_area": 0.5, "map_11point": 0.49}
    plot_losses([*records(300), evaluation], tmp_path / "two.png")
    assert read(tmp_path / "two.png").shape[1] > 1.5 * read(tmp_path / "one.png").shape[1]  # a second panel
    for color in ("#0072B2", "#56B4E9", "#D55E00", "#E69F00"):
        assert shows(read(tmp_path / "one.png"), color).sum() > 100


@pytest.mark.parametrize(
    "lines",
    [
        [],
        records(1),
        records(2),
        [{"step": 5, "map_area": None, "map_11point": None}],
        [*records(3), {"step": 3, "map_area": 0.1, "map_11point": float("nan")}],
        [{"step": 1, "classification": float("inf"), "regression": float("nan"), "rpn_regression": 0.0}],
        [*records(9), *records(5)],
    ],
    ids=["none", "one", "two", "no class has objects", "half an evaluation", "not finite", "steps repeated"],
)
def test_losses_of_odd_runs(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    plot_losses(lines, tmp_path / "losses.png")
    assert read(tmp_path / "losses.png").shape[1] >= 700


def test_no_figure_is_left_with_pyplot(tmp_path: Path) -> None:
    figure, axes = canvas()
    draw_boxes(axes, torch.ones(1, 4), OBJECT, ["a"])
    to_array(figure)
    plot_losses(records(3), tmp_path / "losses.png")
    detection_grid([(IMAGE, FOUND, None)], ["cat", "dog"], tmp_path / "grid.png")
    assert pyplot.get_fignums() == []
