"""What is shown of a run while it works: counts, the best function, and what each worker does."""

from __future__ import annotations

from collections import Counter

from aquasurf_ray.driver.cluster.slot import CostsJob, Slot
from aquasurf_ray.driver.events import RunPace, RunView
from aquasurf_ray.driver.run.claims import Budget
from aquasurf_ray.driver.run.preparation import Preparation
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.recipe_change import with_change
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.messages import TrainingJob


def view_of(context: RunContext, task: Task, budget: Budget, preparation: Preparation, pace: RunPace) -> RunView:
    """Return the state of the run now."""
    history, pool = context.history, context.pool
    (spectra, spectra_wanted), (costs, costs_wanted) = preparation.n_spectra(), preparation.n_costs()
    metric, best = task.objective.metric, history.best()
    return RunView(
        spectra=spectra,
        spectra_wanted=spectra_wanted,
        costs=costs,
        costs_wanted=costs_wanted,
        evaluations=history.n_finished(baselines=True),
        evaluations_wanted=budget.in_total(history.evaluations),
        best=(best[0], metric.score(best[1])) if best else None,  # back to the metric's own sign
        best_change=history.best_change(),
        metric=metric.name,
        running=tuple(_text_of(slot) for slot in pool.live() if slot.state != "idle"),
        failed=history.n_failed(),
        stopped_early=history.evaluations.n_stopped_early,
        reused=history.evaluations.n_reused,
        training=sum(isinstance(slot.job, TrainingJob) for slot in pool.busy()),
        queued=history.evaluations.n(status={"queued"}),
        workers=Counter(slot.state for slot in pool.slots),
        pace=pace,
    )


def _text_of(slot: Slot) -> str:
    """Return a description of a worker's current job, for people."""
    if isinstance(slot.job, TrainingJob):
        epoch = slot.work.epoch if slot.work else None
        trained = with_change(slot.job.function, slot.job.recipe_change)
        return f"{slot.name} trains {trained}" + (f" (epoch {epoch} done)" if epoch else "")
    if isinstance(slot.job, CostsJob):
        return f"{slot.name} costs"
    return f"{slot.name} spectra" if slot.job else f"{slot.name} starts"
