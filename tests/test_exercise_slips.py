"""The checks of the exercises let no slip pass: solutions of docs/solutions with one thing changed are not right.

A slip is a number written in where a parameter belongs, a comparison at its edge, an axis taken for the other: what
reads as right and is right in most cases. Those that have a hint of their own are in tests/test_exercises.py.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

SOLUTIONS = Path(__file__).parent.parent / "docs" / "solutions"

# lesson, function, what stands in its solution, and what stands there instead
SLIPS = [
    ("01", "resize_scale", "target_size /", "600 /"),
    ("01", "resize_scale", "max_size /", "1000 /"),
    ("01", "resize_scale", "max_size / max(height, width)", "max_size / width"),
    ("01", "resize_scale", "max_size / max(height, width)", "max_size / height"),
    ("01", "resize_scale", "target_size / min(height, width)", "target_size / height"),
    ("01", "resize_scale", "target_size / min(height, width)", "target_size / width"),
    ("01", "resized_size", "max(1, round(height * scale))", "round(height * scale)"),
    ("01", "resized_size", "max(1, round(width * scale))", "round(width * scale)"),
    ("01", "resized_size", "round(height * scale)", "int(height * scale)"),
    ("01", "resized_size", "round(width * scale)", "int(width * scale)"),
    ("01", "normalize", "pixels.flip(0) * 255", "pixels * 255"),
    ("01", "normalize", "pixels.flip(0) * 255", "pixels.flip(0)"),
    ("01", "normalize", "/ std", "/ std[0]"),
    ("01", "normalize", "- mean)", "- mean[0])"),
    ("02", "base_anchors", "center = base_size / 2", "center = 8"),
    ("02", "base_anchors", "base_size**2 / ratio", "256 / ratio"),
    ("02", "base_anchors", "round((base_size**2 / ratio) ** 0.5)", "(base_size**2 / ratio) ** 0.5"),
    ("02", "base_anchors", "round(width * ratio)", "width * ratio"),
    ("02", "feature_size", "-(-height // 16)", "height // 16"),
    ("02", "feature_size", "-(-width // 16)", "width // 16"),
    ("02", "grid_anchors", "* stride", "* 16"),
    ("02", "grid_anchors", "[column, row, column, row]", "[row, column, row, column]"),
    ("02", "grid_anchors", "[column, row, column, row]", "[column, row, column, column]"),
    ("03", "box_iou", ".clamp(min=0)", ""),
    ("03", "box_iou", "area_a[:, None] + area_b[None] - intersection", "area_a[:, None] + area_b[None]"),
    ("03", "encode_boxes", "shift / size", "shift / size[:, :1]"),
    ("03", "encode_boxes", "shift / size", "shift / size[:, 1:]"),
    ("03", "encode_boxes", "target_size / size)", "target_size / size[:, :1])"),
    ("03", "encode_boxes", "target_size / size)", "target_size / size[:, 1:])"),
    ("03", "decode_boxes", "coefficients[:, :2] * size", "coefficients[:, :2] * size[:, :1]"),
    ("03", "decode_boxes", "coefficients[:, :2] * size", "coefficients[:, :2] * size[:, 1:]"),
    ("03", "decode_boxes", "* size / 2", "* size[:, :1] / 2"),
    ("03", "decode_boxes", "clamp(max=math.log(1000 / 16))", "clamp(max=torch.tensor([math.log(1000 / 16), 9]))"),
    ("03", "decode_boxes", "clamp(max=math.log(1000 / 16))", "clamp(max=torch.tensor([9, math.log(1000 / 16)]))"),
    ("04", "clip_boxes", "x1.clamp(0, width)", "x1"),
    ("04", "clip_boxes", "y1.clamp(0, height)", "y1"),
    ("04", "clip_boxes", "x2.clamp(0, width)", "x2"),
    ("04", "clip_boxes", "y2.clamp(0, height)", "y2"),
    ("04", "clip_boxes", "y2.clamp(0, height)", "y2.clamp(0, width)"),
    ("04", "propose", "config.pre_nms_top_n", "12000"),
    ("04", "propose", "config.pre_nms_top_n", "7"),
    ("04", "propose", "[: config.post_nms_top_n]", ""),
    ("04", "propose", "[: config.post_nms_top_n]", "[:3]"),
    ("04", "propose", "config.nms_threshold", "0.7"),
    ("04", "propose", "coefficients[best]", "coefficients[: len(best)]"),
    ("04", "propose", "(sides > 0).all(dim=1)", "sides[:, 0] > 0"),
    ("04", "propose", "(sides > 0).all(dim=1)", "sides[:, 1] > 0"),
    ("05", "inside_image", "(x1 >= 0) & ", ""),
    ("05", "inside_image", " & (y1 >= 0)", ""),
    ("05", "inside_image", " & (x2 <= width)", ""),
    ("05", "inside_image", " & (y2 <= height)", ""),
    ("05", "inside_image", "x2 <= width", "x2 < width"),
    ("05", "inside_image", "y2 <= height", "y2 < height"),
    ("05", "best_of_an_object", "best > 0", "best > 0.1"),
    ("05", "label_anchors", "my_best_of_an_object(iou, inside)", "my_best_of_an_object(iou, iou[:, 0] >= 0)"),
    ("05", "label_anchors", "config.positive_overlap", "0.7"),
    ("05", "label_anchors", "config.negative_overlap", "0.3"),
    ("05", "label_anchors", "max_iou < config", "max_iou <= config"),
    ("05", "label_anchors", "max_iou >= config", "max_iou > config"),
    ("06", "smooth_l1", "parabola = 0.5 * square", "parabola = 4.5"),
    ("06", "smooth_l1", "x.abs() - 0.5 / square", "x.abs() - 0.5"),
    ("06", "smooth_l1_slope", "sigma**2 * x", "9 * x"),
    ("06", "rpn_loss", "my_smooth_l1(difference, sigma)", "my_smooth_l1(difference, 3.0)"),
    ("06", "rpn_loss", "targets.labels >= 0", "targets.labels > 0"),
    ("06", "rpn_loss", "targets.labels == 1", "targets.labels >= 0"),
    ("06", "rpn_loss", "coefficients - targets.targets", "coefficients"),
    ("07", "sample_sizes", "config.fg_threshold", "0.5"),
    ("07", "sample_sizes", "config.fg_fraction", "0.25"),
    ("07", "sample_sizes", "round(", "int("),
    ("07", "sample_sizes", "config.batch_size - foreground", "128 - foreground"),
    ("07", "roi_targets", "torch.tensor(target_std)", "torch.tensor([0.1, 0.1, 0.2, 0.2])"),
    ("07", "expand_targets", "label > 0", "label >= 0"),
    ("07", "expand_targets", "] = 1", "] = targets[row]"),
    ("08", "sampling_points", "rois / stride", "rois / 16"),
    ("08", "sampling_points", "output_size)\n", "7)\n"),
    ("08", "sampling_points", "y1 + (y2 - y1)", "y1 + (x2 - x1)"),
    ("08", "bilinear", "torch.arange(columns) - x", "torch.arange(columns) - y"),
    ("08", "bilinear", "across = (1 -", "across = (1.5 -"),
    ("08", "affine_matrices", "rois[:, 2:] / stride", "rois[:, 2:] / 16"),
    ("08", "affine_matrices", "[width - 1, height - 1]", "[width - 1, width - 1]"),
    ("08", "affine_matrices", "[width - 1, height - 1]", "[width, height - 1]"),
    ("09", "mean_over_space", "dim=(2, 3)", "dim=(1, 2)"),
    ("09", "classifier_loss", "sigma=1.0", "sigma=3.0"),
    ("09", "classifier_loss", "labels[:, None] > 0", "labels[:, None] > 1"),
    ("09", "classifier_loss", "labels[:, None] > 0", "labels[:, None] >= 0"),
    ("09", "detections", "config.score_threshold", "0.05"),
    ("09", "detections", "config.score_threshold", "0.2"),
    ("09", "detections", "config.score_threshold", "0.01"),
    ("09", "detections", "config.nms_threshold", "0.3"),
    ("09", "detections", "config.nms_threshold", "0.5"),
    ("09", "detections", ", config.max_detections", ""),
    ("09", "detections", "[0.1, 0.1, 0.2, 0.2]", "[0.1, 0.1, 0.1, 0.1]"),
    ("09", "detections", "clip_boxes(decode_boxes(rois[region], own), image_size)", "decode_boxes(rois[region], own)"),
    ("10", "nms", "iou <= iou_threshold", "iou < iou_threshold"),
    ("10", "nms", "iou <= iou_threshold", "iou <= 0.4"),
    ("10", "nms", "iou <= iou_threshold", "iou <= 0.5"),
    ("10", "batched_nms", "scores[rows], iou_threshold", "scores[rows], 0.3"),
    ("10", "final_boxes", "scores > config", "scores >= config"),
    ("10", "final_boxes", "config.score_threshold", "0.05"),
    ("10", "final_boxes", "config.nms_threshold", "0.3"),
    ("10", "final_boxes", "[: config.max_detections]", ""),
]  # fmt: skip


def namespace(page: str, slip: tuple[str, str, str] | None = None) -> dict[str, Any]:
    """What the page's code defines; slip: the function, what stands there, and what shall stand there instead."""
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL):
        if slip and f"def my_{slip[0]}(" in block:
            head, body = block.split(f"def my_{slip[0]}(")
            assert slip[1] in body, f"{slip[1]!r} does not stand in the solution of {slip[0]}"
            block = f"{head}def my_{slip[0]}({body.replace(slip[1], slip[2])}"
        exec(block, names)
    return names


@pytest.mark.parametrize(("lesson", "name", "right", "wrong"), SLIPS)
def test_a_slip_is_seen(lesson: str, name: str, right: str, wrong: str) -> None:
    (path,) = SOLUTIONS.glob(f"{lesson}_*.md")
    page = path.read_text()
    module = "boxes" if lesson == "03" else path.stem[3:]
    exercises = importlib.import_module(f"rcnn_edu.exercises.{module}").EXERCISES
    (exercise,) = [exercise for exercise in exercises if exercise.name == name]

    assert exercise.verdict(namespace(page)[f"my_{name}"]).startswith("right: ")
    verdict = exercise.verdict(namespace(page, (name, right, wrong))[f"my_{name}"])
    assert verdict.startswith("not yet: "), verdict
    assert "raised" not in verdict, verdict
