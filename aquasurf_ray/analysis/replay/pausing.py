"""Searches that pause trainings of little promise, replayed on a benchmark with learning curves.

A training is looked at after a quarter and after half of its epochs, as the median rule does. A rule says which score
it must have to continue. What a rule pauses counts for the surrogate with the score that it has, and may be resumed:
its remaining epochs then cost what they cost, and the others are not repeated. All searches see the same trainings
of the same functions; they differ in the epochs that they spend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark, Scores
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.simulation import draw_candidates
from aquasurf_ray.analysis.replay.surrogate_policies import fitting, surrogate_policy
from aquasurf_ray.surrogate.learning_curves import checked_epochs, score_to_continue
from aquasurf_ray.surrogate.settings import METRIC

ENOUGH = 5  # scores after an epoch, below which a quantile of them says too little

Needed = Callable[["PausingSearch", int], float]
"""The score that a training needs after an epoch, which counts from 1, to continue; minus infinity for any."""


@dataclass(frozen=True)
class Rule:
    """The scores that trainings need, and whether what is paused is resumed once its score is enough."""

    needed: Needed
    resumes: bool = False


@dataclass(frozen=True)
class Finished:
    """A function whose training has finished, and the epochs that the search had spent by then."""

    function: int
    epochs: int


class PausingSearch:
    """One search of a benchmark. Candidates are a random half of the functions; baselines are trained first.

    Args:
        run: the number of the run, which draws candidates and, where there are several, the seed of the trainings.

    Raises:
        AnalysisError: the benchmark has no learning curves.
    """

    def __init__(self, benchmark: Benchmark, run: int, rule: Rule) -> None:
        if benchmark.curves is None:
            raise AnalysisError(f"benchmark '{benchmark.name}' has no learning curves; build it again to record them")
        seed = run % benchmark.n_seeds
        self.curves: Scores = benchmark.curves[:, seed]
        self._final = benchmark.seed_scores[:, seed]
        self._rule = rule
        self.candidates = draw_candidates(benchmark, len(benchmark.candidates) // 2, run)
        self._allowed = np.isin(np.arange(len(benchmark)), self.candidates)
        self._policy = surrogate_policy(fitting(METRIC, benchmark), benchmark, run)
        self.n_epochs = self.curves.shape[1]
        self.looks = checked_epochs(self.n_epochs)
        self.spent = 0
        self.finished: list[Finished] = []
        self.paused: dict[int, int] = {}  # the epoch at which each function is paused
        self.begun: list[int] = []
        for function in benchmark.baselines.tolist():
            self._train(function, whole=True)
        # All searches begin with the baselines, in full: they are no part of what is counted.
        self.spent = 0
        self._n_baselines = len(self.finished)

    @property
    def found(self) -> list[Finished]:
        """The functions that the search itself has chosen and trained to their end."""
        return self.finished[self._n_baselines :]

    def search(self, epochs: int) -> None:
        """Train until so many epochs are spent; the last training may spend more."""
        while self.spent < epochs:
            again = next((f for f, at in self.paused.items() if self._is_enough(f, at)), None)
            if again is not None and self._rule.resumes:
                self._train(again, whole=True)
                continue
            suggestion = self._policy.suggest(allowed=self._allowed)
            if suggestion is None:
                return
            self._train(suggestion.candidate)

    def known_after(self, epoch: int) -> tuple[Scores, Scores]:
        """Return the scores after an epoch and at the end of the trainings that have finished and did not diverge."""
        functions = [each.function for each in self.finished]
        early, final = self.curves[functions, epoch - 1], self._final[functions]
        whole = np.isfinite(final)
        return early[whole], final[whole]

    def seen_after(self, epoch: int) -> Scores:
        """Return the scores after an epoch of all trainings that have reached it, paused ones included."""
        reached = [f for f in self.begun if f not in self.paused or self.paused[f] >= epoch]
        scores = self.curves[reached, epoch - 1]
        return np.asarray(scores[np.isfinite(scores)])

    def _is_enough(self, function: int, epoch: int) -> bool:
        return bool(self.curves[function, epoch - 1] >= self._rule.needed(self, epoch))

    def _train(self, function: int, *, whole: bool = False) -> None:
        """Train a function on, to its end or until it is paused."""
        start = self.paused.pop(function, 0)
        if start == 0:
            self.begun.append(function)
        curve = self.curves[function]
        broken = int(np.isfinite(curve).sum()) + 1  # the epoch in which a training that diverges does so
        for epoch in () if whole else self.looks:
            if epoch < broken and not self._is_enough(function, epoch):
                self.spent += epoch - start
                self.paused[function] = epoch
                self._policy.observe(function, float(curve[epoch - 1]))
                return
        self.spent += min(broken, self.n_epochs) - start
        score = self._final[function]
        self.finished.append(Finished(function, self.spent))
        self._policy.observe(function, None if np.isnan(score) else float(score))


def any_score(search: PausingSearch, epoch: int) -> float:
    """Let every training continue."""
    return -np.inf


def quantile(share: float) -> Needed:
    """Return the rule that a training must have this quantile of the scores that others had after the epoch.

    One half is what `--early-stop median` asks for; two thirds is asynchronous successive halving with a third that
    continues (Li et al. 2020), if paused trainings are resumed.
    """

    def needed(search: PausingSearch, epoch: int) -> float:
        seen = search.seen_after(epoch)
        return float(np.quantile(seen, share)) if len(seen) >= ENOUGH else -np.inf

    return needed


def chance_of_best(chance: float) -> Needed:
    """Return the rule that a training must exceed the best final score so far with at least this probability, or be
    among the best quarter: what `--early-stop curves` asks for."""

    def needed(search: PausingSearch, epoch: int) -> float:
        score = score_to_continue(*search.known_after(epoch), search.seen_after(epoch), chance)
        return -np.inf if score is None else score

    return needed


FULL = "full trainings"
RULES: dict[str, Rule] = {
    FULL: Rule(any_score),
    "median": Rule(quantile(1 / 2)),
    "median, resumed": Rule(quantile(1 / 2), resumes=True),
    "best third": Rule(quantile(2 / 3)),
    "best third, resumed": Rule(quantile(2 / 3), resumes=True),
    "chance of 0.1": Rule(chance_of_best(0.1)),
    "chance of 0.1, resumed": Rule(chance_of_best(0.1), resumes=True),
    "chance of 0.01": Rule(chance_of_best(0.01)),
    "chance of 0.01, resumed": Rule(chance_of_best(0.01), resumes=True),
}
