"""Distances without a map, and what predicts on them, against slow oracles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import norm
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import scale
from sklearn.svm import SVR

from aquasurf_ray.surrogate.embedding import Embedding
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.gaussian_process import GaussianProcess
from aquasurf_ray.surrogate.metric_space import FeatureDistances, MetricSpace
from aquasurf_ray.surrogate.neighbors import Metric
from aquasurf_ray.surrogate.policy import PredictorPolicy, RandomPolicy
from aquasurf_ray.surrogate.predictors import (
    MapPredictor,
    MetricForest,
    MetricNeighbors,
    MetricPredictor,
    MetricProcess,
    MetricRegressor,
    MetricVectors,
    merit,
)
from aquasurf_ray.surrogate.regressors import make_regressor

REGRESSORS: list[MetricRegressor] = [MetricNeighbors(), MetricProcess(), MetricVectors(), MetricForest(0)]


def two_features(n: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 5)).astype(np.float32), rng.exponential(size=(n, 8)).astype(np.float32)


def space_of(outputs: np.ndarray, spectra: np.ndarray, balances: Sequence[float] | None = None) -> MetricSpace:
    features = [FeatureDistances(outputs, "euclidean"), FeatureDistances(spectra, "manhattan")]
    return MetricSpace(features, balances)


def landscape(outputs: np.ndarray) -> np.ndarray:
    return np.asarray(0.8 - 0.05 * np.abs(outputs[:, 0]) - 0.02 * np.abs(outputs[:, 1]), dtype=np.float64)


def test_distances_are_sums_in_units_of_medians() -> None:
    outputs, spectra = two_features()
    expected = 0.0
    for balance, distances in ((0.3, cdist(outputs, outputs)), (0.7, cdist(spectra, spectra, "cityblock"))):
        expected = expected + balance * distances / np.median(distances[np.triu_indices(80, 1)])
    found = space_of(outputs, spectra, (0.3, 0.7)).distances(range(80))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(found, found.T)


def test_a_missing_feature_is_neither_near_nor_far() -> None:
    outputs, spectra = two_features()
    spectra[[3, 9]] = np.nan
    outputs[9, 2] = np.nan
    by_outputs = FeatureDistances(outputs, "euclidean")
    space = space_of(outputs, spectra)
    assert not space.known[9]
    assert space.known[3]
    np.testing.assert_allclose(space.distances([3])[0, 4:9], 1.0 + by_outputs.of(3)[4:9])
    assert space.distances([3])[0, 3] == 0
    np.testing.assert_allclose(space.distances([9])[0, 10:], 2.0)
    rest = [i for i in range(80) if i not in (3, 9)]
    whole = FeatureDistances(spectra[rest], "manhattan")
    np.testing.assert_allclose(FeatureDistances(spectra, "manhattan").of(0)[rest], whole.of(0), rtol=1e-6)


@pytest.mark.parametrize(("metric", "by"), [("euclidean", "euclidean"), ("manhattan", "cityblock")])
def test_candidates_can_be_added_without_changing_a_distance(metric: Metric, by: str) -> None:
    rows = np.random.default_rng(1).normal(size=(90, 6)).astype(np.float32)
    rows[[3, 55]] = np.nan
    grown = FeatureDistances(rows[:40], metric, n_for_median=30)
    before = {i: grown.of(i).copy() for i in (0, 3, 17)}
    versions = [grown.version]
    for start, stop in ((40, 41), (41, 41), (41, 90)):
        grown.extend(rows[start:stop])
        versions.append(grown.version)
    assert len(set(versions)) == 3, "the version changes with the candidates, and only with them"
    known = np.delete(np.arange(30), 3)
    apart = cdist(rows[known].astype(np.float64), rows[known], by)
    unit = float(np.median(apart[apart > 0]))
    assert grown.median == pytest.approx(unit, rel=1e-5)
    for i in (0, 17, 60):
        expected = cdist(rows[[i]].astype(np.float64), rows, by)[0] / unit
        expected[[3, 55]] = 1.0
        np.testing.assert_allclose(grown.of(i), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(grown.of(3), np.where(np.arange(90) == 3, 0.0, 1.0))
    for i, distances in before.items():
        np.testing.assert_array_equal(grown.of(i)[:40], distances)
    at_once = FeatureDistances(rows, metric, n_for_median=30)
    assert at_once.version == grown.version
    np.testing.assert_array_equal(at_once.of(60), grown.of(60))


def test_rows_that_are_part_of_another_array_grow_and_leave_it_as_it_was() -> None:
    whole = np.random.default_rng(8).normal(size=(12, 6)).astype(np.float32)
    before = whole.copy()
    grown = FeatureDistances(whole[1:8], "manhattan", 7)
    grown.extend(before[8:9])
    grown.extend(before[9:])
    expected = FeatureDistances(before[1:], "manhattan", 7)
    for candidate in range(11):
        np.testing.assert_array_equal(grown.of(candidate), expected.of(candidate))
    np.testing.assert_array_equal(whole, before)


def test_a_row_that_grows_stays_where_there_is_room_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(1).normal(size=(200, 6)).astype(np.float32)
    grown = FeatureDistances(rows[:100], "euclidean", n_for_median=50)
    for i in range(100):
        grown.of(i)
    monkeypatch.setattr("aquasurf_ray.surrogate.metric_space._KEPT_BYTES", 0)
    grown.extend(rows[100:])
    np.testing.assert_array_equal(grown.of(0), FeatureDistances(rows, "euclidean", n_for_median=50).of(0))


def test_only_distances_with_a_fixed_unit_take_more_candidates() -> None:
    rows = np.zeros((4, 6), dtype=np.float32)
    with pytest.raises(SurrogateError, match="median of None"):
        FeatureDistances(rows, "euclidean").extend(rows)
    with pytest.raises(SurrogateError, match=r"cannot add rows \(4, 5\) to \(4, 6\)"):
        FeatureDistances(rows, "euclidean", 4).extend(rows[:, :5])


def test_nearest_neighbours_are_scikit_learns() -> None:
    outputs, spectra = two_features()
    space, known = space_of(outputs, spectra), np.arange(0, 60, 2)
    scores = landscape(outputs)[known]
    theirs = KNeighborsRegressor(3, weights="distance", metric="precomputed")
    among = space.distances(known)
    expected = theirs.fit(among[:, known], scores).predict(among.T)
    np.testing.assert_allclose(MetricNeighbors(3)(space, known, scores).scores, expected, rtol=1e-6)


def test_support_vectors_are_scikit_learns() -> None:
    outputs, spectra = two_features()
    space, known = space_of(outputs, spectra, (0.5, 0.5)), np.arange(0, 60, 2)
    scores = landscape(outputs)[known]
    similarity = np.exp(-space.distances(range(80)).astype(np.float64))
    machine = SVR(kernel="precomputed").fit(similarity[np.ix_(known, known)], scale(scores))
    expected = scores.mean() + scores.std() * machine.predict(similarity[:, known])
    np.testing.assert_allclose(MetricVectors()(space, known, scores).scores, expected, rtol=1e-9)


def test_a_balance_is_learned_from_what_matters() -> None:
    outputs, spectra = two_features(200)
    space, known = space_of(outputs, spectra), np.arange(100)
    process = MetricProcess(balances=(0.0, 0.5, 1.0))
    of_outputs, of_spectra = (MetricSpace([feature]) for feature in space.features)
    for alone, values in ((of_outputs, outputs), (of_spectra, spectra)):
        scores = 0.1 * values[:100, :2].sum(axis=1)
        expected = MetricProcess()(alone, known, scores).scores
        np.testing.assert_allclose(process(space, known, scores).scores, expected, rtol=1e-6)


@pytest.mark.parametrize("regress", REGRESSORS, ids=lambda regress: type(regress).__name__)
def test_learns_what_depends_on_the_features(regress: MetricRegressor) -> None:
    outputs, spectra = two_features(300)
    outputs[:, 2:] /= 3
    predictor = MetricPredictor(space_of(outputs, spectra, (0.9, 0.1)), regress)
    known = np.arange(150)
    truth = landscape(outputs)
    prediction = predictor.predict(known, truth[known])
    assert np.corrcoef(prediction.scores[150:], truth[150:])[0, 1] > 0.6
    assert prediction.scores is prediction.merits


def test_the_typical_gap_is_the_median_nearest_distance() -> None:
    outputs, spectra = two_features()
    predictor = MetricPredictor(space_of(outputs, spectra), MetricNeighbors())
    distances = predictor.space.distances(range(80)) + np.diag(np.full(80, np.inf))
    assert predictor.gap == pytest.approx(np.median(distances.min(axis=1)))


@pytest.mark.parametrize("acquisition", ["ei", "ucb"])
def test_expected_improvement_and_confidence_bound_by_drawing(acquisition: str) -> None:
    mean, deviation = np.array([0.5, 0.9, 0.9, 1.2]), np.array([0.3, 0.1, 0.0, 0.0])
    found = merit(acquisition, mean, deviation, 1.0)  # type: ignore[arg-type]
    draws = mean + deviation * np.random.default_rng(0).normal(size=(400_000, 4))
    expected = np.maximum(draws - 1.0, 0).mean(axis=0) if acquisition == "ei" else np.quantile(draws, norm.cdf(2), 0)
    np.testing.assert_allclose(found, expected, atol=0.005)


def test_uncertainty_draws_a_search_to_the_unknown() -> None:
    points = np.array([[0.0], [0.1], [0.2], [5.0]], dtype=np.float32)
    space = MetricSpace([FeatureDistances(points, "euclidean")])
    first = {}
    for acquisition in ("mean", "ucb"):
        policy = PredictorPolicy(MetricPredictor(space, MetricProcess(acquisition)))  # type: ignore[arg-type]
        policy.observe(0, 0.5)
        policy.observe(2, 0.6)
        suggestion = policy.suggest()
        assert suggestion is not None
        first[acquisition] = suggestion.candidate
    assert first == {"mean": 1, "ucb": 3}


def told(policy: PredictorPolicy, scores: np.ndarray, candidates: Sequence[int]) -> PredictorPolicy:
    for candidate in candidates:
        policy.observe(candidate, None if np.isnan(scores[candidate]) else float(scores[candidate]))
    return policy


def line(n: int) -> MetricSpace:
    return MetricSpace([FeatureDistances(np.arange(float(n))[:, None], "euclidean")])


def test_divergence_may_be_ignored() -> None:
    scores = np.full(20, np.nan)
    scores[[0, 19]] = 0.2, 0.9
    knr = MetricPredictor(line(20), MetricNeighbors(1))
    avoids = told(PredictorPolicy(knr), scores, [0, 10, 18, 19]).suggest()
    ignores = told(PredictorPolicy(knr, diverged="ignore"), scores, [0, 10, 18, 19]).suggest()
    assert avoids is not None
    assert ignores is not None
    assert avoids.predicted_score == pytest.approx(0.2)
    assert ignores.candidate in range(10, 18)
    assert ignores.predicted_score == pytest.approx(0.9)


def test_ranks_predict_scores_all_the_same() -> None:
    scores = np.linspace(0, 1, 30) ** 8
    policy = PredictorPolicy(MetricPredictor(line(30), MetricNeighbors(1)), targets="ranks")
    suggestion = told(policy, scores, [0, 10, 20, 28]).suggest()
    assert suggestion is not None
    assert suggestion.candidate in {25, 26, 27, 29}
    assert suggestion.predicted_score == pytest.approx(scores[28])


def test_a_believer_does_not_wait_beside_what_is_running() -> None:
    scores = np.linspace(0, 1, 50)
    knr = MetricPredictor(line(50), MetricNeighbors(1))
    liar, believer, ignorant = (
        told(PredictorPolicy(knr, pending=p), scores, [0, 30, 48])  # type: ignore[arg-type]
        for p in ("liar", "believer", "ignore")
    )
    allowed = np.isin(np.arange(50), [20, 47])
    assert believer.suggest({49}, allowed).candidate == 47  # type: ignore[union-attr]
    assert liar.suggest({49}, allowed).candidate == 20  # type: ignore[union-attr]
    assert ignorant.suggest({49}, allowed) == ignorant.suggest((), allowed)


@pytest.mark.parametrize("pending", ["liar", "believer", "ignore"])
@pytest.mark.parametrize("regress", REGRESSORS[:3], ids=lambda regress: type(regress).__name__)
def test_nothing_is_suggested_twice_and_nothing_left_out(regress: MetricRegressor, pending: str) -> None:
    outputs, spectra = two_features(25)
    spectra[[3, 8]] = np.nan
    outputs[8] = np.nan
    predictor = MetricPredictor(space_of(outputs, spectra), regress)
    policy = told(PredictorPolicy(predictor, pending=pending), landscape(outputs), [0, 1, 8])  # type: ignore[arg-type]
    batch = [suggestion.candidate for suggestion in policy.suggest_batch(30, pending={5})]
    assert sorted(batch) == sorted(set(range(25)) - {0, 1, 5, 8})


def test_a_gaussian_process_on_the_map() -> None:
    points = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    embedding = Embedding(points, "v", np.ones(100, dtype=bool))
    known, scores = np.arange(30), points[:30, 0].astype(np.float64)
    prediction = MapPredictor(embedding, lambda: make_regressor("gp"), "ucb").predict(known, scores)
    mean, deviation = GaussianProcess().fit(points[:30], scores).predict_with_deviation(points)
    np.testing.assert_allclose(prediction.scores, mean)
    np.testing.assert_allclose(prediction.merits, mean + 2 * deviation)


class Hills:
    """Candidates of two features, of which both say something of the score, and a tenth diverges."""

    def __init__(self, seed: int, n: int = 600) -> None:
        rng = np.random.default_rng(seed)
        self.space = space_of(*two_features(n, seed), (0.5, 0.5))
        outputs, spectra = (feature._rows for feature in self.space.features)  # type: ignore[union-attr]
        self.scores = np.sin(outputs[:, :3].sum(axis=1)) + np.cos(spectra[:, :2].sum(axis=1)) + rng.normal(size=n) / 10
        self.scores[rng.permutation(n)[: n // 10]] = np.nan
        self.good = np.sort(np.nan_to_num(self.scores, nan=-9))[-(n // 100)]

    def evaluations_to_top_percent(self, policy: PredictorPolicy | RandomPolicy) -> int:
        for candidate in range(8):
            score = self.scores[candidate]
            policy.observe(candidate, None if np.isnan(score) else float(score))
        for spent in range(1, 301):
            suggestion = policy.suggest()
            assert suggestion is not None
            score = self.scores[suggestion.candidate]
            if score >= self.good:
                return spent
            policy.observe(suggestion.candidate, None if np.isnan(score) else float(score))
        return 301


def test_a_process_on_distances_beats_random_search() -> None:
    ours, random = [], []
    for seed in range(6):
        hills = Hills(seed)
        ours.append(hills.evaluations_to_top_percent(PredictorPolicy(MetricPredictor(hills.space, MetricProcess()))))
        random.append(hills.evaluations_to_top_percent(RandomPolicy(600, seed)))
    assert np.median(ours) <= np.median(random) / 2


def test_errors_name_what_was_received() -> None:
    outputs, spectra = two_features()
    space = space_of(outputs, spectra)
    with pytest.raises(SurrogateError, match="features of the same candidates"):
        MetricSpace([FeatureDistances(outputs, "euclidean"), FeatureDistances(spectra[:9], "manhattan")])
    with pytest.raises(SurrogateError, match="2 features need as many balances"):
        space_of(outputs, spectra, (1.0,))
    with pytest.raises(SurrogateError, match="acquisition is 'best'"):
        MetricProcess("best")  # type: ignore[arg-type]
    with pytest.raises(SurrogateError, match="needs a regressor with an uncertainty"):
        MapPredictor(
            Embedding(np.zeros((1, 2), dtype=np.float32), "", np.ones(1, dtype=bool)),
            lambda: make_regressor("knr"),
            "ei",
        )
    with pytest.raises(SurrogateError, match="targets is 'logs'"):
        PredictorPolicy(MetricPredictor(space, MetricNeighbors()), targets="logs")  # type: ignore[arg-type]
