"""Screening by outputs: what is near good functions passes, alike ones do not pass together."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from aquasurf_ray.surrogate.batches import BelievingProcess
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.gaussian_process import GaussianProcess, merit
from aquasurf_ray.surrogate.policy import normal_ranks
from aquasurf_ray.surrogate.screening import OutputDistances, screened

X = np.linspace(-3, 3, 1000)


def lines(*slopes: float) -> np.ndarray:
    return np.array([slope * X for slope in slopes], dtype=np.float32).reshape(-1, len(X))


def test_distances_are_euclidean() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 1000)).astype(np.float32)
    distances = OutputDistances(rows)
    for i in range(20):
        by_hand = np.linalg.norm(rows.astype(np.float64) - rows[i], axis=1)
        np.testing.assert_allclose(distances.of(i), by_hand, rtol=1e-4, atol=1e-2)


def test_the_first_choice_is_that_of_expected_improvement() -> None:
    """Against the process itself, fitted to distances that NumPy computes."""
    trained, new = lines(-2, -1, 0, 1, 2), lines(-1.5, 0.4, 1.2, 1.8)
    scores = [0.1, 0.3, 0.5, 0.9, 0.4]
    targets = normal_ranks(np.array(scores))
    among = np.linalg.norm(trained[:, None] - trained[None], axis=2)
    process = GaussianProcess("exponential").fit_distances(among, targets)
    mean, deviation = process.predict_distances_with_deviation(np.linalg.norm(trained[:, None] - new[None], axis=2))
    expected = int(np.argmax(merit("ei", mean, deviation, float(targets.max()))))
    assert screened(trained, scores, new, 2)[0] == expected == 2


def test_of_twins_one_is_chosen_before_the_other() -> None:
    trained = lines(-2, -1, 0, 1)
    new = lines(1.1, 1.1000001, 1.1000002, 1.9, 0.6)
    chosen = screened(trained, [0.1, 0.2, 0.3, 0.9], new, 3).tolist()
    assert len(set(chosen)) == 3
    assert {3, 4} < set(chosen)


def test_diverged_functions_repel() -> None:
    trained, new = lines(-2, -1, 1, 2), lines(-1.2, 1.2)
    assert screened(trained, [None, None, 0.8, 0.9], new, 1).tolist() == [1]
    assert screened(trained, [0.9, 0.8, None, None], new, 1).tolist() == [0]


@pytest.mark.parametrize("scores", [[], [None, None]])
def test_without_a_score_the_first_ones_pass(scores: list[None]) -> None:
    assert screened(lines(*range(len(scores))), scores, lines(3, 4, 5), 2).tolist() == [0, 1]


def test_no_more_than_there_are_and_none_twice() -> None:
    found = screened(lines(0, 1), [0.1, 0.2], lines(2, 3, 4), 9)
    assert sorted(found.tolist()) == [0, 1, 2]
    assert screened(lines(0, 1), [0.1, 0.2], lines(), 3).tolist() == []


def test_scores_must_be_as_many_as_functions() -> None:
    with pytest.raises(SurrogateError, match="2 trained functions need as many scores, got 1"):
        screened(lines(0, 1), [0.1], lines(2), 1)


def test_other_threads_are_left_to_the_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products on the threads of all cores wait for each other: seconds where trainings keep the cores busy."""
    seen = []
    believe = BelievingProcess.believe

    def noted(self: BelievingProcess, candidates: np.ndarray) -> None:
        seen.append(blas_threads())
        believe(self, candidates)

    monkeypatch.setattr(BelievingProcess, "believe", noted)
    with threadpool_limits(2, user_api="blas"):
        screened(lines(-2, -1, 0, 1), [0.1, 0.2, 0.3, 0.9], lines(1.1, 1.9, 0.6), 2)
        assert blas_threads() == {2}
    assert seen
    assert all(threads == {1} for threads in seen)


def blas_threads() -> set[int]:
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}
