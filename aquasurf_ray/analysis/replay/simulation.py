"""A search replayed on a benchmark: the policy is asked and told as by the driver, and nothing is trained.

Trainings run on a virtual clock, in seconds, with the run times that they really took: a free worker gets the next
suggestion, made while the others are pending; results come one at a time in the order in which trainings end (of equal
ends, the one that began first). Suggesting takes no virtual time; what it takes of the processor is measured, which a
busy machine makes longer only by what it does to the caches.
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
    """What a search did, one entry an evaluation in the order in which they ended; baselines are not among them.

    Args:
        order: the candidates int64 [evaluations].
        started_at: virtual seconds from the first suggestion on, float64 [evaluations].
        finished_at: the same, ascending.
        predicted: what the policy expected of each when it suggested it; NaN where it did not say.
        observed: the score that it was told; NaN where the training diverged.
        truth: the median over seeds; NaN where the median training diverged.
        suggest_seconds: processor seconds of each suggestion, measured.
        candidates: what the search could choose from, baselines left out, ascending: int64 [c].
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
    """Runs a search of exactly `evaluations` trainings after the baselines, which are observed first.

    Args:
        policy: a fresh one, whose candidates are the benchmark's functions.
        benchmark: what answers.
        evaluations: how many trainings.
        seed: chooses the trainings that are seen.
        workers: trainings at the same time.
        observe: "seed" tells the policy the scores of one training seed, `seed % seeds`, as in a real search; "draw"
            draws a training seed for every function, so that many runs on few seeds differ; "median" tells the truth.
        candidates: which functions the search may train besides the baselines; all by default. What a search does on a
            whole benchmark hardly depends on chance, so that many runs that are to be compared need one subset each:
            see `draw_candidates`.

    Raises:
        AnalysisError: more evaluations than functions were trained, or a policy that suggests what it may not, or
            nothing while there is something.
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
        raise AnalysisError(f"{evaluations} evaluations asked for, but {len(open_)} functions are there to train")
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
    """A random subset of n of the benchmark's candidates, ascending: int64 [n]; all if there are not more."""
    others = benchmark.candidates
    drawn = np.argsort(np.random.PCG64(seed).random_raw(len(others)), kind="stable")
    return np.sort(others[drawn[:n]])


class _Search:
    """One search on the virtual clock: scores and seconds [n] are what trainings give, trained [n] which there are."""

    def __init__(self, policy: Policy, scores: Scores, seconds: Scores, trained: Mask) -> None:
        self._policy = policy
        self._scores = scores
        self._seconds = seconds
        self._open = trained.copy()
        self._allowed = trained  # what was observed or is pending the policy knows itself
        self._running: list[tuple[float, int, _Started]] = []
        self._n_started = 0

    @property
    def open(self) -> Indices:
        """Which functions may still be suggested."""
        return np.flatnonzero(self._open)

    def observe_first(self, candidates: Indices) -> None:
        """Tells the policy results that nobody suggested."""
        for candidate in candidates[self._open[candidates]].tolist():
            self._policy.observe(candidate, _score(self._scores[candidate]))
            self._open[candidate] = False

    def run(self, evaluations: int, workers: int) -> list[tuple[float, _Started]]:
        """The evaluations with their ends, in that order."""
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
        """Asks for a suggestion and trains it; False where the policy would rather wait."""
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
        heapq.heappush(self._running, (now + self._seconds[candidate], self._n_started, started))
        self._n_started += 1
        return True


def _world(benchmark: Benchmark, seed: int, observe: str) -> tuple[Scores, Scores, Mask]:
    """Scores and seconds that the search meets [n], and which functions it can train."""
    if observe not in get_args(Observe):
        raise AnalysisError(f"observe is {observe!r}; choose one of {', '.join(get_args(Observe))}")
    trained = benchmark.trained
    if observe == "median":
        there: Mask = np.asarray(trained.any(axis=1))
        seconds = np.zeros(len(benchmark))
        known = np.isfinite(benchmark.seconds).any(axis=1)
        seconds[known] = np.nanmedian(benchmark.seconds[known], axis=1)
        return benchmark.scores, seconds, there
    columns = np.full(len(benchmark), seed % benchmark.n_seeds)
    if observe == "draw":
        chosen = (np.random.default_rng(seed).random(len(benchmark)) * trained.sum(axis=1)).astype(np.int64)
        columns = np.argsort(~trained, axis=1, kind="stable")[np.arange(len(benchmark)), chosen]
    cells = np.arange(len(benchmark)), columns
    return benchmark.seed_scores[cells], np.nan_to_num(benchmark.seconds[cells]), trained[cells]


def _score(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
