"""Results of another task as a prior for this task's functions, trusted as far as they prove true on this task.

    score(x) = m + b p(x) + f(x) + noise      f ~ GP, see `surrogate.gaussian_process`

p(x), the prior, is the normal quantile of the function's rank among the other task's results
(`aquasurf_ray.analysis.replay.prior_task`), so that the scores of the two tasks need not be alike. b, the trust, is
learned from this task's results alone: the rank correlation of scores and prior times n / (n + `DOUBT`) for n results,
and never negative, so that a task whose results mislead, or say the opposite, is ignored. Near functions that were
trained on this task, f corrects the errors of b p(x).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from aquasurf_ray.surrogate.metric_space import MetricSpace, PairwiseDistances
from aquasurf_ray.surrogate.policy import PredictorPolicy
from aquasurf_ray.surrogate.predictors import MetricProcess, MetricRegressor, Prediction, merit
from aquasurf_ray.surrogate.settings import METRIC_REGRESSORS, SurrogateSettings, predictor_of

Indices = NDArray[np.int64]
Scores = NDArray[np.float64]

DOUBT = 8.0
"""The number of results that a run has after its baselines: a correlation seen on these alone counts by half."""


@dataclass(frozen=True, eq=False)
class TransferredProcess:
    """A Gaussian process on the residuals of the scores, after the prior's share is subtracted.

    Args:
        prior: the prior of all candidates, float64 [n], normal quantiles; NaN where there is none.
        process: the process that learns the residuals; its acquisition function decides the merits.
    """

    prior: Scores
    process: MetricProcess

    def __call__(self, space: MetricSpace, known: Indices, scores: Scores, counts: Indices | None = None) -> Prediction:
        """See `Predictor.predict`; the scores must be normal quantiles of ranks."""
        prior = np.nan_to_num(self.prior)  # 0, the median in normal quantiles, where nothing is known
        explained = trust(prior[known], scores) * prior
        process, rows = self.process.fitted(space, known, scores - explained[known], counts)
        mean, deviation = process.predict_distances_with_deviation(rows)
        expected: Scores = mean + explained
        return Prediction(expected, merit(self.process.acquisition, expected, deviation, scores))


def transferred_policy(
    settings: SurrogateSettings, seed: int, features: Callable[[], Sequence[PairwiseDistances]], prior: Scores
) -> PredictorPolicy:
    """Return the policy of these settings with a prior of all candidates, float64 [n].

    Raises:
        SurrogateError: the settings are not those of gp in the metric space, or out of their range.
    """

    def make(settings: SurrogateSettings, seed: int) -> MetricRegressor:
        process = METRIC_REGRESSORS["gp"](settings, seed)
        assert isinstance(process, MetricProcess)  # noqa: S101 - it is the one that "gp" names
        return TransferredProcess(prior, process)

    predictor = predictor_of(settings, seed, features=features, metric_regressors={"gp": make})
    return PredictorPolicy(predictor, seed, **settings.of_policy)


def trust(prior: Scores, scores: Scores) -> float:
    """Return how far the prior of functions [m] is trusted, from 0 to 1, given their scores [m] on this task.

    >>> trust(np.arange(8.0), np.arange(8.0)), trust(np.arange(8.0), -np.arange(8.0))
    (0.5, 0.0)
    """
    n, a, b = len(scores), rankdata(prior), rankdata(scores)
    if n < 2 or a.std() == 0 or b.std() == 0:
        return 0.0
    # Rounded, so that a correlation of 1 is 1 however the processor rounds.
    return max(0.0, round(float(np.corrcoef(a, b)[0, 1]), 12)) * n / (n + DOUBT)
