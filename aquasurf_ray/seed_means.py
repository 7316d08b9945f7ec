"""The mean of a function's trainings with several seeds, by which a run that has them calls its best.

A function that diverged with one of its seeds counts as diverged, as everywhere. The noise of a mean comes from all
functions with several seeds together, because two seeds of one function say little about it. Like the names of
baselines, this needs no other part of the package.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def leader_seeds_of(kind: str, config: Mapping[str, Any]) -> int:
    """Return with how many seeds a run trains a function before it calls it best, given the run's kind and stored
    configuration: those of a search that has the setting, and of `evaluate` and `transfer`; else 1.

    >>> leader_seeds_of("search", {"leader_seeds": 2}), leader_seeds_of("evaluate", {"seeds": 3})
    (2, 3)
    """
    setting = {"search": "leader_seeds", "evaluate": "seeds"}.get(kind)
    return 1 if setting is None else int(config.get(setting, 1))


def is_selecting(kind: str, config: Mapping[str, Any], seed: int) -> bool:
    """Return whether the trainings of a run with this seed select something: the functions of a search, or the recipes
    of a confirmation. Their scores are biased upwards, and confirm nothing.

    >>> [is_selecting("search", {"training_seed": 1}, seed) for seed in (0, 1, 2)]
    [False, True, False]
    >>> [is_selecting("confirm", {"first_seed": 1, "seeds": 2}, seed) for seed in (1, 2, 3)]
    [False, False, True]
    """
    if kind == "search":
        first = int(config.get("training_seed", 0))
        return seed in range(first, first + leader_seeds_of(kind, config))
    return kind == "confirm" and not 0 <= seed - int(config["first_seed"]) < int(config["seeds"])


def mean_of(scores: Sequence[float | None]) -> float | None:
    """Return the mean of scores; None if there are none, or if one is None, a training that diverged.

    >>> mean_of([0.5, 0.75]), mean_of([0.5, None]), mean_of([])
    (0.625, None, None)
    """
    known = [score for score in scores if score is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(scores) else None


def score_of_seeds(scores: Sequence[float | None], leader_seeds: int) -> float | None:
    """Return the score of a function from its trainings: their mean in a run of several leader seeds, else the best.

    >>> score_of_seeds([0.5, 0.75], 2), score_of_seeds([0.5, None], 2), score_of_seeds([0.5, None], 1)
    (0.625, None, 0.5)
    """
    if leader_seeds > 1:
        return mean_of(scores)
    return max((score for score in scores if score is not None), default=None)


def seed_deviation(groups: Iterable[Sequence[float | None]]) -> float | None:
    """Return the standard deviation of scores between seeds, pooled over functions; each group has the scores of one.

    Groups in which a training diverged do not count. None without a group of two.

    >>> seed_deviation([[1.0, 3.0], [5.0], [2.0, 2.0], [0.0, None]])
    1.0
    """
    squares, freedom = 0.0, 0
    for scores in groups:
        mean = mean_of(scores)
        if mean is not None and len(scores) > 1:
            squares += math.fsum((score - mean) ** 2 for score in scores if score is not None)
            freedom += len(scores) - 1
    return math.sqrt(squares / freedom) if freedom else None
