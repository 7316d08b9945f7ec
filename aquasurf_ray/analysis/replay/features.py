"""Features of a benchmark's functions as arrays, and their embeddings, each computed once.

Neither depends on scores, so all searches on a benchmark share them: in memory as long as the benchmark exists, and
embeddings also on disk, under the digest of their content, in `$AQUASURF_CACHE`, else `~/.cache/aquasurf-ray`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
from aquasurf_ray.analysis.errors import BenchmarkError
from aquasurf_ray.cached_files import Arrays, default_folder, read_arrays, write_arrays
from aquasurf_ray.surrogate.distances import LayerWeighting
from aquasurf_ray.surrogate.embedding import Embedding, EmbeddingConfig, embed, embedding_version
from aquasurf_ray.surrogate.spectra import feature_matrix

Floats = NDArray[np.float32]
T = TypeVar("T")

# Weak, so that what was computed for a benchmark goes with it.
_made: WeakKeyDictionary[Benchmark, dict[Any, Any]] = WeakKeyDictionary()


def made_once(benchmark: Benchmark, key: Any, make: Callable[[], T]) -> T:
    """Return the result of `make`, which is stored with the benchmark under `key`."""
    results = _made.setdefault(benchmark, {})
    if key not in results:
        results[key] = make()
    value: T = results[key]
    return value


def spectrum_rows(benchmark: Benchmark, fisher: str, weighting: LayerWeighting) -> Floats:
    """Return rows whose Manhattan distance is the spectrum distance, float32 [n, d]; NaN where there is no spectrum.

    Raises:
        BenchmarkError: the benchmark has no spectra of this kind.
    """
    if fisher not in benchmark.spectra:
        kinds = " or ".join(f"fisher={kind}" for kind in sorted(benchmark.spectra))
        instead = f"set {kinds}" if kinds else "it has none: search by features 'outputs'"
        raise BenchmarkError(f"benchmark '{benchmark.name}' has no {fisher} spectra; {instead}")
    spectra = benchmark.spectra[fisher]
    return made_once(benchmark, ("rows", fisher, weighting), lambda: feature_matrix(spectra, weighting))


def embedding_of(
    benchmark: Benchmark,
    config: EmbeddingConfig,
    fisher: str = "sampled",
    weighting: LayerWeighting = "inverse",
    without_spectrum: frozenset[int] = frozenset(),
) -> Embedding:
    """Return the embedding of all functions, of which some may have outputs but no spectrum."""

    def make() -> Embedding:
        n = len(benchmark)
        if config.features == "outputs":
            return kept_embedding(benchmark.outputs, np.full((n, 1), np.nan, dtype=np.float32), config)
        spectra = spectrum_rows(benchmark, fisher, weighting)
        if without_spectrum:
            # The rows are shared by all searches on the benchmark.
            spectra = spectra.copy()
            spectra[sorted(without_spectrum)] = np.nan
        return kept_embedding(benchmark.outputs, spectra, config)

    return made_once(benchmark, ("embedding", config, fisher, weighting, without_spectrum), make)


def kept_embedding(outputs: Floats, spectra: Floats, config: EmbeddingConfig) -> Embedding:
    """Return the result of `surrogate.embedding.embed`, from disk if the same features were embedded before."""
    version = embedding_version(outputs, spectra, config)
    path = default_folder() / f"embedding-{version}.npz"

    def coordinates_of(stored: Arrays) -> Floats:
        coordinates: Floats = stored["coordinates"]
        if coordinates.shape != (len(outputs), 2) or coordinates.dtype != np.float32:
            raise ValueError(f"coordinates are {coordinates.dtype} of shape {coordinates.shape}")
        return coordinates

    coordinates = read_arrays(path, "embedding", coordinates_of)
    if coordinates is not None:
        return Embedding(coordinates, version, np.asarray(np.isfinite(coordinates).all(axis=1)))
    embedding = embed(outputs, spectra, config)
    write_arrays(path, "embedding", {"coordinates": embedding.coordinates})
    return embedding
