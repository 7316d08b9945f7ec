"""Outputs and spectra of a benchmark, packed into few bytes for each function.

    outputs   the 1,000 values in the order of the sample's points, as multiples of 5/32767 (the outputs are clipped
              to [-5, 5]), NaN as -32768; second differences, since functions are smooth in x
    spectrum  every layer's log-eigenvalues as the means of `BINS` equal-probability bins, as multiples of 1/512 from
              the layer's smallest; differences, since they ascend

Both are 16-bit numbers, all low bytes before all high bytes, which compresses well. The error of an output is at most
1e-4, that of a log-eigenvalue 1/1024, apart from the effect of fewer bins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.surrogate.spectra import SpectrumFeature, bin_means

BINS = 256

_OUTPUT_STEP = 5 / 32767
_UNDEFINED = -32768
_LOG_STEP = 1 / 512
_LARGEST_LEVEL = 65_535

Levels = NDArray[np.uint16]


def pack_outputs(values: NDArray[np.float32], order: NDArray[np.int64]) -> bytes:
    """Pack one function's outputs [s]; `order` int64 [s] puts the sample's points in ascending order."""
    ascending = values[order].astype(np.float64)
    levels = np.where(np.isnan(ascending), _UNDEFINED, np.rint(np.nan_to_num(ascending) / _OUTPUT_STEP))
    return _planes(_differences(_differences(levels.astype(np.int16).view(np.uint16))))


def unpack_outputs(cell: bytes, order: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the outputs [s] that were packed by `pack_outputs`, to 1e-4."""
    levels = _sums(_sums(_unplaned(cell))).view(np.int16)
    values = np.empty(len(order), dtype=np.float32)
    values[order] = np.where(levels == _UNDEFINED, np.nan, levels * _OUTPUT_STEP)
    return values


def coarse(feature: SpectrumFeature) -> SpectrumFeature:
    """Return the feature as packing preserves it: in `BINS` bins, or in its own bins if it has fewer."""
    quantiles = feature.quantiles
    if quantiles.shape[1] > BINS:
        quantiles = np.stack([bin_means(layer, BINS) for layer in quantiles])
    levels = np.rint(quantiles / _LOG_STEP)
    low = levels.min(axis=1, keepdims=True)
    levels = low + np.minimum(levels - low, _LARGEST_LEVEL)
    return SpectrumFeature(feature.names, feature.n_weights, levels * _LOG_STEP)


def pack_spectrum(feature: SpectrumFeature) -> bytes:
    """Pack one function's spectrum; the layers and the number of bins are stored elsewhere."""
    levels = np.rint(coarse(feature).quantiles / _LOG_STEP).astype(np.int64)
    # Bins ascend, so the first is the smallest.
    low = levels[:, 0].astype("<i4")
    return low.tobytes() + _planes(_differences((levels - levels[:, :1]).astype(np.uint16)))


def unpack_spectrum(cell: bytes, names: tuple[str, ...], n_weights: tuple[int, ...]) -> SpectrumFeature:
    """Return the spectrum that was packed by `pack_spectrum`, with these layers."""
    layers = len(names)
    low = np.frombuffer(cell[: 4 * layers], "<i4").astype(np.float64)[:, None]
    above = _sums(_unplaned(cell[4 * layers :]).reshape(layers, -1))
    return SpectrumFeature(names, n_weights, (low + above) * _LOG_STEP)


def _differences(levels: Levels) -> Levels:
    """Return the first level, then the difference of each level to the one before, modulo 2**16."""
    # Differences wrap around in 16 bits, and sums wrap back, so no level is too far from its neighbour.
    return np.diff(levels, axis=-1, prepend=np.uint16(0)).astype(np.uint16)


def _sums(differences: Levels) -> Levels:
    return np.cumsum(differences, axis=-1, dtype=np.uint16)


def _planes(levels: Levels) -> bytes:
    return np.ascontiguousarray(levels.astype("<u2").reshape(-1).view(np.uint8).reshape(-1, 2).T).tobytes()


def _unplaned(cell: bytes) -> Levels:
    planes = np.frombuffer(cell, np.uint8).reshape(2, -1)
    return np.ascontiguousarray(planes.T).view("<u2").reshape(-1).astype(np.uint16)
