"""The steps that all verbs share, from a configuration to the first training.

    find or create the run -> say so if it is finished -> connect to Ray -> execute -> confirm

Everything that is wrong with a command is reported before Ray starts, as far as it can be known without Ray.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

from aquasurf_ray.driver.callbacks.json_log import check_log
from aquasurf_ray.driver.candidates import function_row
from aquasurf_ray.driver.cluster.capacity import Workers, workers_after_waiting
from aquasurf_ray.driver.cluster.connection import connected
from aquasurf_ray.driver.cluster.fair_share import first_workers
from aquasurf_ray.driver.config import LATER, SearchConfig, data_folder, digest, make_config, store_url
from aquasurf_ray.driver.errors import BadUse, Interrupted
from aquasurf_ray.driver.events import Callback, Events
from aquasurf_ray.driver.run.session import execute
from aquasurf_ray.driver.run.signals import StopSignal
from aquasurf_ray.driver.run.spec import RunResult, RunSpec
from aquasurf_ray.driver.run.summary import finished
from aquasurf_ray.driver.until import Until
from aquasurf_ray.driver.user_modules import import_modules
from aquasurf_ray.store import FunctionRow, NewRun, Run, RunExists, Store
from aquasurf_ray.store.records.runs import RunKind
from aquasurf_ray.tasks import Task, TaskError, load_task
from aquasurf_ray.workers.engine.checkpoints import CheckpointError, check_storage

DEFAULT_STORAGE = "aquasurf-storage"
DATA_FOLDER = "AQUASURF_DATA"


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

    def connect(self) -> tuple[Store, Workers]:
        """Connect to Ray, count the workers, and create a missing database. Repeated calls do this only once.

        Raises:
            BadUse: no cluster answers, or the workers do not fit.
            Interrupted: a signal arrived meanwhile.
        """
        if self._workers is None:
            self._stack.enter_context(self._stop)
            self._stack.enter_context(connected(self._config.address))
            self._workers = self._count_workers()
        return self._store or self._open(), self._workers

    def execute(self, spec: RunSpec) -> RunResult:
        """Carry out a run, unless it is finished."""
        if self._store is not None:
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
        workers = workers_after_waiting(self._config, lambda: self._stop.received)
        if workers.shared:
            workers = replace(workers, n=first_workers(workers))
        if self._stop.received:
            raise Interrupted(f"stopped by {self._stop.received} while Ray started; nothing was begun")
        return workers


def find_or_create(
    command: Command,
    kind: RunKind,
    name: str,
    config: SearchConfig,
    task: Task,
    identity: dict[str, Any],
    rows: Sequence[FunctionRow],
) -> Run:
    """Return the run of this name, or a new one with these functions, created once the workers are known to fit."""
    run = command.find(kind, name, config, task, identity)
    if run is not None:
        return run
    store, _ = command.connect()
    return create_run(store, config, task, kind, name, identity, rows)


def create_run(
    store: Store,
    config: SearchConfig,
    task: Task,
    kind: RunKind,
    name: str,
    identity: dict[str, Any],
    rows: Sequence[FunctionRow],
) -> Run:
    """Return a new run, or the one of this name and identity that exists.

    Raises:
        RunExists: a run of this name has another identity.
    """
    new = NewRun(
        name=name,
        kind=kind,
        task_id=store.add_task(task.name, task.version, task.digest, task.spec()),
        config={**config.stored(), **identity},
        config_digest=digest(identity),
        seed=config.seed,
        budget=config.evaluations,
        storage=_storage(config),
        code_version=version("aquasurf-ray"),
        identity_keys=tuple(identity),
    )
    return store.create_run(new, store.add_functions(rows))


def create_unnamed_run(
    store: Store, config: SearchConfig, task: Task, kind: RunKind, identity: dict[str, Any], rows: Sequence[FunctionRow]
) -> Run:
    """Return a new run under the first free name; if another process takes that name first, try the next."""
    while True:
        name = free_name(store, task.name)
        try:
            run = create_run(store, config, task, kind, name, identity, rows)
        except RunExists:
            continue
        if run.created:
            return run


def known_run(store: Store, name: str | None, identity: dict[str, Any]) -> Run | None:
    """Return the run of this name if it has this identity, in which case its candidates need not be drawn again."""
    runs = {run.name: run for run in store.runs()}
    run = runs.get(name or "")
    return run if run is not None and run.config_digest == digest(identity) else None


def free_name(store: Store, base: str) -> str:
    """Return the first free name among `digits-1`, `digits-2`, ..."""
    taken = {run.name for run in store.runs()}
    return next(name for n in range(1, len(taken) + 2) if (name := f"{base}-{n}") not in taken)


def stored_values(run: Run) -> dict[str, Any]:
    """Return the settings with which the run was created, for `make_config`. Settings that are newer than the run have
    the values that describe how the earlier version behaved.

    Raises:
        BadUse: the run was imported, so it has no such settings.
    """
    if run.kind == "import":
        raise BadUse(f"run '{run.name}' was imported: its functions were trained elsewhere, and it trains none")
    return {**LATER, **{key: value for key, value in run.config.items() if key in SearchConfig.model_fields}}


def stored_config(run: Run) -> SearchConfig:
    """Return the configuration with which the run was created; see `stored_values`."""
    return make_config(stored_values(run))


def name_of(task: str | Task) -> str:
    """Return the name of the task in the store and in configurations."""
    return task.name if isinstance(task, Task) else task


def loaded_task(task: str | Task, config: SearchConfig) -> Task:
    """Return the task, checked as a whole: the digest needs its network and its data.

    Raises:
        BadUse: the task cannot be loaded, or `until` does not fit its metric.
    """
    import_modules(config.modules)
    try:
        with _data_folder_set(data_folder(config)):
            loaded = load_task(task, import_from=Path.cwd()) if isinstance(task, str) else task
            _ = loaded.digest
    except TaskError as error:
        raise BadUse(str(error)) from None
    problem = Until.parse(config.until).problem_with(loaded.objective.metric) if config.until else None
    if problem:
        raise BadUse(f"until: {problem}, got '{config.until}'")
    return loaded


def unique_rows(functions: Sequence[str]) -> list[FunctionRow]:
    """Return the functions as rows for the store, each once.

    Raises:
        BadUse: there are none, or one cannot be parsed.
    """
    rows = {row.fingerprint: row for row in map(function_row, functions)}
    if not rows:
        raise BadUse("no functions given; name at least one, such as 'swish(x)'")
    return list(rows.values())


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
        check_storage(_storage(config))
    except CheckpointError as error:
        raise BadUse(str(error)) from None


def check_seeds(seeds: int) -> None:
    """Raise BadUse unless there is at least one seed."""
    if seeds < 1:
        raise BadUse(f"seeds: at least one is needed, got {seeds}")


def _storage(config: SearchConfig) -> str:
    return config.storage or str(Path.cwd() / DEFAULT_STORAGE)


@contextmanager
def _data_folder_set(folder: str | None) -> Iterator[None]:
    """Set the environment variable of the data folder while a task is loaded; workers get it in their settings."""
    before = os.environ.get(DATA_FOLDER)
    if folder is not None:
        os.environ[DATA_FOLDER] = folder
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop(DATA_FOLDER)
            os.environ.update({DATA_FOLDER: before} if before is not None else {})
