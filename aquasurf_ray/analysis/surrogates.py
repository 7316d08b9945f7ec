"""How the surrogates of a search are put together from a benchmark, and the settings that say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.analysis.benchmark import Benchmark
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.maps import embedding_of, made_once, spectrum_rows
from surrogate.distances import LayerWeighting
from surrogate.embedding import EmbeddingConfig, Features
from surrogate.errors import SurrogateError
from surrogate.layout import Combination
from surrogate.metric_space import FeatureDistances, MetricSpace, PartlyKnown
from surrogate.policy import Diverged, Pending, Policy, PredictorPolicy, Targets
from surrogate.predictors import (
    Acquisition,
    EnsemblePredictor,
    MapPredictor,
    MetricForest,
    MetricNeighbors,
    MetricPredictor,
    MetricProcess,
    MetricRegressor,
    MetricVectors,
    Predictor,
)
from surrogate.regressors import KNeighborsRegressor, Regressor, make_regressor
from surrogate.spectra_on_demand import SpectraOnDemandPolicy

Mask = NDArray[np.bool_]

DRAWS = 5  # of functions whose spectrum is known
LEARNED_BALANCES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class SurrogateSettings:
    """How a surrogate is made. The defaults of what follows `space` are the seed's.

    Args:
        regressor: a name in `surrogate.regressors.REGRESSORS`; several, joined by "+", are an ensemble by mean ranks.
        features: "both", "spectrum" or "outputs".
        space: where regressors work: "umap", on the map in two dimensions, or "metric", on distances of the features
            themselves; both, joined by "+", are an ensemble.
        weighting: of layers in the spectrum distance: "inverse", "uniform" or "size".
        fisher: which spectra: "sampled" or "empirical".
        n_neighbors_outputs, n_neighbors_spectrum, min_dist, combine, layout_seed: of the map; see `EmbeddingConfig`.
        layouts: so many layouts, of which a search takes number seed % layouts, as the seeds of real searches differ.
        k: neighbours of knr.
        acquisition: of gp: "mean", "ucb" or "ei".
        balance: of outputs and spectra in the metric space: "equal", the share of outputs between 0 and 1, or, for gp,
            "learned" from the results.
        diverged, targets, pending: see `PredictorPolicy`.
        spectra: of how many functions the spectrum is known, drawn at random (five draws, by the seed); 0 for all.
        on_demand: 0, or how many spectra are computed before each suggestion, for those that look best, up to
            `spectra`; in the metric space.
    """

    regressor: str = "knr"
    features: str = "both"
    space: str = "umap"
    weighting: str = "inverse"
    fisher: str = "sampled"
    n_neighbors_outputs: int = 15
    n_neighbors_spectrum: int = 3
    min_dist: float = 0.1
    combine: str = "union"
    layout_seed: int = 42
    layouts: int = 1
    k: int = 3
    acquisition: str = "mean"
    balance: str = "equal"
    diverged: str = "worst"
    targets: str = "scores"
    pending: str = "liar"
    spectra: int = 0
    on_demand: int = 0

    @classmethod
    def parse(cls, name: str) -> SurrogateSettings:
        """The settings that a name like REGRESSOR/FEATURES/SPACE:SETTING=VALUE says.

        Raises:
            AnalysisError: an unknown setting, or a value of the wrong type.

        >>> SurrogateSettings.parse("svr/outputs/umap:n_neighbors_outputs=5").n_neighbors_outputs
        5
        """
        parts, *options = name.split(":")
        regressor, features, space = parts.split("/")
        values: dict[str, Any] = {"regressor": regressor, "features": features, "space": space}
        kinds: dict[str, Any] = {field.name: type(field.default) for field in fields(cls)}
        for option in options:
            key, equals, text = option.partition("=")
            if key not in kinds or not equals or key in values:
                raise AnalysisError(f"'{option}' in '{name}' is no setting; there are: {', '.join(list(kinds)[3:])}")
            try:
                values[key] = kinds[key](text)
            except ValueError:
                raise AnalysisError(f"'{option}' in '{name}' must be {kinds[key].__name__}") from None
        return cls(**values)


SEED = SurrogateSettings()
"""The configuration of the AQuaSurF authors."""


def surrogate_policy(settings: SurrogateSettings, benchmark: Benchmark, seed: int) -> Policy:
    """The policy of these settings; its own chance comes from `seed`.

    Raises:
        SurrogateError: a setting is out of its range.
        BenchmarkError: the benchmark lacks the spectra.
    """
    one = settings.space == "metric" and "+" not in settings.regressor
    if settings.on_demand and (not one or settings.features == "outputs"):
        raise SurrogateError("spectra on demand are for one regressor in the metric space that uses spectra")
    predictors: list[Predictor] = []
    revealed: list[PartlyKnown] = []
    for space in settings.space.split("+"):
        for regressor in settings.regressor.split("+"):
            if space == "umap":
                predictors.append(_on_map(settings, benchmark, regressor, seed))
            elif space == "metric":
                features = _features(settings, benchmark, seed)
                revealed += [feature for feature in features if isinstance(feature, PartlyKnown)]
                metric_space = MetricSpace(features, _balances(settings))
                predictors.append(MetricPredictor(metric_space, _metric_regressor(settings, regressor, seed)))
            else:
                raise SurrogateError(f"space is {space!r}; choose umap or metric")
    predictor = predictors[0] if len(predictors) == 1 else EnsemblePredictor(predictors)
    how: dict[str, Any] = {
        "diverged": cast(Diverged, settings.diverged),
        "targets": cast(Targets, settings.targets),
        "pending": cast(Pending, settings.pending),
    }
    if settings.on_demand:
        (spectra,), budget = revealed, settings.spectra
        return SpectraOnDemandPolicy(predictor, spectra, budget=budget, at_once=settings.on_demand, seed=seed, **how)
    return PredictorPolicy(predictor, seed, **how)


def _on_map(settings: SurrogateSettings, benchmark: Benchmark, regressor: str, seed: int) -> MapPredictor:
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
    embedding = embedding_of(benchmark, config, settings.fisher, weighting, frozenset(np.flatnonzero(~known).tolist()))

    def make() -> Regressor:
        return KNeighborsRegressor(settings.k) if regressor == "knr" else make_regressor(regressor, seed)

    return MapPredictor(embedding, make, cast(Acquisition, settings.acquisition))


def _features(settings: SurrogateSettings, benchmark: Benchmark, seed: int) -> list[FeatureDistances | PartlyKnown]:
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


def _balances(settings: SurrogateSettings) -> tuple[float, ...]:
    if settings.features != "both":
        return (1.0,)
    if settings.balance in ("equal", "learned"):
        return (0.5, 0.5)
    try:
        share = float(settings.balance)
    except ValueError:
        share = np.nan
    if not 0 <= share <= 1:
        raise SurrogateError(f"balance is {settings.balance!r}; give equal, learned, or a share between 0 and 1")
    return share, 1 - share


def _metric_regressor(settings: SurrogateSettings, name: str, seed: int) -> MetricRegressor:
    makers: dict[str, Callable[[], MetricRegressor]] = {
        "knr": lambda: MetricNeighbors(settings.k),
        "gp": lambda: MetricProcess(
            cast(Acquisition, settings.acquisition), LEARNED_BALANCES if settings.balance == "learned" else ()
        ),
        "svr": MetricVectors,
        "rfr": lambda: MetricForest(seed),
    }
    if name not in makers:
        raise SurrogateError(f"unknown regressor {name!r}; choose one of {', '.join(makers)}")
    if name != "gp" and (settings.acquisition != "mean" or settings.balance == "learned"):
        raise SurrogateError(f"regressor '{name}' knows no uncertainty; acquisition and learned balance are gp's")
    return makers[name]()
