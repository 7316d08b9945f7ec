"""Create a run in the store, or find the one of this name and identity that exists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

from aquasurf_ray.analysis.studies.reference import OWN_OPERATORS
from aquasurf_ray.analysis.studies.run_origin import OWN_TASK
from aquasurf_ray.driver.candidates import add_functions, function_row
from aquasurf_ray.driver.settings.models import SearchConfig, digest
from aquasurf_ray.driver.settings.places import storage_folder
from aquasurf_ray.driver.stand_ins import operator_values
from aquasurf_ray.store import FunctionRow, NewRun, Run, RunExists, Store
from aquasurf_ray.store.records.runs import RunKind
from aquasurf_ray.tasks import Task


def create_run(
    store: Store,
    config: SearchConfig,
    task: Task,
    kind: RunKind,
    name: str,
    identity: dict[str, Any],
    rows: Sequence[FunctionRow],
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> Run:
    """Return a new run, or the one of this name and identity that exists.

    Args:
        facts: see `new_run`; those of the task are added.

    Raises:
        RunExists: a run of this name has another identity.
        BadUse: a function is another one in the store.
    """
    task_id = store.add_task(task.name, task.version, task.digest, task.stored_spec())
    storage = storage_folder(config)
    facts = {**facts, **task_facts(task.reference, task.baselines, task.roles)}
    new = new_run(config, kind, name, task_id, identity, budget=config.evaluations, storage=storage, facts=facts)
    return store.create_run(new, add_functions(store, rows))


def new_run(
    config: SearchConfig,
    kind: RunKind,
    name: str,
    task_id: int,
    identity: dict[str, Any],
    *,
    budget: int | None,
    storage: str | None,
    facts: Mapping[str, Any],
) -> NewRun:
    """Return the row of a run that is to be created.

    Args:
        identity: the settings and digests that stay for the run's life.
        budget: the number of evaluations, if this package decides it.
        storage: where this package writes checkpoints, if it does.
        facts: what readers of the run want to know besides; no part of the identity, since none changes a result.
    """
    return NewRun(
        name=name,
        kind=kind,
        task_id=task_id,
        config={**config.stored(), **identity, **facts},
        config_digest=digest(identity),
        seed=config.seed,
        budget=budget,
        storage=storage,
        code_version=version("aquasurf-ray"),
        identity_keys=tuple(identity),
    )


def task_facts(
    reference: str | None, baselines: Sequence[str], roles: Sequence[str] = (), *, own: bool = False
) -> dict[str, Any]:
    """Return what readers of a run want to know of its task, and need no task for then: also the values of the
    baselines' operators that are not built in.

    Args:
        reference: the function that gains are over, if that is not ReLU.
        baselines: the functions that are trained first, besides those of the paper or the zoo.
        roles: the roles of the network, if each may have a function of its own.
        own: True if the task was given in Python, so that its name may be that of another one.
    """
    named = [function_row(text, roles or None).name for text in baselines]
    facts = {
        "reference": reference,
        "task_baselines": named,
        "roles": list(roles),
        OWN_TASK: own,
        OWN_OPERATORS: operator_values(named),
    }
    return {key: value for key, value in facts.items() if value}


def create_unnamed(store: Store, base: str, create: Callable[[str], Run]) -> Run:
    """Return a new run under the first free name; if another process takes that name first, try the next.

    Args:
        base: the beginning of the name, followed by a number.
        create: creates the run of a name, or finds the one that exists.
    """
    while True:
        try:
            # Between the look-up and the creation, another process may take the name.
            run = create(free_name(store, base))
        except RunExists:
            continue
        if run.created:
            return run


def known_run(store: Store, name: str | None, identity: dict[str, Any]) -> Run | None:
    """Return the run of this name if it has this identity, in which case its candidates need not be drawn again."""
    runs = {run.name: run for run in store.runs()}
    run = runs.get(name or "")
    # Drawing from a four-node space takes seconds, which resuming need not cost.
    return run if run is not None and run.config_digest == digest(identity) else None


def free_name(store: Store, base: str) -> str:
    """Return the first free name among `digits-1`, `digits-2`, ..."""
    taken = {run.name for run in store.runs()}
    # Of n + 1 names, n taken ones leave at least one.
    return next(name for n in range(1, len(taken) + 2) if (name := f"{base}-{n}") not in taken)
