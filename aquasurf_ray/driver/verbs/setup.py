"""From a configuration to an order that `execute` carries out: the task is loaded, the run made or found, Ray started.

Everything that is wrong with a request is told before Ray starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aquasurf_ray.driver.callbacks.json_log import check_log
from aquasurf_ray.driver.callbacks.progress import Reporter, Silent
from aquasurf_ray.driver.candidates import function_row
from aquasurf_ray.driver.cluster.capacity import Workers, workers_after_waiting
from aquasurf_ray.driver.cluster.connection import connected
from aquasurf_ray.driver.cluster.fair_share import first_workers
from aquasurf_ray.driver.config import LATER, SearchConfig, data_folder, digest, make_config, store_url
from aquasurf_ray.driver.errors import BadUse, Interrupted
from aquasurf_ray.driver.run.session import execute, finished
from aquasurf_ray.driver.run.signals import StopSignal
from aquasurf_ray.driver.run.spec import RunResult, RunSpec
from aquasurf_ray.driver.until import Until
from aquasurf_ray.driver.user_modules import import_modules
from aquasurf_ray.store import FunctionRow, NewRun, Run, RunExists, Store
from aquasurf_ray.store.records.runs import RunKind
from aquasurf_ray.tasks import Task, TaskError, load_task
from aquasurf_ray.workers.engine.checkpoints import CheckpointError, check_storage

DEFAULT_STORAGE = "aquasurf-storage"
DATA_FOLDER = "AQUASURF_DATA"


def carry_out(
    store: Store,
    name: str | None,
    config: SearchConfig,
    make_order: Callable[[Store], RunSpec],
    reporter: Reporter | None,
    then: Callable[[RunResult], RunResult] = lambda result: result,
) -> RunResult:
    """Starts Ray unless the run is finished, and makes no new run before its workers are known to fit.

    Args:
        then: what is to be done with the result, while Ray is still there if it was started.
    """
    reporter = reporter or Silent()
    if any(run.name == name for run in store.runs()):  # what is wrong with it is told before Ray starts
        result = finished(store, make_order(store), reporter)
        if result is not None:
            return then(result)
    with StopSignal() as stop, connected(config.address):
        workers = _workers(config, stop)
        return then(execute(store, make_order(store), workers, reporter, stop))


@contextmanager
def store_of(config: SearchConfig) -> Iterator[Store]:
    """The database that a run is to be in. A new one is made only when the workers are known to fit, so that bad use
    leaves nothing behind.

    Raises:
        BadUse, StoreError: storage, database or cluster cannot be used.
    """
    check_storage_of(config)
    url = store_url(config.store)
    with ExitStack() as stack:
        if not Store.exists(url):
            with StopSignal() as stop:
                stack.enter_context(connected(config.address))
                _workers(config, stop)
        yield stack.enter_context(Store.open(url))


def _workers(config: SearchConfig, stop: StopSignal) -> Workers:
    """What the run asks of the Ray that has just started."""
    stop.install()
    workers = workers_after_waiting(config, lambda: stop.received)
    if workers.shared:
        workers = replace(workers, n=first_workers(workers))
    if stop.received:
        raise Interrupted(f"stopped by {stop.received} while Ray started; nothing was begun")
    return workers


def create_run(
    store: Store,
    config: SearchConfig,
    task: Task,
    kind: RunKind,
    name: str,
    identity: dict[str, Any],
    rows: Sequence[FunctionRow],
) -> Run:
    """The new run, or the one of this name and identity that exists."""
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
    """A new run under the first free name. Who takes the same name at the same time has it, and the next is tried."""
    while True:
        name = free_name(store, task.name)
        try:
            run = create_run(store, config, task, kind, name, identity, rows)
        except RunExists:
            continue
        if run.created:
            return run


def known_run(store: Store, name: str | None, identity: dict[str, Any]) -> Run | None:
    """The run of this name if it has this identity; the candidates need not be drawn again then."""
    runs = {run.name: run for run in store.runs()}
    run = runs.get(name or "")
    return run if run is not None and run.config_digest == digest(identity) else None


def free_name(store: Store, base: str) -> str:
    """`digits-1`, `digits-2`, ...: the first that is free."""
    taken = {run.name for run in store.runs()}
    return next(name for n in range(1, len(taken) + 2) if (name := f"{base}-{n}") not in taken)


def stored_config(run: Run) -> SearchConfig:
    """The configuration that the run was last started with; of an earlier version, what its runs do.

    Raises:
        BadUse: the run was imported.
    """
    if run.kind == "import":
        raise BadUse(f"run '{run.name}' was imported: its functions were trained elsewhere, and it trains none")
    return make_config({**LATER, **{k: value for k, value in run.config.items() if k in SearchConfig.model_fields}})


def name_of(task: str | Task) -> str:
    """What the store and the configuration call the task."""
    return task.name if isinstance(task, Task) else task


def loaded_task(task: str | Task, config: SearchConfig) -> Task:
    """The task, known to be whole: its digest needs its network and its data."""
    import_modules(config.modules)
    try:
        with _data_looked_for_in(data_folder(config)):
            loaded = load_task(task, import_from=Path.cwd()) if isinstance(task, str) else task
            _ = loaded.digest
    except TaskError as error:
        raise BadUse(str(error)) from None
    problem = Until.parse(config.until).problem_with(loaded.objective.metric) if config.until else None
    if problem:
        raise BadUse(f"until: {problem}, got '{config.until}'")
    return loaded


def unique_rows(functions: Sequence[str]) -> list[FunctionRow]:
    """The functions, each once."""
    rows = {row.fingerprint: row for row in map(function_row, functions)}
    if not rows:
        raise BadUse("no functions given; name at least one, such as 'swish(x)'")
    return list(rows.values())


def check_storage_of(config: SearchConfig) -> None:
    """On a cluster the place may be one that only its nodes can reach. The log is this machine's."""
    if config.log is not None:
        check_log(config.log)
    if config.address is not None:
        return
    try:
        check_storage(_storage(config))
    except CheckpointError as error:
        raise BadUse(str(error)) from None


def check_seeds(seeds: int) -> None:
    """Raises BadUse for none."""
    if seeds < 1:
        raise BadUse(f"seeds: at least one is needed, got {seeds}")


def _storage(config: SearchConfig) -> str:
    return config.storage or str(Path.cwd() / DEFAULT_STORAGE)


@contextmanager
def _data_looked_for_in(folder: str | None) -> Iterator[None]:
    """The folder of data sets while a task loads them here; workers have it among their settings."""
    before = os.environ.get(DATA_FOLDER)
    if folder is not None:
        os.environ[DATA_FOLDER] = folder
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop(DATA_FOLDER)
            os.environ.update({DATA_FOLDER: before} if before is not None else {})
