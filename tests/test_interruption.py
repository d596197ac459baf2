"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from rcnn_edu import interruption
from rcnn_edu.interruption import stop_signals


def test_signals_that_come_together_are_one_wish_to_stop() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_signals() as received:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGINT, signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as a program in the foreground has it; one that a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_later_one_acts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "GRACE", -1.0)
    with stop_signals() as received:
        signal.raise_signal(signal.SIGINT)
        assert received
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


DEAF = """
import torch
from torch.utils.data import DataLoader
from rcnn_edu.interruption import end_deaf_children, leave_signals_to_parent

end_deaf_children()
batches = iter(DataLoader(list(range(1000)), num_workers=2, worker_init_fn=leave_signals_to_parent))
print(int(next(batches)), flush=True)
raise SystemExit("an error of its own")
"""


def test_an_error_ends_the_program_though_its_workers_ignore_signals() -> None:
    done = subprocess.run([sys.executable, "-c", DEAF], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "0\n"
    assert done.returncode == 1
    assert done.stderr.strip() == "an error of its own"


def test_a_run_in_another_thread_is_not_interrupted() -> None:
    """Python hands signals to the main thread alone; elsewhere there is nothing to set."""
    seen: list[list[int]] = []

    def run() -> None:
        with stop_signals() as received:
            seen.append(received)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [[]]
