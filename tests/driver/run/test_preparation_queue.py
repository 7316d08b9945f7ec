"""Spectra are given out in batches, and failures are narrowed down to the function or the worker that causes them."""

from __future__ import annotations

import pytest

from aquasurf_ray.driver.run.preparation_queue import CandidateQueue
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.store import FunctionRecord, SpectrumRecord


@pytest.fixture
def history():
    return History([FunctionRecord(i, f"f{i}", f"function-{i}", 1) for i in range(6)])


def spectra_of(history):
    return CandidateQueue(lambda: history.without_spectrum(6), history.spectra_failed, max_attempts=2)


@pytest.fixture
def queue(history):
    made = spectra_of(history)
    made.done([history.candidates[0]], 0.01)
    history.spectra[0] = SpectrumRecord(0, "sampled", 0, "diverged")
    return made


def ids(functions):
    return [function.id for function in functions]


def test_no_function_is_given_out_twice(queue):
    first = queue.next_batch(1, {2}, n_workers=2)
    second = queue.next_batch(2, {1}, n_workers=2)
    assert ids(first) == [1, 2, 3]
    assert ids(second) == [4]
    assert ids(queue.next_batch(1, {2}, n_workers=2)) == [5]
    assert queue.next_batch(1, {2}, n_workers=2) == []


def test_a_failed_batch_is_done_one_by_one_without_blame(queue):
    batch = queue.next_batch(1, set(), n_workers=1)
    assert queue.failed(batch, slot=1) == []
    assert [ids(queue.next_batch(1, set(), n_workers=1)) for _ in batch] == [[1], [2], [3], [4], [5]]


def test_a_function_that_fails_alone_too_often_goes_without(queue, history):
    queue.failed(queue.next_batch(1, set(), n_workers=1)[:1], slot=1)
    (again,) = queue.next_batch(1, set(), n_workers=1)
    assert ids(queue.failed([again], slot=1)) == [1]
    assert history.spectra_failed == {1}
    assert 1 not in ids(history.without_spectrum(6))


def test_a_function_is_tried_again_on_another_worker_where_there_is_one(queue):
    queue.failed(queue.next_batch(1, {2}, n_workers=5)[:1], slot=1)
    assert ids(queue.next_batch(1, {2}, n_workers=5)) != [1]
    assert ids(queue.next_batch(2, {1}, n_workers=5)) == [1]


def test_the_time_limit_follows_what_spectra_take(history):
    queue = spectra_of(history)
    assert queue.limit(1) == 3600
    queue.done(history.candidates[:2], 20.0)
    assert queue.limit(4) == 1200
