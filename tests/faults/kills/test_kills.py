"""The promise that a finished result is never lost or trained twice, under kill -9 of the driver at random moments."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from store_reading import attempts_of

from aquasurf_ray.store import Store, StoreError

CANDIDATES = 24
BASELINES = 8
REAL = ("-m", "aquasurf_ray")
SCRIPTED = (str(Path(__file__).parents[2] / "programs/scripted_search.py"),)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Place:
    """Where a search runs: its database, its Ray (its own where no address is given), and its folder."""

    store_url: str
    ray_address: str | None
    folder: Path

    def start(self, command, *words, **options):
        """Starts a driver with words and options, and those of the place."""
        options |= {"store": self.store_url} | ({"address": self.ray_address} if self.ray_address else {})
        flags = [f"--{name}={value}" for name, value in options.items()]
        return self.run(*command, *words, *flags)

    def run(self, *command, **kwargs):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes = {"stderr": subprocess.PIPE, "text": True, **kwargs}
        return subprocess.Popen([sys.executable, *command], cwd=self.folder, env=environment, **pipes)


@pytest.fixture
def sqlite_place(tmp_path):
    return Place(f"sqlite:///{tmp_path}/runs.db", None, tmp_path)


@pytest.fixture
def postgres_place(tmp_path, postgres_url, ray_cluster):
    return Place(postgres_url, ray_cluster, tmp_path)


def finished_rows(store_url):
    """Every finished evaluation with what it measured and when; none before the database and its run are there."""
    try:
        with Store.open(store_url, create=False, migrate=False) as store:
            requests = [request for run in store.runs() for request in store.snapshot(run.id).evaluations]
    except StoreError:
        return {}  # the caller compares with what it saw before, so a database lost later still fails the test
    return {
        request.evaluation.id: (request.function, request.evaluation.score, request.evaluation.finished_at)
        for request in requests
        if request.evaluation.finished
    }


def wait_for_a_result(driver, store_url, kept):
    """Until the driver has stored more than is known, or has ended."""
    patience = time.monotonic() + 300  # a start takes 10 s alone, a minute on a machine that is shared by many
    while driver.poll() is None and len(finished_rows(store_url)) <= len(kept):
        if time.monotonic() > patience:
            driver.kill()
            pytest.fail(f"no result in five minutes: {driver.stderr.read()}")
        time.sleep(0.2)


@pytest.mark.faults
@pytest.mark.reliability("driver-killed")
def test_ten_kills_lose_nothing_and_train_nothing_twice_on_sqlite(sqlite_place, injections):
    kill_and_resume(sqlite_place, injections, REAL, kills=10, evaluations=24)


@pytest.mark.faults
@pytest.mark.reliability("driver-killed")
def test_ten_kills_lose_nothing_and_train_nothing_twice_on_postgresql(postgres_place, injections):
    kill_and_resume(postgres_place, injections, REAL, kills=10, evaluations=24)


@pytest.mark.reliability("driver-killed")
def test_two_kills_lose_nothing_where_workers_answer_without_training(store_url, ray_cluster, tmp_path, injections):
    kill_and_resume(Place(store_url, ray_cluster, tmp_path), injections, SCRIPTED, kills=2, evaluations=5)


def kill_and_resume(place, injections, command, *, kills, evaluations, candidates=CANDIDATES, workers=2, **others):
    """Kills the driver of a search at random moments, resumes it each time, lets it end, and looks at what is there.

    Returns the results that were there at the last kill.
    """
    chance = random.Random(20260)
    words, options = (
        ("search", "digits"),
        {"evaluations": evaluations, "candidates": candidates, "name": "killed", "workers": workers, **others},
    )
    kept = {}
    for kill in range(kills):
        with place.start(command, *words, **options) as driver:
            if kill % 2:  # or a loaded machine would kill it in its starts only
                wait_for_a_result(driver, place.store_url, kept)
            time.sleep(chance.uniform(0.0, 1.5) if kill % 2 else chance.uniform(1.0, 9.0))
            assert driver.poll() is None, f"ended before it was killed: {driver.stderr.read()}"
            driver.send_signal(signal.SIGKILL)
            injections.add()
        found = finished_rows(place.store_url)
        assert kept.items() <= found.items(), "a finished result changed or is gone"
        kept = found
        words, options = (("resume", "killed"), {}) if kept else (words, options)
    assert kept, "no kill came after a result; the test would show nothing"
    driver = place.start(command, *words, **options)
    _, said = driver.communicate(timeout=600)
    assert driver.returncode == 0, said
    check_the_end(place.store_url, kept, evaluations)
    again = place.run(*REAL, "resume", "killed", "--json", "--store", place.store_url, stdout=subprocess.PIPE)
    out, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert json.loads(out)["status"] == "finished"
    return kept


def check_the_end(store_url, kept, budget):
    with Store.open(store_url, create=False) as store:
        (run,) = store.runs()
        status, requests = store.status(run.id), store.snapshot(run.id).evaluations
        outcomes = Counter(a.outcome for w in requests for a in attempts_of(store, w.evaluation.id))
    assert run.status == "finished"
    assert run.lease_owner is None
    assert status.by_status.keys() <= {"done", "diverged"}, "nothing is left running or queued"
    assert len(requests) == budget + BASELINES
    keys = [(w.evaluation.task_id, w.evaluation.function_id, w.evaluation.seed) for w in requests]
    assert len(set(keys)) == len(keys)
    assert "superseded" not in outcomes, "the store had to refuse the result of a second training"
    assert outcomes["done"] + outcomes["diverged"] == len(requests), "each was brought to its end exactly once"
    assert None not in outcomes, "no try is left open"
    assert (
        kept.items()
        <= {w.evaluation.id: (w.function, w.evaluation.score, w.evaluation.finished_at) for w in requests}.items()
    )
