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
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before.setdefault(number, signal.signal(number, self._handle))

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
