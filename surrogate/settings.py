"""How the surrogate of a search is made: the settings that say it, and the one place that makes a policy of them.

The driver has features of a run's candidates, analysis those of a benchmark's functions; what is done with them is the
same. Both hand over where the candidates lie when they are asked for it, since a map takes long to make.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.analysis.replay.prior_process import TransferredProcess
from aquasurf_ray.analysis.replay.spectra_on_demand import SpectraOnDemandPolicy
from aquasurf_ray.surrogate.embedding import Embedding
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.metric_space import FeatureDistances, MetricSpace, PartlyKnown
from aquasurf_ray.surrogate.policy import Diverged, Pending, PredictorPolicy, Targets
from aquasurf_ray.surrogate.predictors import (
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
from aquasurf_ray.surrogate.regressors import KNeighborsRegressor, Regressor, make_regressor

Distances = Sequence[FeatureDistances | PartlyKnown]
Scores = NDArray[np.float64]
MetricMaker = Callable[["SurrogateSettings", int], MetricRegressor]

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


AQUASURF = SurrogateSettings()
"""The configuration of the AQuaSurF authors."""

METRIC = SurrogateSettings(regressor="gp", space="metric", acquisition="ei", targets="ranks", pending="believer")
"""A Gaussian process on the features' own distances, on ranks, by expected improvement."""

SURROGATES = {"aquasurf": AQUASURF, "metric": METRIC}
"""By the names that a run has for them."""


METRIC_REGRESSORS: dict[str, MetricMaker] = {
    "knr": lambda settings, seed: MetricNeighbors(settings.k),
    "rfr": lambda settings, seed: MetricForest(seed),
    "svr": lambda settings, seed: MetricVectors(),
    "gp": lambda settings, seed: MetricProcess(
        cast(Acquisition, settings.acquisition), LEARNED_BALANCES if settings.balance == "learned" else ()
    ),
}
"""Those that work on distances; a new one is one line here. On the map there are `surrogate.regressors.REGRESSORS`."""


def _no_map() -> Embedding:
    raise SurrogateError("space is 'umap', but the candidates have no map")


def _no_distances() -> Distances:
    raise SurrogateError("space is 'metric', but the candidates have no distances")


def policy_of(
    settings: SurrogateSettings,
    seed: int,
    *,
    embedding: Callable[[], Embedding] = _no_map,
    features: Callable[[], Distances] = _no_distances,
    prior: Callable[[], Scores] | None = None,
) -> PredictorPolicy:
    """The policy of these settings.

    Args:
        seed: of its own chance.
        embedding: gives the map of the candidates; asked where `settings.space` has "umap".
        features: gives their distances, by outputs, then by spectra, of those that are used; asked where it has
            "metric", once a regressor.
        prior: gives what another task's results say of them, see `aquasurf_ray.analysis.replay.prior_process`; for gp
        in the metric space.

    Raises:
        SurrogateError: a setting is out of its range.
    """
    one = settings.space == "metric" and "+" not in settings.regressor
    if prior is not None and (not one or settings.regressor != "gp"):
        raise SurrogateError(f"results of another task are for gp/metric, got {settings.regressor}/{settings.space}")
    if settings.on_demand and (not one or settings.features == "outputs"):
        raise SurrogateError("spectra on demand are for one regressor in the metric space that uses spectra")
    predictors: list[Predictor] = []
    revealed: list[PartlyKnown] = []
    for space in settings.space.split("+"):
        for regressor in settings.regressor.split("+"):
            if space == "umap":
                predictors.append(_on_map(settings, embedding(), regressor, seed))
            elif space == "metric":
                found = features()
                revealed += [feature for feature in found if isinstance(feature, PartlyKnown)]
                metric_space = MetricSpace(found, _balances(settings))
                predictors.append(MetricPredictor(metric_space, _metric_regressor(settings, regressor, seed, prior)))
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


def _on_map(settings: SurrogateSettings, embedding: Embedding, regressor: str, seed: int) -> MapPredictor:
    def make() -> Regressor:
        return KNeighborsRegressor(settings.k) if regressor == "knr" else make_regressor(regressor, seed)

    return MapPredictor(embedding, make, cast(Acquisition, settings.acquisition))


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


def _metric_regressor(
    settings: SurrogateSettings, name: str, seed: int, prior: Callable[[], Scores] | None
) -> MetricRegressor:
    if name not in METRIC_REGRESSORS:
        raise SurrogateError(f"unknown regressor {name!r}; choose one of {', '.join(METRIC_REGRESSORS)}")
    if name != "gp" and (settings.acquisition != "mean" or settings.balance == "learned"):
        raise SurrogateError(f"regressor '{name}' knows no uncertainty; acquisition and learned balance are gp's")
    regressor = METRIC_REGRESSORS[name](settings, seed)
    return TransferredProcess(prior(), regressor) if prior and isinstance(regressor, MetricProcess) else regressor
