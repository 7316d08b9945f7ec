"""The context of a run in one driver, shared by all parts of the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from aquasurf_ray.driver.events import Events
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.driver.state.outputs import OutputsOfRun
from aquasurf_ray.store import Lease, Run, Store

if TYPE_CHECKING:  # it needs Ray, and a run whose trainings are not ours has none
    from aquasurf_ray.driver.cluster.pool import WorkerPool


@dataclass(frozen=True)
class RunContext:
    """A run, and the means to carry it out.

    Attributes:
        run: its row in the store, as it was when the session began.
        config: the configuration of this session.
        store: the open database, where everything is written before it counts.
        lease: the right to write to the run; the store refuses a driver that has lost it.
        history: the candidates, their spectra and costs, and the evaluations, as the store has them.
        pool: the workers.
        events: the callbacks.
        clock: a monotonic clock, in seconds.
    """

    run: Run
    config: SearchConfig
    store: Store
    lease: Lease
    history: History
    pool: WorkerPool
    events: Events
    clock: Callable[[], float] = time.monotonic

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the task's network, as they were when the run was created; mostly none."""
        return tuple(self.run.config.get("roles") or ())

    @cached_property
    def outputs(self) -> OutputsOfRun:
        """The outputs of the run's functions."""
        return OutputsOfRun(self.roles)
