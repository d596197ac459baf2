"""`python -m benchmarks.gpu_busy`: the share of a training step in which the GPU computes, and what it computes.

Loader and step are those of rcnn_edu/run.py. After a warm-up, torch's profiler notes when every kernel and copy began
and ended; in what none of them covers, the GPU was idle. The profiler costs the host a little for each kernel, so the
share is measured too low rather than too high. Images a second are taken before it runs.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch.profiler import ProfilerActivity, profile

from benchmarks.report import machine
from benchmarks.workload import calibrated_weights, make_batch
from rcnn_edu.cli import choose_device, run_program
from rcnn_edu.data.loader import Batch, training_loader
from rcnn_edu.distributed import Processes
from rcnn_edu.errors import UserError
from rcnn_edu.optimization import LossCheck, learning_rate
from rcnn_edu.recipes import RECIPES, with_classes
from rcnn_edu.run import Run
from rcnn_edu.train import prepare


@dataclass(frozen=True)
class Options:
    """How busy a GPU is while it trains on real images."""

    data: str
    """Path of a dataset in VOC layout, or voc2007, voc0712 or shapes."""
    recipe: Literal["article", "best", "mobile"] = "article"
    """Its network, sizes and layers."""
    backbone_weights: str | None = None
    """State dict to start from (none: random weights that act as trained ones do, see benchmarks/workload.py)."""
    batch_size: int = 8
    """Images a step."""
    amp: Literal["off", "bf16"] = "bf16"
    """Precision."""
    workers: int = 12
    """Processes that decode images."""
    warmup: int = 20
    """Steps before anything is measured."""
    steps: int = 10
    """Steps that are timed, and as many that are profiled."""
    json: Path | None = None
    """Also write the numbers to this file."""


@dataclass(frozen=True)
class Busy:
    """What was measured."""

    images_per_second: float
    waiting: float
    """Share of the timed steps spent waiting for the loader."""
    busy: float
    """Share of the profiled steps in which at least one kernel or copy ran."""
    kernels_per_step: float
    milliseconds: dict[str, float]
    """A step's time in each kernel, the longest first."""


def measure(options: Options) -> Busy:
    """Train for warm-up, timed and profiled steps. Raises `UserError` without a GPU or without usable data."""
    device = choose_device("auto")
    if device.type != "cuda":
        raise UserError("no GPU was found; on a CPU see `python -m benchmarks.run_all`")
    with tempfile.TemporaryDirectory() as folder:
        run = prepared(options, device, Path(folder) / "backbone.pt")
    config, training = run.config, run.training
    batches = iter(
        training_loader(
            training, config.batch_size, config.seed, config.steps, workers=options.workers, pin_memory=True
        )
    )
    steps(run, batches, options.warmup)
    seconds, waited = steps(run, batches, options.steps)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        profiled, _ = steps(run, batches, options.steps)
    events = [event for event in profiler.events() or () if event.device_type.name == "CUDA"]
    by_name: Counter[str] = Counter()
    for event in events:
        by_name[event.name] += event.time_range.elapsed_us() / 1000 / options.steps
    return Busy(
        options.steps * options.batch_size / seconds,
        waited / seconds,
        covered((event.time_range.start, event.time_range.end) for event in events) / 1e6 / profiled,
        len(events) / options.steps,
        dict(by_name.most_common()),
    )


def prepared(options: Options, device: torch.device, weights: Path) -> Run:
    """The run whose steps are measured; weights: a file that may be written."""
    recipe = RECIPES[options.recipe]()
    config = replace(
        recipe,
        data=replace(recipe.data, data=options.data),
        model=replace(recipe.model, backbone_weights=options.backbone_weights or str(weights)),
        batch_size=options.batch_size,
        amp=options.amp,
        steps=options.warmup + 2 * options.steps,
    )
    if options.backbone_weights is None:
        torch.save(calibrated_weights(config.model, make_batch(2, 480, 640, config.model.num_classes, 0), 0), weights)
    processes = Processes()
    model, training, validation = prepare(config, processes)
    config = with_classes(config, len(training.classes))
    return Run(config, model.to(device).train(), training, validation, device, processes)


def steps(run: Run, batches: Iterator[Batch], count: int) -> tuple[float, float]:
    """Take some steps; returns the seconds until the GPU had done them, and those spent waiting for images."""
    check, waited, start = LossCheck(), 0.0, time.perf_counter()
    for _ in range(count):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        losses = run.step([batch], learning_rate(run.config, run.done) * 1e-3)  # so that random weights hardly move
        run.done += 1
        check.follow(losses, batch.image_ids, run.done)
    check.finish()
    torch.cuda.synchronize()
    return time.perf_counter() - start, waited


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals (start, end)."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(end - max(start, until), 0.0)
        until = max(until, end)
    return total


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""

    def program() -> None:
        options = tyro.cli(Options, args=arguments, prog="python -m benchmarks.gpu_busy", description=__doc__)
        found = measure(options)
        print(machine(choose_device("auto")))
        print(f"{options.recipe}, batches of {options.batch_size}, amp {options.amp}")
        print(f"{found.images_per_second:.1f} images/s, {found.waiting:.1%} of the time waiting for images")
        print(f"GPU busy {found.busy:.1%} of a step, {found.kernels_per_step:.0f} kernels and copies a step")
        for name, milliseconds in list(found.milliseconds.items())[:25]:
            print(f"{milliseconds:9.3f} ms  {name[:110]}")
        if options.json is not None:
            options.json.write_text(json.dumps({"options": asdict(options), **asdict(found)}, indent=1, default=str))

    run_program(program)


if __name__ == "__main__":
    main()
