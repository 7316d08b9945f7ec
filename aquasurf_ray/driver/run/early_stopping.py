"""Early stopping in one run: the rule of each training, and the trainings that were paused and are resumed.

`curves_rule` pauses a training if its chance to become the best is too small: `aquasurf_ray.surrogate.learning_curves`
predicts final scores from those after the same epochs as in the median rule.

A paused training is resumed as soon as the rule of now would let its score pass. It needs no evaluation of the budget,
which it had already, and continues from its checkpoint; without one it begins again, and gets to the same result. What
was paused once runs to its end: while it runs, its own score is missing in the rule, which could pause it for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np

from aquasurf_ray.driver.run.claims import Claims
from aquasurf_ray.driver.run.median_rule import EarlyScores, median_rule
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.driver.state.evaluations import EvaluationState
from aquasurf_ray.surrogate.learning_curves import checked_epochs, score_to_continue
from aquasurf_ray.workers.engine.stopping import StopRule

CHANCE = 0.01  # to become the best, below which a training is paused; docs/evidence.md compares it with 0.1


def curves_rule(epochs: int, scores_after: EarlyScores) -> StopRule | None:
    """Return the rule for a training of `epochs` epochs, or None while too few trainings have finished.

    >>> rule = curves_rule(8, lambda epoch: [(0.1 * i, 0.1 * i + 0.2) for i in range(12)])
    >>> [(epoch, round(score, 3)) for epoch, score in rule.thresholds], rule.pauses
    ([(2, 0.825), (4, 0.825)], True)
    """
    needed = {epoch: _needed(scores_after(epoch)) for epoch in checked_epochs(epochs)}
    thresholds = tuple((epoch, score) for epoch, score in needed.items() if score is not None and isfinite(score))
    if not thresholds:
        return None
    return StopRule(thresholds, f"from which the chance to become the best is {CHANCE:.0%}", pauses=True)


def _needed(found: Sequence[tuple[float, float | None]]) -> float | None:
    """Return the score that a training needs after an epoch, or None if nothing can be said."""
    reached = [(early, final) for early, final in found if isfinite(early)]
    whole = [(early, final) for early, final in reached if final is not None and isfinite(final)]
    if not whole:
        return None
    early, final = (np.array(column) for column in zip(*whole, strict=True))
    return score_to_continue(early, final, np.array([early for early, _ in reached]), CHANCE)


RULES = {"median": median_rule, "curves": curves_rule}


class EarlyStopping:
    """The early stopping of one run.

    Args:
        epochs: of the task's trainings.
    """

    def __init__(self, context: RunContext, claims: Claims, epochs: int) -> None:
        self._context, self._claims, self._epochs = context, claims, epochs
        self._rule = RULES.get(context.config.early_stop)
        self._paused_at: dict[int, tuple[int, float]] = {}
        self._looked_after = 0

    def rule_of(self, evaluation_id: int, recipe_change: str) -> StopRule | None:
        """Return the rule for a training that begins now; None if it is to run to its end."""
        rule = self._current(recipe_change)
        again = rule is not None and rule.pauses and self._context.store.had_result(evaluation_id)
        return None if again else rule

    def _current(self, recipe_change: str) -> StopRule | None:
        """Return the rule from the results in the store."""
        if self._rule is None:
            return None
        store, task_id = self._context.store, self._context.lease.task_id
        return self._rule(self._epochs, lambda epoch: store.early_scores(task_id, epoch, recipe_change))

    def resume(self) -> None:
        """Reserve the paused trainings that would pass now, if there are results that were not looked at before."""
        n_results = len(self._context.history.evaluations.ended(self._looked_after))
        if self._context.config.early_stop != "curves" or not n_results:
            return
        self._looked_after += n_results
        paused = [each for each in self._context.history.evaluations.values() if self._is_paused(each)]
        self._read({each.evaluation_id for each in paused} - self._paused_at.keys())
        rules = {change: self._current(change) for change in {each.recipe_change for each in paused}}
        for each in paused:
            epoch, score = self._paused_at[each.evaluation_id]
            rule = rules[each.recipe_change]
            if rule is None or rule.verdict(epoch, score, self._epochs) is None:
                del self._paused_at[each.evaluation_id]
                self._claims.resume(each)

    def _is_paused(self, evaluation: EvaluationState) -> bool:
        return evaluation.status == "done" and evaluation.stopped_early is not None and evaluation.score is not None

    def _read(self, evaluation_ids: set[int]) -> None:
        """Read at which epoch trainings were paused, and with which score."""
        for number, curve in self._context.store.score_curves(evaluation_ids).items():
            epoch = max(curve)
            self._paused_at[number] = epoch, curve[epoch]
