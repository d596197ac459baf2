"""`python -m rcnn_edu.detect`: find objects in photos and videos with a trained model.

Writes each picture with its boxes drawn in, and all boxes as numbers to detections.json.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
import tyro
from PIL import Image

from rcnn_edu.checkpoint import load
from rcnn_edu.cli import choose_device, run_program
from rcnn_edu.config import Config
from rcnn_edu.draw import draw_detections, new_figure, to_array
from rcnn_edu.errors import UserError
from rcnn_edu.media import Pixels, Unreadable, decode, find_files, is_video


@dataclass(frozen=True)
class DetectConfig:
    """Find objects in photos and videos with a trained model.

    Writes each picture with its boxes drawn in, and all boxes as numbers to detections.json. Exit code: 0 all done,
    1 some inputs could not be read (the others are done), 2 nothing could be done.
    """

    inputs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT", help_behavior_hint="(one or more)")
    ]
    """Image files, folders (the images directly in them), or videos."""
    model: Annotated[str, tyro.conf.arg(metavar="NAME_OR_PATH")] = "voc-demo"
    """Name of a shipped model, a checkpoint file, or a run folder."""
    output: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("detections")
    """Folder to write to; made if need be."""
    score_threshold: float = 0.5
    """Keep detections whose class probability, 0 to 1, is at least this."""
    every: int = 1
    """Of a video, take every N-th frame."""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto: a GPU if there is one."""


class Detector(Protocol):
    """What `run` needs of a model: a `FasterRCNN` in evaluation mode, or anything called like it."""

    @property
    def classes(self) -> Sequence[str]:
        """Names without background."""

    def __call__(self, images: list[torch.Tensor], /) -> Any:
        """Per image `{"boxes", "labels", "scores"}`."""


def run(
    inputs: Iterable[str | Path],
    model: Detector,
    output: str | Path,
    score_threshold: float = 0.5,
    every: int = 1,
    device: str | torch.device = "cpu",
) -> int:
    """Detect in all `inputs`, write pictures and detections.json to `output`, and print one line a picture.

    detections.json is a list with, per picture, `file`, `picture` (its name in `output`), `width`, `height` and
    `detections`: `label` (class name), `score`, `box` [x1, y1, x2, y2] in pixels, best first. It is also written when
    the run is interrupted.
    device: where the model is. Returns the exit code: 0, or 1 if some input could not be read.
    Raises `UserError` for missing inputs, when none can be read, an `output` that cannot be written or holds inputs,
    and values out of range.
    """
    if not 0.0 <= score_threshold <= 1.0:
        raise UserError(f"--score-threshold is {score_threshold}; it must be in 0..1")
    if every < 1:
        raise UserError(f"--every is {every}; it must be 1 or more")
    files, output = find_files(map(Path, inputs)), Path(output)
    _make_folder(output, files)
    records: list[dict[str, Any]] = []
    failures: list[Unreadable] = []
    taken: set[str] = set()
    try:
        for file in files:
            try:
                for name, pixels in decode(file, every):
                    found = _detect(model, pixels, score_threshold, device)
                    picture = output / _free_name(_picture_name(file, name), taken)
                    _write_picture(picture, pixels, found, model.classes)
                    records.append(_record(name, picture, pixels, found, model.classes))
                    print(f"{name} -> {picture}: {_summary(records[-1], score_threshold)}", flush=True)
            except Unreadable as error:
                failures.append(error)
                if len(files) > 1 or records:
                    print(f"error: {error}", file=sys.stderr)
    finally:
        if records:
            _write(output / "detections.json", (json.dumps(records, indent=1, ensure_ascii=False) + "\n").encode())
    if not records:
        raise failures[0] if len(files) == 1 and failures else UserError(f"none of {len(files)} inputs could be read")
    if failures:
        print(f"{len(failures)} of {len(files)} inputs could not be read; the others are done", file=sys.stderr)
    return 1 if failures else 0


def _detect(model: Detector, pixels: Pixels, threshold: float, device: str | torch.device) -> dict[str, torch.Tensor]:
    """What the model finds in `(H, W, 3)` pixels from `threshold` on, best first, on the CPU."""
    image = torch.from_numpy(pixels).to(device).permute(2, 0, 1).float() / 255
    with torch.inference_mode():
        (found,) = model([image])
    order = found["scores"].argsort(descending=True, stable=True)
    order = order[found["scores"][order] >= threshold]
    return {key: found[key][order].cpu() for key in ("boxes", "labels", "scores")}


def with_threshold(config: Config, score_threshold: float) -> Config:
    """A model's numbers, so that it finds what scores at least so much: its own threshold may be higher."""
    lowest = min(config.detection.score_threshold, max(score_threshold, 0.0))  # `run` refuses what is out of range
    return replace(config, detection=replace(config.detection, score_threshold=lowest))


def _make_folder(output: Path, files: Sequence[Path]) -> None:
    """Make `output`; it must not be where the inputs lie, for pictures keep their names."""
    for file in files:
        if file.resolve().parent == output.resolve():
            raise UserError(f"{output}: {file.name} lies here and would be overwritten; choose another --output")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{output}: cannot be made ({error.strerror}); choose another --output") from error


def _picture_name(file: Path, name: str) -> str:
    """The file's own name; a frame of a video carries its number, and what is not JPEG or PNG becomes PNG."""
    if is_video(file):
        return f"{file.stem}_{int(name.rpartition('#')[2]):06d}.jpg"
    return file.name if file.suffix.lower() in (".jpg", ".jpeg", ".png") else f"{file.stem}.png"


def _free_name(name: str, taken: set[str]) -> str:
    """`name`, or with _2, _3 … before its suffix when another folder's picture has it; then taken."""
    stem, suffix = Path(name).stem, Path(name).suffix
    count = 1
    while name.casefold() in taken:  # some file systems take Cat.jpg and cat.jpg for the same
        count += 1
        name = f"{stem}_{count}{suffix}"
    taken.add(name.casefold())
    return name


def _write_picture(path: Path, pixels: Pixels, found: Mapping[str, torch.Tensor], classes: Sequence[str]) -> None:
    height, width = pixels.shape[:2]
    # Text and lines grow with large pictures, to stay readable when these are shown smaller.
    figure, axes = new_figure(width, height, dpi=100 * max(1.0, max(width, height) / 1000))
    draw_detections(axes, pixels.transpose(2, 0, 1), found, classes, score_threshold=0.0)
    content = io.BytesIO()
    if path.suffix.lower() == ".png":
        Image.fromarray(to_array(figure)).save(content, "PNG")
    else:
        Image.fromarray(to_array(figure)).save(content, "JPEG", quality=92)
    _write(path, content.getvalue())


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --output") from error


def _record(
    name: str, picture: Path, pixels: Pixels, found: Mapping[str, torch.Tensor], classes: Sequence[str]
) -> dict[str, Any]:
    columns = (found[key].tolist() for key in ("boxes", "labels", "scores"))
    return {
        "file": name,
        "picture": picture.name,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "detections": [
            {"label": classes[label - 1], "score": round(score, 5), "box": [round(side, 2) for side in box]}
            for box, label, score in zip(*columns, strict=True)
        ],
    }


def _summary(record: Mapping[str, Any], threshold: float) -> str:
    """What was found, in words: "cat 0.98 0.71, dog 0.64"."""
    scores: dict[str, list[str]] = {}
    for each in record["detections"]:
        scores.setdefault(each["label"], []).append(f"{each['score']:.2f}")
    return ", ".join(f"{label} {' '.join(all_)}" for label, all_ in scores.items()) or f"nothing from {threshold:g} on"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""

    def program() -> None:
        config = tyro.cli(DetectConfig, args=arguments, prog="python -m rcnn_edu.detect")
        files = find_files(config.inputs)  # a misspelt name is told before the model is loaded
        device = choose_device(config.device)
        model = load(config.model, device)
        model.config = with_threshold(model.config, config.score_threshold)
        sys.exit(run(files, model, config.output, config.score_threshold, config.every, device))

    run_program(program)


if __name__ == "__main__":
    main()
