"""What a run leaves behind while it goes: a progress bar, metrics.jsonl, TensorBoard, and how long it will take."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from rcnn_edu.errors import UserError

FORECAST_FROM, FORECAST_AT = 5, 50
"""Steps of this start between which the speed is taken that the forecast is made from; the first few are slow."""


class TrainingLog:
    """Progress bar on standard error, one JSON object a line in `metrics.jsonl`, and TensorBoard files.

    Lines of steps after `start`, left by a run that was interrupted after its last checkpoint, are removed.
    writes: of several processes that train together only one does; the others keep silent.
    """

    def __init__(self, folder: Path, steps: int, start: int, device: torch.device, writes: bool = True) -> None:
        self.path = folder / "metrics.jsonl"
        self.device = device
        self._tensorboard: SummaryWriter | None = None
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            kept = [record for record in read_metrics(self.path) if record["step"] <= start]
            self.path.write_text("".join(json.dumps(record) + "\n" for record in kept))
            self._tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
        self._bar = tqdm(
            total=steps, initial=start, unit="step", file=sys.stderr, dynamic_ncols=True, mininterval=0.5,
            disable=not writes,
        )  # fmt: skip
        self._writes, self._steps, self._start = writes, steps, start
        self._done, self._forecast_since = start, 0.0
        self._since, self._images, self._waited = time.perf_counter(), 0, 0.0

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self, images: int, waited: float) -> None:
        """Count one step over `images` images that began by waiting `waited` seconds for them."""
        self._images += images
        self._waited += waited
        self._done += 1
        self._bar.update(1)
        if self._done - self._start == FORECAST_FROM:
            self._forecast_since = time.perf_counter()
        elif self._done - self._start == FORECAST_AT and self._done < self._steps and self._writes:
            self._bar.write(self._forecast(time.perf_counter() - self._forecast_since), file=sys.stderr)

    def losses(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """Write down the losses of one step, and the speed since the last time."""
        passed = time.perf_counter() - self._since
        record = {
            "step": step,
            **losses,
            "total": sum(losses.values()),
            "lr": learning_rate,
            "images_per_second": self._images / passed,
            "waiting": self._waited / passed,
            "memory_gb": self._memory(),
        }
        self._measure_anew()
        self._write(record)
        self._bar.set_postfix_str(
            f"loss {record['total']:.3f}, lr {learning_rate:.2g}, {record['images_per_second']:.1f} images/s, "
            f"waiting {record['waiting']:.0%}, {record['memory_gb']:.1f} GB",
            refresh=False,
        )

    def evaluation(self, step: int, measured: dict[str, Any]) -> None:
        """Write down an evaluation."""
        self._write({"step": step, **{k: v for k, v in measured.items() if not isinstance(v, dict)}})
        self._measure_anew()

    def say(self, line: str) -> None:
        """Print a line above the bar, also in a process that writes nothing else."""
        self._bar.write(line)

    def close(self) -> None:
        """Finish the bar and the files."""
        self._bar.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def _measure_anew(self) -> None:
        """Speed and waiting are counted from here: an evaluation is no part of them."""
        self._since, self._images, self._waited = time.perf_counter(), 0, 0.0

    def _forecast(self, passed: float) -> str:
        a_step = passed / (FORECAST_AT - FORECAST_FROM)
        left = self._steps - self._done
        finish = time.strftime("%A %H:%M", time.localtime(time.time() + left * a_step))
        return (
            f"{a_step:.3g} s a step: the {left:,} steps that are left take about {duration(left * a_step)}, "
            f"until {finish}, evaluations not counted"
        )

    def _write(self, record: dict[str, Any]) -> None:
        if self._tensorboard is None:
            return
        with self.path.open("a") as file:
            file.write(json.dumps({k: _rounded(v) for k, v in record.items()}) + "\n")
        for name, value in record.items():
            if name != "step" and value is not None:
                self._tensorboard.add_scalar(name, value, record["step"])

    def _memory(self) -> float:
        """Peak so far in GB: of the GPU, or of the process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        try:
            import resource
        except ImportError:  # not on Windows
            return math.nan
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1e9 if sys.platform == "darwin" else 1e6)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; an unfinished last line, left by a kill, is dropped.

    Raises `UserError` for a file that another program wrote.
    """
    if not path.is_file():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if not isinstance(record, dict) or "step" not in record:
            raise UserError(f"{path}: has a line without a step; it is of another program; move it away")
        records.append(record)
    return records


def duration(seconds: float) -> str:
    """A length of time to read: "40 s", "12 min", "5 h 20 min"."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
