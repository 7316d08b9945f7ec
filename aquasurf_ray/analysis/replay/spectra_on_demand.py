"""A search that pays for spectra one by one: outputs are free, a spectrum costs a computation on the network.

At each suggestion the candidates that look best by what is known get their spectra, some at a time and so many in all,
and then the best is chosen with them. What was trained has its spectrum too, on the same account.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.metric_space import PartlyKnown
from aquasurf_ray.surrogate.policy import NOTHING, Mask, PredictorPolicy, Suggestion
from aquasurf_ray.surrogate.predictors import Predictor


class SpectraOnDemandPolicy(PredictorPolicy):
    """A `PredictorPolicy` on a space with a feature that becomes known on demand.

    Unlike other policies it depends on when it was asked, since that is when spectra are computed.

    Args:
        predictor: on a space in which `spectra` is a feature.
        spectra: what is revealed.
        budget: spectra in all.
        at_once: spectra a suggestion.
        seed, settings: see `PredictorPolicy`.
    """

    def __init__(
        self, predictor: Predictor, spectra: PartlyKnown, *, budget: int, at_once: int, seed: int = 0, **settings: Any
    ) -> None:
        if budget < 0 or at_once < 1:
            raise SurrogateError(f"budget is {budget} spectra, {at_once} at once; expected at least 0 and 1")
        super().__init__(predictor, seed, **settings)
        self._spectra = spectra
        self._left = budget
        self._at_once = at_once
        self._paid: set[int] = set()

    @property
    def computed(self) -> frozenset[int]:
        """The candidates whose spectra were asked for."""
        return frozenset(self._paid)

    def suggest(self, pending: Iterable[int] = NOTHING, allowed: Mask | None = None) -> Suggestion | None:
        """See `PredictorPolicy.suggest`; computes spectra first."""
        taken = {*pending, *self.observations}
        self._pay(sorted(taken))
        prediction = self._predict()
        if prediction is not None and self._left:
            open_ = ~np.isnan(prediction.merits)
            open_ &= True if allowed is None else allowed
            open_[[i for i in (*taken, *self._paid) if i < len(open_)]] = False
            candidates = np.flatnonzero(open_)
            best_first = np.lexsort((self._turn[candidates], -prediction.merits[candidates]))
            self._pay(candidates[best_first[: self._at_once]].tolist())
        return super().suggest(pending, allowed)

    def _pay(self, candidates: list[int]) -> None:
        new = [i for i in candidates if i not in self._paid and i < len(self._turn)][: self._left]
        if new:
            self._left -= len(new)
            self._paid.update(new)
            self._spectra.reveal(new)
            self._prediction = None
