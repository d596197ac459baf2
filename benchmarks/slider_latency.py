"""How long a slider's move takes in the kernel, and whether redrawing keeps memory.

    python -m benchmarks.slider_latency                  every panel, 500 moves each
    python -m benchmarks.slider_latency nms --moves 100

The first slider of each panel goes from end to end and back. "frame" is the median time from the new value to the new
picture and caption, in this process; a browser adds the way there and back (`pytest -s tests/browser` prints both
together). "kept" is what the process has grown by from the first fifth of the moves to the end.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import pkgutil
import statistics
import time
from typing import Any

import numpy as np
import psutil
import torch

import rcnn_edu.explorers
from rcnn_edu.explorers.base import Explorer


def values_of(control: Any, moves: int) -> list[Any]:
    """`moves` values of a slider, from end to end and back again, no two neighbours the same."""
    if not hasattr(control, "max"):
        options = [value for _, value in control._options_full] if hasattr(control, "_options_full") else [False, True]
        return [options[move % len(options)] for move in range(moves)]
    step = control.step or 1
    grid = np.arange(control.min, control.max + step / 2, step)
    there_and_back = [*grid, *grid[-2:0:-1]]
    kind = type(control.value[0] if isinstance(control.value, tuple) else control.value)
    values = [kind(there_and_back[move % len(there_and_back)]) for move in range(moves)]
    return [(value, control.max) for value in values] if isinstance(control.value, tuple) else values


def measure(explorer: Explorer, moves: int) -> tuple[float, float, float]:
    """Median and largest seconds of a frame, and MB kept, over `moves` moves of the first control."""
    control = next(iter(explorer.controls.values()))
    process, times, before = psutil.Process(), [], 0
    for move, value in enumerate(values_of(control, moves)):
        if move == moves // 5:
            gc.collect()
            before = process.memory_info().rss
        started = time.perf_counter()
        control.value = value
        times.append(time.perf_counter() - started)
    gc.collect()
    return statistics.median(times), max(times), (process.memory_info().rss - before) / 1e6


def main() -> None:
    """Print a line for each panel."""
    parser = argparse.ArgumentParser(description="Time and memory of the lessons' panels.")
    parser.add_argument("lesson", nargs="*", help="modules of rcnn_edu.explorers; all by default")
    parser.add_argument("--moves", type=int, default=500, help="moves of each panel's first slider (default 500)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'panel':44}{'frame ms':>10}{'slowest':>10}{'kept MB':>10}")
    for lesson in options.lesson or [module.name for module in pkgutil.iter_modules(rcnn_edu.explorers.__path__)]:
        module = importlib.import_module(f"rcnn_edu.explorers.{lesson}")
        for name, explorer in getattr(module, "panels", dict)().items():
            if explorer.controls:
                frame, slowest, kept = measure(explorer, options.moves)
                print(f"{lesson + '.' + name:44}{frame * 1000:10.1f}{slowest * 1000:10.1f}{kept:10.1f}")


if __name__ == "__main__":
    main()
