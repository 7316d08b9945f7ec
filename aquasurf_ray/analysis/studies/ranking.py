"""The order of a run's functions after a confirmation: by what they keep with seeds that they were not selected on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from aquasurf_ray.analysis.studies.confirmation import SeedMean, other_seeds
from aquasurf_ray.analysis.studies.confirmed_run import Confirmation
from aquasurf_ray.store import LeaderboardRow
from aquasurf_ray.store.verbs.reading.leaderboard import front


def ranked(rows: Sequence[LeaderboardRow], confirmation: Confirmation | None) -> list[LeaderboardRow]:
    """Return the rows of a leaderboard, which is in the order of scores, ranked by the means of a confirmation.

    First come all confirmed functions and baselines, by their means. The others follow in the order of their scores: a
    single score on the validation split does not compare with a mean on the test split.
    """
    means = confirmed_means(confirmation)
    if not means:
        return list(rows)

    def place(row: LeaderboardRow) -> tuple[bool, float]:
        mean = means.get(row.function)
        return mean is None, -(row.score if mean is None else mean)

    return [replace(row, rank=rank) for rank, row in enumerate(sorted(rows, key=place), start=1)]


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
    if not means:
        return front(rows)
    order = {row.evaluation_id: row for row in ranked(rows, confirmation)}
    judged = [replace(row, score=means[row.function]) for row in order.values() if row.function in means]
    return [order[row.evaluation_id] for row in front(judged)]
