"""A leaderboard with one row for each function, where a search has trained its leaders with several seeds."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from aquasurf_ray.seed_means import mean_of, seed_deviation
from aquasurf_ray.store.records.answers import LeaderboardRow
from aquasurf_ray.training_metrics import METRIC_NAMES

_AVERAGED = (*(name for name in METRIC_NAMES if name != "stopped_early"), "seconds")


def means_of_seeds(rows: Sequence[LeaderboardRow], diverged: Collection[tuple[int, str]]) -> list[LeaderboardRow]:
    """Return one row for each function and change of the recipe, best mean first.

    Args:
        rows: the finished evaluations; of equal means, the one whose row comes first is better.
        diverged: functions, each with a change of the recipe, that diverged with some seed. They have no mean.
    """
    groups: dict[tuple[int, str], list[LeaderboardRow]] = {}
    for row in rows:
        groups.setdefault((row.function_id, row.recipe_change), []).append(row)
    deviation = seed_deviation([row.score for row in group] for group in groups.values())
    found = [_mean_row(group, deviation) for pair, group in groups.items() if pair not in diverged]
    found.sort(key=lambda row: -row.score)  # stable, so that equal means keep the order of the rows
    return [replace(row, rank=rank) for rank, row in enumerate(found, start=1)]


def _mean_row(group: Sequence[LeaderboardRow], deviation: float | None) -> LeaderboardRow:
    first = min(group, key=lambda row: row.seed)
    means: dict[str, Any] = {name: mean_of([getattr(row, name) for row in group]) for name in _AVERAGED}
    return replace(
        first,
        **means,
        seeds=tuple(sorted(row.seed for row in group)),
        noise=None if deviation is None else deviation / math.sqrt(len(group)),
        # A mean that a training below the median is part of is not a score of whole trainings.
        stopped_early=next((row.stopped_early for row in group if row.stopped_early), None),
        baseline=any(row.baseline for row in group),
        reused=all(row.reused for row in group),
    )
