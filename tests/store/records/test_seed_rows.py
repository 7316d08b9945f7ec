"""A leaderboard by means over seeds: one row for each function, and none for one that diverged with some seed."""

from __future__ import annotations

import numpy as np
import pytest

from aquasurf_ray.store import LeaderboardRow
from aquasurf_ray.store.records.seed_rows import means_of_seeds


def row(number, score, seed=0, change="", **more):
    known = {"baseline": False, "device": None, "precision": None, "time_ratio": None, "memory_ratio": None}
    return LeaderboardRow(
        rank=0,
        function_id=number,
        function=f"f{number}(x)",
        score=score,
        seed=seed,
        recipe_change=change,
        seconds=1.0 + seed,
        reused=False,
        evaluation_id=10 * number + seed,
        **known | more,
    )


ROWS = [
    row(1, 0.9, seed=1),
    row(2, 0.8),
    row(3, 0.75, test_score=0.7),
    row(1, 0.6),
    row(3, 0.7, seed=1, test_score=0.5),
]


def test_rows_are_means_and_are_ranked_by_them():
    found = means_of_seeds(ROWS, set())
    assert [(each.rank, each.function_id, each.seeds) for each in found] == [
        (1, 2, (0,)),
        (2, 1, (0, 1)),
        (3, 3, (0, 1)),
    ]
    assert [each.score for each in found] == pytest.approx([0.8, 0.75, 0.725])
    assert found[1].evaluation_id == 10, "the training with the first seed"
    assert found[1].seconds == 1.5
    assert found[2].test_score == pytest.approx(0.6)
    assert found[1].test_score is None


def test_the_noise_of_a_mean_is_pooled_over_the_functions_with_several_seeds():
    found = {each.function_id: each.noise for each in means_of_seeds(ROWS, set())}
    pooled = np.sqrt(np.mean([np.var([0.9, 0.6], ddof=1), np.var([0.75, 0.7], ddof=1)]))
    assert found == pytest.approx({1: pooled / np.sqrt(2), 2: pooled, 3: pooled / np.sqrt(2)})
    assert means_of_seeds([row(2, 0.8)], set())[0].noise is None


def test_a_function_that_diverged_with_a_seed_has_no_row():
    assert [each.function_id for each in means_of_seeds(ROWS, {(2, "")})] == [1, 3]
    changed = [row(2, 0.8), row(2, 0.9, change="learning_rate*2")]
    assert [each.recipe_change for each in means_of_seeds(changed, {(2, "")})] == ["learning_rate*2"]


def test_a_mean_with_a_training_that_was_stopped_early_is_no_whole_one():
    found = means_of_seeds([row(1, 0.9), row(1, 0.5, seed=1, stopped_early="median")], set())
    assert found[0].stopped_early == "median"
