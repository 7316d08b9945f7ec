"""confirm(...): retrain the best functions of a run, and the baselines, with additional seeds, each at its best rate.

A confirmation is a run of kind "confirm", so it has a lease, can be resumed, and its trainings are ordinary evaluations
of the task. Its seeds follow those with which the functions were selected, and exclude these: their scores are biased
by the selection. If it tunes the learning rate, or another number of the recipe, winners and baselines get the
same number of trainings for the choice, with seeds after the judging ones. Its functions are chosen when it begins: if
the search continues and finds better functions, a new confirmation is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from aquasurf_ray.analysis.studies.confirmed_run import baseline_ids
from aquasurf_ray.analysis.studies.ranking import one_each
from aquasurf_ray.analysis.studies.run_origin import NETWORK, OWN_TASK, has_task
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.driver.callbacks.progress import shown_progress
from aquasurf_ray.driver.candidates import baseline_rows, known_here, unique_rows
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.events import Callback
from aquasurf_ray.driver.run.spec import RunResult, RunSpec
from aquasurf_ray.driver.settings.defaults import CONFIRM_SEEDS, CONFIRM_TOP
from aquasurf_ray.driver.settings.models import SearchConfig, digest
from aquasurf_ray.driver.settings.places import store_url
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.settings.stored_config import stored_values
from aquasurf_ray.driver.user_modules import import_modules
from aquasurf_ray.driver.verbs.arguments import check_seeds, recipe_changes, task_of_run
from aquasurf_ray.driver.verbs.command import Command
from aquasurf_ray.recipe_change import UNCHANGED
from aquasurf_ray.seed_means import leader_seeds_of
from aquasurf_ray.store import LeaderboardRow, Run, Store
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.actor import Worker

TUNED: dict[str, Any] = {"learning_rates": (), "tune": None}
"""The settings that say what is tuned, without a value: a run tunes one thing."""
FIXED = {"name": None, "health_gate": "off", "early_stop": "off", "leader_seeds": 1, "confirm": None, "until": None}
"""The settings of every confirmation, whatever those of the run were: all trainings are completed."""


def confirm(
    name: str,
    *,
    top: int = CONFIRM_TOP,
    seeds: int = CONFIRM_SEEDS,
    store: str | None = None,
    task: Task | None = None,
    progress: bool = True,
    callbacks: Iterable[Callback] = (),
    worker: type = Worker,
    **changes: Any,
) -> RunResult:
    """Train the `top` best functions of a run and the baselines with `seeds` seeds not used for their selection.

    Args:
        task: needed only if the run was started from Python with a `Task` that has no import path.
        progress, callbacks: see `search`.
        **changes: `learning_rates=(0.5, 1, 2)` or `tune="weight_decay=0,1e-4"` (each function is judged at its own best
            one; by default what the search tried), `rate_seeds`, `judged_baselines`, `judge`, `workers`, and the other
            conditions of `SearchConfig`; those of the run by default.

    Raises:
        BadUse: there is nothing to confirm, or the task has changed.
        RunFailed: some functions could not be trained; `resume` retries these.
        StoreError: there is no such run.
    """
    if top < 1:
        raise BadUse(f"top: at least one function is needed, got {top}")
    check_seeds(seeds)
    with Store.open(store_url(store), create=False) as opened:
        run = opened.run(name)
        check_confirmable(run)
        # The search may have used up its time budget; a confirmation on its own begins without one.
        values = {**stored_values(run), "time_budget": None, "store": store, "seeds": seeds}
        if changes.keys() & TUNED.keys():  # in place of what the search tuned
            values |= TUNED
        config = make_config({**values, **changes})
        with shown_progress(progress, callbacks) as callbacks, Command(config, callbacks, opened) as command:
            return _confirm(command, opened, run, config, top, task, worker)


def confirm_best(
    command: Command, result: RunResult, config: SearchConfig, task: Task | None, worker: type
) -> RunResult:
    """Confirm the best functions of a search that has finished, if its configuration asks for it.

    The confirmation runs under the conditions of the search, with the rest of its time budget.
    """
    store, top = command.store, config.confirm
    if top is None or store is None:
        return result
    run = store.run(result.name)
    if run.status != "finished":
        return result
    # At least a second, because a time budget must be positive.
    left = None if config.time_budget is None else max(config.time_budget - result.seconds, 1.0)
    config = config.model_copy(update={"time_budget": left})
    return replace(result, confirmation=_confirm(command, store, run, config, top, task, worker).name)


def check_confirmable(run: Run) -> None:
    """Raise BadUse for a run that cannot have winners to confirm."""
    if not has_task(run.config):
        kind = "of a network, which has no recipe," if run.config.get(NETWORK) else "without a task,"
        raise BadUse(
            f"run '{run.name}' is a study {kind} so its winners cannot be retrained here; "
            "retrain them in your own loop, with other seeds"
        )
    if "task_digest" not in run.config:
        raise BadUse(f"run '{run.name}' was not trained here, so its winners cannot be confirmed; search here")
    if run.kind == "confirm":
        raise BadUse(f"run '{run.name}' is a confirmation itself; confirm the run '{run.config['confirms']}'")


def winners(store: Store, run: Run, n: int) -> list[LeaderboardRow]:
    """Return the best `n` functions of a run other than baselines, by their score with the run's training seed, or by
    the mean over the seeds of a search whose leader has several.

    An earlier confirmation does not change their order. It retrained some of the functions with the judging seeds:
    ranked by these, a function would be judged by the very trainings that chose it, and one that the search found
    later, whose score nothing has confirmed, would never be judged.

    Raises:
        BadUse: no such function has a score.
    """
    seed, baselines = int(run.config.get("training_seed", 0)), baseline_ids(store, run).values()
    rows = one_each(row for row in store.leaderboard(run_id=run.id) if row.seed == seed)
    found = [row for row in rows if row.function_id not in baselines]
    if not found:
        raise BadUse(f"run '{run.name}' has no winners: no function besides the baselines has a score; resume it")
    return found[:n]


def _confirm(
    command: Command, store: Store, run: Run, config: SearchConfig, top: int, task: Task | None, worker: type
) -> RunResult:
    """Carry out the confirmation of a run, under the settings of `config` and with `config.seeds` seeds."""
    best = winners(store, run, top)
    if len(best) < top:
        command.events.note(
            f"fewer than {top} functions of run '{run.name}' have a score besides the baselines; confirming {len(best)}"
        )
    import_modules(config.modules)
    loaded = task_of_run(run, task, config)
    baselines = baseline_rows(loaded.baselines, config.baselines)
    known = store.functions(row.function_id for row in best)
    named = known_here(store, [known[row.function_id] for row in best])
    rows = unique_rows([*(function.name for function in named), *(row.name for row in baselines)])
    changes = recipe_changes(config, loaded)
    n_choosing = len(changes) * config.rate_seeds if len(changes) > 1 else 0
    always = unique_rows([REFERENCE, loaded.reference or REFERENCE])
    n_left_out = max(0, len(baselines) - len(always) - (config.judged_baselines or len(baselines)))
    n_trainings = len(rows) * n_choosing + (len(rows) - n_left_out) * config.seeds
    first_seed = config.training_seed + leader_seeds_of(run.kind, run.config)
    config = config.model_copy(update={**FIXED, "evaluations": n_trainings})
    identity = {
        **config.identity(),
        "task_digest": loaded.digest,
        "confirms": run.name,
        # Part of the identity: after a longer search with other winners, a new confirmation begins.
        "functions": sorted(row.name for row in rows),
        "seeds": config.seeds,
        "first_seed": first_seed,
    }
    # Only where they differ from what earlier versions did, so that their confirmations keep their names.
    if changes != (UNCHANGED,):
        identity |= {"recipe_changes": list(changes), "rate_seeds": config.rate_seeds}
    if config.judged_baselines is not None:
        identity["judged_baselines"] = config.judged_baselines
    if config.judge != "test":
        identity["judge"] = config.judge
    name = f"{run.name}-confirm-{digest(identity)[:8]}"
    facts = {"top": top, **({} if task is None else {OWN_TASK: True})}
    confirmation = command.find_or_create("confirm", name, config, loaded, identity, rows, facts)
    return command.execute(RunSpec(confirmation, config, loaded, task is None, config.evaluations, worker))
