"""The policy: what it may never do, what it must be a function of, and that it finds good candidates sooner."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aquasurf_ray.surrogate.embedding import Embedding
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.policy import Policy, PredictorPolicy, RandomPolicy, Suggestion
from aquasurf_ray.surrogate.predictors import MapPredictor, Prediction
from aquasurf_ray.surrogate.regressors import REGRESSORS, make_regressor

Scores = dict[int, float | None]


def embedding_of(points: object, version: str = "v") -> Embedding:
    coordinates = np.asarray(points, dtype=np.float32)
    return Embedding(coordinates, version, np.isfinite(coordinates).all(axis=1))


def line(n: int) -> Embedding:
    return embedding_of([[i, 0.0] for i in range(n)])


def scatter(n: int, seed: int = 0, n_unplaced: int = 0) -> Embedding:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 2))
    points[rng.permutation(n)[:n_unplaced]] = np.nan
    return embedding_of(points)


def on_map(embedding: Embedding, regressor: str = "knr", seed: int = 0) -> PredictorPolicy:
    return PredictorPolicy(MapPredictor(embedding, lambda: make_regressor(regressor, seed)), seed)


def told(embedding: Embedding, scores: Scores, regressor: str = "knr", seed: int = 0) -> PredictorPolicy:
    policy = on_map(embedding, regressor, seed)
    for candidate, score in scores.items():
        policy.observe(candidate, score)
    return policy


def candidate_of(suggestion: Suggestion | None) -> int:
    assert suggestion is not None
    return suggestion.candidate


histories = st.dictionaries(st.integers(0, 45), st.none() | st.floats(-1e6, 1e6), max_size=40)


@settings(max_examples=150, deadline=None)
@given(histories, st.sets(st.integers(0, 45), max_size=20), st.integers(0, 39), st.integers(0, 99), st.booleans())
def test_never_repeats_and_leaves_nothing_out(
    scores: Scores, pending: set[int], n_unplaced: int, seed: int, masked: bool
) -> None:
    """Indices 40..45 are beyond the embedding: observed or pending elsewhere, of no use here."""
    allowed = np.random.default_rng(seed).random(40) < 0.7 if masked else np.ones(40, dtype=bool)
    open_ = set(np.flatnonzero(allowed).tolist()) - scores.keys() - pending
    for policy in (told(scatter(40, seed, n_unplaced), scores, seed=seed), RandomPolicy(40, seed)):
        for candidate, score in scores.items():
            policy.observe(candidate, score)
        batch = [s.candidate for s in policy.suggest_batch(100, pending, allowed)]
        assert sorted(batch) == sorted(open_)
        assert policy.suggest({*pending, *batch}, allowed) is None


@settings(max_examples=60, deadline=None)
@given(
    histories,
    st.sets(st.integers(0, 39), max_size=5),
    st.randoms(use_true_random=False),
    st.sampled_from(["knr", "svr"]),
)
def test_a_resumed_policy_suggests_the_same(scores: Scores, pending: set[int], shuffle: object, regressor: str) -> None:
    """Whatever the order of results and however often the first process was asked in between."""
    embedding = scatter(40, n_unplaced=5)
    first = on_map(embedding, regressor, seed=3)
    for candidate, score in scores.items():
        first.suggest_batch(2)
        first.observe(candidate, score)
    again = list(scores.items())
    shuffle.shuffle(again)  # type: ignore[attr-defined]
    assert told(embedding, dict(again), regressor, seed=3).suggest(pending) == first.suggest(pending)


@pytest.mark.parametrize("regressor", REGRESSORS)
def test_one_seed_one_sequence(regressor: str) -> None:
    def sequence(seed: int) -> list[int]:
        policy = on_map(scatter(60), regressor, seed)
        chosen = []
        for _ in range(12):
            chosen.append(candidate_of(policy.suggest()))
            policy.observe(chosen[-1], math.sin(chosen[-1]))
        return chosen

    before = np.random.get_state()
    assert sequence(1) == sequence(1) != sequence(2)
    after = np.random.get_state()
    assert before[2] == after[2]
    assert (before[1] == after[1]).all()


def test_suggests_the_best_prediction_and_says_why() -> None:
    policy = told(line(20), {0: 0.1, 8: 0.9, 19: None})
    suggestion = policy.suggest()
    assert suggestion is not None
    assert suggestion.candidate in {7, 9}
    assert suggestion.rank == 1
    assert suggestion.embedding_version == "v"
    assert [(n.candidate, n.score) for n in suggestion.neighbors] == [(8, 0.9), (0, 0.1), (19, None)]
    weights = [1 / n.distance for n in suggestion.neighbors]
    expected = np.average([0.9, 0.1, 0.1], weights=weights)  # the diverged one counts as the worst score seen
    assert suggestion.predicted_score == pytest.approx(expected)


def test_divergence_counts_as_the_worst_score_even_when_that_comes_later() -> None:
    policy = told(line(9), {0: None, 8: 0.5})
    assert policy.suggest().predicted_score == 0.5  # type: ignore[union-attr]
    policy.observe(4, 0.3)
    allowed = np.zeros(9, dtype=bool)
    allowed[1] = True
    suggestion = policy.suggest(allowed=allowed)
    assert suggestion is not None
    assert suggestion.predicted_score == pytest.approx(np.average([0.3, 0.3, 0.5], weights=[1, 1 / 3, 1 / 7]))


def test_searches_away_from_divergence() -> None:
    policy = told(line(100), {10: None, 20: 0.5, 90: 0.5, 80: 0.5})
    assert abs(candidate_of(policy.suggest()) - 10) > 10
    nothing_finite = told(line(100), {10: None, 20: None, 30: None}).suggest()
    assert nothing_finite is not None
    assert nothing_finite.candidate == 99
    assert nothing_finite.predicted_score is None


def test_a_result_observed_again_takes_the_place_of_the_first() -> None:
    policy = told(line(10), {0: 1.0, 9: 0.0})
    policy.observe(0, -1.0)
    assert policy.observations == {0: -1.0, 9: 0.0}
    assert candidate_of(policy.suggest()) == 8


def test_the_predictor_learns_how_many_trainings_a_score_is_of() -> None:
    asked: list[tuple[list[int], list[int] | None]] = []

    class Asked(MapPredictor):
        def predict(
            self, known: NDArray[np.int64], scores: NDArray[np.float64], counts: NDArray[np.int64] | None = None
        ) -> Prediction:
            asked.append((known.tolist(), None if counts is None else counts.tolist()))
            return super().predict(known, scores, counts)

    policy = PredictorPolicy(Asked(line(8), lambda: make_regressor("knr")))
    policy.observe(2, 0.5)
    policy.observe(5, 0.7)
    assert policy.suggest() is not None
    policy.observe(5, 0.6, count=2)
    assert policy.suggest(pending=[5, 7]) is not None
    # One each is no news to a predictor; a pending candidate counts once.
    assert asked == [([2, 5], None), ([2, 5], [1, 2]), ([2, 5, 7], [1, 2, 1])]


def test_without_results_candidates_are_spread() -> None:
    corners = embedding_of([[x + dx, y] for x in (0, 10) for y in (0, 10) for dx in (0.0, 0.1, 0.2, 0.3)])
    for seed in range(10):
        batch = on_map(corners, seed=seed).suggest_batch(4)
        assert {s.candidate // 4 for s in batch} == {0, 1, 2, 3}
        assert all(s.predicted_score is None and s.rank == 1 and s.neighbors == () for s in batch)


def test_ties_are_broken_by_the_seed() -> None:
    first = {seed: candidate_of(told(line(30), {7: 0.5}, seed=seed).suggest()) for seed in range(20)}
    assert len(set(first.values())) > 5


@pytest.mark.parametrize("regressor", REGRESSORS)
def test_a_batch_spreads_over_clusters_of_near_copies(regressor: str) -> None:
    """Forty near-copies lie round the best result: one worker may try one, eight workers must not try eight."""
    rng = np.random.default_rng(0)
    copies = rng.normal(size=(40, 2)) * 1e-3
    rest = rng.uniform(-5, 5, size=(200, 2))
    policy = told(
        embedding_of([*copies, *rest]), {0: 1.0, 1: 0.99, 2: 0.98, **dict.fromkeys(range(40, 60), 0.2)}, regressor
    )
    batch = policy.suggest_batch(8)
    assert candidate_of(policy.suggest()) < 40
    assert sum(s.candidate < 40 for s in batch) == 1
    assert batch[0].rank == 1 < batch[1].rank


def test_a_running_neighbour_makes_the_other_hill_more_attractive() -> None:
    """Beyond the crowded zone too: 22 has the best prediction, but 19 of the same hill is running."""
    policy = told(line(100), {20: 1.0, 70: 0.9, 0: 0.0, 45: 0.0, 99: 0.0})
    allowed = np.zeros(100, dtype=bool)
    allowed[[22, 69]] = True
    assert candidate_of(policy.suggest(allowed=allowed)) == 22
    suggestion = policy.suggest({19}, allowed)
    assert suggestion is not None
    assert (suggestion.candidate, suggestion.rank) == (69, 2)


def test_near_copies_are_suggested_when_nothing_else_is_open() -> None:
    policy = told(embedding_of([[0, 0], [0, 1e-6], [1e-6, 0], [5, 5]]), {3: 0.5})
    assert sorted(s.candidate for s in policy.suggest_batch(3)) == [0, 1, 2]


def test_a_batch_is_a_series_of_suggestions_with_those_before_pending() -> None:
    policy = told(scatter(50), {1: 0.3, 2: 0.5, 3: None})
    batch = policy.suggest_batch(5, pending={9})
    running = {9}
    for suggestion in batch:
        assert policy.suggest(running) == suggestion
        running.add(suggestion.candidate)


def test_unplaced_candidates_come_last() -> None:
    embedding = scatter(20, n_unplaced=6)
    order = [s.candidate for s in told(embedding, {int(np.flatnonzero(embedding.placed)[0]): 0.5}).suggest_batch(20)]
    assert embedding.placed[order].tolist() == [True] * 13 + [False] * 6
    last = [tuple(s.candidate for s in on_map(embedding, seed=seed).suggest_batch(20)[14:]) for seed in range(5)]
    assert len(set(last)) > 1


def test_an_unplaced_suggestion_has_no_prediction_and_ranks_behind_all() -> None:
    embedding = embedding_of([[0, 0], [1, 1], [np.nan, np.nan]])
    allowed = np.array([True, True, True])
    allowed[1] = False
    suggestion = told(embedding, {0: 0.5}).suggest(allowed=allowed)
    assert suggestion == Suggestion(2, None, 1, (), "v")
    assert told(embedding, {2: 0.5}).suggest() is not None  # a result off the map teaches nothing, and breaks nothing


def test_rank_counts_better_open_candidates_only() -> None:
    policy = told(line(10), {0: 0.0, 9: 1.0})
    allowed = np.zeros(10, dtype=bool)
    allowed[3] = True
    assert policy.suggest(allowed=allowed).rank == 1  # type: ignore[union-attr]
    crowded = policy.suggest(pending={8})
    assert crowded is not None
    assert crowded.candidate < 7
    assert crowded.rank == 1 + sum(i not in {0, 8, 9} and i > crowded.candidate for i in range(10))


def test_one_candidate() -> None:
    policy = on_map(line(1))
    assert candidate_of(policy.suggest()) == 0
    assert policy.suggest(pending={0}) is None
    policy.observe(0, 0.5)
    assert policy.suggest() is None


def test_errors_name_what_was_received() -> None:
    policy = on_map(line(3))
    with pytest.raises(SurrogateError, match="score of candidate 2 is nan; pass None for a diverged training"):
        policy.observe(2, math.nan)
    with pytest.raises(SurrogateError, match="count of candidate 2 is 0; a score is of at least one training"):
        policy.observe(2, 0.5, count=0)
    with pytest.raises(SurrogateError, match="candidate is -1; indices begin at 0"):
        policy.observe(-1, 0.5)
    with pytest.raises(SurrogateError, match=r"allowed has shape \(2,\); expected one flag for each of 3"):
        policy.suggest(allowed=np.ones(2, dtype=bool))
    with pytest.raises(SurrogateError, match="unknown regressor 'knn'"):
        on_map(line(3), regressor="knn")
    assert policy.observations == {}


class Landscape:
    """A map of 40 clusters, a smooth score with noise, and a tenth of diverged trainings."""

    def __init__(self, seed: int, n: int = 1000) -> None:
        rng = np.random.default_rng(seed)
        cluster = rng.integers(0, 40, n)
        points = rng.normal(size=(40, 2))[cluster] * 6 + rng.normal(size=(n, 2)) * 0.7
        waves, phases = rng.normal(size=(8, 2)) * 0.06, rng.uniform(0, 2 * np.pi, 8)
        values = np.sin(points @ waves.T + phases).sum(axis=1) + 0.1 * rng.normal(size=n)
        self.embedding = embedding_of(points)
        self.scores = [None if diverged else float(v) for v, diverged in zip(values, rng.random(n) < 0.1, strict=True)]
        finite = sorted((score for score in self.scores if score is not None), reverse=True)
        self.good = finite[n // 100 - 1]
        self.first = rng.choice(n, 8, replace=False).tolist()

    def evaluations_to_top_percent(self, policy: Policy, batch: int) -> int:
        for candidate in self.first:
            policy.observe(candidate, self.scores[candidate])
        for spent in range(batch, 401, batch):
            for suggestion in policy.suggest_batch(batch):
                score = self.scores[suggestion.candidate]
                policy.observe(suggestion.candidate, score)
                if score is not None and score >= self.good:
                    return spent
        return 401


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.slow
def test_reaches_the_top_percent_in_half_of_random_searchs_evaluations(batch: int) -> None:
    """Medians over 24 paired landscapes, one worker and eight."""
    ours, random = [], []
    for seed in range(24):
        landscape = Landscape(seed)
        ours.append(landscape.evaluations_to_top_percent(on_map(landscape.embedding, seed=seed), batch))
        random.append(landscape.evaluations_to_top_percent(RandomPolicy(1000, seed), batch))
    assert np.median(ours) <= np.median(random) / 2
    assert np.mean(np.less_equal(ours, random)) > 0.6
