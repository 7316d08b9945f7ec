"""Searches that pause trainings of little promise, replayed on a benchmark with learning curves.

A training is looked at after a quarter and after half of its epochs, as the median rule does. A rule says whether it
continues. What a rule pauses counts for the surrogate with the score that it has, and may be resumed:
its remaining epochs then cost what they cost, and the others are not repeated. All searches see the same trainings
of the same functions; they differ in the epochs that they spend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark, Scores
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.early_stopping.curve_models import FreezeThaw, PowerLaws
from aquasurf_ray.analysis.replay.simulation import draw_candidates
from aquasurf_ray.analysis.replay.surrogate_policies import fitting, surrogate_policy
from aquasurf_ray.surrogate.learning_curves import PASSING, checked_epochs, score_to_continue
from aquasurf_ray.surrogate.settings import METRIC

ENOUGH = 5  # scores after an epoch, below which a quantile of them says too little

CurveModel = FreezeThaw | PowerLaws
Promising = Callable[["PausingSearch", int, int], bool]
"""Whether the training of a function continues after an epoch, which counts from 1."""


@dataclass(frozen=True)
class Rule:
    """Which trainings continue, and whether what is paused is resumed once it is promising."""

    promising: Promising
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
        self._models: dict[tuple[type[CurveModel], int], tuple[int, CurveModel | None]] = {}
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
            paused = self.paused.items() if self._rule.resumes else ()
            again = next((f for f, at in paused if self._rule.promising(self, f, at)), None)
            if again is not None:
                self._train(again, whole=True)
                continue
            suggestion = self._policy.suggest(allowed=self._allowed)
            if suggestion is None:
                return
            self._train(suggestion.candidate)

    def known(self) -> tuple[Scores, Scores]:
        """Return the curves of the trainings that have finished and did not diverge, [m, epochs], and their scores."""
        functions = np.array([each.function for each in self.finished])
        whole = functions[np.isfinite(self._final[functions])]
        return self.curves[whole], self._final[whole]

    def model(self, kind: type[CurveModel], epoch: int) -> CurveModel | None:
        """Return the model of whole curves that the trainings finished so far give; None if they are too few."""
        # Kept until another training finishes, because a fit takes longer than all the rest of a step.
        n, model = self._models.get((kind, epoch), (0, None))
        if n < len(self.finished):
            n, model = len(self.finished), kind.fitted(self.known()[0], epoch)
            self._models[kind, epoch] = n, model
        return model

    def seen_after(self, epoch: int) -> Scores:
        """Return the scores after an epoch of all trainings that have reached it, paused ones included."""
        reached = [f for f in self.begun if f not in self.paused or self.paused[f] >= epoch]
        scores = self.curves[reached, epoch - 1]
        return np.asarray(scores[np.isfinite(scores)])

    def _train(self, function: int, *, whole: bool = False) -> None:
        """Train a function on, to its end or until it is paused."""
        start = self.paused.pop(function, 0)
        if start == 0:
            self.begun.append(function)
        curve = self.curves[function]
        broken = int(np.isfinite(curve).sum()) + 1  # the epoch in which a training that diverges does so
        for epoch in () if whole else self.looks:
            if epoch < broken and not self._rule.promising(self, function, epoch):
                self.spent += epoch - start
                self.paused[function] = epoch
                self._policy.observe(function, float(curve[epoch - 1]))
                return
        self.spent += min(broken, self.n_epochs) - start
        score = self._final[function]
        self.finished.append(Finished(function, self.spent))
        self._policy.observe(function, None if np.isnan(score) else float(score))


def always(search: PausingSearch, function: int, epoch: int) -> bool:
    """Let every training continue."""
    return True


def quantile(share: float) -> Promising:
    """Return the rule that a training must have this quantile of the scores that others had after the epoch.

    One half is what `--early-stop median` asks for; two thirds is asynchronous successive halving with a third that
    continues (Li et al. 2020), if paused trainings are resumed.
    """

    def promising(search: PausingSearch, function: int, epoch: int) -> bool:
        seen = search.seen_after(epoch)
        return len(seen) < ENOUGH or bool(search.curves[function, epoch - 1] >= np.quantile(seen, share))

    return promising


def chance_of_best(chance: float) -> Promising:
    """Return the rule that a training must exceed the best final score so far with at least this probability, or be
    among the best quarter: what `--early-stop curves` asks for."""

    def promising(search: PausingSearch, function: int, epoch: int) -> bool:
        curves, final = search.known()
        score = score_to_continue(curves[:, epoch - 1], final, search.seen_after(epoch), chance)
        return score is None or bool(search.curves[function, epoch - 1] >= score)

    return promising


def chance_by(kind: type[CurveModel], chance: float) -> Promising:
    """Return the same rule with the probability by a model of whole curves."""

    def promising(search: PausingSearch, function: int, epoch: int) -> bool:
        model, curve = search.model(kind, epoch), search.curves[function, :epoch]
        if model is None or curve[-1] >= np.quantile(search.seen_after(epoch), PASSING):
            return True
        _, final = search.known()
        return model.chance_to_exceed(float(final.max()), curve) >= chance

    return promising


FULL = "full trainings"
RULES: dict[str, Rule] = {
    FULL: Rule(always),
    "median": Rule(quantile(1 / 2)),
    "median, resumed": Rule(quantile(1 / 2), resumes=True),
    "best third": Rule(quantile(2 / 3)),
    "best third, resumed": Rule(quantile(2 / 3), resumes=True),
    "chance of 0.1": Rule(chance_of_best(0.1)),
    "chance of 0.1, resumed": Rule(chance_of_best(0.1), resumes=True),
    "chance of 0.01": Rule(chance_of_best(0.01)),
    "chance of 0.01, resumed": Rule(chance_of_best(0.01), resumes=True),
    "freeze-thaw, 0.1, resumed": Rule(chance_by(FreezeThaw, 0.1), resumes=True),
    "power laws, 0.1, resumed": Rule(chance_by(PowerLaws, 0.1), resumes=True),
}
