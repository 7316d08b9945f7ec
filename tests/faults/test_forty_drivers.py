"""Forty drivers with runs of their own on one PostgreSQL: they share what they train, and none waits for ever."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import make_url
from store_reading import attempts_of

from aquasurf_ray.store import Store

N = 40
BUDGET, BASELINES = 6, 8

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.reliability("forty-runs")
def test_forty_drivers_train_each_function_once_without_a_deadlock(started, postgres_url, postgres_server, injections):
    injections.add(N)
    program = Path(__file__).parents[1] / "programs/forty_drivers.py"
    process = started(str(program), postgres_url, str(N), LIGHT_SECONDS="0.2")
    out, err = process.communicate(timeout=500)
    drivers = [json.loads(line) for line in out.splitlines()]
    assert Counter(driver["code"] for driver in drivers) == {0: N}, (err, drivers)
    with Store.open(postgres_url) as store:
        runs = store.runs()
        requests = {run.name: store.snapshot(run.id).evaluations for run in runs}
        evaluations = {w.evaluation.id: w.evaluation for found in requests.values() for w in found}
        outcomes = Counter(a.outcome for number in evaluations for a in attempts_of(store, number))
        trained = Counter(e.kind for run in runs for e in store.events(run.id))
    assert {(run.status, run.lease_owner) for run in runs} == {("finished", None)}
    assert {len(found) for found in requests.values()} == {BUDGET + BASELINES}, "each budget is met exactly"
    assert {evaluation.status for evaluation in evaluations.values()} == {"done"}
    assert len({e.function_id for e in evaluations.values()}) == len(evaluations), "no function has two evaluations"
    assert outcomes == {"done": len(evaluations)}, "each was tried once"
    assert trained["result"] == len(evaluations)
    assert len(evaluations) < N * BUDGET, "they share, or the test would show nothing"
    assert sum(w.reused for found in requests.values() for w in found) == N * (BUDGET + BASELINES) - len(evaluations)
    database = make_url(postgres_url).database
    ((deadlocks,),) = postgres_server.execute(f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{database}'")
    assert deadlocks == 0
