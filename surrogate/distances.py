"""The two distances between activation functions: that of their Fisher spectra and that of their outputs.

    spectra   d(a, b) = sum over layers l of c_l W1(a_l, b_l)      c_l = 1 / w_l in the paper
    outputs   d(a, b) = sqrt(mean over i of (a_i - b_i)^2)

W1 is the 1-D Wasserstein distance between the log-eigenvalues of a layer, w_l the layer's number of weights. Neither
distance is computed from full lists: `surrogate.spectra` stores quantiles, whose differences approximate the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

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
