"""Student's t distribution, against SciPy and a closed form."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aquasurf_ray.analysis.studies.student_t import critical_value, two_sided_p


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 29, 100, 1000, 10_000])
@pytest.mark.parametrize("t", [1e-3, 0.1, 0.7, 1.0, 1.3, 2.0, 5.0, 50.0, 1e4])
def test_the_p_value_is_scipys_far_into_the_tail(t, freedom):
    expected = 2 * stats.t.sf(t, freedom)
    assert two_sided_p(t, freedom) == two_sided_p(-t, freedom) == pytest.approx(expected, rel=1e-10, abs=1e-300)


@given(st.floats(1e-9, 1e9))
def test_the_p_value_with_one_degree_of_freedom_is_that_of_cauchys_distribution(t):
    assert two_sided_p(t, 1) == pytest.approx(2 * math.atan(1 / t) / math.pi, rel=1e-12)


def test_no_distance_is_certain_and_an_infinite_one_impossible():
    assert (two_sided_p(0.0, 3), two_sided_p(3e-162, 5), two_sided_p(1e-161, 100)) == (1.0, 1.0, 1.0)
    assert (two_sided_p(1e200, 3), two_sided_p(-math.inf, 3)) == (0.0, 0.0)


@pytest.mark.parametrize("freedom", [1, 2, 3, 9, 19, 500])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_the_critical_value_is_scipys(level, freedom):
    assert critical_value(level, freedom) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-9)
