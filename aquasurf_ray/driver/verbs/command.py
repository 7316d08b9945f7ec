"""One command that carries out runs, from a configuration to the first training.

    find or create the run -> say so if it is finished -> connect to Ray -> execute -> confirm

Everything that is wrong with a command is reported before Ray starts, as far as it can be known without Ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

from ray.exceptions import RayError

from aquasurf_ray.driver.callbacks.json_log import check_log
from aquasurf_ray.driver.candidates import known_here
from aquasurf_ray.driver.cluster.capacity import Workers, workers_after_waiting
from aquasurf_ray.driver.cluster.connection import connected
from aquasurf_ray.driver.cluster.fair_share import first_workers
from aquasurf_ray.driver.cluster.ray_errors import cause_of
from aquasurf_ray.driver.errors import BadUse, Interrupted, RunFailed
from aquasurf_ray.driver.events import Callback, Events
from aquasurf_ray.driver.run.session import execute
from aquasurf_ray.driver.run.signals import StopSignal
from aquasurf_ray.driver.run.spec import RunResult, RunSpec
from aquasurf_ray.driver.run.summary import finished
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.settings.places import storage_folder, store_url
from aquasurf_ray.driver.state.evaluations import OPEN
from aquasurf_ray.driver.verbs.create_run import create_run
from aquasurf_ray.store import FunctionRecord, FunctionRow, Run, Store
from aquasurf_ray.store.records.runs import RunKind
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.engine.checkpoints import CheckpointError, check_storage


class Command:
    """One command that carries out runs: its store, its callbacks, and a single connection to Ray.

    A missing database is created only when the workers are known to fit, so that a refused command leaves nothing
    behind.

    Args:
        config: the conditions of the command: the store, the storage, the log, the cluster and the workers.
        callbacks: the caller's callbacks.
        store: a store that the caller has opened and will close.

    Raises:
        BadUse, StoreError: the storage, the log or the database cannot be used.
    """

    def __init__(self, config: SearchConfig, callbacks: Iterable[Callback] = (), store: Store | None = None) -> None:
        check_storage_of(config)
        self.events = Events(callbacks)
        self._config, self._store = config, store
        self._stop = StopSignal()
        self._stack = ExitStack()
        self._workers: Workers | None = None

    def __enter__(self) -> Command:
        # An existing database is opened first: a finished run is then answered without starting Ray.
        if self._store is None and Store.exists(store_url(self._config.store)):
            self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def store(self) -> Store | None:
        """The database; None while it does not exist."""
        return self._store

    def find(
        self, kind: RunKind, name: str | None, config: SearchConfig, task: Task, identity: dict[str, Any]
    ) -> Run | None:
        """Return the run of this name, or None if there is none.

        Raises:
            RunExists: the run of this name has another identity; the text names the differences.
        """
        if self._store is None or name is None or all(run.name != name for run in self._store.runs()):
            return None
        return create_run(self._store, config, task, kind, name, identity, ())

    def find_or_create(
        self,
        kind: RunKind,
        name: str,
        config: SearchConfig,
        task: Task,
        identity: dict[str, Any],
        rows: Sequence[FunctionRow],
        facts: Mapping[str, Any],
    ) -> Run:
        """Return the run of this name, or a new one with these functions, created once the workers are known to fit.

        `facts` are what its row keeps besides: see `new_run`.
        """
        run = self.find(kind, name, config, task, identity)
        if run is not None:
            return run
        store, _ = self.connect()
        return create_run(store, config, task, kind, name, identity, rows, facts)

    def connect(self) -> tuple[Store, Workers]:
        """Connect to Ray, count the workers, and create a missing database. Repeated calls do this only once.

        Raises:
            BadUse: no cluster answers, or the workers do not fit.
            Interrupted: a signal arrived meanwhile.
            RunFailed: the cluster has stopped answering.
        """
        if self._workers is None:
            # Before Ray, which takes seconds to start: a Ctrl-C meanwhile must not be lost.
            self._stack.enter_context(self._stop)
            self._stack.enter_context(connected(self._config.address))
            self._workers = self._count_workers()
        return self._store or self._open(), self._workers

    def execute(self, spec: RunSpec) -> RunResult:
        """Carry out a run, unless it is finished.

        Raises:
            BadUse: one of its functions is another one in this process.
        """
        if self._store is not None:
            # Before the answer that a run is finished: its results are not those of a function that was edited since.
            known_here(self._store, _functions_of(self._store, spec.run.id))
            result = finished(self._store, spec, self.events)
            if result is not None:
                return result
        store, workers = self.connect()
        return execute(store, spec, workers, self.events, self._stop)

    def _open(self) -> Store:
        self._store = self._stack.enter_context(Store.open(store_url(self._config.store)))
        return self._store

    def _count_workers(self) -> Workers:
        self._stop.install()  # again, since `ray.init` replaces signal handlers
        try:
            workers = workers_after_waiting(self._config, lambda: self._stop.received)
            if workers.shared:
                # A cluster shared with other runs: begin with a fair share, and let `FairShare` grow it.
                workers = replace(workers, n=first_workers(workers))
        except RayError as error:
            raise RunFailed(f"{cause_of(error)}; nothing was begun") from error
        if self._stop.received:
            raise Interrupted(f"stopped by {self._stop.received} while Ray started; nothing was begun")
        return workers


def _functions_of(store: Store, run_id: int) -> list[FunctionRecord]:
    """Return the candidates of a run, and what somebody has requested besides that is still to be trained."""
    snapshot = store.snapshot(run_id)
    requested = {each.evaluation.function_id for each in snapshot.evaluations if each.evaluation.status in OPEN}
    others = requested - {function.id for function in snapshot.candidates}
    return [*snapshot.candidates, *store.functions(others).values()]


def check_storage_of(config: SearchConfig) -> None:
    """Check that the log and the storage can be written. Storage of a cluster is skipped: only its nodes may reach it.

    Raises:
        BadUse: one of them cannot be written.
    """
    if config.log is not None:
        check_log(config.log)
    if config.address is not None:
        return
    try:
        check_storage(storage_folder(config))
    except CheckpointError as error:
        raise BadUse(str(error)) from None
