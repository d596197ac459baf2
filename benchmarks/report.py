"""The numbers of a comparison, how they are shown, and what the machine says of itself."""

from __future__ import annotations

import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import torch
import torchvision

from benchmarks.timing import Timing
from benchmarks.workload import Work

Side = Literal["ours", "torchvision"]
SIDES: tuple[Side, Side] = ("ours", "torchvision")
TRAINING, INFERENCE = "training step", "inference"


@dataclass(frozen=True)
class Result:
    """One mode, both models; a dictionary has the keys "ours" and "torchvision"."""

    mode: str
    work: dict[Side, Work]
    """Of one step, on the first batch."""
    seconds: dict[Side, list[float]]
    """Per image, one entry a round."""
    peak_mib: dict[Side, list[float]] | None
    """One entry a process. None if it was not measured."""

    @property
    def ratios(self) -> list[float]:
        """Ours over torchvision's time, round by round."""
        return [a / b for a, b in zip(self.seconds["ours"], self.seconds["torchvision"], strict=True)]


def table(results: Sequence[Result], about: Sequence[str]) -> str:
    """All results as plain text, below the lines of `about`."""
    lines = [*about, "", _row("median seconds an image", *SIDES, "ratio, median (min-max)")]
    for one in results:
        ours, peer = (f"{statistics.median(one.seconds[side]):.3f}" for side in SIDES)
        low, middle, high = min(one.ratios), statistics.median(one.ratios), max(one.ratios)
        lines.append(_row(one.mode, ours, peer, f"{middle:.2f} ({low:.2f}-{high:.2f})"))
    measured = [(one.mode, one.peak_mib) for one in results if one.peak_mib is not None]
    if measured:
        lines += ["", _row("median peak memory, MiB", *SIDES, "ratio, of both (min-max)")]
        for mode, peaks in measured:
            ours_mib, peer_mib = (statistics.median(peaks[side]) for side in SIDES)
            ranges = ", ".join(f"{min(peaks[side]):.0f}-{max(peaks[side]):.0f}" for side in SIDES)
            lines.append(_row(mode, f"{ours_mib:.0f}", f"{peer_mib:.0f}", f"{ours_mib / peer_mib:.2f} ({ranges})"))
    lines += ["", _row("work of a step", *SIDES, "")]
    for one in results:
        ours_did, peer_did = (one.work[side] for side in SIDES)
        lines.append(_row(f"{one.mode}: GFLOP", f"{ours_did.gflop:.1f}", f"{peer_did.gflop:.1f}", ""))
        lines.append(_row("    proposals", sum(ours_did.proposals), sum(peer_did.proposals), ""))
        lines.append(_row("    RoIs", ours_did.rois, peer_did.rois, ""))
        if ours_did.detections:
            lines.append(_row("    detections", sum(ours_did.detections), sum(peer_did.detections), ""))
    return "\n".join(line.rstrip() for line in lines)


def _row(name: str, ours: object, peer: object, last: str) -> str:
    return f"{name:<24}{ours:>10}{peer:>14}    {last}"


def markdown(timings: Sequence[Timing]) -> str:
    """A table with a row a case: median times, and beside each other contestant's ours over it, with the range.

    All timings must have the same contestants; those with peak memory have a second row for it.
    """
    names = list(timings[0].seconds)
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for one in timings:
        cells = [duration(one.median(one.ours))]
        for name in names[1:]:
            ratio = one.ratio(name)
            cells.append(f"{duration(one.median(name))} · **{ratio.median:.2f}** ({ratio.low:.2f}–{ratio.high:.2f})")
        lines.append(f"| {one.case} | " + " | ".join(cells) + " |")
        if one.peak_mib is not None:
            ours = one.peak_mib[one.ours]
            cells = [f"{ours:,.0f} MiB"]
            cells += [f"{mib:,.0f} MiB · **{ours / mib:.2f}**" for mib in list(one.peak_mib.values())[1:]]
            lines.append(f"| {one.case}: peak memory | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Two or three digits and a unit."""
    value, unit = (seconds, "s") if seconds >= 1 else (1000 * seconds, "ms")
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def machine(device: torch.device) -> str:
    """Processor, threads, library versions and today's date."""
    if device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
    else:
        listing = Path("/proc/cpuinfo")  # platform.processor() is often empty on Linux
        names = [line for line in listing.read_text().splitlines() if "model name" in line] if listing.exists() else []
        processor = names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    return f"{processor}, {torch.get_num_threads()} CPU threads, {versions}, {date.today().isoformat()}"


def largest_so_far(device: torch.device) -> float:
    """The most memory that this process has had until now, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        # Linux passes ru_maxrss on to a new process, which would start at its parent's peak; VmHWM starts anew.
        return 1024 * int(next(line for line in status.read_text().splitlines() if "VmHWM" in line).split()[1])
    import resource  # not on Windows: there only --no-memory works

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest
