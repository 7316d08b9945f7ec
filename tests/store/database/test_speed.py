"""Nothing that a driver does at each decision reads a whole table."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from store_reading import claim_next

from aquasurf_ray.store import (
    CostRecord,
    EpochRecord,
    EvaluationResult,
    FunctionRow,
    NewRun,
    SpectrumRecord,
    Store,
    this_process,
)

BIG_TABLES = (
    "evaluations",
    "epochs",
    "costs",
    "run_evaluations",
    "run_candidates",
    "spectra",
    "attempts",
    "events",
    "functions",
)
DONE = EvaluationResult("done", score=0.5, epochs=tuple(EpochRecord(i, val_score=0.5) for i in range(10)))


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A run of 5,000 candidates and 300 evaluations."""
    with Store.open(f"sqlite:///{tmp_path_factory.mktemp('big')}/store.db") as store:
        task = store.add_task("t", "1", "d", {})
        functions = store.add_functions([FunctionRow(f"f{i}", f"f{i}(x)", 1) for i in range(5000)])
        run = store.create_run(NewRun("run", "search", task, {}, "d", 0, 300, None, "0"), functions)
        lease = store.acquire_lease(run.id, this_process(), lease_seconds=3600)
        for function in functions[:300]:
            decide(store, lease, function)
        yield store, lease, functions


def decide(store, lease, function):
    claim = store.claim(lease, function, 0, "suggestion")
    store.start(lease, claim.evaluation_id, "w")
    store.record_result(lease, claim.evaluation_id, DONE)


@pytest.mark.slow
def test_no_decision_scans_a_table(big):
    store, lease, functions = big
    statements = []
    engine = store._database._engine

    def note(connection, cursor, text, parameters, *_):
        statements.append((text, parameters))

    sa.event.listen(engine, "before_cursor_execute", note)
    decide(store, lease, functions[1000])
    claim = store.claim(lease, functions[1001], 0, "suggestion")
    store.record_failure(lease, claim.evaluation_id, "x", final=False)
    claim_next(store, lease)
    store.observe(lease, claim.evaluation_id)
    store.evaluation_statuses([claim.evaluation_id])
    store.requests(lease.run_id, [claim.evaluation_id])
    store.renew_lease(lease)
    store.record_spectra(lease, [SpectrumRecord(functions[0], "sampled", 0, "done", b"x")])
    store.spectra(1, functions[:10])
    store.record_costs(lease, [CostRecord("cpu", 0.1, 0.1, 10, 10, function_id=functions[0])])
    store.costs(1, functions[:10], "cpu")
    store.early_scores(1, 5)
    stopped = store.claim(lease, functions[1002], 0, "suggestion")
    store.record_result(lease, stopped.evaluation_id, replace(DONE, stopped_early="after epoch 10 of 20"))
    store.claim(lease, functions[1002], 0, "suggestion", accept_stopped=False)
    store.events(lease.run_id, after=900)
    store.find_function("f77(x)")
    sa.event.remove(engine, "before_cursor_execute", note)
    scans = []
    with engine.connect() as connection:
        for text, parameters in statements:
            if text.split()[0] not in ("SELECT", "INSERT", "UPDATE"):
                continue
            one = parameters[0] if isinstance(parameters, list) else parameters
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", one)
            scans += [(row[3], text) for row in plan if row[3].startswith(tuple(f"SCAN {t}" for t in BIG_TABLES))]
    assert len(statements) > 60
    assert [scan for scan in scans if "USING" not in scan[0]] == []
