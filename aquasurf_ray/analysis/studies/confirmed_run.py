"""Confirmations, read from the store: the scores of a run's best functions, retrained with new seeds.

Where each function has a recipe of its own, it was chosen on other seeds (`recipe_choice`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

from aquasurf_ray import activations
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
from aquasurf_ray.analysis.studies.recipe_choice import Tuning
from aquasurf_ray.analysis.studies.reference import reference_name
from aquasurf_ray.analysis.studies.run_origin import DRAWS, STUDY
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.recipe_change import UNCHANGED
from aquasurf_ray.seed_means import leader_seeds_of, mean_of
from aquasurf_ray.store import FunctionRecord, RequestedEvaluation, Run, Store, TaskMetric

UNKNOWN = PairedDifference(None, None)
NOT_TUNED = Tuning((UNCHANGED,), range(0))


@dataclass(frozen=True)
class ConfirmedFunction:
    """One function of a confirmation. Scores are higher where better; `selected` is the one that the function was
    selected by, that of the best recipe which the run tried with it.

    `confirmed` and `test` are of the judging seeds: the score on the validation split, and on the test split.
    `recipe_change` is the change of the recipe that it was judged with, chosen among those in `tried`, which has the
    means over the choosing seeds; `rate` is its factor on the learning rate, or the value of another field. The gains
    are on the split that judges. A baseline, which was not selected, is not expected to lose anything by it. One that
    the choosing seeds left out has no trainings with judging seeds.
    """

    function: str
    baseline: bool
    selected: float | None
    confirmed: SeedMean
    test: SeedMean
    against_reference: PairedDifference
    shrinkage: Shrinkage
    against_best_baseline: PairedDifference = UNKNOWN
    against_relu: PairedDifference = UNKNOWN
    recipe_change: str = UNCHANGED
    rate: float | None = None
    tried: Mapping[str, SeedMean] = field(default_factory=dict)

    @property
    def is_judged(self) -> bool:
        """True unless it is a baseline that did too poorly with the choosing seeds."""
        return self.confirmed.n > 0


@dataclass(frozen=True)
class Confirmation:
    """The results of a confirmation of the functions of run `of`, winners first, in the order of their means.

    `metric` is that of the task on which they were retrained, and `selected_by` that of the run, which may be another
    one if a loop of the user's own told its scores: scores at selection, and losses, are then unknown. `judge` is the
    split that the functions are compared and ordered on, `reference` the function that gains are over, and
    `best_baseline` the baseline with the best mean. Gains are unknown where the reference is not among the functions.
    `tuning` has the changes of the recipe that each function was tried with, and the choosing seeds; `seeds` are the
    judging ones. `seed_effect` is the median loss of the baselines. They were not selected, so this loss is the common
    effect of the seed that the functions were selected on, and no part of the expected loss of winners. If the scores
    of `of` were told by a loop of the user's own (`is_told`), no loss is known: its trainings may differ from the
    task's in more than the seed.
    """

    name: str
    of: str
    seeds: tuple[int, ...]
    metric: TaskMetric
    functions: tuple[ConfirmedFunction, ...]
    judge: Literal["test", "validation"] = "test"
    reference: str = REFERENCE
    best_baseline: str | None = None
    tuning: Tuning = NOT_TUNED
    is_told: bool = False
    selected_by: TaskMetric | None = None

    @property
    def has_other_metric(self) -> bool:
        """True if the run selected by another metric than that of the confirmed means."""
        return self.selected_by is not None and not self.selected_by.compares_with(self.metric)

    @property
    def of_other_metric(self) -> str:
        """The words that name the metric of the means, where that is not the run's: ` of rmse`; else empty."""
        return f" of {self.metric.name}" if self.has_other_metric else ""

    @property
    def over(self) -> ConfirmedFunction | None:
        """The function that gains are over; None if it is not among the functions."""
        return next((each for each in self.functions if each.function == self.reference), None)

    @property
    def seed_effect(self) -> float | None:
        """The median loss of the baselines; None if no baseline has both scores."""
        lost = [function.shrinkage.observed for function in self.functions if function.baseline]
        known = [loss for loss in lost if loss is not None]
        return median(known) if known else None

    @property
    def is_tuned(self) -> bool:
        """True if each function was judged with a recipe chosen for it."""
        return len(self.tuning.changes) > 1

    def judged(self, function: ConfirmedFunction) -> SeedMean:
        """Return the mean of the judging seeds on the split that judges."""
        return function.test if self.judge == "test" else function.confirmed


def read_confirmation(store: Store, name: str) -> Confirmation:
    """Return what the store has of the confirmation with this name.

    Raises:
        StoreError: there is no such run.
    """
    run = store.run(name)
    of, functions, requests = store.run(run.config["confirms"]), store.candidates(run.id), _requests(store, run)
    ids, tuning = [function.id for function in functions], Tuning.of(run)
    first = int(run.config["first_seed"])
    seeds = range(first, first + int(run.config["seeds"]))
    chosen = tuning.chosen(requests, ids)
    scores, tests = scores_of(requests, ids, seeds, chosen)
    judged_functions = set(judged_ids(store, run, requests))
    n_seeds = {number: len(seeds) if number in judged_functions else 0 for number in ids}
    metric, selected_by = (store.task(each.task_id).metric for each in (run, of))
    selected, n_selecting = _selected(store, of) if metric.compares_with(selected_by) else ({}, {})
    noise = noise_variance(scores)
    population = [math.nan if score is None else score for score in selected.values()]
    model = None if noise is None else shrinkage_model(population, noise)
    baselines = baseline_ids(store, run)
    winning = [i for i, number in enumerate(ids) if number not in baselines.values()]
    judge = _judge(run, scores, tests)
    judged = tests if judge == "test" else scores
    reference, relu = (_place(ids, baselines.get(name)) for name in (reference_name(run), REFERENCE))
    best = _best(judged, [i for i in range(len(ids)) if i not in winning])
    over_reference, over_best, over_relu = (_compared(judged, place, winning) for place in (reference, best, relu))
    tried, is_told = tuning.tried(requests, ids), STUDY in of.config or DRAWS in of.config
    confirmed = [
        ConfirmedFunction(
            function=function.name,
            baseline=i not in winning,
            selected=selected.get(function.id),
            confirmed=(mean := seed_mean(scores[i][: n_seeds[function.id]])),
            test=seed_mean(tests[i][: n_seeds[function.id]]),
            against_reference=over_reference[i],
            against_best_baseline=over_best[i],
            against_relu=over_relu[i],
            shrinkage=shrinkage(
                None if is_told else selected.get(function.id),
                mean,
                model if i in winning else None,
                n_selecting.get(function.id, 1),
            ),
            recipe_change=chosen[function.id],
            rate=tuning.value(chosen[function.id]),
            tried=tried[function.id] if tuning.seeds else {},
        )
        for i, function in enumerate(functions)
    ]
    found = Confirmation(
        name=run.name,
        of=of.name,
        seeds=tuple(seeds),
        metric=metric,
        functions=tuple(confirmed),
        judge=judge,
        reference=reference_name(run) if reference is None else functions[reference].name,
        best_baseline=None if best is None else functions[best].name,
        tuning=tuning,
        is_told=is_told,
        selected_by=selected_by,
    )
    in_order = sorted(confirmed, key=lambda each: (each.baseline, -found.judged(each).merit))
    return replace(found, functions=tuple(in_order))


def judged_ids(store: Store, run: Run, requests: Iterable[RequestedEvaluation]) -> list[int]:
    """Return the functions of a confirmation that are trained with the judging seeds: the winners, the reference, ReLU,
    and the baselines that are worth it, or all."""
    ids, tuning = [function.id for function in store.candidates(run.id)], Tuning.of(run)
    if tuning.n_baselines is None:
        return ids
    baselines = baseline_ids(store, run)
    always = {baselines[name] for name in (reference_name(run), REFERENCE) if name in baselines}
    return tuning.judged(requests, ids, baselines=set(baselines.values()), always=always)


def _place(ids: list[int], number: int | None) -> int | None:
    return ids.index(number) if number in ids else None


def _judge(run: Run, scores: Sequence[Scores], tests: Sequence[Scores]) -> Literal["test", "validation"]:
    """Return the split that judges: that of the run, or validation for a task whose trainings have no test score."""
    wanted: Literal["test", "validation"] = run.config.get("judge", "test")
    pairs = (pair for rows in zip(scores, tests, strict=True) for pair in zip(*rows, strict=True))
    tested = any(not math.isnan(score) and not math.isnan(test) for score, test in pairs)
    return wanted if tested else "validation"


def _best(judged: Sequence[Scores], baselines: list[int]) -> int | None:
    """Return the baseline with the best mean, among those that diverged with no seed."""
    means = {i: seed_mean(judged[i]).mean for i in baselines}
    known = {i: mean for i, mean in means.items() if mean is not None}
    return max(known, key=known.__getitem__, default=None)


def _compared(judged: Sequence[Scores], place: int | None, winning: list[int]) -> list[PairedDifference]:
    """Return the differences of all functions to one of them.

    Baselines are shown, but they are not candidates for a discovery: Holm's correction counts winners only.
    """
    if place is None:
        return [UNKNOWN] * len(judged)
    compared = [paired_difference(row, judged[place]) for row in judged]
    corrected = dict(zip(winning, with_holm([compared[i] for i in winning]), strict=True))
    return [corrected.get(i, difference) for i, difference in enumerate(compared)]


def scores_by_seed(store: Store, run: Run, function_ids: list[int], seeds: range) -> tuple[list[Scores], list[Scores]]:
    """Return validation and test scores [functions, seeds], NaN where a training diverged or is not done."""
    return scores_of(_requests(store, run), function_ids, seeds, {})


def scores_of(
    requests: Iterable[RequestedEvaluation], function_ids: list[int], seeds: range, changes: Mapping[int, str]
) -> tuple[list[Scores], list[Scores]]:
    """Return the same of some requests, with the given changes of the recipe by function, else without any."""
    done = {
        (each.evaluation.function_id, each.evaluation.seed): each.evaluation
        for each in requests
        if each.evaluation.status == "done"
        and each.evaluation.recipe_change == changes.get(each.evaluation.function_id, UNCHANGED)
    }

    def table(split: str) -> list[Scores]:
        found = {place: getattr(evaluation, split) for place, evaluation in done.items()}
        return [
            [math.nan if (score := found.get((number, seed))) is None else score for seed in seeds]
            for number in function_ids
        ]

    return table("score"), table("test_score")


def _selected(store: Store, run: Run) -> tuple[dict[int, float | None], dict[int, int]]:
    """Return the scores by which a run selects, by function, None for diverged ones; and how many seeds each is the
    mean of.

    A search that tries several recipes ranks a function by the best of them, so that is its score here too.
    """
    first = int(run.config.get("training_seed", 0))
    seeds = range(first, first + leader_seeds_of(run.kind, run.config))
    scores: dict[int, dict[str, list[float | None]]] = {}
    for done in (request.evaluation for request in _requests(store, run)):
        if done.complete and done.seed in seeds:
            scores.setdefault(done.function_id, {}).setdefault(done.recipe_change, []).append(done.score)
    selected: dict[int, float | None] = dict.fromkeys(scores)
    n_seeds: dict[int, int] = {}
    for number, by_change in scores.items():
        means = [(mean, len(each)) for each in by_change.values() if (mean := mean_of(each)) is not None]
        if means:
            selected[number], n_seeds[number] = max(means)
    return selected, n_seeds


def baseline_ids(store: Store, run: Run) -> dict[str, int]:
    """The baselines of a run that the store has, by the names that they have here: it may know them by others."""
    names = baseline_names(run.config.get("baselines", "paper"))
    found = {name: store.find_function(name, run.id) or _same_function(store, name) for name in names}
    # By name, because the operators of the task's own baselines may be unknown to this process.
    found |= {name: store.find_function(name, run.id) for name in run.config.get("task_baselines", ())}
    return {name: function.id for name, function in found.items() if function is not None}


def _same_function(store: Store, name: str) -> FunctionRecord | None:
    """Return the function that the store knows by another name; PyTorch is loaded only to tell."""
    return store.find_function(activations.fingerprint(name))


def _requests(store: Store, run: Run) -> tuple[RequestedEvaluation, ...]:
    return store.snapshot(run.id).evaluations
