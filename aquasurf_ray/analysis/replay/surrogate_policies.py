"""The surrogates of a replayed search: those that a run can choose, and experimental ones that only replays have.

A run's surrogate is one regressor on one map or metric space, with the spectra of all candidates
(`surrogate.settings`). Here there are ensembles, several layouts, and searches that know only some spectra as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.ensemble import EnsemblePredictor
from aquasurf_ray.analysis.replay.features import embedding_of, made_once, spectrum_rows
from aquasurf_ray.analysis.replay.reflections import reflected_distances
from aquasurf_ray.analysis.replay.spectra_on_demand import PartlyKnown, SpectraOnDemandPolicy
from aquasurf_ray.surrogate.distances import LayerWeighting
from aquasurf_ray.surrogate.embedding import Embedding, EmbeddingConfig, Features
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.metric_space import FeatureDistances
from aquasurf_ray.surrogate.policy import PredictorPolicy
from aquasurf_ray.surrogate.predictors import Predictor
from aquasurf_ray.surrogate.settings import SurrogateSettings, predictor_of
from aquasurf_ray.surrogate.umap_layout import Combination

Mask = NDArray[np.bool_]
Distances = Sequence[FeatureDistances | PartlyKnown]

DRAWS = 5  # different subsets of functions with a known spectrum; a search takes number seed % DRAWS


@dataclass(frozen=True)
class ReplaySettings(SurrogateSettings):
    """The settings of a run's surrogate and of those that only replays have.

    Args:
        regressor, space: several names joined by "+" are an ensemble by mean ranks.
        layouts: the number of layouts of the map; a search takes number seed % layouts, because the seeds of real
            searches differ.
        spectra: the number of functions whose spectrum is known, drawn at random by the seed; 0 for all.
        on_demand: 0, or the number of spectra that are computed before each suggestion for the candidates that look
            best, up to `spectra` in all; in the metric space.
        reflections: what the distances between outputs leave out: "none", "outputs" or "both" (`reflections`).
    """

    layouts: int = 1
    spectra: int = 0
    on_demand: int = 0
    reflections: str = "none"


DEFAULTS = ReplaySettings()
"""The configuration of the AQuaSurF authors."""


def fitting(settings: SurrogateSettings, benchmark: Benchmark) -> ReplaySettings:
    """Return the settings for a benchmark that has only one kind of spectra, as Act-Bench has only empirical ones."""
    replayed = ReplaySettings(**vars(settings))
    kinds = list(benchmark.spectra)
    return replace(replayed, fisher=kinds[0]) if len(kinds) == 1 else replayed


def parse_settings(name: str, defaults: ReplaySettings = DEFAULTS) -> ReplaySettings:
    """Return the settings in a name like REGRESSOR/FEATURES/SPACE:SETTING=VALUE; `defaults` has all others.

    Raises:
        AnalysisError: a setting is unknown, or a value has the wrong type.

    >>> parse_settings("svr/outputs/umap:n_neighbors_outputs=5").n_neighbors_outputs
    5
    """
    parts, *options = name.split(":")
    regressor, features, space = parts.split("/")
    values: dict[str, Any] = {"regressor": regressor, "features": features, "space": space}
    kinds: dict[str, Any] = {field.name: type(field.default) for field in fields(ReplaySettings)}
    known = list(kinds)[len(values) :]  # the first three are the name's own parts
    for key, text in settings_in(name, options, known).items():
        try:
            values[key] = kinds[key](text)
        except ValueError:
            raise AnalysisError(f"'{key}={text}' in '{name}' must be {kinds[key].__name__}") from None
    return replace(defaults, **values)


def settings_in(name: str, options: Iterable[str], known: Sequence[str]) -> dict[str, str]:
    """Return the values of the options SETTING=VALUE of an algorithm's name, by setting.

    Raises:
        AnalysisError: a setting is not known, or stands twice.
    """
    values: dict[str, str] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if key not in known or not equals or key in values:
            raise AnalysisError(
                f"'{option}' in '{name}' is not a setting; write SETTING=VALUE, each once, with: {', '.join(known)}"
            )
        values[key] = text
    return values


def surrogate_policy(settings: ReplaySettings, benchmark: Benchmark, seed: int) -> PredictorPolicy:
    """Return the policy of these settings; `seed` is its random seed.

    Raises:
        SurrogateError: a setting is out of its range.
        BenchmarkError: the benchmark lacks the spectra.
    """
    if settings.on_demand:
        return _on_demand(settings, benchmark, seed)
    members: list[Predictor] = [
        predictor_of(
            replace(settings, space=space, regressor=regressor),
            seed,
            embedding=lambda: _embedding(settings, benchmark, seed),
            features=lambda: surrogate_features(settings, benchmark, seed),
        )
        for space in settings.space.split("+")
        for regressor in settings.regressor.split("+")
    ]
    predictor = members[0] if len(members) == 1 else EnsemblePredictor(members)
    return PredictorPolicy(predictor, seed, **settings.of_policy)


def _on_demand(settings: ReplaySettings, benchmark: Benchmark, seed: int) -> SpectraOnDemandPolicy:
    if settings.space != "metric" or "+" in settings.regressor or settings.features == "outputs":
        raise SurrogateError("spectra on demand need a single regressor in the metric space that uses spectra")
    features = surrogate_features(settings, benchmark, seed)
    (spectra,) = (feature for feature in features if isinstance(feature, PartlyKnown))
    predictor = predictor_of(settings, seed, features=lambda: features)
    return SpectraOnDemandPolicy(
        predictor, spectra, budget=settings.spectra, at_once=settings.on_demand, seed=seed, **settings.of_policy
    )


def _embedding(settings: ReplaySettings, benchmark: Benchmark, seed: int) -> Embedding:
    config = EmbeddingConfig(  # checks what is cast here
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


def surrogate_features(settings: ReplaySettings, benchmark: Benchmark, seed: int) -> Distances:
    """Return the distances by outputs, then by spectra, as far as these settings use them."""
    EmbeddingConfig(features=cast(Features, settings.features))  # checks the name
    found: list[FeatureDistances | PartlyKnown] = []
    if settings.features != "spectrum":
        key = ("outputs' distances", settings.reflections)
        make = partial(reflected_distances, benchmark.functions, benchmark.outputs, settings.reflections)
        found.append(made_once(benchmark, key, make))
    if settings.features != "outputs":
        weighting = cast(LayerWeighting, settings.weighting)
        spectra = spectrum_rows(benchmark, settings.fisher, weighting)
        which = ("spectra's distances", settings.fisher, weighting)
        feature = made_once(benchmark, which, lambda: FeatureDistances(spectra, "manhattan"))
        # The distances are shared by all searches; what a search knows of them is its own.
        partly = settings.spectra or settings.on_demand
        found.append(PartlyKnown(feature, _with_spectrum(settings, len(benchmark), seed)) if partly else feature)
    return found


def _with_spectrum(settings: ReplaySettings, n: int, seed: int) -> Mask:
    """Return which functions have a known spectrum at the start, bool [n]."""
    known = np.ones(n, dtype=np.bool_)
    if settings.on_demand:
        known[:] = False
    elif settings.spectra:
        known[np.random.default_rng(seed % DRAWS).permutation(n)[settings.spectra :]] = False
    return known
