"""The pairs that a search can suggest: a function, and the change of the recipe that it is trained with.

Format: n candidates and r changes make n·r pairs, and pair i·r + j is candidate i with change j, as in
`surrogate.pairs`. The first change is none, so a search that changes nothing has one pair for each candidate, with the
candidate's number.

A function is first trained with the recipe as it is. Another change is worth a training in two cases: the function is
among the best, and its own best rate may not be the recipe's; or the training diverged, and may not at another rate.
The surrogate alone would return to neither. It learns what a rate does from results at other rates, of which there are
none at first, and a function that diverged is as bad as the worst result. So of four suggestions one is for another
rate of one of the best functions, and one for a function that diverged, which gets one further training; the surrogate
chooses among these, and has the free choice in the two others. Once all functions are trained with the recipe as it is
and nothing else is worth a training, the remaining pairs follow.

All of this depends on results and on the number of the suggestion alone, so that a resumed run repeats it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Set

import numpy as np

from aquasurf_ray.driver.state.evaluations import FINAL, OPEN, EvaluationState
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.recipe_change import UNCHANGED
from aquasurf_ray.store import FunctionRecord
from aquasurf_ray.surrogate.policy import Mask

BEST_SHARE = 0.25
"""The share of the functions with a score that are among the best."""
PERIOD = 4
"""Suggestions after which the turns repeat."""
ANY, OF_BEST, OF_DIVERGED = range(3)
TURNS = {1: OF_BEST, 3: OF_DIVERGED}
"""The suggestions of a period, from 0, that are for other rates; the others have the free choice."""


class Pairs:
    """The pairs of one run.

    Args:
        changes: the changes of the recipe, the first of which is none.
    """

    def __init__(self, history: History, changes: tuple[str, ...], max_cost: float | None) -> None:
        self._history, self._changes, self._max_cost = history, changes, max_cost
        self._place = {change: place for place, change in enumerate(changes)}

    def pair(self, index: int) -> tuple[FunctionRecord, str]:
        """Return the function and the change of a pair."""
        candidate, place = divmod(index, len(self._changes))
        return self._history.candidates[candidate], self._changes[place]

    def index(self, evaluation: EvaluationState) -> int | None:
        """Return the pair of an evaluation; None if the run has no such candidate or change."""
        position, place = self._history.position.get(evaluation.function_id), self._place.get(evaluation.recipe_change)
        return None if position is None or place is None else position * len(self._changes) + place

    def is_open(self, index: int) -> bool:
        """Return whether a pair has no evaluation yet, and its function does not cost too much."""
        function, change = self.pair(index)
        ruled_out = self._history.ruled_out(self._max_cost)
        return (function.id, change) not in self._history.evaluations.pairs and function.id not in ruled_out

    def unavailable(self) -> Set[int]:
        """Return the functions that have an evaluation or cost too much."""
        if self._max_cost is None:
            return self._history.evaluations.asked_for
        return self._history.evaluations.asked_for | self._history.ruled_out(self._max_cost)

    def open_(self, n: int) -> tuple[Mask, Mask]:
        """Return which pairs of the first n candidates have no evaluation yet, of functions that do not cost too much:
        bool [n·r], those that can be suggested now, and those that wait for the result with the recipe as it is."""
        r, candidates = len(self._changes), self._history.candidates[:n]
        asked, ruled_out = self._history.evaluations.pairs, self._history.ruled_out(self._max_cost)
        left = np.array(
            [(f.id, change) not in asked and f.id not in ruled_out for f in candidates for change in self._changes],
            dtype=bool,
        )
        if r == 1:
            return left, np.zeros(n, dtype=bool)
        tried, waiting = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        for evaluation in self._history.evaluations.values():
            position = self._history.position.get(evaluation.function_id, n)
            if evaluation.recipe_change == UNCHANGED and position < n:
                tried[position] |= evaluation.status in FINAL
                waiting[position] |= evaluation.status in OPEN
        first = np.arange(n * r) % r == 0
        return left & (first | np.repeat(tried, r)), left & ~first & np.repeat(waiting & ~tried, r)

    def turns(self, n: int, number: int, size: int = 1) -> list[tuple[int, Mask]]:
        """Return what the next `size` suggestions choose from: how many of them from which pairs, bool [n·r].

        Args:
            n: the number of candidates to choose from.
            number: the number of the first of these suggestions, from 0.
        """
        open_, r = self.open_(n)[0], len(self._changes)
        if r == 1:
            return [(size, open_)]
        best, diverged = (np.repeat(mask, r) for mask in self._kinds(n))
        first = np.arange(n * r) % r == 0
        worth = open_ & (first | best)
        masks = [worth if worth.any() else open_, open_ & ~first & best, open_ & ~first & diverged]
        turns = [TURNS.get(turn % PERIOD, ANY) for turn in range(number, number + size)]
        sizes = Counter(kind if masks[kind].any() else ANY for kind in turns)
        return [(sizes[kind], masks[kind]) for kind in sorted(sizes)]

    def _kinds(self, n: int) -> tuple[Mask, Mask]:
        """Return which of the first n candidates are among the best, and which diverged in their only training."""
        scores: dict[int, float] = {}
        results: dict[int, list[EvaluationState]] = {}
        for evaluation in self._history.evaluations.values():
            results.setdefault(evaluation.function_id, []).append(evaluation)
            score = self._history.evaluations.score_of(evaluation.function_id, evaluation.recipe_change)
            if score is not None:
                scores[evaluation.function_id] = max(score, scores.get(evaluation.function_id, -math.inf))
        least = sorted(scores.values(), reverse=True)[: max(1, math.ceil(BEST_SHARE * len(scores)))]
        best, diverged = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        for position, function in enumerate(self._history.candidates[:n]):
            best[position] = bool(least) and scores.get(function.id, -math.inf) >= least[-1]
            diverged[position] = function.id in results and all(_is_mendable(each) for each in results[function.id])
        return best, diverged


def _is_mendable(evaluation: EvaluationState) -> bool:
    """Return whether another rate may help: not after another one, and not where the health gate refused the function,
    whose first step is the same at every rate."""
    diverged = evaluation.status == "diverged" and evaluation.stopped_early is None
    return diverged and evaluation.recipe_change == UNCHANGED
