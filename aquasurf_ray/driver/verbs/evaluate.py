"""evaluate(...): train given functions, and the reference that they are compared with, in a run without a surrogate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aquasurf_ray.analysis.studies.run_origin import OWN_TASK, TRANSFERRED
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.driver.callbacks.progress import shown_progress
from aquasurf_ray.driver.candidates import function_row, unique_rows
from aquasurf_ray.driver.events import Callback
from aquasurf_ray.driver.operator_origin import origins_told
from aquasurf_ray.driver.run.spec import RunResult, RunSpec
from aquasurf_ray.driver.settings.defaults import EVALUATE_SEEDS
from aquasurf_ray.driver.settings.models import SearchConfig, digest
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.settings.surrogate_names import EARLIER_SURROGATE
from aquasurf_ray.driver.verbs.arguments import check_seeds, loaded_task, name_of
from aquasurf_ray.driver.verbs.command import Command
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.actor import Worker


def evaluate(
    functions: Sequence[str],
    task: str | Task,
    *,
    seeds: int = EVALUATE_SEEDS,
    progress: bool = True,
    callbacks: Iterable[Callback] = (),
    worker: type = Worker,
    **options: Any,
) -> RunResult:
    """Train the given functions with seeds 0, 1, ..., `seeds` - 1 on a task; results that the store has are reused.

    With several seeds, the task's reference is trained too, because gains are over it.

    Args:
        functions: expressions and names; the word `zoo` stands for all published functions that have names.
        progress, callbacks: see `search`.

    Raises:
        BadUse: a function cannot be parsed, or an option is wrong.
        RunFailed: some functions could not be trained; `resume` retries these.
    """
    config = make_config({"task": name_of(task), **options})
    with shown_progress(progress, callbacks) as callbacks:
        return start_evaluation(config, functions, task, seeds=seeds, callbacks=callbacks, worker=worker)


def start_evaluation(
    config: SearchConfig,
    functions: Sequence[str],
    task: str | Task,
    *,
    seeds: int = EVALUATE_SEEDS,
    source: str | None = None,
    top: int | None = None,
    callbacks: Iterable[Callback] = (),
    worker: type = Worker,
) -> RunResult:
    """Carry out `evaluate` with a configuration that is made already; `source` is the run whose `top` best functions
    are transferred, if they are: the task's own baselines are trained with them."""
    check_seeds(seeds)
    # An evaluation asks no surrogate, but its identity has the name of one, as it had before there was a choice.
    config = config.with_default_surrogate(EARLIER_SURROGATE)
    loaded = loaded_task(task, config)
    with origins_told(functions, config.store):
        given = unique_rows([*functions, *(() if source is None else loaded.baselines)], loaded.roles)
    # A single seed has no test of a gain, and a function that is only tried should cost one training.
    reference = function_row(loaded.reference or REFERENCE)
    is_added = seeds > 1 and reference.fingerprint not in {row.fingerprint for row in given}
    rows = [*given, reference] if is_added else given
    config = config.model_copy(update={"evaluations": len(rows) * seeds})
    identity = {
        **config.identity(),
        "task_digest": loaded.digest,
        # Sorted, so that the same functions in another order are the same run.
        "functions": sorted(row.name for row in rows),
        "seeds": seeds,
    }
    facts: dict[str, Any] = {} if isinstance(task, str) else {OWN_TASK: True}
    facts |= {} if source is None else {TRANSFERRED: source, "top": top}
    kind = "evaluate" if source is None else f"{source}-transfer"
    name = config.name or f"{kind}-{digest(identity)[:8]}"
    with Command(config, callbacks) as command:
        run = command.find_or_create("evaluate", name, config, loaded, identity, rows, facts)
        if is_added and run.created:
            command.events.note(f"the reference {reference.name} is trained too: gains are over it")
        return command.execute(RunSpec(run, config, loaded, isinstance(task, str), config.evaluations, worker))
