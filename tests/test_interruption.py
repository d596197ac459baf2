"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
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
