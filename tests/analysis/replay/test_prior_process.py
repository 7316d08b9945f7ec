"""What another task tells is believed as far as it proves true, and spectra of other networks are made to compare."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aquasurf_ray.analysis.replay.comparable_spectra import comparable_rows
from aquasurf_ray.analysis.replay.prior_process import (
    DOUBT,
    TransferredProcess,
    explained_by,
    transferred_policy,
    trust,
)
from aquasurf_ray.analysis.replay.prior_task import Source
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.metric_space import FeatureDistances, MetricSpace
from aquasurf_ray.surrogate.policy import PredictorPolicy, normal_ranks
from aquasurf_ray.surrogate.predictors import MetricPredictor, MetricProcess
from aquasurf_ray.surrogate.settings import METRIC, SurrogateSettings, policy_of
from aquasurf_ray.surrogate.spectra import SpectrumFeature

N = 60
RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(N, 3)).astype(np.float32)
TRUTH = np.sin(POINTS[:, 0]) + POINTS[:, 1] ** 2
PRIOR = normal_ranks(TRUTH)
KNOWN = np.arange(0, 40, 2)


def space() -> MetricSpace:
    return MetricSpace([FeatureDistances(POINTS, "euclidean")])


def policy(prior: np.ndarray | None) -> PredictorPolicy:
    features = [FeatureDistances(POINTS, "euclidean")]
    settings = replace(METRIC, features="outputs")
    if prior is None:
        return policy_of(settings, 3, features=lambda: features)
    return transferred_policy(settings, 3, lambda: features, prior[None])


def test_trust_is_the_shrunk_rank_correlation_and_never_negative() -> None:
    assert trust(PRIOR, np.exp(TRUTH)) == pytest.approx(N / (N + DOUBT))
    assert trust(PRIOR, -TRUTH) == 0.0
    assert trust(np.zeros(N), TRUTH) == 0.0
    assert trust(PRIOR[:1], TRUTH[:1]) == 0.0
    drawn = [trust(RNG.permutation(PRIOR), TRUTH) for _ in range(200)]
    assert np.mean(drawn) < 0.1, "by chance alone hardly any"
    swapped = TRUTH.copy()
    swapped[::2] = RNG.permutation(swapped[::2])
    assert 0.2 < trust(PRIOR, swapped) < trust(PRIOR, TRUTH)


def test_what_is_expected_is_the_prior_and_a_process_on_what_is_left() -> None:
    """Held against the textbook's formula for the process that was chosen."""
    scores = normal_ranks(TRUTH[KNOWN] + RNG.normal(scale=0.5, size=len(KNOWN)))
    prediction = TransferredProcess(PRIOR[None], MetricProcess("mean"))(space(), KNOWN, scores)
    b = trust(PRIOR[KNOWN], scores)
    left = scores - b * PRIOR[KNOWN]
    process, rows = MetricProcess().fitted(space(), KNOWN, left)
    cover = np.exp(-rows.astype(np.float64) / process.length)
    inverse = np.linalg.inv(cover[:, KNOWN] + process.noise * np.eye(len(KNOWN)))
    expected = b * PRIOR + left.mean() + cover.T @ inverse @ (left - left.mean())
    assert prediction.scores == pytest.approx(expected, abs=1e-4)
    assert prediction.merits == pytest.approx(expected, abs=1e-4)


def test_of_several_tasks_the_trusted_ones_count() -> None:
    scores = normal_ranks(TRUTH[KNOWN])
    noisy = PRIOR + RNG.normal(size=N)
    weights = [trust(prior[KNOWN], scores) for prior in (PRIOR, noisy)]
    mean = (weights[0] * PRIOR + weights[1] * noisy) / sum(weights)
    found = explained_by(np.stack([PRIOR, -PRIOR, noisy]), KNOWN, scores)
    np.testing.assert_allclose(found, trust(mean[KNOWN], scores) * mean)
    alone = explained_by(np.stack([-PRIOR, PRIOR]), KNOWN, scores)
    np.testing.assert_array_equal(alone, explained_by(PRIOR[None], KNOWN, scores), "the opposite has no weight")
    assert not explained_by(-PRIOR[None], KNOWN, scores).any()


@pytest.mark.parametrize("acquisition", ["mean", "ei", "ucb"])
def test_a_source_that_tells_the_opposite_changes_nothing(acquisition: str) -> None:
    plain = MetricProcess(acquisition)  # type: ignore[arg-type]
    scores = normal_ranks(TRUTH[KNOWN])
    misled = TransferredProcess(-PRIOR[None], plain)(space(), KNOWN, scores)
    alone = plain(space(), KNOWN, scores)
    assert misled.scores == pytest.approx(alone.scores)
    assert misled.merits == pytest.approx(alone.merits)


def test_a_source_that_is_right_shows_the_best_function_at_once() -> None:
    chosen = {}
    for name, prior in (("alone", None), ("told", PRIOR), ("misled", -PRIOR)):
        search = policy(prior)
        others = np.argsort(TRUTH)[:-10]
        for candidate in others[:: len(others) // 8].tolist():
            search.observe(candidate, float(TRUTH[candidate]))
        suggestion = search.suggest()
        assert suggestion is not None
        chosen[name] = suggestion.candidate
    assert chosen["told"] == int(TRUTH.argmax())
    assert chosen["alone"] == chosen["misled"] != chosen["told"]


def test_candidates_of_which_the_source_says_nothing_are_expected_to_be_middling() -> None:
    unknown = PRIOR.copy()
    unknown[50:] = np.nan
    scores = normal_ranks(TRUTH[KNOWN])
    found = TransferredProcess(unknown[None], MetricProcess("ei"))(space(), KNOWN, scores)
    zero = TransferredProcess(np.where(np.arange(N) < 50, PRIOR, 0.0)[None], MetricProcess("ei"))(
        space(), KNOWN, scores
    )
    assert np.isfinite(found.merits).all()
    assert found.scores.tolist() == zero.scores.tolist()


def test_a_prior_is_for_the_process_in_the_metric_space_alone() -> None:
    distances = [FeatureDistances(POINTS, "euclidean")] * 2
    with pytest.raises(SurrogateError, match="unknown regressor 'knr'; choose one of gp"):
        transferred_policy(SurrogateSettings("knr", space="metric"), 0, lambda: distances, PRIOR[None])
    with pytest.raises(SurrogateError, match="space is 'umap', but the candidates have no map"):
        transferred_policy(SurrogateSettings("gp", space="umap"), 0, lambda: distances, PRIOR[None])
    predictor = transferred_policy(METRIC, 0, lambda: distances, PRIOR[None])._predictor
    assert isinstance(predictor, MetricPredictor)
    assert isinstance(predictor._regress, TransferredProcess)


def made_network(layers: int, bins: int, scale: float, shift: float) -> list[SpectrumFeature | None]:
    """Of 21 functions whose log-eigenvalues spread with the function and grow linearly with relative depth."""
    depth = (np.arange(layers) + 0.5) / layers
    ranks = (np.arange(bins) + 0.5) / bins
    names = tuple(f"layer {i}" for i in range(layers))
    features: list[SpectrumFeature | None] = []
    for i in range(21):
        quantiles = shift * depth[:, None] + scale * (1 + i * depth[:, None]) * ranks
        features.append(SpectrumFeature(names, (100,) * layers, quantiles))
    return features


def test_spectra_of_networks_of_other_depth_and_scale_compare() -> None:
    """Functions that differ in the same manner have the same rows, but for what is cut off before the first layer."""
    shallow = comparable_rows([*made_network(8, 64, 0.5, -3.0), None])
    deep = comparable_rows(made_network(16, 256, 4.0, 11.0))
    assert shallow.shape == (22, deep.shape[1])
    assert np.isnan(shallow[21]).all()
    assert np.abs(shallow[:21] - deep).max() < 0.03 * np.abs(deep).max()
    assert np.abs(deep[10]).max() < 1e-6, "the typical function is where the scale begins"
    assert np.abs(deep).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-5)
    other = comparable_rows(made_network(3, 64, 1.0, 0.0)[::-1])
    assert np.abs(other[:5] - deep[:5]).max() > 0.3 * np.abs(deep).max(), "and other functions have others"


def test_spectra_that_are_not_there_give_rows_that_are_not_known() -> None:
    assert np.isnan(comparable_rows([None, None])).all()
    cut = SpectrumFeature(("layer 0",), (100,), np.zeros((1, 64)))
    rows = comparable_rows([*made_network(8, 64, 1.0, 0.0), cut])
    assert np.isnan(rows[21]).all(), "a function that cuts the network"
    assert np.isfinite(rows[:21]).all()


def test_a_prior_is_the_functions_own_rank_or_that_of_those_it_resembles() -> None:
    outputs = np.array([[0.0], [1.0], [5.0], [6.0], [7.0]], dtype=np.float32)
    nothing = np.full((5, 1), np.nan, dtype=np.float32)
    source = Source(np.array([0.1, np.nan, 0.9, 0.8, 0.7]), outputs, nothing)
    ranks = normal_ranks(np.array([0.1, 0.1, 0.9, 0.8, 0.7]))
    asked = np.array([[9.0], [6.0]], dtype=np.float32)
    prior = source.prior(np.array([2, -1]), asked, nothing[:2])
    assert prior[0] == ranks[2], "its own, whatever its features"
    assert prior[1] == pytest.approx(ranks[3]), "one that has the very outputs of another"
    between = source.prior(np.array([-1]), np.array([[6.5]], dtype=np.float32), nothing[:1])
    near, weights = ranks[[3, 4, 2]], 1 / np.array([0.5, 0.5, 1.5])
    assert between[0] == pytest.approx(near @ weights / weights.sum(), rel=1e-5)


def test_spectra_tell_apart_what_outputs_do_not() -> None:
    same_outputs = np.tile(np.arange(4, dtype=np.float32), (6, 1))
    rows = np.arange(6, dtype=np.float32)[:, None]
    source = Source(np.arange(6.0), same_outputs, rows)
    asked = source.prior(np.full(2, -1), same_outputs[:2], np.array([[0.0], [5.0]], dtype=np.float32))
    assert asked == pytest.approx(normal_ranks(np.arange(6.0))[[0, 5]])


def test_a_source_needs_scores_and_parts_that_fit() -> None:
    outputs = np.zeros((2, 1), dtype=np.float32)
    with pytest.raises(SurrogateError, match="none of the source's 2 functions has a score"):
        Source(np.array([np.nan, np.nan]), outputs, outputs)
    with pytest.raises(SurrogateError, match=r"\(3, 2, 2\) scores, outputs and spectra"):
        Source(np.zeros(3), outputs, outputs)
