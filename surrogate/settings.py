"""The settings of a surrogate, and the one place that makes a policy of them.

The driver has features of a run's candidates, `analysis` those of a benchmark's functions; what is done with the
features is the same. Both pass functions that return the map or the distances of their candidates, because a map takes
long to compute and not every setting needs one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from aquasurf_ray.surrogate.embedding import Embedding
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.gaussian_process import Acquisition
from aquasurf_ray.surrogate.metric_space import MetricSpace, PairwiseDistances
from aquasurf_ray.surrogate.pairs import WEIGHTS, space_of_pairs
from aquasurf_ray.surrogate.policy import PredictorPolicy
from aquasurf_ray.surrogate.predictors import (
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

MetricMaker = Callable[["SurrogateSettings", int], MetricRegressor]

LEARNED_BALANCES = (0.25, 0.5, 0.75)
"""Without 0 and 1: a few results can make one of the features look useless for the rest of a search."""


@dataclass(frozen=True)
class SurrogateSettings:
    """The settings of a surrogate. Those after `space` have the paper's values as defaults.

    Args:
        regressor: a name in `surrogate.regressors.REGRESSORS`.
        features: "both", "spectrum" or "outputs".
        space: where regressors work: "umap", on the map in two dimensions, or "metric", on distances of the features
            themselves.
        weighting: the weighting of layers in the spectrum distance: "inverse", "uniform" or "size".
        fisher: the kind of spectra: "sampled" or "empirical".
        n_neighbors_outputs, n_neighbors_spectrum, min_dist, combine, layout_seed: settings of the map; see
            `EmbeddingConfig`.
        k: the number of neighbours for knr.
        acquisition: the acquisition function for gp: "mean", "ucb" or "ei".
        balance: the balance of outputs and spectra in the metric space: "equal", the share of outputs between 0 and 1,
            or, for gp, "learned" from the results, between a quarter and three quarters.
        diverged, targets, pending: see `PredictorPolicy`.
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
    k: int = 3
    acquisition: str = "mean"
    balance: str = "equal"
    diverged: str = "worst"
    targets: str = "scores"
    pending: str = "liar"

    @property
    def of_policy(self) -> dict[str, Any]:
        """The settings that `PredictorPolicy` takes, which checks them."""
        return {"diverged": self.diverged, "targets": self.targets, "pending": self.pending}


AQUASURF = SurrogateSettings()
"""The configuration of the AQuaSurF authors."""

METRIC = SurrogateSettings(regressor="gp", space="metric", acquisition="ucb", targets="ranks", pending="believer")
"""A Gaussian process on the distances of the features themselves, on ranks, by the upper confidence bound."""

SURROGATES = {"aquasurf": AQUASURF, "metric": METRIC}
"""The surrogates by the names that a run's configuration uses."""


METRIC_REGRESSORS: dict[str, MetricMaker] = {
    "knr": lambda settings, seed: MetricNeighbors(settings.k),
    "rfr": lambda settings, seed: MetricForest(seed),
    "svr": lambda settings, seed: MetricVectors(),
    "gp": lambda settings, seed: MetricProcess(
        cast(Acquisition, settings.acquisition), LEARNED_BALANCES if settings.balance == "learned" else ()
    ),
}
"""The regressors that work on distances; a new one is one line here. Those on the map are in
`surrogate.regressors.REGRESSORS`."""


def _no_map() -> Embedding:
    raise SurrogateError("space is 'umap', but the candidates have no map")


def _no_distances() -> Sequence[PairwiseDistances]:
    raise SurrogateError("space is 'metric', but the candidates have no distances")


def policy_of(
    settings: SurrogateSettings,
    seed: int,
    *,
    embedding: Callable[[], Embedding] = _no_map,
    features: Callable[[], Sequence[PairwiseDistances]] = _no_distances,
    values: Sequence[float] = (),
) -> PredictorPolicy:
    """Return the policy of these settings; arguments and errors as for `predictor_of`."""
    predictor = predictor_of(settings, seed, embedding=embedding, features=features, values=values)
    return PredictorPolicy(predictor, seed, **settings.of_policy)


def predictor_of(
    settings: SurrogateSettings,
    seed: int,
    *,
    embedding: Callable[[], Embedding] = _no_map,
    features: Callable[[], Sequence[PairwiseDistances]] = _no_distances,
    values: Sequence[float] = (),
    metric_regressors: Mapping[str, MetricMaker] = METRIC_REGRESSORS,
) -> Predictor:
    """Return the predictor of these settings.

    Args:
        settings: how the surrogate is made.
        seed: the random seed of the regressor.
        embedding: returns the map of the candidates; called only for the space "umap".
        features: returns the distances of the candidates by each feature in use, outputs before spectra; called only
            for the space "metric".
        values: the values of one further input; candidates are then pairs of a function and a value
            (`surrogate.pairs`), and only the space "metric" has them, with equal shares of the features where
            `balance` is "learned".
        metric_regressors: the regressors on distances by name. Replays pass experimental ones that no run can choose.

    Raises:
        SurrogateError: a setting is out of its range.
    """
    if settings.space == "umap":
        if values:
            raise SurrogateError("space is 'umap', whose map has no place for a further input; pairs need 'metric'")
        return _on_map(settings, embedding(), seed)
    if settings.space == "metric":
        regressor = _metric_regressor(settings, seed, metric_regressors)
        if not values:
            return MetricPredictor(MetricSpace(features(), _balances(settings)), regressor)
        if isinstance(regressor, MetricProcess):
            # Learning what the features count as well would be twelve fits of each result instead of four.
            regressor = replace(regressor, weights=WEIGHTS, balances=())
        return MetricPredictor(space_of_pairs(features(), _balances(settings), values), regressor)
    raise SurrogateError(f"space must be umap or metric, got {settings.space!r}")


def _on_map(settings: SurrogateSettings, embedding: Embedding, seed: int) -> MapPredictor:
    def make() -> Regressor:
        name = settings.regressor
        return KNeighborsRegressor(settings.k) if name == "knr" else make_regressor(name, seed)

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
        raise SurrogateError(f"balance must be equal, learned or a share between 0 and 1, got {settings.balance!r}")
    return share, 1 - share


def _metric_regressor(settings: SurrogateSettings, seed: int, makers: Mapping[str, MetricMaker]) -> MetricRegressor:
    name = settings.regressor
    if name not in makers:
        raise SurrogateError(f"unknown regressor {name!r}; choose one of {', '.join(makers)}")
    # Refused rather than ignored: a run would otherwise record settings that had no effect.
    if name != "gp" and (settings.acquisition != "mean" or settings.balance == "learned"):
        raise SurrogateError(
            f"regressor '{name}' has no uncertainty; acquisition functions and a learned balance need gp"
        )
    return makers[name](settings, seed)
