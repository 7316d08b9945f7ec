"""Confirming winners: the best functions of a run, and the baselines, trained anew with seeds of their own.

A confirmation is a run of kind "confirm", so it has a lease, resumes, and its trainings are evaluations of the task
like any other. Its seeds follow the one that the functions were selected on, which is not among them. Which functions
it has is settled when it begins: a search that goes on and finds better ones has another confirmation then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.analysis.studies.confirmed_run import baseline_ids
from aquasurf_ray.driver.callbacks.progress import Reporter
from aquasurf_ray.driver.config import CONDITIONS, SearchConfig, digest, make_config, store_url
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.run.spec import RunResult, RunSpec
from aquasurf_ray.driver.user_modules import import_modules
from aquasurf_ray.driver.verbs.setup import (
    carry_out,
    check_seeds,
    check_storage_of,
    create_run,
    loaded_task,
    stored_config,
    unique_rows,
)
from aquasurf_ray.store import LeaderboardRow, Run, Store
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.actor import Worker

TOP = 5
SEEDS = 5
OF_THE_SEARCH = frozenset({"name", "evaluations", "confirm", "seeds", "until"})
"""Conditions of a search that its confirmation does not take over."""


def confirm(
    name: str,
    *,
    top: int = TOP,
    seeds: int = SEEDS,
    store: str | None = None,
    task: Task | None = None,
    reporter: Reporter | None = None,
    worker: type = Worker,
    **changes: Any,
) -> RunResult:
    """Trains the `top` best functions of a run and the baselines with `seeds` seeds that they were not selected on.

    Args:
        task: needed only where the run was started from Python with a `Task` that has no import path.
        **changes: `workers`, and the other conditions of `SearchConfig`; those of the run by default.

    Raises:
        BadUse: nothing to confirm, or the task is not what it was.
        RunFailed: some could not be trained; `resume` tries them again.
        StoreError: no such run.
    """
    with Store.open(store_url(store), create=False) as opened:
        conditions = changes | {"store": store}
        return confirm_in(opened, name, conditions, top=top, seeds=seeds, task=task, reporter=reporter, worker=worker)


def confirm_in(
    store: Store,
    name: str,
    conditions: dict[str, Any],
    *,
    top: int,
    seeds: int,
    task: Task | None,
    reporter: Reporter | None,
    worker: type,
) -> RunResult:
    """`confirm` in an open store, under `conditions` in the place of the run's own."""
    if top < 1:
        raise BadUse(f"top: at least one function is needed, got {top}")
    check_seeds(seeds)
    run = store.run(name)
    best = winners(store, run, top)
    if len(best) < top and reporter is not None:
        reporter.note(
            f"run '{name}' has no {top} functions with a score beside the baselines; confirmed are {len(best)}"
        )
    before = stored_config(run)
    import_modules(before.modules)
    rows = unique_rows([*(row.function for row in best), *BASELINES])
    fixed = {"name": None, "health_gate": "off", "early_stop": "off", "confirm": None, "seeds": seeds, "until": None}
    own = {**before.model_dump(), "time_budget": None, **conditions, **fixed}
    config = make_config({**own, "evaluations": len(rows) * seeds})
    loaded = loaded_task(task or config.task, config)
    if loaded.digest != run.config["task_digest"]:
        raise BadUse(f"task '{loaded.name}' is not what it was when run '{name}' began, so its winners are of another")
    identity = {
        **config.identity(),
        "task_digest": loaded.digest,
        "confirms": name,
        "functions": sorted(row.name for row in rows),
        "seeds": seeds,
        "first_seed": config.training_seed + 1,
    }
    own_name = f"{name}-confirm-{digest(identity)[:8]}"
    check_storage_of(config)

    def order(store: Store) -> RunSpec:
        made = create_run(store, config, loaded, "confirm", own_name, identity, rows)
        return RunSpec(made, config, loaded, task is None, config.evaluations, worker)

    return carry_out(store, own_name, config, order, reporter)


def winners(store: Store, run: Run, n: int) -> list[LeaderboardRow]:
    """The best `n` functions of a run that are no baselines, by their score with the run's training seed.

    Raises:
        BadUse: there is none that came to a score.
    """
    if "task_digest" not in run.config:
        raise BadUse(f"run '{run.name}' was not trained here, so its winners cannot be confirmed")
    if run.kind == "confirm":
        raise BadUse(f"run '{run.name}' is a confirmation itself; confirm the run '{run.config['confirms']}'")
    seed, baselines = stored_config(run).training_seed, baseline_ids(store).values()
    rows = store.leaderboard(run_id=run.id)
    found = [row for row in rows if row.seed == seed and not row.stopped_early and row.function_id not in baselines]
    if not found:
        raise BadUse(f"run '{run.name}' has no winners: no function beside the baselines has come to a score")
    return found[:n]


def confirming(
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
