"""A trial's last report becomes a result for the store."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from aquasurf_ray.store import LearnedValues
from aquasurf_ray.tune.results import evaluation_result

VALUES = LearnedValues("1", "a", 1.0, None, 0.5, 0.0, (0.75, 0.5))


@pytest.mark.parametrize("score", [0.5, float("nan")])
def test_what_was_learned_is_part_of_it(score):
    report = {"status": "done", "learned": (asdict(VALUES),)}
    assert evaluation_result(report, score, (), "trial").learned == (VALUES,)
    assert evaluation_result({"status": "done"}, score, (), "trial").learned == ()
