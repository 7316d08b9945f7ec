"""The median rule: pure, from scores alone."""

from __future__ import annotations

import math
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from aquasurf_ray.driver.run.median_rule import ENOUGH, median_rule

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=0, max_size=12)


@given(st.integers(1, 400), SCORES)
def test_a_rule_asks_for_the_median_after_a_quarter_and_a_half_once_there_are_five(epochs, scores):
    rule = median_rule(epochs, lambda _: [(score, None) for score in scores])
    if len(scores) < ENOUGH or epochs == 1:
        assert rule is None
        return
    asked = [epoch for epoch, _ in rule.thresholds]
    assert all(epoch < epochs for epoch in asked), "the last epoch ends a training anyway"
    assert set(asked) == {math.ceil(epochs / 4), math.ceil(epochs / 2)}
    assert {threshold for _, threshold in rule.thresholds} == {median(scores)}


def test_each_epoch_has_its_own_median_and_half_of_the_trainings_would_have_passed():
    curves = [[i, 2 * i, 3 * i, 4 * i] for i in range(7)]
    rule = median_rule(4, lambda epoch: [(curve[epoch - 1], curve[-1]) for curve in curves])
    assert rule.thresholds == ((1, 3), (2, 6))
    ended = [i for i, curve in enumerate(curves) if any(rule.verdict(e, s, 4) for e, s in enumerate(curve, start=1))]
    assert ended == [0, 1, 2]


def test_an_epoch_that_few_have_reached_is_not_asked_for():
    rule = median_rule(8, lambda epoch: [(0.5, 0.6)] * (6 if epoch <= 2 else 4))
    assert [epoch for epoch, _ in rule.thresholds] == [2]


def test_a_median_that_is_infinite_stops_nobody():
    assert median_rule(8, lambda _: [(-math.inf, 0.1)] * 5) is None
