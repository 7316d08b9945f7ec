"""Requests to stop reach the driver that they are for and no later one; what a driver said is as old as it says."""

from __future__ import annotations

import pytest

from aquasurf_ray.store import (
    EvaluationResult,
    FailureCause,
    LeaseLost,
    LiveRun,
    LiveWorker,
    RunActivity,
    RunNotFound,
    Store,
    this_process,
)

BUSY = LiveWorker("worker-1", "busy", 12.5, "node-a", "NVIDIA H100", "trains relu(x)", 3, 87.0, 1200.0, 80_000.0)
LIVE = LiveRun((BUSY, LiveWorker("worker-2", "starting", 0.0)), 31.5, 7200.0, "stopped by SIGTERM")


def test_a_request_reaches_the_driver_that_has_the_run(world, elsewhere):
    lease = world.lease()
    assert world.store.stop_request(lease) is None
    with Store.open(world.url) as other:
        assert other.request_stop(lease.run_id, elsewhere)
    request = world.store.stop_request(lease)
    assert request.asked_by == elsewhere
    assert world.store.activity(lease.run_id).stop_request == request
    assert world.store.request_stop(lease.run_id, this_process()), "asking again is harmless, the last one counts"
    assert world.store.stop_request(lease).asked_by == this_process()


def test_a_request_of_an_earlier_session_does_not_stop_the_next(world, elsewhere):
    first = world.lease()
    world.store.request_stop(first.run_id, elsewhere)
    world.store.release_lease(first, "interrupted")
    second = world.lease()
    assert world.store.stop_request(second) is None
    assert world.store.activity(second.run_id).stop_request is None
    assert world.store.request_stop(second.run_id, elsewhere)
    assert world.store.stop_request(second) is not None


def test_nobody_is_asked_where_nobody_drives(world):
    run = world.run()
    assert not world.store.request_stop(run.id, this_process())
    assert world.store.activity(run.id) == RunActivity()
    with pytest.raises(RunNotFound, match="4711"):
        world.store.request_stop(4711, this_process())


def test_what_a_driver_said_comes_back_whole_and_is_replaced(world):
    lease = world.lease()
    before = world.store.activity(lease.run_id)
    assert (before.owner, before.live, before.live_age) == (this_process(), None, None)
    assert (before.lease_seconds, before.since is not None) == (30.0, True)
    world.store.report(lease, LIVE)
    activity = world.store.activity(lease.run_id)
    assert activity.live == LIVE
    assert 0 <= activity.live_age < 60
    assert 0 <= activity.heartbeat_age < 60
    world.store.report(lease, LiveRun())
    assert world.store.activity(lease.run_id).live == LiveRun()


def test_the_report_of_a_driver_that_lost_the_run_counts_no_more(world, clock, elsewhere):
    run = world.run()
    old = world.store.acquire_lease(run.id, elsewhere, lease_seconds=30)
    world.store.report(old, LIVE)
    new = world.store.acquire_lease(run.id, this_process(), lease_seconds=30, clock=clock)
    assert world.store.activity(run.id).live is None
    with pytest.raises(LeaseLost):
        world.store.report(old, LIVE)
    world.store.report(new, LiveRun())
    assert world.store.activity(run.id).live == LiveRun()


def test_failures_are_counted_by_what_the_machines_said(world):
    lease = world.lease()
    for function, error in zip(world.functions, ("lost", "lost", "full"), strict=False):
        claim = world.store.claim(lease, function, 0, "suggestion")
        world.store.start(lease, claim.evaluation_id, "worker-1")
        world.store.record_failure(lease, claim.evaluation_id, error, final=False)
    claim = world.store.claim(lease, world.functions[0], 0, "suggestion")
    world.store.start(lease, claim.evaluation_id, "worker-1")
    world.store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=0.5))
    assert world.store.failure_causes(lease.run_id) == (FailureCause("lost", 2), FailureCause("full", 1))
