"""What to do next, decided by counts alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aquasurf_ray.driver.run.preparation_queue import batch_size
from aquasurf_ray.driver.suggestions.prefixes import prefix_length


@given(st.integers(1, 6000), st.integers(0, 500))
def test_the_prefix_grows_to_all_candidates_and_never_shrinks(n_candidates, suggestion):
    now, later = prefix_length(suggestion, n_candidates), prefix_length(suggestion + 1, n_candidates)
    assert 1 <= now <= later <= n_candidates
    assert prefix_length(16, n_candidates) == min(n_candidates, 1024)
    assert prefix_length(40, n_candidates) == n_candidates, "all candidates are in after forty suggestions"


@given(st.integers(32, 6000))
def test_the_first_suggestions_do_not_wait_for_all_spectra(n_candidates):
    assert prefix_length(0, n_candidates) <= max(32, min(256, -(-n_candidates // 4)))


@given(st.floats(1e-6, 1e4), st.integers(1, 6000), st.integers(1, 1000))
def test_a_batch_of_spectra_is_about_a_second_and_leaves_work_for_others(seconds, n_open, n_workers):
    n = batch_size(seconds, n_open, n_workers)
    assert 1 <= n <= 64
    assert n == 1 or n * seconds <= 1.0 or seconds < 1e-3
    assert n <= -(-n_open // n_workers)


def test_the_first_batch_is_one_function_since_its_cost_is_unknown():
    assert batch_size(None, 1000, 2) == 1
