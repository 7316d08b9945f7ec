"""Writes that share a transaction: all are there or none, in the order asked for, and twice is as once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from store_reading import attempts_of

from aquasurf_ray.store import (
    BadRecord,
    CostRecord,
    EpochRecord,
    EvaluationRequest,
    EvaluationResult,
    FunctionRow,
    NewRun,
    RecordNotFound,
    StartRecord,
    Store,
    SuggestionRecord,
    this_process,
)

DONE = EvaluationResult("done", score=0.5, epochs=tuple(EpochRecord(i, val_score=0.5) for i in range(1, 4)))


@pytest.fixture
def held(store_url):
    """A store, a lease and six functions."""
    with Store.open(store_url) as store:
        task = store.add_task("t", "1", "d", {})
        functions = store.add_functions([FunctionRow(f"f{i}", f"f{i}(x)", 1) for i in range(6)])
        run = store.create_run(NewRun("run", "search", task, {}, "d", 0, 6, None, "0"), functions)
        yield store, store.acquire_lease(run.id, this_process(), lease_seconds=3600), functions


def claimed(store, lease, functions):
    return store.claim_all(
        lease, [EvaluationRequest(f, 0, "suggestion", SuggestionRecord(0.1 * f, f)) for f in functions]
    )


def kinds(store, lease):
    kinds = [event.kind for event in store.events(lease.run_id)]
    return kinds[kinds.index("lease_taken") + 1 :]


def test_suggestions_are_claimed_in_their_order(held):
    store, lease, functions = held
    wanted = [functions[i] for i in (4, 0, 2)]
    claims = claimed(store, lease, wanted)
    assert [(claim.function_id, claim.state, claim.record.status) for claim in claims] == [
        (number, "claimed", "running") for number in wanted
    ]
    requests = store.snapshot(lease.run_id).evaluations
    assert [request.evaluation.function_id for request in requests] == wanted
    assert [request.suggestion.rank for request in requests] == wanted
    assert kinds(store, lease) == ["claimed"] * 3


def test_the_same_group_again_changes_nothing_and_logs_nothing(held):
    """As after a COMMIT that was not answered."""
    store, lease, functions = held
    claims = claimed(store, lease, functions[:3])
    ids = [claim.evaluation_id for claim in claims]
    assert [claim.evaluation_id for claim in claimed(store, lease, functions[:3])] == ids
    starts = [StartRecord(number, f"worker-{number}", "here") for number in ids]
    assert store.start_all(lease, starts) == store.start_all(lease, starts) == [True] * 3
    results = {number: replace(DONE, score=0.1 * number) for number in ids}
    assert store.record_results(lease, results) == store.record_results(lease, results) == dict.fromkeys(ids, True)
    assert kinds(store, lease) == ["claimed"] * 3 + ["started"] * 3 + ["result"] * 3
    assert [store.evaluation(number).score for number in ids] == [0.1 * number for number in ids]
    assert [len(store.curve(number)) for number in ids] == [3] * 3
    assert [[a.outcome for a in attempts_of(store, number)] for number in ids] == [["done"]] * 3


def test_of_a_group_that_cannot_be_written_nothing_is(held):
    store, lease, functions = held
    first, second = (claim.evaluation_id for claim in claimed(store, lease, functions[:2]))
    with pytest.raises(BadRecord, match="finite score"):
        store.record_results(lease, {first: DONE, second: replace(DONE, score=float("nan"))})
    with pytest.raises(RecordNotFound, match="no evaluation has the number 999"):
        store.record_results(lease, {first: DONE, 999: DONE})
    with pytest.raises(RecordNotFound):
        store.start_all(lease, [StartRecord(first), StartRecord(999)])
    assert store.evaluation(first).status == "running"
    assert store.curve(first) == attempts_of(store, first) == ()
    assert kinds(store, lease) == ["claimed"] * 2


def test_the_first_result_stays_in_a_group_too(held):
    store, lease, functions = held
    first, second = (claim.evaluation_id for claim in claimed(store, lease, functions[:2]))
    store.record_result(lease, first, DONE)
    assert store.record_results(lease, {first: replace(DONE, score=0.9), second: DONE}) == {first: False, second: True}
    assert store.evaluation(first).score == 0.5


def test_a_group_takes_no_more_statements_than_one(held):
    store, lease, functions = held
    statements = []

    def note(connection, cursor, text, *_):
        statements.append(text)

    def counted(group):
        statements.clear()
        ids = [claim.evaluation_id for claim in claimed(store, lease, group)]
        store.start_all(lease, [StartRecord(number, "worker", "here") for number in ids])
        store.record_costs(lease, [CostRecord("cpu", 0.1, 0.1, 10, 10, function_id=number) for number in group])
        store.record_results(lease, dict.fromkeys(ids, DONE))
        return len(statements)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        assert counted(functions[1:]) <= counted(functions[:1])
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert {request.evaluation.status for request in store.snapshot(lease.run_id).evaluations} == {"done"}
