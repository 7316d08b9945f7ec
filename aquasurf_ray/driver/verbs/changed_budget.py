"""Another budget for a run that exists: higher, or lower, down to what it has done."""

from __future__ import annotations

from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.events import Events
from aquasurf_ray.driver.run_kinds import KINDS
from aquasurf_ray.store import Run, Store


def changed_budget(store: Store, run: Run, evaluations: int, events: Events) -> int:
    """Return the budget that a run gets on request, and note it if it is lower than the run's.

    Raises:
        BadUse: the run trains a fixed list of functions, or has finished more.
    """
    if not KINDS[run.kind].suggests:
        raise BadUse(f"run '{run.name}' trains a fixed list of functions, so evaluations cannot change it")
    if run.budget is not None and evaluations >= run.budget:
        return evaluations
    done = sum(
        n
        for (origin, status), n in store.status(run.id).by_origin.items()
        if origin != "baseline" and status in ("done", "diverged")
    )
    # Results cannot be taken back, so the budget cannot fall below them.
    if evaluations < done:
        raise BadUse(
            f"run '{run.name}' has finished {done} evaluations; evaluations cannot be lower, got {evaluations}"
        )
    before = "no limit" if run.budget is None else f"{run.budget} evaluations"
    events.note(f"run '{run.name}': the budget is lowered from {before} to {evaluations}")
    return evaluations
