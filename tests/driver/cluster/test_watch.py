"""Ray's own processes are watched: silence is noticed in time, what never answered is not missed."""

from __future__ import annotations

import socket

import pytest

from aquasurf_ray.driver.cluster.watch import RayWatch
from aquasurf_ray.driver.errors import RunFailed


@pytest.fixture
def now():
    return [100.0]


def watch(now, **addresses):
    return RayWatch("aquasurf resume one", watched=addresses, patience=25.0, clock=lambda: now[0])


def look_for(watched, now, *, seconds):
    for _ in range(round(seconds / 2)):
        now[0] += 2.0
        watched.poll()


def test_one_that_falls_silent_is_named_after_the_patience(now):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        watched = watch(now, head=address)
        watched.poll()
    look_for(watched, now, seconds=24.0)
    watched.check()
    look_for(watched, now, seconds=2.0)
    said = f"head at {address} is gone: no answer for 26 s; once Ray runs again: aquasurf resume one"
    with pytest.raises(RunFailed) as caught:
        watched.check()
    assert str(caught.value) == said


def test_the_time_in_which_the_driver_was_suspended_does_not_count(now):
    with socket.create_server(("127.0.0.1", 0)) as server:
        watched = watch(now, head=f"127.0.0.1:{server.getsockname()[1]}")
        watched.poll()
        now[0] += 1000.0
        watched.check()  # woken, and nothing was asked yet
    now[0] += 1000.0
    watched.poll()  # suspended again, and Ray was slow to answer
    watched.check()


def test_one_that_comes_back_in_time_was_never_missed(now):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        watched = watch(now, head=f"127.0.0.1:{port}")
        watched.poll()
    look_for(watched, now, seconds=20.0)
    with socket.create_server(("127.0.0.1", port)):
        watched.poll()
    look_for(watched, now, seconds=20.0)
    watched.check()


def test_what_never_answered_is_not_watched(now):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        watched = watch(now, head=f"127.0.0.1:{taken.getsockname()[1]}")
        look_for(watched, now, seconds=1000.0)
        watched.check()
