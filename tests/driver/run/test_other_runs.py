"""What other runs and people do with a run's evaluations is met, and costs the same however long the queue is."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from aquasurf_ray.driver.events import Events
from aquasurf_ray.driver.run.claims import Budget, Claims
from aquasurf_ray.driver.run.other_runs import OtherRuns
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.store import EvaluationResult, FunctionRow, NewRun, Store, this_process

DONE = EvaluationResult("done", score=0.5)


class Alone:
    """A pool of one worker."""

    def others(self, slot):
        return set()


@dataclass(frozen=True)
class Slot:
    number: int = 1


@dataclass
class Driver:
    """A run without workers: its lease, what it knows, and the parts of its loop that deal with evaluations."""

    store: Store
    lease: object
    history: History
    claims: Claims
    other_runs: OtherRuns

    def status(self, evaluation_id):
        return self.history.evaluations[evaluation_id].status


def driver(store, name, functions):
    task = store.add_task("t", "1", "d", {})
    run = store.create_run(NewRun(name, "evaluate", task, {}, name, 0, len(functions), None, "0"), functions)
    store.propose(run.id, functions, 0)
    lease = store.acquire_lease(run.id, this_process(), lease_seconds=60)
    config, history = SearchConfig(task="t", health_gate="off"), History.of(store.snapshot(run.id), {})
    context = RunContext(run, config, store, lease, history, Alone(), Events())
    claims = Claims(context, Budget((), len(functions)), None)
    return Driver(store, lease, history, claims, OtherRuns(context, claims))


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as opened:
        yield opened


def functions(store, n, kind="f"):
    return store.add_functions([FunctionRow(f"{kind}{i}", f"{kind}{i}(x)", 1) for i in range(n)])


def test_what_another_run_trains_is_waited_for_and_taken_over_when_it_is_there(store):
    ids = functions(store, 2)
    one, two = driver(store, "one", ids), driver(store, "two", ids)
    claim = one.claims.next_for(Slot())
    assert two.claims.next_for(Slot()).function_id == ids[1], "the first is under way elsewhere"
    two.other_runs.sync(now=True)
    assert [e.function_id for e in two.history.evaluations.elsewhere] == [ids[0]]
    store.record_result(one.lease, claim.evaluation_id, DONE)
    two.other_runs.sync(now=True)
    assert (two.status(claim.evaluation_id), two.history.best()) == ("done", ("f0(x)", 0.5))
    assert [w.reused for w in store.snapshot(two.lease.run_id).evaluations] == [True, False]
    assert two.history.evaluations.n_reused == 1, "the driver counts as the store does"


def test_what_another_run_gives_back_is_queued_here(store):
    ids = functions(store, 1)
    one, two = driver(store, "one", ids), driver(store, "two", ids)
    claim = one.claims.next_for(Slot())
    assert two.claims.next_for(Slot()) is None
    store.record_failure(one.lease, claim.evaluation_id, "lost", final=False)
    two.other_runs.sync(now=True)
    assert two.claims.next_for(Slot()).evaluation_id == claim.evaluation_id


def test_what_a_dead_run_was_training_is_taken_over(store, monkeypatch):
    ids = functions(store, 1)
    one, two = driver(store, "one", ids), driver(store, "two", ids)
    claim = one.claims.next_for(Slot())
    assert two.claims.next_for(Slot()) is None
    monkeypatch.setattr(store, "_is_dead", lambda owner: True)
    two.other_runs.sync(now=True)
    assert two.claims.next_for(Slot()).evaluation_id == claim.evaluation_id


def test_what_another_run_has_finished_costs_no_training_when_its_turn_comes(store):
    ids = functions(store, 3)
    one, two = driver(store, "one", ids), driver(store, "two", ids)
    for _ in ids:
        store.record_result(one.lease, one.claims.next_for(Slot()).evaluation_id, DONE)
    assert two.claims.next_for(Slot()) is None
    assert two.history.evaluations.n() == two.history.evaluations.n_reused == 3


def test_proposals_are_met_and_those_of_what_had_failed_are_queued_again(store):
    ids = functions(store, 3)
    one = driver(store, "one", ids[:1])
    claim = one.claims.next_for(Slot())
    store.record_failure(one.lease, claim.evaluation_id, "lost", final=True)
    one.other_runs.read(one.history.evaluations[claim.evaluation_id])
    assert one.claims.next_for(Slot()) is None
    store.propose(one.lease.run_id, [*ids[1:], ids[0]], 0)
    one.other_runs.sync(now=True)
    order = [one.claims.next_for(Slot()).function_id for _ in ids]
    assert order == ids, "what was begun before comes first, then the order of proposals"
    assert one.claims.next_for(Slot()) is None


def test_a_look_and_a_decision_cost_the_same_however_long_the_queue_is(store):
    engine, seen = store._database._engine, []

    def note(connection, cursor, text, *_):
        seen.append(text)

    def statements(name, n):
        one = driver(store, name, functions(store, n, name))
        one.other_runs.sync(now=True)
        seen.clear()
        sa.event.listen(engine, "before_cursor_execute", note)
        one.other_runs.sync(now=True)
        one.claims.next_for(Slot())
        sa.event.remove(engine, "before_cursor_execute", note)
        return len(seen)

    assert statements("short", 3) == statements("long", 300) > 0
