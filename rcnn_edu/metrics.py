"""Average precision: how good the detections of a whole dataset are, as PASCAL VOC and as COCO measure it.

The PASCAL Visual Object Classes Challenge (Everingham et al., IJCV 2010) §4.2 · Faster R-CNN (arXiv 1506.01497) §4

    C  classes without background: num_classes - 1     D  detections      G  ground-truth objects
    boxes   x1, y1, x2, y2 in pixels, continuous and half-open: no "+1" in widths
    labels  1..C; entry c-1 of a per-class array belongs to label c
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rcnn_edu.detection_rows import Floats, Ints, Rows, gather
from rcnn_edu.errors import UserError

# The recalls 0, 0.1 … 1 of VOC 2007 in floating point, as the published evaluation scripts have them: three of ten
# objects fall just short of 0.30000000000000004. An exact 0.3 would give other numbers than theirs.
_ELEVEN_RECALLS = np.arange(11) * 0.1
_COCO_LIBRARIES = {  # module of COCO, module and name of the evaluator; the faster one first
    "faster_coco_eval": ("faster_coco_eval", "faster_coco_eval", "COCOeval_faster"),
    "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval", "COCOeval"),
}


@dataclass(frozen=True, eq=False)
class VOCResult:
    """What `voc_ap` measured. Average precisions are in 0..1; NaN marks a class without objects to find."""

    ap_area: Floats
    """(C,) area under the precision-recall envelope: VOC from 2010 on."""
    ap_11point: Floats
    """(C,) mean of the envelope at recall 0, 0.1 … 1: VOC 2007."""
    map_area: float
    """Mean of `ap_area` over the classes that have objects; NaN when none has."""
    map_11point: float
    """The same of `ap_11point`."""
    num_objects: Ints
    """(C,) objects that are not difficult: those that recall counts."""
    num_detections: Ints
    """(C,) detections, the ignored ones included."""
    precision: tuple[Floats, ...]
    """One array a class: precision after each detection that is not ignored, best score first."""
    recall: tuple[Floats, ...]
    """One array a class, beside `precision`; NaN for a class without objects."""
    iou_threshold: float
    """Least IoU of a find."""


@dataclass(frozen=True)
class COCOResult:
    """What `coco_ap` measured: means over the classes that have objects, in 0..1; NaN where there is no object."""

    ap: float
    """AP@[.50:.95], the mean over ten IoU thresholds."""
    ap50: float
    ap75: float
    ap_small: float
    """`ap` of objects under 32² pixels of box area."""
    ap_medium: float
    ap_large: float
    """`ap` of objects over 96² pixels of box area."""


def voc_ap(
    detections: Sequence[Mapping[str, Any]],
    targets: Sequence[Mapping[str, Any]],
    num_classes: int,
    iou_threshold: float = 0.5,
) -> VOCResult:
    """Average precision with the rules of the official VOC devkit.

    Class by class, detections are visited from the best score down. Each looks at the object of its image and class
    that it overlaps most. Below `iou_threshold` it is a false positive. Otherwise: a difficult object makes it
    ignored, an object found before makes it a false positive (a duplicate), any other a true positive.

    Args:
        detections: one dict an image: `boxes` (D, 4), `scores` (D,), `labels` (D,) in 1..C; tensors or arrays.
        targets: one dict an image: `boxes` (G, 4), `labels` (G,) in 1..C, and if known `difficult` (G,) bool.
        num_classes: classes with background counted, as in `Config.num_classes`: 21 for VOC.
        iou_threshold: least overlap of a find, above 0 and at most 1.

    Raises:
        ValueError: for images that differ in number, a wrong shape, a label outside 1..C, or a box or score that is
            not finite; the message names the image by its index, and the value.
    """
    if not 0.0 < iou_threshold <= 1.0:
        raise ValueError(f"iou_threshold is {iou_threshold}; it must be above 0 and at most 1")
    found, objects = gather(detections, targets, num_classes)
    found = found.take(np.lexsort((-found.values, found.labels)))  # by class, then best score first; stable
    matched, iou = _best_objects(found, objects, num_classes)

    hit = np.flatnonzero(iou >= iou_threshold)
    ignored = np.zeros(len(iou), dtype=bool)
    ignored[hit] = objects.values[matched[hit]] > 0
    candidates = hit[~ignored[hit]]
    # An object's true positive is the first detection in this order that matched it; later ones are duplicates.
    true_positive = np.zeros(len(iou), dtype=bool)
    true_positive[candidates[np.unique(matched[candidates], return_index=True)[1]]] = True

    num_objects = np.bincount(objects.labels[objects.values == 0], minlength=num_classes)[1:]
    num_detections = np.bincount(found.labels, minlength=num_classes)[1:]
    ends = np.cumsum(num_detections)
    precision, recall, areas, elevens = [], [], np.full(len(ends), np.nan), np.full(len(ends), np.nan)
    for c, rows in enumerate(map(slice, ends - num_detections, ends)):
        true = np.cumsum(true_positive[rows][~ignored[rows]])
        precision.append(true / np.arange(1, len(true) + 1))
        recall.append(true / num_objects[c] if num_objects[c] else np.full(len(true), np.nan))
        if num_objects[c]:
            areas[c], elevens[c] = _areas(precision[c], recall[c])
    means, curves = (_mean(areas[num_objects > 0]), _mean(elevens[num_objects > 0])), (tuple(precision), tuple(recall))
    return VOCResult(areas, elevens, *means, num_objects, num_detections, *curves, iou_threshold)


def coco_ap(
    detections: Sequence[Mapping[str, Any]],
    targets: Sequence[Mapping[str, Any]],
    num_classes: int,
    library: Literal["faster_coco_eval", "pycocotools"] | None = None,
) -> COCOResult:
    """COCO's average precision, by faster-coco-eval or else pycocotools (`library` insists on one of them).

    Arguments and `ValueError` are those of `voc_ap`. COCO takes the best 100 detections of an image and class.

    Difficult objects go in as crowds, the only objects that COCO ignores. A crowd may absorb any number of
    detections, is matched by the share of the *detection* that it covers instead of the IoU, and only where no
    other object fits. So AP50 differs a little from `voc_ap` where objects are difficult, beside COCO's 101 points
    of recall and its rule that a detection whose best object is taken may find the second best.

    Raises:
        UserError: the library is not installed.
    """
    found, objects = gather(detections, targets, num_classes)
    make_dataset, make_evaluator = _coco_library(library)
    if np.all(objects.values > 0):  # nothing to find: the libraries fail or answer -1
        return COCOResult(*[float("nan")] * 6)
    with contextlib.redirect_stdout(io.StringIO()):
        datasets = make_dataset(), make_dataset()
        for dataset, rows, key in zip(datasets, (objects, found), ("iscrowd", "score"), strict=True):
            # Filled in directly: loadRes fails on an empty list of detections.
            dataset.dataset = {
                "images": [{"id": index} for index in range(len(targets))],
                "categories": [{"id": label} for label in range(1, num_classes)],
                "annotations": _annotations(rows, key),
            }
            dataset.createIndex()
        evaluator = make_evaluator(*datasets, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
    # (10 IoU thresholds, 101 recalls, C classes, sizes all/small/medium/large, limits 1/10/100 of detections)
    precision = np.asarray(evaluator.eval["precision"])[..., -1]
    parts = [precision[..., 0], precision[0, ..., 0], precision[5, ..., 0], *(precision[..., s] for s in (1, 2, 3))]
    return COCOResult(*(_mean(part[part > -1]) for part in parts))


def format_table(result: VOCResult, class_names: Sequence[str], coco: COCOResult | None = None) -> str:
    """Aligned plain text: one row a class, the mean, what the columns are, and COCO's numbers when given.

    `class_names` (C names, without background) are in the order of the labels; undefined values print as a dash.
    Raises `ValueError` when there are not C names.
    """
    columns = class_names, result.num_objects, result.ap_area, result.ap_11point
    if len(class_names) != len(result.ap_area):
        raise ValueError(f"{len(class_names)} class names for {len(result.ap_area)} classes")
    rows = [*zip(*columns, strict=True), ("mean", result.num_objects.sum(), result.map_area, result.map_11point)]
    width = max(len(str(row[0])) for row in rows)
    lines = [f"{'class':<{width}}  objects  AP area  AP 11-point"]
    lines += [f"{name:<{width}}  {n:>7}  {_text(area):>7}  {_text(eleven):>11}" for name, n, area, eleven in rows]
    rule = "-" * len(lines[0])
    lines = [lines[0], rule, *lines[1:-1], rule, lines[-1], ""]
    lines += [
        f"VOC AP, in 0..1, at IoU {result.iou_threshold:.2f}; objects marked difficult do not count",
        "AP area: area under the precision-recall envelope (VOC from 2010 on)",
        "AP 11-point: mean of the envelope at recall 0, 0.1 … 1 (VOC 2007)",
    ]
    if coco is not None:
        sizes = f"small {_text(coco.ap_small)}  medium {_text(coco.ap_medium)}  large {_text(coco.ap_large)}"
        lines.append(f"COCO AP@[.50:.95] {_text(coco.ap)}  AP50 {_text(coco.ap50)}  AP75 {_text(coco.ap75)}  {sizes}")
    return "\n".join(lines)


def _best_objects(found: Rows, objects: Rows, num_classes: int) -> tuple[Ints, Floats]:
    """The object of its image and class that each detection overlaps most: index (0 if none) and IoU (0 if none)."""
    wanted = found.image * num_classes + found.labels
    keys = objects.image * num_classes + objects.labels
    by_key = np.argsort(keys, kind="stable")
    first, last = (np.searchsorted(keys[by_key], wanted, side) for side in ("left", "right"))
    count = last - first
    start = np.cumsum(count) - count
    # All pairs of a detection and an object that may match, detection after detection.
    detection = np.repeat(np.arange(len(wanted)), count)
    candidate = by_key[np.repeat(first - start, count) + np.arange(len(detection))]
    pair_iou = _pairwise_iou(found.boxes[detection], objects.boxes[candidate])
    best_first = np.lexsort((-pair_iou, detection))  # stable: among equals the first object wins, as in the devkit

    matched, iou = np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted))
    best = best_first[start[count > 0]]
    matched[count > 0], iou[count > 0] = candidate[best], pair_iou[best]
    return matched, iou


def _pairwise_iou(a: Floats, b: Floats) -> Floats:
    """IoU of row i of `a` and row i of `b`, both (N, 4); 0 for boxes without area."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    intersection = sides.clip(min=0).prod(axis=1)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).clip(min=0).prod(axis=1) for box in (a, b))
    union = area_a + area_b - intersection
    iou: Floats = np.divide(intersection, union, out=np.zeros(len(a)), where=intersection > 0)
    return iou


def _areas(precision: Floats, recall: Floats) -> tuple[float, float]:
    """Area under the envelope (the best precision at this recall or any higher), and its mean at eleven recalls."""
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)  # 0 beyond the recall reached
    area = np.diff(recall, prepend=0.0) @ envelope[:-1]
    return float(area), float(envelope[np.searchsorted(recall, _ELEVEN_RECALLS)].mean())


def _coco_library(library: str | None) -> tuple[Any, Any]:
    for name in [library] if library else _COCO_LIBRARIES:
        coco_module, evaluator_module, evaluator = _COCO_LIBRARIES[name]
        with contextlib.suppress(ImportError):
            make_dataset = importlib.import_module(coco_module).COCO
            return make_dataset, getattr(importlib.import_module(evaluator_module), evaluator)
    raise UserError(f"COCO AP needs a library that is not installed; pip install {library or 'faster-coco-eval'}")


def _annotations(rows: Rows, key: str) -> list[dict[str, Any]]:
    boxes = np.hstack([rows.boxes[:, :2], (rows.boxes[:, 2:] - rows.boxes[:, :2]).clip(min=0)])
    areas = boxes[:, 2] * boxes[:, 3]
    columns = (column.tolist() for column in (rows.image, rows.labels, boxes, areas, rows.values))
    return [  # ids from 1: 0 means "not matched" to the libraries
        {"id": n, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": 0, key: value}
        for n, (image, label, box, area, value) in enumerate(zip(*columns, strict=True), start=1)
    ]


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else float("nan")


def _text(value: float) -> str:
    return "\N{EN DASH}" if np.isnan(value) else f"{value:.3f}"
