"""Trainings that a rule stopped early: reused by who accepts them, trained in full by who does not, and never lost."""

from __future__ import annotations

import math

import pytest
from store_reading import attempts_of, claim_next

from aquasurf_ray.store import EpochRecord, EvaluationResult

WHY = "score 0.31 after epoch 2 of 8 is below 0.52"
CURVE = (EpochRecord(1, val_score=0.2, val_loss=math.nan), EpochRecord(2, val_score=0.31, train_score=0.3))
STOPPED = EvaluationResult(
    "done", score=0.31, val_accuracy=0.31, test_score=0.3, stopped_early=WHY, seconds=2.5, worker="w1", epochs=CURVE
)
WHOLE = EvaluationResult(
    "done", score=0.4, val_accuracy=0.4, epochs=tuple(EpochRecord(i, val_score=0.4) for i in (1, 2, 3))
)


def record(world, lease, function, result, origin="suggestion", seed=0):
    claim = world.store.claim(lease, function, seed, origin)
    assert claim.state == "claimed"
    world.store.start(lease, claim.evaluation_id, "w1")
    assert world.store.record_result(lease, claim.evaluation_id, result)
    return claim.evaluation_id


@pytest.fixture
def stopped(world):
    """The evaluation of the first function, that a run stopped early; the run's lease."""
    lease = world.lease("hasty")
    return record(world, lease, world.functions[0], STOPPED), lease


def test_it_counts_for_the_run_that_stopped_it_and_for_all_that_accept_it(world, stopped):
    number, hasty = stopped
    evaluation = world.store.evaluation(number)
    assert (evaluation.finished, evaluation.complete, evaluation.stopped_early) == (True, False, WHY)
    assert world.store.claim(hasty, world.functions[0], 0, "suggestion").state == "known"
    assert world.store.claim(world.lease("other"), world.functions[0], 0, "suggestion").state == "reused"
    assert world.store.status(hasty.run_id).stopped_early == 1
    (row,) = world.store.leaderboard(run_id=hasty.run_id)
    assert (row.stopped_early, row.test_score) == (WHY, 0.3)
    assert world.store.events(hasty.run_id)[-1].data["stopped_early"] == WHY


def test_who_does_not_accept_it_trains_it_in_full_and_its_result_stays_in_the_log(world, stopped):
    number, _ = stopped
    whole = world.lease("whole")
    claim = world.store.claim(whole, world.functions[0], 0, "suggestion", accept_stopped=False)
    assert (claim.state, claim.evaluation_id, claim.record.score) == ("claimed", number, None)
    evaluation = world.store.evaluation(number)
    assert (evaluation.status, evaluation.claimed_by) == ("running", whole.run_id)
    assert (evaluation.score, evaluation.stopped_early, evaluation.epochs, evaluation.finished_at) == (None,) * 4
    assert world.store.curve(number) == ()
    reopened, claimed = world.store.events(whole.run_id)[-2:]
    assert (reopened.kind, reopened.evaluation_id, claimed.kind) == ("reopened", number, "claimed")
    kept = reopened.data["result"]
    assert {key: kept[key] for key in ("status", "score", "test_score", "stopped_early", "seconds", "worker")} == {
        "status": "done",
        "score": 0.31,
        "test_score": 0.3,
        "stopped_early": WHY,
        "seconds": 2.5,
        "worker": "w1",
    }
    assert [(epoch["epoch"], epoch["val_score"], epoch["val_loss"]) for epoch in kept["epochs"]] == [
        (1, 0.2, "NaN"),
        (2, 0.31, None),
    ]

    world.store.start(whole, number, "w2")
    assert world.store.record_result(whole, number, WHOLE)
    assert world.store.evaluation(number).complete
    assert len(world.store.curve(number)) == 3
    assert [a.outcome for a in attempts_of(world.store, number)] == ["done", "done"]
    again = world.store.claim(whole, world.functions[0], 0, "suggestion", accept_stopped=False)
    assert (again.state, again.record.score) == ("known", 0.4)


@pytest.mark.parametrize("result", [WHOLE, EvaluationResult("diverged", reason="loss is NaN")])
def test_a_whole_result_is_reused_by_everybody(world, result):
    record(world, world.lease("first"), world.functions[0], result)
    claim = world.store.claim(world.lease("second"), world.functions[0], 0, "suggestion", accept_stopped=False)
    assert claim.state == "reused"


def test_while_one_run_trains_it_in_full_it_is_taken_for_the_others(world, stopped):
    number, hasty = stopped
    world.store.claim(world.lease("whole"), world.functions[0], 0, "suggestion", accept_stopped=False)
    for lease in (world.lease("third"), hasty):
        assert world.store.claim(lease, world.functions[0], 0, "suggestion", accept_stopped=False).state == "taken"
        assert world.store.observe(lease, number) is None
    assert world.store.leaderboard(run_id=hasty.run_id) == []


def test_a_stopped_result_that_comes_late_does_not_displace_the_whole_training(world):
    hasty, whole = world.lease("hasty"), world.lease("whole")
    claim = world.store.claim(hasty, world.functions[0], 0, "suggestion")
    world.store.record_failure(hasty, claim.evaluation_id, "no answer", final=False)
    assert world.store.claim(whole, world.functions[0], 0, "suggestion", accept_stopped=False).state == "claimed"
    assert not world.store.record_result(hasty, claim.evaluation_id, STOPPED)
    assert world.store.evaluation(claim.evaluation_id).claimed_by == whole.run_id
    assert world.store.record_result(whole, claim.evaluation_id, WHOLE)


def test_who_waits_for_a_whole_training_is_not_given_a_stopped_one(world):
    hasty, whole = world.lease("hasty"), world.lease("whole")
    claim = world.store.claim(hasty, world.functions[0], 0, "suggestion")
    assert world.store.claim(whole, world.functions[0], 0, "suggestion", accept_stopped=False).state == "taken"
    world.store.record_result(hasty, claim.evaluation_id, STOPPED)
    seen = world.store.observe(whole, claim.evaluation_id, accept_stopped=False)
    assert (seen.finished, seen.complete) == (True, False)
    assert [event.kind for event in world.store.events(whole.run_id)][-1] == "taken", "nothing was observed"
    again = world.store.claim(whole, world.functions[0], 0, "suggestion", accept_stopped=False)
    assert again.state == "claimed"
    assert not world.store.snapshot(whole.run_id).evaluations[0].reused


def test_a_run_that_reused_it_is_no_longer_said_to_once_it_trains_it(world, stopped):
    lease = world.lease("other")
    world.store.claim(lease, world.functions[0], 0, "proposal")
    assert world.store.snapshot(lease.run_id).evaluations[0].reused
    world.store.claim(lease, world.functions[0], 0, "baseline", accept_stopped=False)
    assert not world.store.snapshot(lease.run_id).evaluations[0].reused


def test_a_proposal_can_ask_for_the_whole_training(world, stopped):
    number, _ = stopped
    run = world.run("evaluate")
    (known,) = world.store.propose(run.id, world.functions[:1], 0)
    assert known.status == "done"
    (anew,) = world.store.propose(run.id, world.functions[:1], 0, accept_stopped=False)
    assert (anew.status, anew.added) == ("queued", False)
    assert [event.kind for event in world.store.events(run.id)] == ["created", "proposed", "reopened", "proposed"]
    claim = claim_next(world.store, world.lease("evaluate"))
    assert (claim.evaluation_id, claim.record.score) == (number, None)
    (again,) = world.store.propose(run.id, world.functions[:1], 0, accept_stopped=False)
    assert again.status == "running"


def test_a_refusal_of_the_gate_is_reused_by_those_who_gate_and_trained_by_others(world):
    strict = world.lease()
    record(world, strict, world.functions[0], EvaluationResult("diverged", reason="saturated", stopped_early=WHY))
    assert world.store.status(strict.run_id).stopped_early == 0, "nothing was stopped in its course"
    another, lenient = world.lease("another"), world.lease("lenient")
    function = world.functions[0]
    assert world.store.claim(another, function, 0, "suggestion", accept_stopped=False).state == "reused"
    assert world.store.propose(another.run_id, [function], 0, accept_stopped=False)[0].status == "diverged"
    assert world.store.claim(lenient, function, 0, "baseline", accept_refused=False).state == "claimed"
    (kept,) = [e.data["result"] for e in world.store.events(lenient.run_id) if e.kind == "reopened"]
    assert (kept["status"], kept["reason"], kept["stopped_early"]) == ("diverged", "saturated", WHY)


def test_scores_after_an_epoch_are_those_of_all_trainings_of_the_task_that_got_there(world):
    lease, f = world.lease(), world.functions
    curves = {
        f[0]: (0.5, 0.7, 0.9),
        f[1]: (0.4, None, 0.3),
        f[2]: (math.nan, -math.inf, 0.1),
        f[3]: (-2.5,),
    }
    for function, scores in curves.items():
        epochs = tuple(EpochRecord(i, val_score=score) for i, score in enumerate(scores, start=1))
        record(world, lease, function, EvaluationResult("done", score=0.5, epochs=epochs), seed=function)
    record(world, lease, f[4], STOPPED)
    record(world, lease, f[5], EvaluationResult("diverged", epochs=CURVE))
    world.store.claim(lease, f[6], 0, "suggestion")
    other = world.store.add_task("other", "1", "other-digest", {})
    assert world.store.early_scores(world.task_id, 1) == [(0.5, 0.5), (0.4, 0.5), (-2.5, 0.5), (0.2, None)]
    assert world.store.early_scores(world.task_id, 2) == [(0.7, 0.5), (-math.inf, 0.5), (0.31, None)]
    assert world.store.early_scores(world.task_id, 4) == world.store.early_scores(other, 1) == []
