"""search(...): start a new search, or resume the run of this name if it has the same configuration."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from functools import partial
from typing import Any

from aquasurf_ray.analysis.studies.run_origin import OWN_TASK
from aquasurf_ray.driver.callbacks.progress import shown_progress
from aquasurf_ray.driver.candidates import baseline_rows, load_space, search_rows
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.events import Callback
from aquasurf_ray.driver.run.spec import RunResult, RunSpec
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.settings.stored_config import stored_values
from aquasurf_ray.driver.verbs.arguments import check_regressor, loaded_task, name_of, recipe_changes, tuning_setting
from aquasurf_ray.driver.verbs.command import Command
from aquasurf_ray.driver.verbs.confirm import confirm_best
from aquasurf_ray.driver.verbs.create_run import create_run, create_unnamed
from aquasurf_ray.recipe_change import UNCHANGED
from aquasurf_ray.store import Store
from aquasurf_ray.store.records.runs import N_BASELINES
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.actor import Worker


def search(
    task: str | Task,
    *,
    progress: bool = True,
    callbacks: Iterable[Callback] = (),
    worker: type = Worker,
    **options: Any,
) -> RunResult:
    """Search for an activation function for a task, and return when the budget is met.

    Scores are the task's metric on the validation split, with the sign changed where lower is better.

    Args:
        task: a task, its short name, or `package.module:function`.
        progress: whether to show the progress on standard error: bars on a terminal, lines elsewhere.
        callbacks: objects with a method `on_event(event)`, which is called with every event (`driver.events`).
        worker: the worker class, for example one that answers from a benchmark instead of training.
        **options: any field of `SearchConfig`, for example `evaluations=40`, `workers=2`, `store="sqlite:///a.db"`,
            `max_cost=1.2` (suggests no function whose training step takes longer than 1.2 times ReLU's),
            `surrogate="metric"`, `learning_rates=(0.5, 1, 2)` (tries good and diverged functions at other rates),
            `early_stop="median"`, `gpus_per_evaluation=4`, `confirm=5` (retrains the five best
            functions with more seeds), `time_budget="2h30m"` or `until="val_accuracy>=0.99"` (ends the run sooner).

    Raises:
        BadUse: the request is wrong, or the run has finished more evaluations, and nothing was started.
        Interrupted, RunFailed: the run stopped early; `resume` continues it.
        StoreError: the database cannot be used, or another driver has the run.
    """
    config = make_config({"task": name_of(task), **options})
    with shown_progress(progress, callbacks) as callbacks:
        return start_search(config, task, callbacks=callbacks, worker=worker)


def start_search(
    config: SearchConfig, task: str | Task, *, callbacks: Iterable[Callback] = (), worker: type = Worker
) -> RunResult:
    """Carry out `search` with an existing configuration."""
    loaded = loaded_task(task, config)
    changes = _recipe_changes(config, loaded)
    check_regressor(config)
    if loaded.roles and config.surrogate != "metric":
        roles = ", ".join(loaded.roles)
        raise BadUse(f"surrogate: '{config.surrogate}' cannot search a function per role ({roles}); use metric")
    space = load_space(config.space)
    config = config.model_copy(update={"modules": tuple(dict.fromkeys((*config.modules, *space.modules)))})
    with Command(config, callbacks) as command:
        if command.store is not None:
            config = _with_its_surrogate(command.store, config)
        identity = {**config.identity(), "task_digest": loaded.digest, "space_digest": space.digest}
        if len(changes) > 1:
            identity["recipe_changes"] = list(changes)
        run = command.find("search", config.name, config, loaded, identity)
        if run is None:
            store, _ = command.connect()
            rows = search_rows(config, space, loaded.baselines)
            n_baselines = len(baseline_rows(loaded.baselines, config.baselines))
            n = len(rows) - n_baselines
            if n < config.candidates:
                command.events.note(f"the space has {n:,} functions besides the baselines; all are candidates")
            facts = {N_BASELINES: n_baselines, **({} if isinstance(task, str) else {OWN_TASK: True})}
            create = partial(create_run, store, config, loaded, "search", identity=identity, rows=rows, facts=facts)
            run = create_unnamed(store, loaded.name, create) if config.name is None else create(config.name)
        # A job that a cluster starts again repeats its first command, and must not undo what `resume` has raised since.
        budget = max(config.evaluations, run.budget or 0)
        if config.evaluations < budget and "evaluations" in config.model_fields_set:
            command.events.note(
                f"run '{run.name}' keeps its budget of {budget} evaluations; lower it with: "
                f"aquasurf resume {shlex.quote(run.name)} --evaluations {config.evaluations}"
            )
        result = command.execute(RunSpec(run, config, loaded, isinstance(task, str), budget, worker))
        return confirm_best(command, result, config, None if isinstance(task, str) else task, worker)


def _with_its_surrogate(store: Store, config: SearchConfig) -> SearchConfig:
    """Return the configuration with the surrogate of the search of this name, if it exists, unless one was given: the
    default may have changed since the search began."""
    run = next((run for run in store.runs() if run.name == config.name and run.kind == "search"), None)
    return config if run is None else config.with_default_surrogate(stored_values(run)["surrogate"])


def _recipe_changes(config: SearchConfig, task: Task) -> tuple[str, ...]:
    """Return the changes of the recipe that the search tries. The first is none, with which every function begins."""
    changes = tuple(dict.fromkeys((UNCHANGED, *recipe_changes(config, task))))
    if len(changes) > 1 and config.surrogate != "metric":
        name = tuning_setting(config)
        raise BadUse(
            f"{name}: a search needs surrogate metric for it, got '{config.surrogate}', whose map has no place for a "
            f"rate; without it, search, and then: aquasurf confirm NAME --{name} ..."
        )
    return changes
