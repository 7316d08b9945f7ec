"""How the surrogates of a search are put together from a benchmark, and the names that say it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.features import embedding_of, made_once, spectrum_rows
from aquasurf_ray.surrogate.distances import LayerWeighting
from aquasurf_ray.surrogate.embedding import Embedding, EmbeddingConfig, Features
from aquasurf_ray.surrogate.layout import Combination
from aquasurf_ray.surrogate.metric_space import FeatureDistances, PartlyKnown
from aquasurf_ray.surrogate.policy import Policy
from aquasurf_ray.surrogate.settings import AQUASURF, SurrogateSettings, policy_of

Mask = NDArray[np.bool_]

DRAWS = 5  # of functions whose spectrum is known


def fitting(settings: SurrogateSettings, benchmark: Benchmark) -> SurrogateSettings:
    """The settings with the only kind of spectra that the benchmark has, if it has one: Act-Bench's are empirical."""
    kinds = list(benchmark.spectra)
    return replace(settings, fisher=kinds[0]) if len(kinds) == 1 else settings


def parse_settings(name: str, unsaid: SurrogateSettings = AQUASURF) -> SurrogateSettings:
    """The settings that a name like REGRESSOR/FEATURES/SPACE:SETTING=VALUE says, and for the rest `unsaid`.

    Raises:
        AnalysisError: an unknown setting, or a value of the wrong type.

    >>> parse_settings("svr/outputs/umap:n_neighbors_outputs=5").n_neighbors_outputs
    5
    """
    parts, *options = name.split(":")
    regressor, features, space = parts.split("/")
    values: dict[str, Any] = {"regressor": regressor, "features": features, "space": space}
    kinds: dict[str, Any] = {field.name: type(field.default) for field in fields(SurrogateSettings)}
    for option in options:
        key, equals, text = option.partition("=")
        if key not in kinds or not equals or key in values:
            raise AnalysisError(f"'{option}' in '{name}' is no setting; there are: {', '.join(list(kinds)[3:])}")
        try:
            values[key] = kinds[key](text)
        except ValueError:
            raise AnalysisError(f"'{option}' in '{name}' must be {kinds[key].__name__}") from None
    return replace(unsaid, **values)


def surrogate_policy(settings: SurrogateSettings, benchmark: Benchmark, seed: int) -> Policy:
    """The policy of these settings; its own chance comes from `seed`.

    Raises:
        SurrogateError: a setting is out of its range.
        BenchmarkError: the benchmark lacks the spectra.
    """
    return policy_of(
        settings,
        seed,
        embedding=lambda: _embedding(settings, benchmark, seed),
        features=lambda: surrogate_features(settings, benchmark, seed),
    )


def _embedding(settings: SurrogateSettings, benchmark: Benchmark, seed: int) -> Embedding:
    config = EmbeddingConfig(  # which checks what is cast here
        features=cast(Features, settings.features),
        n_neighbors_outputs=settings.n_neighbors_outputs,
        n_neighbors_spectrum=settings.n_neighbors_spectrum,
        min_dist=settings.min_dist,
        combine=cast(Combination, settings.combine),
        seed=settings.layout_seed + seed % settings.layouts,
    )
    weighting = cast(LayerWeighting, settings.weighting)
    known = _with_spectrum(settings, len(benchmark), seed)
    return embedding_of(benchmark, config, settings.fisher, weighting, frozenset(np.flatnonzero(~known).tolist()))


def surrogate_features(
    settings: SurrogateSettings, benchmark: Benchmark, seed: int
) -> list[FeatureDistances | PartlyKnown]:
    """The distances by outputs, then by spectra, that these settings use."""
    EmbeddingConfig(features=cast(Features, settings.features))  # which checks the name
    found: list[FeatureDistances | PartlyKnown] = []
    if settings.features != "spectrum":
        rows = benchmark.outputs
        found.append(made_once(benchmark, "outputs' distances", lambda: FeatureDistances(rows, "euclidean")))
    if settings.features != "outputs":
        weighting = cast(LayerWeighting, settings.weighting)
        spectra = spectrum_rows(benchmark, settings.fisher, weighting)
        key = ("spectra's distances", settings.fisher, weighting)
        feature = made_once(benchmark, key, lambda: FeatureDistances(spectra, "manhattan"))
        some = settings.spectra or settings.on_demand
        found.append(PartlyKnown(feature, _with_spectrum(settings, len(benchmark), seed)) if some else feature)
    return found


def _with_spectrum(settings: SurrogateSettings, n: int, seed: int) -> Mask:
    """Of which functions the spectrum is known at the start, bool [n]."""
    known = np.ones(n, dtype=np.bool_)
    if settings.on_demand:
        known[:] = False
    elif settings.spectra:
        known[np.random.default_rng(seed % DRAWS).permutation(n)[settings.spectra :]] = False
    return known
