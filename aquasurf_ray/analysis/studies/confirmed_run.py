"""Confirmations, read from the store: the scores of a run's best functions, retrained with new seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aquasurf_ray.activations import fingerprint, parse
from aquasurf_ray.activations.zoo import baseline_names
from aquasurf_ray.analysis.studies.confirmation import (
    PairedDifference,
    Scores,
    SeedMean,
    Shrinkage,
    noise_variance,
    paired_difference,
    seed_mean,
    shrinkage,
    shrinkage_model,
    with_holm,
)
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.store import Run, Store, TaskMetric


@dataclass(frozen=True)
class ConfirmedFunction:
    """One function of a confirmation. `selected` is the score that it was selected by; scores are higher where better.

    `confirmed` and `test` are of the confirming seeds: the score on the validation split, and on the test split. A
    baseline, which was not selected, is not expected to lose anything by it.
    """

    function: str
    baseline: bool
    selected: float | None
    confirmed: SeedMean
    test: SeedMean
    against_reference: PairedDifference
    shrinkage: Shrinkage


@dataclass(frozen=True)
class Confirmation:
    """The results of a confirmation of the functions of run `of`, winners first, in the order of their means.

    `seed_effect` is the median loss of the baselines. They were not selected, so this loss is the common effect of the
    seed that the functions were selected on, and no part of the expected loss of winners.
    """

    name: str
    of: str
    seeds: tuple[int, ...]
    metric: TaskMetric
    functions: tuple[ConfirmedFunction, ...]

    @property
    def seed_effect(self) -> float | None:
        """The median loss of the baselines; None if no baseline has both scores."""
        lost = [function.shrinkage.observed for function in self.functions if function.baseline]
        known = [loss for loss in lost if loss is not None]
        return float(np.median(known)) if known else None


def read_confirmation(store: Store, name: str) -> Confirmation:
    """Return what the store has of the confirmation with this name.

    Raises:
        StoreError: there is no such run.
    """
    run = store.run(name)
    of, functions = store.run(run.config["confirms"]), store.candidates(run.id)
    first = int(run.config["first_seed"])
    seeds = range(first, first + int(run.config["seeds"]))
    scores, tests = scores_by_seed(store, run, [function.id for function in functions], seeds)
    # Confirming seeds begin after the seed that the functions were selected on.
    selected = _scores_of_seed(store, of, first - 1)
    noise = noise_variance(scores)
    model = None if noise is None else shrinkage_model(np.array(list(selected.values()), dtype=np.float64), noise)
    baselines = baseline_ids(store, run)
    winning = [i for i, function in enumerate(functions) if function.id not in baselines.values()]
    reference = next(i for i, function in enumerate(functions) if function.id == baselines[REFERENCE])
    compared = [paired_difference(row, scores[reference]) for row in scores]
    # Baselines are shown, but they are not candidates for a discovery: Holm's correction counts winners only.
    corrected = dict(zip(winning, with_holm([compared[i] for i in winning]), strict=True))
    confirmed = [
        ConfirmedFunction(
            function=function.name,
            baseline=i not in corrected,
            selected=selected.get(function.id),
            confirmed=(mean := seed_mean(scores[i])),
            test=seed_mean(tests[i]),
            against_reference=corrected.get(i, compared[i]),
            shrinkage=shrinkage(selected.get(function.id), mean, model if i in corrected else None),
        )
        for i, function in enumerate(functions)
    ]
    return Confirmation(
        name=run.name,
        of=of.name,
        seeds=tuple(seeds),
        metric=store.task(run.task_id).metric,
        functions=tuple(sorted(confirmed, key=_place)),
    )


def scores_by_seed(store: Store, run: Run, function_ids: list[int], seeds: range) -> tuple[Scores, Scores]:
    """Return validation and test scores [functions, seeds], NaN where a training diverged or is not done."""
    scores, tests = np.full((2, len(function_ids), len(seeds)), np.nan)
    for request in store.snapshot(run.id).evaluations:
        done = request.evaluation
        if done.status == "done":
            at = function_ids.index(done.function_id), seeds.index(done.seed)
            scores[at] = done.score
            tests[at] = np.nan if done.test_score is None else done.test_score
    return scores, tests


def _scores_of_seed(store: Store, run: Run, seed: int) -> dict[int, float | None]:
    """Return the scores of the run's completed trainings with this seed, by function; None for diverged ones."""
    evaluations = (request.evaluation for request in store.snapshot(run.id).evaluations)
    return {done.function_id: done.score for done in evaluations if done.complete and done.seed == seed}


def baseline_ids(store: Store, run: Run) -> dict[str, int]:
    """The baselines of a run that the store has, by the names that they have here: it may know them by others."""
    names = baseline_names(run.config.get("baselines", "paper"))
    found = {name: store.find_function(fingerprint(parse(name))) for name in names}
    return {name: function.id for name, function in found.items() if function is not None}


def _place(function: ConfirmedFunction) -> tuple[bool, float]:
    mean = function.confirmed.mean
    return function.baseline, np.inf if mean is None else -mean
