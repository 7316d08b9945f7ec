"""Batches from one fit: what is believed takes away variance as a new fit would, and changes no expectation."""

from __future__ import annotations

import numpy as np
import pytest

from aquasurf_ray.surrogate.batches import BelievingProcess, _factor, chosen_results, fit_mixtures
from aquasurf_ray.surrogate.gaussian_process import expected_improvement
from aquasurf_ray.surrogate.metric_space import FeatureDistances, MetricSpace, PairwiseDistances
from aquasurf_ray.surrogate.policy import PredictorPolicy
from aquasurf_ray.surrogate.predictors import MetricPredictor, MetricProcess


@pytest.fixture
def space():
    rows = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
    return MetricSpace([FeatureDistances(rows, "euclidean"), FeatureDistances(rows[:, ::2] ** 3, "manhattan")])


def dense_posterior(space, known, targets, length, noise):
    """Mean and deviation [n] by the textbook's formulas (Rasmussen and Williams 2006, 2.23 and 2.24), and the scale;
    the noise is one number, or one for each result [m]."""
    similar = np.exp(-space.distances(np.arange(len(space))).astype(np.float64) / length)
    inverse = np.linalg.inv(similar[np.ix_(known, known)] + np.diag(noise * np.ones(len(known))))
    center, unit = targets.mean(), targets.std()
    y = (targets - center) / unit
    scale = y @ inverse @ y / len(y)
    left = 1 - np.einsum("in,ij,jn->n", similar[known], inverse, similar[known])
    return center + unit * (y @ inverse @ similar[known]), unit * np.sqrt(scale * left), scale


def test_without_beliefs_it_is_the_process_that_the_regressor_fits(space):
    known, targets = np.arange(0, 120, 3), np.random.default_rng(1).normal(size=40)
    process = BelievingProcess(space, known, targets)
    assert process.best == targets.max()
    prediction = MetricProcess("mean")(space, known, targets)
    assert process.mean == pytest.approx(prediction.scores, abs=1e-6)
    mean, deviation, _ = dense_posterior(space, known, targets, process._length, process._noise)
    assert process.mean == pytest.approx(mean, abs=1e-6)
    assert process.deviation == pytest.approx(deviation, abs=1e-5)


@pytest.mark.parametrize("blocks", [[[5, 50, 100]], [[5], [50], [100]], [[5, 50], [100]]])
def test_believing_is_a_new_fit_with_what_was_expected(space, blocks):
    known, targets = np.arange(0, 120, 3), np.random.default_rng(1).normal(size=40)
    process = BelievingProcess(space, known, targets)
    before, scale = process.mean.copy(), dense_posterior(space, known, targets, process._length, process._noise)[2]
    for block in blocks:
        process.believe(np.array(block))
    assert process.mean is not before
    assert process.mean == pytest.approx(before, abs=1e-9)
    similar = np.exp(-space.distances(np.arange(120)).astype(np.float64) / process._length)
    all_ = np.concatenate([known, [5, 50, 100]])
    inverse = np.linalg.inv(similar[np.ix_(all_, all_)] + process._noise * np.eye(len(all_)))
    left = 1 - np.einsum("in,ij,jn->n", similar[all_], inverse, similar[all_])
    assert process.deviation == pytest.approx(targets.std() * np.sqrt(scale * left), abs=1e-5)
    assert process.best == pytest.approx(max(targets.max(), before[[5, 50, 100]].max()))


def test_a_mean_of_several_trainings_has_less_noise_than_one(space):
    known, targets = np.arange(0, 120, 3), np.random.default_rng(1).normal(size=40)
    counts = np.resize([1, 2, 3], 40)
    process = BelievingProcess(space, known, targets, counts=counts)
    mean, deviation, _ = dense_posterior(space, known, targets, process._length, process._noise / counts)
    assert process.mean == pytest.approx(mean, abs=1e-6)
    assert process.deviation == pytest.approx(deviation, abs=1e-5)
    assert process.mean != pytest.approx(BelievingProcess(space, known, targets).mean, abs=1e-3)
    prediction = MetricProcess("mean")(space, known, targets, counts)
    assert process.mean == pytest.approx(prediction.scores, abs=1e-6)


def test_of_many_results_the_best_and_an_even_draw_are_learnt_from():
    targets = np.random.default_rng(2).normal(size=5000)
    chosen = chosen_results(np.arange(5000), targets, 400)
    assert len(set(chosen.tolist())) == 400
    assert chosen.tolist() == sorted(chosen)
    best = set(np.argsort(-targets)[:200].tolist())
    assert best <= set(chosen.tolist())
    assert np.abs(np.histogram(sorted(set(chosen.tolist()) - best), bins=5, range=(0, 5000))[0] - 40).max() < 8
    assert chosen_results(np.arange(300), targets[:300], 400).tolist() == list(range(300))


def policy(space, pending="believer", acquisition="ei"):
    made = PredictorPolicy(MetricPredictor(space, MetricProcess(acquisition)), seed=3, targets="ranks", pending=pending)
    rng = np.random.default_rng(4)
    for candidate in range(0, 120, 4):
        made.observe(candidate, float(rng.normal()) if candidate % 12 else None)
    return made


def test_a_batch_begins_with_the_suggestion_that_is_made_alone(space):
    batch = policy(space).suggest_batch(6)
    alone = policy(space).suggest()
    assert batch[0].candidate == alone.candidate
    assert batch[0].predicted_score == pytest.approx(alone.predicted_score)
    assert (batch[0].rank, batch[0].neighbors) == (alone.rank, alone.neighbors)


def test_a_batch_uses_the_share_of_features_that_its_results_teach():
    process = MetricProcess("ei", balances=(0.25, 0.5, 0.75))
    rows = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
    outputs = FeatureDistances(rows, "euclidean")
    spectra = FeatureDistances(np.random.default_rng(5).normal(size=(120, 6)).astype(np.float32), "manhattan")
    space, known, scores = MetricSpace([outputs, spectra], (0.5, 0.5)), np.arange(0, 120, 2), rows[::2, :3].sum(axis=1)
    assert fit_mixtures(space, process.mixtures(space), known, scores)[0] == (0.75, 0.25)
    believer = MetricPredictor(space, process).believer(known, scores)
    by_hand = BelievingProcess(MetricSpace([outputs, spectra], (0.75, 0.25)), known, scores)
    assert believer.mean.tolist() == by_hand.mean.tolist()
    made = PredictorPolicy(MetricPredictor(space, process), targets="ranks", pending="believer")
    for candidate, score in zip(known.tolist(), scores.tolist(), strict=True):
        made.observe(candidate, score)
    assert made.suggest_batch(3)[0].candidate == made.suggest().candidate


def groups_and_candidates_without_a_feature(n_groups):
    """Groups far from each other, and candidates that are at the median distance from all others: a short cut from one
    group to the next, with which no vectors have these distances."""
    rows = np.random.default_rng(0).normal(size=(120, 6), scale=0.1).astype(np.float32)
    rows[:90] += 3 * (np.arange(90) % n_groups)[:, None].astype(np.float32)
    targets = rows.sum(axis=1).astype(np.float64)
    rows[90:] = np.nan
    return MetricSpace([FeatureDistances(rows, "manhattan")]), targets


@pytest.mark.parametrize("n_groups", [2, 3, 5, 8])
@pytest.mark.parametrize("blocks", [[np.arange(90, 120)], np.arange(90, 120)[:, None]])
def test_candidates_that_lack_a_feature_leave_others_the_variance_that_they_have(n_groups, blocks):
    space, targets = groups_and_candidates_without_a_feature(n_groups)
    known = np.arange(0, 90, 2)
    process, untouched = (BelievingProcess(space, known, targets[known]) for _ in range(2))
    among = np.exp(-space.distances(np.arange(120)).astype(np.float64) / process._length)
    assert (np.linalg.eigvalsh(among)[0] < -1) == (n_groups > 3), "where it is not positive definite"
    for block in blocks:
        process.believe(block)
    assert (process.deviation <= untouched.deviation + 1e-9).all()
    far = np.setdiff1d(np.arange(90), known)
    assert np.median(process.deviation[far] / untouched.deviation[far]) > 0.5
    process.believe(far)
    assert np.isfinite(process.deviation).all()


class Given(PairwiseDistances):
    """Distances that are given, [n, n], and may be of no vectors."""

    version = "given"

    def __init__(self, distances):
        self.rows = distances.astype(np.float32)
        self.known = np.ones(len(distances), dtype=bool)

    def of(self, candidate):
        return self.rows[candidate]

    def set_covariance(self, process, a, b, value):
        self.rows[a, b] = self.rows[b, a] = -process._length * np.log(value)


FAR = 1e3  # a distance at which no candidate says anything about another


@pytest.fixture
def apart():
    """Ten candidates that say nothing about each other, of which the first four have results, and a process on them."""
    given = Given(np.where(np.eye(10), 0.0, FAR))
    return given, BelievingProcess(MetricSpace([given]), np.arange(4), np.array([-1.0, 0.5, 0.0, 0.5]))


def test_a_candidate_with_less_than_no_variance_left_takes_none_from_others(apart):
    given, process = apart
    noise = process._noise
    # After 4 and 5 there is -0.75 of the noise left of 6, so that a quarter of it would be the square of a pivot.
    alike = np.sqrt((1 + 0.75 * noise) * (1 + noise) / 2)
    given.set_covariance(process, 4, 6, alike)
    given.set_covariance(process, 5, 6, alike)
    given.set_covariance(process, 6, 7, 0.5)
    given.set_covariance(process, 8, 9, 0.5)
    before = process.deviation[[7, 9]].copy()
    for candidate in (4, 5, 6):
        process.believe(np.array([candidate]))
    assert process.deviation[[7, 9]] == pytest.approx(before, rel=1e-4)
    process.believe(np.array([4, 6, 8]))
    assert process.deviation[7] == pytest.approx(before[0], rel=1e-4)
    assert process.deviation[9] == pytest.approx(before[1] * np.sqrt(1 - 0.25 / (1 + noise)), rel=1e-4)


def test_what_a_block_cannot_believe_at_once_it_believes_one_by_one(apart):
    given, process = apart
    for a, b, value in ((4, 5, 0.99), (4, 6, 0.99), (8, 9, 0.5)):
        given.set_covariance(process, a, b, value)
    before = process.deviation[9]
    process.believe(np.array([4, 5, 6, 8]))
    assert process.deviation[9] == pytest.approx(before * np.sqrt(1 - 0.25 / (1 + process._noise)), rel=1e-4)


def test_a_candidate_that_is_passed_over_still_raises_what_is_to_be_improved():
    distances = np.where(np.eye(14), 0.0, FAR)
    for best in range(1, 8, 2):  # four candidates have the best result, which adds up at candidate 8
        distances[best, 8] = distances[8, best] = FAR / 1000
    for best, candidate, apart in ((1, 9, 0.02), (3, 10, 0.1), (5, 11, 0.3), (7, 12, 0.6)):
        distances[best, candidate] = distances[candidate, best] = apart * FAR
    process = BelievingProcess(MetricSpace([Given(distances)]), np.arange(8), np.resize([-1.0, 1.0], 8))
    open_ = np.arange(14) > 8
    before = process.best_of(open_, np.arange(14))  # computes merits over the best result
    process.believe(np.array([8]))
    assert process.best == process.mean[8] > 1
    after = process.best_of(open_, np.arange(14))
    assert after != before
    merits = expected_improvement(process.mean, process.deviation, process.best)
    assert after == np.where(open_, merits, -1).argmax()


def test_a_policy_suggests_all_candidates_where_many_lack_a_feature():
    space, targets = groups_and_candidates_without_a_feature(5)
    others = FeatureDistances(
        np.random.default_rng(1).normal(size=(120, 2), scale=1e-3).astype(np.float32), "euclidean"
    )
    space = MetricSpace([*space.features, others], (1.0, 1e-3))
    made = PredictorPolicy(MetricPredictor(space, MetricProcess("ei")), pending="believer")
    known = list(range(0, 90, 2))
    for candidate in known:
        made.observe(candidate, float(targets[candidate]))
    suggested = [suggestion.candidate for suggestion in made.suggest_batch(120)]
    assert sorted(suggested) == sorted(set(range(120)) - set(known))


@pytest.mark.parametrize("shares", [np.ones(60), np.resize([1.0, 0.5], 60)])
def test_every_matrix_of_covariances_has_a_factor(shares):
    matrix = 2 * np.eye(60) - 1
    factor, noise = _factor(matrix, 1e-12, shares)
    np.testing.assert_allclose(factor @ factor.T, matrix + noise * np.diag(shares), atol=1e-9)


@pytest.mark.parametrize(("pending", "acquisition"), [("believer", "ei"), ("believer", "mean"), ("liar", "mean")])
def test_a_batch_has_no_candidate_twice_and_none_that_it_may_not_have(space, pending, acquisition):
    allowed = np.ones(120, dtype=bool)
    allowed[60:] = False
    running = {1, 2, 3}
    batch = policy(space, pending, acquisition).suggest_batch(100, running, allowed)
    suggested = [suggestion.candidate for suggestion in batch]
    assert len(suggested) == len(set(suggested))
    assert set(suggested) == set(range(60)) - running - set(range(0, 60, 4))


def test_a_batch_before_any_result_is_spread(space):
    made = PredictorPolicy(MetricPredictor(space, MetricProcess("ei")), seed=3, targets="ranks", pending="believer")
    assert len({suggestion.candidate for suggestion in made.suggest_batch(5)}) == 5
