"""A stop is requested of the driver that has the run, and of no other. Without a driver that answers."""

from __future__ import annotations

import os
import platform
import threading
import time
from dataclasses import replace

import pytest
from run_context import add_functions

from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.verbs import stop
from aquasurf_ray.driver.verbs.stop import request_stop
from aquasurf_ray.store import NewRun, RunNotFound, Store, this_process

ME = f"the driver {platform.node()} pid {os.getpid()}"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(stop, "STATUS_POLL_SECONDS", 0.02)


@pytest.fixture
def store(here):
    with Store.open(here) as opened:
        yield opened


def run_of(store, budget=1):
    ids = add_functions(store, 1)
    task = store.add_task("t", "1", "d", {})
    return store.create_run(NewRun("one", "search", task, {}, "one", 0, budget, None, "0"), ids)


def held(store, owner=None, **more):
    run = run_of(store, **more)
    return run, store.acquire_lease(run.id, owner or this_process(), lease_seconds=60)


def dead_process():
    """A process of this machine that has ended."""
    return replace(this_process(), pid=2**22 - 1, started=1)


def test_the_driver_that_has_the_run_is_asked(here, store):
    _, lease = held(store)
    answer = request_stop("one", store=here)
    assert (answer.state, answer.text) == ("asked", f"run 'one' stops within a minute: {ME} was asked to")
    assert store.stop_request(lease).asked_by.pid == os.getpid()
    assert store.run("one").status == "running"


def test_the_next_driver_does_not_inherit_the_request(here, store):
    run, lease = held(store)
    request_stop("one", store=here)
    store.release_lease(lease, "interrupted")
    assert store.stop_request(store.acquire_lease(run.id, this_process(), lease_seconds=60)) is None


@pytest.mark.parametrize(
    ("status", "state", "text"),
    [
        ("finished", "finished", "run 'one' is finished already"),
        ("interrupted", "not-running", "run 'one' is not running, it is interrupted"),
    ],
)
def test_a_run_without_a_driver_is_left_as_it_is(here, store, status, state, text):
    _, lease = held(store)
    store.release_lease(lease, status)
    answer = request_stop("one", store=here, wait=True)
    assert (answer.state, answer.text) == (state, text)


def test_a_driver_that_has_died_is_not_waited_for(here, store):
    held(store, dead_process())
    answer = request_stop("one", store=here, wait=True)
    assert (answer.state, answer.text.endswith("has died")) == ("dead", True)


def test_a_driver_without_a_heartbeat_for_the_time_of_its_lease_is_silent(here, store):
    run = run_of(store)
    store.acquire_lease(run.id, replace(this_process(), host="elsewhere"), lease_seconds=0.05)
    time.sleep(0.2)
    answer = request_stop("one", store=here, wait=True)
    assert answer.state == "silent"
    assert "has given no sign of life for 0 s" in answer.text


def test_waiting_ends_when_the_driver_has_stopped(here, store):
    _, lease = held(store)

    def drive():
        with Store.open(here) as mine:
            while mine.stop_request(lease) is None:
                time.sleep(0.02)
            mine.release_lease(lease, "interrupted", "stopped by 'aquasurf stop'")

    driver = threading.Thread(target=drive)
    driver.start()
    answer = request_stop("one", store=here, wait=True)
    driver.join()
    expected = "run 'one' has stopped, interrupted: stopped by 'aquasurf stop'"
    assert (answer.state, answer.text) == ("stopped", expected)


def test_a_run_of_ray_tune_is_stopped_with_its_tuner(here, store):
    held(store, budget=None)
    with pytest.raises(BadUse, match="run 'one' belongs to Ray Tune: stop the process of its Tuner"):
        request_stop("one", store=here)


def test_a_run_that_is_not_there_is_named(here, store):
    run_of(store)
    with pytest.raises(RunNotFound, match="'two'"):
        request_stop("two", store=here)
