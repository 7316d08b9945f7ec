"""A search that pauses trainings of little promise, killed again and again, pauses and resumes the same trainings as
one that was never killed. Workers answer without Ray and without training."""

from __future__ import annotations

import pytest
from store_reading import attempts_of

from aquasurf_ray.store import Store

N_BASELINES, EVALUATIONS = 8, 40
OPTIONS = {"--candidates": "120", "--evaluations": str(EVALUATIONS), "--workers": "1", "--features": "outputs"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def search(light, url, **environment):
    arguments = ("--early-stop", "curves", *sum(OPTIONS.items(), ()))
    return light("search", "digits", "--name", "one", "--store", url, *arguments, **environment)


def record_of(url):
    """What was trained and why, what was paused, and how often each function was begun."""
    with Store.open(url, create=False) as store:
        run = store.run("one")
        requests = store.snapshot(run.id).evaluations
        paused = [r.function for r in requests if r.evaluation.stopped_early]
        done = {r.function: sum(a.outcome == "done" for a in attempts_of(store, r.evaluation.id)) for r in requests}
    assert run.status == "finished"
    assert len(requests) == len({r.evaluation.key for r in requests}) == N_BASELINES + EVALUATIONS
    reasons = [r.suggestion and (r.suggestion.predicted_score, r.suggestion.neighbors) for r in requests]
    return [(r.function, r.evaluation.score) for r in requests], reasons, paused, done


@pytest.mark.reliability("driver-killed")
def test_a_driver_that_dies_at_every_fifth_training(light, killed_at_every_fifth):
    _, _, paused, done = killed_at_every_fifth(lambda url, **env: search(light, url, **env), record_of, 2 * EVALUATIONS)
    assert len(paused) > EVALUATIONS / 4
    assert any(n > 1 for function, n in done.items() if function not in paused), "some were resumed and ended"
