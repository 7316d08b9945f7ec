"""Several processes share a run: each trial is told once, by the process that has it, and none is lost."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa

from aquasurf_ray.store import (
    EpochRecord,
    EvaluationRequest,
    EvaluationResult,
    LeaseLost,
    LeaseOwner,
    NewRun,
    RunHeld,
    Store,
    SuggestionRecord,
    this_process,
)
from aquasurf_ray.store.database.schema import TrialLease

DONE = EvaluationResult("done", score=0.9, seconds=1.5, worker="a", epochs=(EpochRecord(1, val_score=0.9),))


@pytest.fixture
def shared(world):
    run = world.run()
    return world.store.share_run(run.id, this_process(), code_version="0.1.0")


def asked(world, lease, function, *, nonce="n", owner=None, origin="suggestion", suggestion=None, **options):
    request = EvaluationRequest(world.functions[function], 0, origin, suggestion)
    owner = owner or this_process()
    return world.store.ask(lease, request, owner, nonce=nonce, lease_seconds=30.0, **options)


def status(world, function):
    found = world.store.snapshot(world.run().id).evaluations
    return {each.evaluation.function_id: each.evaluation.status for each in found}[world.functions[function]]


def kinds(world):
    return [event.kind for event in world.store.events(world.run().id)]


def test_a_trial_is_claimed_started_and_told(world, shared):
    trial = asked(world, shared, 3)
    assert (trial.claim.state, trial.number) == ("claimed", 0)
    assert asked(world, shared, 5, nonce="m").number == 1
    assert world.store.run("run").status == "running"
    assert world.store.open_trials(shared.run_id)[0].attempt_id == trial.attempt_id
    assert world.store.tell(shared, trial, DONE).state == "recorded"
    found = world.store.snapshot(shared.run_id).evaluations[0].evaluation
    assert (found.status, found.score, found.seconds) == ("done", 0.9, 1.5)
    assert world.store.curve(found.id) == DONE.epochs
    assert len(world.store.open_trials(shared.run_id)) == 1
    assert kinds(world) == ["created", "claimed", "started", "claimed", "started", "result"]


def test_two_processes_are_not_given_one_function(world, shared):
    first, second = asked(world, shared, 0, nonce="a"), asked(world, shared, 0, nonce="b")
    assert (first.claim.state, second.claim.state) == ("claimed", "taken")
    assert second.attempt_id is None


def requests(world, run_id):
    return [(each.reused, each.suggestion) for each in world.store.snapshot(run_id).evaluations]


def test_a_process_that_lags_behind_changes_nothing_of_what_another_one_has(world, shared):
    """It suggests a function that another process of the run trains, or has trained."""
    better, worse = SuggestionRecord(0.5, 1), SuggestionRecord(0.4, 2)
    trial = asked(world, shared, 0, nonce="a", suggestion=better)
    assert asked(world, shared, 0, nonce="b", suggestion=worse).claim.state == "taken"
    world.store.tell(shared, trial, DONE)
    late = asked(world, shared, 0, nonce="b", suggestion=worse)
    assert (late.claim.state, late.attempt_id, late.claim.record.score) == ("known", None, 0.9)
    assert requests(world, shared.run_id) == [(False, better)]
    assert kinds(world) == ["created", "claimed", "started", "result"]
    assert world.store.status(shared.run_id).reused == 0


def test_a_result_of_another_run_is_reused_once_by_all_processes(world, shared):
    new = NewRun("other", "search", world.task_id, {}, "other", 0, 40, None, "0.1.0")
    other = world.store.share_run(world.store.create_run(new, world.functions).id, this_process(), code_version="0.1.0")
    world.store.tell(other, asked(world, other, 0), DONE)
    first = SuggestionRecord(0.5, 1)
    claims = [asked(world, shared, 0, nonce=n, suggestion=s).claim for n, s in (("a", first), ("b", None))]
    assert [claim.state for claim in claims] == ["reused", "reused"]
    assert requests(world, shared.run_id) == [(True, first)]
    assert kinds(world) == ["created", "reused"]


def test_a_call_whose_commit_was_not_answered_finds_its_own_trial_again(world, shared):
    first, again = asked(world, shared, 0, nonce="a"), asked(world, shared, 0, nonce="a")
    assert again == replace(first, claim=again.claim)
    assert again.claim.state == "claimed"
    assert world.store.tell(shared, first, DONE).state == "recorded"
    assert world.store.tell(shared, first, DONE).state == "recorded"
    assert kinds(world).count("result") == 1


def test_another_value_for_a_trial_that_was_told_is_refused(world, shared):
    trial = asked(world, shared, 0)
    world.store.tell(shared, trial, DONE)
    assert world.store.tell(shared, trial, replace(DONE, score=0.1)).state == "ended"
    assert world.store.evaluation(trial.claim.evaluation_id).score == 0.9


def expired(world, lease, most_attempts=3):
    trials = world.store.open_trials(lease.run_id)
    return world.store.expire_trials(lease, trials, most_attempts=most_attempts)


def test_an_expired_trial_is_given_to_another_process_whose_result_counts(world, shared, elsewhere):
    late = asked(world, shared, 0, nonce="a", owner=elsewhere)
    assert expired(world, shared) == [late.claim.evaluation_id]
    assert status(world, 0) == "queued"
    second = asked(world, shared, 0, nonce="b")
    assert (second.claim.state, second.number) == ("claimed", late.number)
    told = world.store.tell(shared, late, replace(DONE, score=0.1, worker="late"))
    assert told.state == "taken"
    assert str(this_process().pid) in told.by
    assert world.store.tell(shared, second, DONE).state == "recorded"
    again = world.store.tell(shared, late, replace(DONE, score=0.1, worker="late"))
    assert (again.state, again.by) == ("taken", "a")
    assert world.store.evaluation(late.claim.evaluation_id).score == 0.9
    lost = [event.data for event in world.store.events(shared.run_id) if event.kind == "late"]
    assert lost[0] == {"status": "done", "score": 0.1, "worker": "late"}, "its value is in the log"


def test_a_late_value_counts_if_nobody_else_was_given_the_function(world, shared, elsewhere):
    late = asked(world, shared, 0, owner=elsewhere)
    expired(world, shared)
    assert world.store.tell(shared, late, DONE).state == "recorded"
    assert status(world, 0) == "done"


def test_a_late_value_counts_also_if_the_function_was_given_up(world, shared, elsewhere):
    late = asked(world, shared, 0, owner=elsewhere)
    expired(world, shared, most_attempts=1)
    assert status(world, 0) == "failed"
    assert world.store.tell(shared, late, DONE).state == "recorded"
    assert world.store.evaluation(late.claim.evaluation_id).error is None


def test_a_trial_whose_process_is_gone_counts_as_an_attempt_until_the_function_is_given_up(world, shared, elsewhere):
    dead = replace(this_process(), started=1)  # the process number is another process's now
    for n, owner in enumerate((dead, elsewhere, dead), start=1):
        number = asked(world, shared, 0, nonce=f"n{n}", owner=owner).claim.evaluation_id
        expired(world, shared)
        assert expired(world, shared) == [], "it counts once"
        assert world.store.evaluation(number).attempts == n
        assert status(world, 0) == ("queued" if n < 3 else "failed")
    assert asked(world, shared, 0).claim.state == "failed"
    causes = [(cause.error, cause.n) for cause in world.store.failure_causes(shared.run_id)]
    died = "the process that trained it died"
    assert causes == [(died, 2), ("the process that trained it gave no sign of life for 30 s", 1)]


def test_a_trial_that_is_given_back_is_no_attempt(world, shared):
    trial = asked(world, shared, 0)
    assert world.store.give_back(shared, world.store.open_trials(shared.run_id)) == 1
    assert (status(world, 0), kinds(world)[-1]) == ("queued", "requeued")
    assert world.store.evaluation(trial.claim.evaluation_id).attempts == 0


def test_a_heartbeat_keeps_a_trial(world, shared):
    trial = asked(world, shared, 0)
    seen = world.store.open_trials(shared.run_id)
    world.store.renew_process("p", [trial.attempt_id])
    assert world.store.expire_trials(shared, seen, most_attempts=1) == []
    assert status(world, 0) == "running"
    assert world.store.open_trials(shared.run_id)[0].heartbeat == 1


def test_a_failed_trial_is_queued_again_and_given_up_at_last(world, shared):
    for attempt in range(3):
        trial = asked(world, shared, 0, nonce=f"n{attempt}")
        assert trial.claim.state == "claimed"
        assert world.store.fail_trial(shared, trial, "no memory", most_attempts=3)
        assert not world.store.fail_trial(shared, trial, "no memory", most_attempts=3), "it has ended"
        assert status(world, 0) == ("queued" if attempt < 2 else "failed")
    assert asked(world, shared, 0).claim.state == "failed"


def test_the_budget_counts_suggestions_of_all_processes_and_no_baselines(world, shared):
    assert asked(world, shared, 0, origin="baseline", budget=1) is not None
    assert asked(world, shared, 1, budget=1) is not None
    assert asked(world, shared, 2, budget=1) is None
    assert asked(world, shared, 1, nonce="other", budget=1).claim.state == "taken"
    expired(world, shared)
    assert asked(world, shared, 1, nonce="other", budget=1).claim.state == "claimed", "it is part of the budget"


def test_a_budget_is_never_overdrawn_by_processes_at_the_same_time(world, shared):
    answers = []

    def ask(number):
        with Store.open(world.url) as store:
            request = EvaluationRequest(world.functions[number], 0, "suggestion")
            answers.append(store.ask(shared, request, this_process(), nonce=str(number), lease_seconds=30.0, budget=3))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert sum(answer is not None for answer in answers) == 3


def test_a_driver_is_refused_while_a_trial_is_live_and_takes_the_run_when_none_is(world, shared, elsewhere):
    trial = asked(world, shared, 0)
    with pytest.raises(RunHeld, match=rf"a study that .* pid {this_process().pid} asks"):
        world.store.acquire_lease(shared.run_id, elsewhere)
    world.store.tell(shared, trial, DONE)
    lease = world.store.acquire_lease(shared.run_id, elsewhere)
    with pytest.raises(LeaseLost, match="taken over by far-away"):
        asked(world, shared, 1)
    world.store.release_lease(lease, "interrupted")
    assert asked(world, world.store.share_run(shared.run_id, this_process(), code_version="0.1.0"), 1) is not None


def test_a_driver_takes_the_run_of_dead_or_long_silent_processes_and_requeues_their_trials(world, shared, elsewhere):
    dead = replace(this_process(), started=1)  # the process number is another process's now
    asked(world, shared, 0, owner=dead)
    asked(world, shared, 1, nonce="m", owner=elsewhere)
    with pytest.raises(RunHeld, match="far-away pid 4711"):
        world.store.acquire_lease(shared.run_id, this_process())
    past = world.store._write(lambda c: c.execute(sa.select(sa.func.min(TrialLease.renewed_at))).scalar())
    long_ago = past.replace(year=past.year - 1)
    world.store._write(lambda c: c.execute(sa.update(TrialLease).values(renewed_at=long_ago)))
    world.store.acquire_lease(shared.run_id, this_process())
    assert (status(world, 0), status(world, 1)) == ("queued", "queued")


def test_a_live_driver_keeps_processes_from_sharing_its_run_and_a_dead_one_does_not(world, elsewhere):
    run = world.run()
    dead = LeaseOwner(**{**vars(this_process()), "started": 1})
    lease = world.store.acquire_lease(run.id, dead)
    world.store.claim(lease, world.functions[0], 0, "suggestion")
    shared = world.store.share_run(run.id, this_process(), code_version="0.1.0")
    assert status(world, 0) == "queued"
    with pytest.raises(LeaseLost):
        world.store.claim(lease, world.functions[1], 0, "suggestion")
    assert asked(world, shared, 1).claim.state == "claimed"


def test_another_run_of_the_task_leaves_live_trials_alone_and_takes_those_of_the_dead(world, shared):
    asked(world, shared, 0)
    new = NewRun("other", "search", world.task_id, {}, "other", 0, 40, None, "0.1.0")
    lease = world.store.acquire_lease(world.store.create_run(new, world.functions).id, this_process())
    assert world.store.claim(lease, world.functions[0], 0, "suggestion").state == "taken"
    expired(world, shared)
    asked(world, shared, 1, nonce="m", owner=replace(this_process(), started=1))
    assert world.store.claim(lease, world.functions[1], 0, "suggestion").state == "claimed"


def test_processes_that_have_a_study_open_are_seen_until_they_leave_or_die(world, elsewhere):
    run = world.run()
    shared = world.store.share_run(run.id, this_process(), code_version="0.1.0")
    dead = replace(this_process(), started=1)
    for nonce, owner in (("a", dead), ("b", elsewhere)):
        world.store.enter_study(run.id, owner, nonce=nonce, lease_seconds=5.0)
        assert world.store.run("run").status == "running"
    world.store.enter_study(run.id, elsewhere, nonce="b", lease_seconds=5.0)
    (found,) = world.store.activity(run.id).processes
    assert (found.nonce, found.owner, found.lease_seconds) == ("b", elsewhere, 5.0)
    assert not world.store.renew_process("a", []), "the one that entered later has removed the dead one"
    assert world.store.renew_process("b", [])
    assert not world.store.end_sharing(shared, "interrupted"), "a process has it open"
    world.store.leave_study("b")
    assert world.store.activity(run.id).processes == ()
    assert world.store.end_sharing(shared, "interrupted")


def test_the_status_of_a_study_is_set_once_no_trial_is_live(world, shared):
    trial = asked(world, shared, 0)
    assert not world.store.end_sharing(shared, "finished")
    world.store.tell(shared, trial, DONE)
    assert world.store.end_sharing(shared, "finished")
    assert world.store.end_sharing(shared, "finished"), "a second time changes nothing"
    assert (world.store.run("run").status, kinds(world).count("finished")) == ("finished", 1)
