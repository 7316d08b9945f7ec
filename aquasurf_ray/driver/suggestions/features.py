"""The features of the first n candidates of a run as arrays, row i for candidate i."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.surrogate.distances import LayerWeighting
from aquasurf_ray.surrogate.spectra import SpectrumFeature, feature_matrix

Floats = NDArray[np.float32]


AT_ONCE = 16  # candidates whose features are computed between two decisions: a few milliseconds


class CandidateFeatures:
    """The features of the candidates of one run."""

    def __init__(self, context: RunContext) -> None:
        config = context.config
        self._history, self._outputs = context.history, context.outputs
        self._layer_weighting = config.layer_weighting
        self._n_outputs = 0  # the first candidates whose outputs are computed
        self.needs_spectra = config.features != "outputs"

    def n_missing(self, n: int) -> int:
        """Return how many of the first `n` candidates lack a spectrum that is needed and can still be computed."""
        return len(self._history.without_spectrum(n)) if self.needs_spectra else 0

    def advance(self, n: int) -> None:
        """Compute the outputs of a few more of the first `n` candidates."""
        new = self._history.candidates[self._n_outputs : min(n, self._n_outputs + AT_ONCE)]
        self._outputs.of(new)
        self._n_outputs += len(new)

    def outputs(self, n: int, first: int = 0) -> Floats:
        """Return the values on the sample of the candidates from `first` to `n`, float32 [n - first, 1000], or 1000 r
        columns of r roles; NaN where undefined."""
        return np.stack([each.row for each in self._outputs.of(self._history.candidates[first:n])])

    def packed_spectra(self, n: int, first: int = 0) -> tuple[bytes | None, ...]:
        """Return the spectra of the candidates from `first` to `n` as they are stored; None where there is none."""
        if not self.needs_spectra:
            return (None,) * (n - first)
        records = (self._history.spectra.get(function.id) for function in self._history.candidates[first:n])
        return tuple(None if record is None else record.feature for record in records)

    def spectra(self, n: int) -> Floats:
        """Return the spectra of the first `n` candidates as rows; see `spectrum_rows`."""
        return spectrum_rows(self.packed_spectra(n), self._layer_weighting)

    def spectra_after(self, first: int, n: int, example: bytes | None) -> Floats:
        """Return the rows of the candidates from `first` to `n`, in the layout of an example's spectrum."""
        return spectrum_rows((example, *self.packed_spectra(n, first)), self._layer_weighting)[1:]


def spectrum_rows(packed: Sequence[bytes | None], weighting: LayerWeighting) -> Floats:
    """Return rows whose Manhattan distance is the spectrum distance, float32 [n, d]; NaN where there is none."""
    features = [SpectrumFeature.from_bytes(data) if data else None for data in packed]
    if not any(features):
        return np.full((len(packed), 1), np.nan, dtype=np.float32)  # without any spectrum the width is unknown
    return feature_matrix(features, weighting)
