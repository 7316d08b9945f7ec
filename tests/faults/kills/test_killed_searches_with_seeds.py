"""A search that trains its best functions with a second seed, killed again and again, trains what it would have trained
in peace, each once. Workers answer without Ray and without training."""

from __future__ import annotations

from collections import Counter

import pytest
from store_reading import attempts_of

from aquasurf_ray.store import Store

OPTIONS = {"--candidates": "40", "--evaluations": "25", "--workers": "1", "--features": "outputs"}
N_TRAININGS = 8 + 25

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def search(light, url, *more, **environment):
    arguments = ("--leader-seeds", "2", *sum(OPTIONS.items(), ()), *more)
    return light("search", "digits", "--name", "one", "--store", url, *arguments, **environment)


def record_of(url):
    """What was trained and why, and the results."""
    with Store.open(url, create=False) as store:
        run = store.run("one")
        requests = store.snapshot(run.id).evaluations
        outcomes = Counter(a.outcome for r in requests for a in attempts_of(store, r.evaluation.id))
        best = store.leaderboard(run_id=run.id)[0]
    assert run.status == "finished"
    assert outcomes["done"] == len(requests) == len({r.evaluation.key for r in requests}) == N_TRAININGS
    reasons = [r.suggestion and (r.suggestion.predicted_score, r.suggestion.neighbors) for r in requests]
    trainings = [(r.function, r.evaluation.recipe_change, r.evaluation.seed, r.evaluation.score) for r in requests]
    return list(zip(trainings, reasons, strict=True)), (best.function, best.score, best.seeds)


@pytest.mark.reliability("driver-killed")
@pytest.mark.parametrize("more", [(), ("--learning-rates", "0.5,1,2")], ids=["functions", "rates"])
def test_a_driver_that_dies_at_every_fifth_training(light, killed_at_every_fifth, more):
    # Killed in the last fifth as well: five of its trainings are second ones, and a life ends after four.
    found = killed_at_every_fifth(
        lambda url, **environment: search(light, url, *more, **environment), record_of, N_TRAININGS
    )
    seeds = [seed for (_, _, seed, _), _ in found[0]]
    assert seeds == [0] * (N_TRAININGS - 5) + [1] * 5
