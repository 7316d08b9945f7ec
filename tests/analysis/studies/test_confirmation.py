"""The statistics of confirmed winners, against SciPy, by hand, and against simulations whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aquasurf_ray.analysis.studies.confirmation import (
    PairedDifference,
    noise_variance,
    other_seeds,
    paired_difference,
    seed_mean,
    shrinkage,
    shrinkage_model,
    with_holm,
)

NAN = float("nan")


def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("n", [2, 5, 20])
def test_the_interval_is_scipys_for_a_t_distribution(n):
    scores = rng().normal(0.9, 0.01, n)
    found = seed_mean(scores)
    low, high = stats.t.interval(0.95, n - 1, loc=scores.mean(), scale=stats.sem(scores))
    assert (found.mean, found.low, found.high) == pytest.approx((scores.mean(), low, high))


def test_the_interval_holds_the_true_mean_95_times_in_a_hundred():
    draws = rng().normal(0.0, 1.0, (4000, 4))
    held = [found.low <= 0 <= found.high for found in map(seed_mean, draws)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_one_seed_has_no_interval_and_a_diverged_one_no_mean():
    assert (seed_mean(np.array([0.5])).mean, seed_mean(np.array([0.5])).low) == (0.5, None)
    assert (seed_mean(np.array([0.5, NAN])).mean, seed_mean(np.array([0.5, NAN])).n_diverged) == (None, 1)
    assert seed_mean(np.array([])).mean is None


def test_the_seed_that_was_selected_on_is_left_out():
    assert other_seeds({0: 0.9, 1: 0.5, 2: 0.7}, selected_on={0}).mean == pytest.approx(0.6)
    assert other_seeds({0: 0.9, 1: None}, selected_on={0}).n_diverged == 1
    assert other_seeds({0: 0.9}, selected_on={0}).n == 0


def test_the_comparison_is_scipys_paired_t_test():
    scores, reference = rng().normal(0.9, 0.02, (2, 6))
    found = paired_difference(scores, reference)
    assert found.gain == pytest.approx((scores - reference).mean())
    assert found.p_value == pytest.approx(stats.ttest_rel(scores, reference).pvalue)
    interval = stats.ttest_rel(scores, reference).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_pairing_takes_out_what_a_seed_does_to_both():
    seeds = rng().normal(0, 10, 8)
    worth = rng().normal(0, 0.1, (2, 8))
    assert paired_difference(seeds + worth[0] + 1, seeds + worth[1]).p_value < 0.001
    assert stats.ttest_ind(seeds + worth[0] + 1, seeds + worth[1]).pvalue > 0.5


def test_what_cannot_be_tested_has_no_p_value():
    same = np.array([0.5, 0.6, 0.7])
    assert paired_difference(same, same).p_value == 1.0
    assert paired_difference(np.array([0.75, 1.0]), np.array([0.5, 0.75])) == PairedDifference(0.25, None)
    relu, ours = np.array([400, 380]) / 449, np.array([399, 379]) / 449
    assert np.ptp(ours - relu) > 0  # one image of 449 with either seed, but for the last bit
    assert paired_difference(ours, relu) == PairedDifference(pytest.approx(-1 / 449), None)
    assert paired_difference(np.array([0.5, NAN, 0.5]), same).gain is None
    assert paired_difference(same, np.array([0.5, NAN, NAN])).gain is None
    assert paired_difference(same, np.array([0.5, 0.5, NAN])).gain == pytest.approx(0.05)


def test_an_infinite_score_has_a_mean_and_no_interval():
    """A loss of the test split may be infinite."""
    found = seed_mean([0.5, -np.inf])
    assert (found.mean, found.low, found.high) == (-np.inf, None, None)
    assert paired_difference([0.5, -np.inf], [0.5, 0.4]) == PairedDifference(None, None)
    assert paired_difference([0.5, 0.4], [0.5, -np.inf]) == PairedDifference(None, None)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holms_correction_is_the_step_down_rule(p_values):
    corrected = [c.p_holm for c in with_holm([PairedDifference(0.0, p) for p in p_values])]
    for level in (0.01, 0.05, 0.2):
        ascending, rejected = sorted(p_values), 0
        while rejected < len(ascending) and ascending[rejected] <= level / (len(ascending) - rejected):
            rejected += 1
        near = [abs(p * (len(ascending) - i) - level) < 1e-9 for i, p in enumerate(ascending)]
        assert any(near) or sum(p <= level for p in corrected) == rejected


def test_comparisons_without_a_p_value_do_not_count_in_the_correction():
    assert [c.p_holm for c in with_holm([PairedDifference(None, None), PairedDifference(0.1, 0.03)])] == [None, 0.03]


def test_the_noise_is_found_beside_what_functions_and_seeds_have_in_common():
    chance = rng()
    functions, seeds = chance.normal(0, 5, (400, 1)), chance.normal(0, 3, (1, 6))
    scores = functions + seeds + chance.normal(0, 0.5, (400, 6))
    assert noise_variance(scores) == pytest.approx(0.25, rel=0.1)
    scores[3, 2] = NAN
    assert noise_variance(scores) == pytest.approx(0.25, rel=0.1)
    assert noise_variance(scores[:1]) is None
    assert noise_variance(scores[:, :1]) is None


@pytest.mark.parametrize(("worth", "noise"), [(1.0, 1.0), (1.0, 0.5), (0.3, 1.0)])
@pytest.mark.parametrize("n_lost", [0, 30])
def test_winners_lose_as_much_as_is_expected_of_them(worth, noise, n_lost):
    """The ten best of 300, whose true worth is known; `n_lost` of them hardly train, or not at all."""
    chance, expected, lost = rng(), [], []
    for _ in range(60):
        truth = chance.normal(0, worth, 300)
        truth[:n_lost] -= 50
        scores = truth + chance.normal(0, noise, 300)
        scores[: n_lost // 2] = NAN
        model = shrinkage_model(scores, noise**2)
        for i in np.argsort(np.nan_to_num(scores, nan=-np.inf))[-10:]:
            expected.append(model.expected(scores[i]))
            lost.append(scores[i] - truth[i])
    assert np.mean(lost) > 0.3 * noise**2, "the best of many are lucky"
    assert np.mean(expected) == pytest.approx(np.mean(lost), rel=0.15)


def test_without_noise_nothing_is_expected_to_be_lost_and_with_noise_alone_everything():
    scores = rng().normal(0, 1, 101)
    assert shrinkage_model(scores, 0.0).expected(3.0) == 0
    assert shrinkage_model(scores, 100.0).expected(3.0) == pytest.approx(3.0 - np.median(scores))
    assert shrinkage_model(np.full(5, 0.5), 0.1).expected(0.5) == 0
    assert shrinkage_model(np.array([NAN, NAN, 0.5]), 0.1) is None
    assert shrinkage_model(np.array([]), 0.1) is None


def test_what_was_lost_is_the_selected_score_less_the_mean_of_other_seeds():
    found = shrinkage(0.9, seed_mean(np.array([0.8, 0.7])), None)
    assert (found.observed, found.expected) == (pytest.approx(0.15), None)
    assert shrinkage(0.9, seed_mean(np.array([0.8, NAN])), None).observed is None
    assert shrinkage(None, seed_mean(np.array([0.8])), None).observed is None
