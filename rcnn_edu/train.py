"""`python -m rcnn_edu.train`: train Faster R-CNN end to end.

Article "Training". RPN and classifier learn together, from the sum of the four losses ("approximate joint training",
arXiv 1506.01497 §3.2). Everything that a run leaves is in its output folder: checkpoint.pt to go on from, model.pt to
use, metrics.jsonl and TensorBoard files, losses.png, detections.png and detections.json, ap.txt and ap.json.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from rcnn_edu.checkpoint import describe_data, load_weights, read_checkpoint, save_checkpoint
from rcnn_edu.cli import choose_device, run_program, use_bfloat16
from rcnn_edu.command_line import parse_training
from rcnn_edu.data.choose import DetectionDataset, choose_datasets
from rcnn_edu.data.loader import Batch, training_loader
from rcnn_edu.draw import detection_grid, plot_losses
from rcnn_edu.errors import UserError
from rcnn_edu.evaluate import measure, run_detector, summary, write_results
from rcnn_edu.metrics import format_table
from rcnn_edu.model import FasterRCNN
from rcnn_edu.optimization import LossCheck, learning_rate, make_optimizer
from rcnn_edu.recipes import TrainConfig, with_classes
from rcnn_edu.targets import check_targets
from rcnn_edu.training_log import TrainingLog, read_metrics

FREE_TO_CHANGE = {"output", "resume", "overwrite", "device", "workers", "log_every", "checkpoint_every"}
"""Options in which a run and its continuation may differ: where and how it computes, not what."""


def train(config: TrainConfig) -> FasterRCNN:
    """Train, evaluate, and write the output folder; returns the model.

    Raises `UserError` for data, weights or a checkpoint that cannot be used, and `NonFiniteLoss`, a kind of it.
    """
    device = choose_device(config.device)
    _check_output(config)
    training, validation = choose_datasets(config.data)
    for problem in training.problems:
        print(f"left out: {problem}", file=sys.stderr)
    config = with_classes(config, len(training.classes))
    torch.manual_seed(config.seed)
    model = FasterRCNN(config.model, training.classes).to(device)
    model.trained_on = describe_data(config.data.data, training.image_ids)
    run = Run(config, model, make_optimizer(config, model), training, validation, device)
    if config.resume:
        run.restore()
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
        config, check = self.config, LossCheck()
        bfloat16 = use_bfloat16(config.amp, self.device)
        loader = training_loader(
            self.training, config.batch_size, config.seed, config.steps, self.done, config.flip, config.workers,
            pin_memory=self.device.type == "cuda",
        )  # fmt: skip
        self.model.train()
        asked = time.perf_counter()
        with TrainingLog(config.output, config.steps, self.done, self.device) as log, stop_signals() as stop:
            for batch in loader:
                waited = time.perf_counter() - asked
                self.leave_out(batch, log)
                rate = learning_rate(config, self.done)
                losses = self.step(batch, rate, bfloat16) if batch.images else {}
                self.done += 1
                if losses:
                    check.follow(losses, batch.image_ids, self.done)
                log.step(len(batch.images), waited)
                last = self.done == config.steps
                if losses and (last or self.done % config.log_every == 0):
                    log.losses(self.done, {name: float(loss) for name, loss in losses.items()}, rate)
                if stop or last or self.done % config.checkpoint_every == 0:
                    check.finish()
                    self.save()
                if stop:
                    log.close()
                    how = f"go on with --resume and the same options, --output {config.output} among them"
                    print(f"stopped after step {self.done} of {config.steps}; {how}", file=sys.stderr)
                    return
                if config.evaluate_every and self.done % config.evaluate_every == 0 and not last:
                    log.say(f"step {self.done}: {self.evaluate(log, bfloat16)}")
                asked = time.perf_counter()
            self.finish(log, bfloat16)

    def leave_out(self, batch: Batch, log: TrainingLog) -> None:
        """Raise the first error of decoding the batch, or, with --skip-bad, report them all and go on without."""
        for error in batch.errors:
            if not self.config.data.skip_bad:
                raise error
            log.say(f"left out: {error}")

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
        skip_bad, workers = self.config.data.skip_bad, self.config.workers
        results = run_detector(self.model, self.validation, self.device, bfloat16, workers, skip_bad)
        voc, coco = measure(results, self.config.model.num_classes)
        log.evaluation(self.done, summary(voc, coco, self.model.classes))
        if not final:
            return f"mAP@0.5 {voc.map_area:.4f} (area), {voc.map_11point:.4f} (11-point)"
        folder = self.config.output
        write_results(folder, results, self.model.classes, voc, coco)
        examples = [(self.validation[one.index][0], one.found, one.target) for one in results[:8]]
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
        on_gpu = self.device.type == "cuda"
        state = {
            "step": self.done,
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "random_device": torch.cuda.get_rng_state(self.device) if on_gpu else None,
            "settings": _settings(asdict(self.config)),
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
        theirs, ours = state["settings"], _settings(asdict(self.config))
        changed = [name for name in sorted(theirs | ours) if theirs.get(name) != ours.get(name)]
        if changed:
            listed = ", ".join(f"{name} {theirs.get(name)} (now {ours.get(name)})" for name in changed)
            raise UserError(f"{path}: was trained with {listed}; resume with the options of the first start")
        self.optimizer.load_state_dict(state["optimizer"])
        self.done = state["step"]
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and state["random_device"] is not None:
            torch.cuda.set_rng_state(state["random_device"], self.device)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Inside, Ctrl-C and SIGTERM only fill the list, so that a step can end; a second one acts at once."""
    received: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)


def _settings(options: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """What a continuation must have in common with its run, flat: {"model.anchors.scales": "(8.0, 16.0, 32.0)", …}."""
    flat: dict[str, str] = {}
    for name, value in options.items():
        if isinstance(value, dict):
            flat |= _settings(value, f"{prefix}{name}.")
        elif prefix + name not in FREE_TO_CHANGE:
            flat[prefix + name] = str(value)
    return flat


def _check_output(config: TrainConfig) -> None:
    there = (config.output / "checkpoint.pt").exists()
    if config.resume and not there:
        raise UserError(f"{config.output}: holds no checkpoint.pt to resume from; check --output, or drop --resume")
    if there and not config.resume and not config.overwrite:
        raise UserError(
            f"{config.output}: holds a run already; go on with --resume, replace it with --overwrite, "
            f"or name another --output"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    run_program(lambda: train(parse_training(arguments)))


if __name__ == "__main__":
    main()
