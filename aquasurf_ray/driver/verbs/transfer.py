"""transfer(...): train the best functions of a run, and the baselines, on another task with several seeds.

The trainings form an `evaluate` run of the other task, so that run has a lease, can be resumed, and reuses results of
other runs of the task.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aquasurf_ray.activations.zoo import baseline_names
from aquasurf_ray.analysis.studies.confirmed_run import baseline_ids
from aquasurf_ray.analysis.studies.headline import confirmation_of
from aquasurf_ray.analysis.studies.ranking import one_each, ranked
from aquasurf_ray.driver.callbacks.progress import shown_progress
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.events import Callback
from aquasurf_ray.driver.run.spec import RunResult
from aquasurf_ray.driver.settings.defaults import TRANSFER_SEEDS, TRANSFER_TOP
from aquasurf_ray.driver.settings.places import store_url
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.user_modules import import_modules
from aquasurf_ray.driver.verbs.arguments import name_of
from aquasurf_ray.driver.verbs.evaluate import start_evaluation
from aquasurf_ray.store import LeaderboardRow, Run, Store
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.actor import Worker


def transfer(
    source: str,
    to: str | Task,
    *,
    top: int = TRANSFER_TOP,
    seeds: int = TRANSFER_SEEDS,
    store: str | None = None,
    progress: bool = True,
    callbacks: Iterable[Callback] = (),
    worker: type = Worker,
    **options: Any,
) -> RunResult:
    """Train the `top` best functions of a run and the baselines on another task, with seeds 0, 1, ...

    Args:
        source: the run's name.
        to: the other task; the run's own task is allowed, and trains its functions with more seeds.
        progress, callbacks: see `search`.
        **options: conditions of `SearchConfig`, such as `workers` and `address`; `modules` are imported besides those
            of the run.

    Raises:
        BadUse: the run has no function with a score besides the baselines, or one has an operator that only its own
            task has.
        RunFailed: some functions could not be trained; `resume` retries these.
        StoreError: there is no such run.
    """
    if top < 1:
        raise BadUse(f"top: at least one function is needed, got {top}")
    with Store.open(store_url(store), create=False) as opened:
        run = opened.run(source)
        modules = tuple(dict.fromkeys((*(run.config.get("modules") or ()), *(options.get("modules") or ()))))
        import_modules(modules)
        best = [row.function for row in _best(opened, run, top)]
        baselines = baseline_names(run.config.get("baselines", "paper"))
    options = {"health_gate": "off"} | options | {"modules": modules}
    config = make_config({"task": name_of(to), "store": store, **options})
    functions = [*best, *baselines]
    with shown_progress(progress, callbacks) as callbacks:
        return start_evaluation(
            config, functions, to, seeds=seeds, source=source, top=top, callbacks=callbacks, worker=worker
        )


def _best(store: Store, run: Run, n: int) -> list[LeaderboardRow]:
    baselines = baseline_ids(store, run).values()
    board = ranked(store.leaderboard(run_id=run.id), confirmation_of(store, run))
    best = [row for row in one_each(board) if row.function_id not in baselines]
    if not best:
        raise BadUse(f"run '{run.name}' has no function to transfer: none besides the baselines has a score; resume it")
    return best[:n]
