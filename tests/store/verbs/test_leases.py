"""Exactly one driver works on a run; the loser of a lease writes nothing; clocks and dead processes mislead nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from store_reading import attempts_of, claim_next

from aquasurf_ray.store import (
    EvaluationResult,
    LeaseLost,
    LeaseOwner,
    RunHeld,
    RunNotFound,
    Store,
    is_dead,
    this_process,
)
from aquasurf_ray.store.database.schema import Run

DONE = EvaluationResult("done", score=0.9)


def test_a_free_run_is_taken_at_once(world, clock):
    run = world.run()
    lease = world.store.acquire_lease(run.id, this_process(), lease_seconds=30, clock=clock)
    assert clock.now == 1000
    held = world.store.run("run")
    assert (held.status, held.lease_owner, held.lease_token) == ("running", this_process(), lease.token)


def test_a_run_that_is_not_there(world, clock):
    with pytest.raises(RunNotFound, match="4711"):
        world.store.acquire_lease(4711, this_process(), lease_seconds=30, clock=clock)


def test_a_beating_holder_is_noticed_at_its_first_beat(world, clock, elsewhere):
    run = world.run()
    lease = world.store.acquire_lease(run.id, elsewhere, lease_seconds=30)
    clock.during_sleep = lambda: world.store.renew_lease(lease)
    with pytest.raises(RunHeld, match=r"'run' is held by far-away pid 4711; stop that driver"):
        world.store.acquire_lease(run.id, this_process(), lease_seconds=30, clock=clock)
    assert clock.now < 1005


def test_a_silent_holder_is_succeeded_after_its_lease_and_can_write_no_more(world, clock, elsewhere):
    run = world.run()
    old = world.store.acquire_lease(run.id, elsewhere, lease_seconds=30)
    claim = world.store.claim(old, world.functions[0], 0, "baseline")
    new = world.store.acquire_lease(run.id, this_process(), lease_seconds=10, clock=clock)
    assert 1030 <= clock.now < 1035  # the holder's own, longer period counts
    assert new.token > old.token
    assert new.requeued == (claim.evaluation_id,)
    with pytest.raises(LeaseLost, match=f"taken over by .* pid {os.getpid()}"):
        world.store.record_result(old, claim.evaluation_id, DONE)
    with pytest.raises(LeaseLost):
        world.store.renew_lease(old)
    with pytest.raises(LeaseLost):
        world.store.release_lease(old, "finished")
    assert world.store.evaluation(claim.evaluation_id).status == "queued"
    assert world.store.run("run").lease_owner == this_process()


def test_a_holder_that_leaves_while_it_is_watched_is_succeeded_at_once(world, clock, elsewhere):
    run = world.run()
    lease = world.store.acquire_lease(run.id, elsewhere, lease_seconds=30)
    clock.during_sleep = lambda: world.store.release_lease(lease, "interrupted")
    world.store.acquire_lease(run.id, this_process(), lease_seconds=30, clock=clock)
    assert clock.now < 1005


def test_a_newcomer_that_is_overtaken_while_it_watches_gives_way(world, clock, elsewhere):
    run = world.run()
    world.store.acquire_lease(run.id, elsewhere, lease_seconds=30)
    overtaker = replace(elsewhere, host="third-host")

    def overtake() -> None:
        if clock.now > 1025:
            with Store.open(world.url, is_dead=lambda owner: owner == elsewhere) as store:
                store.acquire_lease(run.id, overtaker, lease_seconds=30)
            clock.during_sleep = lambda: None

    clock.during_sleep = overtake
    with pytest.raises(RunHeld, match="third-host"):
        world.store.acquire_lease(run.id, this_process(), lease_seconds=30, clock=clock)


@pytest.mark.reliability("clock-set-back")
def test_wall_clocks_decide_nothing(world, clock, elsewhere):
    """A holder whose last sign of life looks days old, or days ahead, is judged by its heartbeat alone."""
    run = world.run()
    lease = world.store.acquire_lease(run.id, elsewhere, lease_seconds=30)
    for year in (1970, 2099):
        moved = sa.update(Run).values(lease_renewed_at=world.store.run("run").created_at.replace(year=year))

        def beat_and_shift(moved=moved) -> None:
            world.store.renew_lease(lease)
            world.store._write(lambda connection: connection.execute(moved))

        clock.during_sleep = beat_and_shift
        with pytest.raises(RunHeld):
            world.store.acquire_lease(run.id, this_process(), lease_seconds=30, clock=clock)


@pytest.mark.slow
def test_what_ran_is_requeued_without_counting_as_an_attempt(world):
    lease = world.lease()
    claims = [world.store.claim(lease, function, 0, "suggestion") for function in world.functions[:3]]
    world.store.start(lease, claims[0].evaluation_id, "w")
    world.store.record_result(lease, claims[2].evaluation_id, DONE)
    world.store.release_lease(lease, "interrupted", "stopped by Ctrl-C")
    run = world.store.run("run")
    assert (run.status, run.message, run.lease_owner) == ("interrupted", "stopped by Ctrl-C", None)
    statuses = [item.evaluation.status for item in world.store.snapshot(run.id).evaluations]
    assert statuses == ["queued", "queued", "done"]
    (attempt,) = attempts_of(world.store, claims[0].evaluation_id)
    assert attempt.outcome == "interrupted"
    assert world.store.evaluation(claims[0].evaluation_id).attempts == 0
    again = world.lease()
    assert [claim_next(world.store, again).function_id for _ in range(2)] == world.functions[:2]
    assert claim_next(world.store, again) is None


def test_giving_back_twice_is_once(world):
    lease = world.lease()
    world.store.release_lease(lease, "finished")
    world.store.release_lease(lease, "finished")
    assert [event.kind for event in world.store.events(lease.run_id)].count("finished") == 1


def start_sleeper() -> tuple[subprocess.Popen[str], str]:
    """A process that tells who it is, and then waits."""
    code = "from aquasurf_ray.store import this_process; print(this_process(), flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    assert process.stdout is not None
    return process, process.stdout.readline()


def owner_of(line: str):
    return eval(line, {"LeaseOwner": LeaseOwner})


def test_the_dead_are_told_from_the_living():
    process, line = start_sleeper()
    owner = owner_of(line)
    try:
        assert not is_dead(owner)
        assert is_dead(replace(owner, started=owner.started + 1))  # a reused pid
        assert not is_dead(replace(owner, host="far-away", pid=2**22))
        assert not is_dead(replace(owner, boot_id="other-boot", pid=2**22))
        assert not is_dead(replace(owner, namespace="pid:[1]", pid=2**22))
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(owner)  # a zombie that nobody has waited for
    finally:
        process.kill()
        process.communicate()
    assert is_dead(owner)


def test_a_run_of_a_killed_process_of_this_host_is_taken_at_once(world, clock):
    process, line = start_sleeper()
    run = world.run()
    world.store.acquire_lease(run.id, owner_of(line), lease_seconds=3600)
    process.kill()
    process.communicate()
    world.store.acquire_lease(run.id, this_process(), lease_seconds=30, clock=clock)
    assert clock.now == 1000
    taken = world.store.events(run.id)[-1]
    assert (taken.kind, taken.data["holder_was"], taken.data["holder"]["pid"]) == ("lease_taken", "dead", process.pid)


def test_the_log_keeps_the_versions_of_the_last_session(world):
    run = world.run()
    assert world.store.versions(run.id) == {}
    for torch in ("2.6.0", "2.15.0"):
        lease = world.store.acquire_lease(run.id, this_process(), versions={"python": "3.11.7", "torch": torch})
        world.store.release_lease(lease, "interrupted")
    assert world.store.versions(run.id) == {"python": "3.11.7", "torch": "2.15.0"}


def test_a_claim_of_a_dead_run_is_taken_over_and_its_late_result_kept(world):
    process, line = start_sleeper()
    owner = owner_of(line)
    first = world.store.acquire_lease(world.run("first").id, owner, lease_seconds=3600)
    second = world.lease("second")
    claims = [world.store.claim(first, function, 0, "baseline") for function in world.functions[:2]]
    assert world.store.claim(second, world.functions[0], 0, "baseline").state == "taken"
    process.kill()
    process.communicate()
    taken = [world.store.claim(second, function, 0, "baseline") for function in world.functions[:2]]
    assert [claim.state for claim in taken] == ["claimed", "claimed"]
    assert world.store.record_result(second, taken[0].evaluation_id, DONE)
    late = EvaluationResult("done", score=0.5)
    assert not world.store.record_result(first, claims[0].evaluation_id, late)
    assert world.store.record_result(first, claims[1].evaluation_id, late)
    assert not world.store.record_result(second, taken[1].evaluation_id, DONE)
    assert world.store.evaluation(claims[1].evaluation_id).score == 0.5


def test_a_claim_of_a_run_elsewhere_is_taken_over_after_ten_silent_periods(world, elsewhere):
    first = world.store.acquire_lease(world.run("first").id, elsewhere, lease_seconds=0.02)
    second = world.lease("second")
    world.store.claim(first, world.functions[0], 0, "baseline")
    world.store.renew_lease(first)
    time.sleep(0.3)
    assert world.store.claim(second, world.functions[0], 0, "baseline").state == "claimed"


@pytest.mark.reliability("clock-set-back")
def test_claims_live_through_a_clock_that_is_set_back_and_not_until_it_has_caught_up(world, elsewhere):
    """As after the database's clock went back by a day: the last heartbeat lies ahead. The living beat again."""
    first = world.store.acquire_lease(world.run("first").id, elsewhere, lease_seconds=30)
    second = world.lease("second")
    a, b = world.functions[:2]
    claims = [world.store.claim(first, function, 0, "baseline") for function in (a, b)]
    ahead = {"lease_renewed_at": world.store.run("first").created_at + timedelta(days=1)}
    moved = sa.update(Run).where(Run.name == "first").values(ahead)
    world.store._write(lambda connection: connection.execute(moved))
    world.store.renew_lease(first)
    assert world.store.claim(second, a, 0, "baseline").state == "taken", "it lives"
    world.store._write(lambda connection: connection.execute(moved))
    assert world.store.claim(second, b, 0, "baseline").state == "claimed", "it is silent"
    assert world.store.record_result(first, claims[1].evaluation_id, DONE), "and late results are welcome"
