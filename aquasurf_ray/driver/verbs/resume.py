"""Resuming a run after any interruption, with a larger budget or under other conditions if asked."""

from __future__ import annotations

import shlex
from typing import Any

from aquasurf_ray.driver.callbacks.progress import Reporter
from aquasurf_ray.driver.config import make_config, store_url
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.run.spec import RunResult, RunSpec
from aquasurf_ray.driver.run_kinds import KINDS
from aquasurf_ray.driver.until import Until
from aquasurf_ray.driver.verbs.confirm import confirming
from aquasurf_ray.driver.verbs.setup import (
    carry_out,
    check_storage_of,
    loaded_task,
    stored_config,
)
from aquasurf_ray.store import Run, Store
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.actor import Worker


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
        order = RunSpec(run, config, loaded, task is None, budget, worker)
        then = confirming(opened, config, task, reporter, worker)
        return carry_out(opened, name, config, lambda _: order, reporter, then)


def _is_spent(store: Store, run: Run, until: str | None) -> bool:
    """Whether the run is as good as that already."""
    best = store.status(run.id).best if until else None
    return until is not None and best is not None and Until.parse(until).is_met(best.score)


def _raised_budget(run: Run, evaluations: int | None) -> int:
    budget = run.budget or 0
    if evaluations is None:
        return budget
    if not KINDS[run.kind].suggests:
        raise BadUse(f"run '{run.name}' trains what it was started with, so its evaluations cannot be changed")
    if evaluations < budget:
        raise BadUse(f"run '{run.name}' has a budget of {budget} already, got {evaluations}; give as much or more")
    return evaluations
