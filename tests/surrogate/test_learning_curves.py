"""The prediction of final scores, held against SciPy: its line through the better half, and its normal distribution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import linregress, norm

from aquasurf_ray.surrogate.learning_curves import ENOUGH, FinalScores

RNG = np.random.default_rng(4)
EARLY = RNG.normal(size=31)
FINAL = 0.8 + 0.3 * EARLY + RNG.normal(scale=0.05, size=31)


def test_the_line_is_that_of_scipy_through_the_better_half():
    found = FinalScores.fitted(EARLY, FINAL)
    better = np.sort(EARLY)[15:]
    expected = linregress(better, FINAL[np.argsort(EARLY)[15:]])
    assert found.slope == pytest.approx(expected.slope)
    assert found.intercept == pytest.approx(expected.intercept)
    residuals = FINAL[np.argsort(EARLY)[15:]] - expected.intercept - expected.slope * better
    assert found.deviation == pytest.approx(np.sqrt((residuals**2).sum() / 14))


def test_failed_trainings_do_not_move_the_line():
    worse = np.r_[EARLY, np.full(31, -9.0)], np.r_[FINAL, np.full(31, 0.1)]
    both = FinalScores.fitted(EARLY, FINAL), FinalScores.fitted(*worse)
    # Then all 31 are the better half.
    assert both[1].slope == pytest.approx(linregress(EARLY, FINAL).slope)
    assert both[1].slope == pytest.approx(both[0].slope, rel=0.3)


@pytest.mark.parametrize("chance", [0.01, 0.1, 0.5, 0.9])
def test_the_score_needed_has_the_chance_that_was_asked_for(chance):
    line = FinalScores.fitted(EARLY, FINAL)
    best = FINAL.max()
    early = line.score_needed(best, chance)
    expected = norm.sf(best, loc=line.intercept + line.slope * early, scale=line.deviation)
    assert expected == pytest.approx(chance)


def test_without_residuals_the_line_decides():
    line = FinalScores.fitted(np.arange(10.0), 3 + 2 * np.arange(10.0))
    assert line.score_needed(23, 0.1) == pytest.approx(10)


@pytest.mark.parametrize(
    ("early", "final"),
    [
        (EARLY[: ENOUGH - 1], FINAL[: ENOUGH - 1]),
        (np.ones(20), FINAL[:20]),
        (EARLY, -FINAL),
        (EARLY, np.zeros(31)),
        (np.empty(0), np.empty(0)),
    ],
)
def test_nothing_is_said_without_a_rising_line(early, final):
    assert FinalScores.fitted(early, final) is None
