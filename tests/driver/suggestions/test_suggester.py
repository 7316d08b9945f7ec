"""What the surrogate is told of a run's evaluations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.state.evaluations import EvaluationState, RunEvaluations
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.driver.suggestions import suggester
from aquasurf_ray.store import FunctionRecord
from aquasurf_ray.surrogate.embedding import Embedding
from aquasurf_ray.surrogate.policy import PredictorPolicy
from aquasurf_ray.surrogate.predictors import MapPredictor
from aquasurf_ray.surrogate.regressors import make_regressor

NAMES = ("relu(x)", "tanh(x)", "elu(x)", "swish(x)", "erf(x)", "selu(x)")


class Listening(PredictorPolicy):
    """A policy that notes what it is told, on candidates in a line."""

    def __init__(self, n, observed):
        points = np.array([[i, 0.0] for i in range(n)], dtype=np.float32)
        line = Embedding(points, version="line", placed=np.ones(n, dtype=bool))
        super().__init__(MapPredictor(line, lambda: make_regressor("knr")))
        self._observed = observed

    def observe(self, candidate, score, count=1):
        self._observed.append((candidate, score))
        super().observe(candidate, score, count)


@dataclass
class LineMakings:
    """Of a listening policy."""

    n: int
    observed: list

    def policy(self):
        return Listening(self.n, self.observed)


class LineSurrogate:
    """Gives listening policies."""

    def __init__(self):
        self.observed = []

    def prepare(self, n):
        return None

    def policy_source(self, n):
        return LineMakings(n, self.observed)

    def close(self):
        return None


def asked(history):
    """A new suggester's first suggestion, and what its policy was told before, in order."""
    surrogate = LineSurrogate()
    context = SimpleNamespace(config=SearchConfig(task="t", features="outputs"), history=history)
    made = suggester.Suggester(context, surrogate)
    made.prepare()
    return made.suggest(), surrogate.observed


def history_of(*evaluations):
    candidates = [FunctionRecord(number, f"f{number}", name, 1) for number, name in enumerate(NAMES)]
    return History(candidates, RunEvaluations(evaluations))


def evaluation(number, status, score=None):
    return EvaluationState(number, number, NAMES[number], 0, "suggestion", status, score)


def test_the_surrogate_learns_from_what_diverged_and_never_from_what_machines_failed_to_do():
    ends = (evaluation(0, "done", 0.9), evaluation(1, "diverged"), evaluation(2, "failed"), evaluation(3, "running"))
    suggestion, told = asked(history_of(*ends))
    assert told == [(0, 0.9), (1, None)]
    assert suggestion.candidate in (4, 5)


@pytest.mark.parametrize("status", ["failed", "queued", "running"])
def test_a_result_that_was_given_up_for_a_new_training_is_not_learnt_from(status):
    history = history_of(evaluation(0, "done", 0.9), evaluation(1, "done", 0.5))
    history.evaluations.put(replace(evaluation(1, status)))
    _, told = asked(history)
    assert told == [(0, 0.9)]
