"""A search at several learning rates that is killed again and again trains the pairs that it would have trained in
peace, each once. Workers answer without Ray and without training."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
from store_reading import attempts_of

from aquasurf_ray.store import Store

OPTIONS = {"--candidates": "40", "--evaluations": "24", "--workers": "1", "--features": "outputs"}
RATES = ("--learning-rates", "0.5,1,2")
N_TRAININGS = 8 + 24

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def search(light, url, **environment):
    return light("search", "digits", "--name", "one", "--store", url, *RATES, *sum(OPTIONS.items(), ()), **environment)


def record_of(url):
    """What was suggested and why, and the results."""
    with Store.open(url, create=False) as store:
        run = store.run("one")
        requests = store.snapshot(run.id).evaluations
        outcomes = Counter(a.outcome for r in requests for a in attempts_of(store, r.evaluation.id))
    assert run.status == "finished"
    assert outcomes["done"] == len(requests) == len({r.evaluation.key for r in requests}) == N_TRAININGS
    reasons = [r.suggestion and (r.suggestion.predicted_score, r.suggestion.neighbors) for r in requests]
    pairs = [(r.function, r.evaluation.recipe_change, r.evaluation.score) for r in requests]
    return list(zip(pairs, reasons, strict=True))


@pytest.mark.reliability("driver-killed")
def test_a_driver_that_dies_at_every_fifth_training(light, killed_at_every_fifth):
    found = killed_at_every_fifth(partial(search, light), record_of, N_TRAININGS)
    assert len({change for (_, change, _), _ in found}) == 3
