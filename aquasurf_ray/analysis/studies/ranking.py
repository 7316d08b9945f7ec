"""The leaderboard of a run as people see it: a row for each function; after a confirmation, in the order of what they
keep with seeds that they were not selected on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from aquasurf_ray.analysis.studies.confirmation import SeedMean, other_seeds
from aquasurf_ray.analysis.studies.confirmed_run import Confirmation, baseline_ids
from aquasurf_ray.analysis.studies.run_origin import TRANSFERRED
from aquasurf_ray.store import LeaderboardRow, Run, Store
from aquasurf_ray.store.records.seed_rows import means_of_seeds
from aquasurf_ray.store.verbs.reading.leaderboard import front


def read_board(store: Store, run: Run, confirmation: Confirmation | None) -> list[LeaderboardRow]:
    """Return the leaderboard of a run, best score first.

    The baselines of a transfer are marked, which its run was given like any other function. A run that is the
    confirmation itself has a row for each function: the mean over the seeds that judge, with the recipe chosen for it.
    """
    rows = store.leaderboard(run_id=run.id)
    if confirmation is not None and confirmation.name == run.name:
        return _rows_of_confirmation(rows, confirmation)
    if TRANSFERRED in run.config:
        baselines = transferred_baselines(store, store.run(run.config[TRANSFERRED]), run)
        return [replace(row, baseline=row.function_id in baselines.values()) for row in rows]
    return rows


def transferred_baselines(store: Store, source: Run, run: Run) -> dict[str, int]:
    """Return the functions of a transfer that are baselines, by name: of the run that the others come from, or of the
    other task, whose own ones, its reference among them, are not transferred functions."""
    return baseline_ids(store, source) | baseline_ids(store, run)


def _rows_of_confirmation(rows: Sequence[LeaderboardRow], found: Confirmation) -> list[LeaderboardRow]:
    """Return a row for each function; one that is not judged, or that diverged with a judging seed, has the mean over
    the seeds that chose its recipe."""
    kept: list[LeaderboardRow] = []
    for each in found.functions:
        own = [row for row in rows if row.function == each.function and row.recipe_change == each.recipe_change]
        seeds = found.tuning.seeds if each.confirmed.mean is None and found.tuning.seeds else found.seeds
        kept += [replace(row, baseline=each.baseline) for row in own if row.seed in seeds]
    return means_of_seeds(kept, ())


def ranked(rows: Sequence[LeaderboardRow], confirmation: Confirmation | None) -> list[LeaderboardRow]:
    """Return the best row of each function of a leaderboard, which is in the order of scores, ranked by the means of a
    confirmation.

    First come all confirmed functions and baselines, by their means. The others follow in the order of their scores: a
    single score on the validation split does not compare with a mean on the test split. Functions without a whole
    training are last.
    """
    means = confirmed_means(confirmation)
    whole = one_each(rows)
    known = {row.function_id for row in whole}
    stopped = {row.function_id: row for row in reversed(rows) if row.function_id not in known}

    def place(row: LeaderboardRow) -> tuple[bool, float]:
        mean = means.get(row.function)
        return mean is None, -(row.score if mean is None else mean)

    in_order = [*sorted(whole, key=place), *sorted(stopped.values(), key=lambda row: -row.score)]
    return [replace(row, rank=rank) for rank, row in enumerate(in_order, start=1)]


def one_each(rows: Iterable[LeaderboardRow]) -> list[LeaderboardRow]:
    """Return the best row of each function, of rows that are in the order of their ranks.

    A score of a training that was stopped early does not compare with one of a whole training, so its row is left out.
    """
    best: dict[int, LeaderboardRow] = {}
    for row in rows:
        if row.stopped_early is None:
            best.setdefault(row.function_id, row)
    return list(best.values())


def confirmed_mean(
    row: LeaderboardRow, confirmation: Confirmation | None, seed_scores: Mapping[int, Mapping[int, float | None]]
) -> SeedMean:
    """Return the mean of a function in the confirmation, on the split that judges; without a confirmation, that over
    all seeds but those that selected the row, from `seed_scores` by function and seed. These are of the recipe as it
    is, so a row of another one has no such mean."""
    if confirmation is None:
        return other_seeds({} if row.recipe_change else seed_scores.get(row.function_id, {}), row.seeds)
    found = (each for each in confirmation.functions if each.function == row.function)
    return next((confirmation.judged(each) for each in found), other_seeds({}, row.seeds))


def confirmed_means(confirmation: Confirmation | None) -> dict[str, float]:
    """Return the means on the split that judges, by function; those of functions that diverged are left out."""
    if confirmation is None:
        return {}
    means = {each.function: confirmation.judged(each).mean for each in confirmation.functions}
    return {name: mean for name, mean in means.items() if mean is not None}


def confirmed_front(rows: Sequence[LeaderboardRow], confirmation: Confirmation | None) -> list[LeaderboardRow]:
    """Return the Pareto front of score against step time; after a confirmation, of the confirmed functions' means."""
    means = confirmed_means(confirmation)
    in_order = ranked(rows, confirmation)
    if not means:
        return front(in_order)
    by_id = {row.evaluation_id: row for row in in_order}
    judged = [replace(row, score=means[row.function]) for row in in_order if row.function in means]
    return [by_id[row.evaluation_id] for row in front(judged)]
