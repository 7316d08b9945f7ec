"""The prior of this task's functions from the results of another task, for `analysis.replay.prior_process`.

The prior of a function that was trained on the other task is its rank there. That of any other function is the mean of
the three functions that it resembles most, by outputs, which are the same for all tasks, and by comparable spectra
(`analysis.replay.comparable_spectra`).
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
    """The results of another task, one row for each function that was trained there.

    Args:
        scores: float64 [m], higher is better; NaN for a function that diverged.
        outputs: values on the fixed sample, float32 [m, s].
        spectra: comparable rows, float32 [m, d]; NaN where there is none.

    Raises:
        SurrogateError: the parts have different lengths, or no function has a score.
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
        """Return the prior of functions of this task, in normal quantiles of the source's ranks: float64 [n].

        Args:
            same: the index of each function in the source, int64 [n]; -1 where the source lacks it.
            outputs, spectra: the features of the functions, in the format of the source's.
        """
        # A training that diverged shares the last rank, as in a search.
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
        # Source and task form one space, whose first rows are the source's; only the task's are returned.
        return MetricNeighbors()(MetricSpace(features), known, ranks).scores[len(ranks) :]
