"""Settings become the policy that one would make by hand, and what it stood on is known by its content."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.metric_space import FeatureDistances, MetricSpace
from aquasurf_ray.surrogate.policy import PredictorPolicy
from aquasurf_ray.surrogate.predictors import MetricPredictor, MetricProcess
from aquasurf_ray.surrogate.settings import AQUASURF, METRIC, METRIC_REGRESSORS, policy_of

N = 60


def distances(seed: int = 0) -> list[FeatureDistances]:
    """By outputs and spectra, which one candidate in ten lacks; number 7 lacks both."""
    rng = np.random.default_rng(seed)
    outputs, spectra = rng.normal(size=(N, 3)).astype(np.float32), rng.normal(size=(N, 4)).astype(np.float32)
    spectra[7::10] = np.nan
    outputs[7] = np.nan
    return [FeatureDistances(outputs, "euclidean"), FeatureDistances(spectra, "manhattan")]


def told(policy: PredictorPolicy, n: int = 20) -> PredictorPolicy:
    rng = np.random.default_rng(1)
    for candidate in rng.permutation(N)[:n].tolist():
        policy.observe(candidate, None if candidate % 7 == 0 else float(rng.normal()))
    return policy


def test_metric_is_a_process_on_ranks_by_the_upper_confidence_bound_that_believes_itself() -> None:
    space = MetricSpace(distances(), (0.5, 0.5))
    predictor = MetricPredictor(space, MetricProcess("ucb"))
    by_hand = told(PredictorPolicy(predictor, 3, diverged="worst", targets="ranks", pending="believer"))
    policy = told(policy_of(METRIC, 3, features=distances))
    assert policy.suggest_batch(N) == by_hand.suggest_batch(N)
    ignoring = told(policy_of(replace(METRIC, diverged="ignore"), 3, features=distances))
    assert ignoring.suggest() != policy.suggest(), "what diverged is learnt from"


def test_what_has_no_feature_comes_last() -> None:
    suggested = told(policy_of(METRIC, 0, features=distances)).suggest_batch(N)
    assert (suggested[-1].candidate, suggested[-1].predicted_score, suggested[-1].neighbors) == (7, None, ())
    assert {17, 27} & {s.candidate for s in suggested[:-1] if s.predicted_score is not None}


@pytest.mark.parametrize("regressor", METRIC_REGRESSORS)
def test_every_regressor_works_on_distances(regressor: str) -> None:
    settings = replace(METRIC, regressor=regressor, acquisition="mean", balance="equal")
    assert told(policy_of(settings, 0, features=distances)).suggest() is not None


def test_a_place_that_is_not_there_is_reported() -> None:
    with pytest.raises(SurrogateError, match="the candidates have no map"):
        policy_of(AQUASURF, 0, features=distances)
    with pytest.raises(SurrogateError, match="the candidates have no distances"):
        policy_of(METRIC, 0)


def test_the_version_is_that_of_the_content() -> None:
    version = MetricSpace(distances(), (0.5, 0.5)).version
    assert version == MetricSpace(distances(), (0.5, 0.5)).version
    outputs, _ = distances()
    others = [
        MetricSpace(distances(1), (0.5, 0.5)),
        MetricSpace(distances(), (0.4, 0.6)),
        MetricSpace([outputs]),
    ]
    versions = {version, *(space.version for space in others)}
    assert len(versions) == 4
    assert told(policy_of(METRIC, 0, features=distances)).suggest().embedding_version == version  # type: ignore[union-attr]
