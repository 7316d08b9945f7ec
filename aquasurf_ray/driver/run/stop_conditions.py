"""Stop conditions: a signal, a request from another process, the end of the time budget, a score that is reached.

The loop checks them between two steps. Once a condition is met, no more work is given out, and work under way has
`GRACE_SECONDS` to finish or to reach a checkpoint. The time budget is per session: it restarts at each `resume`.

Four faults also end a run, and raise where they are found: a task that no baseline trains on (`task_fault.py`), five
functions in a row that the infrastructure failed (`loop.py`), a lease that another driver took over
(`lease_keeper.py`), and a Ray cluster that is gone (`cluster/watch.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from aquasurf_ray.driver.run.signals import StopSignal
from aquasurf_ray.driver.settings.until import Until
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.duration_text import duration_text
from aquasurf_ray.store.records.runs import RunStatusName

GRACE_SECONDS = 45.0  # less than the 90 s after which a cluster job is killed, with time to release the lease
REQUEST_POLL_SECONDS = 1.0  # between two reads of stop requests from the store


@dataclass(frozen=True)
class End:
    """The stop condition that was met, and the status of the run after it.

    Attributes:
        text: a description for people, such as "stopped by SIGTERM".
        status: `finished` if the run has reached its goal, else `interrupted`.
        is_stop: True if somebody stopped the run, False for a condition with which it was started.
        deadline: the time at which work under way is cut off, on the clock of the run.
    """

    text: str
    status: RunStatusName
    is_stop: bool
    deadline: float


class StopConditions:
    """The stop conditions of one session of a run.

    Args:
        signal: the handler of SIGINT and SIGTERM.
        started: the time at which the session began, on the clock of the run.
    """

    def __init__(self, context: RunContext, signal: StopSignal, started: float) -> None:
        self._context, self._signal, self._started = context, signal, started
        self._until = Until.parse(context.config.until) if context.config.until else None
        self._polled_at = context.clock()

    def met(self) -> End | None:
        """Return the condition that is met now, or None."""
        stopped, best, budget = self._stopped_by(), self._context.history.best(), self._context.config.time_budget
        if stopped is not None:
            return self._end(f"stopped by {stopped}", "interrupted", is_stop=True)
        if self._until and best and self._context.history.reaches(self._until):
            return self._end(f"{self._until} is reached by {best[0]}", "finished")
        if budget is not None and self._context.clock() - self._started >= budget:
            return self._end(f"the time budget of {duration_text(budget)} is spent", "interrupted")
        return None

    def _stopped_by(self) -> str | None:
        if self._signal.received is not None:
            return self._signal.received
        if self._context.clock() - self._polled_at < REQUEST_POLL_SECONDS:
            return None
        self._polled_at = self._context.clock()
        request = self._context.store.stop_request(self._context.lease)
        return None if request is None else f"'aquasurf stop' from {request.asked_by.host}"

    def _end(self, text: str, status: RunStatusName, *, is_stop: bool = False) -> End:
        return End(text, status, is_stop, self._context.clock() + GRACE_SECONDS)
