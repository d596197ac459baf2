"""What a run leaves behind while it goes: a progress bar, metrics.jsonl, and TensorBoard."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm


class TrainingLog:
    """Progress bar on standard error, one JSON object a line in `metrics.jsonl`, and TensorBoard files.

    Lines of steps after `start`, left by a run that was interrupted after its last checkpoint, are removed.
    """

    def __init__(self, folder: Path, steps: int, start: int, device: torch.device) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        self.device = device
        kept = [record for record in read_metrics(self.path) if record["step"] <= start]
        self.path.write_text("".join(json.dumps(record) + "\n" for record in kept))
        self._tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
        self._bar = tqdm(total=steps, initial=start, unit="step", file=sys.stderr, dynamic_ncols=True, mininterval=0.5)
        self._since, self._images, self._waited = time.perf_counter(), 0, 0.0

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self, images: int, waited: float) -> None:
        """Count one step over `images` images that began by waiting `waited` seconds for them."""
        self._images += images
        self._waited += waited
        self._bar.update(1)

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
        self._since, self._images, self._waited = time.perf_counter(), 0, 0.0
        self._write(record)
        self._bar.set_postfix_str(
            f"loss {record['total']:.3f}, lr {learning_rate:.2g}, {record['images_per_second']:.1f} images/s, "
            f"waiting {record['waiting']:.0%}, {record['memory_gb']:.1f} GB",
            refresh=False,
        )

    def evaluation(self, step: int, measured: dict[str, Any]) -> None:
        """Write down an evaluation."""
        self._write({"step": step, **{k: v for k, v in measured.items() if not isinstance(v, dict)}})
        self._since = time.perf_counter()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(line)

    def close(self) -> None:
        """Finish the bar and the files."""
        self._bar.close()
        self._tensorboard.close()

    def _write(self, record: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({k: _rounded(v) for k, v in record.items()}) + "\n")
        for name, value in record.items():
            if name != "step" and value is not None:
                self._tensorboard.add_scalar(name, value, record["step"])

    def _memory(self) -> float:
        """Peak so far in GB: of the GPU, or of the process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1e9 if sys.platform == "darwin" else 1e6)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; an unfinished last line, left by a kill, is dropped."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
