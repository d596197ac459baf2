"""`python -m rcnn_edu.evaluate`: how good a trained model is, on the validation split of a dataset.

One run over the images, one set of detections, and on those: VOC AP by area and by 11 points, and COCO AP. Under
`torchrun` each process takes its share of the images, with the same result.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from rcnn_edu.checkpoint import checkpoint_path, load, seen_in_training
from rcnn_edu.cli import check_folder, run_program, use_bfloat16
from rcnn_edu.config import Config
from rcnn_edu.data.choose import DetectionDataset, choose_validation
from rcnn_edu.data.loader import usable_workers
from rcnn_edu.distributed import Processes, start_processes
from rcnn_edu.errors import UserError
from rcnn_edu.interruption import Interrupted, end_deaf_children, leave_signals_to_parent
from rcnn_edu.metrics import COCOResult, VOCResult, coco_ap, format_table, voc_ap
from rcnn_edu.model import FasterRCNN
from rcnn_edu.training_config import DataConfig


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a trained model's average precision."""

    model: Annotated[str, tyro.conf.Positional]
    """Name of a shipped model, a checkpoint file, or a run folder."""
    data: Annotated[DataConfig, tyro.conf.arg(name="")] = field(default_factory=DataConfig)
    output: Path | None = None
    """Folder to write detections.json and ap.json to (none: only print)."""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto: a GPU if there is one."""
    amp: Literal["off", "bf16", "auto"] = "off"
    """Compute in bfloat16; auto: if the processor is faster at it."""
    workers: int = 2
    """Processes that decode images."""
    target_size: int | None = None
    """Shorter side in pixels; the limit of the longer one changes in proportion (none: the model's)."""
    nms_threshold: float | None = None
    """IoU above which the better of two detections of a class suppresses the other (none: the model's)."""


@dataclass(frozen=True)
class Result:
    """One image: what is there, and what was detected. Tensors are on the CPU, boxes in the image's own pixels."""

    index: int
    """Its place in the dataset."""
    target: dict[str, Any]
    """`{"boxes", "labels", "difficult", "image_id"}`."""
    found: dict[str, Tensor]
    """`{"boxes", "labels", "scores"}`."""


def run_detector(
    model: FasterRCNN,
    dataset: DetectionDataset,
    device: torch.device,
    bfloat16: bool = False,
    workers: int = 2,
    skip_bad: bool = False,
    processes: Processes = Processes(),
    stop: Callable[[], bool] = bool,
) -> list[Result]:
    """Detect in every image of `dataset`, one at a time; the model's mode is put back.

    Of N processes each takes every Nth image; the first returns the results of all, in order, the others none.
    An image that cannot be decoded raises `UserError`, or, with `skip_bad`, is reported and left out.
    stop: asked before each image; raises `Interrupted` when it says so. Processes must be asked alike.
    """
    was_training = model.training
    model.eval()
    share = range(processes.rank, len(dataset), processes.count)
    end_deaf_children()
    loader: DataLoader[Any] = DataLoader(
        _Decoded(dataset, share), batch_size=None, num_workers=usable_workers(workers),
        worker_init_fn=leave_signals_to_parent, generator=torch.Generator(),
    )  # fmt: skip
    silent = None if processes.first else True  # none: silent unless someone watches
    bar = tqdm(loader, "evaluating", unit="image", leave=False, file=sys.stderr, disable=silent)
    results = []
    with processes.together(), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        for index, decoded in zip(share, bar, strict=True):
            if stop():
                raise Interrupted
            if isinstance(decoded, UserError):
                if not skip_bad:
                    raise decoded
                bar.write(f"left out: {decoded}", file=sys.stderr)
                continue
            image, target = decoded
            (found,) = model.detect([image.to(device)])
            results.append(Result(index, target, {k: v.cpu() for k, v in found.items()}))
    model.train(was_training)
    return sorted(chain(*processes.gather(results)), key=lambda one: one.index)


def measure(results: Sequence[Result], num_classes: int) -> tuple[VOCResult, COCOResult]:
    """VOC and COCO average precision of the same detections."""
    found, targets = [one.found for one in results], [one.target for one in results]
    return voc_ap(found, targets, num_classes), coco_ap(found, targets, num_classes)


def evaluate(config: EvaluateConfig) -> VOCResult | None:
    """Run the program; of several processes only the first returns the result.

    Raises `UserError` for a model or dataset that cannot be used.
    """
    if config.workers < 0:
        raise UserError(f"--workers is {config.workers}; it must be zero or more")
    if config.output is not None:
        check_folder(config.output, "--output")
    with start_processes(config.device) as (processes, device):
        with processes.together():
            model = load(config.model, device)
            with processes.one_first():
                dataset = choose_validation(_with_classes(config.data, model.classes))
            if dataset.classes != model.classes:
                raise UserError(
                    f"{checkpoint_path(config.model)}: detects {', '.join(model.classes)}; "
                    f"the dataset is read with {', '.join(dataset.classes)}; give the model's with --classes"
                )
            model.config = changed(model.config, config.target_size, config.nms_threshold)
        if processes.first:
            warn_if_seen(model, dataset.image_ids)
        bfloat16, skip_bad = use_bfloat16(config.amp, device), config.data.skip_bad
        results = run_detector(model, dataset, device, bfloat16, config.workers, skip_bad, processes)
        return _report(config, model, dataset, results) if processes.first else None


def _with_classes(data: DataConfig, classes: tuple[str, ...]) -> DataConfig:
    """A dataset given by its path is read with the model's classes, unless it is said which."""
    by_path = data.data not in ("shapes", "voc2007", "voc0712")
    return replace(data, classes=classes) if by_path and data.classes is None and not data.discover_classes else data


def changed(config: Config, target_size: int | None, nms_threshold: float | None) -> Config:
    """A model's numbers with another size of image and another threshold; none: as it is. Raises `UserError`."""
    preprocessing, detection = config.preprocessing, config.detection
    try:
        if target_size is not None:
            longest = round(preprocessing.max_size * target_size / preprocessing.target_size)
            preprocessing = replace(preprocessing, target_size=target_size, max_size=longest)
        if nms_threshold is not None:
            detection = replace(detection, nms_threshold=nms_threshold)
    except ValueError as error:
        raise UserError(str(error)) from error
    return replace(config, preprocessing=preprocessing, detection=detection)


def _report(
    config: EvaluateConfig, model: FasterRCNN, dataset: DetectionDataset, results: Sequence[Result]
) -> VOCResult:
    """Measure, print, and write what was asked for."""
    voc, coco = measure(results, model.config.num_classes)
    size, threshold = model.config.preprocessing.target_size, model.config.detection.nms_threshold
    print(f"{config.model} on {len(results)} images of {config.data.data}, {size} pixels, NMS at {threshold:g}")
    if dataset.problems or len(results) < len(dataset):
        lost = len(dataset) - len(results)
        print(f"left out with --skip-bad: {len(dataset.problems)} objects or images when reading, {lost} when decoding")
    print(format_table(voc, model.classes, coco))
    if config.output is not None:
        write_results(config.output, results, model.classes, voc, coco)
    return voc


def warn_if_seen(model: FasterRCNN, image_ids: Sequence[str]) -> None:
    """Say loudly when the images to evaluate on were trained on."""
    if seen := seen_in_training(model.trained_on, image_ids):
        line = f"WARNING: the model was trained on {seen} of these {len(image_ids)} images; its AP here means little."
        print("\n".join(["!" * len(line), line, "!" * len(line)]), file=sys.stderr)


def write_results(
    folder: Path, results: Sequence[Result], classes: Sequence[str], voc: VOCResult, coco: COCOResult
) -> None:
    """detections.json, boxes and scores of every image; ap.json, the table."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for one in results:
        columns = (one.found[key].tolist() for key in ("boxes", "labels", "scores"))
        found = [
            {"label": classes[label - 1], "score": round(score, 5), "box": [round(v, 2) for v in box]}
            for box, label, score in zip(*columns, strict=True)
        ]
        listed.append({"image_id": one.target["image_id"], "detections": found})
    (folder / "detections.json").write_text(json.dumps(listed, indent=1) + "\n")
    (folder / "ap.json").write_text(json.dumps(summary(voc, coco, classes), indent=1) + "\n")


def summary(voc: VOCResult, coco: COCOResult, classes: Sequence[str]) -> dict[str, Any]:
    """The AP table as numbers for JSON; null where a class has no object."""

    def number(value: float) -> float | None:
        return None if value != value else round(float(value), 5)

    return {
        "map_area": number(voc.map_area),
        "map_11point": number(voc.map_11point),
        "coco_ap": number(coco.ap),
        "coco_ap50": number(coco.ap50),
        "coco_ap75": number(coco.ap75),
        "ap_area": {name: number(v) for name, v in zip(classes, voc.ap_area, strict=True)},
        "ap_11point": {name: number(v) for name, v in zip(classes, voc.ap_11point, strict=True)},
    }


class _Decoded(Dataset[Any]):
    """Some of the dataset's items, or the `UserError` of one that cannot be decoded, for the main process to raise."""

    def __init__(self, dataset: DetectionDataset, rows: Sequence[int]) -> None:
        self.dataset, self.rows = dataset, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]] | UserError:
        try:
            return self.dataset[self.rows[index]]
        except UserError as error:
            return error


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    program = "python -m rcnn_edu.evaluate"
    run_program(lambda: evaluate(tyro.cli(EvaluateConfig, args=arguments, prog=program, description=__doc__)))


if __name__ == "__main__":
    main()
