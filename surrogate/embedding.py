"""The map of the candidates that regressors work on: UMAP of outputs and of spectra, joined in two dimensions.

Invariants: an embedding depends on features and config alone, never on scores, so one is computed for each set of
candidates; its content digest (`embedding_version`) is known before it is computed; row i is candidate i. The caller
caches it.

For complete features and seed 42 the coordinates are those of umap-learn's `+` of two fits (the method of the paper's
authors; `+` has seed 42 built in), and for one feature those of `UMAP(..., random_state=seed).fit`: see
`surrogate.umap_layout`. Where features are missing or extreme:

- values beyond +-1e15 (float32 overflow included) are clipped, so that squared distances stay finite;
- a function that is NaN anywhere is left out of the outputs graph, one without a finite spectrum out of the spectrum
  graph; in the union it then has its other feature alone;
- a candidate with neither, or without any neighbour, is not placed: its coordinates are NaN;
- fewer than four candidates are placed by principal coordinates, since UMAP needs more.

umap-learn and numba take seconds to import, so they are imported when first needed. Call `embed` from
one thread at a time: numba's own threads do not support more.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from aquasurf_ray.surrogate.errors import SurrogateError, check_choice
from aquasurf_ray.surrogate.umap_layout import Combination, Feature, umap_layout

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Features = Literal["both", "spectrum", "outputs"]

MAX_OUTPUT = 1e15  # a sum of 1,000 squared differences of such values is below float32's largest, 3e38
_ALGORITHM = 1  # raise it when the same features would give other coordinates
_MIN_FOR_UMAP = 4


@dataclass(frozen=True)
class EmbeddingConfig:
    """The settings of the map; the defaults are those of the AQuaSurF authors.

    Args:
        features: the features in use.
        n_neighbors_outputs: the size of a neighbourhood in outputs, the candidate itself included.
        n_neighbors_spectrum: the size of a neighbourhood in spectra.
        min_dist: how close UMAP packs points, 0 to 1.
        combine: the union (umap-learn's `+`) or the intersection (its `*`) of the fuzzy graphs.
        seed: the random seed of the layout; umap-learn's `+` uses 42.

    Raises:
        SurrogateError: a setting is out of its range.
    """

    features: Features = "both"
    n_neighbors_outputs: int = 15
    n_neighbors_spectrum: int = 3
    min_dist: float = 0.1
    combine: Combination = "union"
    seed: int = 42

    def __post_init__(self) -> None:
        check_choice("features", self.features, get_args(Features))
        check_choice("combine", self.combine, get_args(Combination))
        for name in ("n_neighbors_outputs", "n_neighbors_spectrum"):
            if getattr(self, name) < 2:
                raise SurrogateError(f"{name} is {getattr(self, name)}; it must be at least 2")
        if not 0 <= self.min_dist <= 1:
            raise SurrogateError(f"min_dist is {self.min_dist}; it must be between 0 and 1")
        if not 0 <= self.seed < 2**32:
            raise SurrogateError(f"seed is {self.seed}; it must be between 0 and 2**32 - 1")


@dataclass(frozen=True, eq=False)
class Embedding:
    """The place of each candidate: coordinates float32 [n, 2] (NaN if none), their version, placed bool [n]."""

    coordinates: Floats
    version: str
    placed: Mask

    def __post_init__(self) -> None:
        n = len(self.placed)
        if self.coordinates.shape != (n, 2):
            raise SurrogateError(f"coordinates have shape {self.coordinates.shape}; expected ({n}, 2) like placed")

    def __len__(self) -> int:
        return len(self.placed)


def embedding_version(outputs: Floats, spectra: Floats, config: EmbeddingConfig) -> str:
    """Return the content digest of the embedding that `embed` would return, without computing it."""
    features = _features(outputs, spectra, config)
    digest = hashlib.sha256()
    # Another version of umap-learn may lay the same graph out differently.
    settings = {"algorithm": _ALGORITHM, "umap": metadata.version("umap-learn"), **asdict(config)}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for feature in features:
        digest.update(f"{feature.name} {feature.rows.shape}".encode())
        # Rows that are not usable have no influence on the map, so their values are left out of its version.
        digest.update(np.packbits(feature.usable).tobytes())
        digest.update(feature.subset(feature.usable).rows.data)
    return digest.hexdigest()[:32]


def embed(outputs: Floats, spectra: Floats, config: EmbeddingConfig | None = None) -> Embedding:
    """Map candidates to two dimensions; the same arguments give the same coordinates on one machine.

    Args:
        outputs: float32 [n, s], each function's values on the fixed sample; NaN where undefined.
        spectra: float32 [n, d], rows whose Manhattan distance is the spectrum distance; NaN rows where missing or
            diverged.
        config: the settings; the authors' by default.

    Raises:
        SurrogateError: the arrays are not two-dimensional, empty, or of different lengths.
    """
    config = config or EmbeddingConfig()
    version = embedding_version(outputs, spectra, config)
    features = [feature.shared() for feature in _features(outputs, spectra, config)]
    usable = np.logical_or.reduce([feature.usable for feature in features])
    coordinates = np.full((len(usable), 2), np.nan, dtype=np.float32)
    kept = [feature.subset(usable) for feature in features]
    if usable.sum() < _MIN_FOR_UMAP:
        coordinates[usable] = _principal_coordinates(kept)
    else:
        nonempty = [feature for feature in kept if feature.usable.any()]
        coordinates[usable] = umap_layout(nonempty, config.combine, config.min_dist, config.seed)
    return Embedding(coordinates, version, _complete(coordinates))


def _features(outputs: Floats, spectra: Floats, config: EmbeddingConfig) -> list[Feature]:
    outputs, spectra = _matrix("outputs", outputs), _matrix("spectra", spectra)
    if len(outputs) != len(spectra):
        raise SurrogateError(f"outputs has {len(outputs)} rows but spectra {len(spectra)}; give one row a candidate")
    features = []
    if config.features != "spectrum":
        clipped = np.clip(outputs, -MAX_OUTPUT, MAX_OUTPUT)
        features.append(Feature("outputs", clipped, _complete(clipped), "euclidean", config.n_neighbors_outputs))
    if config.features != "outputs":
        features.append(Feature("spectrum", spectra, _complete(spectra), "manhattan", config.n_neighbors_spectrum))
    return features


def _complete(rows: Floats) -> Mask:
    return np.asarray(np.isfinite(rows).all(axis=1), dtype=np.bool_)


def _matrix(name: str, values: Floats) -> Floats:
    array = np.ascontiguousarray(values, dtype=np.float32)
    if array.ndim != 2 or 0 in array.shape:
        raise SurrogateError(f"{name} has shape {array.shape}; expected one row a candidate, at least one column")
    return array


def _principal_coordinates(features: list[Feature]) -> Floats:
    """Return the classical scaling (Torgerson 1952) of the mean of the features' distances, each relative to its
    largest."""
    n = len(features[0].usable)
    distances = [_relative_distances(feature) for feature in features if feature.usable.any()]
    if n < 2 or not distances:
        return np.zeros((n, 2), dtype=np.float32)
    counted = np.sum([~np.isnan(d) for d in distances], axis=0)
    mean = np.nansum(distances, axis=0) / np.maximum(counted, 1)
    # Two candidates without a common feature are as far apart as any two can be: 1 is the largest relative distance.
    mean[counted == 0] = 1.0
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-centre @ mean**2 @ centre / 2)
    coordinates = np.zeros((n, 2))
    width = min(n, 2)
    # `eigh` returns eigenvalues in ascending order; the map needs the two largest, the larger one first.
    coordinates[:, :width] = (vectors * np.sqrt(np.maximum(values, 0)))[:, ::-1][:, :width]
    return coordinates.astype(np.float32)


def _relative_distances(feature: Feature) -> NDArray[np.float64]:
    rows = feature.rows.astype(np.float64)
    distances: NDArray[np.float64] = cdist(rows, rows, "cityblock" if feature.metric == "manhattan" else "euclidean")
    distances[~feature.usable, :] = distances[:, ~feature.usable] = np.nan
    largest = np.nanmax(distances)
    return distances / largest if largest > 0 else distances
