"""Starting and resuming runs: from a configuration to an order that `execute` carries out.

search(...)    a new run, or the one of that name if it has the same configuration
resume(name)   goes on with a run after any interruption, with another budget or other workers if asked
evaluate(...)  trains given functions and nothing else: a run without a surrogate
propose(...)   puts functions into the queue of a run that may be going on elsewhere
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aquasurf_ray.driver.candidates import candidate_rows, function_row, load_space
from aquasurf_ray.driver.cluster import connected, fitting_workers
from aquasurf_ray.driver.config import SearchConfig, data_folder, digest, make_config, store_url
from aquasurf_ray.driver.errors import BadUse, Interrupted
from aquasurf_ray.driver.execution import Order, RunResult, execute, finished
from aquasurf_ray.driver.modules import import_modules
from aquasurf_ray.driver.progress import Reporter, Silent
from aquasurf_ray.driver.signals import StopSignal
from aquasurf_ray.tasks import Task, TaskError, load_task
from store import FunctionRow, NewRun, Proposal, Run, Store
from store.records import RunKind
from surrogate.regressors import REGRESSORS
from workers.actor import Worker
from workers.checkpoints import CheckpointError, check_storage

DEFAULT_STORAGE = "aquasurf-storage"
DATA_FOLDER = "AQUASURF_DATA"


def search(task: str | Task, *, reporter: Reporter | None = None, worker: type = Worker, **options: Any) -> RunResult:
    """Searches an activation function for a task, and returns when the budget is met.

    Scores are the task's metric on the validation split, with the sign changed where lower is better.

    Args:
        task: a task, its short name, or `package.module:function`.
        reporter: shows the progress; nothing is shown by default.
        worker: stands in for `workers.actor.Worker`, for example one that answers from a benchmark.
        **options: any field of `SearchConfig`, for example `evaluations=40`, `workers=2`, `store="sqlite:///a.db"`,
            `max_cost=1.2` (suggests no function whose training step takes longer than 1.2 times relu's),
            `early_stop="median"`, `gpus_per_evaluation=4`.

    Raises:
        BadUse: the request is wrong, and nothing was started.
        Interrupted, RunFailed: it stopped early; `resume` goes on.
        StoreError: the database cannot be used, or another driver has the run.
    """
    config = make_config({"task": _name_of(task), **options})
    loaded = _load(task, config)
    _check_regressor(config)
    space = load_space(config.space)
    config = config.model_copy(update={"modules": tuple(dict.fromkeys((*config.modules, *space.modules)))})
    identity = {**config.identity(), "task_digest": loaded.digest, "space_digest": space.digest}

    def order(store: Store) -> Order:
        run = _known_run(store, config.name, identity)
        if run is None:
            rows = candidate_rows(space, config.candidates, config.seed)
            name = config.name or _free_name(store, loaded.name)
            run = _create(store, config, loaded, "search", name, identity, rows)
        return Order(run, config, loaded, isinstance(task, str), max(config.evaluations, run.budget or 0), worker)

    _check_storage(config)
    with Store.open(store_url(config.store)) as store:
        return _carry_out(store, config.name, config, order, reporter)


def resume(
    name: str,
    *,
    store: str | None = None,
    task: Task | None = None,
    reporter: Reporter | None = None,
    worker: type = Worker,
    **changes: Any,
) -> RunResult:
    """Goes on with a run. A finished run whose budget is not raised is left as it is.

    Args:
        task: needed only where the run was started from Python with a `Task` that has no import path.
        **changes: `evaluations`, `workers`, and the other conditions of `SearchConfig` that may change.

    Raises:
        BadUse: a change that would make it another run, or a task that is not what it was.
        StoreError: no such run, or another driver has it.
    """
    with Store.open(store_url(store), create=False) as opened:
        run = opened.run(name)
        before = _stored_config(run)
        config = make_config({**before.model_dump(), **changes, "store": store})
        old, new = before.identity(), config.identity()
        changed = [key for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)]
        if changed:
            raise BadUse(f"run '{name}' cannot change its {', '.join(changed)}; start another run for that")
        loaded = _load(task or config.task, config)
        if loaded.digest != run.config["task_digest"]:
            raise BadUse(f"task '{loaded.name}' is not what it was when run '{name}' began; start another run")
        _check_storage(config)
        if run.kind == "evaluate":
            _queue(opened, run)
        budget = _raised_budget(run, changes.get("evaluations"))
        order = Order(run, config, loaded, task is None, budget, worker)
        return _carry_out(opened, name, config, lambda _: order, reporter)


def evaluate(
    functions: Sequence[str],
    task: str | Task,
    *,
    seeds: int = 1,
    reporter: Reporter | None = None,
    worker: type = Worker,
    **options: Any,
) -> RunResult:
    """Trains the given functions with seeds 0, 1, ..., `seeds` - 1 on a task; what is known already is not repeated.

    Raises:
        BadUse: a function that cannot be parsed, or another wrong option.
        RunFailed: some could not be trained; `resume` tries them again.
    """
    if seeds < 1:
        raise BadUse(f"seeds: at least one is needed, got {seeds}")
    config = make_config({"task": _name_of(task), **options})
    loaded = _load(task, config)
    rows = _unique_rows(functions)
    config = config.model_copy(update={"evaluations": len(rows) * seeds})
    identity = {
        **config.identity(),
        "task_digest": loaded.digest,
        "functions": sorted(row.name for row in rows),
        "seeds": seeds,
    }
    name = config.name or f"evaluate-{digest(identity)[:8]}"

    def order(store: Store) -> Order:
        run = _create(store, config, loaded, "evaluate", name, identity, rows)
        _queue(store, run)
        return Order(run, config, loaded, isinstance(task, str), config.evaluations, worker)

    _check_storage(config)
    with Store.open(store_url(config.store)) as store:
        return _carry_out(store, name, config, order, reporter)


def propose(name: str, functions: Sequence[str], *, store: str | None = None) -> list[tuple[str, Proposal]]:
    """Puts functions into a run's queue, to be trained next; returns each with what became of it.

    Raises:
        BadUse: a function that cannot be parsed; none is queued then.
        StoreError: no such run.
    """
    with Store.open(store_url(store), create=False) as opened:
        run = opened.run(name)
        config = _stored_config(run)
        import_modules(config.modules)
        rows = _unique_rows(functions)
        gated = config.health_gate == "on"
        ids = opened.add_functions(rows)
        proposals = opened.propose(run.id, ids, config.training_seed, accept_stopped=False, accept_refused=gated)
        return [(row.name, proposal) for row, proposal in zip(rows, proposals, strict=True)]


def _carry_out(
    store: Store,
    name: str | None,
    config: SearchConfig,
    make_order: Callable[[Store], Order],
    reporter: Reporter | None,
) -> RunResult:
    """Starts Ray unless the run is finished, and makes no new run before its workers are known to fit."""
    reporter = reporter or Silent()
    if any(run.name == name for run in store.runs()):  # what is wrong with it is told before Ray starts
        result = finished(store, make_order(store), reporter)
        if result is not None:
            return result
    with StopSignal() as stop, connected(config.address):
        stop.install()
        workers = fitting_workers(config)
        if stop.received:
            raise Interrupted(f"stopped by {stop.received} while Ray started; nothing was begun")
        return execute(store, make_order(store), workers, reporter, stop)


def _check_storage(config: SearchConfig) -> None:
    """On a cluster the place may be one that only its nodes can reach."""
    if config.address is not None:
        return
    try:
        check_storage(_storage(config))
    except CheckpointError as error:
        raise BadUse(str(error)) from None


def _storage(config: SearchConfig) -> str:
    return config.storage or str(Path.cwd() / DEFAULT_STORAGE)


def _name_of(task: str | Task) -> str:
    return task.name if isinstance(task, Task) else task


def _load(task: str | Task, config: SearchConfig) -> Task:
    """The task, known to be whole: its digest needs its network and its data."""
    import_modules(config.modules)
    try:
        with _data_looked_for_in(data_folder(config)):
            loaded = load_task(task, import_from=Path.cwd()) if isinstance(task, str) else task
            _ = loaded.digest
    except TaskError as error:
        raise BadUse(str(error)) from None
    return loaded


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


def _check_regressor(config: SearchConfig) -> None:
    if config.regressor not in REGRESSORS:
        raise BadUse(f"regressor: there are {', '.join(sorted(REGRESSORS))}, got '{config.regressor}'")


def _unique_rows(functions: Sequence[str]) -> list[FunctionRow]:
    rows = {row.fingerprint: row for row in map(function_row, functions)}
    if not rows:
        raise BadUse("no functions given; name at least one, such as 'swish(x)'")
    return list(rows.values())


def _known_run(store: Store, name: str | None, identity: dict[str, Any]) -> Run | None:
    """The run of this name if it has this identity; the candidates need not be drawn again then."""
    runs = {run.name: run for run in store.runs()}
    run = runs.get(name or "")
    return run if run is not None and run.config_digest == digest(identity) else None


def _create(
    store: Store,
    config: SearchConfig,
    task: Task,
    kind: RunKind,
    name: str,
    identity: dict[str, Any],
    rows: Sequence[FunctionRow],
) -> Run:
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


def _queue(store: Store, run: Run) -> None:
    """Asks for every function and seed of an evaluation run; what was asked for and has not failed stays as it is."""
    ids = [function.id for function in store.candidates(run.id)]
    for seed in range(int(run.config["seeds"])):
        gated = run.config.get("health_gate", "on") == "on"
        store.propose(run.id, ids, seed, accept_stopped=False, accept_refused=gated)


def _free_name(store: Store, base: str) -> str:
    """`digits-1`, `digits-2`, ...: the first that is free."""
    taken = {run.name for run in store.runs()}
    return next(name for n in range(1, len(taken) + 2) if (name := f"{base}-{n}") not in taken)


def _stored_config(run: Run) -> SearchConfig:
    if run.kind == "import":
        raise BadUse(f"run '{run.name}' was imported: its functions were trained elsewhere, and it trains none")
    return make_config({key: value for key, value in run.config.items() if key in SearchConfig.model_fields})


def _raised_budget(run: Run, evaluations: int | None) -> int:
    budget = run.budget or 0
    if evaluations is None:
        return budget
    if evaluations < budget:
        raise BadUse(f"run '{run.name}' has a budget of {budget} already, got {evaluations}; give as much or more")
    return evaluations
