"""Starting and resuming runs: from a configuration to an order that `execute` carries out.

search(...)    a new run, or the one of that name if it has the same configuration
resume(name)   goes on with a run after any interruption, with another budget or other workers if asked
evaluate(...)  trains given functions and nothing else: a run without a surrogate
propose(...)   puts functions into the queue of a run that may be going on elsewhere
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.driver.callbacks.progress import Reporter
from aquasurf_ray.driver.candidates import candidate_rows, load_space
from aquasurf_ray.driver.config import CONDITIONS, SearchConfig, digest, make_config, store_url
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.run.session import Order, RunResult
from aquasurf_ray.driver.run_kinds import KINDS
from aquasurf_ray.driver.surrogate_names import EARLIER_SURROGATE
from aquasurf_ray.driver.until import Until
from aquasurf_ray.driver.user_modules import import_modules
from aquasurf_ray.driver.verbs.confirm import confirm_in
from aquasurf_ray.driver.verbs.setup import (
    carry_out,
    check_seeds,
    check_storage_of,
    create_run,
    create_unnamed_run,
    known_run,
    loaded_task,
    name_of,
    store_of,
    stored_config,
    unique_rows,
)
from aquasurf_ray.store import Proposal, Run, Store
from aquasurf_ray.surrogate.regressors import REGRESSORS
from aquasurf_ray.surrogate.settings import METRIC_REGRESSORS
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.actor import Worker

OF_THE_SEARCH = frozenset({"name", "evaluations", "confirm", "seeds", "until"})
"""Conditions of a search that its confirmation does not take over."""


def search(task: str | Task, *, reporter: Reporter | None = None, worker: type = Worker, **options: Any) -> RunResult:
    """Searches an activation function for a task, and returns when the budget is met.

    Scores are the task's metric on the validation split, with the sign changed where lower is better.

    Args:
        task: a task, its short name, or `package.module:function`.
        reporter: shows the progress; nothing is shown by default.
        worker: stands in for `workers.actor.Worker`, for example one that answers from a benchmark.
        **options: any field of `SearchConfig`, for example `evaluations=40`, `workers=2`, `store="sqlite:///a.db"`,
            `max_cost=1.2` (suggests no function whose training step takes longer than 1.2 times relu's),
            `surrogate="metric"`, `early_stop="median"`, `gpus_per_evaluation=4`, `confirm=5` (trains the five best
            anew, with further seeds), `time_budget="2h30m"` or `until="val_accuracy>=0.99"` (ends the run sooner).

    Raises:
        BadUse: the request is wrong, and nothing was started.
        Interrupted, RunFailed: it stopped early; `resume` goes on.
        StoreError: the database cannot be used, or another driver has the run.
    """
    config = make_config({"task": name_of(task), **options})
    loaded = loaded_task(task, config)
    _check_regressor(config)
    space = load_space(config.space)
    config = config.model_copy(update={"modules": tuple(dict.fromkeys((*config.modules, *space.modules)))})

    def order(store: Store) -> Order:
        own = config if "surrogate" in options else _with_its_surrogate(store, config, options)
        identity = {**own.identity(), "task_digest": loaded.digest, "space_digest": space.digest}
        run = known_run(store, own.name, identity)
        if run is None:
            rows = candidate_rows(space, own.candidates, own.seed)
            n = len(rows) - len(BASELINES)
            if reporter and n < own.candidates:
                reporter.note(f"the space has {n:,} functions beside the baselines; all are candidates")
            if own.name is None:
                run = create_unnamed_run(store, own, loaded, "search", identity, rows)
            else:
                run = create_run(store, own, loaded, "search", own.name, identity, rows)
        return Order(run, own, loaded, isinstance(task, str), max(own.evaluations, run.budget or 0), worker)

    with store_of(config) as store:
        then = _confirming(store, config, None if isinstance(task, str) else task, reporter, worker)
        return carry_out(store, config.name, config, order, reporter, then)


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

    An `until` that the run was started with and has reached is over: it goes on to its budget, or to another `until`.

    Args:
        task: needed only where the run was started from Python with a `Task` that has no import path.
        **changes: `evaluations`, `workers`, and the other conditions of `SearchConfig` that may change.

    Raises:
        BadUse: a change that would make it another run, or a task that is not what it was.
        StoreError: no such run, or another driver has it.
    """
    with Store.open(store_url(store), create=False) as opened:
        run = opened.run(name)
        before = stored_config(run)
        config = make_config({**before.model_dump(), **changes, "store": store})
        if "until" not in changes and _is_spent(opened, run, config.until):
            config = config.model_copy(update={"until": None})
        old, new = before.identity(), config.identity()
        changed = [key for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)]
        if changed:
            raise BadUse(f"run '{name}' cannot change its {', '.join(changed)}; start another run for that")
        loaded = loaded_task(task or config.task, config)
        if loaded.digest != run.config["task_digest"]:
            raise BadUse(f"task '{loaded.name}' is not what it was when run '{name}' began; start another run")
        check_storage_of(config)
        if changes.get("confirm") and run.kind != "search":
            raise BadUse(f"run '{name}' is no search; confirm its best with: aquasurf confirm {shlex.quote(name)}")
        budget = _raised_budget(run, changes.get("evaluations"))
        order = Order(run, config, loaded, task is None, budget, worker)
        then = _confirming(opened, config, task, reporter, worker)
        return carry_out(opened, name, config, lambda _: order, reporter, then)


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
    check_seeds(seeds)
    config = make_config({"task": name_of(task), "surrogate": EARLIER_SURROGATE, **options})  # which suggests nothing
    loaded = loaded_task(task, config)
    rows = unique_rows(functions)
    config = config.model_copy(update={"evaluations": len(rows) * seeds})
    identity = {
        **config.identity(),
        "task_digest": loaded.digest,
        "functions": sorted(row.name for row in rows),
        "seeds": seeds,
    }
    name = config.name or f"evaluate-{digest(identity)[:8]}"

    def order(store: Store) -> Order:
        run = create_run(store, config, loaded, "evaluate", name, identity, rows)
        return Order(run, config, loaded, isinstance(task, str), config.evaluations, worker)

    with store_of(config) as store:
        return carry_out(store, name, config, order, reporter)


def propose(name: str, functions: Sequence[str], *, store: str | None = None) -> list[tuple[str, Proposal]]:
    """Puts functions into a run's queue, to be trained next; returns each with what became of it.

    Raises:
        BadUse: a function that cannot be parsed; none is queued then.
        StoreError: no such run.
    """
    with Store.open(store_url(store), create=False) as opened:
        run = opened.run(name)
        config = stored_config(run)
        import_modules(config.modules)
        rows = unique_rows(functions)
        gated = config.health_gate == "on"
        ids = opened.add_functions(rows)
        proposals = opened.propose(run.id, ids, config.training_seed, accept_stopped=False, accept_refused=gated)
        return [(row.name, proposal) for row, proposal in zip(rows, proposals, strict=True)]


def _confirming(
    store: Store, config: SearchConfig, task: Task | None, reporter: Reporter | None, worker: type
) -> Callable[[RunResult], RunResult]:
    """What a search does with its result: it has its best functions confirmed, if that is wanted."""

    def then(result: RunResult) -> RunResult:
        if config.confirm is None or store.run(result.name).status != "finished":
            return result
        same = {key: getattr(config, key) for key in CONDITIONS - OF_THE_SEARCH}
        if config.time_budget is not None:
            same["time_budget"] = max(config.time_budget - result.seconds, 1.0)
        top, seeds = config.confirm, config.seeds
        made = confirm_in(store, result.name, same, top=top, seeds=seeds, task=task, reporter=reporter, worker=worker)
        return replace(result, confirmation=made.name)

    return then


def _is_spent(store: Store, run: Run, until: str | None) -> bool:
    """Whether the run is as good as that already."""
    best = store.status(run.id).best if until else None
    return until is not None and best is not None and Until.parse(until).is_met(best.score)


def _with_its_surrogate(store: Store, config: SearchConfig, options: dict[str, Any]) -> SearchConfig:
    """The configuration with the surrogate of the search of this name, if there is one: the default may have changed
    since it began."""
    run = next((run for run in store.runs() if run.name == config.name and run.kind == "search"), None)
    if run is None:
        return config
    same = config.model_dump(exclude=set() if "regressor" in options else {"regressor"})
    return make_config({**same, "surrogate": stored_config(run).surrogate})


def _check_regressor(config: SearchConfig) -> None:
    known = METRIC_REGRESSORS if config.surrogate == "metric" else REGRESSORS
    if config.regressor not in known:
        raise BadUse(f"regressor: there are {', '.join(sorted(known))}, got '{config.regressor}'")


def _raised_budget(run: Run, evaluations: int | None) -> int:
    budget = run.budget or 0
    if evaluations is None:
        return budget
    if not KINDS[run.kind].suggests:
        raise BadUse(f"run '{run.name}' trains what it was started with, so its evaluations cannot be changed")
    if evaluations < budget:
        raise BadUse(f"run '{run.name}' has a budget of {budget} already, got {evaluations}; give as much or more")
    return evaluations
