"""How time and memory are taken: contestants in turn, round after round, in one process; memory in new processes."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from tqdm import trange

Name = TypeVar("Name", bound=str)


class Spread(NamedTuple):
    """The median of a number over the rounds, and its extremes."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Timing:
    """One case, measured for ours, which comes first, and for others; keys are their names."""

    case: str
    seconds: dict[str, list[float]]
    """One entry a round."""
    peak_mib: dict[str, float] | None = None
    """None if it was not measured."""

    @property
    def ours(self) -> str:
        """The name of ours."""
        return next(iter(self.seconds))

    def median(self, name: str) -> float:
        """Median time in seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str) -> Spread:
        """Our time over another's, taken round by round: a machine that slows down slows both of a round."""
        ratios = [a / b for a, b in zip(self.seconds[self.ours], self.seconds[name], strict=True)]
        return Spread(statistics.median(ratios), min(ratios), max(ratios))


def interleaved(
    contestants: Mapping[Name, Callable[[int], object]],
    rounds: int,
    warmup: int,
    device: torch.device,
    description: str | None = None,
) -> dict[Name, list[float]]:
    """Seconds that each contestant took in each round; in every other round they come in reverse order.

    A contestant is called with the number of the round, warm-up rounds included, and is over when the device is.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in contestants}
    settle_allocator(device)
    for number in trange(warmup + rounds, desc=description, unit="round", leave=False, disable=None):
        for name in list(contestants)[:: 1 if number % 2 == 0 else -1]:
            wait_for(device)
            start = time.perf_counter()
            contestants[name](number)
            wait_for(device)
            if number >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def settle_allocator(device: torch.device) -> None:
    """Let the CPU's allocator keep freed memory, as it does in a process that has trained for a step.

    glibc gives large blocks back to the system, and pays for every page when it asks for them again, until the program
    has freed one block of nearly 32 MB: then it keeps twice as much. A detector does that in its first layers, so
    measurements of single steps, which do not, must not depend on it.
    """
    if device.type == "cpu":
        torch.ones(31 * 2**20, dtype=torch.uint8)


def wait_for(device: torch.device) -> None:
    """Until a GPU has finished its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_new_process(function: Callable[..., Any], *arguments: object) -> Any:
    """The result of `function`, which a process started for it alone computes: peak memory never goes down again."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def counted(count: int, thing: str) -> str:
    """ "1 object", "10 objects"."""
    return f"{count} {thing}" + ("" if count == 1 else "s")
