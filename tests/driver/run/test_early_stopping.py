"""The rule of chances, from scores alone; and paused trainings, which are resumed once the rule would let them pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_context import add_functions, open_context
from scipy.stats import linregress, norm

from aquasurf_ray.driver.run.claims import Budget, Claims
from aquasurf_ray.driver.run.early_stopping import CHANCE, EarlyStopping, curves_rule
from aquasurf_ray.store import EpochRecord, EvaluationRequest, EvaluationResult, Store
from aquasurf_ray.surrogate.learning_curves import PASSING

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


RNG = np.random.default_rng(1)
CURVES = [
    RNG.uniform(0.2, 0.9) * (1 - np.exp(-np.arange(1, 9) / 2)) + RNG.normal(scale=0.02, size=8) for _ in range(40)
]


def test_the_curves_rule_asks_for_a_chance_to_become_the_best():
    known = {epoch: [(curve[epoch - 1], curve[-1]) for curve in CURVES] for epoch in (2, 4)}
    rule = curves_rule(8, known.__getitem__)
    assert rule.pauses
    for epoch, threshold in rule.thresholds:
        early, final = np.array(known[epoch]).T
        half = early >= np.median(early)
        line = linregress(early[half], final[half])
        deviation = np.std(final[half] - line.intercept - line.slope * early[half]) * np.sqrt(
            half.sum() / (half.sum() - 2)
        )
        needed = (norm.ppf(CHANCE, scale=deviation) + final.max() - line.intercept) / line.slope
        assert threshold == pytest.approx(min(needed, np.quantile(early, PASSING)))


def test_the_best_quarter_passes_whatever_the_line_says():
    flat = [(score, 0.5 + score / 1000) for score in np.linspace(0, 1, 20)] + [(0.1, 0.9)]
    rule = curves_rule(4, lambda _: flat)
    passing = np.quantile([early for early, _ in flat], PASSING)
    assert [threshold for _, threshold in rule.thresholds] == pytest.approx([passing, passing])


@given(st.integers(1, 400), st.lists(st.tuples(st.floats(-1e6, 1e6), st.none() | st.floats(-1e6, 1e6)), max_size=30))
def test_the_curves_rule_never_stops_the_best_of_those_it_has_seen(epochs, scores):
    rule = curves_rule(epochs, lambda _: scores)
    if rule is not None:
        best = max(early for early, _ in scores)
        assert all(rule.verdict(epoch, best, epochs) is None for epoch, _ in rule.thresholds)


def test_paused_trainings_have_no_final_score_and_do_not_move_the_line():
    known = [(curve[1], curve[-1]) for curve in CURVES]
    low = [(0.0, None)] * 3
    (_, with_low), (_, without) = (curves_rule(4, lambda _, f=f: f).thresholds[0] for f in (known + low, known))
    quantiles = [np.quantile([early for early, _ in f], PASSING) for f in (known + low, known)]
    assert with_low == without or (with_low, without) == pytest.approx(quantiles)
