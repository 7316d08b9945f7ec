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

from store import Store, StoreError

BUDGET = 24
CANDIDATES = 32
KILLS = 10
BASELINES = 8

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Place:
    """Where a search runs: its database, its Ray, and the folder that it is started in."""

    store_url: str
    ray_address: str | None
    workers: int
    folder: Path

    def start(self, *arguments, **kwargs):
        joined = ("--address", self.ray_address) if self.ray_address else ()
        command = [sys.executable, "-m", "aquasurf_ray", *arguments, *joined, "--store", self.store_url]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, cwd=self.folder, env=environment, stderr=subprocess.PIPE, text=True, **kwargs)


@pytest.fixture(params=["SQLite and a Ray of its own", "PostgreSQL and a cluster that outlives it"])
def place(request, tmp_path):
    if request.param.startswith("SQLite"):
        return Place(f"sqlite:///{tmp_path}/runs.db", None, 2, tmp_path)
    return Place(request.getfixturevalue("postgres_url"), request.getfixturevalue("ray_cluster"), 1, tmp_path)


def finished_rows(store_url):
    """Every finished evaluation with what it measured and when; none before the database and its run are there."""
    try:
        with Store.open(store_url, create=False, migrate=False) as store:
            wishes = [wish for run in store.runs() for wish in store.snapshot(run.id).evaluations]
    except StoreError:
        return {}  # the caller compares with what it saw before, so a database lost later still fails the test
    return {
        wish.evaluation.id: (wish.function, wish.evaluation.score, wish.evaluation.finished_at)
        for wish in wishes
        if wish.evaluation.finished
    }


def wait_for_a_result(driver, store_url, kept):
    """Until the driver has stored more than is known, or has ended."""
    patience = time.monotonic() + 120
    while driver.poll() is None and len(finished_rows(store_url)) <= len(kept):
        if time.monotonic() > patience:
            driver.kill()
            pytest.fail(f"no result in two minutes: {driver.stderr.read()}")
        time.sleep(0.2)


def test_ten_kills_lose_nothing_and_train_nothing_twice(place):
    chance = random.Random(20260)
    search = ("search", "digits", "--name", "killed", "--workers", str(place.workers), "--evaluations", str(BUDGET))
    arguments = (*search, "--candidates", str(CANDIDATES))
    kept = {}
    for kill in range(KILLS):
        with place.start(*arguments) as driver:
            if kill % 2:
                wait_for_a_result(
                    driver, place.store_url, kept
                )  # or a loaded machine would be killed at its start only
            time.sleep(chance.uniform(0.0, 1.5) if kill % 2 else chance.uniform(1.0, 9.0))
            assert driver.poll() is None, f"ended before it was killed: {driver.stderr.read()}"
            driver.send_signal(signal.SIGKILL)
        found = finished_rows(place.store_url)
        assert kept.items() <= found.items(), "a finished result changed or is gone"
        kept = found
        arguments = ("resume", "killed") if kept else arguments
    assert kept, "no kill came after a result; the test would show nothing"
    driver = place.start(*arguments)
    _, said = driver.communicate(timeout=600)
    assert driver.returncode == 0, said
    check_the_end(place.store_url, kept)
    again = place.start("resume", "killed", "--json", stdout=subprocess.PIPE)
    out, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert json.loads(out)["status"] == "finished"


def check_the_end(store_url, kept):
    with Store.open(store_url, create=False) as store:
        (run,) = store.runs()
        status, wishes = store.status(run.id), store.snapshot(run.id).evaluations
        outcomes = Counter(a.outcome for w in wishes for a in store.attempts(w.evaluation.id))
    assert run.status == "finished"
    assert run.lease_owner is None
    assert status.by_status.keys() <= {"done", "diverged"}, "nothing is left running or queued"
    assert len(wishes) == BUDGET + BASELINES
    keys = [(w.evaluation.task_id, w.evaluation.function_id, w.evaluation.seed) for w in wishes]
    assert len(set(keys)) == len(keys)
    assert "superseded" not in outcomes, "the store had to refuse the result of a second training"
    assert outcomes["done"] + outcomes["diverged"] == len(wishes), "each was brought to its end exactly once"
    assert None not in outcomes, "no try is left open"
    assert (
        kept.items()
        <= {w.evaluation.id: (w.function, w.evaluation.score, w.evaluation.finished_at) for w in wishes}.items()
    )
