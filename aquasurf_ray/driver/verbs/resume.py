"""resume(name): continue a run after any interruption, if requested with another budget or other conditions."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable
from typing import Any

from aquasurf_ray.analysis.studies.run_origin import STUDY
from aquasurf_ray.driver.callbacks.progress import shown_progress
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.events import Callback
from aquasurf_ray.driver.run.spec import RunResult, RunSpec
from aquasurf_ray.driver.settings.models import CONDITIONS, SearchConfig
from aquasurf_ray.driver.settings.places import store_url
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.settings.stored_config import stored_values
from aquasurf_ray.driver.settings.until import Until
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.driver.verbs.arguments import task_of_run
from aquasurf_ray.driver.verbs.changed_budget import changed_budget
from aquasurf_ray.driver.verbs.command import Command
from aquasurf_ray.driver.verbs.confirm import confirm_best
from aquasurf_ray.store import Run, Store
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.actor import Worker


def resume(
    name: str,
    *,
    store: str | None = None,
    task: Task | None = None,
    progress: bool = True,
    callbacks: Iterable[Callback] = (),
    worker: type = Worker,
    **changes: Any,
) -> RunResult:
    """Continue a run. A finished run whose budget is not changed is left as it is.

    An `until` that the run has already reached no longer applies: the run continues to its budget, or to another
    `until`.

    Args:
        task: needed only if the run was started from Python with a `Task` that has no import path.
        progress, callbacks: see `search`.
        **changes: `evaluations`, `workers`, and the other conditions of `SearchConfig` that may change.

    Raises:
        BadUse: a change would make it another run, or the task has changed.
        StoreError: there is no such run, or another driver has it.
    """
    with Store.open(store_url(store), create=False) as opened, shown_progress(progress, callbacks) as callbacks:
        run = opened.run(name)
        config = make_config({**stored_values(run), **changes, "store": store})
        return resume_run(opened, run, config, changes, task=task, callbacks=callbacks, worker=worker)


def resume_run(
    store: Store,
    run: Run,
    config: SearchConfig,
    given: Collection[str],
    *,
    task: Task | None = None,
    callbacks: Iterable[Callback] = (),
    worker: type = Worker,
) -> RunResult:
    """Carry out `resume` with a configuration that is made already: the stored one, with the settings `given` now."""
    name = run.name
    if STUDY in run.config:
        raise BadUse(f"run '{name}' is a study, which your own loop continues: Study('{name}', ...)")
    if run.budget is None and "evaluations" not in given:
        raise BadUse(f"run '{name}' has no number of evaluations to continue to; give one with --evaluations")
    changed = [key for key in given if key not in CONDITIONS and _differs(run, config, key)]
    if changed:
        raise BadUse(f"run '{name}' cannot change its {', '.join(changed)}; start another run for that")
    # Otherwise the run would end at once, and `resume --evaluations 80` would do nothing.
    if "until" not in given and _is_reached(store, run, config.until):
        config = config.model_copy(update={"until": None})
    loaded = task_of_run(run, task, config)
    if "confirm" in given and config.confirm is not None and run.kind != "search":
        raise BadUse(f"run '{name}' is not a search; confirm its best with: aquasurf confirm {shlex.quote(name)}")
    with Command(config, callbacks, store) as command:
        budget = run.budget
        if budget is None or "evaluations" in given:
            budget = changed_budget(store, run, config.evaluations, command.events)
        result = command.execute(RunSpec(run, config, loaded, task is None, budget, worker))
        return confirm_best(command, result, config, task, worker)


def _differs(run: Run, config: SearchConfig, key: str) -> bool:
    """Return whether a setting differs from the one with which the run was created."""
    default = SearchConfig.model_fields[key].get_default()
    before, now = stored_values(run).get(key, default), config.model_dump(mode="json")[key]
    # In JSON mode the model turns tuples into lists, as the store does.
    return bool((list(before) if isinstance(before, tuple) else before) != now)


def _is_reached(store: Store, run: Run, until: str | None) -> bool:
    """Return whether the run has reached this condition already."""
    return until is not None and History.of(store.snapshot(run.id), {}).reaches(Until.parse(until))
