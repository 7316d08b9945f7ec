"""Transfer: the best functions of a run, and the baselines, trained on another task with several seeds.

The trainings are an `evaluate` run of the other task, so it has a lease, resumes, and shares what other runs of that
task have trained. What is told of it, `Transfer`, is read from the store again, so it can be had in other forms later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.analysis.studies.confirmation import (
    PairedDifference,
    SeedMean,
    paired_difference,
    seed_mean,
    with_holm,
)
from aquasurf_ray.driver.callbacks.progress import Reporter
from aquasurf_ray.driver.config import store_url
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.run.session import RunResult
from aquasurf_ray.driver.user_modules import import_modules
from aquasurf_ray.driver.verbs.confirm import REFERENCE, baseline_ids, scores_by_seed
from aquasurf_ray.driver.verbs.search import evaluate
from aquasurf_ray.store import LeaderboardRow, Run, Store, TaskMetric
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.actor import Worker

TOP = 3
SEEDS = 3


@dataclass(frozen=True)
class TransferredFunction:
    """One function on the other task. Scores are higher where better.

    `source` is its score in the run that it comes from. `median` is that of the seeds, in which a training that
    diverged is the worst; None where it is the median one. `gain` and its test are against relu with the same seeds.
    """

    function: str
    baseline: bool
    source: float | None
    median: float | None
    test_median: float | None
    mean: SeedMean
    against_reference: PairedDifference


@dataclass(frozen=True)
class Transfer:
    """What came of the functions of run `source` on another task, best median first; `name` is the run that trained."""

    name: str
    source: str
    source_task: str
    task: str
    seeds: tuple[int, ...]
    source_metric: TaskMetric
    metric: TaskMetric
    functions: tuple[TransferredFunction, ...]


def transfer(
    source: str,
    to: str | Task,
    *,
    top: int = TOP,
    seeds: int = SEEDS,
    store: str | None = None,
    reporter: Reporter | None = None,
    worker: type = Worker,
    **options: Any,
) -> RunResult:
    """Trains the `top` best functions of a run and the baselines on another task, with seeds 0, 1, ...

    Args:
        source: the run's name.
        to: the other task; the run's own is allowed, and gives its functions further seeds.
        **options: conditions of `SearchConfig`, such as `workers` and `address`.

    Raises:
        BadUse: the run has no function with a score beside the baselines.
        RunFailed: some could not be trained; `resume` tries them again.
        StoreError: no such run.
    """
    if top < 1:
        raise BadUse(f"top: at least one function is needed, got {top}")
    with Store.open(store_url(store), create=False) as opened:
        run = opened.run(source)
        modules = tuple(run.config.get("modules") or ())
        import_modules(modules)
        best = [row.function for row in _best(opened, run, top)]
    options = {"modules": modules, "health_gate": "off"} | options
    return evaluate([*best, *BASELINES], to, seeds=seeds, store=store, reporter=reporter, worker=worker, **options)


def read_transfer(source: str, name: str, store: str | None = None) -> Transfer:
    """What is stored of a transfer.

    Args:
        source: the run that the functions come from.
        name: the run that trained them on the other task.

    Raises:
        StoreError: no such run.
    """
    with Store.open(store_url(store), create=False) as opened:
        return _transfer(opened, opened.run(source), opened.run(name))


def _best(store: Store, run: Run, n: int) -> list[LeaderboardRow]:
    baselines = baseline_ids(store).values()
    rows = [row for row in store.leaderboard(run_id=run.id) if row.function_id not in baselines]
    by_function = {row.function_id: row for row in reversed(rows) if not row.stopped_early}
    if not by_function:
        raise BadUse(f"run '{run.name}' has no function to transfer: none beside the baselines has come to a score")
    return sorted(by_function.values(), key=lambda row: row.rank)[:n]


def _transfer(store: Store, source: Run, run: Run) -> Transfer:
    functions, baselines = store.candidates(run.id), baseline_ids(store)
    seeds = range(int(run.config["seeds"]))
    scores, tests = scores_by_seed(store, run, [function.id for function in functions], seeds)
    selected = {row.function_id: row.score for row in reversed(store.leaderboard(run_id=source.id))}
    reference = scores[next(i for i, function in enumerate(functions) if function.id == baselines[REFERENCE])]
    compared = [paired_difference(row, reference) for row in scores]
    winning = [i for i, function in enumerate(functions) if function.id not in baselines.values()]
    corrected = dict(zip(winning, with_holm([compared[i] for i in winning]), strict=True))
    found = [
        TransferredFunction(
            function=function.name,
            baseline=i not in corrected,
            source=selected.get(function.id),
            median=_median(scores[i]),
            test_median=_median(tests[i]),
            mean=seed_mean(scores[i]),
            against_reference=corrected.get(i, compared[i]),
        )
        for i, function in enumerate(functions)
    ]
    tasks = store.task(source.task_id), store.task(run.task_id)
    return Transfer(
        name=run.name,
        source=source.name,
        source_task=tasks[0].name,
        task=tasks[1].name,
        seeds=tuple(seeds),
        source_metric=tasks[0].metric,
        metric=tasks[1].metric,
        functions=tuple(sorted(found, key=_place)),
    )


def _median(scores: np.ndarray) -> float | None:
    """
    >>> _median(np.array([0.9, np.nan, 0.7])), _median(np.array([0.9, np.nan, np.nan]))
    (0.7, None)
    """
    median = float(np.median(np.where(np.isnan(scores), -np.inf, scores)))
    return median if np.isfinite(median) else None


def _place(function: TransferredFunction) -> tuple[float, bool]:
    return np.inf if function.median is None else -function.median, function.baseline
