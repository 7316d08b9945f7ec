"""Evaluations as the store has them: given functions side by side, each with the same seeds, best mean first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aquasurf_ray.activations.zoo import name_of
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.studies.confirmation import (
    PairedDifference,
    Scores,
    SeedMean,
    paired_difference,
    seed_mean,
    with_holm,
)
from aquasurf_ray.analysis.studies.confirmed_run import baseline_ids, scores_by_seed
from aquasurf_ray.analysis.studies.reference import reference_name
from aquasurf_ray.store import Run, Store, TaskMetric


@dataclass(frozen=True)
class EvaluatedFunction:
    """One function. Scores are higher where better.

    `name` is its name in the zoo. `rank` is that of its mean, the same for equal means; None if a training diverged.
    The gain and its test are against the reference with the same seeds, and unknown without it and for it itself.
    """

    function: str
    name: str | None
    rank: int | None
    mean: SeedMean
    test: SeedMean
    against_reference: PairedDifference


@dataclass(frozen=True)
class Evaluation:
    """The functions of a run, best mean first, those that diverged last.

    Gains are over `reference`, the task's; they are unknown unless the run trained it (`is_compared`).
    """

    name: str
    task: str
    seeds: tuple[int, ...]
    metric: TaskMetric
    reference: str
    is_compared: bool
    functions: tuple[EvaluatedFunction, ...]


def read_evaluation(store: Store, name: str) -> Evaluation:
    """Return what the store has of a run of `evaluate`.

    Raises:
        StoreError: there is no such run.
        AnalysisError: the run is of another kind.
    """
    run = store.run(name)
    if run.kind != "evaluate":
        raise AnalysisError(f"run '{name}' is of kind {run.kind}; only runs of evaluate train each function alike")
    functions, seeds = store.candidates(run.id), range(int(run.config["seeds"]))
    scores, tests = scores_by_seed(store, run, [function.id for function in functions], seeds)
    means = [seed_mean(row) for row in scores]
    reference = _reference(store, run)
    found = [
        EvaluatedFunction(
            function=function.name,
            name=name_of(function.name),
            rank=_rank(mean, means),
            mean=mean,
            test=seed_mean(row),
            against_reference=difference,
        )
        for function, mean, row, difference in zip(
            functions, means, tests, _differences(scores, reference), strict=True
        )
    ]
    task = store.task(run.task_id)
    ranked = sorted(found, key=lambda each: (len(found) if each.rank is None else each.rank, each.function))
    over = reference_name(run) if reference is None else functions[reference].name
    return Evaluation(run.name, task.name, tuple(seeds), task.metric, over, reference is not None, tuple(ranked))


def _rank(mean: SeedMean, means: list[SeedMean]) -> int | None:
    if mean.mean is None:
        return None
    # Equal means share a rank, and a function with a diverged training has no mean to be ranked by.
    return 1 + sum(other.mean is not None and other.mean > mean.mean for other in means)


def _reference(store: Store, run: Run) -> int | None:
    """Return the place of the task's reference among the functions of a run; None if the run did not train it."""
    ids = [function.id for function in store.candidates(run.id)]
    number = baseline_ids(store, run).get(reference_name(run))
    return ids.index(number) if number in ids else None


def _differences(scores: Sequence[Scores], reference: int | None) -> list[PairedDifference]:
    """Return the differences to the reference, corrected for the number of the other functions."""
    # With a single seed, functions may be evaluated without the reference; gains are then unknown, not zero.
    if reference is None:
        return [PairedDifference(None, None)] * len(scores)
    compared = [paired_difference(row, scores[reference]) for row in scores]
    others = with_holm(compared[:reference] + compared[reference + 1 :])
    return [*others[:reference], PairedDifference(None, None), *others[reference:]]
