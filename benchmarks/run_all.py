"""`python -m benchmarks.run_all`: every measurement; of each a table, a picture, and the time of every round.

Into the output folder go, for each topic, NAME.md, NAME.png and NAME.json. docs/performance.md is made from them.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import torch
import tyro

from benchmarks import compare_torchvision
from benchmarks.growth import growth
from benchmarks.plots import bars, curves
from benchmarks.report import Side, machine, markdown
from benchmarks.steps import OURS, anchor_target_layer, crop_pooling, proposal_target_layer, suppression
from benchmarks.timing import Timing
from rcnn_edu.cli import choose_device, run_program, use_bfloat16
from rcnn_edu.config import Config

T = TypeVar("T")
Topic = Literal["whole", "crop_pooling", "anchor_targets", "proposal_targets", "nms", "growth"]


@dataclass(frozen=True)
class Options:
    """Measure rcnn_edu against torchvision and against the textbook forms of its steps."""

    only: tuple[Topic, ...] = ("whole", "crop_pooling", "anchor_targets", "proposal_targets", "nms", "growth")
    """Topics to measure."""
    output: Path = Path("runs/benchmarks")
    """Folder for tables, pictures and numbers."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU if there is one."""
    threads: int | None = None
    """CPU threads (none: as many as torch chooses)."""
    rounds: int = 5
    """Timed rounds of whole detectors; single steps, which are short, get ten times as many."""


def whole(options: Options, device: torch.device) -> list[Timing]:
    """Training step and inference of ResNet-50 C4, in float32, and in bfloat16 on hardware that computes in it."""
    precisions = [("off", "float32"), ("bf16", "bfloat16")]
    if not use_bfloat16("auto", device):
        print("bfloat16 is left out: this processor would only imitate it", file=sys.stderr)
        precisions.pop()
    timings = []
    for amp, name in precisions:
        settings = compare_torchvision.Options(device=device.type, rounds=options.rounds, warmup=1)  # type: ignore[arg-type]
        results = compare_torchvision.compare(replace(settings, amp=amp), Config(pretrained=False))  # type: ignore[arg-type]
        for one in results:
            timing = Timing(f"{one.mode}, {name}", _named(one.seconds))
            if one.peak_mib is not None:
                peaks = {side: statistics.median(mib) for side, mib in one.peak_mib.items()}
                timing = replace(timing, peak_mib=_named(peaks))
            timings.append(timing)
    return timings


def _named(values: dict[Side, T]) -> dict[str, T]:
    return {OURS: values["ours"], "torchvision": values["torchvision"]}


STEPS: dict[str, tuple[str, Callable[[torch.device, int], list[Timing]]]] = {
    "crop_pooling": ("Crop pooling", crop_pooling),
    "anchor_targets": ("Anchor targets of 17,100 anchors", anchor_target_layer),
    "proposal_targets": ("Proposal targets of 2,000 proposals", proposal_target_layer),
    "nms": ("Non-maximum suppression", suppression),
}


def measure(topic: Topic, options: Options, device: torch.device) -> None:
    """Measure one topic, print its table and write its files."""
    picture = options.output / f"{topic}.png"
    if topic == "growth":
        measured = growth(device, options.rounds)
        timings = [row for one in measured for row in one.rows()]
        curves(measured, "A whole step, ResNet-18", picture)
    elif topic == "whole":
        timings = whole(options, device)
        bars(timings, "A whole step: ResNet-50 C4, one image of 600×800", picture)
    else:
        title, function = STEPS[topic]
        timings = function(device, 10 * options.rounds)
        bars(timings, title, picture)
    table = f"{machine(device)}\n\n{markdown(timings)}\n"
    print(f"{topic}\n{table}")
    (options.output / f"{topic}.md").write_text(table)
    content = {"machine": machine(device), "timings": [asdict(one) for one in timings]}
    (options.output / f"{topic}.json").write_text(json.dumps(content, indent=1) + "\n")


def run(options: Options) -> None:
    """Measure all topics that were asked for."""
    device = choose_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    for topic in options.only:
        print(f"measuring {topic} …", file=sys.stderr)
        measure(topic, options, device)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    run_program(
        lambda: run(tyro.cli(Options, args=arguments, prog="python -m benchmarks.run_all", description=__doc__))
    )


if __name__ == "__main__":
    main()
