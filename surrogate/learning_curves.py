"""The prediction of a training's final score from the score after a few epochs, and the score needed to continue.

The trainings that have finished show how the final score depends on the score after a few epochs: a line through the
better half of them, as failed trainings lie on another line, and normal residuals around it. Baker et al. 2017
("Accelerating Neural Architecture Search using Performance Prediction") stop a training that is predicted to exceed the
best final score with too small a chance. Here, such a training is paused: with more results the line changes, and then
the same score may be enough. The best quarter of the scores after the same epoch is always enough: otherwise a line
that is wrong would pause all trainings, and would stay wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Scores = NDArray[np.float64]

SHARES = (1 / 4, 1 / 2)  # of the epochs, after which a training is looked at
PASSING = 3 / 4  # the quantile of the scores after an epoch from which every training continues
ENOUGH = 8  # finished trainings, below which a line through the better half of them says too little


def checked_epochs(epochs: int) -> list[int]:
    """Return the epochs after which a training of so many epochs is looked at.

    >>> checked_epochs(30), checked_epochs(2), checked_epochs(1)
    ([8, 15], [1], [])
    """
    # After the last epoch there is nothing left to save.
    return sorted({ceil(epochs * share) for share in SHARES} - {epochs})


@dataclass(frozen=True)
class FinalScores:
    """The final score, given the score after so many epochs: normal around intercept + slope * score.

    Args:
        intercept: of the line.
        slope: of the line; above 0.
        deviation: the standard deviation of the residuals; at least 0.
    """

    intercept: float
    slope: float
    deviation: float

    @classmethod
    def fitted(cls, early: Scores, final: Scores) -> FinalScores | None:
        """Return the least-squares line through the better half of finished trainings.

        Args:
            early: their finite scores after so many epochs [m]; higher is better.
            final: their finite final scores [m].

        Returns:
            None if there are fewer than `ENOUGH` trainings, or if better early scores do not go with better final ones.

        >>> early = np.arange(10.0)
        >>> FinalScores.fitted(early, 3 + 2 * early)
        FinalScores(intercept=3.0, slope=2.0, deviation=0.0)
        """
        if len(early) < ENOUGH:
            return None
        better = early >= np.median(early)
        x, y = early[better], final[better]
        spread = x - x.mean()
        if not (spread @ spread) > 0:
            return None
        slope = float(spread @ y / (spread @ spread))
        if not slope > 0:
            return None
        intercept = float(y.mean() - slope * x.mean())
        residuals = y - intercept - slope * x
        return cls(intercept, slope, float(np.sqrt(residuals @ residuals / (len(x) - 2))))

    def score_needed(self, best: float, chance: float) -> float:
        """Return the early score from which the probability to end above `best` is `chance`, which is above 0."""
        return (best + float(ndtri(chance)) * self.deviation - self.intercept) / self.slope


def score_to_continue(early: Scores, final: Scores, seen: Scores, chance: float) -> float | None:
    """Return the score after an epoch that a training needs to continue; None if nothing can be said.

    Args:
        early: finite scores after the epoch of the trainings that have finished [m]; higher is better.
        final: their finite final scores [m].
        seen: finite scores after the epoch of all trainings that have reached it [n].
        chance: the probability to become the best from which a training continues, above 0.

    >>> early = np.arange(10.0)
    >>> score_to_continue(early, 3 + 2 * early, early, 0.1)
    6.75
    """
    line = FinalScores.fitted(early, final)
    if line is None:
        return None
    return min(line.score_needed(float(final.max()), chance), float(np.quantile(seen, PASSING)))
