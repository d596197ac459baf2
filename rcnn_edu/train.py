"""`python -m rcnn_edu.train`: train Faster R-CNN end to end.

Article "Training". Both networks learn together from the sum of the four losses ("approximate joint training",
arXiv 1506.01497 §3.2). Everything a run leaves is in its output folder: checkpoint.pt to go on from, model.pt to use,
metrics.jsonl and TensorBoard files, losses.png, detections.png, ap.txt.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import tyro
from torch import Tensor

from rcnn_edu.checkpoint import describe_data, load_weights, read_checkpoint, save_checkpoint
from rcnn_edu.cli import choose_device, run_program, use_bfloat16
from rcnn_edu.data.choose import DetectionDataset, choose_datasets
from rcnn_edu.data.loader import Batch, training_loader
from rcnn_edu.draw import detection_grid, plot_losses
from rcnn_edu.errors import UserError
from rcnn_edu.evaluate import measure, run_detector, summary, write_results
from rcnn_edu.metrics import format_table
from rcnn_edu.model import FasterRCNN
from rcnn_edu.recipes import RECIPES, TrainConfig, with_classes
from rcnn_edu.targets import check_targets
from rcnn_edu.training_log import TrainingLog, read_metrics

# What may differ between a run and its continuation: where and how it computes, not what.
FREE_TO_CHANGE = {"output", "resume", "overwrite", "device", "workers", "log_every", "checkpoint_every"}


class NonFiniteLoss(UserError):
    """The loss is not a number: training cannot go on."""


def train(config: TrainConfig) -> FasterRCNN:
    """Train, evaluate, and write the output folder; returns the model.

    Raises `UserError` for data, weights or a checkpoint that cannot be used, and `NonFiniteLoss`.
    """
    device = choose_device(config.device)
    _check_output(config)
    training, validation = choose_datasets(config.data)
    config = with_classes(config, len(training.classes))
    torch.manual_seed(config.seed)
    model = FasterRCNN(config.model, training.classes).to(device)
    model.trained_on = describe_data(config.data.data, training.image_ids)
    run = Run(config, model, make_optimizer(config, model), training, validation, device)
    config.output.mkdir(parents=True, exist_ok=True)
    if config.resume:
        run.restore()
    else:
        (config.output / "metrics.jsonl").unlink(missing_ok=True)
    for problem in training.problems:
        print(f"left out: {problem}", file=sys.stderr)
    run.go()
    return model


@dataclass
class Run:
    """A training run: what it needs, and how far it got."""

    config: TrainConfig
    model: FasterRCNN
    optimizer: torch.optim.Optimizer
    training: DetectionDataset
    validation: DetectionDataset
    device: torch.device
    done: int = 0
    """Steps that are finished."""

    def go(self) -> None:
        """Train from where the run is to its last step, and finish; or stop early when asked to."""
        config = self.config
        bfloat16 = use_bfloat16(config.amp, self.device)
        loader = training_loader(
            self.training, config.batch_size, config.seed, config.steps, self.done, config.flip, config.workers,
            pin_memory=self.device.type == "cuda",
        )  # fmt: skip
        self.model.train()
        log = TrainingLog(config.output, config.steps, self.done, self.device)
        check = LossCheck()
        asked = time.perf_counter()
        with stop_signals() as stop:
            for batch in loader:
                waited = time.perf_counter() - asked
                rate = learning_rate(config, self.done)
                losses = self.step(batch, rate, bfloat16)
                values = check.follow(losses, batch.image_ids, self.done + 1)
                self.done += 1
                log.step(len(batch.images), waited)
                if self.done % config.log_every == 0 or self.done == config.steps:
                    log.losses(self.done, values(), rate)
                if config.evaluate_every and self.done % config.evaluate_every == 0 and self.done < config.steps:
                    log.say(f"step {self.done}: {self.evaluate(log, bfloat16)}")
                if self.done % config.checkpoint_every == 0 or self.done == config.steps or stop:
                    check.finish()
                    self.save()
                if stop:
                    log.close()
                    print(f"stopped after step {self.done}; go on with --resume --output {config.output}", file=sys.stderr)
                    return
                asked = time.perf_counter()
        self.finish(log, bfloat16)

    def step(self, batch: Batch, rate: float, bfloat16: bool) -> dict[str, Tensor]:
        """One step of the optimizer; returns the four losses, detached."""
        check_targets(batch.targets, self.config.model.num_classes, batch.image_ids)
        images, targets = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            losses = self.model.losses(images, targets)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        return {name: loss.detach() for name, loss in losses.items()}

    def evaluate(self, log: TrainingLog, bfloat16: bool, final: bool = False) -> str:
        """Measure on the validation split, write it down, and say it in a line, or as a table when `final`."""
        results = run_detector(self.model, self.validation, self.device, bfloat16, self.config.workers)
        voc, coco = measure(results, self.config.model.num_classes)
        log.evaluation(self.done, summary(voc, coco, self.model.classes))
        if not final:
            return f"mAP@0.5 {voc.map_area:.4f} (area), {voc.map_11point:.4f} (11-point)"
        folder = self.config.output
        write_results(folder, results, self.model.classes, voc, coco)
        examples = [(self.validation[i][0], *results[i][1:]) for i in range(min(8, len(results)))]
        detection_grid(examples, self.model.classes, folder / "detections.png")
        table = format_table(voc, self.model.classes, coco)
        (folder / "ap.txt").write_text(table + "\n")
        return table

    def finish(self, log: TrainingLog, bfloat16: bool) -> None:
        """Evaluate, and write everything that a finished run leaves."""
        table = self.evaluate(log, bfloat16, final=True)
        log.close()
        folder = self.config.output
        save_checkpoint(folder / "model.pt", self.model, self.model.trained_on)
        plot_losses(read_metrics(folder / "metrics.jsonl"), folder / "losses.png")
        print(table)
        for name in ("model.pt", "losses.png", "detections.png", "metrics.jsonl", "ap.txt"):
            print(folder / name)

    def save(self) -> None:
        """Write checkpoint.pt, from which `restore` continues exactly."""
        state = {
            "step": self.done,
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "random_device": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "settings": _settings(self.config),
        }
        save_checkpoint(self.config.output / "checkpoint.pt", self.model, self.model.trained_on, state)

    def restore(self) -> None:
        """Continue from checkpoint.pt. Raises `UserError` if it is missing or of another run."""
        path = self.config.output / "checkpoint.pt"
        content = read_checkpoint(path)
        state = content.get("training")
        if state is None:
            raise UserError(f"{path}: holds a finished model without training state; it cannot be resumed")
        load_weights(self.model, content, path)
        theirs, ours = state["settings"], _settings(self.config)
        if changed := sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)):
            name = changed[0]
            raise UserError(
                f"{path}: was trained with {name} = {theirs.get(name)}, not {ours.get(name)}"
                f"{f' (and {len(changed) - 1} more differ)' if len(changed) > 1 else ''}; "
                f"resume with the options of the first start"
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self.done = state["step"]
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and state["random_device"] is not None:
            torch.cuda.set_rng_state(state["random_device"], self.device)


class LossCheck:
    """Stops a run at a loss that is not finite, naming the term and the images.

    Reading a loss makes a GPU finish its queue, so each step's losses are read only after the next step is queued.
    """

    def __init__(self) -> None:
        self._pending: tuple[dict[str, Tensor], list[str], int] | None = None

    def follow(self, losses: dict[str, Tensor], image_ids: list[str], step: int) -> Any:
        """Check the last step's losses and keep these for later; returns a function that reads these at once."""
        self.finish()
        self._pending = (losses, image_ids, step)
        on_cpu = next(iter(losses.values())).device.type == "cpu"
        if on_cpu:
            self.finish()
        return lambda: {name: float(loss) for name, loss in losses.items()}

    def finish(self) -> None:
        """Check what is pending. Raises `NonFiniteLoss`."""
        if self._pending is None:
            return
        losses, image_ids, step = self._pending
        self._pending = None
        values = torch.stack(list(losses.values())).tolist()
        bad = [name for name, value in zip(losses, values, strict=True) if not math.isfinite(value)]
        if bad:
            raise NonFiniteLoss(
                f"step {step}: the loss {', '.join(bad)} is not finite, on images {', '.join(image_ids)}; "
                f"lower --learning-rate, lengthen --warmup-steps or set --clip-norm, and resume from the last checkpoint"
            )


def make_optimizer(config: TrainConfig, model: FasterRCNN) -> torch.optim.Optimizer:
    """SGD or AdamW over everything that learns; biases and normalisation are not decayed."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, config.learning_rate)
    return torch.optim.SGD(groups, config.learning_rate, config.momentum)


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of step number `step`, counted from 0."""
    rate = config.learning_rate
    if config.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / config.steps))
    else:
        rate *= 0.1 ** sum(step >= milestone for milestone in config.milestones)
    if step < config.warmup_steps:
        rate *= 0.01 + 0.99 * step / config.warmup_steps
    return rate


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Inside, Ctrl-C and SIGTERM only fill the list, so that a step can end; a second one acts at once."""
    received: list[int] = []
    before = {}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _settings(config: TrainConfig) -> dict[str, Any]:
    """What a continuation must have in common with its run, as plain values."""
    flat = {k: v for k, v in asdict(config).items() if k not in FREE_TO_CHANGE}
    return {f"{k}.{name}" if isinstance(v, dict) else k: str(value) for k, v in flat.items() for name, value in (
        v.items() if isinstance(v, dict) else [(k, v)]
    )}


def _check_output(config: TrainConfig) -> None:
    there = (config.output / "checkpoint.pt").exists()
    if config.resume and not there:
        raise UserError(f"{config.output}: holds no checkpoint.pt to resume from; check --output, or leave --resume out")
    if there and not config.resume and not config.overwrite:
        raise UserError(f"{config.output}: holds a run already; go on with --resume, replace it with --overwrite, or name another --output")


def parse(arguments: Sequence[str] | None = None) -> TrainConfig:
    """The command line: a recipe's numbers, and every one of them an option.

    `--recipe` is article, mobile or shapes; by default shapes for `--data shapes`, and article for photos.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name, rest = _take(given, "--recipe")
    data = _take(given, "--data")[0]
    name = name or ("shapes" if data == "shapes" else "article")
    if name not in RECIPES:
        raise UserError(f"--recipe {name}: no such recipe; there are {', '.join(RECIPES)}")
    recipe = RECIPES[name]()
    if data is not None:
        recipe = replace(recipe, data=replace(recipe.data, data=data))
    about = f"{__doc__}\nThe defaults below are those of the recipe {name}: {RECIPES[name].__doc__}\nChoose with --recipe {{{','.join(RECIPES)}}}."
    return tyro.cli(TrainConfig, args=rest, default=recipe, prog="python -m rcnn_edu.train", description=about)


def _take(arguments: list[str], option: str) -> tuple[str | None, list[str]]:
    """The value of `option`, and the arguments without it."""
    for place, argument in enumerate(arguments):
        if argument == option and place + 1 < len(arguments):
            return arguments[place + 1], arguments[:place] + arguments[place + 2 :]
        if argument.startswith(f"{option}="):
            return argument.split("=", 1)[1], arguments[:place] + arguments[place + 1 :]
    return None, arguments


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    def program() -> None:
        train(parse(arguments))

    run_program(program)


if __name__ == "__main__":
    main()
