"""Comparable spectra of different networks: layers by relative depth, eigenvalues on each network's own scale.

A network's layers lie at the depths (i + 1/2) / layers. Distributions between them are interpolated, quantile by
quantile, so that every function has the same number of distributions, whatever its network. Then the median over the
network's functions is subtracted from each quantile, and the rest is divided by the typical distance to that median.
The rows therefore describe how a function differs from others at the same depth of the same network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.surrogate.spectra import SpectrumFeature, feature_matrix

Rows = NDArray[np.float32]

DEPTHS = 8
BINS = 16


def comparable_rows(features: Sequence[SpectrumFeature | None]) -> Rows:
    """Return the rows of the functions of one network: float32 [n, DEPTHS * BINS], NaN where `feature_matrix` has no
    row.

    Compare them by Manhattan distance, also with the rows of another network.

    Raises:
        FeatureError: the features belong to different networks.
    """
    whole = feature_matrix(features, "uniform")
    found = np.flatnonzero(np.isfinite(whole).all(axis=1)) if whole.size else np.empty(0, dtype=np.int64)
    rows = np.full((len(features), DEPTHS * BINS), np.nan, dtype=np.float32)
    if not len(found):
        return rows
    quantiles = [feature.quantiles for i in found.tolist() if (feature := features[i]) is not None]
    placed = np.stack([_at_depths(_in_bins(each)).ravel() for each in quantiles])
    deviations = placed - np.median(placed, axis=0)
    # With this factor, the Manhattan distance of two rows is a mean over their values, in typical deviations.
    typical = float(np.abs(deviations).mean()) or 1.0
    rows[found] = deviations / (typical * DEPTHS * BINS)
    return rows


def _in_bins(quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate [layers, bins] to [layers, BINS], at the middles of intervals of equal probability."""
    have = (np.arange(quantiles.shape[1]) + 0.5) / quantiles.shape[1]
    wanted = (np.arange(BINS) + 0.5) / BINS
    return np.stack([np.interp(wanted, have, layer) for layer in quantiles])


def _at_depths(layers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate [layers, BINS] to [DEPTHS, BINS]; constant before the first layer's depth and after the last."""
    have = (np.arange(len(layers)) + 0.5) / len(layers)
    wanted = (np.arange(DEPTHS) + 0.5) / DEPTHS
    return np.stack([np.interp(wanted, have, column) for column in layers.T], axis=1)
