"""Several surrogates as one. Only replays use it: none was better than nearest neighbours alone.

docs/evidence-tables.md has the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.predictors import Indices, Mask, Prediction, Predictor, Scores


class EnsemblePredictor:
    """Several predictors as one: its score is the mean of their scores, its merit the mean of the ranks of their
    merits.

    Distances are those of the first member. A candidate has a prediction only if every member places it.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        if not members:
            raise SurrogateError("an ensemble needs at least one member, got none")
        self._members = tuple(members)
        self.placed: Mask = np.logical_and.reduce([member.placed for member in members])
        self.version = members[0].version

    @property
    def gap(self) -> float:
        """The typical distance of neighbours for the first member."""
        return self._members[0].gap

    def nearest(self, others: Indices) -> Scores:
        """See `Predictor`."""
        return self._members[0].nearest(others)

    def distances(self, candidates: Indices, others: Indices) -> Scores:
        """See `Predictor`."""
        return self._members[0].distances(candidates, others)

    def predict(self, known: Indices, scores: Scores, counts: Indices | None = None) -> Prediction:
        """See `Predictor`."""
        predictions = [member.predict(known, scores, counts) for member in self._members]
        expected: Scores = np.mean([prediction.scores for prediction in predictions], axis=0)
        merits = np.full(len(self.placed), np.nan)
        # Ranks, because members' merits may be scores, bounds or improvements, on scales that do not compare.
        ranks = [rankdata(prediction.merits[self.placed]) for prediction in predictions]
        merits[self.placed] = np.mean(ranks, axis=0)
        return Prediction(expected, merits)
