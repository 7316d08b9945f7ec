"""Results of another task as what to expect of this one's functions, believed as far as they prove true here.

    score(x) = m + b p(x) + f(x) + noise      f ~ GP, see `surrogate.gaussian_process`

p(x), the prior, is the normal quantile of the function's rank among the other task's results
(`aquasurf_ray.analysis.replay.prior_task`), so that the tasks' scores need not be alike. b, the trust, is learned from
this task's results alone: the rank correlation of the two times n / (n + `DOUBT`) for n results, and never negative, so
that a task that misleads, or tells the opposite, is not listened to. Near functions that were trained here f makes good
what b p(x) has wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from aquasurf_ray.surrogate.metric_space import MetricSpace
from aquasurf_ray.surrogate.predictors import MetricProcess, Prediction, merit

Indices = NDArray[np.int64]
Scores = NDArray[np.float64]

DOUBT = 8.0
"""As many results of this task as a run has after its baselines: a correlation seen on them alone counts by half."""


@dataclass(frozen=True, eq=False)
class TransferredProcess:
    """A Gaussian process on what is left of the scores when what the prior explains is taken off.

    Args:
        prior: of all candidates, float64 [n], normal quantiles; NaN where nothing is to be expected.
        process: how what is left is learned, and what merits are.
    """

    prior: Scores
    process: MetricProcess

    def __call__(self, space: MetricSpace, known: Indices, scores: Scores) -> Prediction:
        """See `Predictor.predict`; scores are expected to be normal quantiles of ranks."""
        prior = np.nan_to_num(self.prior)
        explained = trust(prior[known], scores) * prior
        process, rows = self.process.fitted(space, known, scores - explained[known])
        mean, deviation = process.predict_distances_with_deviation(rows)
        expected: Scores = mean + explained
        return Prediction(expected, merit(self.process.acquisition, expected, deviation, scores))


def trust(prior: Scores, scores: Scores) -> float:
    """How far the prior of functions [m] is to be believed, from 0 to 1, by their results [m].

    >>> trust(np.arange(8.0), np.arange(8.0)), trust(np.arange(8.0), -np.arange(8.0))
    (0.5, 0.0)
    """
    n, a, b = len(scores), rankdata(prior), rankdata(scores)
    if n < 2 or a.std() == 0 or b.std() == 0:
        return 0.0
    return max(0.0, round(float(np.corrcoef(a, b)[0, 1]), 12)) * n / (n + DOUBT)
