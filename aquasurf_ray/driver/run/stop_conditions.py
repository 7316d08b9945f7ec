"""Why a run ends before its budget is met: a signal, a request from another process, its time, or a score good enough.

The loop asks between two steps. Whatever the reason, it gives out no more work then, and what is under way has
`GRACE_SECONDS` to come to its end or to a checkpoint. The time budget is that of a session: each `resume` has it anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.duration import duration_text
from aquasurf_ray.driver.run.signals import StopSignal
from aquasurf_ray.driver.until import Until
from aquasurf_ray.store import Lease, Store
from aquasurf_ray.store.records.runs import RunStatusName

GRACE_SECONDS = 45.0
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class End:
    """Why a run ends now, and how it stands then.

    Args:
        text: for people, as in "stopped by SIGTERM".
        status: `finished` where nothing more is wanted, else `interrupted`.
        is_stop: somebody has stopped it, and it did not end by what it was started with.
        deadline: when the work under way is given up, on the clock of the loop.
    """

    text: str
    status: RunStatusName
    is_stop: bool
    deadline: float


class Ends:
    """The ends of one session of a run.

    Args:
        started: when the session began, on the same clock.
    """

    def __init__(
        self,
        config: SearchConfig,
        store: Store,
        lease: Lease,
        signal: StopSignal,
        started: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._lease, self._signal, self._started, self._clock = store, lease, signal, started, clock
        self._time_budget = config.time_budget
        self._until = Until.parse(config.until) if config.until else None
        self._looked = clock()

    def reached(self, best: tuple[str, float] | None) -> End | None:
        """The end that is reached now, if one is.

        Args:
            best: the best function so far and its score, which is higher where better.
        """
        stopped = self._stopped_by()
        if stopped is not None:
            return self._end(f"stopped by {stopped}", "interrupted", is_stop=True)
        if self._until and best and self._until.is_met(best[1]):
            return self._end(f"{self._until} is reached by {best[0]}", "finished")
        if self._time_budget is not None and self._clock() - self._started >= self._time_budget:
            return self._end(f"the time budget of {duration_text(self._time_budget)} is spent", "interrupted")
        return None

    def _stopped_by(self) -> str | None:
        if self._signal.received is not None:
            return self._signal.received
        if self._clock() - self._looked < LOOK_SECONDS:
            return None
        self._looked = self._clock()
        request = self._store.stop_request(self._lease)
        return None if request is None else f"'aquasurf stop' from {request.asked_by.host}"

    def _end(self, text: str, status: RunStatusName, *, is_stop: bool = False) -> End:
        return End(text, status, is_stop, self._clock() + GRACE_SECONDS)
