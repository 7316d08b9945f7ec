"""Starting a search: a new run, or the one of its name if it has the same configuration."""

from __future__ import annotations

from typing import Any

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.driver.callbacks.progress import Reporter
from aquasurf_ray.driver.candidates import candidate_rows, load_space
from aquasurf_ray.driver.config import SearchConfig, make_config
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.run.spec import RunResult, RunSpec
from aquasurf_ray.driver.verbs.confirm import confirming
from aquasurf_ray.driver.verbs.setup import (
    carry_out,
    create_run,
    create_unnamed_run,
    known_run,
    loaded_task,
    name_of,
    store_of,
    stored_config,
)
from aquasurf_ray.store import Store
from aquasurf_ray.surrogate.regressors import REGRESSORS
from aquasurf_ray.surrogate.settings import METRIC_REGRESSORS
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.actor import Worker


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

    def order(store: Store) -> RunSpec:
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
        return RunSpec(run, own, loaded, isinstance(task, str), max(own.evaluations, run.budget or 0), worker)

    with store_of(config) as store:
        then = confirming(store, config, None if isinstance(task, str) else task, reporter, worker)
        return carry_out(store, config.name, config, order, reporter, then)


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
