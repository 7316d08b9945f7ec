"""Results of other tasks as a prior for this task's functions, trusted as far as they prove true on this task.

    score(x) = m + b p(x) + f(x) + noise      f ~ GP, see `surrogate.gaussian_process`

p(x), the prior, is the normal quantile of the function's rank among another task's results
(`aquasurf_ray.analysis.replay.prior_task`), so that the scores of the two tasks need not be alike. b, the trust, is
learned from this task's results alone: the rank correlation of scores and prior times n / (n + `DOUBT`) for n results,
and never negative, so that a task whose results mislead, or say the opposite, is ignored. Near functions that were
trained on this task, f corrects the errors of b p(x).

Of several tasks, p(x) is the mean of their quantiles, weighted by the trust in each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from aquasurf_ray.surrogate.gaussian_process import merit
from aquasurf_ray.surrogate.metric_space import MetricSpace, PairwiseDistances
from aquasurf_ray.surrogate.policy import PredictorPolicy
from aquasurf_ray.surrogate.predictors import MetricProcess, MetricRegressor, Prediction
from aquasurf_ray.surrogate.settings import METRIC_REGRESSORS, SurrogateSettings, predictor_of

Indices = NDArray[np.int64]
Scores = NDArray[np.float64]

DOUBT = 8.0
"""The number of results that a run has after its baselines: a correlation seen on these alone counts by half."""


@dataclass(frozen=True, eq=False)
class TransferredProcess:
    """A Gaussian process on the residuals of the scores, after the prior's share is subtracted.

    Args:
        priors: the prior of all candidates by each of s tasks, float64 [s, n], normal quantiles; NaN where there is
            none.
        process: the process that learns the residuals; its acquisition function decides the merits.
    """

    priors: Scores
    process: MetricProcess

    def __call__(self, space: MetricSpace, known: Indices, scores: Scores, counts: Indices | None = None) -> Prediction:
        """See `Predictor.predict`; the scores must be normal quantiles of ranks."""
        explained = explained_by(self.priors, known, scores)
        process, rows = self.process.fitted(space, known, scores - explained[known], counts)
        mean, deviation = process.predict_distances_with_deviation(rows)
        expected: Scores = mean + explained
        return Prediction(expected, merit(self.process.acquisition, expected, deviation, float(scores.max())))


def transferred_policy(
    settings: SurrogateSettings, seed: int, features: Callable[[], Sequence[PairwiseDistances]], priors: Scores
) -> PredictorPolicy:
    """Return the policy of these settings with the priors of all candidates by s tasks, float64 [s, n].

    Raises:
        SurrogateError: the settings are not those of gp in the metric space, or out of their range.
    """

    def make(settings: SurrogateSettings, seed: int) -> MetricRegressor:
        process = METRIC_REGRESSORS["gp"](settings, seed)
        assert isinstance(process, MetricProcess)  # noqa: S101 - it is the one that "gp" names
        return TransferredProcess(priors, process)

    predictor = predictor_of(settings, seed, features=features, metric_regressors={"gp": make})
    return PredictorPolicy(predictor, seed, **settings.of_policy)


def explained_by(priors: Scores, known: Indices, scores: Scores) -> Scores:
    """Return what the priors [s, n] say of all candidates, as far as they are trusted, given the scores of those that
    are known on this task: b p(x), float64 [n].

    >>> explained_by(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), np.array([0, 2]), np.array([0.0, 1.0])).tolist()
    [0.2, 0.4, 0.6000000000000001]
    """
    priors = np.nan_to_num(priors)  # 0, the median in normal quantiles, where nothing is known
    trusts = np.array([trust(prior[known], scores) for prior in priors])
    if not trusts.any():
        return np.zeros(priors.shape[1])
    prior = trusts / trusts.sum() @ priors
    explained: Scores = trust(prior[known], scores) * prior
    return explained


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
