"""Early stopping by the median rule, a variant of that of Golovin et al. 2017 ("Google Vizier").

After a quarter and after half of its epochs, a training must have a score no lower than the median score of the task's
finished trainings after the same number of epochs. Trainings that the rule has stopped at this epoch are included:
without them, the median would be that of the survivors, and rise with each stop. The scores come from the store, so
that a driver that resumes computes the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from statistics import median

from aquasurf_ray.surrogate.learning_curves import checked_epochs
from aquasurf_ray.workers.engine.stopping import StopRule

ENOUGH = 5  # scores, below which a median says too little

EarlyScores = Callable[[int], Sequence[tuple[float, float | None]]]
"""Given an epoch, which counts from 1: the scores that trainings had after it, each with its final score, or None where
the training was stopped early."""


def median_rule(epochs: int, scores_after: EarlyScores) -> StopRule | None:
    """Return the rule for a training of `epochs` epochs, or None while there are too few scores to compare with.

    >>> rule = median_rule(30, lambda epoch: [(score, None) for score in (0.1 * epoch, 0.2, 0.3, 0.4, 0.5)])
    >>> [(epoch, round(score, 3)) for epoch, score in rule.thresholds], rule.text
    ([(8, 0.4), (15, 0.4)], 'median of 5')
    >>> median_rule(30, lambda epoch: [(0.1, 0.2)] * 4) is None
    True
    """
    scores = {
        epoch: [early for early, _ in found]
        for epoch in checked_epochs(epochs)
        if len(found := scores_after(epoch)) >= ENOUGH
    }
    thresholds = tuple((epoch, middle) for epoch, found in scores.items() if isfinite(middle := median(found)))
    if not thresholds:
        return None
    return StopRule(thresholds, f"median of {min(map(len, scores.values()))}")
