"""The two distances between activation functions: that of their Fisher spectra and that of their outputs.

    spectra   d(a, b) = sum over layers l of c_l W1(a_l, b_l)      c_l = 1 / w_l in the paper
    outputs   d(a, b) = sqrt(mean over i of (a_i - b_i)^2)

W1 is the 1-D Wasserstein distance between the log-eigenvalues of a layer, w_l the layer's number of weights. The values
here are exact, from full lists; `surrogate.spectra` approximates the first distance from stored features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aquasurf_ray.surrogate.errors import SurrogateError

Floats = NDArray[np.float64]
LayerWeighting = Literal["inverse", "uniform", "size"]


class FeatureError(SurrogateError):
    """Features are not comparable, not well formed, or not readable."""


class LayerSpectrum(Protocol):
    """The part of a layer's spectrum that the surrogate needs."""

    @property
    def name(self) -> str: ...

    @property
    def n_weights(self) -> int: ...

    def log_eigenvalues(self) -> Floats:
        """Return the sorted log-eigenvalues [n_weights]."""
        ...


def layer_coefficients(n_weights: Sequence[int], layer_weighting: LayerWeighting) -> Floats:
    """Return the coefficient c_l of every layer, [layers].

    "inverse" is 1 / w_l, the paper's formula; "uniform" is 1 / layers, a mean over layers; "size" is w_l / sum of w, a
    mean over weights, which is what the paper's code computes in effect.

    >>> layer_coefficients([1, 3], "size").tolist()
    [0.25, 0.75]
    """
    w: Floats = np.asarray(n_weights, dtype=np.float64)
    if w.ndim != 1 or len(w) == 0 or not (w > 0).all():
        raise FeatureError(f"numbers of weights must be positive, got {list(n_weights)}")
    if layer_weighting not in get_args(LayerWeighting):
        raise FeatureError(f"layer_weighting must be one of {get_args(LayerWeighting)}, got {layer_weighting!r}")
    power = {"inverse": -1, "uniform": 0, "size": 1}[layer_weighting]
    coefficients: Floats = w**power
    return coefficients if layer_weighting == "inverse" else coefficients / coefficients.sum()


def spectrum_distance(
    a: Sequence[LayerSpectrum], b: Sequence[LayerSpectrum], layer_weighting: LayerWeighting = "inverse"
) -> float:
    """Return the exact distance between two spectra of one network.

    Raises:
        FeatureError: the spectra differ in layers, or log-eigenvalues are not finite.
    """
    layers = [(layer.name, layer.n_weights) for layer in a]
    if layers != [(layer.name, layer.n_weights) for layer in b]:
        raise FeatureError(f"spectra must have the same layers, got {len(a)} and {len(b)} that differ")
    coefficients = layer_coefficients([n for _, n in layers], layer_weighting)
    # Both samples have as many values, so the optimal transport pairs equal ranks.
    apart = [wasserstein(x.log_eigenvalues(), y.log_eigenvalues()) for x, y in zip(a, b, strict=True)]
    return float(coefficients @ np.array(apart))


def wasserstein(a: Floats, b: Floats) -> float:
    """Return W1 between two samples of the same size, sorted ascending: the mean distance of equal ranks.

    >>> wasserstein(np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    1.5
    """
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise FeatureError(f"log-eigenvalues must be as many on both sides, got {a.shape} and {b.shape}")
    distance = float(np.abs(a - b).mean())
    if not np.isfinite(distance):
        raise FeatureError(f"log-eigenvalues must be finite, their distance is {distance}")
    return distance


def output_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Return the root mean square difference of two functions' outputs [n] on one sample of inputs.

    >>> output_distance([0.0, 0.0], [3.0, 4.0])
    3.5355339059327378
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) == 0:
        raise FeatureError(f"outputs must be as many on both sides, got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise FeatureError("outputs must be finite; clip them before comparing")
    scale = max(float(np.abs(x - y).max()), np.finfo(np.float64).tiny)  # squares of huge outputs stay in range
    return scale * float(np.sqrt(np.mean(((x - y) / scale) ** 2)))
