"""Average precision, against the devkit's own logic, hand-worked numbers and two COCO libraries."""

from __future__ import annotations

import logging
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnn_edu.errors import UserError
from rcnn_edu.metrics import COCOResult, VOCResult, coco_ap, format_table, voc_ap

Dicts = list[dict[str, Any]]


# --- the devkit, statement by statement --------------------------------------------------------------------------


def devkit_class(detections: Dicts, targets: Dicts, label: int, minimum: float) -> tuple[float, float]:
    """VOCevaldet.m and VOCap.m for one class, as loops (without its "+1", for our boxes are half-open)."""
    npos = 0
    gt: list[dict[str, list[Any]]] = []
    for target in targets:
        here: dict[str, list[Any]] = {"BB": [], "diff": [], "det": []}
        difficult = target.get("difficult", [False] * len(target["labels"]))
        for box, its_label, diff in zip(target["boxes"], target["labels"], difficult, strict=True):
            if int(its_label) == label:
                here["BB"].append([float(v) for v in box])
                here["diff"].append(bool(diff))
                here["det"].append(False)
                npos += not diff
        gt.append(here)

    ids, confidence, bb = [], [], []
    for image, found in enumerate(detections):
        for box, its_label, score in zip(found["boxes"], found["labels"], found["scores"], strict=True):
            if int(its_label) == label:
                ids.append(image)
                confidence.append(float(score))
                bb.append([float(v) for v in box])
    order = sorted(range(len(ids)), key=lambda d: -confidence[d])  # stable, like MATLAB's sort

    tp, fp = [0] * len(ids), [0] * len(ids)
    for d, det in enumerate(order):
        here, b = gt[ids[det]], bb[det]
        ovmax, jmax = -math.inf, -1
        for j, g in enumerate(here["BB"]):
            iw = min(b[2], g[2]) - max(b[0], g[0])
            ih = min(b[3], g[3]) - max(b[1], g[1])
            if iw > 0 and ih > 0:
                ua = (b[2] - b[0]) * (b[3] - b[1]) + (g[2] - g[0]) * (g[3] - g[1]) - iw * ih
                if iw * ih / ua > ovmax:
                    ovmax, jmax = iw * ih / ua, j
        if ovmax >= minimum:
            if not here["diff"][jmax]:
                if not here["det"][jmax]:
                    tp[d] = 1
                    here["det"][jmax] = True
                else:
                    fp[d] = 1
        else:
            fp[d] = 1

    if npos == 0:
        return math.nan, math.nan
    rec, prec = [], []
    for d in range(len(ids)):
        true, false = sum(tp[: d + 1]), sum(fp[: d + 1])
        rec.append(true / npos)
        prec.append(true / (true + false) if true + false else -math.inf)  # MATLAB's max skips 0/0
    eleven = 0.0
    for t in np.arange(0.0, 1.1, 0.1):
        eleven += max((p for p, r in zip(prec, rec, strict=True) if r >= t), default=0.0) / 11

    mrec, mpre = [0.0, *rec, 1.0], [0.0, *prec, 0.0]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    area = sum((mrec[i + 1] - mrec[i]) * mpre[i + 1] for i in range(len(mrec) - 1) if mrec[i + 1] != mrec[i])
    return area, max(eleven, 0.0)


def assert_equals_devkit(detections: Dicts, targets: Dicts, num_classes: int, threshold: float) -> VOCResult:
    result = voc_ap(detections, targets, num_classes, threshold)
    expected = [devkit_class(detections, targets, label, threshold) for label in range(1, num_classes)]
    areas, elevens = zip(*expected, strict=True)
    np.testing.assert_allclose(result.ap_area, areas, atol=1e-9)
    np.testing.assert_allclose(result.ap_11point, elevens, atol=1e-9)
    known = [area for area in areas if not math.isnan(area)]
    assert math.isnan(result.map_area) if not known else result.map_area == pytest.approx(sum(known) / len(known))
    return result


# --- cases ---------------------------------------------------------------------------------------------------------


def boxes_on_a_lattice(rng: np.random.Generator, count: int) -> np.ndarray:
    """Coarse whole numbers: equal IoUs, duplicates and IoU of exactly one half are common."""
    corner = rng.integers(0, 4, (count, 2)) * 5
    return np.hstack([corner, corner + rng.integers(1, 4, (count, 2)) * 5]).astype(np.float32)


def random_case(seed: int, images: int = 8, num_classes: int = 4) -> tuple[Dicts, Dicts]:
    rng = np.random.default_rng(seed)
    detections, targets = [], []
    for _ in range(images):
        g, d = int(rng.integers(0, 6)), int(rng.integers(0, 12))
        truth = boxes_on_a_lattice(rng, g)
        found = boxes_on_a_lattice(rng, d)
        copies = rng.random(d) < 0.6 if g else np.zeros(d, dtype=bool)
        found[copies] = truth[rng.integers(0, max(g, 1), copies.sum())]
        targets.append(
            {
                "boxes": torch.from_numpy(truth),
                "labels": torch.from_numpy(rng.integers(1, num_classes - seed % 2, g)),
                "difficult": torch.from_numpy(rng.random(g) < 0.3),
            }
        )
        detections.append(
            {
                "boxes": torch.from_numpy(found),
                "labels": torch.from_numpy(rng.integers(1, num_classes, d)),
                "scores": torch.from_numpy(np.round(rng.random(d), 1).astype(np.float32)),  # many ties
            }
        )
    return detections, targets


def image(boxes: list[list[float]], labels: list[int], **more: list[Any]) -> dict[str, Any]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        **{key: torch.tensor(value) for key, value in more.items()},
    }


A, B, FAR = [0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0], [50.0, 50.0, 60.0, 60.0]


# --- VOC AP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(150))
def test_equals_the_devkit_on_random_cases(seed: int) -> None:
    detections, targets = random_case(seed)
    result = assert_equals_devkit(detections, targets, 4, (0.3, 0.5, 0.75)[seed % 3])
    assert result.num_detections.sum() == sum(len(found["boxes"]) for found in detections)


coordinates = st.integers(0, 6).map(float)
box = st.tuples(coordinates, coordinates, st.integers(1, 4), st.integers(1, 4)).map(
    lambda t: [t[0], t[1], t[0] + t[2], t[1] + t[3]]
)
detected = st.lists(st.tuples(box, st.integers(1, 2), st.sampled_from([0.1, 0.5, 0.5001, 0.9])), max_size=7)
objects = st.lists(st.tuples(box, st.integers(1, 2), st.booleans()), max_size=5)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(detected, objects), max_size=4), st.sampled_from([0.25, 0.5, 1.0]))
def test_equals_the_devkit_on_any_case(case: list[tuple[list[Any], list[Any]]], threshold: float) -> None:
    detections = [image([d[0] for d in ds], [d[1] for d in ds], scores=[d[2] for d in ds]) for ds, _ in case]
    targets = [image([g[0] for g in gs], [g[1] for g in gs], difficult=[g[2] for g in gs]) for _, gs in case]
    assert_equals_devkit(detections, targets, 3, threshold)


def test_hand_worked() -> None:
    # Objects A, B in image 0 and A in image 1: three to find. By falling score:
    #   0.9 A in image 0  true          precision 1/1  recall 1/3
    #   0.8 A in image 0  duplicate               1/2         1/3
    #   0.7 far off       false                   1/3         1/3
    #   0.6 A in image 1  true                    2/4         2/3
    # Envelope: 1 up to recall 1/3, 1/2 up to 2/3, 0 beyond. Area 1/3 · 1 + 1/3 · 1/2 = 1/2.
    # Eleven points: 0, .1, .2, .3 have 1; .4, .5, .6 have 1/2; the rest 0: (4 + 3/2) / 11 = 1/2.
    detections = [
        image([A, A, FAR], [1, 1, 1], scores=[0.9, 0.8, 0.7]),
        image([A], [1], scores=[0.6]),
    ]
    result = voc_ap(detections, [image([A, B], [1, 1]), image([A], [1])], num_classes=2)
    np.testing.assert_allclose(result.precision[0], [1, 1 / 2, 1 / 3, 1 / 2])
    np.testing.assert_allclose(result.recall[0], [1 / 3, 1 / 3, 1 / 3, 2 / 3])
    assert result.ap_area[0] == pytest.approx(1 / 2)
    assert result.ap_11point[0] == pytest.approx(5.5 / 11)
    assert (result.num_objects[0], result.num_detections[0]) == (3, 4)


def test_detections_of_difficult_objects_are_ignored_however_many() -> None:
    # Only B is to be found. A is difficult: its two detections count neither way. B at once: precision 1, recall 1.
    detections = [image([A, A, B], [1, 1, 1], scores=[0.9, 0.8, 0.7])]
    result = voc_ap(detections, [image([A, B], [1, 1], difficult=[True, False])], num_classes=2)
    assert result.ap_area[0] == 1.0
    assert result.num_objects[0] == 1
    assert result.num_detections[0] == 3
    np.testing.assert_array_equal(result.precision[0], [1.0])


def test_a_difficult_object_wins_the_detection_that_it_overlaps_most() -> None:
    # IoU with the difficult object is 1, with the other 80/120: the detection is ignored, the other stays missed.
    targets = [image([[2, 0, 12, 10], A], [1, 1], difficult=[False, True])]
    result = voc_ap([image([A], [1], scores=[0.9])], targets, num_classes=2)
    assert result.ap_area[0] == 0.0
    assert len(result.precision[0]) == 0


def test_duplicate_does_not_fall_back_to_the_second_best_object() -> None:
    # Both detections overlap A most; the second is a duplicate even though [1, 0, 11, 10] has IoU 90/110 with it.
    targets = [image([A, [1, 0, 11, 10]], [1, 1])]
    result = voc_ap([image([A, A], [1, 1], scores=[0.9, 0.8])], targets, num_classes=2)
    assert result.ap_area[0] == pytest.approx(0.5)
    np.testing.assert_allclose(result.precision[0], [1.0, 0.5])


def test_overlap_of_exactly_the_threshold_counts() -> None:
    half = [0.0, 0.0, 10.0, 5.0]  # 50 / 100
    found = [image([half], [1], scores=[0.9])]
    assert voc_ap(found, [image([A], [1])], 2, iou_threshold=0.5).ap_area[0] == 1.0
    assert voc_ap(found, [image([A], [1])], 2, iou_threshold=0.5000001).ap_area[0] == 0.0


def test_eleven_points_take_the_published_rounding() -> None:
    # Three of ten: recall 0.3 is below 3 · 0.1 = 0.30000000000000004, so recall 0, .1 and .2 have precision 1.
    row = [[20.0 * n, 0.0, 20.0 * n + 10, 10.0] for n in range(10)]
    result = voc_ap([image(row[:3], [1] * 3, scores=[0.9, 0.8, 0.7])], [image(row, [1] * 10)], 2)
    assert result.ap_11point[0] == pytest.approx(3 / 11)
    assert result.ap_area[0] == pytest.approx(0.3)


def test_classes_without_objects_are_left_out_of_the_mean() -> None:
    # Class 1 is perfect, class 2 has a false alarm and no object, class 3 nothing, class 4 one difficult object.
    detections = [image([A, FAR], [1, 2], scores=[0.9, 0.9])]
    result = voc_ap(detections, [image([A, B], [1, 4], difficult=[False, True])], num_classes=5)
    np.testing.assert_array_equal(np.isnan(result.ap_area), [False, True, True, True])
    np.testing.assert_array_equal(np.isnan(result.ap_11point), [False, True, True, True])
    assert result.map_area == result.map_11point == 1.0
    np.testing.assert_array_equal(result.num_objects, [1, 0, 0, 0])
    np.testing.assert_array_equal(result.num_detections, [1, 1, 0, 0])


@pytest.mark.parametrize("images", [0, 3])
def test_nothing_at_all(images: int) -> None:
    result = voc_ap([image([], [], scores=[])] * images, [image([], [])] * images, num_classes=3)
    assert math.isnan(result.map_area)
    assert math.isnan(result.map_11point)
    np.testing.assert_array_equal(result.num_objects, [0, 0])


def test_boxes_without_area_never_match() -> None:
    flat, inverted = [5.0, 5.0, 5.0, 5.0], [10.0, 10.0, 0.0, 0.0]
    result = voc_ap([image([flat, inverted], [1, 1], scores=[0.9, 0.8])], [image([A, flat], [1, 1])], 2)
    np.testing.assert_array_equal(result.precision[0], [0.0, 0.0])


def test_numpy_lists_half_precision_and_gradients_are_welcome() -> None:
    detections, targets = random_case(3)
    expected = voc_ap(detections, targets, 4)
    as_numpy = [{key: value.numpy() for key, value in each.items()} for each in detections]
    as_lists = [{key: value.tolist() for key, value in each.items()} for each in targets]
    np.testing.assert_array_equal(voc_ap(as_numpy, as_lists, 4).ap_area, expected.ap_area)
    mixed = [as_numpy[0], *detections[1:]]
    np.testing.assert_array_equal(voc_ap(mixed, targets, 4).ap_area, expected.ap_area)
    trained = [{**each, "scores": each["scores"].clone().requires_grad_()} for each in detections]
    np.testing.assert_array_equal(voc_ap(trained, targets, 4).ap_area, expected.ap_area)
    half = [{**each, "boxes": each["boxes"].bfloat16()} for each in detections]  # whole numbers: nothing is lost
    np.testing.assert_array_equal(voc_ap(half, targets, 4).ap_area, expected.ap_area)


def test_inputs_are_not_changed() -> None:
    detections, targets = random_case(5)
    before = [{key: value.clone() for key, value in each.items()} for each in detections + targets]
    voc_ap(detections, targets, 4)
    for each, old in zip(detections + targets, before, strict=True):
        assert all(torch.equal(each[key], old[key]) for key in old)


GOOD = {"boxes": [A], "labels": [1]}


@pytest.mark.parametrize("measure", [voc_ap, coco_ap])
@pytest.mark.parametrize(
    ("found", "truth", "message"),
    [
        ([], [GOOD], "detections of 0 images, but targets of 1"),
        ([{**GOOD, "scores": [0.5], "labels": [3]}], [GOOD], r"detections of image 0: 'labels' holds 3.* in 1..2"),
        ([{**GOOD, "scores": [0.5], "labels": [0]}], [GOOD], r"detections of image 0: 'labels' holds 0.* in 1..2"),
        ([{**GOOD, "scores": [math.nan]}], [GOOD], "detections of image 0: 'scores' holds nan"),
        ([{**GOOD, "scores": [0.5], "boxes": [[0, 0, math.inf, 1]]}], [GOOD], r"image 0: 'boxes' holds .*inf"),
        ([{**GOOD, "scores": [0.5]}], [{**GOOD, "labels": [-1]}], r"targets of image 0: 'labels' holds -1"),
        ([{**GOOD, "scores": [0.5]}], [{**GOOD, "boxes": [[0, 0, math.nan, 1]]}], r"targets of image 0: 'boxes'"),
        ([{**GOOD, "scores": [0.5, 0.4]}], [GOOD], r"detections of image 0: 'scores' has shape \(2,\), not \(1,\)"),
        ([{**GOOD, "scores": [0.5]}], [{**GOOD, "boxes": A}], r"targets of image 0: 'boxes' has shape \(4,\)"),
        ([GOOD], [GOOD], "detections of image 0 have no 'scores'"),
    ],
)
def test_bad_input_is_named(measure: Any, found: Dicts, truth: Dicts, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(found, truth, num_classes=3)


def test_the_bad_image_is_named_by_its_index() -> None:
    found = [image([A], [1], scores=[0.5]), image([], [], scores=[]), image([A, A], [1, 9], scores=[0.5, 0.5])]
    with pytest.raises(ValueError, match=r"detections of image 2: 'labels' holds 9.*; it must be in 1..2"):
        voc_ap(found, [image([A], [1])] * 3, num_classes=3)


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.5, math.nan])
def test_threshold_out_of_range(threshold: float) -> None:
    with pytest.raises(ValueError, match="iou_threshold"):
        voc_ap([], [], 2, threshold)


def test_background_alone_is_no_class() -> None:
    with pytest.raises(ValueError, match="num_classes is 1"):
        voc_ap([], [], 1)


# --- COCO AP -------------------------------------------------------------------------------------------------------


LIBRARIES = ["faster_coco_eval", "pycocotools"]


def sized(side: float, shift: float = 0.0) -> list[float]:
    return [shift, 0.0, shift + side, side]


@pytest.mark.parametrize("library", LIBRARIES)
def test_coco_hand_worked(library: Any) -> None:
    # Class 1: one of two objects found, IoU 1: precision 1 at the recalls 0, .01 … .50: 51 of 101 points.
    # Class 2: the object [0, 0, 100, 100] found with IoU 0.72 (a strip of 72 x 100): a find at .50 … .70, five
    #   of the ten thresholds. AP50 1, AP75 0, mean 1/2.
    # Sizes: class 1 has 20² (small; found) and 50² (medium; missed), class 2 has 100² (large).
    detections = [image([sized(20), [0, 0, 72, 100]], [1, 2], scores=[0.9, 0.8])]
    targets = [image([sized(20), sized(50, 200), sized(100)], [1, 1, 2])]
    result = coco_ap(detections, targets, num_classes=3, library=library)
    assert result.ap == pytest.approx((51 / 101 + 1 / 2) / 2)
    assert result.ap50 == pytest.approx((51 / 101 + 1) / 2)
    assert result.ap75 == pytest.approx((51 / 101 + 0) / 2)
    assert (result.ap_small, result.ap_medium) == pytest.approx((1.0, 0.0))
    assert result.ap_large == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(12))
def test_coco_libraries_agree(seed: int) -> None:
    detections, targets = random_case(seed, images=12)
    one = coco_ap(detections, targets, 4, library="faster_coco_eval")
    other = coco_ap(detections, targets, 4, library="pycocotools")
    np.testing.assert_allclose(list(vars(one).values()), list(vars(other).values()), atol=1e-6)


@pytest.mark.parametrize("library", [*LIBRARIES, None])
def test_perfect_detections(library: Any) -> None:
    _, targets = random_case(1, images=20)
    targets = [{**each, "difficult": torch.zeros(len(each["labels"]), dtype=torch.bool)} for each in targets]
    detections = [{**each, "scores": torch.full((len(each["labels"]),), 0.9)} for each in targets]
    result = coco_ap(detections, targets, 4, library=library)
    assert result.ap == result.ap50 == result.ap75 == result.ap_small == 1.0
    assert math.isnan(result.ap_large)  # the lattice has no box above 15 x 15
    assert voc_ap(detections, targets, 4).map_area == 1.0


@pytest.mark.parametrize("library", LIBRARIES)
def test_coco_without_detections_or_objects(library: Any) -> None:
    nothing = image([], [], scores=[])
    missed = coco_ap([nothing], [image([A], [1])], 2, library=library)
    assert missed.ap == missed.ap50 == missed.ap_small == 0.0
    for targets in ([], [nothing], [image([A], [1], difficult=[True])]):
        no_objects = coco_ap([image([A], [1], scores=[0.9])][: len(targets)], targets, 2, library=library)
        assert all(math.isnan(value) for value in vars(no_objects).values())


@pytest.mark.parametrize("library", LIBRARIES)
def test_coco_ignores_detections_of_difficult_objects(library: Any) -> None:
    detections = [image([A, A, B], [1, 1, 1], scores=[0.9, 0.8, 0.7])]
    targets = [image([A, B], [1, 1], difficult=[True, False])]
    assert coco_ap(detections, targets, 2, library=library).ap == pytest.approx(1.0)


@pytest.mark.parametrize("library", LIBRARIES)
def test_coco_is_silent(library: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        coco_ap([image([A], [1], scores=[0.9])], [image([A], [1])], 2, library=library)
    assert capsys.readouterr() == ("", "")
    assert not caplog.records


def test_coco_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("faster_coco_eval", "pycocotools.coco"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match="not installed; pip install faster-coco-eval"):
        coco_ap([], [], 2)


# --- the table -----------------------------------------------------------------------------------------------------


DASH = "\N{EN DASH}"


def test_table() -> None:
    detections = [image([A, FAR], [1, 1], scores=[0.9, 0.8])]
    result = voc_ap(detections, [image([A, B], [1, 1])], num_classes=3)
    table = format_table(result, ["bicycle", "cat"], COCOResult(0.25, 0.5, 0.125, math.nan, 0.3, 1.0))
    # One of two found at once: area 1/2; recall 0 … .5 are six of eleven points.
    assert table.splitlines() == [
        "class    objects  AP area  AP 11-point",
        "--------------------------------------",
        "bicycle        2    0.500        0.545",
        f"cat            0        {DASH}            {DASH}",
        "--------------------------------------",
        "mean           2    0.500        0.545",
        "",
        "VOC AP, in 0..1, at IoU 0.50; objects marked difficult do not count",
        "AP area: area under the precision-recall envelope (VOC from 2010 on)",
        "AP 11-point: mean of the envelope at recall 0, 0.1 … 1 (VOC 2007)",
        f"COCO AP@[.50:.95] 0.250  AP50 0.500  AP75 0.125  small {DASH}  medium 0.300  large 1.000",
    ]


def test_table_is_aligned_whatever_the_names() -> None:
    result = voc_ap([image([], [], scores=[])], [image([A], [2])], num_classes=4)
    lines = format_table(result, ["x", "a very long class name", "dining table"]).splitlines()
    assert len({len(line) for line in lines[:7]}) == 1
    assert not any(line.startswith("COCO") for line in lines)
    assert lines[2].endswith(DASH)
    assert lines[3].endswith("0.000")


def test_table_needs_a_name_for_each_class() -> None:
    with pytest.raises(ValueError, match="1 class names for 2 classes"):
        format_table(voc_ap([], [], 3), ["cat"])
