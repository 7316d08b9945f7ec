"""The compact feature of a spectrum, which is stored for every function and compared with every other.

A layer's distribution of log-eigenvalues is kept as the means of its equal-probability bins, as 16-bit multiples of a
power of two (about 0.001) above the layer's smallest mean, so that a stored feature is read back bit for bit. The
Manhattan distance of two layers' bin means, divided by the number of bins, is W1 exactly wherever one distribution
lies to one side of the other throughout a bin, and a lower bound otherwise. The number of bins is the largest that fits
into `MAX_BYTES`; it depends on the network's layers only, so that all functions of a task can be compared.

Bytes, little-endian: magic `AQSF`, version (u16), length of the header (u32), header (JSON: `bins`, `names`,
`n_weights`), low and step of every layer (f64 [layers, 2]), levels (u16 [layers, bins]), CRC-32 of all before (u32).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.surrogate.distances import FeatureError, Floats, LayerSpectrum, LayerWeighting, layer_coefficients

MAX_BYTES = 20_000
MIN_BINS, MAX_BINS = 16, 512  # with very many layers the minimum wins over MAX_BYTES

_MAGIC = b"AQSF"
_VERSION = 1
_PREFIX = struct.Struct("<4sHI")
_CHECKSUM = struct.Struct("<I")
_LEVELS = 65_535  # the largest u16
_FINEST_STEP = 2.0**-20  # about 1e-6; also the step of a layer whose bins all have the same mean
_CDF_RANGE = (-100.0, 100.0)  # both as in the paper's code, so that features compare with those of Act-Bench files
_WEIGHTS_A_CDF_BIN = 100


@dataclass(frozen=True, eq=False)
class SpectrumFeature:
    """A compressed spectrum.

    Attributes:
        names: the layers' names [layers].
        n_weights: weights and biases of each layer [layers].
        quantiles: mean log-eigenvalue of each equal-probability bin, ascending along a row: [layers, bins] float64.

    Example:
        >>> feature = SpectrumFeature(("fc",), (100,), np.array([[-3.0, -2.0, 1.0, 4.0]]))
        >>> SpectrumFeature.from_bytes(feature.to_bytes()).quantiles.round(3).tolist()
        [[-3.0, -2.0, 1.0, 4.0]]
    """

    names: tuple[str, ...]
    n_weights: tuple[int, ...]
    quantiles: Floats

    def __post_init__(self) -> None:
        shape = self.quantiles.shape
        if len(shape) != 2 or shape[0] != len(self.names) or shape[1] == 0 or len(self.names) != len(self.n_weights):
            raise FeatureError(f"quantiles must have shape ({len(self.names)} layers, bins), got {shape}")
        if len(self.names) == 0 or min(self.n_weights) < 1:
            raise FeatureError(f"a feature needs layers with weights, got {self.n_weights}")
        if not np.isfinite(self.quantiles).all():
            raise FeatureError("log-eigenvalues must be finite, got NaN or infinity")

    @property
    def layout(self) -> tuple[tuple[str, ...], tuple[int, ...], int]:
        """The names, the numbers of weights and the number of bins, which two comparable features share."""
        return self.names, self.n_weights, self.quantiles.shape[1]

    def to_bytes(self) -> bytes:
        """Return the stored form, from which a feature made by `compress` is restored exactly."""
        header = _header(self.names, self.n_weights, self.quantiles.shape[1])
        low_and_step, levels = _quantised(self.quantiles)
        body = _PREFIX.pack(_MAGIC, _VERSION, len(header)) + header
        body += low_and_step.astype("<f8").tobytes() + levels.astype("<u2").tobytes()
        return body + _CHECKSUM.pack(zlib.crc32(body))

    @staticmethod
    def from_bytes(data: bytes) -> SpectrumFeature:
        """Return the feature that `to_bytes` wrote.

        Raises:
            FeatureError: the bytes are cut short, damaged, or of another version.
        """
        return _read(bytes(data))

    def cdf(self) -> NDArray[np.float32]:
        """Return the feature of the paper's own code, which Act-Bench files contain: the layers' CDFs, concatenated.

        A layer with w weights has a histogram of floor(w / 100) bins over log-eigenvalues from -100 to 100, normalised
        and accumulated; here it is interpolated between the bins' means. Values beyond the ends count in the first or
        last bin.
        """
        ranks = (np.arange(self.quantiles.shape[1]) + 0.5) / self.quantiles.shape[1]
        layers = zip(self.quantiles, self.n_weights, strict=True)
        cdfs = [np.interp(_cdf_ends(n), q, ranks, left=0.0, right=1.0) for q, n in layers]
        for cdf in cdfs:
            cdf[-1:] = 1.0  # values beyond the upper end count in the last bin
        return _joined(cdfs)


def compress(spectrum: Sequence[LayerSpectrum]) -> SpectrumFeature:
    """Return the feature of a spectrum, at most `MAX_BYTES` long for up to a few hundred layers.

    Raises:
        FeatureError: the spectrum has no layers, or log-eigenvalues that are not finite.
    """
    names, n_weights = tuple(s.name for s in spectrum), tuple(s.n_weights for s in spectrum)
    bins = bins_that_fit(names, n_weights)
    if not spectrum:
        raise FeatureError("a spectrum needs at least one layer, got none")
    means = np.stack([bin_means(_finite(s), bins) for s in spectrum])
    return SpectrumFeature(names, n_weights, _restored(*_quantised(means)))


def _finite(layer: LayerSpectrum) -> Floats:
    logs = layer.log_eigenvalues()
    if not np.isfinite(logs).all():
        raise FeatureError(f"log-eigenvalues of '{layer.name}' must be finite, got NaN or infinity")
    return logs


def bins_that_fit(names: Sequence[str], n_weights: Sequence[int]) -> int:
    """Return the number of bins that the byte budget allows for these layers."""
    fixed = _PREFIX.size + len(_header(names, n_weights, MAX_BINS)) + 16 * len(names) + _CHECKSUM.size
    return max(MIN_BINS, min(MAX_BINS, (MAX_BYTES - fixed) // (2 * max(1, len(names)))))


def bin_means(ascending: Floats, bins: int) -> Floats:
    """Return the means of a sorted sample over `bins` intervals of equal probability; a value on an edge counts in part
    for both.

        >>> bin_means(np.array([0.0, 1.0, 2.0]), 2).round(6).tolist()
        [0.333333, 1.666667]
    """
    n = len(ascending)
    cumulated = np.concatenate([[0.0], np.cumsum(ascending, dtype=np.float64)])
    at_edges = np.interp(np.arange(bins + 1) * (n / bins), np.arange(n + 1), cumulated)
    # Differences of a cumulated sum round, and equal values could come out a little out of order.
    return np.maximum.accumulate(np.diff(at_edges) * (bins / n))


def feature_matrix(
    features: Sequence[SpectrumFeature | None], layer_weighting: LayerWeighting = "inverse"
) -> NDArray[np.float32]:
    """Return rows whose Manhattan distance approximates the spectrum distance: [n, layers * bins] float32.

    A row is NaN where there is no feature, and where some layers of the network had no gradient (a constant function
    cuts the network), so that the feature lacks layers that most features have.

    Raises:
        FeatureError: the features belong to different networks.
    """
    layouts = Counter(f.layout for f in features if f is not None)
    if not layouts:
        return np.full((len(features), 0), np.nan, dtype=np.float32)
    # The fullest layout is the network's; among features of equally many layers, the most frequent.
    layout = max(layouts, key=lambda each: (len(each[0]), layouts[each]))
    names, n_weights, bins = layout
    scales = (layer_coefficients(n_weights, layer_weighting) / bins)[:, None]
    matrix = np.full((len(features), len(names) * bins), np.nan, dtype=np.float32)
    for row, feature in zip(matrix, features, strict=True):
        if feature is not None and feature.layout == layout:
            row[:] = (feature.quantiles * scales).ravel()
        elif feature is not None and not set(feature.names) < set(names):
            raise FeatureError(f"features must be of one network, got {len(feature.names)} layers that differ")
    return matrix


def _cdf_ends(n_weights: int) -> Floats:
    """Return the upper ends of the histogram bins of the paper's code."""
    return np.linspace(*_CDF_RANGE, n_weights // _WEIGHTS_A_CDF_BIN + 1)[1:]


def _joined(layers: list[Floats]) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0), *layers]).astype(np.float32)


def _header(names: Sequence[str], n_weights: Sequence[int], bins: int) -> bytes:
    fields = {"bins": bins, "names": list(names), "n_weights": list(n_weights)}
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def _quantised(means: Floats) -> tuple[Floats, NDArray[np.uint16]]:
    """Return (low, step) of every layer [layers, 2] and the levels [layers, bins]."""
    low, high = means.min(axis=1, keepdims=True), means.max(axis=1, keepdims=True)
    # A power of two, and a multiple of it as the lowest level: both make `_restored` exact in binary.
    step = np.maximum(2.0 ** np.ceil(np.log2(np.maximum(high - low, _FINEST_STEP) / _LEVELS)), _FINEST_STEP)
    low = np.floor(low / step) * step
    levels = np.minimum(np.rint((means - low) / step), _LEVELS).astype(np.uint16)
    return np.concatenate([low, step], axis=1), levels


def _restored(low_and_step: Floats, levels: NDArray[np.uint16]) -> Floats:
    return low_and_step[:, :1] + low_and_step[:, 1:] * levels.astype(np.float64)


def _read(data: bytes) -> SpectrumFeature:
    if len(data) < _PREFIX.size + _CHECKSUM.size:
        raise FeatureError(f"a spectrum feature is cut short: {len(data)} bytes")
    magic, version, header_length = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise FeatureError(f"not a spectrum feature: starts with {magic!r} instead of {_MAGIC!r}")
    if version != _VERSION:
        raise FeatureError(f"spectrum feature of version {version}; this program reads version {_VERSION}")
    body, checksum = data[: -_CHECKSUM.size], _CHECKSUM.unpack(data[-_CHECKSUM.size :])[0]
    # The checksum covers the header too, so it is verified before any of the header's numbers is believed.
    if zlib.crc32(body) != checksum:
        raise FeatureError("a spectrum feature is damaged: its checksum does not match; compute it again")
    return _parse(body[_PREFIX.size :], header_length)


def _parse(body: bytes, header_length: int) -> SpectrumFeature:
    try:
        fields = json.loads(body[:header_length])
        names, n_weights, bins = tuple(fields["names"]), tuple(fields["n_weights"]), int(fields["bins"])
        numbers = body[header_length : header_length + 16 * len(names)]
        low_and_step = np.frombuffer(numbers, "<f8").reshape(len(names), 2)
        levels = np.frombuffer(body[header_length + 16 * len(names) :], "<u2").reshape(len(names), bins)
        if not all(isinstance(n, str) for n in names) or not all(type(n) is int for n in n_weights):
            raise FeatureError("a spectrum feature's header has fields of wrong types")
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, FeatureError):
            raise
        raise FeatureError(f"a spectrum feature's header does not fit its body: {error}") from error
    return SpectrumFeature(names, n_weights, _restored(low_and_step, levels))
