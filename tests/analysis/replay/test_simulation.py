"""Replayed searches, held against a slow obvious loop, and a clock that is worked out by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.simulation import draw_candidates, simulate
from aquasurf_ray.surrogate.policy import Policy, RandomPolicy, Suggestion


class Scripted(Policy):
    """Suggests given candidates one after the other, and keeps what it was told."""

    def __init__(self, candidates: Iterable[int | None]) -> None:
        self.left = list(candidates)
        self.log: list[Any] = []

    def observe(self, candidate: int, score: float | None) -> None:
        self.log.append((candidate, score))

    def suggest(self, pending: Iterable[int] = frozenset(), allowed: Any = None) -> Suggestion | None:
        candidate = self.left.pop(0) if self.left else None
        self.log.append(sorted(pending))
        return None if candidate is None else Suggestion(candidate, candidate / 100, 1, (), "")


def timed(synthetic_benchmark: Benchmark, seconds: dict[int, float]) -> Benchmark:
    took = np.ones_like(synthetic_benchmark.seconds)
    for candidate, value in seconds.items():
        took[candidate] = value
    return replace(synthetic_benchmark, seconds=took)


def test_two_workers_by_hand(synthetic_benchmark: Benchmark) -> None:
    """Candidate 20 runs from 0 to 5; beside it 21 from 0 to 2, 22 from 2 to 3, 23 from 3 to 6."""
    policy = Scripted([20, 21, 22, 23])
    trace = simulate(policy, timed(synthetic_benchmark, {20: 5, 21: 2, 22: 1, 23: 3}), 4, seed=0, workers=2)
    assert trace.order.tolist() == [21, 22, 20, 23]
    assert trace.started_at.tolist() == [0, 2, 0, 3]
    assert trace.finished_at.tolist() == [2, 3, 5, 6]
    assert trace.predicted.tolist() == [0.21, 0.22, 0.2, 0.23]
    asked = [entry for entry in policy.log if isinstance(entry, list)]
    assert asked == [[], [20], [20], [20]]
    told = [entry[0] for entry in policy.log if isinstance(entry, tuple)]
    assert told == [*synthetic_benchmark.baselines.tolist(), 21, 22, 20, 23]


def test_of_equal_ends_the_one_that_began_first_comes_first(synthetic_benchmark: Benchmark) -> None:
    trace = simulate(Scripted([30, 20, 40]), timed(synthetic_benchmark, {30: 2, 20: 2, 40: 2}), 3, seed=0, workers=3)
    assert trace.order.tolist() == [30, 20, 40]


def test_a_policy_may_wait_for_what_is_running(synthetic_benchmark: Benchmark) -> None:
    trace = simulate(Scripted([20, None, 21]), timed(synthetic_benchmark, {20: 4}), 2, seed=0, workers=2)
    assert trace.started_at.tolist() == [0, 4]


def slow_search(policy: Policy, synthetic_benchmark: Benchmark, evaluations: int, seed: int, workers: int) -> list[Any]:
    """The same, second by second events found by looking at everything."""
    column = seed % synthetic_benchmark.n_seeds
    for i in synthetic_benchmark.baselines.tolist():
        score = synthetic_benchmark.seed_scores[i, column]
        policy.observe(i, None if np.isnan(score) else float(score))
    running: list[dict[str, Any]] = []
    done: list[Any] = []
    now, started = 0.0, 0
    while len(done) < evaluations:
        while len(running) < workers and started < evaluations:
            suggestion = policy.suggest({r["candidate"] for r in running})
            assert suggestion is not None
            end = now + synthetic_benchmark.seconds[suggestion.candidate, column]
            running.append({"candidate": suggestion.candidate, "number": started, "began": now, "end": end})
            started += 1
        ends = [r["end"] for r in running]
        first = running.pop(ends.index(min(ends)))
        now = first["end"]
        score = synthetic_benchmark.seed_scores[first["candidate"], column]
        policy.observe(first["candidate"], None if np.isnan(score) else float(score))
        done.append((first["candidate"], first["began"], now))
    return done


@pytest.mark.parametrize(("seed", "workers"), [(0, 1), (1, 3), (5, 8)])
def test_is_what_a_slow_loop_does(synthetic_benchmark: Benchmark, seed: int, workers: int) -> None:
    trace = simulate(RandomPolicy(60, seed), synthetic_benchmark, 40, seed=seed, workers=workers)
    expected = slow_search(RandomPolicy(60, seed), synthetic_benchmark, 40, seed, workers)
    found = zip(trace.order.tolist(), trace.started_at.tolist(), trace.finished_at.tolist(), strict=True)
    assert list(found) == expected


def test_no_function_is_trained_twice_and_the_budget_is_met(synthetic_benchmark: Benchmark) -> None:
    trace = simulate(RandomPolicy(60, 1), synthetic_benchmark, 52, seed=1, workers=4)
    assert sorted([*trace.order, *synthetic_benchmark.baselines]) == list(range(60))
    assert (np.diff(trace.finished_at) >= 0).all()
    assert (trace.suggest_seconds > 0).all()
    assert np.isnan(trace.predicted).all()
    np.testing.assert_array_equal(trace.truth, synthetic_benchmark.scores[trace.order])


def test_the_run_sees_one_seed_or_the_median(synthetic_benchmark: Benchmark) -> None:
    policy = Scripted(range(20, 30))
    trace = simulate(policy, synthetic_benchmark, 10, seed=4)
    np.testing.assert_array_equal(trace.observed, synthetic_benchmark.seed_scores[20:30, 1])
    policy = Scripted([8])
    trace = simulate(policy, synthetic_benchmark, 1, seed=0, observe="median")
    assert policy.log[-1] == (8, synthetic_benchmark.scores[8])
    assert np.isnan(synthetic_benchmark.seed_scores[8, 0])
    assert trace.finished_at[0] == pytest.approx(np.median(synthetic_benchmark.seconds[8]))


def test_a_seed_is_drawn_for_every_function_among_those_that_were_trained(synthetic_benchmark: Benchmark) -> None:
    seconds, scores = synthetic_benchmark.seconds.copy(), synthetic_benchmark.seed_scores.copy()
    seconds[25:, 0] = scores[25:, 0] = np.nan
    partial = replace(synthetic_benchmark, seconds=seconds, seed_scores=scores)
    draws = np.stack(
        [simulate(Scripted(range(18, 58)), partial, 40, seed=s, observe="draw").observed for s in range(40)]
    )
    for candidate, drawn in zip(range(18, 58), draws.T, strict=True):
        there = partial.seed_scores[candidate, partial.trained[candidate]]
        assert set(np.nan_to_num(drawn)) == set(np.nan_to_num(there))
    again = simulate(Scripted(range(18, 58)), partial, 40, seed=7, observe="draw").observed
    np.testing.assert_array_equal(again, draws[7])


def test_divergence_is_handed_on(synthetic_benchmark: Benchmark) -> None:
    policy = Scripted([17])
    trace = simulate(policy, synthetic_benchmark, 1, seed=0)
    assert policy.log[-1] == (17, None)
    assert np.isnan(trace.observed[0])


def test_what_was_never_trained_is_not_to_be_had(synthetic_benchmark: Benchmark) -> None:
    gone = np.arange(60) >= 30
    seconds, scores = synthetic_benchmark.seconds.copy(), synthetic_benchmark.seed_scores.copy()
    seconds[gone] = scores[gone] = np.nan
    partial = replace(synthetic_benchmark, seconds=seconds, seed_scores=scores)
    trace = simulate(RandomPolicy(60, 2), partial, 22, seed=0)
    assert sorted(trace.order) == list(range(8, 30))
    with pytest.raises(AnalysisError, match="23 evaluations need as many functions, but the search can train 22"):
        simulate(RandomPolicy(60, 2), partial, 23, seed=0)


def test_a_search_among_some_of_the_functions(synthetic_benchmark: Benchmark) -> None:
    some = draw_candidates(synthetic_benchmark, 20, seed=3)
    assert len(some) == len(set(some)) == 20
    assert set(some).isdisjoint(synthetic_benchmark.baselines)
    assert (
        some.tolist()
        == draw_candidates(synthetic_benchmark, 20, 3).tolist()
        != draw_candidates(synthetic_benchmark, 20, 4).tolist()
    )
    trace = simulate(RandomPolicy(60, 2), synthetic_benchmark, 20, seed=0, candidates=some)
    assert sorted(trace.order) == trace.candidates.tolist() == some.tolist()
    assert len(draw_candidates(synthetic_benchmark, 99, 0)) == 52
    with pytest.raises(AnalysisError, match="21 evaluations need as many functions, but the search can train 20"):
        simulate(RandomPolicy(60, 2), synthetic_benchmark, 21, seed=0, candidates=some)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ([20, 20], "candidate 20, which it may not train"),
        ([0], "candidate 0, which it may not train"),
        ([60], "candidate 60, which it may not train"),
        ([20], "suggested nothing after 1 of 2"),
    ],
)
def test_a_policy_that_breaks_its_word_is_named(
    synthetic_benchmark: Benchmark, script: list[int], message: str
) -> None:
    with pytest.raises(AnalysisError, match=message):
        simulate(Scripted(script), synthetic_benchmark, 2, seed=0)
    with pytest.raises(AnalysisError, match="evaluations and workers, got 0"):
        simulate(Scripted(script), synthetic_benchmark, 0, seed=0)
