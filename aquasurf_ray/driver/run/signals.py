"""Ctrl-C and SIGTERM as a request to stop, which the loop of a run reads between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class StopSignal:
    """A context manager in which the first SIGINT or SIGTERM sets `received`; a second SIGINT raises KeyboardInterrupt.

    Outside the main thread, where Python allows no handlers, signals keep their usual effect.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        self.install()
        return self

    def install(self) -> None:
        """Install the handlers; call it again after a library has replaced them, as `ray.init` does."""
        # A notebook or a web service may run a search in a thread of its own.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # Only the first time: at the second, our own handler would be remembered as the one before us.
                self._before.setdefault(number, signal.signal(number, self._handle))

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        # Somebody who presses Ctrl-C again does not want to wait for the drain; a scheduler that repeats SIGTERM does.
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
