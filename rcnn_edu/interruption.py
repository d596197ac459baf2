"""Ctrl-C and SIGTERM, taken as a wish to stop at the end of a step."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(Exception):
    """Work was given up because the program was asked to stop."""


GRACE = 2.0
"""Seconds within which further signals are the same wish: torchrun passes on what the terminal has sent already."""


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Inside, a signal only fills the list, so that a step can end; one that comes later than that acts at once."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # Python gives signals to the main thread alone
        yield received
        return
    before: dict[int, Any] = {}
    first = 0.0

    def note(number: int, _frame: object) -> None:
        nonlocal first
        if not received:
            first = time.monotonic()
        elif time.monotonic() - first > GRACE:
            signal.signal(number, before[number])
            signal.raise_signal(number)
        received.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)


def leave_signals_to_parent(_worker: int = 0) -> None:
    """For processes that decode images: a signal sent to all at once must not end them before the step is over.

    Their parent calls `end_deaf_children` before it starts them.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def end_deaf_children() -> None:
    """See to it that this program can end by an error while children live that have left their signals to it.

    Python asks the children that are left to end, by a signal, and waits for them.
    """
    atexit.unregister(_kill_children)
    atexit.register(_kill_children)  # what is registered last runs first


def _kill_children() -> None:
    if children := multiprocessing.active_children():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch takes the death of a child for an error
        for child in children:
            child.kill()
