"""Which rates a function is worth a training at: the recipe's first, others for the best and for what diverged."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from aquasurf_ray.driver.state.evaluations import EvaluationState, RunEvaluations
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.driver.suggestions.pairs import PERIOD, Pairs
from aquasurf_ray.store import CostRecord, FunctionRecord
from aquasurf_ray.workers.engine.health import REFUSED

HALF, TWICE = "learning_rate*0.5", "learning_rate*2"
CHANGES = ("", HALF, TWICE)
N = 8
NUMBERS = itertools.count()


def history_of(*evaluations, n=N):
    return History([FunctionRecord(100 + i, f"d{i}", f"f{i}(x)", 1) for i in range(n)], RunEvaluations(evaluations))


def result(position, score=None, change="", status=None, **more):
    """The state of an evaluation; without a score or a status it diverged."""
    status = status or ("diverged" if score is None else "done")
    number, function = next(NUMBERS), 100 + position
    of = (number, function, f"f{position}(x)", 0, "suggestion", status, score)
    return EvaluationState(*of, recipe_change=change, **more)


def pairs_of(history, changes=CHANGES, max_cost=None):
    return Pairs(history, changes, max_cost)


def shown(mask):
    """Pairs in words: (position, change)."""
    return [(int(i) // len(CHANGES), CHANGES[int(i) % len(CHANGES)]) for i in np.flatnonzero(mask)]


def next_of(history, number=0, n=N):
    """What the suggestion with this number chooses from."""
    ((size, mask),) = pairs_of(history).turns(n, number)
    assert size == 1
    return shown(mask)


BETTER, RESCUE = 1, 3
"""The numbers of suggestions that are for the best functions, and for functions that diverged."""


def test_a_search_of_one_recipe_has_one_pair_for_each_candidate():
    history = history_of(result(1, 0.5), result(3), result(4, status="running"), result(5, status="failed"))
    ((_, mask),) = pairs_of(history, ("",)).turns(6, RESCUE)
    assert mask.tolist() == [True, False, True, False, False, False]
    assert pairs_of(history, ("",)).pair(3)[0].name == "f3(x)"


def test_every_function_begins_with_the_recipe_as_it_is():
    assert next_of(history_of()) == [(i, "") for i in range(N)]
    running = [result(i, status="running") for i in range(4)]
    assert next_of(history_of(*running)) == [(i, "") for i in range(4, N)]


def test_the_best_quarter_of_the_functions_with_a_score_is_tried_at_other_rates():
    history = history_of(*(result(i, 0.1 * i) for i in range(5)), result(5))
    assert next_of(history) == [(3, HALF), (3, TWICE), (4, HALF), (4, TWICE), (6, ""), (7, "")]
    history.evaluations.put(result(2, 0.9, HALF))
    assert next_of(history) == [(2, TWICE), (4, HALF), (4, TWICE), (6, ""), (7, "")], "a score is the best of all rates"


def test_of_four_suggestions_one_is_for_the_best_functions_and_one_for_what_diverged():
    history = history_of(*(result(i, 0.1 * i) for i in range(4)), result(4), result(5))
    turns = [next_of(history, number) for number in range(2 * PERIOD)]
    any_, best, again = [(3, HALF), (3, TWICE), (6, ""), (7, "")], [(3, HALF), (3, TWICE)], [(4, HALF), (4, TWICE)]
    assert turns == [any_, best, any_, [*again, (5, HALF), (5, TWICE)]] * 2


def test_a_turn_that_has_nothing_to_choose_from_is_free():
    history = history_of(result(0, 0.5), result(0, 0.4, HALF), result(0, 0.6, TWICE))
    assert {tuple(next_of(history, number)) for number in range(PERIOD)} == {tuple((i, "") for i in range(1, N))}


@pytest.mark.parametrize("second", [result(4, change=HALF), result(4, 0.05, HALF)], ids=["diverged", "bad"])
def test_a_function_that_diverged_has_one_more_training_unless_it_then_is_among_the_best(second):
    history = history_of(*(result(i, 0.1 * i) for i in range(1, 4)), result(4), second)
    assert not any(position == 4 for number in range(PERIOD) for position, _ in next_of(history, number))


def test_a_function_that_another_rate_mends_is_among_the_best():
    history = history_of(*(result(i, 0.1 * i) for i in range(4)), result(4), result(4, 0.9, HALF))
    assert (4, TWICE) in next_of(history)


def test_what_the_health_gate_refuses_at_one_rate_is_not_tried_at_another():
    history = history_of(result(0, 0.5), result(1, stopped_early=REFUSED), result(2))
    assert next_of(history, RESCUE) == [(2, HALF), (2, TWICE)]


def test_without_anything_else_worth_a_training_the_remaining_pairs_follow():
    history = history_of(result(0, 0.9), result(0, 0.8, HALF), result(0, 0.8, TWICE), result(1, 0.1), n=2)
    assert next_of(history, n=2) == [(1, HALF), (1, TWICE)]
    assert not used_up(history)
    history.evaluations.put(result(1, 0.1, HALF))
    history.evaluations.put(result(1, 0.1, TWICE))
    assert used_up(history)


def used_up(history):
    now, later = pairs_of(history).open_(len(history.candidates))
    return not (now.any() or later.any())


def test_a_function_under_way_may_still_be_tried_at_other_rates_and_one_that_was_given_up_not():
    assert not used_up(history_of(result(0, status="running"), n=1))
    assert next_of(history_of(result(0, status="running"), n=1), n=1) == []
    assert used_up(history_of(result(0, status="failed"), n=1))


def test_several_suggestions_at_once_have_their_turns():
    history = history_of(*(result(i, 0.1 * i) for i in range(4)), result(4), result(5))
    made = pairs_of(history).turns(N, 2, 9)
    assert [size for size, _ in made] == [5, 2, 2]
    assert [shown(mask) for _, mask in made] == [next_of(history, number) for number in (2, BETTER, RESCUE)]


def test_a_function_that_costs_too_much_is_tried_at_no_rate():
    history = history_of(result(0, 0.9), result(1, 0.5))
    history.add_costs([CostRecord("cpu", 3.0, 1.0, 1, 1, function_id=100, worker="w")])
    made = pairs_of(history, max_cost=2.0)
    assert not made.open_(N)[0][:3].any()
    assert not made.is_open(1)
    assert made.is_open(4)


def test_an_evaluation_of_another_change_or_function_has_no_pair():
    history = history_of()
    assert pairs_of(history).index(result(2, 0.5, TWICE)) == 8
    assert pairs_of(history).index(result(2, 0.5, "weight_decay=0.1")) is None
    assert pairs_of(history).index(result(N, 0.5)) is None
