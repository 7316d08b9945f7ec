"""What another task's results say of this task's functions: the prior of `aquasurf_ray.analysis.replay.prior_process`.

A function that the other task has trained is taken at its rank there. One that it lacks is taken at the mean of those
three that it resembles most, by outputs, which all tasks have in common, and by spectra made comparable (see
`aquasurf_ray.analysis.replay.comparable_spectra`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.analysis.replay.comparable_spectra import Rows
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.metric_space import FeatureDistances, MetricSpace
from aquasurf_ray.surrogate.policy import normal_ranks
from aquasurf_ray.surrogate.predictors import MetricNeighbors

Indices = NDArray[np.int64]
Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Source:
    """Another task's results, one row a function that was trained there.

    Args:
        scores: the higher the better, float64 [m]; NaN for what diverged.
        outputs: values on the fixed sample, float32 [m, s].
        spectra: comparable rows, float32 [m, d]; NaN where there is none.

    Raises:
        SurrogateError: parts of different lengths, or none that came to a score.
    """

    scores: Scores
    outputs: Rows
    spectra: Rows

    def __post_init__(self) -> None:
        lengths = len(self.scores), len(self.outputs), len(self.spectra)
        if len(set(lengths)) != 1:
            raise SurrogateError(f"a source has {lengths} scores, outputs and spectra; expected as many of each")
        if not np.isfinite(self.scores).any():
            raise SurrogateError(f"none of the source's {len(self.scores)} functions has a score")

    def prior(self, same: Indices, outputs: Rows, spectra: Rows) -> Scores:
        """What is to be expected of functions of the task, in normal quantiles of the source's ranks: float64 [n].

        Args:
            same: which of the source's functions each is, int64 [n]; -1 where the source lacks it.
            outputs, spectra: of the functions, as the source's.
        """
        ranks = normal_ranks(np.where(np.isnan(self.scores), np.nanmin(self.scores), self.scores))
        prior = np.where(same < 0, np.nan, ranks[same])
        lacking = np.flatnonzero(same < 0)
        if len(lacking):
            prior[lacking] = self._resembling(ranks, outputs[lacking], spectra[lacking])
        return prior

    def _resembling(self, ranks: Scores, outputs: Rows, spectra: Rows) -> Scores:
        features = [FeatureDistances(np.concatenate([self.outputs, outputs]), "euclidean")]
        if np.isfinite(self.spectra).any() and np.isfinite(spectra).any():
            features.append(FeatureDistances(np.concatenate([self.spectra, spectra]), "manhattan"))
        known = np.arange(len(ranks))
        return MetricNeighbors()(MetricSpace(features), known, ranks).scores[len(ranks) :]
