"""The clock that waiting and leases use, as an object, so that tests can use their own.

Only differences of `monotonic` are used: setting the wall clock changes no lease.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The clock that the store waits by."""

    def monotonic(self) -> float:
        """Seconds since some instant; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Returns after `seconds`."""
        ...


class SystemClock:
    """This machine's clock."""

    def monotonic(self) -> float:
        """Seconds since some instant; never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Returns after `seconds`."""
        time.sleep(seconds)
