"""What the surrogate is told of a run's evaluations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aquasurf_ray.driver import suggester
from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.evaluations import RunEvaluation, RunEvaluations
from aquasurf_ray.driver.history import History
from store import FunctionRecord
from surrogate.embedding import Embedding
from surrogate.policy import SurrogatePolicy

NAMES = ("relu(x)", "tanh(x)", "elu(x)", "swish(x)", "erf(x)", "selu(x)")


class LineEmbedder:
    """Puts the candidates on a line, at once."""

    def __init__(self):
        self.embedding = None

    def start(self, outputs, spectra, config):
        points = np.array([[i, 0.0] for i in range(len(outputs))], dtype=np.float32)
        self.embedding = Embedding(points, "line", np.ones(len(points), dtype=bool))

    def poll(self):
        return self.embedding


class NoStore:
    """A store that knows no embedding."""

    def embedding(self, version):
        return None

    def save_embedding(self, lease, record):
        return None


@pytest.fixture
def told(monkeypatch):
    """What policies have been told, in order."""
    observed = []

    class Listening(SurrogatePolicy):
        def observe(self, candidate, score):
            observed.append((candidate, score))
            super().observe(candidate, score)

    monkeypatch.setattr(suggester, "SurrogatePolicy", Listening)
    return observed


def asked(history):
    """A new suggester's first suggestion."""
    config = SearchConfig(task="t", features="outputs")
    made = suggester.Suggester(config, 1, NoStore(), None, history, LineEmbedder())
    made.prepare()
    made.prepare()
    return made.suggest()


def history_of(*evaluations):
    candidates = [FunctionRecord(number, f"f{number}", name, 1) for number, name in enumerate(NAMES)]
    return History(candidates, RunEvaluations(evaluations))


def evaluation(number, status, score=None):
    return RunEvaluation(number, number, NAMES[number], 0, "suggestion", status, score)


def test_the_surrogate_learns_from_what_diverged_and_never_from_what_machines_failed_to_do(told):
    ends = (evaluation(0, "done", 0.9), evaluation(1, "diverged"), evaluation(2, "failed"), evaluation(3, "running"))
    suggestion = asked(history_of(*ends))
    assert told == [(0, 0.9), (1, None)]
    assert suggestion.candidate in (4, 5)


@pytest.mark.parametrize("status", ["failed", "queued", "running"])
def test_a_result_that_was_given_up_for_a_new_training_is_not_learnt_from(told, status):
    history = history_of(evaluation(0, "done", 0.9), evaluation(1, "done", 0.5))
    history.evaluations.put(replace(evaluation(1, status)))
    asked(history)
    assert told == [(0, 0.9)]
