"""Spectra of different networks as rows that compare: layers by relative depth, eigenvalues on the network's own scale.

A network's layers lie at the depths (i + 1/2) / layers. What lies between is interpolated, quantile by quantile, so
that every function has the same number of distributions, whatever its network. The functions of one network then
are where they are beside the typical one, the median of each quantile, in units of the network's typical distance from
it. What is left is how a function differs from others in the same place, early or late.
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
    """The functions of one network: float32 [n, DEPTHS * BINS], NaN where `feature_matrix` has no row.

    Manhattan distance compares them, also with rows of another network.

    Raises:
        FeatureError: the features are of different networks.
    """
    whole = feature_matrix(features, "uniform")
    found = np.flatnonzero(np.isfinite(whole).all(axis=1)) if whole.size else np.empty(0, dtype=np.int64)
    rows = np.full((len(features), DEPTHS * BINS), np.nan, dtype=np.float32)
    if not len(found):
        return rows
    quantiles = [feature.quantiles for i in found.tolist() if (feature := features[i]) is not None]
    placed = np.stack([_at_depths(_in_bins(each)).ravel() for each in quantiles])
    beside = placed - np.median(placed, axis=0)
    typical = float(np.abs(beside).mean()) or 1.0
    rows[found] = beside / (typical * DEPTHS * BINS)
    return rows


def _in_bins(quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """[layers, bins] as [layers, BINS], at the middles of intervals of equal probability."""
    have = (np.arange(quantiles.shape[1]) + 0.5) / quantiles.shape[1]
    wanted = (np.arange(BINS) + 0.5) / BINS
    return np.stack([np.interp(wanted, have, layer) for layer in quantiles])


def _at_depths(layers: NDArray[np.float64]) -> NDArray[np.float64]:
    """[layers, BINS] as [DEPTHS, BINS]; before the first layer's depth and behind the last one's, as there."""
    have = (np.arange(len(layers)) + 0.5) / len(layers)
    wanted = (np.arange(DEPTHS) + 0.5) / DEPTHS
    return np.stack([np.interp(wanted, have, column) for column in layers.T], axis=1)
