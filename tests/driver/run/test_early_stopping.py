"""Trainings that were paused are resumed as soon as the rule would let them pass, on the budget that they had."""

from __future__ import annotations

from dataclasses import replace

import pytest
from run_context import add_functions, open_context

from aquasurf_ray.driver.run.claims import Budget, Claims
from aquasurf_ray.driver.run.early_stopping import EarlyStopping
from aquasurf_ray.store import EpochRecord, EvaluationRequest, EvaluationResult, Store

EPOCHS = 4


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as opened:
        yield opened


def curve(*scores):
    return tuple(EpochRecord(i, val_score=score) for i, score in enumerate(scores, start=1))


def finished(score):
    return EvaluationResult("done", score=score, epochs=curve(score / 4, score / 2, score * 3 / 4, score))


def paused(score):
    return EvaluationResult("done", score=score, epochs=curve(score / 2, score), stopped_early="below")


def run_with(store, results, **settings):
    """A run with these results of its first functions, and its early stopping."""
    ids = add_functions(store, len(results) + 3)
    context = open_context(store, "one", ids, requested=False, **{"early_stop": "curves"} | settings)
    claims = Claims(context, Budget((), 20), None)
    for function, result in zip(ids, results, strict=False):
        record(context, claims, function, result)
    return ids, context, claims, EarlyStopping(context, claims, EPOCHS)


def record(context, claims, function, result):
    (claim,) = claims.claim_all([EvaluationRequest(function, 0, "suggestion")])
    claims.update(claim)
    context.store.start(context.lease, claim.evaluation_id)
    context.store.record_result(context.lease, claim.evaluation_id, result)
    state = context.history.evaluations[claim.evaluation_id]
    ended = replace(state, status="done", score=result.score, stopped_early=result.stopped_early)
    context.history.evaluations.put(ended)


TWELVE = [finished(i / 12) for i in range(1, 13)]  # after two epochs, they had half of it


def test_the_rule_of_a_training_comes_from_the_store(store):
    *_, stopping = run_with(store, TWELVE)
    rule = stopping.rule_of(0, "")
    assert rule.pauses
    assert [epoch for epoch, _ in rule.thresholds] == [1, 2]
    assert rule.verdict(2, 0.3, EPOCHS)
    assert rule.verdict(2, 0.45, EPOCHS) is None
    assert stopping.rule_of(0, "learning_rate*2") is None, "the trainings are of another recipe"


@pytest.mark.parametrize(("early_stop", "pauses"), [("off", None), ("median", False)])
def test_other_rules_pause_nothing(store, early_stop, pauses):
    *_, claims, stopping = run_with(store, [*TWELVE, paused(0.6)], early_stop=early_stop)
    stopping.resume()
    assert (stopping.rule_of(0, "") and stopping.rule_of(0, "").pauses) == pauses
    assert claims.reserved_functions() == []


def test_a_paused_training_is_resumed_once_its_score_is_enough(store):
    ids, context, claims, stopping = run_with(store, [*TWELVE, paused(0.3), paused(0.36)])
    stopping.resume()
    assert claims.reserved_functions() == [], "the best quarter begins at 0.371"
    for function in ids[14:]:
        record(context, claims, function, paused(0.1))
    stopping.resume()
    assert claims.reserved_functions() == [ids[13]], "now it begins at 0.36"
    (evaluation,) = [each for each in context.history.evaluations.values() if each.function_id == ids[13]]
    assert (evaluation.status, evaluation.ours, evaluation.stopped_early) == ("running", True, None)
    stopping.resume()
    assert claims.reserved_functions() == [ids[13]], "once"
    assert stopping.rule_of(evaluation.evaluation_id, "") is None, "it runs to its end, whatever the others do"
