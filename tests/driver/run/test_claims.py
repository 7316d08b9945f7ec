"""A worker gets the next evaluation in order, and one that it has failed on only where no other worker can take it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from run_context import FakePool, add_functions, events_of, open_context

from aquasurf_ray.driver.events import FunctionSuggested
from aquasurf_ray.driver.run.claims import Budget, Claims
from aquasurf_ray.driver.suggestions.pairs import Pairs
from aquasurf_ray.store import EvaluationResult, Store
from aquasurf_ray.surrogate.policy import Suggestion

DONE = EvaluationResult("done", score=0.5)


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as opened:
        yield opened


@dataclass
class Ready:
    """A suggester that has suggestions of these candidates ready."""

    candidates: list[int]
    pairs: Pairs
    asked: list[int] = field(default_factory=list)

    def suggest_batch(self, most):
        self.asked.append(most)
        taken, self.candidates = self.candidates[:most], self.candidates[most:]
        return [Suggestion(candidate, 0.9, 1) for candidate in taken]


def searching(store, n=6, n_baselines=2, budget=3, suggested=(3, 4, 5), changes=("",), **settings):
    ids = add_functions(store, n)
    context = open_context(store, "one", ids, requested=False, **settings)
    baselines = tuple(context.history.candidates[:n_baselines])
    suggester = Ready(list(suggested), Pairs(context.history, changes, None))
    return context, Claims(context, Budget(baselines, budget), suggester), suggester


def take(context, claims, n_waiting=1):
    claim = claims.next_for(context.pool.slots[0], n_waiting)
    return None if claim is None else (claims.function(claim.function_id).name, claim.origin)


def test_the_queue_comes_before_baselines_and_these_before_suggestions_until_the_budget_is_met(store):
    context, claims, _ = searching(store)
    store.propose(context.run.id, [context.history.candidates[2].id], 0)
    context.history.evaluations.put(requested(store, context))
    taken = [take(context, claims) for _ in range(6)]
    assert taken == [
        ("f2(x)", "proposal"), ("f0(x)", "baseline"), ("f1(x)", "baseline"),
        ("f3(x)", "suggestion"), ("f4(x)", "suggestion"), None,
    ]  # fmt: skip
    assert [event.function for event in events_of(context, FunctionSuggested)] == ["f3(x)", "f4(x)"]


def test_a_suggested_pair_is_claimed_with_its_change_of_the_recipe(store):
    changes = ("", "learning_rate*0.5", "learning_rate*2")
    context, claims, _ = searching(store, n_baselines=0, suggested=(3 * 4 + 2, 3 * 4, 3 * 5 + 1), changes=changes)
    taken = [claims.next_for(context.pool.slots[0]) for _ in range(3)]
    assert [(claims.function(c.function_id).name, c.record.recipe_change) for c in taken] == [
        ("f4(x)", "learning_rate*2"), ("f4(x)", ""), ("f5(x)", "learning_rate*0.5"),
    ]  # fmt: skip
    assert len({claim.evaluation_id for claim in taken}) == 3
    emitted = events_of(context, FunctionSuggested)
    assert [event.recipe_change for event in emitted] == ["learning_rate*2", "", "learning_rate*0.5"]


def requested(store, context):
    from aquasurf_ray.driver.state.evaluations import state_of

    (request,) = store.snapshot(context.run.id).evaluations
    return state_of(request)


def test_suggestions_are_claimed_for_all_workers_that_wait_and_reserved_for_them(store):
    context, claims, suggester = searching(store, n_baselines=0)
    assert take(context, claims, n_waiting=2) == ("f3(x)", "suggestion")
    assert suggester.asked == [2]
    assert claims.reserved_functions() == [context.history.candidates[4].id]
    assert take(context, claims) == ("f4(x)", "suggestion")
    assert suggester.asked == [2], "the reserved one came first"


def test_a_worker_that_failed_on_an_evaluation_gets_another_one_while_another_worker_lives(store):
    ids = add_functions(store, 2)
    context = open_context(store, "one", ids, kind="evaluate", pool=FakePool("a", "b"))
    claims, (first, second) = Claims(context, Budget((), 2), None), context.pool.slots
    claim = claims.next_for(first)
    claims.failed_on(claim.evaluation_id, first.number)
    claims.reserve(claim)
    assert claims.next_for(first).function_id == ids[1]
    assert claims.next_for(first) is None
    second.state = "retired"
    assert claims.next_for(first).evaluation_id == claim.evaluation_id, "there is nobody else"


def test_a_result_of_another_run_is_put_into_the_history_and_needs_no_worker(store):
    ids = add_functions(store, 2)
    other, context = (open_context(store, name, ids, kind="evaluate") for name in ("other", "one"))
    claim = Claims(other, Budget((), 2), None).next_for(other.pool.slots[0])
    store.record_result(other.lease, claim.evaluation_id, DONE)
    claims = Claims(context, Budget((), 2), None)
    assert claims.next_for(context.pool.slots[0]).function_id == ids[1]
    assert context.history.evaluations[claim.evaluation_id].status == "done"
    assert context.history.evaluations.n_reused == 1


@pytest.mark.parametrize(
    ("settings", "origin", "stopped", "refused"),
    [
        ({"early_stop": "median"}, "suggestion", True, False),
        ({"early_stop": "median"}, "proposal", False, False),
        ({"early_stop": "off"}, "suggestion", False, False),
        ({"health_gate": "on"}, "suggestion", False, True),
        ({"health_gate": "on"}, "baseline", False, False),
    ],
)
def test_a_run_accepts_from_others_what_it_does_itself(store, settings, origin, stopped, refused):
    _, claims, _ = searching(store, **settings)
    assert claims.accepted(origin) == {"accept_stopped": stopped, "accept_refused": refused}
