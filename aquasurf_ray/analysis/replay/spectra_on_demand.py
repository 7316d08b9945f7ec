"""A search that pays for spectra one by one: outputs are free, a spectrum costs a computation on the network.

Before each suggestion, a few of the candidates with the best merits get their spectra, until the budget is spent; the
suggestion is then made with these spectra. The spectrum of a trained candidate comes out of the same budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.metric_space import FeatureDistances, Floats, Indices, PairwiseDistances, content_digest
from aquasurf_ray.surrogate.policy import NOTHING, Mask, PredictorPolicy, Suggestion
from aquasurf_ray.surrogate.predictors import Predictor


class PartlyKnown(PairwiseDistances):
    """The distances by a feature that only some candidates have so far; `reveal` adds candidates to them."""

    def __init__(self, feature: FeatureDistances, known: Mask) -> None:
        self._feature = feature
        self.known: Mask = feature.known & known

    @property
    def version(self) -> str:
        """See `PairwiseDistances`; the version changes with each candidate that is revealed."""
        return content_digest(f"of {self._feature.version}", np.packbits(self.known))

    def reveal(self, candidates: Sequence[int] | Indices) -> None:
        """Make candidates known from now on, where they have the feature at all."""
        chosen = np.asarray(candidates, dtype=np.int64)
        self.known[chosen] = self._feature.known[chosen]

    def of(self, candidate: int) -> Floats:
        """See `PairwiseDistances.of`."""
        if self.known[candidate]:
            row = np.where(self.known, self._feature.of(candidate), np.float32(1.0))
        else:
            row = np.ones(len(self), dtype=np.float32)
        row[candidate] = 0.0
        return np.asarray(row, dtype=np.float32)

    def prepare(self, candidates: Indices) -> None:
        """See `PairwiseDistances.prepare`."""
        self._feature.prepare(candidates[self.known[candidates]])


class SpectraOnDemandPolicy(PredictorPolicy):
    """A `PredictorPolicy` on a space with a feature that becomes known on demand.

    Unlike those of other policies, its suggestions depend on earlier calls, because each call computes spectra.

    Args:
        predictor: a predictor on a space in which `spectra` is a feature.
        spectra: the feature to reveal.
        budget: the number of spectra in all.
        at_once: the number of spectra before each suggestion.
        seed, settings: see `PredictorPolicy`.
    """

    def __init__(
        self, predictor: Predictor, spectra: PartlyKnown, *, budget: int, at_once: int, seed: int = 0, **settings: Any
    ) -> None:
        if budget < 0 or at_once < 1:
            raise SurrogateError(f"budget and at_once must be at least 0 and 1 spectra, got {budget} and {at_once}")
        super().__init__(predictor, seed, **settings)
        self._spectra = spectra
        self._left = budget
        self._at_once = at_once
        self._revealed: set[int] = set()

    def suggest(self, pending: Iterable[int] = NOTHING, allowed: Mask | None = None) -> Suggestion | None:
        """Compute spectra, then suggest as `PredictorPolicy.suggest` does."""
        taken = {*pending, *self.observations}
        # Trained candidates first: predictions are made from their spectra.
        self._reveal(sorted(taken))
        prediction = self._predict()
        if prediction is not None and self._left:
            open_ = ~np.isnan(prediction.merits)
            open_ &= True if allowed is None else allowed
            open_[[i for i in (*taken, *self._revealed) if i < len(open_)]] = False
            candidates = np.flatnonzero(open_)
            best_first = np.lexsort((self._turn[candidates], -prediction.merits[candidates]))
            self._reveal(candidates[best_first[: self._at_once]].tolist())
        return super().suggest(pending, allowed)

    def _reveal(self, candidates: list[int]) -> None:
        new = [i for i in candidates if i not in self._revealed and i < len(self._turn)][: self._left]
        if new:
            self._left -= len(new)
            self._revealed.update(new)
            self._spectra.reveal(new)
            self._prediction = None  # it was made from distances without these spectra
