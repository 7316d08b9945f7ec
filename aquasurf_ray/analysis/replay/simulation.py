"""A search replayed on a benchmark: the policy is used as by the driver, but nothing is trained.

Trainings run on a virtual clock, in seconds, with the durations that they really had: a free worker gets the next
suggestion, made while the others are pending; results arrive one at a time in the order in which trainings end (of
equal ends, the one that began first). A suggestion takes no virtual time. Its processor time is measured, which the
load of the machine affects only through the caches.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark, Indices, Scores
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.surrogate.policy import Policy

Observe = Literal["seed", "draw", "median"]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Trace:
    """The evaluations of a search, in the order in which they ended, without the baselines.

    Args:
        order: the candidates int64 [evaluations].
        started_at: the starts in virtual seconds since the first suggestion, float64 [evaluations].
        finished_at: the ends in virtual seconds, ascending, float64 [evaluations].
        predicted: the score that the policy predicted when it made the suggestion; NaN without a prediction.
        observed: the score that the policy observed; NaN where the training diverged.
        truth: the median over seeds; NaN where the median training diverged.
        suggest_seconds: the measured processor seconds of each suggestion.
        candidates: the functions that the search could choose from, without the baselines, ascending: int64 [c].
    """

    order: Indices
    started_at: Scores
    finished_at: Scores
    predicted: Scores
    observed: Scores
    truth: Scores
    suggest_seconds: Scores
    candidates: Indices


@dataclass(frozen=True)
class _Started:
    candidate: int
    at: float
    predicted: float
    suggest_seconds: float


def simulate(
    policy: Policy,
    benchmark: Benchmark,
    evaluations: int,
    *,
    seed: int,
    workers: int = 1,
    observe: Observe = "seed",
    candidates: Sequence[int] | Indices | None = None,
) -> Trace:
    """Run a search of exactly `evaluations` trainings after the baselines, which are observed first.

    Args:
        policy: a fresh policy, whose candidates are the benchmark's functions.
        benchmark: the benchmark with the results.
        evaluations: the number of trainings.
        seed: chooses the training seeds that the policy observes.
        workers: the number of trainings at the same time.
        observe: the scores that the policy observes: "seed", those of one training seed, `seed % seeds`, as in a real
            search; "draw", a training seed drawn for every function, so that many runs on few seeds differ; "median",
            the median over seeds.
        candidates: the functions that the search may train besides the baselines; by default all. A search on a whole
            benchmark hardly depends on chance, so many runs that are to be compared need one subset each: see
            `draw_candidates`.

    Raises:
        AnalysisError: there are more evaluations than trained functions, or the policy suggests a function that is not
            allowed, or none although some are open.
    """
    if evaluations < 1 or workers < 1:
        raise AnalysisError(f"a search needs evaluations and workers, got {evaluations} and {workers}")
    scores, seconds, trained = _world(benchmark, seed, observe)
    if candidates is not None:
        trained = trained & np.isin(np.arange(len(benchmark)), np.union1d(candidates, benchmark.baselines))
    search = _Search(policy, scores, seconds, trained)
    search.observe_first(benchmark.baselines)
    open_ = search.open
    if len(open_) < evaluations:
        raise AnalysisError(f"{evaluations} evaluations need as many functions, but the search can train {len(open_)}")
    finished = search.run(evaluations, workers)
    order = np.array([started.candidate for _, started in finished], dtype=np.int64)
    return Trace(
        order=order,
        started_at=np.array([started.at for _, started in finished]),
        finished_at=np.array([at for at, _ in finished]),
        predicted=np.array([started.predicted for _, started in finished]),
        observed=scores[order],
        truth=benchmark.scores[order],
        suggest_seconds=np.array([started.suggest_seconds for _, started in finished]),
        candidates=open_,
    )


def draw_candidates(benchmark: Benchmark, n: int, seed: int) -> Indices:
    """Return a random subset of n of the benchmark's candidates, ascending: int64 [n]; all if there are not more."""
    others = benchmark.candidates
    # Raw bits, as in `Benchmark.split`: the subset of a seed is the same with every version of NumPy.
    drawn = np.argsort(np.random.PCG64(seed).random_raw(len(others)), kind="stable")
    return np.sort(others[drawn[:n]])


class _Search:
    """One search on the virtual clock; scores and seconds [n] are those of the trainings that `trained` [n] marks."""

    def __init__(self, policy: Policy, scores: Scores, seconds: Scores, trained: Mask) -> None:
        self._policy = policy
        self._scores = scores
        self._seconds = seconds
        self._open = trained.copy()
        self._allowed = trained  # the policy itself excludes observed and pending functions
        self._running: list[tuple[float, int, _Started]] = []
        self._n_started = 0

    @property
    def open(self) -> Indices:
        """The functions that may still be suggested."""
        return np.flatnonzero(self._open)

    def observe_first(self, candidates: Indices) -> None:
        """Let the policy observe results that it did not suggest."""
        for candidate in candidates[self._open[candidates]].tolist():
            self._policy.observe(candidate, _score(self._scores[candidate]))
            self._open[candidate] = False

    def run(self, evaluations: int, workers: int) -> list[tuple[float, _Started]]:
        """Return the evaluations with their ends, in the order of these."""
        finished: list[tuple[float, _Started]] = []
        now = 0.0
        while len(finished) < evaluations:
            while len(self._running) < workers and self._n_started < evaluations and self._start(now):
                pass
            if not self._running:
                raise AnalysisError(f"the policy suggested nothing after {len(finished)} of {evaluations} evaluations")
            now, _, started = heapq.heappop(self._running)
            self._policy.observe(started.candidate, _score(self._scores[started.candidate]))
            finished.append((now, started))
        return finished

    def _start(self, now: float) -> bool:
        """Start the training of the next suggestion; return False if the policy has none now."""
        pending = frozenset(started.candidate for _, _, started in self._running)
        before = time.process_time()
        suggestion = self._policy.suggest(pending=pending, allowed=self._allowed)
        took = time.process_time() - before
        if suggestion is None:
            return False
        candidate, predicted = suggestion.candidate, suggestion.predicted_score
        if not 0 <= candidate < len(self._open) or not self._open[candidate]:
            raise AnalysisError(f"the policy suggested candidate {candidate}, which it may not train (again)")
        self._open[candidate] = False
        started = _Started(candidate, now, np.nan if predicted is None else predicted, took)
        # The number breaks ties of equal ends: the training that began first ends first.
        heapq.heappush(self._running, (now + self._seconds[candidate], self._n_started, started))
        self._n_started += 1
        return True


def _world(benchmark: Benchmark, seed: int, observe: str) -> tuple[Scores, Scores, Mask]:
    """Return the scores and seconds of the search's trainings [n], and which functions it can train."""
    if observe not in get_args(Observe):
        raise AnalysisError(f"observe is {observe!r}; choose one of {', '.join(get_args(Observe))}")
    trained = benchmark.trained
    if observe == "median":
        any_seed: Mask = np.asarray(trained.any(axis=1))
        seconds = np.zeros(len(benchmark))
        known = np.isfinite(benchmark.seconds).any(axis=1)
        seconds[known] = np.nanmedian(benchmark.seconds[known], axis=1)
        return benchmark.scores, seconds, any_seed
    columns = np.full(len(benchmark), seed % benchmark.n_seeds)
    if observe == "draw":
        chosen = (np.random.default_rng(seed).random(len(benchmark)) * trained.sum(axis=1)).astype(np.int64)
        # Each row's trained seeds come first in this order, so the draw cannot hit one that was never run.
        columns = np.argsort(~trained, axis=1, kind="stable")[np.arange(len(benchmark)), chosen]
    cells = np.arange(len(benchmark)), columns
    return benchmark.seed_scores[cells], np.nan_to_num(benchmark.seconds[cells]), trained[cells]


def _score(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
