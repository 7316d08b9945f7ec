"""Spectra and costs of candidates are computed in order, stored before they count, and retried where they fail."""

from __future__ import annotations

from dataclasses import replace

import pytest
from run_context import FakePool, add_functions, events_of, open_context

from aquasurf_ray.driver.cluster.slot import CostsJob, SpectraJob
from aquasurf_ray.driver.errors import WorkersFailed
from aquasurf_ray.driver.events import CostsMeasured, Note, SpectraComputed
from aquasurf_ray.driver.run.preparation import SHARED_SECONDS, Preparation
from aquasurf_ray.measured_cost import MeasuredCost
from aquasurf_ray.store import CostRecord, Store
from aquasurf_ray.workers.messages import CostReply, SpectrumReply


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as opened:
        yield opened


def prepared(store, n=3, name="one", **wants):
    context = open_context(store, name, add_functions(store, n), pool=FakePool("a", "b"), requested=False)
    return context, Preparation(context, **{"spectra": True, "costs": False, **wants})


def spectrum(function):
    return SpectrumReply(function, "done", None, b"packed", 2.0, "cpu")


def cost(function, seconds=3.0):
    return CostReply(function, "done", None, MeasuredCost("cpu", seconds, 2.0, 10, 10), 1.0)


def settle(context, preparation, slot, reply=None, fault=None):
    outcome = context.pool.end(slot, reply, fault)
    preparation.store([outcome])
    preparation.settle(outcome)


def test_spectra_are_given_out_in_order_and_stored_before_the_history_has_them(store):
    context, preparation = prepared(store)
    first, second = context.pool.slots
    assert preparation.submit(first)
    assert preparation.submit(second)
    assert [slot.job for slot in (first, second)] == [SpectraJob(("f0(x)",)), SpectraJob(("f1(x)",))]
    settle(context, preparation, first, [spectrum("f0(x)")])
    ids = [function.id for function in context.history.candidates]
    stored = store.spectra(context.run.task_id, ids, fisher="sampled", seed=0)
    assert stored.keys() == context.history.spectra.keys() == {ids[0]}
    assert stored[ids[0]].feature == b"packed"
    assert preparation.n_spectra() == (1, 3)
    assert preparation.submit(first)
    assert first.job == SpectraJob(("f2(x)",)), "the second is under way"
    assert events_of(context, SpectraComputed) == [SpectraComputed(1, 2.0, "worker-1", None)]


def test_a_function_that_fails_alone_on_each_attempt_stays_without_and_is_reported(store):
    failures = []
    context, preparation = prepared(store, n=1, on_failure=failures.append)
    for attempt in range(3):
        slot = context.pool.slots[attempt % 2]
        assert preparation.submit(slot), attempt
        settle(context, preparation, slot, fault="Actor died")
    assert not preparation.submit(context.pool.slots[0])
    assert not preparation.spectra_missing()
    assert failures == ["Actor died"]
    assert [note.text for note in events_of(context, Note)] == ["f0(x) stays without a spectrum: Actor died"]
    assert context.history.spectra_failed == {context.history.candidates[0].id}


def test_a_failure_may_end_the_run(store):
    def end(error):
        raise WorkersFailed(error)

    context, preparation = prepared(store, n=1, on_failure=end)
    for _ in range(2):
        preparation.submit(context.pool.slots[0])
        settle(context, preparation, context.pool.slots[0], fault="x")
        context.pool.slots.reverse()
    preparation.submit(context.pool.slots[0])
    with pytest.raises(WorkersFailed, match="x"):
        settle(context, preparation, context.pool.slots[0], fault="x")


def test_whichever_is_further_behind_comes_first(store):
    context, preparation = prepared(store, costs=True)
    (slot, _), jobs = context.pool.slots, []
    for _ in range(4):
        preparation.submit(slot)
        jobs.append(slot.job)
        names = slot.job.functions
        settle(context, preparation, slot, [(spectrum if isinstance(slot.job, SpectraJob) else cost)(n) for n in names])
    assert jobs[:2] == [SpectraJob(("f0(x)",)), CostsJob(("f0(x)",))]
    assert [type(job) for job in jobs] == [SpectraJob, CostsJob, SpectraJob, CostsJob]
    assert preparation.n_costs()[0] >= 2
    first = context.history.candidates[0].id
    assert store.costs(context.run.task_id, [first], device="cpu")[first].time_ratio == 1.5
    assert len(events_of(context, CostsMeasured)) == 2


def test_results_of_another_run_are_read_now_and_then(store):
    other, _ = prepared(store, name="other")
    context, preparation = prepared(store, costs=True)
    ids = [function.id for function in context.history.candidates]
    store.record_costs(other.lease, [CostRecord("cpu", 3.0, 2.0, 10, 10, function_id=ids[0], worker="worker-1")])
    _, theirs = other, Preparation(other, spectra=True, costs=False)
    theirs.submit(other.pool.slots[0])
    settle(other, theirs, other.pool.slots[0], [spectrum("f0(x)")])
    preparation.sync()
    assert context.history.costs.keys() == {ids[0]}, "the costs of a device are read when its first worker is there"
    assert context.history.spectra == {}
    context.clock.now += SHARED_SECONDS + 1
    preparation.sync()
    assert context.history.spectra.keys() == {ids[0]}


def test_the_coverage_of_the_first_spectra_is_noted_once_and_logged_with_the_run(store):
    context, preparation = prepared(store)
    first, second = context.pool.slots
    for slot, name in ((first, "f0(x)"), (second, "f1(x)")):
        preparation.submit(slot)
        settle(context, preparation, slot, [replace(spectrum(name), coverage="spectra cover 3 of 3 matrices")])
    assert events_of(context, Note) == [Note("spectra cover 3 of 3 matrices")]
    assert store.spectrum_coverage(context.run.id) == "spectra cover 3 of 3 matrices"


def test_the_roles_of_layers_are_logged_with_the_coverage(store):
    context, preparation = prepared(store)
    first, second = context.pool.slots
    for slot, name in ((first, "f0(x)"), (second, "f1(x)")):
        preparation.submit(slot)
        settle(context, preparation, slot, [replace(spectrum(name), coverage="3 of 3", roles={"0": "early"})])
    assert store.layer_roles(context.run.task_id) == {"0": "early"}
    logged = [event.data for event in store.events(context.run.id) if event.kind == "spectra"]
    assert ["roles" in data for data in logged] == [True, False]
