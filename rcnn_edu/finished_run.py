"""What a finished run leaves in its output folder: the model, its AP, and pictures of its detections and losses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rcnn_edu.checkpoint import save_checkpoint
from rcnn_edu.data.choose import DetectionDataset
from rcnn_edu.draw import detection_grid, plot_losses
from rcnn_edu.evaluate import Result, write_results
from rcnn_edu.metrics import COCOResult, VOCResult, format_table
from rcnn_edu.model import FasterRCNN
from rcnn_edu.training_log import read_metrics

EXAMPLES = 8
"""Images of the validation split that detections.png shows."""


def write_finished_run(
    folder: Path,
    model: FasterRCNN,
    validation: DetectionDataset,
    results: Sequence[Result],
    voc: VOCResult,
    coco: COCOResult,
) -> None:
    """Write model.pt, detections.json, ap.json, ap.txt, detections.png, losses.png; print the table and the names."""
    write_results(folder, results, model.classes, voc, coco)
    examples = [(validation[one.index][0], one.found, one.target) for one in results[:EXAMPLES]]
    detection_grid(examples, model.classes, folder / "detections.png")
    table = format_table(voc, model.classes, coco)
    (folder / "ap.txt").write_text(table + "\n")
    save_checkpoint(folder / "model.pt", model, model.trained_on)
    plot_losses(read_metrics(folder / "metrics.jsonl"), folder / "losses.png")
    print(table)
    for name in ("model.pt", "losses.png", "detections.png", "metrics.jsonl", "ap.txt"):
        print(folder / name)
