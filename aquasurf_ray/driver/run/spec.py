"""A run as a driver is to carry it out, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aquasurf_ray.driver.cluster.pool import WorkerPool
from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.store import Run
from aquasurf_ray.store.records.runs import RunKind
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.actor import Worker


@dataclass(frozen=True)
class RunSpec:
    """A run that is in the store, with everything that one session of it takes.

    `import_task` says whether workers find the task by its name; `budget` may raise the run's own; `worker` is the
    class that does the work, `make_pool` makes the pool of workers.
    """

    run: Run
    config: SearchConfig
    task: Task
    import_task: bool
    budget: int
    worker: type = Worker
    make_pool: Callable[..., WorkerPool] = WorkerPool


@dataclass(frozen=True)
class RunResult:
    """How a run ended: the best function with its score, how much was done, and what was not.

    A score is the task's metric, with the sign changed where lower is better. `too_dear` counts the candidates that
    were left out because they cost more than the run's `max_cost`, or because their cost could not be measured.
    `confirmation` is the run that confirmed the best functions, if that was asked for. `ended` says why the run ended
    before its budget was met, where it was started with such a stop condition.
    """

    name: str
    budget: int
    evaluations: int
    best: tuple[str, float] | None
    seconds: float
    exhausted: bool
    reused: int
    failed: int
    stopped_early: int = 0
    diverged: int = 0
    too_dear: int = 0
    kind: RunKind = "search"
    confirmation: str | None = None
    ended: str | None = None
