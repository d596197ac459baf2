"""Several processes that train one model: who is who, and how they speak to each other.

Started by `torchrun`, which tells each process its rank through the environment. With one process, started in the
usual way, every function here does the obvious thing without any communication.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from rcnn_edu.cli import choose_device
from rcnn_edu.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """All processes of a run, as one of them sees them. Every method but `first` must be called by all of them."""

    rank: int = 0
    """Number of this process, from 0."""
    count: int = 1
    """Processes on all machines."""
    local_rank: int = 0
    """Number of this process on its machine."""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in any process."""
        if self.count == 1:
            return flag
        flags = torch.tensor(int(flag))  # on the CPU, so that no GPU is waited for
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of `values` over the processes."""
        if self.count == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.count

    def gather(self, value: T) -> list[T]:
        """Every process's value in order of rank, in the first process; nothing in the others."""
        if self.count == 1:
            return [value]
        values: list[T | None] | None = [None] * self.count if self.first else None
        dist.gather_object(value, values)
        return values or []  # type: ignore[return-value]

    @contextmanager
    def together(self) -> Iterator[None]:
        """A `UserError` that any process meets inside is raised in all of them; else those would wait for it."""
        error: UserError | None = None
        try:
            yield
        except UserError as caught:
            error = caught
        if not self.any(error is not None):
            return
        messages: list[str | None] = [None] * self.count
        if self.count > 1:
            dist.all_gather_object(messages, None if error is None else str(error))
        raise error or UserError(next(message for message in messages if message is not None))

    @contextmanager
    def one_first(self) -> Iterator[None]:
        """Inside, the first process goes ahead, then the first of each machine, then the others: for files it makes."""
        turn = 0 if self.first else 1 if self.local_rank == 0 else 2
        for _ in range(turn):
            self.any(False)  # waits until all have asked
        try:
            yield
        finally:
            for _ in range(2 - turn):
                self.any(False)


@contextmanager
def start_processes(device_name: str) -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes that torchrun started, and take a device: the GPU of this process's number, or the CPU.

    Raises `UserError` for a device that is not there, or that all processes would share.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield Processes(), choose_device(device_name)
        return
    numbers = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    processes = Processes(*numbers)
    device = _own_device(device_name, processes)
    # Two backends: gloo carries what is on the CPU, so that agreeing on something does not wait for the GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield processes, device
    finally:
        dist.destroy_process_group()


def _own_device(name: str, processes: Processes) -> torch.device:
    device = choose_device(name)
    if device.type != "cuda":
        return device
    if ":" in name:
        raise UserError(f"--device {name}: {processes.count} processes cannot share it; use --device cuda")
    there = torch.cuda.device_count()
    if processes.local_rank >= there:
        raise UserError(f"process {processes.local_rank} of this machine has no GPU; use --nproc-per-node {there}")
    device = torch.device("cuda", processes.local_rank)
    torch.cuda.set_device(device)
    return device
