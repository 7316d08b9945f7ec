"""The surrogates that only replays have: ensembles, and spectra that are computed on demand."""

from __future__ import annotations

import numpy as np
import pytest

from aquasurf_ray.analysis.replay.ensemble import EnsemblePredictor
from aquasurf_ray.analysis.replay.spectra_on_demand import PartlyKnown, SpectraOnDemandPolicy
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.metric_space import FeatureDistances, MetricSpace
from aquasurf_ray.surrogate.predictors import MetricNeighbors, MetricPredictor, MetricProcess

N = 80


def two_features() -> tuple[np.ndarray, np.ndarray]:
    """Outputs [N, 5] and spectra [N, 8]."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, 5)).astype(np.float32), rng.exponential(size=(N, 8)).astype(np.float32)


def scores_of(outputs: np.ndarray) -> np.ndarray:
    return np.asarray(0.8 - 0.05 * np.abs(outputs[:, 0]) - 0.02 * np.abs(outputs[:, 1]), dtype=np.float64)


def test_a_revealed_spectrum_counts_from_then_on() -> None:
    _, spectra = two_features()
    spectra[7] = np.nan
    whole = FeatureDistances(spectra, "manhattan")
    partly = PartlyKnown(whole, np.arange(N) < 5)
    assert partly.of(1)[5:].tolist() == [1.0] * (N - 5)
    np.testing.assert_array_equal(partly.of(1)[:5], whole.of(1)[:5])
    version = partly.version
    partly.reveal([7, 50])
    assert partly.of(1)[50] == partly.of(50)[1] == whole.of(1)[50]
    assert not partly.known[7]
    assert partly.of(50)[50] == 0
    assert partly.version != version


def test_an_ensemble_ranks_by_mean_ranks() -> None:
    outputs, spectra = two_features()
    space = MetricSpace([FeatureDistances(outputs, "euclidean"), FeatureDistances(spectra, "manhattan")])
    known, scores = np.arange(20), scores_of(outputs)[:20]
    members = [MetricPredictor(space, regress) for regress in (MetricNeighbors(), MetricProcess())]
    prediction = EnsemblePredictor(members).predict(known, scores)
    each = [member.predict(known, scores).scores for member in members]
    np.testing.assert_allclose(prediction.scores, (each[0] + each[1]) / 2)
    worse = np.array([[(values < value).sum() for value in values] for values in each]).mean(axis=0)
    assert (np.argsort(prediction.merits[np.argsort(worse)], kind="stable") == np.arange(N)).mean() > 0.5
    assert worse[prediction.merits.argmax()] == worse.max()


def test_spectra_are_computed_before_each_suggestion_until_the_budget_is_spent() -> None:
    outputs, spectra = two_features()
    scores = scores_of(outputs)
    partly = PartlyKnown(FeatureDistances(spectra, "manhattan"), np.zeros(N, dtype=bool))
    by_outputs = FeatureDistances(outputs, "euclidean")
    space = MetricSpace([by_outputs, partly])
    policy = SpectraOnDemandPolicy(MetricPredictor(space, MetricNeighbors()), partly, budget=9, at_once=2)
    for candidate in (0, 1, 2):
        policy.observe(candidate, float(scores[candidate]))
    best = np.argsort(-MetricNeighbors()(MetricSpace([by_outputs]), np.arange(3), scores[:3]).scores)
    suggestion = policy.suggest()
    assert set(np.flatnonzero(partly.known)) == {0, 1, 2, *[i for i in best.tolist() if i > 2][:2]}
    for _ in range(5):
        assert suggestion is not None
        before = {*np.flatnonzero(partly.known), suggestion.candidate}
        policy.observe(suggestion.candidate, float(scores[suggestion.candidate]))
        suggestion = policy.suggest()
        assert partly.known.sum() == min(len(before) + 2, 9)
    assert partly.known.sum() == 9


def test_errors_name_the_values_received() -> None:
    outputs, _ = two_features()
    predictor = MetricPredictor(MetricSpace([FeatureDistances(outputs, "euclidean")]), MetricNeighbors())
    partly = PartlyKnown(FeatureDistances(outputs, "euclidean"), np.zeros(N, dtype=bool))
    with pytest.raises(SurrogateError, match="budget and at_once must be at least 0 and 1 spectra, got -1 and 1"):
        SpectraOnDemandPolicy(predictor, partly, budget=-1, at_once=1)
    with pytest.raises(SurrogateError, match="an ensemble needs at least one member, got none"):
        EnsemblePredictor([])
