"""The input and the outcome of one session of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aquasurf_ray.analysis.studies.confirmed_run import read_confirmation
from aquasurf_ray.analysis.studies.verdict import Verdict, verdict
from aquasurf_ray.driver.cluster.pool import WorkerPool
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.settings.places import store_url
from aquasurf_ray.store import Run, Store
from aquasurf_ray.store.records.runs import RunKind
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.actor import Worker

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunSpec:
    """A run in the store, with everything that one session of it needs.

    `import_task` is true if workers load the task by its name; `budget` may be larger than the run's stored budget;
    `worker` is the worker class, and `make_pool` makes the worker pool.
    """

    run: Run
    config: SearchConfig
    task: Task
    import_task: bool
    budget: int
    # Both are replaced in simulations and tests: the loop cannot tell a simulated worker from a real one.
    worker: type = Worker
    make_pool: Callable[..., WorkerPool] = WorkerPool


@dataclass(frozen=True)
class RunResult:
    """The outcome of a session: the best function with its score, how much was done, and what was left out.

    `best` is what the session's own trainings say; a confirmation may find another function, which is in `verdict()`
    and `winner()`. A score is the task's metric, with the sign changed where lower is better. `too_costly` counts the
    candidates that were left out because they cost more than the run's `max_cost`, or because their cost could not be
    measured. `confirmation` is the run that confirmed the best functions, if that was requested. `ended` is the stop
    condition that ended the run before its budget was met, if there was one. `best_change` is the change of the recipe
    that the best function was trained with, "" for none. `diverged_reference` is the function that gains would be over,
    where it diverged, and `diverged_baselines` counts it and the other baselines that did. `tied` is the number of
    functions if all have one score. `store` is the URL of the database, if it was given.
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
    too_costly: int = 0
    kind: RunKind = "search"
    confirmation: str | None = None
    ended: str | None = None
    best_change: str = ""
    diverged_reference: str | None = None
    diverged_baselines: int = 0
    tied: int = 0
    store: str | None = field(default=None, repr=False)  # it may hold a password

    def dataframe(self) -> pd.DataFrame:
        """Return the run's evaluations as a table, in the order of its requests; see `Store.evaluations`.

        Raises:
            StoreError: the store is gone.
        """
        with Store.open(store_url(self.store), create=False) as store:
            return store.evaluations(run=self.name)

    def verdict(self) -> str:
        """Return the sentence that says whether a confirmed function beats the reference.

        Raises:
            BadUse: nothing was confirmed.
            StoreError: the store is gone.
        """
        return self._verdict().sentence

    def winner(self) -> str | None:
        """Return the function that beats the reference, by the verdict; None if none does.

        Raises:
            BadUse, StoreError: as `verdict`.
        """
        return self._verdict().function

    def _verdict(self) -> Verdict:
        confirmation = self.name if self.kind == "confirm" else self.confirmation
        if confirmation is None:
            raise BadUse(f"run '{self.name}' has no verdict: nothing was confirmed; use confirm('{self.name}')")
        with Store.open(store_url(self.store), create=False) as store:
            return verdict(read_confirmation(store, confirmation))
