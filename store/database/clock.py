"""The clock that waiting and leases use, as an object, so that tests can use their own.

Only differences of `monotonic` are used: setting the wall clock changes no lease.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The clock that the store waits by."""

    def monotonic(self) -> float:
        """Return the seconds since a fixed instant; the value never decreases."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        ...


class SystemClock:
    """This machine's clock."""

    def monotonic(self) -> float:
        """Return the seconds since a fixed instant; the value never decreases."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        time.sleep(seconds)
