"""Features of the first n candidates of a run as arrays, row i of candidate i; what was made for fewer is kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.activations import outputs
from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.history import History
from surrogate.spectra import SpectrumFeature, feature_matrix

Floats = NDArray[np.float32]


class CandidateFeatures:
    """What the surrogate sees of the candidates of one run."""

    def __init__(self, config: SearchConfig, history: History) -> None:
        self._history = history
        self._layer_weighting = config.layer_weighting
        self._outputs = np.empty((0, 0), dtype=np.float32)
        self.needs_spectra = config.features != "outputs"

    def n_missing(self, n: int) -> int:
        """How many of the first `n` lack a spectrum that is needed and still to be computed."""
        return len(self._history.without_spectrum(n)) if self.needs_spectra else 0

    def outputs(self, n: int) -> Floats:
        """Their values on the fixed sample, float32 [n, 1000]; NaN where undefined."""
        have = len(self._outputs)
        if have < n:
            new = [outputs(function.name) for function in self._history.candidates[have:n]]
            self._outputs = np.concatenate([self._outputs.reshape(have, -1), new]) if have else np.stack(new)
        return self._outputs[:n]

    def spectra(self, n: int) -> Floats:
        """Rows whose Manhattan distance is the spectrum distance, float32 [n, d]; NaN where there is none."""
        if not self.needs_spectra:
            return np.full((n, 1), np.nan, dtype=np.float32)
        records = (self._history.spectra.get(function.id) for function in self._history.candidates[:n])
        features = [SpectrumFeature.from_bytes(r.feature) if r is not None and r.feature else None for r in records]
        if not any(features):
            return np.full((n, 1), np.nan, dtype=np.float32)
        return feature_matrix(features, self._layer_weighting)
