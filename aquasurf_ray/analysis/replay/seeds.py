"""Searches that train some functions with a second seed, replayed on a benchmark whose functions have three.

A run sees the three trainings of each function in an order of its own: the first is what a search of one seed sees, the
second is there for functions that are trained again, and the third judges the function that is called best, which it
had no part in. All rules spend the same number of trainings. The search itself is that of `metric`; a rule decides
which trainings are second ones, and a call which function is best in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark, Scores
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.simulation import draw_candidates
from aquasurf_ray.analysis.replay.surrogate_policies import (
    fitting,
    surrogate_features,
    surrogate_policy,
)
from aquasurf_ray.seed_means import mean_of
from aquasurf_ray.surrogate.metric_space import MetricSpace
from aquasurf_ray.surrogate.policy import normal_ranks
from aquasurf_ray.surrogate.predictors import MetricProcess
from aquasurf_ray.surrogate.settings import METRIC

N_SEEDS = 3
MOST = 2  # trainings of one function in a search; the third is the judge's

Rule = Callable[["SeedSearch", int, int], int | None]
"""Given the search, the trainings done and their number in all: the function to train again, or None for a new one."""


@dataclass(frozen=True)
class Called:
    """The function that a search calls best: the mean that it was called by, and its scores with the judging seed, NaN
    if it diverged with it; and how many trainings of the search were second ones."""

    promised: float
    judged: float
    test: float
    n_second: int


class SeedSearch:
    """One search of a benchmark. Candidates are a random half of the functions; baselines are trained first.

    Args:
        run: the number of the run, which draws candidates and the order of each function's trainings.

    Raises:
        AnalysisError: the benchmark's functions were not trained three times.
    """

    def __init__(self, benchmark: Benchmark, run: int) -> None:
        if benchmark.n_seeds != N_SEEDS:
            raise AnalysisError(f"benchmark '{benchmark.name}' has {benchmark.n_seeds} seeds; {N_SEEDS} are needed")
        settings = fitting(METRIC, benchmark)
        self._benchmark = benchmark
        drawn = draw_candidates(benchmark, len(benchmark.candidates) // 2, run)
        self._allowed = np.isin(np.arange(len(benchmark)), np.union1d(drawn, benchmark.baselines))
        self._order = np.argsort(np.random.default_rng(run).random((len(benchmark), N_SEEDS)), axis=1)
        self._policy = surrogate_policy(settings, benchmark, run)
        self._space = MetricSpace(surrogate_features(settings, benchmark, run), (0.5, 0.5))
        self.seen: dict[int, list[float | None]] = {}
        for function in benchmark.baselines.tolist():
            self._train(function)

    def search(self, rule: Rule, evaluations: int) -> None:
        """Train so many times after the baselines, as the rule says."""
        for done in range(evaluations):
            again = rule(self, done, evaluations)
            self._train(self.new() if again is None else again)

    def new(self) -> int:
        """Return the function that the surrogate suggests."""
        suggestion = self._policy.suggest(allowed=self._allowed)
        if suggestion is None:
            raise AnalysisError(f"no function of benchmark '{self._benchmark.name}' is left to train")
        return suggestion.candidate

    def called(self, function: int) -> Called:
        """Return a function as the one that is called best."""
        judge = self._order[function, -1]
        return Called(
            promised=self.mean(function),
            judged=float(self._benchmark.seed_scores[function, judge]),
            test=float(self._benchmark.test_scores[function, judge]),
            n_second=sum(len(seen) - 1 for seen in self.seen.values()),
        )

    def mean(self, function: int) -> float:
        """Return the mean of what was seen of a function; minus infinity if it diverged."""
        mean = mean_of(self.seen[function])
        return -np.inf if mean is None else mean

    def by_mean(self) -> list[int]:
        """Return the functions that were trained, best mean first."""
        return sorted(self.seen, key=lambda function: -self.mean(function))

    def is_open(self, function: int) -> bool:
        """Return whether a function has trainings left that the search may see."""
        return len(self.seen[function]) < MOST

    def posterior(self) -> tuple[Scores, Scores, float]:
        """Return the surrogate's mean and deviation of all functions, as normal quantiles, and its noise's variance."""
        known = np.array(sorted(self.seen))
        means = np.array([self.mean(function) for function in known.tolist()])
        targets = normal_ranks(np.where(np.isfinite(means), means, means[np.isfinite(means)].min()))
        counts = np.array([len(self.seen[function]) for function in known.tolist()])
        process, rows = MetricProcess("ei").fitted(self._space, known, targets, counts)
        mean, deviation = process.predict_distances_with_deviation(rows)
        return mean, deviation, process.noise * process.variance * float(targets.var())

    def most_informative(self) -> int:
        """Return the function whose next training is expected to raise the best posterior mean most: the knowledge
        gradient (Frazier, Powell and Dayanik 2009), with the change of the function's own mean alone."""
        mean, deviation, noise = self.posterior()
        known = np.array(sorted(self.seen))
        # After one more training the mean is normal around the present one, with this deviation.
        change = deviation**2 / np.sqrt(deviation**2 + noise)
        first, second = np.sort(mean[known])[::-1][:2]
        rival = np.where(np.isin(np.arange(len(mean)), known) & (mean == first), second, first)
        gain = expected_gain(mean, change, rival)
        closed = [function for function in self.seen if not self.is_open(function)]
        gain[~self._allowed], gain[closed] = -np.inf, -np.inf
        return int(np.argmax(gain))

    def _train(self, function: int) -> None:
        seen = self.seen.setdefault(function, [])
        score = self._benchmark.seed_scores[function, self._order[function, len(seen)]]
        seen.append(None if np.isnan(score) else float(score))
        self._policy.observe(function, mean_of(seen), len(seen))


def expected_gain(mean: Scores, deviation: Scores, rival: Scores) -> Scores:
    """Return E max(m, rival) - max(mean, rival) for m ~ N(mean, deviation²), elementwise."""
    above = -np.abs(mean - rival)
    z = np.divide(above, deviation, out=np.full_like(above, -np.inf), where=deviation > 0)
    return np.asarray(above * ndtr(z) + deviation * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), dtype=np.float64)


def one_seed(search: SeedSearch, done: int, evaluations: int) -> int | None:
    """Train no function again."""
    return None


def new_best(search: SeedSearch, done: int, evaluations: int) -> int | None:
    """Train a function again as soon as it is the best."""
    best = search.by_mean()[0]
    return best if search.is_open(best) else None


def last_part(share: float) -> Rule:
    """Return the rule that trains the best functions again in this last share of the trainings."""

    def rule(search: SeedSearch, done: int, evaluations: int) -> int | None:
        if done < evaluations - int(share * evaluations):
            return None
        return next(function for function in search.by_mean() if search.is_open(function))

    return rule


def every_fourth(search: SeedSearch, done: int, evaluations: int) -> int | None:
    """Train the best function again that was not yet, in each fourth training."""
    return next(function for function in search.by_mean() if search.is_open(function)) if done % 4 == 3 else None


def knowledge_gradient(search: SeedSearch, done: int, evaluations: int) -> int | None:
    """Train what is expected to raise the best posterior mean most, new or not."""
    return search.most_informative()


def best_mean(search: SeedSearch) -> int:
    """Return the function with the best mean."""
    return search.by_mean()[0]


def best_posterior(search: SeedSearch) -> int:
    """Return the trained function with the best posterior mean."""
    known, (mean, _, _) = np.array(sorted(search.seen)), search.posterior()
    return int(known[np.argmax(mean[known])])


_LAST_FIFTH = last_part(0.2)
RULES: dict[str, tuple[Rule, Callable[[SeedSearch], int]]] = {
    "one seed, best score": (one_seed, best_mean),
    "one seed, best posterior mean": (one_seed, best_posterior),
    "each new best again": (new_best, best_mean),
    "every fourth again": (every_fourth, best_mean),
    "last tenth again": (last_part(0.1), best_mean),
    "last fifth again": (_LAST_FIFTH, best_mean),
    "last third again": (last_part(1 / 3), best_mean),
    "last fifth again, best posterior mean": (_LAST_FIFTH, best_posterior),
    "knowledge gradient, best posterior mean": (knowledge_gradient, best_posterior),
}
"""The rules by name, each with its call; the first is what a search without further seeds does."""


def replayed(benchmark: Benchmark, run: int, evaluations: int) -> dict[str, Called]:
    """Return what the searches of one run call best, by the name of the rule."""
    searches: dict[Rule, SeedSearch] = {}  # rules that differ in the call alone have one search
    found = {}
    for name, (rule, call) in RULES.items():
        if rule not in searches:
            searches[rule] = SeedSearch(benchmark, run)
            searches[rule].search(rule, evaluations)
        found[name] = searches[rule].called(call(searches[rule]))
    return found
