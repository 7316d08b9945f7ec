"""Transfers, read from the store: the scores of a run's best functions on another task, with several seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Literal

from aquasurf_ray.analysis.studies.confirmation import (
    PairedDifference,
    Scores,
    SeedMean,
    paired_difference,
    seed_mean,
    with_holm,
)
from aquasurf_ray.analysis.studies.confirmed_run import UNKNOWN, scores_by_seed
from aquasurf_ray.analysis.studies.headline import confirmation_of
from aquasurf_ray.analysis.studies.ranking import confirmed_means, one_each, ranked, transferred_baselines
from aquasurf_ray.analysis.studies.reference import reference_name
from aquasurf_ray.store import Run, Store, TaskMetric


@dataclass(frozen=True)
class TransferredFunction:
    """One function on the other task. Scores are higher where better.

    `source` is its score in the run that it comes from: the mean of that run's confirmation if it `is_confirmed`, or
    else the score that selected it. `median` is that of the seeds, in which a training that diverged is the worst; None
    where it is the median one. `gain` and its test are against the reference with the same seeds. All but `test_median`
    and a confirmed `source` are on the validation split.
    """

    function: str
    baseline: bool
    source: float | None
    is_confirmed: bool
    median: float | None
    test_median: float | None
    mean: SeedMean
    against_reference: PairedDifference


@dataclass(frozen=True)
class Transfer:
    """The functions of run `source` on another task, best mean first, as gains are of means; those that diverged with a
    seed have none and come last, best median first. `name` is the run that trained them.

    `reference` is the function that gains are over, which are unknown where it is not among the functions;
    `source_judge` is the split of the confirmed means of `source`, None if that run is not confirmed, and
    `confirmed_metric` their metric.
    """

    name: str
    source: str
    source_task: str
    task: str
    seeds: tuple[int, ...]
    source_metric: TaskMetric
    metric: TaskMetric
    reference: str
    source_judge: Literal["test", "validation"] | None
    functions: tuple[TransferredFunction, ...]
    confirmed_metric: TaskMetric | None = None

    def source_value(self, function: TransferredFunction) -> float | None:
        """Return the value of a function's source score: in the metric of the confirmation, if that is where it is
        from."""
        metric = self.confirmed_metric if function.is_confirmed else self.source_metric
        return (metric or self.source_metric).value(function.source)


def read_transfer(store: Store, source: str, name: str) -> Transfer:
    """Return what the store has of a transfer.

    Args:
        source: the run that the functions come from.
        name: the run that trained them on the other task.

    Raises:
        StoreError: there is no such run.
    """
    return _transfer(store, store.run(source), store.run(name))


def _transfer(store: Store, source: Run, run: Run) -> Transfer:
    functions, baselines = store.candidates(run.id), transferred_baselines(store, source, run)
    seeds = range(int(run.config["seeds"]))
    scores, tests = scores_by_seed(store, run, [function.id for function in functions], seeds)
    confirmation = confirmation_of(store, source)
    means = confirmed_means(confirmation)
    selected = {row.function_id: row for row in one_each(ranked(store.leaderboard(run_id=source.id), confirmation))}
    confirmed = {number: means[row.function] for number, row in selected.items() if row.function in means}
    scores_there = {number: row.score for number, row in selected.items()} | confirmed
    reference = next((i for i, each in enumerate(functions) if each.id == baselines.get(reference_name(run))), None)
    compared = [UNKNOWN if reference is None else paired_difference(row, scores[reference]) for row in scores]
    winning = [i for i, function in enumerate(functions) if function.id not in baselines.values()]
    # Holm's correction counts the tests of selected functions only; the baselines are shown for comparison.
    corrected = dict(zip(winning, with_holm([compared[i] for i in winning]), strict=True))
    found = [
        TransferredFunction(
            function=function.name,
            baseline=i not in corrected,
            source=scores_there.get(function.id),
            is_confirmed=function.id in confirmed,
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
        reference=reference_name(run) if reference is None else functions[reference].name,
        source_judge=confirmation.judge if confirmation is not None else None,
        functions=tuple(sorted(found, key=_place)),
        confirmed_metric=confirmation.metric if confirmation is not None else None,
    )


def _median(scores: Scores) -> float | None:
    """Return the median over seeds, with NaN as the worst score; None if the median training diverged.

    >>> _median([0.9, math.nan, 0.7]), _median([0.9, math.nan, math.nan])
    (0.7, None)
    """
    found = median(-math.inf if math.isnan(score) else score for score in scores)
    return found if math.isfinite(found) else None


def _place(function: TransferredFunction) -> tuple[float, float, bool]:
    return -function.mean.merit, math.inf if function.median is None else -function.median, function.baseline
