"""Confirming winners: the best functions of a run, and the baselines, trained anew with seeds of their own.

A confirmation is a run of kind "confirm", so it has a lease, resumes, and its trainings are evaluations of the task
like any other. Its seeds follow the one that the functions were selected on, which is not among them. Which functions
it has is settled when it begins: a search that goes on and finds better ones has another confirmation then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aquasurf_ray.activations import BASELINES
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
from aquasurf_ray.driver.callbacks.progress import Reporter
from aquasurf_ray.driver.candidates import baseline_rows
from aquasurf_ray.driver.config import digest, make_config, store_url
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.run.session import Order, RunResult
from aquasurf_ray.driver.user_modules import import_modules
from aquasurf_ray.driver.verbs.setup import (
    carry_out,
    check_seeds,
    check_storage_of,
    create_run,
    loaded_task,
    stored_config,
    unique_rows,
)
from aquasurf_ray.store import LeaderboardRow, Run, Store, TaskMetric
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.actor import Worker

REFERENCE = "relu(x)"
TOP = 5
SEEDS = 5


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
    """What a confirmation found of the functions of the run `of`, winners first, each in the order of its mean.

    `seed_effect` is what the baselines have lost, in the median: nobody selected them, so it is what the seed that the
    functions were selected on does to all of them alike, and no part of what winners are expected to lose.
    """

    name: str
    of: str
    seeds: tuple[int, ...]
    metric: TaskMetric
    functions: tuple[ConfirmedFunction, ...]

    @property
    def seed_effect(self) -> float | None:
        """None where no baseline has both scores."""
        lost = [function.shrinkage.observed for function in self.functions if function.baseline]
        known = [loss for loss in lost if loss is not None]
        return float(np.median(known)) if known else None


def confirm(
    name: str,
    *,
    top: int = TOP,
    seeds: int = SEEDS,
    store: str | None = None,
    task: Task | None = None,
    reporter: Reporter | None = None,
    worker: type = Worker,
    **changes: Any,
) -> RunResult:
    """Trains the `top` best functions of a run and the baselines with `seeds` seeds that they were not selected on.

    Args:
        task: needed only where the run was started from Python with a `Task` that has no import path.
        **changes: `workers`, and the other conditions of `SearchConfig`; those of the run by default.

    Raises:
        BadUse: nothing to confirm, or the task is not what it was.
        RunFailed: some could not be trained; `resume` tries them again.
        StoreError: no such run.
    """
    with Store.open(store_url(store), create=False) as opened:
        conditions = changes | {"store": store}
        return confirm_in(opened, name, conditions, top=top, seeds=seeds, task=task, reporter=reporter, worker=worker)


def confirm_in(
    store: Store,
    name: str,
    conditions: dict[str, Any],
    *,
    top: int,
    seeds: int,
    task: Task | None,
    reporter: Reporter | None,
    worker: type,
) -> RunResult:
    """`confirm` in an open store, under `conditions` in the place of the run's own."""
    if top < 1:
        raise BadUse(f"top: at least one function is needed, got {top}")
    check_seeds(seeds)
    run = store.run(name)
    best = winners(store, run, top)
    if len(best) < top and reporter is not None:
        reporter.note(
            f"run '{name}' has no {top} functions with a score beside the baselines; confirmed are {len(best)}"
        )
    before = stored_config(run)
    import_modules(before.modules)
    rows = unique_rows([*(row.function for row in best), *BASELINES])
    fixed = {"name": None, "health_gate": "off", "early_stop": "off", "confirm": None, "seeds": seeds, "until": None}
    own = {**before.model_dump(), "time_budget": None, **conditions, **fixed}
    config = make_config({**own, "evaluations": len(rows) * seeds})
    loaded = loaded_task(task or config.task, config)
    if loaded.digest != run.config["task_digest"]:
        raise BadUse(f"task '{loaded.name}' is not what it was when run '{name}' began, so its winners are of another")
    identity = {
        **config.identity(),
        "task_digest": loaded.digest,
        "confirms": name,
        "functions": sorted(row.name for row in rows),
        "seeds": seeds,
        "first_seed": config.training_seed + 1,
    }
    own_name = f"{name}-confirm-{digest(identity)[:8]}"
    check_storage_of(config)

    def order(store: Store) -> Order:
        made = create_run(store, config, loaded, "confirm", own_name, identity, rows)
        return Order(made, config, loaded, task is None, config.evaluations, worker)

    return carry_out(store, own_name, config, order, reporter)


def winners(store: Store, run: Run, n: int) -> list[LeaderboardRow]:
    """The best `n` functions of a run that are no baselines, by their score with the run's training seed.

    Raises:
        BadUse: there is none that came to a score.
    """
    if "task_digest" not in run.config:
        raise BadUse(f"run '{run.name}' was not trained here, so its winners cannot be confirmed")
    if run.kind == "confirm":
        raise BadUse(f"run '{run.name}' is a confirmation itself; confirm the run '{run.config['confirms']}'")
    seed, baselines = stored_config(run).training_seed, baseline_ids(store).values()
    rows = store.leaderboard(run_id=run.id)
    found = [row for row in rows if row.seed == seed and not row.stopped_early and row.function_id not in baselines]
    if not found:
        raise BadUse(f"run '{run.name}' has no winners: no function beside the baselines has come to a score")
    return found[:n]


def read_confirmation(name: str, store: str | None = None) -> Confirmation:
    """What is stored of the confirmation of this name.

    Raises:
        StoreError: no such run.
    """
    with Store.open(store_url(store), create=False) as opened:
        return _confirmation(opened, opened.run(name))


def _confirmation(store: Store, run: Run) -> Confirmation:
    of, functions = store.run(run.config["confirms"]), store.candidates(run.id)
    first = int(run.config["first_seed"])
    seeds = range(first, first + int(run.config["seeds"]))
    scores, tests = scores_by_seed(store, run, [function.id for function in functions], seeds)
    selected = _scores_of_seed(store, of, first - 1)
    noise = noise_variance(scores)
    model = None if noise is None else shrinkage_model(np.array(list(selected.values()), dtype=np.float64), noise)
    baselines = baseline_ids(store)
    winning = [i for i, function in enumerate(functions) if function.id not in baselines.values()]
    reference = next(i for i, function in enumerate(functions) if function.id == baselines[REFERENCE])
    compared = [paired_difference(row, scores[reference]) for row in scores]
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
    """Validation and test scores [functions, seeds], NaN where a training diverged or is not done."""
    scores, tests = np.full((2, len(function_ids), len(seeds)), np.nan)
    for request in store.snapshot(run.id).evaluations:
        done = request.evaluation
        if done.status == "done":
            at = function_ids.index(done.function_id), seeds.index(done.seed)
            scores[at] = done.score
            tests[at] = np.nan if done.test_score is None else done.test_score
    return scores, tests


def _scores_of_seed(store: Store, run: Run, seed: int) -> dict[int, float | None]:
    """What the run's whole trainings with this seed scored, by function; None for those that diverged."""
    evaluations = (request.evaluation for request in store.snapshot(run.id).evaluations)
    return {done.function_id: done.score for done in evaluations if done.complete and done.seed == seed}


def baseline_ids(store: Store) -> dict[str, int]:
    """The baselines that the store has, by the names that they have here: it may know them by others."""
    found = {row.name: store.find_function(row.fingerprint) for row in baseline_rows()}
    return {name: function.id for name, function in found.items() if function is not None}


def _place(function: ConfirmedFunction) -> tuple[bool, float]:
    mean = function.confirmed.mean
    return function.baseline, np.inf if mean is None else -mean
