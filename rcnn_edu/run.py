"""A training run: step after step from where it is to its end, with checkpoints and evaluations on the way.

Several processes that train together each have a `Run` of the same configuration. Each computes its share of every
batch, the gradients are averaged, and so all take the same step. Whatever is drawn in a step is drawn from the seed and
the step's number (data/batches.py): the number of processes changes nothing but the order in which numbers are added.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rcnn_edu.averaging import AveragedWeights
from rcnn_edu.checkpoint import load_weights, read_checkpoint, save_checkpoint
from rcnn_edu.cli import use_bfloat16
from rcnn_edu.continuation import check_same, check_same_data, settings
from rcnn_edu.data.batches import Share, network_seed, target_size
from rcnn_edu.data.choose import DetectionDataset
from rcnn_edu.data.loader import Batch, training_loader
from rcnn_edu.distributed import Processes
from rcnn_edu.errors import UserError
from rcnn_edu.evaluate import Result, measure, run_detector, summary
from rcnn_edu.finished_run import write_finished_run
from rcnn_edu.interruption import Interrupted, stop_signals
from rcnn_edu.model import FasterRCNN
from rcnn_edu.optimization import LossCheck, learning_rate, make_optimizer
from rcnn_edu.targets import check_targets
from rcnn_edu.training_config import TrainConfig
from rcnn_edu.training_log import TrainingLog, read_metrics


@dataclass
class Run:
    """What a run needs, and how far it got. Raises `UserError` for a batch that cannot be divided as wanted."""

    config: TrainConfig
    model: FasterRCNN
    """On `device`, the same in every process."""
    training: DetectionDataset
    validation: DetectionDataset
    device: torch.device
    processes: Processes
    done: int = 0
    """Steps that are finished."""
    received: Sequence[int] = ()
    """Signals that ask the run to stop."""

    def __post_init__(self) -> None:
        config, count = self.config, self.processes.count
        if config.batch_size % (count * config.accumulate):
            raise UserError(
                f"--batch-size {config.batch_size} cannot be divided among {count} processes × --accumulate "
                f"{config.accumulate}; choose a multiple of {count * config.accumulate}"
            )
        self.bfloat16 = use_bfloat16(config.amp, self.device)
        self.optimizer = make_optimizer(config, self.model)
        self.averaged = None if config.ema is None else AveragedWeights(self.model, config.ema)
        self.replica: nn.Module = self.model
        if count > 1:
            with warnings.catch_warnings():  # newer versions call `broadcast_buffers` something else
                warnings.simplefilter("ignore", FutureWarning)
                self.replica = DistributedDataParallel(
                    self.model,
                    broadcast_buffers=False,  # they are constants here
                    gradient_as_bucket_view=True,
                )

    def go(self) -> None:
        """Train from where the run is to its last step, and finish; or stop early when asked to."""
        config, share = self.config, Share(self.processes.rank, self.processes.count, self.config.accumulate)
        loader = training_loader(
            self.training, config.batch_size, config.seed, config.steps, self.done, config.flip, config.workers,
            self.device.type == "cuda", share,
        )  # fmt: skip
        with (
            TrainingLog(config.output, config.steps, self.done, self.device, self.processes.first) as log,
            stop_signals() as self.received,
        ):
            try:
                self.take_steps(loader, log)
                self.finish(log)
            except Interrupted:
                self.say_how_to_go_on(log)

    def take_steps(self, loader: Iterable[Batch], log: TrainingLog) -> None:
        """All steps that are left. Raises `Interrupted` after a step, or in an evaluation, when asked to stop."""
        config, processes, check = self.config, self.processes, LossCheck()
        self.model.train()
        if processes.any(self.evaluation_is_missing()):
            self.evaluate(log)
        asked = time.perf_counter()
        for passes in zip(*[iter(loader)] * config.accumulate, strict=True):
            waited = time.perf_counter() - asked
            rate = learning_rate(config, self.done)
            losses = self.step(passes, rate)
            self.done += 1
            with processes.together():  # from here on, all know what befell one of them
                self.leave_out(passes, log)
                check.follow(losses, [name for batch in passes for name in batch.image_ids], self.done)
            stop = processes.any(bool(self.received))
            last, due = self.done == config.steps, self.evaluation_is_due()
            log.step(processes.count * sum(len(batch.images) for batch in passes), waited)
            if last or self.done % config.log_every == 0:
                values = processes.mean(torch.stack(list(losses.values()))).tolist()
                log.losses(self.done, dict(zip(losses, values, strict=True)), rate)
            # Also before an evaluation: that may take long, and the program may be ended before.
            if stop or last or due or self.done % config.checkpoint_every == 0:
                with processes.together():
                    check.finish()
                self.save()
            if stop:
                raise Interrupted
            if due:
                self.evaluate(log)
            asked = time.perf_counter()

    def step(self, passes: Sequence[Batch], rate: float) -> dict[str, Tensor]:
        """One step of the optimizer; returns the four losses of this process's share, detached.

        They are means over the images of a whole batch: one that is missing counts as one without a loss.
        """
        config = self.config
        share = config.batch_size // self.processes.count
        size = target_size(config.seed, self.done, config.target_sizes)
        torch.manual_seed(network_seed(config.seed, self.done, self.processes.rank))
        self.optimizer.zero_grad(set_to_none=True)
        totals: dict[str, Tensor] = {}
        for place, batch in enumerate(passes, start=1):
            check_targets(batch.targets, config.model.num_classes, batch.image_ids)
            images, targets = batch.to(self.device)
            weight, seeds = len(images) / share, batch.seeds
            if not images:  # every process must take part: in an empty image, with no weight
                images, seeds = [torch.zeros(3, 64, 64, dtype=torch.uint8, device=self.device)], [0]
                nothing = torch.zeros(0, 4, device=self.device)
                targets = [{"boxes": nothing, "labels": nothing[:, 0].long()}]
            with self.keep_apart(until_last=place < len(passes)):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
                    losses = self.replica(images, targets, seeds, size)
                (torch.stack(list(losses.values())).sum() * weight).backward()
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0.0) + loss.detach() * weight
        if config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        if self.averaged is not None:
            self.averaged.update(self.done + 1)
        return totals

    def keep_apart(self, until_last: bool) -> AbstractContextManager[None]:
        """Gradients of all passes but the last stay in their process: they are averaged once a step."""
        if until_last and isinstance(self.replica, DistributedDataParallel):
            return self.replica.no_sync()
        return nullcontext()

    def leave_out(self, passes: Sequence[Batch], log: TrainingLog) -> None:
        """Raise the first error of decoding the batch, or, with --skip-bad, report them all."""
        for error in (error for batch in passes for error in batch.errors):
            if not self.config.data.skip_bad:
                raise error
            log.say(f"left out: {error}")

    def evaluation_is_due(self) -> bool:
        """Whether the run is at a step after which it is measured; the last one is `finish`'s."""
        every = self.config.evaluate_every
        return every > 0 and 0 < self.done < self.config.steps and self.done % every == 0

    def evaluation_is_missing(self) -> bool:
        """Whether the run was interrupted between a step and its evaluation."""
        return self.evaluation_is_due() and self.processes.first and not self.is_evaluated()

    def is_evaluated(self) -> bool:
        """Whether what the model finds at this step is written down."""
        records = read_metrics(self.config.output / "metrics.jsonl")
        return any(record["step"] == self.done and "map_area" in record for record in records)

    def evaluate(self, log: TrainingLog) -> None:
        """Measure on the validation split, write it down, and say it in a line."""
        with self.weights_to_use():
            results = self.detect()
        if self.processes.first:
            voc, coco = measure(results, self.config.model.num_classes)
            log.evaluation(self.done, summary(voc, coco, self.model.classes))
            log.say(f"step {self.done}: mAP@0.5 {voc.map_area:.4f} (area), {voc.map_11point:.4f} (11-point)")

    def detect(self) -> list[Result]:
        """What the model finds on the validation split; nothing in all processes but the first."""
        config = self.config
        return run_detector(
            self.model, self.validation, self.device, self.bfloat16, config.workers, config.data.skip_bad,
            self.processes, lambda: bool(self.received) and self.processes.count == 1,
        )  # fmt: skip

    def weights_to_use(self) -> AbstractContextManager[None]:
        """Inside, the model has the weights that the run is judged by: the averaged ones, if there are any."""
        return nullcontext() if self.averaged is None else self.averaged.in_place()

    def finish(self, log: TrainingLog) -> None:
        """Evaluate, and write everything that a finished run leaves. The model keeps the weights that are saved."""
        if self.averaged is not None:
            self.averaged.settle()
        results = self.detect()
        if self.processes.first:
            voc, coco = measure(results, self.config.model.num_classes)
            if not self.is_evaluated():  # a finished run may be resumed, and so finished again
                log.evaluation(self.done, summary(voc, coco, self.model.classes))
            log.close()
            write_finished_run(self.config.output, self.model, self.validation, results, voc, coco)

    def say_how_to_go_on(self, log: TrainingLog) -> None:
        """After a run that was stopped."""
        log.close()
        if self.processes.first:
            how = f"go on with --resume and the same options, --output {self.config.output} among them"
            print(f"stopped after step {self.done} of {self.config.steps}; {how}", file=sys.stderr)

    def save(self) -> None:
        """Write checkpoint.pt, from which `restore` continues exactly, with any number of processes."""
        if self.processes.first:
            state = {
                "step": self.done,
                "optimizer": self.optimizer.state_dict(),
                "averaged": None if self.averaged is None else self.averaged.state_dict(),
                "settings": settings(self.config),
            }
            save_checkpoint(self.config.output / "checkpoint.pt", self.model, self.model.trained_on, state)

    def restore(self) -> None:
        """Continue from checkpoint.pt. Raises `UserError` if it is missing or of another run."""
        path = self.config.output / "checkpoint.pt"
        content = read_checkpoint(path)
        state = content.get("training")
        if state is None:
            raise UserError(f"{path}: holds a finished model without training state; it cannot be resumed")
        check_same_data(content, self.model, path)
        check_same(state["settings"], self.config, path)
        load_weights(self.model, content, path)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.done = state["step"]
