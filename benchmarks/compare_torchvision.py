"""`python -m benchmarks.compare_torchvision`: ours against torchvision's Faster R-CNN, same parts, same weights.

Time of a training step (forward, backward, SGD step) and of inference, and the peak memory of each. Both models live in
one process and take turns, in alternating order, on the same images, so that a machine that slows down slows both.
Before anything is timed, both are checked to do the same amount of work.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import nn

from benchmarks.peer import build_peer, copy_heads
from benchmarks.report import INFERENCE, SIDES, TRAINING, Result, Side, largest_so_far, machine, table
from benchmarks.timing import in_new_process, interleaved
from benchmarks.workload import Batch, Work, calibrated_weights, make_batch, measure_work, shortfall
from rcnn_edu.cli import choose_device, run_program
from rcnn_edu.config import Config
from rcnn_edu.errors import UserError
from rcnn_edu.model import FasterRCNN

# So small that the weights, and with them the work, stay what they are through all rounds.
LEARNING_RATE = 1e-6
BATCHES = 3  # of different images, taken in turn: the work depends a little on the image
PROCESSES = 3  # whose peak memory is taken: on a CPU it varies by a tenth, with where the allocator leaves holes


@dataclass(frozen=True)
class Options:
    """Time and memory of rcnn_edu's Faster R-CNN against torchvision's, built from the same parts."""

    rounds: int = 10
    """Timed rounds; in each, both models do one step."""
    warmup: int = 2
    """Rounds before those, not counted."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU if there is one."""
    threads: int | None = None
    """CPU threads (none: as many as torch chooses)."""
    batch_size: int = 1
    """Images in a step."""
    height: int = 600
    """Of each image, in pixels. Both models resize the shorter side to 600, unless the longer would pass 1000."""
    width: int = 800
    """Of each image, in pixels."""
    amp: Literal["off", "bf16", "ours"] = "off"
    """bf16: both models under autocast to bfloat16; ours: only ours, against torchvision's in float32."""
    channels_last_peer: bool = False
    """Give torchvision's weights the channels-last layout that ours always have (off: as it comes, and is used)."""
    sampling_ratio: int = 2
    """Points along each side of a bin in torchvision's RoIAlign: 2 as in its own detectors; 1 reads as much as ours."""
    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = "resnet50"
    """Cut after layer3 (C4); layer4 sees the crops."""
    memory: bool = True
    """Also measure peak memory, each model and mode in processes of its own."""
    seed: int = 0
    """Of weights and images."""
    json: Path | None = None
    """Also write all numbers, with the time of every round, to this file."""


class Runner:
    """A model with its optimizer, and the two things that are timed."""

    def __init__(self, model: nn.Module, device: torch.device, bfloat16: bool) -> None:
        self.model, self.device, self.bfloat16 = model.to(device), device, bfloat16
        learning = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(learning, lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-4)

    def run(self, mode: str, batch: Batch) -> Any:
        """One training step, or the detections of the batch."""
        self.model.train(mode == TRAINING)
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)
        if mode == INFERENCE:
            with torch.no_grad(), autocast:
                return self.model(batch.images)
        # As our training loop does: the last step's gradients go first, and each image draws its own random numbers.
        self.optimizer.zero_grad(set_to_none=True)
        seeds = {"seeds": range(len(batch.images))} if isinstance(self.model, FasterRCNN) else {}
        with autocast:
            losses = self.model(batch.images, batch.targets, **seeds)
        loss = torch.stack(list(losses.values())).sum()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def compare(options: Options, config: Config) -> list[Result]:
    """Build both models, check that they do the same work, and measure. Raises `UserError` if they do not."""
    device = choose_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    batches = [_batch(options, config, i).to(device) for i in range(BATCHES)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = build_both(options, config, folder)
        runners = {side: Runner(model, device, bfloat16(options, side)) for side, model in models.items()}
        work = {mode: check_work(runners, mode, batches, config) for mode in (TRAINING, INFERENCE)}
        return [
            Result(
                mode,
                work[mode],
                time_steps(runners, mode, batches, options.rounds, options.warmup),
                _peaks(mode, options, config, folder),
            )
            for mode in (TRAINING, INFERENCE)
        ]


def bfloat16(options: Options, side: Side) -> bool:
    """Whether a side's model runs under autocast."""
    return options.amp == "bf16" or (options.amp == "ours" and side == "ours")


def build_both(options: Options, config: Config, folder: Path) -> dict[Side, nn.Module]:
    """Both models with the same weights; each one's state dict is left in `folder` for the memory measurement."""
    torch.save(calibrated_weights(config, _batch(options, config, 0), options.seed), folder / "backbone.pt")
    torch.manual_seed(options.seed)
    config = replace(config, backbone_weights=str(folder / "backbone.pt"))
    ours, peer = FasterRCNN(config), build_peer(config, options.sampling_ratio, options.channels_last_peer)
    copy_heads(ours, peer)
    models: dict[Side, nn.Module] = {"ours": ours, "torchvision": peer}
    for side, model in models.items():
        torch.save(model.state_dict(), folder / f"{side}.pt")
    return models


def check_work(runners: dict[Side, Runner], mode: str, batches: Sequence[Batch], config: Config) -> dict[Side, Work]:
    """Both models' work for the first batch; every batch is checked, which also warms both models up.

    Raises `UserError` when a model has fewer proposals, RoIs or detections than the config asks for, or when the
    arithmetic of the two networks as written differs by more than the rows that torchvision pads.
    """
    seen: list[dict[Side, Work]] = []
    for number, batch in enumerate(batches):
        work = {side: measure_work(one.model, partial(one.run, mode, batch)) for side, one in runners.items()}
        for side in SIDES:
            if lacking := shortfall(work[side], config, mode == TRAINING):
                raise UserError(f"{mode}, batch {number}: {side} has only {lacking}; try another --seed or image size")
        written = measure_work(runners["ours"].model, partial(runners["ours"].run, mode, batch), plain=True).gflop
        if abs(written / work["torchvision"].gflop - 1) > 0.05:
            peer = work["torchvision"].gflop
            raise UserError(f"{mode}, batch {number}: {written:.1f} and {peer:.1f} GFLOP are not the same work")
        seen.append(work)
    return seen[0]


def peak_memory(side: Side, mode: str, options: Options, config: Config, folder: Path) -> float:
    """MiB that a fresh process needs at most for one model and one mode, on top of the imported libraries.

    On a GPU, what torch had allocated at most. On a CPU, the process's largest resident size after two steps, minus
    what it was before the model was built: weights, gradients, momentum, activations and work space.
    """
    device = choose_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    before = largest_so_far(device)
    plain = replace(config, pretrained=False, backbone_weights=None)
    if side == "ours":
        model: nn.Module = FasterRCNN(plain)
    else:
        model = build_peer(plain, options.sampling_ratio, options.channels_last_peer)
    model.load_state_dict(torch.load(folder / f"{side}.pt", weights_only=True))
    runner, batch = Runner(model, device, bfloat16(options, side)), _batch(options, config, 0).to(device)
    for _ in range(2):  # the first training step makes the optimizer's momentum
        runner.run(mode, batch)
    return (largest_so_far(device) - before) / 2**20


def _batch(options: Options, config: Config, number: int) -> Batch:
    return make_batch(options.batch_size, options.height, options.width, config.num_classes, options.seed + number)


def time_steps(
    runners: dict[Side, Runner], mode: str, batches: Sequence[Batch], rounds: int, warmup: int
) -> dict[Side, list[float]]:
    """Seconds an image, one entry a round; the batches come in turn."""

    def step(number: int, runner: Runner) -> None:
        runner.run(mode, batches[number % len(batches)])

    calls = {side: partial(step, runner=runner) for side, runner in runners.items()}
    seconds = interleaved(calls, rounds, warmup, runners["ours"].device, mode)
    images = len(batches[0].images)
    return {side: [one / images for one in seconds[side]] for side in SIDES}


def _peaks(mode: str, options: Options, config: Config, folder: Path) -> dict[Side, list[float]] | None:
    if not options.memory:
        return None
    peaks: dict[Side, list[float]] = {side: [] for side in SIDES}
    for _ in range(PROCESSES if choose_device(options.device).type == "cpu" else 1):
        for side in SIDES:
            peaks[side].append(in_new_process(peak_memory, side, mode, options, config, folder))
    return peaks


def about(options: Options) -> list[str]:
    """What was measured, and on what, in two lines."""
    layout = "channels last" if options.channels_last_peer else "default layout"
    return [
        f"machine  {machine(choose_device(options.device))}",
        f"setting  {options.backbone} C4, batches of {options.batch_size}, {options.width}x{options.height}, "
        f"amp {options.amp}, {options.rounds} rounds; torchvision: {layout}, sampling_ratio {options.sampling_ratio}",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""

    def program() -> None:
        options = tyro.cli(Options, args=arguments, prog="python -m benchmarks.compare_torchvision")
        results = compare(options, Config(backbone=options.backbone, pretrained=False))
        print(table(results, about(options)))
        if options.json is not None:
            numbers = [asdict(one) | {"ratios": one.ratios} for one in results]
            content = {"about": about(options), "options": asdict(options), "results": numbers}
            options.json.write_text(json.dumps(content, indent=2, default=str) + "\n")

    run_program(program)


if __name__ == "__main__":
    main()
