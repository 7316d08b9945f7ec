"""A search of the open space, or for a function per role, that is killed again and again makes the candidates that it
would have made in peace.

Workers answer without Ray and without training.
"""

from __future__ import annotations

import random
import signal
import time

import pytest

from aquasurf_ray.store import Store, StoreError

OPTIONS = {"--space": "open", "--candidates": "70", "--growth": "2", "--evaluations": "10", "--workers": "1"}
N_TRAININGS = 8 + 10
GENERATIONS = 2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


OF_ROLES = OPTIONS | {"--space": "three-node"}


def search(light, url, task="digits", options=OPTIONS, **environment):
    return light("search", task, "--name", "one", "--store", url, *sum(options.items(), ()), **environment)


def record_of(url):
    """The candidates in their order, those that the run made with their origin, and what was suggested and why."""
    with Store.open(url, create=False) as store:
        run = store.run("one")
        candidates = store.candidates(run.id)
        names = {function.id: function.name for function in candidates}
        made = [(f.name, family.ancestors[0]) for f in candidates for family in store.families(f.id)]
        requests = store.snapshot(run.id).evaluations
        assert store.growth(run.id).generation == GENERATIONS
    assert run.status == "finished"
    origins = [(name, own.generation, own.change, [names[p] for p in own.parents]) for name, own in made]
    suggested = [(r.function, r.suggestion.predicted_score) for r in requests if r.suggestion]
    results = [(r.function, r.evaluation.status, r.evaluation.score, r.evaluation.attempts) for r in requests]
    return list(names.values()), origins, suggested, [result[:3] for result in results]


@pytest.fixture
def undisturbed(light, tmp_path):
    return record_in_peace(light, tmp_path)


def record_in_peace(light, tmp_path, *which):
    url = f"sqlite:///{tmp_path}/undisturbed.db"
    process = search(light, url, *which)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return record_of(url)


@pytest.mark.reliability("driver-killed")
def test_a_driver_that_dies_at_every_third_training(light, store_url, undisturbed, injections):
    """Two trainings for each life, so that some end right before a generation and others right behind it."""
    kill_at_every_third(light, store_url, injections)
    assert record_of(store_url) == undisturbed


@pytest.mark.reliability("driver-killed")
def test_a_driver_that_searches_a_function_per_role_dies_at_every_third_training(
    light, store_url, tmp_path, injections
):
    which = "role_task:two_roles", OF_ROLES
    in_peace = record_in_peace(light, tmp_path, *which)
    assert any("early=" in name for name in in_peace[0])
    kill_at_every_third(light, store_url, injections, *which)
    assert record_of(store_url) == in_peace


def kill_at_every_third(light, url, injections, *which):
    for _ in range(N_TRAININGS):
        process = search(light, url, *which, LIGHT_KILL="3")
        _, err = process.communicate(timeout=300)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
        injections.add()


@pytest.mark.reliability("driver-killed")
def test_a_driver_that_is_killed_at_any_moment(light, store_url, undisturbed, injections):
    chance = random.Random(7)
    for _ in range(6):
        known = n_results(store_url)
        process = search(light, store_url, LIGHT_SECONDS="0.1")
        patience = time.monotonic() + 120
        while process.poll() is None and n_results(store_url) <= known and time.monotonic() < patience:
            time.sleep(0.05)
        time.sleep(chance.uniform(0.0, 0.5))
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        injections.add()
    process = search(light, store_url)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert record_of(store_url) == undisturbed


def n_results(url):
    """The number of results, and 0 while there is no run."""
    try:
        with Store.open(url, create=False, migrate=False, patience=0.5) as store:
            return sum(request.evaluation.finished for request in store.snapshot(store.run("one").id).evaluations)
    except StoreError:
        return 0
